"""Marks that people gave the photos of a folder, in sidecars and in the photos' own XMP."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxrank.culling import records, sidecars
from jaxrank.culling.decisions import is_ours
from jaxrank.culling.kept_marks import KeptMarks
from jaxrank.culling.sidecars import SUFFIX
from jaxrank.culling.xmp import NO_MARKS, BadXmp, Marks
from jaxrank.errors import UserError
from jaxrank.extraction.decoding import SUFFIXES, UnreadablePhoto
from jaxrank.extraction.photos import check_name, shown
from jaxrank.extraction.raw_previews import RAW_SUFFIXES


class FolderMarks(NamedTuple):
    """Marks of a folder's photos.

    Attributes:
      marks: marks of each photo in the folder, by name.
      notes: notes on missing photos, unreadable files and contradicting ratings.
    """

    marks: dict[str, Marks]
    notes: list[str]


def list_photos(folder: Path) -> tuple[list[str], list[str]]:
    """Lists the photos in a folder and its sub-folders, by name with `/` between folders; notes.

    Files of one stem are one photo, as in `cull`.

    Raises:
      UserError: the folder does not exist, or has no photo.
    """
    photos: list[str] = []
    bad: list[str] = []
    for files in records.list_photos(folder):
        name = files.photo.name
        try:
            check_name(name)
            photos.append(name)
        except UnreadablePhoto:
            bad.append(shown(name))
    why = "left out: the name would not read back from a table, such as"
    return sorted(photos), _counted(len(bad), "photo", why, bad)


def marks_in_folder(folder: Path, names: Sequence[str], cache: Path | None = None) -> FolderMarks:
    """Reads the marks of photos; marks that `cull` wrote are skipped.

    A photo's marks may be in several places, of which the first one that has a mark counts:

    1. the sidecar `IMG_1.JPG.xmp`, then `IMG_1.xmp`;
    2. the sidecars of other files of the same photo, such as `IMG_1.CR3.xmp`, `IMG_1.HEIC.xmp`;
    3. the XMP in the photo's own file, then in these others, unless they are proprietary RAW files,
       in which no program writes.

    Args:
      folder: folder of the photos.
      names: names of the photos, relative to the folder; missing photos are left out.
      cache: file of marks that earlier runs read in photos; see `KeptMarks`.

    Raises:
      UserError: a name leads out of the folder.
    """
    kept = KeptMarks(cache)
    root = folder.resolve()
    there = [name for name in names if _is_inside(folder, root, name)]
    owners = set(sidecars.sidecar_paths((folder / name for name in there), full=False).path_of)
    named = {str(folder / name).lower() for name in there}
    listings: dict[Path, dict[str, Path]] = {}
    stems: dict[Path, dict[str, list[Path]]] = {}
    marks, bad, contradicted = {}, [], []
    for name in there:
        photo = folder / name
        if photo.parent not in listings:
            listings[photo.parent] = {path.name.lower(): path for path in photo.parent.iterdir()}
            stems[photo.parent] = _photos_by_stem(listings[photo.parent])
        others = []
        if photo in owners:  # the other files of a stem are the same photo
            same = stems[photo.parent].get(photo.stem.lower(), [])
            others = [path for path in same if str(path).lower() not in named]
        found = []
        for path in _places(photo, listings[photo.parent], photo in owners, others):
            try:
                relative = path.relative_to(folder).as_posix()
                if _is_inside(folder, root, relative):
                    marks_there = kept.read(path, relative)
                    if is_ours(marks_there.rating, marks_there.label):  # a flag is a person's
                        marks_there = marks_there._replace(rating=None, label="")
                    found.append(marks_there)
            except BadXmp as error:
                bad.append(f"{path.relative_to(folder).as_posix()}: {error}")
        marks[name] = _first(found)
        if len({one.rating for one in found if one.rating}) > 1:
            contradicted.append(name)
    kept.save()
    notes = _counted(len(names) - len(there), "photo", "not in the folder")
    notes += _counted(len(bad), "file", "left out: their XMP can't be read, such as", bad)
    why = "rated differently in two places, of which the first sidecar counts, such as"
    return FolderMarks(marks, notes + _counted(len(contradicted), "photo", why, contradicted))


def _is_inside(folder: Path, root: Path, name: str) -> bool:
    """Whether a file exists, and no link leads out of the folder.

    Raises:
      UserError: the name itself leads out of the folder.
    """
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(f"{folder}: the photo '{name}' leads out of the folder")
    try:
        path = (folder / name).resolve()
        return path.is_relative_to(root) and path.is_file()
    except (OSError, RuntimeError, ValueError):  # circular links; a name with a zero byte
        return False


def _photos_by_stem(listing: dict[str, Path]) -> dict[str, list[Path]]:
    """Photo and RAW files of a folder, by their stems in lower case."""
    found: dict[str, list[Path]] = {}
    for path in listing.values():
        if path.suffix.lower() in (*SUFFIXES, *RAW_SUFFIXES):
            found.setdefault(path.stem.lower(), []).append(path)
    return found


def _places(
    photo: Path, listing: dict[str, Path], is_owner: bool, others: Sequence[Path]
) -> Iterator[Path]:
    """Yields the existing files that can hold a photo's marks, in order of precedence.

    Args:
      photo: path of the photo.
      listing: files of the photo's folder, by their names in lower case.
      is_owner: whether the sidecar `IMG_1.xmp` belongs to this photo.
      others: other files of the same photo.
    """
    candidates = [photo.name + SUFFIX]
    if is_owner:
        candidates += [photo.stem + SUFFIX, *(path.name + SUFFIX for path in others)]
    for name in dict.fromkeys(name.lower() for name in candidates):
        if name in listing:
            yield listing[name]
    yield photo
    for path in others:
        if path.suffix.lower() == ".dng" or path.suffix.lower() not in RAW_SUFFIXES:
            yield path


def _first(found: Iterable[Marks]) -> Marks:
    """Merges the marks of several places: the first rating other than 0, label and flag."""
    rating, label, pick, where = NO_MARKS
    where = dict(where)
    for marks in found:
        if not rating and marks.rating is not None:
            rating = marks.rating
            where["rating"] = marks.where["rating"]
        if not label and marks.label:
            label = marks.label
            where["label"] = marks.where["label"]
        if pick is None and marks.pick is not None:
            pick = marks.pick
            where["pick"] = marks.where["pick"]
    return Marks(rating, label, pick, where)


def _counted(number: int, noun: str, what: str, such_as: Sequence[str] = ()) -> list[str]:
    if not number:
        return []
    example = f" {such_as[0]}" if such_as else ""
    return [f"{number:,} {noun}{'s' * (number > 1)} {what}{example}"]
