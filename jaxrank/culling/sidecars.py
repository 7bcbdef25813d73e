"""XMP sidecars: files beside photos in which programs keep ratings, labels and edits.

Two names are in use: `IMG_1.xmp` (Adobe, Capture One) and `IMG_1.CR3.xmp` (darktable, digiKam).
All photos of one stem, such as a RAW file and its JPEG, share the first name.
"""

import os
import stat
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from jaxrank.culling import xmp
from jaxrank.culling.xmp import BadXmp, Marks
from jaxrank.extraction.raw_previews import RAW_SUFFIXES
from jaxrank.io import atomic, reading

SUFFIX = ".xmp"


class Sidecars(NamedTuple):
    """Sidecars of photos.

    Attributes:
      path_of: sidecar of each photo; no two photos share a sidecar.
      notes: notes on photos without a sidecar.
    """

    path_of: dict[Path, Path]
    notes: list[str]


class Written(NamedTuple):
    """Result of writing a sidecar.

    Attributes:
      path: path of the sidecar.
      outcome: outcome of the writing; `left` if the sidecar can't be read or changed safely.
      reason: reason for `left`, else empty.
    """

    path: Path
    outcome: Literal["new", "merged", "unchanged", "left"]
    reason: str = ""


def sidecar_paths(photos: Iterable[Path], *, full: bool) -> Sidecars:
    """Assigns sidecars to photos.

    Args:
      photos: paths of the photos.
      full: whether a sidecar is named `IMG_1.CR3.xmp` rather than `IMG_1.xmp`. If photos of one
        stem collide, the RAW file gets the sidecar, else the photo of the first name.
    """
    owners: dict[str, Path] = {}
    photos = sorted(photos, key=lambda photo: (not is_raw(photo), photo))
    for photo in photos:
        path = _full_name(photo) if full else photo.with_suffix(SUFFIX)
        owners.setdefault(str(path).lower(), photo)  # one file on case-insensitive file systems
    path_of = {
        photo: _full_name(photo) if full else photo.with_suffix(SUFFIX) for photo in owners.values()
    }
    without = [photo for photo in photos if photo not in path_of]
    if not without:
        return Sidecars(path_of, [])
    number = f"{len(without):,} photos have" if len(without) > 1 else "1 photo has"
    owner = owners[str(without[0].with_suffix(SUFFIX)).lower()]
    note = (
        f"{number} no sidecar of its own, such as {without[0].name}: {owner.stem}{SUFFIX} is that "
        f"of {owner.name}"
    )
    return Sidecars(path_of, [note])


def _full_name(photo: Path) -> Path:
    return photo.with_name(photo.name + SUFFIX)


def is_raw(photo: Path) -> bool:
    return photo.suffix.lower() in RAW_SUFFIXES


def read_marks(path: Path) -> Marks:
    """Reads the marks in a sidecar, or in the XMP of a photo's file.

    Raises:
      BadXmp: the file or its XMP can't be read. A photo without XMP has no marks and is no error.
    """
    try:
        if path.suffix.lower() == SUFFIX:
            return xmp.read_packet(_read(path))
        reading.check_file(path)
        with path.open("rb") as file:
            return xmp.read_embedded(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise BadXmp(f"can't be read ({error.strerror or error})") from None


def write_marks(
    path: Path,
    *,
    rating: int = 0,
    label: str = "",
    rejects: bool = False,
    now: datetime | None = None,
) -> Written:
    """Adds a rating and a label to a sidecar, or creates the sidecar.

    An existing rating other than 0 and an existing label are a person's and stay, unless `cull`
    wrote them: these are replaced, also by the rating 0 and an empty label. Only `xmp:Rating`,
    `xmp:Label` and `xmp:MetadataDate` change; a second call changes no byte. The file is replaced
    atomically, after it was copied to NAME.bak if there is no copy yet. A sidecar that can't be
    read is left as it is, and so is a link.

    Args:
      path: path of the sidecar.
      rating: rating from 1 to 5, or -1 (only with `rejects`); 0 for none.
      label: text of the label; empty for none.
      rejects: whether the rating -1 is allowed.
      now: date of the change; by default the current time.

    Raises:
      OSError: the sidecar can't be written.
      ValueError: the rating is out of range.
    """
    if not (-1 if rejects else 0) <= rating <= 5:
        raise ValueError(f"rating={rating}: 0 to 5, and -1 only with rejects=True")
    date = (now or datetime.now().astimezone()).isoformat(timespec="seconds")
    path = _existing(path)
    try:
        atomic.refuse_link(path)
        before = _read(path) if os.path.lexists(path) else None
        after = xmp.with_marks(before, rating, label, date)
    except OSError as error:
        return Written(path, "left", f"can't be read ({error.strerror or error})")
    except BadXmp as error:
        return Written(path, "left", str(error))
    if after is None:
        return Written(path, "unchanged")
    mode = None if before is None else stat.S_IMODE(path.stat().st_mode)
    backup = path.with_name(path.name + ".bak")
    if before is not None and not os.path.lexists(backup):
        _replace(backup, before, mode)
    _replace(path, after, mode)
    return Written(path, "new" if before is None else "merged")


def _existing(path: Path) -> Path:
    """Path of the sidecar; with an upper-case suffix if only such a file exists."""
    upper = path.with_suffix(SUFFIX.upper())
    return upper if os.path.lexists(upper) and not os.path.lexists(path) else path


def _read(path: Path) -> bytes:
    reading.check_file(path)
    with path.open("rb") as file:
        return file.read(xmp.MOST_BYTES + 1)  # one byte more, so that a larger file is refused


def _replace(path: Path, data: bytes, mode: int | None) -> None:
    with atomic.atomic_file(path, "wb") as file:
        file.write(data)
        if mode is not None:
            os.chmod(file.name, mode)
