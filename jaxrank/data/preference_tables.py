"""The kinds of preference table, and the series of their rows.

KINDS lists all kinds: a table is of the kind whose columns it has. Every kind also has `series_id`,
or takes it from a series table (except votes).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data.series_ids import (
    SeriesInput,
    SeriesTable,
    is_store,
    read_series_table,
)
from jaxrank.errors import UserError
from jaxrank.io import tables

PAIRS, VOTES, RATINGS, PICKS, WINNERS = "pairs", "votes", "ratings", "picks", "winners"
CHOICES = "choices"
VOTE_COUNTS = "vote counts"


class Kind(NamedTuple):
    """A kind of preference table.

    Attributes:
      columns: columns that identify the kind.
      photos: the columns among them that hold photo names.
    """

    columns: tuple[str, ...]
    photos: tuple[str, ...]


# A table of PAIRS, VOTE_COUNTS or VOTES may have further columns, also those of another kind.
KINDS = {
    PAIRS: Kind(("image_a", "image_b", "preference"), ("image_a", "image_b")),
    VOTE_COUNTS: Kind(("image_a", "image_b", "votes_a", "votes_b"), ("image_a", "image_b")),
    VOTES: Kind(
        ("series_id", "compareFile1", "compareFile2", "LEFT", "RIGHT"),
        ("compareFile1", "compareFile2"),
    ),
    RATINGS: Kind(("image", "rating"), ("image",)),
    PICKS: Kind(("image", "pick"), ("image",)),
    WINNERS: Kind(("winner", "loser"), ("winner", "loser")),
    CHOICES: Kind(("left", "right", "winner"), ("left", "right")),
}


def recognises(columns: Sequence[str]) -> list[str]:
    """The kinds whose columns are all among `columns`."""
    return [name for name, kind in KINDS.items() if set(kind.columns) <= set(columns)]


def kind_of(table: tables.Table) -> str:
    """The kind of a table.

    Raises:
      UserError: the table is of no kind, or of two kinds that may contradict each other.
    """
    kinds = recognises(table.columns)
    if not kinds:
        (first, *others), need = _missing(table.columns)
        raise tables.missing_column(table.path, first, need, table.columns, *others)
    if VOTE_COUNTS in kinds:  # votes hold more information than a preference column
        return VOTE_COUNTS
    if len(kinds) > 1 and kinds[0] not in (PAIRS, VOTES):
        both = " and ".join(f"{kind} ({','.join(KINDS[kind].columns)})" for kind in kinds)
        raise UserError(f"{table.path}: can be read as {both}; leave the columns of one out")
    return kinds[0]


def _missing(columns: Sequence[str]) -> tuple[list[str], str]:
    """The missing columns of the most similar kind, and a list of all kinds for the error."""

    def likeness(kind: Kind) -> tuple[float, float]:
        there = [column in columns for column in kind.columns]
        near = [tables.nearest(column, columns) is not None for column in kind.columns]
        return sum(there) / len(there), sum(near) / len(near)

    likeliest = max(KINDS.values(), key=likeness)
    known = ", ".join(
        f"{name} ({','.join(dict.fromkeys(('series_id', *kind.columns)))})"
        for name, kind in KINDS.items()
    )
    return [c for c in likeliest.columns if c not in columns], f"known tables are {known}"


def with_series_ids(
    table: tables.Table, kind: str, series: SeriesInput
) -> tuple[tables.Table, list[str]]:
    """Adds the column `series_id` if it is missing; returns the table and notes on omitted rows.

    Args:
      table: a table of any kind but VOTES.
      kind: the table's kind.
      series: a series table. A store's folder is ignored if the table has `series_id`.
    """
    if "series_id" in table.columns:
        if series is not None and not is_store(series):
            raise UserError(
                f"--series is for tables without series_id, but {table.path} has that column"
            )
        return table, []
    images = [table.texts(column) for column in KINDS[kind].photos]
    found = read_series_table(series)
    if found is None and kind == WINNERS:
        return _with_components(table, *images)
    if found is None:
        nowhere = f" (there is no series.csv in {series})" if is_store(series) else ""
        need = f"add it, or give --series=FILE with series_id,image{nowhere}"
        raise tables.missing_column(table.path, "series_id", need, table.columns)
    return _with_table(table, images, found)


def _with_table(
    table: tables.Table, images: Sequence[Sequence[str]], found: SeriesTable
) -> tuple[tables.Table, list[str]]:
    """Keeps the rows whose photos are of one series; `images` has a list for each photo column."""
    ids = [{found.series_of.get(photo) for photo in row} for row in zip(*images, strict=True)]
    kept = [i for i, of_row in enumerate(ids) if len(of_row) == 1 and None not in of_row]
    of_known = [i for i, of_row in enumerate(ids) if None not in of_row]
    if not kept:
        raise UserError(
            f"{table.path}: no row has its photos in one series of {found.source}: the rows name "
            f"photos such as '{images[0][0]}', the series such as '{next(iter(found.series_of))}'"
        )
    notes = [f"series_id is from {found.source}"]
    for number, why in (
        (len(ids) - len(of_known), "a photo is in no series there"),
        (len(of_known) - len(kept), "its photos are of two series"),
    ):
        if number:
            notes.append(f"{counted(number, 'row')} of {len(ids):,} left out: {why}")
    return table.take(kept).with_column("series_id", [ids[i].pop() or "" for i in kept]), notes


def _with_components(
    table: tables.Table, winners: list[str], losers: list[str]
) -> tuple[tables.Table, list[str]]:
    """Makes a series of each connected component of the graph of comparisons."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes, photos = pd.factorize(np.array(winners + losers, object), sort=True)
    ends = codes.reshape(2, -1)
    graph = coo_array((np.ones(len(winners), np.int8), tuple(ends)), shape=(len(photos),) * 2)
    number, component_N = connected_components(graph, directed=False)
    # Named after the first of its photos, so that other comparisons do not rename a series.
    first = np.unique(component_N, return_index=True)[1]
    ids = [f"series of {photos[first[component]]}" for component in component_N[ends[0]]]
    note = (
        f"no series_id: photos that comparisons join are taken for one series, "
        f"{number:,} in all; series of one scene that were never compared count as two"
    )
    return table.with_column("series_id", ids), [note]


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
