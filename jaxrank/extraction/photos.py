"""Photo files: their names, their bytes, and the photos of a folder or table."""

import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxrank.errors import UserError
from jaxrank.extraction.decoding import SUFFIXES, UnreadablePhoto
from jaxrank.extraction.raw_previews import RAW_SUFFIXES, read_preview
from jaxrank.io import tables

# Larger files are refused, since a photo's file is read into memory as a whole.
_MOST_BYTES = 2 * 10**9
# Suffix of sidecars, which are files that describe photos.
_SIDECAR = ".xmp"


class Photo(NamedTuple):
    """Name of a photo in all tables, with `/` between folders, and path of its file."""

    name: str
    path: Path


def read_photo(photo: Photo, root: Path) -> bytes:
    """Reads the bytes of a photo's file; of a RAW file, the bytes of its preview.

    Raises:
      UnreadablePhoto: the photo is not a readable file below `root`, `check_name` refuses its name,
        or a RAW file has no readable preview.
    """
    check_name(photo.name)
    try:
        if not photo.path.resolve().is_relative_to(root.resolve()):
            raise UnreadablePhoto("a link that leads out of the folder")
        # Opening a named pipe would block, so the kind of file is checked first.
        status = os.stat(photo.path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadablePhoto("not a file")
        if status.st_size > _MOST_BYTES:
            raise UnreadablePhoto(f"more than {_MOST_BYTES // 10**9} GB")
        if photo.path.suffix.lower() in RAW_SUFFIXES:
            return read_preview(photo.path)
        return photo.path.read_bytes()
    except OSError as error:
        raise UnreadablePhoto(f"can't be read ({error.strerror or error})") from None
    except (RuntimeError, ValueError):  # circular links; a name with a zero byte
        raise UnreadablePhoto("can't be read (its path leads nowhere)") from None


def check_name(name: str) -> None:
    """Raises UnreadablePhoto for a name that would not read back unchanged from a table."""
    if not _reads_back(name):
        raise UnreadablePhoto(
            "its name has control characters, or blanks at an end, or begins with an apostrophe: "
            "rename it"
        )


def _reads_back(name: str) -> bool:
    return name == name.strip() and name.isprintable() and not name.startswith("'")


def table_names(photos: Sequence[Photo]) -> list[str]:
    """Unique names of photos for the tables of an extraction.

    A usable name stays as it is. A name that `read_photo` refuses is shown with escapes. It is also
    numbered if it would equal the name of another photo, which may be readable.
    """
    taken = {photo.name for photo in photos if _reads_back(photo.name)}
    names = []
    for photo in photos:
        name = photo.name
        if not _reads_back(name):
            name = _with_escaped_ends(shown(name))
            numbered = (f"{name} ({number})" for number in itertools.count(2))
            name = next(one for one in itertools.chain([name], numbered) if one not in taken)
            taken.add(name)
        names.append(name)
    return names


def _with_escaped_ends(name: str) -> str:
    """Escapes blanks at the ends of a name, which the cells of a table lose."""
    start = "\\x20" if name.startswith(" ") else name[:1]
    end = "\\x20" if name[1:].endswith(" ") else name[1:][-1:]
    return start + name[1:-1] + end


def shown(name: str) -> str:
    """Escapes a name, so that any file can hold it and any terminal can show it."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Listing(NamedTuple):
    """Photos of a folder or table.

    Attributes:
      root: folder that no photo's path may leave.
      photos: photos in the order of their names, or of the table's rows.
      notes: notes on files that were left out.
    """

    root: Path
    photos: list[Photo]
    notes: list[str]


def list_folder(folder: Path | str) -> Listing:
    """Lists all photos in a folder and its sub-folders, recognised by their suffixes.

    Hidden files and folders, and links to folders, are left out.

    Raises:
      UserError: the folder does not exist, or has no photo.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise UserError(f"--photos={folder}: there is no such folder")
    photos, others = [], []
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in SUFFIXES:
            photos.append(Photo(name, path))
        elif path.suffix.lower() != _SIDECAR:
            others.append(name)
    if not photos:
        raise UserError(
            f"--photos={folder}: no photo there ({', '.join(SUFFIXES[:3])}, ...), but "
            f"{len(others):,} other files"
        )
    notes = []
    if others:
        notes.append(
            f"files of other kinds, left out: {len(others):,}, such as '{shown(others[0])}'"
        )
    return Listing(folder, sorted(photos), notes)


def files_below(folder: Path) -> Iterator[Path]:
    """Yields all files in a folder and its sub-folders, except hidden files and folders.

    Links to folders are not followed.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: can't be read ({error.strerror})") from None

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def list_table(path: Path | str) -> Listing:
    """Lists the photos of a table, by its column `image` and, if present, its column `path`.

    `image` has the names of photos and `path` their files; without `path`, the names are the files.
    Files are relative to the table's folder and may not lead out of it.

    Raises:
      UserError: the table has another form, or a file leads out of the folder.
    """
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
