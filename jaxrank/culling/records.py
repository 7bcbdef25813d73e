"""Records of a folder's photos for grouping: read once, then cached in a file."""

import base64
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, get_args

from jaxrank.culling.capture import RAW_HEAD, Capture, read_capture
from jaxrank.culling.maker_notes import Drive
from jaxrank.culling.thumbnails import SIDE, Thumbnail, make_thumbnail
from jaxrank.errors import UserError
from jaxrank.extraction import workers
from jaxrank.extraction.decoding import SUFFIXES, UnreadablePhoto, decode, read_image
from jaxrank.extraction.photos import Photo, files_below, read_photo, table_names
from jaxrank.extraction.raw_previews import RAW_SUFFIXES
from jaxrank.io import atomic, documents

# Formats whose files of one stem are one photo, in the order of preference for reading. Files of
# other formats are photos of their own.
_KINDS = ((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), (".heic", ".heif", ".hif", ".avif"),
          tuple(RAW_SUFFIXES))  # fmt: skip
# Version of the cache file; a change of how photos are read needs another number.
_VERSION = 1
# The cache file is written after this many new photos, or a tenth of all if that is more. A kill
# then costs few reads, and all writes together are some ten times the file.
_STEP = 200


@dataclass(frozen=True, kw_only=True)
class PhotoRecord:
    """Record of a photo, which may be several files.

    Attributes:
      name: name of the file that is read, with `/` between folders.
      files: names of all files of the photo, `name` first.
      size: size of the file that is read, in bytes.
      modified: modification time of the file that is read, in nanoseconds since 1970.
      capture: capture metadata of the photo.
      thumbnail: small grey image of the photo.
    """

    name: str
    files: tuple[str, ...]
    size: int
    modified: int
    capture: Capture
    thumbnail: Thumbnail


class Records(NamedTuple):
    """Records of a folder's photos.

    Attributes:
      records: records in the order of the photos' names.
      unread: reason why each other photo can't be used, by name.
      num_new: number of photos that this run read, usable or not.
    """

    records: list[PhotoRecord]
    unread: dict[str, str]
    num_new: int


class PhotoFiles(NamedTuple):
    """File of a photo that is read, and names of the photo's other files."""

    photo: Photo
    others: tuple[str, ...]


class _CaptureAndThumbnail(NamedTuple):
    capture: Capture
    thumbnail: Thumbnail


def list_photos(folder: Path) -> list[PhotoFiles]:
    """Lists the photos of a folder and its sub-folders, sorted by name.

    RAW, HEIC and JPEG files with one stem are one photo. The JPEG is read, or the HEIC if there is
    no JPEG.

    Raises:
      UserError: the folder does not exist, or has no photo.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    of_stem: dict[str, list[Photo]] = {}
    for path in files_below(folder):
        if path.suffix.lower() in (*SUFFIXES, *RAW_SUFFIXES):
            photo = Photo(path.relative_to(folder).as_posix(), path)
            stem = PurePosixPath(photo.name).with_suffix("").as_posix().casefold()
            of_stem.setdefault(stem, []).append(photo)
    photos = [one for files in of_stem.values() for one in _photos_of_stem(sorted(files))]
    if not photos:
        raise UserError(f"{folder}: no photo there ({', '.join(SUFFIXES[:3])}, ...)")
    return sorted(photos)


def _photos_of_stem(files: list[Photo]) -> Iterator[PhotoFiles]:
    kinds = [[f for f in files if f.path.suffix.lower() in kind] for kind in _KINDS]
    joined = [file for kind in kinds for file in kind]
    # Two JPEGs of one stem, such as a.jpg and a.jpeg, are two photos.
    alone = [file for file in files if file not in joined] + kinds[0][1:]
    if joined:
        others = (file.name for file in joined[1:] if file not in alone)
        yield PhotoFiles(joined[0], tuple(others))
    yield from (PhotoFiles(file, ()) for file in alone)


def read_records(
    folder: Path, cache: Path | None = None, *, num_workers: int | None = None
) -> Records:
    """Reads the photos of a folder, except photos cached under the same name, size and time.

    Args:
      folder: folder of the photos.
      cache: file that caches records; a damaged one is ignored. It is also written during the
        run, and when the run is interrupted.
      num_workers: number of processes that decode; by default one per core, or fewer if memory is
        short.

    Raises:
      UserError: there is no photo, or the cache can't be written.
    """
    photos = list_photos(folder)
    names = table_names([photo for photo, _ in photos])
    known = _read_cache(cache) if cache else {}
    records: dict[str, PhotoRecord] = {}
    unread: dict[str, str] = {}
    new: list[tuple[PhotoFiles, str, int, int]] = []
    for files, name in zip(photos, names, strict=True):
        try:
            status = os.stat(files.photo.path)
        except OSError as error:
            unread[name] = f"can't be read ({error.strerror or error})"
            continue
        found = known.get((files.photo.name, status.st_size, status.st_mtime_ns))
        if found is None:
            new.append((files, name, status.st_size, status.st_mtime_ns))
        else:
            records[name] = _record(files, status.st_size, status.st_mtime_ns, found)
    num_saved = len(records)
    try:
        results = workers.work_on_all(
            [files.photo for files, *_ in new],
            partial(read_capture_and_thumbnail, root=folder),
            num_workers or workers.default_workers(),
        )
        for (files, name, size, modified), result in zip(new, results, strict=True):
            if isinstance(result, UnreadablePhoto):
                unread[name] = str(result)
                continue
            records[name] = _record(files, size, modified, result)
            if cache is not None and len(records) - num_saved >= max(_STEP, len(records) // 10):
                _write_cache(cache, list(records.values()))
                num_saved = len(records)
    finally:  # keeps the records that were read, also after Ctrl-C
        if cache is not None and new:
            _write_cache(cache, list(records.values()))
    return Records([records[name] for name in sorted(records)], unread, len(new))


def _record(
    files: PhotoFiles, size: int, modified: int, result: _CaptureAndThumbnail
) -> PhotoRecord:
    return PhotoRecord(
        name=files.photo.name,
        files=(files.photo.name, *files.others),
        size=size,
        modified=modified,
        capture=result.capture,
        thumbnail=result.thumbnail,
    )


def read_capture_and_thumbnail(photo: Photo, root: Path) -> _CaptureAndThumbnail | UnreadablePhoto:
    """Reads a photo's capture metadata and thumbnail; UnreadablePhoto is returned, not raised."""
    try:
        data = read_photo(photo, root)
        raw_head = b""
        if photo.path.suffix.lower() in RAW_SUFFIXES:
            with suppress(OSError), photo.path.open("rb") as file:
                raw_head = file.read(RAW_HEAD)
        image, _ = decode(data, SIDE)
        read = partial(read_capture, name=photo.name, raw_head=raw_head)
        return _CaptureAndThumbnail(read_image(read, data), make_thumbnail(image))
    except UnreadablePhoto as error:
        return error
    except MemoryError:
        return UnreadablePhoto("too large for this machine's memory")


def _write_cache(path: Path, records: list[PhotoRecord]) -> None:
    photos = [
        {
            "name": record.name,
            "size": record.size,
            "modified": record.modified,
            "capture": asdict(record.capture),
            "width": record.thumbnail.width,
            "height": record.thumbnail.height,
            "pixels": base64.b64encode(record.thumbnail.pixels).decode(),
        }
        for record in records
    ]
    with atomic.written_to(path.parent):
        documents.write_json(path, {"version": _VERSION, "photos": photos})


def _read_cache(path: Path) -> dict[tuple[str, int, int], _CaptureAndThumbnail]:
    """Reads the cache, by name, size and modification time; skips damaged entries."""
    try:
        found = documents.read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        return {}
    known = {}
    photos = found.get("photos")
    for entry in photos if isinstance(photos, list) else ():
        with suppress(KeyError, TypeError, ValueError):
            key = (_typed(entry["name"], str), _typed(entry["size"], int), entry["modified"])
            known[key] = _CaptureAndThumbnail(_capture(entry["capture"]), _thumbnail(entry))
    return known


def _capture(found: dict[str, Any]) -> Capture:
    """Builds a `Capture` from JSON; raises TypeError or ValueError for invalid fields."""
    capture = Capture(**found)
    for field in fields(Capture):
        value, default = found[field.name], field.default
        if default is not None:
            _typed(value, type(default))
        elif value is not None and not math.isfinite(_typed(value, float)):
            raise ValueError
    if capture.drive not in get_args(Drive):
        raise ValueError
    return capture


def _thumbnail(entry: dict[str, Any]) -> Thumbnail:
    width, height = _typed(entry["width"], int), _typed(entry["height"], int)
    pixels = base64.b64decode(_typed(entry["pixels"], str), validate=True)
    if max(width, height) != SIDE or min(width, height) < 1 or len(pixels) != width * height:
        raise ValueError
    return Thumbnail(width, height, pixels)


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value
