"""Preferences from marks: in a series, the photo with the higher mark is preferred.

Each source orders the photos of a series on its own:

- ratings: 5 > 4 > ... > 1 > -1 (rejected). No rating is above -1, and below `least_stars` or
  more;
- flags, of Lightroom and of digiKam: pick > none > reject;
- the contact sheet: pick > alternate > undecided > reject, then its ratings. Only decisions and
  ratings that a person changed count; see `read_sheet`.

Equal marks make no pair, and labels have no order. A photo with one or two stars and a photo
without any make no pair either: few stars may be a bad mark, and the other photo may be unseen. A
series without any mark makes no pair.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.culling.changes import SheetRow, sheet_rows
from jaxrank.culling.decisions import ALTERNATE, PICK, REJECT, UNDECIDED, least_stars
from jaxrank.culling.xmp import FLAGS, Marks
from jaxrank.data.pair_conversion import pairs_by_strength
from jaxrank.data.preference_tables import counted
from jaxrank.data.series_ids import canonical_series_id
from jaxrank.errors import UserError
from jaxrank.io import tables

RATINGS, SHEET = "ratings (xmp:Rating)", "contact sheet"
_FLAG_STRENGTH = {"pick": 1, None: 0, "reject": -1}
_DECISIONS = {PICK: 3, ALTERNATE: 2, UNDECIDED: 1, REJECT: 0}
_SHEET_COLUMNS = ("path", "series", "decision", "rating")
_PAIR = ["series_id", "image_a", "image_b"]


class Source(NamedTuple):
    """Source of preferences: one kind of mark.

    Attributes:
      name: name of the source in reports.
      strength: strength of each photo, by name; 0 for a photo without a mark. The photo of higher
        strength is preferred.
      least: a positive strength below this is not compared with 0.
      compares: whether the marks of two photos compare the photos; by default all marks do.
    """

    name: str
    strength: Mapping[str, float]
    least: float = 0.0
    compares: Callable[[str, str], bool] | None = None


class SourcePairs(NamedTuple):
    """Number of pairs from a source, of those with one unmarked photo, and of series with pairs."""

    name: str
    pairs: int
    one_marked: int
    series: int


class Agreement(NamedTuple):
    """Number of pairs that two sources both decide, and number of equal decisions among them."""

    first: str
    second: str
    pairs: int
    same: int


class MarkedPairs(NamedTuple):
    """Preferences from marks.

    Attributes:
      table: pairs as `series_id,image_a,image_b,preference`, each pair once.
      sources: counts of the sources that have pairs.
      agreements: agreement of every two of these sources.
      contradicted: number of pairs left out because sources prefer different photos.
    """

    table: pd.DataFrame
    sources: list[SourcePairs]
    agreements: list[Agreement]
    contradicted: int


class Sheet(NamedTuple):
    """A contact sheet with a person's decisions.

    Attributes:
      sources: strengths of the photos by decisions, and by ratings alone. No pair is in both.
      series_of: series of each photo of the sheet that counts.
      unused: reason why no photo counts; empty if there is such a photo.
    """

    sources: list[Source]
    series_of: dict[str, str]
    unused: str


def sources_of_marks(marks: Mapping[str, Marks]) -> list[Source]:
    """Sources of a folder's marks: ratings, and the flags of each program."""
    stars = {photo: found.rating or 0 for photo, found in marks.items()}
    sources = [Source(RATINGS, stars, least_stars(stars.values()))]
    for flag in FLAGS:
        strength = {
            photo: _FLAG_STRENGTH[found.pick] if found.where.get("pick") == flag else 0
            for photo, found in marks.items()
        }
        sources.append(Source(f"flags ({flag})", strength))
    return sources


def read_sheet(path: Path | str) -> Sheet:
    """Reads the decisions of a contact sheet: a table with `path,series,decision,rating`.

    Only what a person changed counts:

    - Two photos whose decisions are the person's are compared by decisions, then by ratings.
    - If one of the two decisions is the person's, a pick is better than a photo that is not a pick,
      and a reject is worse than a photo that is not a reject. Other decisions don't compare.
    - If neither decision is the person's, two photos are compared by their ratings, of which the
      person gave at least one. A rating changed to 0 does not count.

    Photos without a decision, such as those of a bracket, are not compared, whatever their ratings.

    Few stars count as none, as in `sources_of_marks`.

    Raises:
      UserError: the table has another form; the message names line and column.
    """
    table = tables.read_table(path)
    for column in _SHEET_COLUMNS:
        if column not in table.columns:
            need = f"a contact sheet's table has {','.join(_SHEET_COLUMNS)}"
            raise tables.missing_column(path, column, need, table.columns)
    table.texts("series")  # none is empty
    rows = sheet_rows(table)
    changed = [row.path for row in rows if row.changed]
    rows = [row for row in rows if row.decision]
    touched = {row.series for row in rows if row.changed}
    unused = ""
    if not changed:
        unused = (
            f"{path}: the table has no change of a person, so it makes no pair; change a decision "
            "or rating, and name it in the column 'changed'"
        )
    elif not touched:
        unused = (
            f"{path}: the changed photos, such as '{changed[0]}', have no decision, so they make "
            "no pair; give them one: photos that are not culled are not compared by ratings"
        )
    mine = {row.path: row for row in rows if row.series in touched}
    least = least_stars(row.rating for row in mine.values())
    stars = {photo: row.rating or 0 for photo, row in mine.items()}

    def strength(photo: str) -> float:
        few = 0 < stars[photo] < least
        return 10.0 * _DECISIONS[mine[photo].decision] + (0 if few else stars[photo])

    decisions = Source(
        SHEET,
        {photo: strength(photo) for photo in mine},
        compares=lambda a, b: _compares_decisions(mine[a], mine[b]),
    )
    ratings = Source(SHEET, stars, least, lambda a, b: _compares_ratings(mine[a], mine[b]))
    series_of = {photo: canonical_series_id(row.series) for photo, row in mine.items()}
    return Sheet([decisions, ratings], series_of, unused)


def _compares_decisions(a: SheetRow, b: SheetRow) -> bool:
    own = [row.decision for row in (a, b) if "decision" in row.changed]
    if len(own) == 1:
        return own[0] in (PICK, REJECT) and a.decision != b.decision
    return len(own) == 2


def _compares_ratings(a: SheetRow, b: SheetRow) -> bool:
    if "decision" in a.changed | b.changed:
        return False
    return any("rating" in row.changed and row.rating for row in (a, b))


def pairs_of_sources(
    path: Path, series_of: Mapping[str, str], sources: Sequence[Source]
) -> MarkedPairs:
    """Combines the pairs of all sources.

    The contact sheet takes precedence, since a person looked at it last. A pair on which the other
    sources contradict each other is left out.

    Args:
      path: file or folder that the marks come from, for errors.
      series_of: series of each photo; photos without a series make no pair.
      sources: sources of preferences; neighbours of one name count as one source.

    Raises:
      UserError: no source has a pair, or there are too many pairs.
    """
    frames, counts = {}, []
    for name, parts in itertools.groupby(sources, key=lambda source: source.name):
        found = [_pairs_of_source(path, series_of, part) for part in parts]
        pairs = [frame for frame, _ in found if len(frame)]
        if pairs:
            frames[name] = frame = pd.concat(pairs, ignore_index=True)
            one_marked = sum(number for _, number in found)
            num_series = frame["series_id"].nunique()
            counts.append(SourcePairs(name, len(frame), one_marked, num_series))
    if not frames:
        raise UserError(
            f"{path}: no series has two photos with different marks (of {len(series_of):,} photos "
            "in series), so there is no pair"
        )
    agreements = []
    for first, second in itertools.combinations(frames, 2):
        both = frames[first].merge(frames[second], on=_PAIR)
        same = int((both["preference_x"] == both["preference_y"]).sum())
        agreements.append(Agreement(first, second, len(both), same))
    sheet = frames.pop(SHEET, None)
    others = pd.concat(frames.values()) if frames else None
    if others is None:
        assert sheet is not None
        return MarkedPairs(sheet, counts, agreements, 0)
    merged = others.groupby(_PAIR, sort=False, as_index=False)["preference"].mean()
    if sheet is not None:
        merged = pd.concat([sheet, merged]).drop_duplicates(_PAIR)
    decided = merged["preference"].isin([0.0, 1.0])
    table = merged[decided].reset_index(drop=True)
    return MarkedPairs(table, counts, agreements, int((~decided).sum()))


def _pairs_of_source(
    path: Path, series_of: Mapping[str, str], source: Source
) -> tuple[pd.DataFrame, int]:
    """Pairs of a source, and the number of those with one unmarked photo."""
    frame = pd.DataFrame(
        [
            (series_of[photo], photo, strength)
            for photo, strength in source.strength.items()
            if photo in series_of
        ],
        columns=["series_id", "image", "strength"],
    )
    # Skips series of equal marks, such as unmarked ones, which may be large.
    differs = frame.groupby("series_id")["strength"].transform("nunique") > 1
    frame = frame[differs].reset_index(drop=True)
    strength_N = frame["strength"].to_numpy(np.float64)
    pairs = pairs_by_strength(path, frame["image"].tolist(), frame["series_id"], strength_N)
    strength_M2 = np.array(
        [
            (source.strength[a], source.strength[b])
            for a, b in zip(pairs["image_a"], pairs["image_b"], strict=True)
        ]
    ).reshape(-1, 2)
    one_marked_M = (strength_M2 == 0).any(axis=1)
    other_M = strength_M2.sum(axis=1)
    unclear_M = one_marked_M & (other_M > 0) & (other_M < source.least)
    if source.compares is not None:
        names = zip(pairs["image_a"], pairs["image_b"], strict=True)
        unclear_M |= ~np.array([source.compares(a, b) for a, b in names], bool)
    pairs = pairs[~unclear_M].reset_index(drop=True)
    return pairs, int((one_marked_M & ~unclear_M).sum())


def report(found: MarkedPairs) -> list[str]:
    """Sentences on the pairs of each source and the agreement of the sources."""
    lines = []
    for source in found.sources:
        line = f"{source.name}: {counted(source.pairs, 'pair')} in {source.series:,} series"
        if source.one_marked and source.name != SHEET:
            line += f", {source.one_marked:,} of a marked photo and one without a mark"
        lines.append(line)
    for agreement in found.agreements:
        if agreement.pairs:
            share = agreement.same / agreement.pairs
            lines.append(
                f"{agreement.first} and {agreement.second}: {counted(agreement.pairs, 'pair')} in "
                f"both, {agreement.same:,} ({share:.0%}) with the same winner"
            )
        else:
            lines.append(f"{agreement.first} and {agreement.second}: no pair in both")
    if found.contradicted:
        lines.append(
            f"{counted(found.contradicted, 'pair')} left out: the sources prefer different photos"
        )
    return lines
