"""Which photos there are."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxrank.errors import UserError
from jaxrank.extract.decoding import SUFFIXES
from jaxrank.extract.photos import Photo, shown
from jaxrank.io import tables


class Listing(NamedTuple):
    """What a folder or table holds.

    Attributes:
      root: the folder out of which no path leads.
      photos: in the order of their names, or of the table's rows.
      notes: what was left out.
    """

    root: Path
    photos: list[Photo]
    notes: list[str]


def list_folder(folder: Path | str) -> Listing:
    """All photos in a folder and its sub-folders, known by the ends of their names.

    Hidden files and folders, and links to folders, are left out.

    Raises:
      UserError: there is no such folder, or no photo in it.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise UserError(f"--photos={folder}: there is no such folder")
    photos, others = [], []
    for path in _files_below(folder):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in SUFFIXES:
            photos.append(Photo(name, path))
        else:
            others.append(name)
    if not photos:
        raise UserError(
            f"--photos={folder}: no photo there ({', '.join(SUFFIXES[:3])}, ...), but "
            f"{len(others):,} other files"
        )
    notes = []
    if others:
        notes.append(
            f"{len(others):,} files are no photos by their names, such as '{shown(others[0])}'"
        )
    return Listing(folder, sorted(photos), notes)


def _files_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: can't be read ({error.strerror})") from None

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def list_table(path: Path | str) -> Listing:
    """The photos of a table: the column `image` has their names, and `path`, where there is one,
    their files; both are relative to the table's folder, and may not lead out of it."""
    path = Path(path)
    table = tables.read_table(path)
    if "image" not in table.columns:
        need = "a table of photos has image and, where names are not paths, path"
        raise tables.missing_column(path, "image", need, table.columns)
    names = table.distinct_photos("image")
    files = table.texts("path") if "path" in table.columns else names
    photos = []
    for row, (name, file) in enumerate(zip(names, files, strict=True)):
        parts = PurePosixPath(file)
        if parts.is_absolute() or ".." in parts.parts:
            raise UserError(
                f"{table.where(row)}: '{file}' leads out of the folder of {path.name}; paths are "
                "relative to it"
            )
        photos.append(Photo(name, path.parent / file))
    return Listing(path.parent, photos, [])
