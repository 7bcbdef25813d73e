"""Converts ratings, picks, winners and choices to pairs.

A hash of the names decides which photo of a pair is `image_a`, independently of the preference.
In a table's own order, falling ratings or a winner that is always first would make the baseline
`position` look good. Only choices keep their sides, which do not follow from the winner.
"""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jaxrank.data.preference_tables import CHOICES, KINDS, PAIRS, VOTES, WINNERS, counted
from jaxrank.data.series_ids import canonical_series_ids
from jaxrank.errors import UserError
from jaxrank.io import tables

# Limit of pairs made from ratings or picks: with more, `series_id` is probably wrong.
MOST_PAIRS = 10_000_000
_PICKED = {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0}


def winners_as_pairs(table: tables.Table) -> tables.Table:
    """Converts rows `series_id,winner,loser` to pairs, one vote each; further columns are kept."""
    winners, losers = table.texts("winner"), table.texts("loser")
    order = {photo: _hash(photo) for photo in {*winners, *losers}}
    pairs = [
        [winner, loser, "1"] if order[winner] < order[loser] else [loser, winner, "0"]
        for winner, loser in zip(winners, losers, strict=True)
    ]
    return _one_vote_each(table, WINNERS, pairs)


def choices_as_pairs(table: tables.Table) -> tables.Table:
    """Converts rows `series_id,left,right,winner` to pairs, one vote each, the left photo first.

    The winner is a photo's name, 'left', 'right' or 'tie'. Sides are kept: that the left photo wins
    too often can then be seen.
    """
    pairs = []
    sides = zip(table.texts("left"), table.texts("right"), table.cells("winner"), strict=True)
    for row, (left, right, cell) in enumerate(sides):
        shares = {"tie": "0.5", "left": "1", "right": "0", left: "1", right: "0"}
        winner = cell.strip()
        if winner not in shares:
            raise UserError(
                f"{table.where(row, 'winner')}: {winner[:40]!r} is neither '{left}' nor '{right}' "
                "(nor left, right or tie)"
            )
        pairs.append([left, right, shares[winner]])
    return _one_vote_each(table, CHOICES, pairs)


def _one_vote_each(table: tables.Table, kind: str, pairs: Sequence[list[str]]) -> tables.Table:
    """The table with `pairs` in place of the columns of its kind."""
    if "votes" in table.columns:
        raise UserError(
            f"{table.path}: a row {','.join(KINDS[kind].columns)} is one vote, so a column 'votes' "
            f"is not read; leave it out, or give votes as {','.join(KINDS[VOTES].columns)}"
        )
    dropped = {*KINDS[kind].columns, *KINDS[PAIRS].columns}
    places = [place for place, name in enumerate(table.columns) if name not in dropped]
    return table._replace(
        columns=[*KINDS[PAIRS].columns, *(table.columns[place] for place in places)],
        rows=[
            [*pair, *(row[place] for place in places)]
            for pair, row in zip(pairs, table.rows, strict=True)
        ],
    )


def pairs_of_ratings(table: tables.Table) -> tuple[pd.DataFrame, list[str]]:
    """Makes a pair of every two photos of a series with different ratings; the higher rating wins.

    Returns:
      A frame `series_id,image_a,image_b,preference`, each pair once, and notes with the counts.
    """
    rated = table.take([i for i, cell in enumerate(table.cells("rating")) if cell.strip()])
    if not rated.rows:
        raise UserError(f"{table.where(0, 'rating')}: no photo has a rating")
    table.distinct_photos("image")
    ratings = rated.numbers(["rating"], named_by="image")[:, 0]
    photos, ids = _photos_and_series(rated)
    frame = pairs_by_strength(table.path, photos, ids, ratings)
    _refuse_none(table.path, frame)
    sizes = ids.value_counts()
    equal = int((sizes * (sizes - 1) // 2).sum()) - len(frame)
    notes = [
        f"{counted(len(ratings), 'rating')} in {len(sizes):,} series read as "
        f"{counted(len(frame), 'pair')}: the higher rating wins"
    ]
    if equal:
        notes.append(f"equal ratings make no pair: {equal:,} left out")
    if len(rated.rows) < len(table.rows):
        missing = len(table.rows) - len(rated.rows)
        notes.append(f"{counted(missing, 'photo')} without a rating left out")
    return frame, notes + _without_pair(ids, frame, "one rated photo, or equal ratings")


def pairs_of_picks(table: tables.Table) -> tuple[pd.DataFrame, list[str]]:
    """Makes a pair of every picked photo and every photo of its series that was not picked.

    Returns:
      A frame and notes, see `pairs_of_ratings`.
    """
    cells = [cell.strip().lower() for cell in table.cells("pick")]
    for row, cell in enumerate(cells):
        if cell not in _PICKED:
            raise UserError(
                f"{table.where(row, 'pick')}: {table.cells('pick')[row][:40]!r} is neither 1 nor 0 "
                "(true, false)"
            )
    table.distinct_photos("image")
    picked = np.array([_PICKED[cell] for cell in cells])
    photos, ids = _photos_and_series(table)
    frame = pairs_by_strength(table.path, photos, ids, picked)
    _refuse_none(table.path, frame)
    notes = [
        f"{counted(int(picked.sum()), 'pick')} among {counted(len(picked), 'photo')} in "
        f"{ids.nunique():,} series read as {counted(len(frame), 'pair')}: a pick beats every photo "
        "of its series that was not picked"
    ]
    return frame, notes + _without_pair(ids, frame, "no pick, or nothing but picks")


def _photos_and_series(table: tables.Table) -> tuple[list[str], pd.Series]:
    return table.texts("image"), canonical_series_ids(table.series("series_id")).astype(object)


def pairs_by_strength(
    path: Path, photos: Sequence[str], ids: pd.Series, strength_N: np.ndarray
) -> pd.DataFrame:
    """Makes a pair of every two photos of a series with different strengths; the higher one wins.

    Args:
      path: source of the photos, for errors.
      photos: names of the N photos.
      ids: series ids of the N photos.
      strength_N: strengths of the photos, float [N].

    Returns:
      A frame `series_id,image_a,image_b,preference`, each pair once. A hash of the names decides
      which photo is `image_a`.

    Raises:
      UserError: there would be more than MOST_PAIRS pairs.
    """
    series_N, names = pd.factorize(ids)
    _check_number(path, series_N, names, strength_N)
    order_N = np.lexsort((np.array([_hash(photo) for photo in photos]), series_N))
    bounds = np.searchsorted(series_N[order_N], np.arange(len(names) + 1))
    rows = [np.empty((2, 0), np.intp)]
    for start, end in itertools.pairwise(bounds):
        a, b = np.triu_indices(end - start, 1)
        pair_rows = order_N[start:end][np.stack([a, b])]
        rows.append(pair_rows[:, strength_N[pair_rows[0]] != strength_N[pair_rows[1]]])
    rows_a, rows_b = np.concatenate(rows, axis=1)
    named = np.array(photos, object)
    return pd.DataFrame(
        {
            "series_id": ids.to_numpy()[rows_a],
            "image_a": named[rows_a],
            "image_b": named[rows_b],
            "preference": (strength_N[rows_a] > strength_N[rows_b]).astype(np.float64),
        }
    )


def _check_number(
    path: Path, series_N: np.ndarray, names: pd.Index, strength_N: np.ndarray
) -> None:
    """Raises UserError if there would be more than MOST_PAIRS pairs."""
    size_S = np.bincount(series_N).astype(np.float64)
    # All pairs of a series are counted: they are all made before equal ones are dropped.
    if np.sum(size_S * (size_S - 1)) / 2 > MOST_PAIRS:
        largest = int(np.argmax(size_S))
        raise UserError(
            f"{path}: {counted(len(series_N), 'photo')} in {len(names):,} series make more "
            f"than {MOST_PAIRS:,} pairs; series '{names[largest]}' has {int(size_S[largest]):,} "
            "photos: is series_id right?"
        )


def _refuse_none(path: Path, frame: pd.DataFrame) -> None:
    if frame.empty:
        raise UserError(
            f"{path}: no series has two photos that are rated or picked differently, so "
            "there is no pair"
        )


def _without_pair(ids: pd.Series, frame: pd.DataFrame, why: str) -> list[str]:
    having = set(frame["series_id"])
    without = [name for name in ids.unique() if name not in having]
    if not without:
        return []
    return [f"{len(without):,} series without a pair ({why}), such as '{without[0]}'"]


def _hash(photo: str) -> bytes:
    return hashlib.sha256(photo.encode("utf-8", "surrogatepass")).digest()
