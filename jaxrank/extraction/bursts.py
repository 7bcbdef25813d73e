"""Which photos are one series: those of a folder, or those taken in one go."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from jaxrank.data import series_ids
from jaxrank.errors import UserError


class Grouped(NamedTuple):
    """Series of at least two photos.

    Attributes:
      series: the names of their photos by the series' id.
      notes: what became of the photos.
    """

    series: dict[str, list[str]]
    notes: list[str]


class Taken(NamedTuple):
    """A photo, its camera, and when it was taken, as EXIF has it; empty where it has not."""

    name: str
    camera: str
    time: str


def by_folder(names: Sequence[str]) -> Grouped:
    """A series for each folder, with its photos and not those of its sub-folders."""
    series: dict[str, list[str]] = {}
    folder_of: dict[str, str] = {}
    loose = 0
    for name in names:
        folder = str(PurePosixPath(name).parent)
        if folder == ".":
            loose += 1
            continue
        # As tables are read: without outer blanks, and numbers without leading zeros.
        series_id = series_ids.canonical_series_id(folder.strip())
        other = folder_of.setdefault(series_id, folder)
        if other != folder:
            raise UserError(
                f"--series=folder: '{other}' and '{folder}' would be one series, since tables know "
                "neither leading zeros of numbers nor outer blanks; rename one"
            )
        series.setdefault(series_id, []).append(name)
    return _of_two(series, [f"{loose:,} photos lie in no sub-folder"] if loose else [])


def by_time(
    photos: Sequence[Taken], gap_seconds: float, are_similar: Callable[[str, str], bool]
) -> Grouped:
    """A series for each burst: photos of one camera, each at most `gap_seconds` after the one
    before it and similar to it. A series is called by its first photo."""
    known = [(p.camera, time, p.name) for p in photos if (time := parse_time(p.time)) is not None]
    bursts: dict[str, list[str]] = {}
    last: tuple[str, datetime.datetime, str] | None = None
    for camera, time, name in sorted(known):
        goes_on = (
            last is not None
            and last[0] == camera
            and (time - last[1]).total_seconds() <= gap_seconds
            and are_similar(last[2], name)
        )
        first = next(reversed(bursts)) if goes_on else name
        bursts.setdefault(first, []).append(name)
        last = camera, time, name
    lacking = len(photos) - len(known)
    notes = [f"{lacking:,} photos don't say when they were taken"] if lacking else []
    return _of_two(bursts, notes)


def parse_time(text: str) -> datetime.datetime | None:
    """EXIF's time, `YYYY:MM:DD HH:MM:SS[.fraction]`; None where it says none."""
    whole, _, fraction = text.partition(".")
    try:
        time = datetime.datetime.strptime(whole, "%Y:%m:%d %H:%M:%S")
    except ValueError:  # also 0000:00:00, of cameras whose clock was never set
        return None
    digits = fraction[:6] if fraction.isascii() and fraction.isdigit() else "0"
    return time.replace(microsecond=int(digits.ljust(6, "0")))


def by_table(series: Mapping[str, str], names: Sequence[str]) -> Grouped:
    """The series of a table, from photo to series, of the photos that there are."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if name in series:
            groups.setdefault(series[name], []).append(name)
    if not groups:
        raise UserError(
            f"--series: no photo of the table is here: it names photos such as "
            f"'{next(iter(series))}', the photos are called such as '{names[0]}'"
        )
    lacking = len(names) - sum(map(len, groups.values()))
    notes = [f"{lacking:,} photos stand in no series of the table"] if lacking else []
    unknown = list(series.keys() - set(names))
    if unknown:
        notes.append(f"{len(unknown):,} photos of the table are not here, such as '{min(unknown)}'")
    return _of_two(groups, notes)


def _of_two(groups: Mapping[str, list[str]], notes: list[str]) -> Grouped:
    series = {name: members for name, members in groups.items() if len(members) > 1}
    alone = len(groups) - len(series)
    return Grouped(series, notes + [f"{alone:,} photos stand alone, in no series"] * bool(alone))
