"""Reads, checks, merges and filters human preferences between two photos of a series.

Tables are CSV, JSONL, parquet or data frames. Their kind is recognised by their columns:

- pairs, the canonical table: `series_id,image_a,image_b,preference`; further columns are kept;
- vote counts: `series_id,image_a,image_b,votes_a,votes_b`; the preference is the share of votes for
  `image_a`, and a column `preference` is ignored;
- raw votes, as Photo Triage ships them: `series_id,compareFile1,compareFile2,LEFT,RIGHT`, where
  LEFT counts the votes for `compareFile1` and a pair may appear in both orders;
- ratings, picks and winners: see `preference_tables`.

A pair list, which Photo Triage ships too, is text without a header; see `photo_triage`.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data.pair_conversion import (
    choices_as_pairs,
    pairs_of_picks,
    pairs_of_ratings,
    winners_as_pairs,
)
from jaxrank.data.photo_triage import (
    PAIR_LIST_COLUMNS,
    PHOTO_NAME,
    check_pattern,
    name_photos,
    read_folder,
    vote_photos,
)
from jaxrank.data.preference_tables import (
    CHOICES,
    KINDS,
    PAIRS,
    RATINGS,
    VOTE_COUNTS,
    VOTES,
    WINNERS,
    counted,
    kind_of,
    with_series_ids,
)
from jaxrank.data.series_ids import SeriesInput, canonical_series_ids, is_store
from jaxrank.errors import UserError
from jaxrank.io import tables

CANONICAL_COLUMNS = ("series_id", *KINDS[PAIRS].columns)
VOTE_COLUMNS = KINDS[VOTES].columns
MIN_AGREEMENT = 0.7
MIN_REVIEWERS = 2

COUNT_COLUMNS = ("votes_a", "votes_b")
_CATEGORY = "label"  # suffix of vote columns with a pair's category
_MOST_VOTES = 1e9  # far above any real count; sums of larger counts would not be exact


class Preferences(NamedTuple):
    """Pairs ready for training: every photo pair once, every photo in one series.

    Attributes:
      table: `series_id` (text), `image_a`, `image_b`, `preference` (float in [0, 1], the share
        that prefers `image_a`), then the further columns of the file. If the file has votes, the
        column `votes` holds each pair's number of votes, as whole numbers.
      notes: sentences for the log about merged, contradictory and omitted rows and pairs.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_preferences(
    path: Path | str,
    *,
    photo_name: str | None = None,
    min_agreement: float | None = None,
    min_reviewers: int | None = None,
    series: SeriesInput = None,
) -> Preferences:
    """Reads a table of pairs, votes, ratings, picks or winners, or the pair lists of Photo Triage.

    Args:
      path: a .jsonl, .ndjson or .parquet file; any other file is CSV or a pair list, recognised by
        its first line. A folder holds train_pairlist.txt and val_pairlist.txt; a further column
        `official_split` then names the list of each row.
      photo_name: for votes and pair lists, the pattern of photo names; by default
        '{series:06d}-{number:02d}.JPG'.
      min_agreement: for votes, the minimum share of a pair's votes for the majority's photo; by
        default 0.7, and 0 for vote counts.
      min_reviewers: for votes, the minimum number of votes for a pair; by default 2, and 1 for
        vote counts.
      series: for tables without `series_id`: a table with `series_id,image`, its file, or the
        folder of a feature store that has a series.csv.

    Raises:
      UserError: the input is not such a table; the message names file, line and column.
    """
    table, is_pair_list = _read(Path(path))
    votes: dict[str, Any] = {"min_agreement": min_agreement, "min_reviewers": min_reviewers}
    if is_pair_list:
        refuse_vote_options(str(path), **votes, series=None if is_store(series) else series)
        return _from_canonical(name_photos(table, PHOTO_NAME if photo_name is None else photo_name))
    return from_table(table, series, photo_name=photo_name, **votes)


def from_frame(
    frame: pd.DataFrame, *, series: SeriesInput = None, **vote_options: Any
) -> Preferences:
    """Reads a data frame like the tables of `read_preferences`."""
    table = tables.frame_as_table("pairs (data frame)", frame)
    if "series_id" in frame.columns and frame["series_id"].dtype.kind == "f":
        raise UserError(
            "pairs, column 'series_id': ids are text or whole numbers, not decimal ones"
        )
    return from_table(table, series, **vote_options)


def from_table(
    table: tables.Table,
    series: SeriesInput,
    *,
    photo_name: str | None = None,
    min_agreement: float | None = None,
    min_reviewers: int | None = None,
) -> Preferences:
    """Converts a table of text to preferences; see `read_preferences`."""
    kind = kind_of(table)
    where = str(table.path)
    if kind == VOTES:
        refuse_vote_options(where, series=None if is_store(series) else series)
        return _from_votes(
            table,
            PHOTO_NAME if photo_name is None else photo_name,
            MIN_AGREEMENT if min_agreement is None else min_agreement,
            MIN_REVIEWERS if min_reviewers is None else min_reviewers,
        )
    refuse_vote_options(where, photo_name=photo_name)
    if kind != VOTE_COUNTS:
        refuse_vote_options(where, min_agreement=min_agreement, min_reviewers=min_reviewers)
    table, notes = with_series_ids(table, kind, series)
    if kind == PAIRS:
        found = _from_canonical(table)
    elif kind == VOTE_COUNTS:
        found = _from_counts(
            table,
            0.0 if min_agreement is None else min_agreement,
            1 if min_reviewers is None else min_reviewers,
        )
    elif kind in (WINNERS, CHOICES):
        found = _from_single_votes(table, kind)
    else:
        frame, counts = (pairs_of_ratings if kind == RATINGS else pairs_of_picks)(table)
        found = Preferences(frame, tuple(counts))
    return Preferences(found.table, (*notes, *found.notes))


def read_all_votes(
    path: Path | str, photo_name: str | None = None, series: SeriesInput = None
) -> Preferences:
    """Reads the pairs of a table of any kind; in a vote table, one vote per pair is enough.

    `photo_name` and `series` are ignored for kinds of table that do not need them.
    """
    table, is_pair_list = _read(Path(path))
    is_votes = not is_pair_list and kind_of(table) == VOTES
    kept: dict[str, Any] = {"min_agreement": 0.0, "min_reviewers": 1} if is_votes else {}
    return read_preferences(
        path,
        photo_name=photo_name if is_pair_list or is_votes else None,
        series=None if "series_id" in table.columns else series,
        **kept,
    )


def refuse_vote_options(where: str, **options: object) -> None:
    """Raises UserError for an option that is set but would have no effect."""
    for name, value in options.items():
        if value is not None and name == "photo_name":
            raise UserError(
                f"--{name} is for vote tables and pair lists, but {where} holds the photos' names"
            )
        if value is not None and name == "series":
            raise UserError(f"--{name} is for tables without series, but {where} holds series")
        if value is not None:
            raise UserError(f"--{name} is for vote tables, but {where} holds no votes")


def _read(path: Path) -> tuple[tables.Table, bool]:
    """Reads a file or folder as a table of text; also returns whether it is a pair list."""
    if os.path.isdir(path):  # Path.is_dir raises for some names
        return read_folder(path), True
    if path.suffix.lower() in tables.READERS:
        return tables.read_table(path), False
    data = tables.read_bytes(path)
    first = tables.first_line(data)
    # CSV has commas, and a header does not begin with a number.
    if "," not in first and (len(first.split()) == len(PAIR_LIST_COLUMNS) or first[:1].isdigit()):
        return tables.parse_blanks(path, tables.decoded(path, data), PAIR_LIST_COLUMNS), True
    return tables.parse_csv(path, data), False


def _from_single_votes(table: tables.Table, kind: str) -> Preferences:
    """Merges rows of WINNERS or CHOICES, one vote each."""
    convert = winners_as_pairs if kind == WINNERS else choices_as_pairs
    merged, votes, notes = _merged_rows(convert(table))
    columns = ",".join(KINDS[kind].columns)
    read = f"{counted(len(table.rows), 'row')} {columns} read as {counted(len(votes), 'pair')}"
    return Preferences(merged.assign(votes=votes.astype(int)), (read, *notes))


def _from_canonical(table: tables.Table) -> Preferences:
    merged, _, notes = _merged_rows(table)
    return Preferences(merged, notes)


def _merged_rows(table: tables.Table) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """Checks and merges the rows of a canonical table.

    Returns:
      The merged pairs, the number of rows of each pair, and notes.
    """
    frame = pd.DataFrame(
        {
            "series_id": canonical_series_ids(table.series("series_id")),
            "image_a": table.series("image_a"),
            "image_b": table.series("image_b"),
            "preference": table.numbers(["preference"])[:, 0],
        }
    )
    for column in table.columns:
        if column not in frame.columns:
            frame[column] = table.cells(column)
    outside = np.flatnonzero((frame["preference"] < 0) | (frame["preference"] > 1))
    if len(outside):
        row = int(outside[0])
        raise UserError(
            f"{table.where(row, 'preference')}: {frame['preference'][row]:g} is not a share "
            "between 0 and 1"
        )
    photos_M2 = _check_photos(frame, table)
    # Repeated rows of a pair have equal weights, since the numbers of voters are unknown.
    preference_M = frame["preference"].to_numpy()
    return _merge(frame, photos_M2, preference_M, 1 - preference_M, "rows")


def _from_votes(
    table: tables.Table, photo_name: str, min_agreement: float, min_reviewers: int
) -> Preferences:
    check_pattern(photo_name)
    series_ids = canonical_series_ids(table.series("series_id")).tolist()
    frame = pd.DataFrame(
        {
            "series_id": series_ids,
            "image_a": vote_photos(table, "compareFile1", series_ids, photo_name),
            "image_b": vote_photos(table, "compareFile2", series_ids, photo_name),
        }
    )
    for name in table.columns:
        if name.endswith(_CATEGORY):
            frame[name] = table.cells(name)
    return _merged_votes(table, frame, ("LEFT", "RIGHT"), min_agreement, min_reviewers)


def _from_counts(table: tables.Table, min_agreement: float, min_reviewers: int) -> Preferences:
    """Merges and filters rows with the numbers of votes for each photo."""
    further = [c for c in table.columns if c not in (*CANONICAL_COLUMNS, *COUNT_COLUMNS, "votes")]
    frame = pd.DataFrame(
        {
            "series_id": canonical_series_ids(table.series("series_id")),
            "image_a": table.series("image_a"),
            "image_b": table.series("image_b"),
            "preference": 0.5,
        }
        | {c: table.cells(c) for c in further}
    )
    found = _merged_votes(table, frame, COUNT_COLUMNS, min_agreement, min_reviewers)
    if "preference" not in table.columns:
        return found
    note = (
        "preference is the share of votes (votes_a, votes_b); the column 'preference' is not read"
    )
    return Preferences(found.table, (note, *found.notes))


def _merged_votes(
    table: tables.Table,
    frame: pd.DataFrame,
    columns: tuple[str, str],
    min_agreement: float,
    min_reviewers: int,
) -> Preferences:
    """Merges rows with votes for each photo in two columns, and filters the pairs."""
    if not 0 <= min_agreement <= 1:
        raise UserError(f"--min_agreement={min_agreement:g} is not a share between 0 and 1")
    if min_reviewers < 1:
        raise UserError(f"--min_reviewers={min_reviewers}: a pair needs at least one vote")
    votes = table.numbers(columns)
    wrong = np.argwhere((votes < 0) | (votes > _MOST_VOTES) | (votes != np.floor(votes)))
    if len(wrong):
        row, column = (int(index) for index in wrong[0])
        raise UserError(
            f"{table.where(row, columns[column])}: {votes[row, column]:g} is not a number of votes"
        )
    photos_M2 = _check_photos(frame, table)

    merged, reviewers, merge_notes = _merge(frame, photos_M2, votes[:, 0], votes[:, 1], "vote rows")
    notes = list(merge_notes)
    agreement = np.maximum(merged["preference"], 1 - merged["preference"])
    # Shares such as 7/10 must not fall below 0.7 by rounding.
    kept = (reviewers >= min_reviewers) & (agreement >= min_agreement - 1e-9)
    if not kept.any():
        raise UserError(
            f"{table.path}: no pair has at least {counted(min_reviewers, 'vote')} and "
            f"{min_agreement:g} agreement; lower --min_reviewers or --min_agreement"
        )
    if not kept.all():
        fewer = f"fewer than {min_reviewers} votes" if min_reviewers > 1 else "no vote"
        below = f" or agreement below {min_agreement:g}" if min_agreement else ""
        notes.append(f"{int((~kept).sum()):,} of {len(kept):,} pairs left out: {fewer}{below}")
    merged["votes"] = reviewers.astype(int)
    return Preferences(merged[kept].reset_index(drop=True), tuple(notes))


def _check_photos(frame: pd.DataFrame, table: tables.Table) -> np.ndarray:
    """Checks that a pair has two photos and a photo one series (else a split would leak).

    Returns:
      Photo numbers of `image_a` and `image_b` of each row, int [rows, 2].
    """
    codes = pd.factorize(pd.concat([frame["image_a"], frame["image_b"]], ignore_index=True))[0]
    num_rows = len(frame)
    same = np.flatnonzero(codes[:num_rows] == codes[num_rows:])
    if len(same):
        raise UserError(
            f"{table.where(int(same[0]))}: photo '{frame['image_a'][same[0]]}' is compared with "
            "itself"
        )
    series = np.tile(pd.factorize(frame["series_id"])[0], 2)
    first = np.empty(codes.max() + 1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # reversed: the first occurrence stays
    differs = np.flatnonzero(series != series[first[codes]])
    if len(differs):
        here, there = int(differs[0]) % num_rows, int(first[codes[differs[0]]]) % num_rows
        photo = frame["image_a" if differs[0] < num_rows else "image_b"][here]
        raise UserError(
            f"{table.where(here)}: photo '{photo}' is in series "
            f"{frame['series_id'][here]} and, on {table.place(there)}, in series "
            f"{frame['series_id'][there]}; a photo belongs to one series"
        )
    return codes.reshape(2, -1).T


def _merge(
    frame: pd.DataFrame, photos_M2: np.ndarray, for_a: np.ndarray, for_b: np.ndarray, what: str
) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """Sums the rows of each pair; rows may name its photos in either order.

    Args:
      frame: `series_id`, `image_a`, `image_b` and further columns.
      photos_M2: photo numbers from `_check_photos`.
      for_a, for_b: votes or shares of each row for `image_a` and for `image_b`.
      what: noun for the rows in the notes.

    Returns:
      One row per pair, in the order and with the further columns of its first row, with its
      `preference` (one half without votes); the sum of each pair's votes or shares; notes on
      merges.
    """
    first = photos_M2[:, 0]
    pair = photos_M2.min(axis=1) * (photos_M2.max() + 1) + photos_M2.max(axis=1)
    group, _ = pd.factorize(pair)
    is_first = ~pd.Series(group).duplicated().to_numpy()
    flipped = first != first[is_first][group]
    toward_a, toward_b = np.where(flipped, [for_b, for_a], [for_a, for_b])
    votes_a = np.bincount(group, weights=toward_a)
    votes = votes_a + np.bincount(group, weights=toward_b)
    # A copy in either case: the caller's frame gets no column.
    merged = frame.copy(deep=False) if is_first.all() else frame[is_first].reset_index(drop=True)
    merged["preference"] = np.divide(votes_a, votes, out=np.full(len(votes), 0.5), where=votes > 0)
    says_a = np.bincount(group, weights=toward_a > toward_b) > 0
    says_b = np.bincount(group, weights=toward_a < toward_b) > 0
    if is_first.all():
        return merged, votes, ()
    note = (
        f"{len(frame):,} {what} merged to {len(merged):,} pairs; "
        f"{int((says_a & says_b).sum()):,} of them were given in contradictory directions"
    )
    return merged, votes, (note,)
