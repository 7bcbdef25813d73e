"""Series ids: their canonical form, and tables with the series of each photo."""

import os
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from jaxrank.data.feature_store import SERIES_CSV
from jaxrank.io import tables

SERIES_COLUMNS = ("series_id", "image")
# A table with `series_id,image`, its file, or a feature store's folder, whose series.csv is read.
SeriesInput: TypeAlias = Path | str | pd.DataFrame | None


class SeriesTable(NamedTuple):
    """The series of each photo.

    Attributes:
      source: origin of the table, for notes and errors.
      series_of: series id by photo name.
    """

    source: str
    series_of: dict[str, str]


def canonical_series_id(text: str) -> str:
    """The id without the leading zeros of a number: `000012` and `12` are the same series."""
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else text


def canonical_series_ids(texts: pd.Series) -> pd.Series:
    """The canonical ids of a column's cells."""
    if not (texts.str.startswith("0") & (texts.str.len() > 1)).any():
        return texts
    codes, distinct = pd.factorize(texts)
    return pd.Series(np.array([canonical_series_id(text) for text in distinct], object)[codes])


def series_of_photos(table: tables.Table) -> pd.DataFrame:
    """Converts a table with `series_id,image` to a frame of these two columns, each photo once.

    Raises:
      UserError: the table has another form; the message names the place.
    """
    for column in SERIES_COLUMNS:
        if column not in table.columns:
            need = f"a series table has {','.join(SERIES_COLUMNS)} (a pair table serves too)"
            raise tables.missing_column(table.path, column, need, table.columns)
    photos = table.distinct_photos("image")
    ids = canonical_series_ids(table.series("series_id"))
    return pd.DataFrame({"series_id": ids, "image": photos})


def is_store(series: SeriesInput) -> bool:
    """Whether `series` is a store's folder, which need not have a series table."""
    return isinstance(series, Path | str) and os.path.isdir(series)


def read_series_table(series: SeriesInput) -> SeriesTable | None:
    """Reads a series table; returns None for None and for a folder without series.csv."""
    if series is None:
        return None
    if isinstance(series, pd.DataFrame):
        source, table = "series (data frame)", tables.frame_as_table("series (data frame)", series)
    else:
        path = Path(series) / SERIES_CSV if is_store(series) else Path(series)
        if is_store(series) and not os.path.isfile(path):
            return None
        source, table = str(path), tables.read_table(path)
    frame = series_of_photos(table)
    return SeriesTable(source, dict(zip(frame["image"], frame["series_id"], strict=True)))
