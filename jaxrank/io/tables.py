"""Tables in files: CSV, JSONL and parquet, read strictly as text; CSV, written safely.

CSV is read by the csv module, which provides the line of every row for errors. Unlike
pandas.read_csv, it never guesses a type, drops a column or fills a short row. Large plain files
are read by pyarrow, see `arrow_rows`.
"""

import csv
import difflib
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxrank.errors import UserError
from jaxrank.io import arrow_rows, atomic, reading
from jaxrank.io.table import FORMULA_STARTS, Table, unquoted

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Table", "unquoted"]


def nearest(column: str, columns: Sequence[str]) -> str | None:
    """The column of the most similar spelling; None without one, or if two are equally similar."""
    similar = difflib.get_close_matches(column, columns, n=2, cutoff=0.6)
    shares = [difflib.SequenceMatcher(a=one, b=column).ratio() for one in similar]
    return similar[0] if similar and shares[1:] != shares[:1] else None


def missing_column(
    where: object, column: str, need: str, columns: Sequence[str], *others: str
) -> UserError:
    """The error for a table that lacks a column, or several.

    Args:
      where: the table.
      column, others: names of the missing columns.
      need: describes a table that has all columns.
      columns: columns of the table.
    """
    missing = [column, *others]
    near = {name: nearest(name, columns) for name in missing}
    several = Counter(near.values())
    hints = [
        f"'{there}' as '{name}'"
        for name, there in near.items()
        if there is not None and several[there] == 1
    ]
    hint = f" Is {' and '.join(hints)} meant?" if others and hints else ""
    if not others and hints:
        hint = f" Is '{near[column]}' meant?"
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        hint = " The cells seem to be separated by ';' or tabs: save them with commas."
    has = ",".join(columns)[:200]
    *first, last = (f"'{name}'" for name in missing)
    are = f"columns {', '.join(first)} and {last} are" if others else f"column {last} is"
    return UserError(f"{where}: {are} missing; {need}, this one has {has}.{hint}")


def read_csv(path: Path | str) -> Table:
    """Reads a comma-separated file with a header line (UTF-8, with or without a byte order mark).

    Raises:
      UserError: the file is missing, empty or not text, it has duplicate columns, or a row has more
        or fewer cells than the header.
    """
    return parse_csv(Path(path), read_bytes(Path(path)))


def parse_csv(path: Path, data: bytes) -> Table:
    """Parses the bytes of a CSV file; see `read_csv`."""
    found = arrow_rows.parse(data)
    if found is not None:
        columns, rows = found
        _check_columns(path, columns)
        return Table(path, columns, rows, range(2, len(rows) + 2))
    return _parse_carefully(path, decoded(path, data))


def _parse_carefully(path: Path, text: str) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        columns = [cell.strip() for cell in next(reader, [])]
        for row in reader:
            if not row:
                continue  # a blank line, such as many editors add at the end
            if len(row) != len(columns):
                raise UserError(
                    f"{path}, line {reader.line_num} ('{row[0][:80]}'): {len(row)} cells, but the "
                    f"header has {len(columns)} columns"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
    _check_columns(path, columns)
    if not rows:
        raise UserError(f"{path}: the file has no rows below its header")
    return Table(path, columns, rows, lines)


def parse_blanks(path: Path, text: str, columns: Sequence[str]) -> Table:
    """Parses a text without a header whose cells are separated by blanks."""
    rows: list[list[str]] = []
    lines: list[int] = []
    for number, line in enumerate(text_lines(text), start=1):
        cells = line.split()
        if cells and len(cells) != len(columns):
            raise UserError(
                f"{path}, line {number}: {len(cells)} columns, not {len(columns)} separated by "
                f"blanks: {' '.join(columns)}"
            )
        if cells:
            rows.append(cells)
            lines.append(number)
    if not rows:
        raise UserError(f"{path}: the file has no rows")
    return Table(path, list(columns), rows, lines)


def read_jsonl(path: Path | str) -> Table:
    """Reads one JSON object per line; the keys of the first object are the columns.

    Every object has the same keys, in any order. Values are text, numbers, true or false, and
    numbers keep their spelling.

    Raises:
      UserError: the file has another form; the message names line and key.
    """
    path = Path(path)
    columns: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for number, line in enumerate(text_lines(read_text(path)), start=1):
        if not line.strip():
            continue
        cells = _parse_object(f"{path}, line {number}", line)
        columns = columns or list(cells)
        for key in columns:
            if key not in cells:
                raise UserError(
                    f"{path}, line {number}: the key '{key[:80]}' is missing; every object needs "
                    "the keys of the first one"
                )
        for key in cells:
            if key not in columns:
                raise UserError(
                    f"{path}, line {number}: the key '{key[:80]}' is new; every object needs the "
                    "keys of the first one and no others"
                )
        rows.append([cells[key] for key in columns])
        lines.append(number)
    if not rows:
        raise UserError(f"{path}: the file has no rows")
    return Table(path, columns, rows, lines)


# Names of invalid values by their type in `_parse_object`, where numbers stay text and objects are
# tuples.
_NO_CELLS = {float: "NaN or Infinity", list: "a list", tuple: "an object"}


def _parse_object(where: str, line: str) -> dict[str, str]:
    try:
        found = json.loads(
            line, parse_int=str, parse_float=str, parse_constant=float, object_pairs_hook=tuple
        )
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: not valid JSON ({error.msg}, column {error.colno}); JSONL has one object a "
            "line"
        ) from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply; the values are text or numbers") from None
    if not isinstance(found, tuple) or not found:
        raise UserError(f"{where}: not a JSON object with keys; JSONL has one object a line")
    cells: dict[str, str] = {}
    for key, value in found:
        if key in cells:
            raise UserError(f"{where}: the key '{key[:80]}' appears twice")
        if isinstance(value, bool):
            value = str(value).lower()
        if not isinstance(value, str):
            kind = _NO_CELLS.get(type(value), "null")
            raise UserError(f"{where}, key '{key[:80]}': {kind} is neither text nor a number")
        if not (is_text(key) and is_text(value)):  # escapes can encode invalid text
            raise UserError(f"{where}, key {key[:80]!a}: {value[:40]!a} is not text")
        cells[key] = value
    return cells


def read_parquet(path: Path | str) -> Table:
    """Reads a parquet file; a null is an empty cell, and numbers keep all digits.

    Raises:
      UserError: a column is neither text nor numbers, dates or booleans; the message names the
        column.
    """
    import pyarrow

    path = Path(path)
    found = read_arrow(path)
    columns = [str(name) for name in found.column_names]
    cells = []
    for name, column in zip(columns, found.columns, strict=True):
        try:
            if pyarrow.types.is_floating(column.type):
                column = column.cast(pyarrow.float64())  # then the text has all digits
            texts = ["" if v is None else v for v in column.cast(pyarrow.string()).to_pylist()]
        except Exception as error:
            raise UserError(
                f"{path}, column '{name[:80]}' ({str(column.type)[:80]}): not text or numbers "
                f"({reason(error)}); leave it out or convert it"
            ) from None
        for row, text in enumerate(texts, start=1):
            if not is_text(text):
                raise UserError(
                    f"{path}, row {row}, column '{name[:80]}': {text[:40]!a} is not text"
                )
        cells.append(texts)
    rows = [list(row) for row in zip(*cells, strict=True)]
    if not rows:
        raise UserError(f"{path}: the file has no rows")
    return Table(path, columns, rows, list(range(1, len(rows) + 1)), unit="row")


def read_arrow(path: Path | str, columns: Sequence[str] | None = None) -> "pyarrow.Table":
    """Reads columns of a parquet file with their types.

    Args:
      path: path of the file.
      columns: columns to read, by default all; missing columns are ignored. The rest of the file,
        which may hold images, is not read.

    Raises:
      UserError: the file can't be read, or two columns have one name.
    """
    import pyarrow.parquet  # takes 0.1 s, for which no other command should wait

    path = Path(path)
    if columns is None:
        source: object = pyarrow.BufferReader(read_bytes(path))
    else:
        try:
            reading.check_file(path)
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
        source = str(path)
    try:
        with pyarrow.parquet.ParquetFile(source, page_checksum_verification=True) as file:
            found = file.read(columns)
        found.validate(full=True)  # else invalid text fails only where it is used
        names = [str(name) for name in found.column_names]
    except Exception as error:  # damaged bytes raise many exception types
        raise UserError(f"{path}: not a readable parquet file ({reason(error)})") from None
    _check_columns(path, names)
    return found


def frame_as_table(where: str, frame: pd.DataFrame) -> Table:
    """Converts a data frame to a table of text; a missing value is an empty cell.

    Raises:
      UserError: the data frame has no rows, or two columns have one name.
    """
    if frame.empty:
        raise UserError(f"{where}: the data frame has no rows")
    columns = list(map(str, frame.columns))
    _check_columns(Path(where), columns)
    rows = frame.astype(object).where(frame.notna(), "").astype(str).values.tolist()
    return Table(Path(where), columns, rows, list(range(1, len(frame) + 1)), unit="row")


# Readers by suffix; any other file is text.
READERS = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".parquet": read_parquet}


def read_table(path: Path | str) -> Table:
    """Reads .jsonl and .ndjson as JSONL, .parquet as parquet, any other file as CSV.

    Raises:
      UserError: the file is not such a table; the message is one line.
    """
    return READERS.get(Path(path).suffix.lower(), read_csv)(path)


def is_text(text: str) -> bool:
    """Whether a text file could hold the text: no zero bytes, no lone surrogates."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _check_columns(path: Path, columns: list[str]) -> None:
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise UserError(f"{path}: the column '{twice}' appears twice")


def text_lines(text: str) -> io.StringIO:
    """The lines of a text with the line ends of any system."""
    return io.StringIO(text, newline=None)


def read_text(path: Path | str) -> str:
    """Reads a UTF-8 file, with or without a byte order mark.

    Raises:
      UserError: the file can't be read, is empty, or is not text.
    """
    return decoded(Path(path), read_bytes(Path(path)))


def decoded(path: Path, data: bytes) -> str:
    """Decodes the bytes of a file; see `read_text`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {data[error.start]:#04x} at offset {error.start}); "
            "save it as UTF-8"
        ) from None
    if "\0" in text:
        raise UserError(f"{path}: not a text file (it holds zero bytes)")
    return text


def first_line(data: bytes) -> str:
    """The first line of a file that is not blank, without surrounding blanks."""
    start = data[: 1 << 16].decode("utf-8-sig", "replace")
    return next((line.strip() for line in text_lines(start) if line.strip()), "")


def reason(error: Exception) -> str:
    """The first line of a library's error message, shortened for a one-line message."""
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0][:100] if text else type(error).__name__


def read_bytes(path: Path) -> bytes:
    """Reads the bytes of a text file.

    Raises:
      UserError: the file can't be read or is empty.
    """
    try:
        data = reading.read_whole(path, reading.TEXT, pipes=True)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    if not data.strip():
        raise UserError(f"{path}: the file is empty")
    return data


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file as a whole or not at all; text never starts a spreadsheet formula.

    Floats are written with the shortest digits that read back as the same number; None and NaN
    are empty cells.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    writer.writerows([_cell(value) for value in row] for row in rows)
    atomic.write_text(path, text.getvalue())


def safe_text(text: str) -> str:
    """The text of a cell in a form that no spreadsheet runs as a formula."""
    return "'" + text if text.startswith(FORMULA_STARTS) else text


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return "'" + value if value.startswith(FORMULA_STARTS) else value
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else repr(float(value))
    return value


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Writes a data frame as CSV; see `write_csv`."""
    cells = frame.astype(object).where(frame.notna(), None)
    write_csv(path, list(frame.columns), cells.itertuples(index=False))
