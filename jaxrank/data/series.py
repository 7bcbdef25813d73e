"""Series tables: which photo belongs to which series."""

import os
from pathlib import Path

import pandas as pd

from jaxrank.data import preferences
from jaxrank.data.preference_tables import recognises
from jaxrank.data.series_ids import series_of_photos
from jaxrank.io import tables


def read_series(path: Path | str) -> pd.DataFrame:
    """Reads the series of photos.

    Args:
      path: a table with `series_id,image`, or any table of `preferences.read_preferences`.

    Returns:
      A frame `series_id,image`, each photo once.
    """
    if os.path.isdir(path):
        return series_of_pairs(preferences.read_preferences(path).table)
    table = tables.read_table(path)
    # A pair list has no header: read as CSV, it has one column.
    if "image" not in table.columns and (recognises(table.columns) or len(table.columns) == 1):
        # All photos count, also those of pairs with few votes.
        return series_of_pairs(preferences.read_all_votes(path).table)
    return series_of_photos(table)


def series_from_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Reads the series of photos from a data frame; see `read_series`."""
    table = tables.frame_as_table("series (data frame)", frame)
    if "image" not in table.columns and recognises(table.columns):
        return series_of_pairs(preferences.from_frame(frame).table)
    return series_of_photos(table)


def series_of_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """The photos of a pair table by series, in the order of their first pair."""
    long = table.melt("series_id", ["image_a", "image_b"], value_name="image", ignore_index=False)
    return long.sort_index(kind="stable")[["series_id", "image"]].drop_duplicates()
