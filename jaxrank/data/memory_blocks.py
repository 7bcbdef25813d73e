"""Blocks of numbers that are in memory: data frames, and arrays with names."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxrank.data.feature_store import Block, Dtype, check_block
from jaxrank.errors import UserError

PHOTO_COLUMN = "image"


def block_of_frame(
    where: str, frame: pd.DataFrame, *, block: str, source: str = "", dtype: Dtype | None = None
) -> Block:
    """A data frame as a block.

    The photos' names are the column `image`, else an index of text, else the first column of text.
    All other columns are numbers, a feature each; or one column holds lists of numbers, all of one
    length, and its features are called BLOCK_0, BLOCK_1, ...

    Args:
      where: what the frame is called in errors.
      block: the block's name.
      source, dtype: see `Block` and `check_block`.

    Raises:
      UserError: naming column and photo.
    """
    columns = list(map(str, frame.columns))
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise UserError(f"{where}: the column '{twice}' stands twice")
    photos, rest = _photos_apart(where, frame.set_axis(columns, axis=1))
    refuse_series_ids(where, list(rest))
    lists = [name for name in rest if _holds_lists(rest[name])]
    for name in rest:
        if name not in lists and not pd.api.types.is_numeric_dtype(rest[name]):
            raise UserError(
                f"{where}, column '{name}': {rest[name].dtype} is not numbers; leave it out"
            )
    if not lists:
        values = rest.to_numpy()
        if values.dtype == object:  # columns that may lack a value, or that mix numbers and truths
            values = rest.to_numpy(np.float64, na_value=np.nan)
        return check_block(where, Block(photos, list(rest), values, source), dtype)
    if len(rest.columns) > 1:
        other = next(name for name in rest if name != lists[0])
        raise UserError(
            f"{where}: column '{lists[0]}' holds lists, so it is the only one that is read; leave "
            f"'{other}' out"
        )
    values = _stacked(f"{where}, column '{lists[0]}'", photos, rest[lists[0]])
    return block_of_array(where, values, photos, block=block, source=source, dtype=dtype)


def block_of_array(
    where: str,
    values: np.ndarray,
    photos: Sequence[str],
    *,
    block: str,
    columns: Sequence[str] = (),
    source: str = "",
    dtype: Dtype | None = None,
) -> Block:
    """Numbers [photos, columns] and the photos' names as a block; its columns are BLOCK_0,
    BLOCK_1, ... unless `columns` names them."""
    refuse_other_shapes(where, values)
    width = values.shape[1]
    columns = list(columns) or [f"{block}_{i}" for i in range(width)]
    if len(columns) != width or "" in columns:
        raise UserError(
            f"{where}: --columns must give {width:,} names, not {','.join(columns)[:80]}"
        )
    return check_block(where, Block(list(photos), columns, values, source), dtype)


def refuse_other_shapes(where: str, values: np.ndarray) -> None:
    if values.ndim != 2:
        raise UserError(
            f"{where}: an array of shape {list(values.shape)}; a block has two dimensions, photos "
            "and columns"
        )


def refuse_series_ids(where: str, columns: Sequence[str]) -> None:
    """Numbers of series would be a feature, and in a table of features nobody means them so."""
    if "series_id" in columns:
        raise UserError(f"{where}: the column 'series_id' is no feature; leave it out")


def _photos_apart(where: str, frame: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """The photos' names, and the columns that do not hold them."""
    if frame.index.name == PHOTO_COLUMN and PHOTO_COLUMN not in frame:
        frame = frame.reset_index()
    texts = [name for name in frame if _is_text(frame[name])]
    if PHOTO_COLUMN in frame:
        chosen = PHOTO_COLUMN
    elif _is_text(frame.index.to_series()):
        return frame.index.tolist(), frame
    elif texts:
        chosen = texts[0]
    else:
        raise UserError(
            f"{where}: no photo names; they are the index, a column '{PHOTO_COLUMN}', or the first "
            "column of text"
        )
    missing = np.flatnonzero(frame[chosen].isna())
    if len(missing):
        raise UserError(f"{where}, row {missing[0] + 1}, column '{chosen}': the cell is empty")
    return frame[chosen].astype(str).tolist(), frame.drop(columns=chosen)


def _is_text(column: pd.Series) -> bool:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.categories.to_series()
    return pd.api.types.infer_dtype(column, skipna=True) == "string"


def _holds_lists(column: pd.Series) -> bool:
    return column.dtype == object and any(
        isinstance(cell, list | tuple | np.ndarray) for cell in column
    )


def _stacked(where: str, photos: list[str], column: pd.Series) -> np.ndarray:
    """Lists of numbers as rows of an array."""
    rows: list[np.ndarray] = []
    for photo, cell in zip(photos, column, strict=True):
        row = np.asarray(cell if isinstance(cell, list | tuple | np.ndarray) else ())
        if row.ndim != 1 or row.dtype.kind not in "fiub" or not len(row):
            raise UserError(f"{where}, photo '{photo}': not a list of numbers")
        if rows and len(row) != len(rows[0]):
            raise UserError(
                f"{where}, photo '{photo}': {len(row):,} numbers, but photo '{photos[0]}' has "
                f"{len(rows[0]):,}"
            )
        rows.append(row)
    return np.stack(rows)
