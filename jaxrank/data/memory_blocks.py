"""Converts objects in memory to blocks: data frames, and arrays with photo names."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxrank.data.feature_store import Block, Dtype, check_block
from jaxrank.errors import UserError

PHOTO_COLUMN = "image"


def block_of_frame(
    where: str, frame: pd.DataFrame, *, block: str, source: str = "", dtype: Dtype | None = None
) -> Block:
    """Converts a data frame to a block.

    The photo names are the column `image`, else an index of text, else the first column of text.
    Each other column is a numeric feature. Alternatively, a single other column holds lists of
    numbers, all of the same length, and the features are named BLOCK_0, BLOCK_1, ...

    Args:
      where: name of the frame in errors.
      block: the block's name.
      source, dtype: see `Block` and `check_block`.

    Raises:
      UserError: the frame has another form; the message names column and photo.
    """
    columns = list(map(str, frame.columns))
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise UserError(f"{where}: the column '{twice}' appears twice")
    photos, rest = _split_photos(where, frame.set_axis(columns, axis=1))
    refuse_series_ids(where, list(rest))
    lists = [name for name in rest if _holds_lists(rest[name])]
    for name in rest:
        if name not in lists and not pd.api.types.is_numeric_dtype(rest[name]):
            raise UserError(
                f"{where}, column '{name}': {rest[name].dtype} is not numbers; leave it out"
            )
    if not lists:
        values = rest.to_numpy()
        if values.dtype == object:  # nullable columns, or numbers mixed with booleans
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
    """Converts numbers [photos, columns] and photo names to a block.

    The columns are named BLOCK_0, BLOCK_1, ... unless `columns` names them.
    """
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
    """Raises UserError for a column `series_id`: ids would become a feature by mistake."""
    if "series_id" in columns:
        raise UserError(f"{where}: the column 'series_id' is not a feature; leave it out")


def _split_photos(where: str, frame: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """Separates the photo names from the other columns."""
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
    """Stacks lists of numbers as rows of an array."""
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
