"""Reads large CSV files with pyarrow, by column and without a Python object for each cell.

Only files that pyarrow and the csv module read identically are read this way. For all others
`parse` returns None; `tables` then reads the file with the csv module and names the line of errors.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow

# The csv module reads smaller files in the time that the import of pyarrow takes.
LEAST_BYTES = 1 << 20
_ROWS_AT_ONCE = 10_000
_MOST_AT_ONCE = 1 << 30


class ArrowRows(Sequence[list[str]]):
    """The rows of a table that is stored by column; a row is made on access."""

    def __init__(self, columns: Sequence["pyarrow.Array"]):
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns[0])

    @overload
    def __getitem__(self, row: int) -> list[str]: ...
    @overload
    def __getitem__(self, row: slice) -> list[list[str]]: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return [column[int(row)].as_py() for column in self._columns]

    def __iter__(self) -> Iterator[list[str]]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            part = (c.slice(start, _ROWS_AT_ONCE).to_pylist() for c in self._columns)
            yield from map(list, zip(*part, strict=True))

    def take(self, rows: Sequence[int]) -> "ArrowRows":
        """Some of the rows."""
        return ArrowRows([column.take(np.asarray(rows, np.int64)) for column in self._columns])

    def distinct(self, column: int) -> tuple[list[str], np.ndarray]:
        """The distinct texts of a column, and the index of each cell's text, int [rows].

        The texts are in the order of their first cells.
        """
        encoded = self._columns[column].dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)

    def plain_series(self, column: int) -> pd.Series | None:
        """A column as text, without a Python object for each cell; None if a cell is not plain.

        Each plain cell begins and ends with a visible ASCII character other than an apostrophe.
        """
        texts = self._columns[column]
        validity, offsets, letters = texts.buffers()
        ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
        if validity is not None or not (ends[1:] > ends[:-1]).all():
            return None
        byte = np.frombuffer(letters, np.uint8)
        first, last = byte[ends[:-1]], byte[ends[1:] - 1]
        for letter in (first, last):
            if not ((letter > ord(" ")) & (letter < 127) & (letter != ord("'"))).all():
                return None
        return texts.to_pandas()

    def floats(self, column: int) -> np.ndarray | None:
        """A column as float64 [rows], rounded like Python's `float`.

        Returns None if pyarrow does not read some cell as a number.
        """
        import pyarrow

        try:
            values = self._columns[column].cast(pyarrow.float64())
        except pyarrow.ArrowInvalid:
            return None
        return np.asarray(values.to_numpy(zero_copy_only=False))


def parse(data: bytes) -> tuple[list[str], ArrowRows] | None:
    """The header and the rows of a CSV file; None if the file is small or not plain.

    A plain file has no quotes, zero bytes, blank lines or lone carriage returns, and all its rows
    have as many cells as the header. So its header is line 1, and row i is line i + 2.
    """
    if len(data) < LEAST_BYTES:
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b'"' in data or b"\0" in data or data.count(b"\r") != data.count(b"\r\n"):
        return None
    num_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    header_end = data.find(b"\n")
    try:
        header = data[:header_end].decode("utf-8").rstrip("\r").split(",")
    except UnicodeDecodeError:
        return None
    columns = _columns(data, header_end + 1, len(header))
    if columns is None or len(columns[0]) != num_lines - 1:
        return None
    return [cell.strip() for cell in header], ArrowRows(columns)


def _columns(data: bytes, start: int, number: int) -> list["pyarrow.Array"] | None:
    import pyarrow
    import pyarrow.compute
    import pyarrow.csv

    names = [f"f{i}" for i in range(number)]
    try:
        found = pyarrow.csv.read_csv(
            pyarrow.BufferReader(pyarrow.py_buffer(data).slice(start)),
            read_options=pyarrow.csv.ReadOptions(
                column_names=names,
                use_threads=False,
                block_size=min(len(data) + 1, _MOST_AT_ONCE),  # one piece needs no copy
            ),
            parse_options=pyarrow.csv.ParseOptions(quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False
            ),
        )
    except pyarrow.ArrowInvalid:  # a row of another width, or not UTF-8
        return None
    if not found.num_rows:
        return None
    # The csv module refuses longer cells.
    longest = max(pyarrow.compute.max(pyarrow.compute.binary_length(c)).as_py() for c in found)
    if longest > csv.field_size_limit():
        return None
    try:
        return [column.combine_chunks() for column in found.columns]
    except pyarrow.ArrowInvalid:  # 2 GiB of text in one column
        return None
