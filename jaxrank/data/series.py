"""Series tables: which photo belongs to which series."""

import os
from pathlib import Path

import pandas as pd

from jaxrank.data import preferences
from jaxrank.errors import UserError
from jaxrank.io import tables

_SERIES_COLUMNS = ("series_id", "image")


def read_series(path: Path | str) -> pd.DataFrame:
    """Which photo belongs to which series: a table with `series_id,image`, or any that
    `preferences.read_preferences` reads."""
    if os.path.isdir(path):
        return series_of_pairs(preferences.read_preferences(path).table)
    table = tables.read_table(path)
    columns = set(table.columns)
    if "image" not in columns:
        if set(preferences.VOTE_COLUMNS) <= columns:  # all its photos, also of pairs with few votes
            return series_of_pairs(
                preferences.read_preferences(path, min_agreement=0, min_reviewers=1).table
            )
        # A pair list has no header: read as CSV, it has one column.
        if set(preferences.CANONICAL_COLUMNS) <= columns or len(columns) == 1:
            return series_of_pairs(preferences.read_preferences(path).table)
    return _checked_series(table)


def series_from_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """As `read_series`, of a table that is in memory."""
    if frame.empty:
        raise UserError("series: the data frame has no rows")
    if "image" not in frame.columns and set(preferences.CANONICAL_COLUMNS) <= set(frame.columns):
        return series_of_pairs(preferences.from_frame(frame).table)
    rows = frame.astype(object).where(frame.notna(), "").astype(str).values.tolist()
    lines = list(range(1, len(frame) + 1))
    where, columns = Path("series (data frame)"), list(map(str, frame.columns))
    return _checked_series(tables.Table(where, columns, rows, lines, unit="row"))


def _checked_series(table: tables.Table) -> pd.DataFrame:
    for column in _SERIES_COLUMNS:
        if column not in table.columns:
            need = f"a series table has {','.join(_SERIES_COLUMNS)} (a pair table serves too)"
            raise tables.missing_column(table.path, column, need, table.columns)
    photos = table.distinct_photos("image")
    ids = [preferences.canonical_series_id(text) for text in table.texts("series_id")]
    return pd.DataFrame({"series_id": ids, "image": photos})


def series_of_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """The photos of a pair table by series, in the order of their first pair."""
    long = table.melt("series_id", ["image_a", "image_b"], value_name="image", ignore_index=False)
    return long.sort_index(kind="stable")[["series_id", "image"]].drop_duplicates()
