"""Names, hashes and numbers of many photos in a store, without a Python object for each photo.

All are sequences over memory-mapped shards, files of about a million photos.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow

_AT_ONCE = 1 << 14


class Names(Sequence[str]):
    """The names of photos in a pyarrow array.

    Attributes:
      key: hashes of the shards' files; equal keys mean the same names in the same order.
    """

    def __init__(self, names: "pyarrow.ChunkedArray", key: tuple[str, ...]):
        self.arrow, self.key = names, key

    def __len__(self) -> int:
        return len(self.arrow)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            start, end, step = place.indices(len(self))
            return self.arrow.slice(start, max(end - start, 0)).to_pylist()[::step]
        return self.arrow[int(place)].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self.arrow.slice(start, _AT_ONCE).to_pylist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self.key == other.key or bool(self.arrow.equals(other.arrow))
        return isinstance(other, list | tuple) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Digests(Sequence[str]):
    """SHA-256 of files, a sequence of 64 hexadecimal digits each, stored as bytes.

    Attributes:
      key: hashes of the shards' files; equal keys mean the same hashes in the same order.
    """

    def __init__(self, shards: Sequence[np.ndarray], key: tuple[str, ...]):
        self.rows, self.key = joined(shards), key

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return _hexadecimal(self.rows[place])
        return bytes(self.rows[int(place)]).hex()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            yield from _hexadecimal(self.rows[start : start + _AT_ONCE])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Digests) and self.key == other.key:
            return True
        return isinstance(other, list | tuple | Digests) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _hexadecimal(rows: np.ndarray) -> list[str]:
    text = np.ascontiguousarray(rows).tobytes().hex()
    return [text[place : place + 64] for place in range(0, len(text), 64)]


def digest_rows(sha256: Sequence[str]) -> np.ndarray:
    """Converts hexadecimal hashes to bytes, uint8 [photos, 32]."""
    if isinstance(sha256, Digests):
        return np.asarray(sha256.rows)
    return np.frombuffer(bytes.fromhex("".join(sha256)), np.uint8).reshape(-1, 32)


class LazyRows:
    """An array [rows, columns] whose rows are read or computed on access.

    It supports the array operations that callers use: shape, dtype, length, rows by number, slice
    or list, and `np.asarray`, which computes all rows.
    """

    ndim = 2

    def __init__(self, num_rows: int, num_columns: int, dtype: np.dtype):
        self.shape, self.dtype = (num_rows, num_columns), dtype

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows with the given numbers, which are not negative."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.take(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, tuple):
            return self[rows[0]][..., rows[1]]
        if isinstance(rows, slice):
            return self.take(np.arange(*rows.indices(len(self))))
        rows = np.asarray(rows)
        if rows.dtype == bool:
            return self.take(np.flatnonzero(rows))
        rows = np.where(rows < 0, rows + len(self), rows)
        return self.take(rows) if rows.ndim else self.take(rows[None])[0]


class ShardedRows(LazyRows):
    """Arrays concatenated by row, without a copy."""

    def __init__(self, shards: Sequence[np.ndarray]):
        self._shards = shards
        self._starts = np.cumsum([0, *map(len, shards)])
        super().__init__(int(self._starts[-1]), shards[0].shape[1], shards[0].dtype)

    def take(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        shard_of = np.searchsorted(self._starts, rows, "right") - 1
        for shard in np.unique(shard_of):
            here = shard_of == shard
            found[here] = self._shards[shard][rows[here] - self._starts[shard]]
        return found


class ComputedRows(LazyRows):
    """Float32 rows that a function computes from the row number."""

    def __init__(self, num_rows: int, num_columns: int, row: Callable[[int], np.ndarray]):
        super().__init__(num_rows, num_columns, np.dtype(np.float32))
        self._row = row

    def take(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        for place, row in enumerate(rows.tolist()):
            found[place] = self._row(row)
        return found


def joined(shards: Sequence[np.ndarray]) -> Any:
    """Concatenates arrays by row; a single array is returned unchanged."""
    return shards[0] if len(shards) == 1 else ShardedRows(shards)


def positions(names: Sequence[str], wanted: Any) -> np.ndarray:
    """Positions of the wanted names in `names`, int [wanted]; -1 for a missing name.

    Args:
      names: distinct names.
      wanted: a list, `Names`, or a pandas object of text.
    """
    if not isinstance(names, Names):
        return pd.Index(names).get_indexer(pd.Index(list(wanted)))
    import pyarrow.compute

    asked = as_arrow(wanted).cast(names.arrow.type)
    found = pyarrow.compute.index_in(asked, value_set=names.arrow.combine_chunks())
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False)).astype(np.int64)


def overlap(names: Names, others: Sequence[str]) -> bool:
    """Whether both sequences have a name in common; fast also if `names` has many more."""
    import pyarrow.compute

    value_set = as_arrow(others).cast(names.arrow.type)
    found = pyarrow.compute.is_in(names.arrow, value_set=value_set)
    return bool(pyarrow.compute.any(found).as_py())


def as_arrow(names: Any) -> "pyarrow.Array":
    """Converts names to one pyarrow array."""
    import pyarrow

    if isinstance(names, Names):
        return names.arrow.combine_chunks()
    found = pyarrow.array(names, from_pandas=True)
    return found.combine_chunks() if isinstance(found, pyarrow.ChunkedArray) else found
