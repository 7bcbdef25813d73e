"""Large CSV files, read by pyarrow: column by column, and no Python object for each cell.

Only files that pyarrow and the csv module read alike are read so. For all others `parse` returns
None, and the careful reader of `tables`, which names the line of an error, has the word.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow

# Smaller files are read by the csv module as fast as pyarrow is imported.
LEAST_BYTES = 1 << 20
_ROWS_AT_ONCE = 10_000
_MOST_AT_ONCE = 1 << 30


class ArrowRows(Sequence[list[str]]):
    """The rows of a table that is kept as columns; a row is made when it is asked for."""

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
        """The texts of a column, each once in the order of their first cells, and which of them
        each cell is, int [rows]."""
        encoded = self._columns[column].dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)

    def plain_series(self, column: int) -> pd.Series | None:
        """A column as text, without a Python object for each cell; None where a cell is empty, or
        begins or ends with anything but a visible ASCII letter, or with an apostrophe."""
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
        """A column as numbers, float64 [rows], the nearest ones as Python's `float` finds them;
        None where some cell is no number that pyarrow knows."""
        import pyarrow

        try:
            values = self._columns[column].cast(pyarrow.float64())
        except pyarrow.ArrowInvalid:
            return None
        return np.asarray(values.to_numpy(zero_copy_only=False))


def parse(data: bytes) -> tuple[list[str], ArrowRows] | None:
    """The header and the rows of a CSV file whose header is line 1 and whose row i is line i + 2;
    None where the file is small, or not as plain as that.

    Plain is a file without quotes, blank lines and lone carriage returns, all of whose rows have as
    many cells as the header.
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
    except pyarrow.ArrowInvalid:  # a row of another width, or no UTF-8
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
