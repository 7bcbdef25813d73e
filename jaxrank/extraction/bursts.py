"""Groups photos into series: by folder, by burst, or by a table."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from jaxrank.data import series_ids
from jaxrank.data.preference_tables import counted
from jaxrank.errors import UserError


class Grouped(NamedTuple):
    """Series of at least two photos.

    Attributes:
      series: names of the photos of each series, by series ID.
      notes: notes on photos without a series.
    """

    series: dict[str, list[str]]
    notes: list[str]


class CaptureTime(NamedTuple):
    """Name, camera and capture time of a photo, from EXIF; empty where EXIF has none."""

    name: str
    camera: str
    time: str


def by_folder(names: Sequence[str]) -> Grouped:
    """Makes a series of each folder's photos, without the photos of its sub-folders.

    Raises:
      UserError: two folders would be one series.
    """
    series: dict[str, list[str]] = {}
    folder_of: dict[str, str] = {}
    loose = 0
    for name in names:
        folder = str(PurePosixPath(name).parent)
        if folder == ".":
            loose += 1
            continue
        # Tables drop outer blanks, and leading zeros of numbers, when they are read.
        series_id = series_ids.canonical_series_id(folder.strip())
        other = folder_of.setdefault(series_id, folder)
        if other != folder:
            raise UserError(
                f"--series=folder: '{other}' and '{folder}' would be one series, since tables drop "
                "leading zeros and outer blanks; rename one"
            )
        series.setdefault(series_id, []).append(name)
    return _of_two(series, [f"{photos_that(loose, 'is', 'are')} in no sub-folder"] if loose else [])


def by_time(
    photos: Sequence[CaptureTime], gap_seconds: float, are_similar: Callable[[str, str], bool]
) -> Grouped:
    """Makes a series of each burst, named after its first photo.

    The photos of a burst are of one camera. Each is similar to the photo before it, and was taken
    at most `gap_seconds` later.
    """
    known = [(p.camera, time, p.name) for p in photos if (time := parse_time(p.time)) is not None]
    bursts: dict[str, list[str]] = {}
    last: tuple[str, datetime.datetime, str] | None = None
    for camera, time, name in sorted(known):
        continues = (
            last is not None
            and last[0] == camera
            and (time - last[1]).total_seconds() <= gap_seconds
            and are_similar(last[2], name)
        )
        first = next(reversed(bursts)) if continues else name
        bursts.setdefault(first, []).append(name)
        last = camera, time, name
    lacking = len(photos) - len(known)
    notes = [f"{photos_that(lacking, 'has', 'have')} no capture time"] if lacking else []
    return _of_two(bursts, notes)


def parse_time(text: str) -> datetime.datetime | None:
    """Parses a time of EXIF, `YYYY:MM:DD HH:MM:SS[.fraction]`; None for any other text."""
    whole, _, fraction = text.partition(".")
    try:
        time = datetime.datetime.strptime(whole, "%Y:%m:%d %H:%M:%S")
    except ValueError:  # also 0000:00:00, of cameras whose clock was never set
        return None
    digits = fraction[:6] if fraction.isascii() and fraction.isdigit() else "0"
    return time.replace(microsecond=int(digits.ljust(6, "0")))


def by_table(series: Mapping[str, str], names: Sequence[str]) -> Grouped:
    """Makes the series of a table that maps photos to series.

    Raises:
      UserError: the table has none of the photos.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        if name in series:
            groups.setdefault(series[name], []).append(name)
    if not groups:
        raise UserError(
            "--series: none of the photos is in the table: it names photos such as "
            f"'{next(iter(series))}', the photos have names such as '{names[0]}'"
        )
    lacking = len(names) - sum(map(len, groups.values()))
    notes = []
    if lacking:
        notes.append(f"{photos_that(lacking, 'is', 'are')} in no series of the table")
    unknown = list(series.keys() - set(names))
    if unknown:
        absent = photos_that(len(unknown), "of the table is", "of the table are")
        notes.append(f"{absent} not in this run, such as '{min(unknown)}'")
    return _of_two(groups, notes)


def _of_two(groups: Mapping[str, list[str]], notes: list[str]) -> Grouped:
    series = {name: members for name, members in groups.items() if len(members) > 1}
    alone = len(groups) - len(series)
    if alone:
        notes = [*notes, f"{photos_that(alone, 'is', 'are')} alone, so in no series"]
    return Grouped(series, notes)


def photos_that(number: int, singular: str, plural: str) -> str:
    """A number of photos with a verb: `1 photo SINGULAR` or `2 photos PLURAL`."""
    return f"{counted(number, 'photo')} {singular if number == 1 else plural}"
