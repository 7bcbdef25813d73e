"""Capture metadata of a photo, from EXIF, the maker note, XMP and the file's name."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from PIL import Image

from jaxrank.culling.maker_notes import FAR, Drive, MakerNote, read_maker_note
from jaxrank.extraction.bursts import parse_time

_EXIF_IFD = 0x8769
_MAKER, _MODEL, _DATE = 0x010F, 0x0110, 0x0132
_TAKEN, _SUBSECOND, _OFFSET, _SERIAL = 0x9003, 0x9291, 0x9011, 0xA431
_BIAS, _SECONDS, _F_NUMBER, _ISO = 0x9204, 0x829A, 0x829D, 0x8827
_FOCUS_DISTANCE, _EXPOSURE_MODE, _MAKER_NOTE = 0x9206, 0xA402, 0x927C
_MANUAL, _AUTO_BRACKET = 1, 2
# Bytes at the start of a RAW file that contain its EXIF block.
RAW_HEAD = 1 << 20
_LONGEST_TEXT = 100
_EPOCH = datetime(1970, 1, 1)
# GCamera:BurstID, as an attribute or an element.
_XMP_BURST = re.compile(rb"GCamera:BurstI[Dd](?:=\"|>)([\w.-]{1,100})[\"<]")
# Names of bursts on phones: 00001IMG_00001_BURST20171111030039.jpg and
# DSC_0001_BURST20230709220904977.JPG (Nexus, Xperia, Nothing),
# IMG_20231014_183246_BURST001.jpg (Huawei),
# PXL_20250417_131910377.BURST-01.jpg (Pixel), 20231207_101605_001.jpg (Samsung).
_NAMED_BURSTS = tuple(
    map(
        re.compile,
        (
            r"\w*_(BURST\d{10,})",
            r"(\w+)_BURST\d{3}(?!\d)",
            r"(\w+)\.BURST-\d\d",
            r"(\d{8}_\d{6})_\d{3}$",
        ),
    )
)


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Capture metadata in a photo's file; None or empty where missing.

    Attributes:
      time: capture time in seconds since 1970, by the camera's clock; in UTC if `has_offset`.
      has_offset: whether the camera's offset from UTC is known.
      camera: maker, model and serial number of the camera.
      burst_id: identifier that all photos of one burst share.
      drive: drive mode of the camera.
      manual: whether the photographer chose the exposure.
      exposure_bias: exposure bias in EV.
      exposure_seconds: exposure time in seconds.
      f_number: f-number of the aperture.
      iso: ISO sensitivity.
      focus_distance: focus distance in metres, at most FAR.
    """

    time: float | None = None
    has_offset: bool = False
    camera: str = ""
    burst_id: str = ""
    drive: Drive = ""
    manual: bool = False
    exposure_bias: float | None = None
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: float | None = None
    focus_distance: float | None = None


def read_capture(image: Image.Image, name: str, raw_head: bytes = b"") -> Capture:
    """Reads a photo's capture metadata; damaged and absurd values count as missing.

    Args:
      image: opened image; its pixels need not be loaded.
      name: name of the photo's file, with `/` between folders.
      raw_head: first `RAW_HEAD` bytes of the RAW file whose preview is `image`.
    """
    tags, note = _read_tags(image)
    if raw_head:
        raw_tags, raw_note = _read_raw_tags(raw_head)
        tags, note = tags | raw_tags, raw_note if any(raw_note) else note
    time = _time(tags)
    offset = _offset(_text(tags.get(_OFFSET)))
    serial = _text(tags.get(_SERIAL))
    drive = note.drive
    if tags.get(_EXPOSURE_MODE) == _AUTO_BRACKET:
        drive = "exposure bracket"
    # Phones write zero for an unknown distance.
    distance = note.focus_distance or _number(tags.get(_FOCUS_DISTANCE))
    return Capture(
        time=time if time is None or offset is None else time - offset,
        has_offset=offset is not None,
        camera=" ".join(filter(None, (_text(tags.get(_MAKER)), _text(tags.get(_MODEL)), serial))),
        burst_id=note.burst_id or _xmp_burst(image) or _named_burst(name),
        drive=drive,
        manual=tags.get(_EXPOSURE_MODE) == _MANUAL,
        exposure_bias=_number(tags.get(_BIAS), -20, 20),
        exposure_seconds=_number(tags.get(_SECONDS), 1e-7),
        f_number=_number(tags.get(_F_NUMBER), 0.1),
        iso=_number(tags.get(_ISO), 1),
        focus_distance=min(distance, FAR) if distance else None,
    )


def _read_tags(image: Image.Image) -> tuple[dict[int, object], MakerNote]:
    """Tags of both EXIF directories, and the maker note."""
    try:
        exif = image.getexif()
        tags = {**exif, **exif.get_ifd(_EXIF_IFD)}
        block = image.info.get("exif", b"")
    except Exception:  # Pillow's EXIF parser raises many kinds of error for damaged bytes
        return {}, MakerNote()
    # Pillow returns no EXIF block for TIFF files. Their maker notes, whose offsets count from the
    # file's start, are skipped.
    tiff = block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else b""
    return tags, _read_note(tiff, tags)


def _read_note(tiff: bytes, tags: dict[int, object]) -> MakerNote:
    note = tags.get(_MAKER_NOTE)
    if not isinstance(note, bytes) or not note:
        return MakerNote()
    start = tiff.find(note)
    return read_maker_note(tiff, start, _text(tags.get(_MAKER))) if start >= 0 else MakerNote()


def _read_raw_tags(head: bytes) -> tuple[dict[int, object], MakerNote]:
    """Tags and maker note in the first bytes of a RAW file.

    The preview may lack them: if it has no EXIF, LibRaw adds a short block without exposure bias.
    """
    if head[:2] in (b"II", b"MM"):  # TIFF, though some makers use another magic number
        return _read_tiff((b"II*\0" if head[:2] == b"II" else b"MM\0*") + head[4:])
    if head.startswith(b"FUJIFILMCCD-RAW"):  # begins with a JPEG file
        return _read_tiff(head[head.find(b"Exif\0\0") + 6 :])
    return _read_cr3(head)


def _read_tiff(tiff: bytes) -> tuple[dict[int, object], MakerNote]:
    tags = _read_block(tiff)
    return tags, _read_note(tiff, tags)


def _read_cr3(head: bytes) -> tuple[dict[int, object], MakerNote]:
    """Tags and maker note of a CR3 file, from its boxes CMT1 to CMT3.

    The boxes are TIFF blocks: camera, exposure and maker note (Canon.pm of ExifTool).
    """
    tags = _read_block(_box(head, b"CMT1")) | _read_block(_box(head, b"CMT2"))
    return tags, read_maker_note(_box(head, b"CMT3"), 8, _text(tags.get(_MAKER)))


def _box(head: bytes, name: bytes) -> bytes:
    """Content of a box; the 4 bytes before its name are its size (ISO 14496-12)."""
    start = head.find(name)
    return (
        head[start + 4 : start - 4 + int.from_bytes(head[start - 4 : start])] if start >= 4 else b""
    )


def _read_block(tiff: bytes) -> dict[int, object]:
    exif = Image.Exif()
    try:
        exif.load(b"Exif\0\0" + tiff)
        return {**exif, **exif.get_ifd(_EXIF_IFD)}
    except Exception:  # Pillow's EXIF parser raises many kinds of error for damaged bytes
        return {}


def _time(tags: dict[int, object]) -> float | None:
    """Capture time in seconds since 1970, by the camera's clock."""
    text = _text(tags.get(_TAKEN)) or _text(tags.get(_DATE))
    fraction = _text(tags.get(_SUBSECOND))
    time = parse_time(f"{text.partition('.')[0]}.{fraction}")
    return None if time is None else (time - _EPOCH).total_seconds()


def _offset(text: str) -> float | None:
    """Offset from UTC in seconds, of a text such as `+02:00`; None for any other text."""
    found = re.fullmatch(r"([+-])(\d\d):([0-5]\d)", text)
    if found is None or int(found[2]) > 14:
        return None
    return (-1 if found[1] == "-" else 1) * (3600.0 * int(found[2]) + 60.0 * int(found[3]))


def _text(value: object) -> str:
    """EXIF text in printable ASCII, at most _LONGEST_TEXT characters; empty for other types."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        return ""
    return "".join(letter for letter in value if " " <= letter <= "~").strip()[:_LONGEST_TEXT]


def _number(value: object, least: float = 0.0, most: float = math.inf) -> float | None:
    """The number, or the first of several; None outside the limits or for other types."""
    if isinstance(value, tuple) and value:
        value = value[0]
    try:
        number = float(value)  # type: ignore[arg-type]  # anything else raises
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) and least <= number <= most else None


def _xmp_burst(image: Image.Image) -> str:
    found = image.info.get("xmp", b"")
    match = _XMP_BURST.search(found) if isinstance(found, bytes) else None
    return match[1].decode() if match else ""


def _named_burst(name: str) -> str:
    stem = PurePosixPath(name).stem
    matches = (pattern.match(stem) for pattern in _NAMED_BURSTS)
    return next((match[1] for match in matches if match), "")
