"""Human preferences between two photos of a series: read, checked, merged and filtered.

Two kinds of table are told apart by their columns:

- canonical: `series_id,image_a,image_b,preference`; further columns are kept;
- raw votes, as Photo Triage ships them: `series_id,compareFile1,compareFile2,LEFT,RIGHT`, where
  LEFT counts the votes for `compareFile1` and a pair can stand in both orders.
"""

import re
import string
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank import tables
from jaxrank.errors import UserError

CANONICAL_COLUMNS = ("series_id", "image_a", "image_b", "preference")
VOTE_COLUMNS = ("series_id", "compareFile1", "compareFile2", "LEFT", "RIGHT")
PHOTO_NAME = "{series:06d}-{number:02d}.JPG"
MIN_AGREEMENT = 0.7
MIN_REVIEWERS = 2

_VOTE_PHOTO = re.compile(r"(\d+)-(\d+)\.[A-Za-z0-9]+", re.ASCII)


class Pairs(NamedTuple):
    """Pairs ready for training: every photo pair once, every photo in one series.

    Attributes:
      table: `series_id` (text), `image_a`, `image_b`, `preference` (float in [0, 1], the share
        that prefers `image_a`), then the further columns of the file.
      notes: sentences about what was merged, contradicted or left out, for the log.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_pairs(
    path: Path | str,
    *,
    photo_name: str = PHOTO_NAME,
    min_agreement: float = MIN_AGREEMENT,
    min_reviewers: int = MIN_REVIEWERS,
) -> Pairs:
    """Reads a canonical table or a raw vote table.

    Args:
      path: a CSV file.
      photo_name: for votes, how a photo's name is built from `series` and `number`.
      min_agreement: for votes, the least share of a pair's votes on its majority's side.
      min_reviewers: for votes, the least number of votes for a pair.

    Raises:
      UserError: naming file, line and column, for anything that is not such a table.
    """
    table = tables.read_csv(path)
    if set(CANONICAL_COLUMNS) <= set(table.columns):
        return _from_canonical(table)
    if set(VOTE_COLUMNS) <= set(table.columns):
        return _from_votes(table, photo_name, min_agreement, min_reviewers)
    missing = [column for column in CANONICAL_COLUMNS if column not in table.columns]
    raise UserError(
        f"{path}: column '{missing[0]}' is missing; a pair table has {','.join(CANONICAL_COLUMNS)} "
        f"and a vote table {','.join(VOTE_COLUMNS)}, this file has {','.join(table.columns)[:200]}"
    )


def from_frame(frame: pd.DataFrame) -> Pairs:
    """Checks and merges a canonical table that is already in memory, as `read_pairs` does."""
    missing = [column for column in CANONICAL_COLUMNS if column not in frame.columns]
    if missing:
        raise UserError(f"pairs: column '{missing[0]}' is missing from the data frame")
    if frame.columns.has_duplicates:
        raise UserError("pairs: a column stands twice in the data frame")
    rows = frame.astype(object).where(frame.notna(), "").astype(str).values.tolist()
    lines = list(range(1, len(frame) + 1))
    return _from_canonical(
        tables.Table(Path("pairs (data frame)"), list(map(str, frame.columns)), rows, lines)
    )


def canonical_series_id(text: str) -> str:
    """A series id is text; a number loses its leading zeros, so `000012` and `12` are one."""
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else text


def _from_canonical(table: tables.Table) -> Pairs:
    frame = pd.DataFrame(
        {
            "series_id": [canonical_series_id(text) for text in table.texts("series_id")],
            "image_a": table.texts("image_a"),
            "image_b": table.texts("image_b"),
            "preference": table.numbers(["preference"])[:, 0],
        }
    )
    for column in table.columns:
        if column not in frame.columns:
            index = table.columns.index(column)
            frame[column] = [row[index] for row in table.rows]
    outside = np.flatnonzero((frame["preference"] < 0) | (frame["preference"] > 1))
    if len(outside):
        row = int(outside[0])
        raise UserError(
            f"{table.where(row, 'preference')}: {frame['preference'][row]:g} is not a share "
            "between 0 and 1"
        )
    _check_photos(frame, table)
    flipped, group = _unordered(frame)
    # Every row counts the same when a pair is given more than once: canonical tables hold no
    # numbers of voters.
    toward_first = np.where(flipped, 1 - frame["preference"], frame["preference"])
    merged, contradictions = _merge(frame, flipped, group, toward_first, np.ones(len(frame)))
    notes = _merge_notes(len(frame), len(merged), contradictions, "rows")
    return Pairs(merged, notes)


def _from_votes(
    table: tables.Table, photo_name: str, min_agreement: float, min_reviewers: int
) -> Pairs:
    _check_pattern(photo_name)
    if not 0 <= min_agreement <= 1:
        raise UserError(f"--min_agreement={min_agreement:g} is not a share between 0 and 1")
    series_ids = [canonical_series_id(text) for text in table.texts("series_id")]
    frame = pd.DataFrame(
        {
            "series_id": series_ids,
            "image_a": _vote_photos(table, "compareFile1", series_ids, photo_name),
            "image_b": _vote_photos(table, "compareFile2", series_ids, photo_name),
        }
    )
    votes = table.numbers(["LEFT", "RIGHT"])
    wrong = np.argwhere((votes < 0) | (votes != np.floor(votes)))
    if len(wrong):
        row, column = (int(index) for index in wrong[0])
        raise UserError(
            f"{table.where(row, ('LEFT', 'RIGHT')[column])}: {votes[row, column]:g} is not a "
            "number of votes"
        )
    _check_photos(frame, table)

    total = votes.sum(axis=1)
    flipped, group = _unordered(frame)
    voted = total > 0
    toward_first = np.full(len(frame), 0.5)
    for_first = np.where(flipped, votes[:, 1], votes[:, 0])
    toward_first[voted] = for_first[voted] / total[voted]
    # Weighted by votes, the mean of a pair's rows is the share of its summed votes.
    merged, contradictions = _merge(frame, flipped, group, toward_first, total)
    notes = list(_merge_notes(len(frame), len(merged), contradictions, "vote rows"))

    reviewers = np.bincount(group, weights=total)
    agreement = np.maximum(merged["preference"], 1 - merged["preference"])
    # Shares such as 7/10 must not fall under 0.7 by rounding.
    kept = (reviewers >= max(min_reviewers, 1)) & (agreement >= min_agreement - 1e-9)
    if not kept.any():
        raise UserError(
            f"{table.path}: no pair has at least {min_reviewers} votes and {min_agreement:g} "
            "agreement; lower --min_reviewers or --min_agreement"
        )
    if not kept.all():
        notes.append(
            f"{int((~kept).sum()):,} of {len(kept):,} pairs left out: fewer than {min_reviewers} "
            f"votes or agreement below {min_agreement:g}"
        )
    merged["votes"] = reviewers.astype(int)
    return Pairs(merged[kept].reset_index(drop=True), tuple(notes))


def _check_pattern(photo_name: str) -> None:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(photo_name) if field]
        photo_name.format(series=1, number=1)
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"--photo_name={photo_name}: not a usable pattern ({error})") from None
    if sorted(set(fields)) != ["number", "series"]:
        raise UserError(
            f"--photo_name={photo_name}: the pattern must name {{series}} and {{number}}, and "
            f"nothing else; the default is {PHOTO_NAME}"
        )


def _vote_photos(
    table: tables.Table, column: str, series_ids: list[str], photo_name: str
) -> list[str]:
    names = []
    for row, cell in enumerate(table.texts(column)):
        match = _VOTE_PHOTO.fullmatch(cell)
        if match is None:
            raise UserError(
                f"{table.where(row, column)}: {cell[:40]!r} is not SERIES-NUMBER.JPG, "
                "such as 12-3.JPG"
            )
        if canonical_series_id(match[1]) != series_ids[row]:
            raise UserError(
                f"{table.where(row, column)}: photo {cell!r} is not of series {series_ids[row]}"
            )
        names.append(photo_name.format(series=int(match[1]), number=int(match[2])))
    return names


def _check_photos(frame: pd.DataFrame, table: tables.Table) -> None:
    """A pair has two different photos, and a photo has one series (else a split would leak)."""
    same = np.flatnonzero(frame["image_a"] == frame["image_b"])
    if len(same):
        raise UserError(
            f"{table.where(int(same[0]))}: photo '{frame['image_a'][same[0]]}' is compared with "
            "itself"
        )
    photos = pd.concat([frame["image_a"], frame["image_b"]], ignore_index=True)
    series = pd.concat([frame["series_id"], frame["series_id"]], ignore_index=True)
    codes, names = pd.factorize(photos)
    first = np.full(len(names), len(photos))
    np.minimum.at(first, codes, np.arange(len(photos)))
    differs = np.flatnonzero(series.to_numpy() != series.to_numpy()[first[codes]])
    if len(differs):
        here = int(differs[0])
        there = int(first[codes[here]])
        raise UserError(
            f"{table.where(here % len(frame))}: photo '{photos[here]}' stands in series "
            f"{series[here]} and, on line {table.lines[there % len(frame)]}, in series "
            f"{series[there]}; a photo belongs to one series"
        )


def _unordered(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """For every row: does it stand in the other order than its pair's first row, and which pair."""
    low = np.minimum(frame["image_a"].to_numpy(object), frame["image_b"].to_numpy(object))
    high = np.maximum(frame["image_a"].to_numpy(object), frame["image_b"].to_numpy(object))
    group, _ = pd.factorize(pd.MultiIndex.from_arrays([low, high]))
    first = np.full(group.max() + 1, len(group))
    np.minimum.at(first, group, np.arange(len(group)))
    image_a = frame["image_a"].to_numpy()
    return image_a != image_a[first[group]], group


def _merge(
    frame: pd.DataFrame,
    flipped: np.ndarray,
    group: np.ndarray,
    toward_first: np.ndarray,
    weight: np.ndarray,
) -> tuple[pd.DataFrame, int]:
    """One row a pair, in the order and with the columns of its first row.

    Returns the merged table and the number of pairs whose rows point in opposite directions.
    """
    total = np.bincount(group, weights=weight)
    summed = np.bincount(group, weights=weight * toward_first)
    rows = np.bincount(group)
    only = np.zeros(len(rows))
    only[group] = toward_first  # where a pair has one row, its value and not a rounded ratio
    mean = np.divide(summed, total, out=np.full(len(total), 0.5), where=total > 0)
    merged = frame[~pd.Series(group).duplicated().to_numpy()].reset_index(drop=True)
    merged["preference"] = np.where(rows == 1, only, mean)
    toward_a = np.bincount(group, weights=toward_first > 0.5) > 0
    toward_b = np.bincount(group, weights=toward_first < 0.5) > 0
    return merged, int((toward_a & toward_b).sum())


def _merge_notes(rows: int, pairs: int, contradictions: int, what: str) -> tuple[str, ...]:
    if rows == pairs:
        return ()
    return (
        f"{rows:,} {what} merged to {pairs:,} pairs; {contradictions:,} of them were given in "
        "contradictory directions",
    )
