"""Drive mode, burst and focus distance in a camera's maker note.

A maker note is a directory of TIFF entries in a vendor's own numbering. Offsets in it count from
the EXIF block's TIFF header, or from the start of the note. Source of the tags: ExifTool 13.58
(Apple.pm, Canon.pm, Nikon.pm, Panasonic.pm, Sony.pm).
"""

import struct
from typing import Literal, NamedTuple

Drive = Literal["", "single", "continuous", "exposure bracket", "focus bracket"]

# Size of a value and its `struct` letter, by TIFF type; other types are not needed here.
_TYPES = {1: (1, "B"), 2: (1, "s"), 3: (2, "H"), 4: (4, "I"), 8: (2, "h"), 9: (4, "i")}
# Limits for damaged notes: more entries than any camera writes, and longer values than are needed.
_MOST_ENTRIES, _MOST_VALUES = 500, 1000
# Distance in metres that means infinity: Canon's largest one.
FAR = 655.35

_SONY_DRIVES: dict[int, Drive] = {0: "single", 2: "continuous", 5: "exposure bracket"}
_PANASONIC_DRIVES: dict[int, Drive] = {
    0: "single", 1: "continuous", 2: "exposure bracket", 3: "focus bracket", 4: "continuous",
}  # fmt: skip


class MakerNote(NamedTuple):
    """Contents of a maker note; empty or None where missing.

    Attributes:
      drive: drive mode of the camera.
      burst_id: identifier that all photos of one burst share.
      focus_distance: focus distance in metres, at most FAR.
    """

    drive: Drive = ""
    burst_id: str = ""
    focus_distance: float | None = None


def read_maker_note(tiff: bytes, start: int, maker: str) -> MakerNote:
    """Reads a maker note; unknown or damaged contents count as missing.

    Args:
      tiff: EXIF block from its TIFF header on.
      start: offset of the note in `tiff`.
      maker: name of the camera's maker in EXIF.
    """
    note = tiff[start:]
    order: Literal["<", ">"] = "<" if tiff[:2] == b"II" else ">"
    if note.startswith(b"Apple iOS\0"):
        return _apple(_read_entries(note, 14, ">"))
    if note.startswith(b"Nikon\0\x02"):
        # The note has its own TIFF header at byte 10, from which its offsets count.
        return _nikon(_read_entries(note[10:], 8, "<" if note[10:12] == b"II" else ">"))
    if note.startswith((b"SONY DSC \0\0\0", b"SONY CAM \0\0\0")):
        return MakerNote(
            _SONY_DRIVES.get(_first(_read_entries(tiff, start + 12, order), 0xB049), "")
        )
    if note.startswith(b"Panasonic\0\0\0"):
        mode = _first(_read_entries(tiff, start + 12, order), 0x2A)
        return MakerNote(_PANASONIC_DRIVES.get(mode, ""))
    if maker.startswith("Canon"):
        return _canon(_read_entries(tiff, start, order))
    return MakerNote()


def _apple(entries: dict[int, tuple]) -> MakerNote:
    value = entries.get(0x0B, (b"",))[0]
    text = value.decode("ascii", "replace").rstrip("\0") if isinstance(value, bytes) else ""
    return MakerNote(burst_id=text if text.isprintable() else "")


def _nikon(entries: dict[int, tuple]) -> MakerNote:
    """Reads ShootingMode (tag 0x89).

    Bit 0 is continuous release. Bit 4 is bracketing: of the exposure, unless bit 6 (white balance)
    or bit 8 (Active D-Lighting) is set, too.
    """
    mode = _first(entries, 0x89)
    if mode < 0:
        return MakerNote()
    if mode & 0x10 and not mode & 0x140:
        return MakerNote("exposure bracket")
    return MakerNote("continuous" if mode & 1 else "single")


def _canon(entries: dict[int, tuple]) -> MakerNote:
    """Reads CameraSettings (tag 1: drive), ShotInfo (tag 4: bracketing) and focus distances.

    Older cameras have the focus distances in ShotInfo, newer cameras in FileInfo (tag 0x93).
    """
    settings, shot, info = (entries.get(tag, ()) for tag in (1, 4, 0x93))
    drive: Drive = ""
    if len(settings) > 5:
        drive = "single" if settings[5] in (0, 6, 9) else "continuous"
    if len(shot) > 16 and shot[16] != 0:
        drive = "exposure bracket"
    for nearest in (shot[19:21], info[20:22]):
        if len(nearest) == 2 and nearest[0]:
            far, near = (centimetres & 0xFFFF for centimetres in nearest)
            return MakerNote(drive, "", FAR if far / 100 >= FAR else (far + near) / 200)
    return MakerNote(drive)


def _first(entries: dict[int, tuple], tag: int) -> int:
    """First number of an entry, or -1."""
    value = entries.get(tag, (-1,))[0]
    return value if isinstance(value, int) else -1


def _read_entries(data: bytes, start: int, order: Literal["<", ">"]) -> dict[int, tuple]:
    """Values of a TIFF directory by tag, without values outside the data; text is bytes."""
    entries: dict[int, tuple] = {}
    try:
        (count,) = struct.unpack_from(order + "H", data, start)
        for i in range(min(count, _MOST_ENTRIES)):
            place = start + 2 + 12 * i
            tag, kind, length = struct.unpack_from(order + "HHI", data, place)
            size, letter = _TYPES.get(kind, (0, ""))
            if not size or not 0 < length <= _MOST_VALUES:
                continue
            if size * length > 4:
                (place,) = struct.unpack_from(order + "I", data, place + 8)
            else:
                place += 8
            if place + size * length <= len(data):
                entries[tag] = struct.unpack_from(f"{order}{length}{letter}", data, place)
    except struct.error:  # the directory is truncated; entries before the cut are kept
        pass
    return entries
