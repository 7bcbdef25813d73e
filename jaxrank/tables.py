"""CSV files, read strictly and written safely.

The csv module rather than pandas.read_csv: it knows the line of every row, so that an error can
name it, and it never guesses a type, drops a column or fills a short row.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrank import files
from jaxrank.errors import UserError

# A cell that begins with one of these is run as a formula by spreadsheet programs
# (OWASP, "CSV Injection"); a leading apostrophe makes it text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Table(NamedTuple):
    """A CSV file as text: `rows[i]` has one cell per column and ends on line `lines[i]`."""

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]

    def where(self, row: int, column: str | None = None) -> str:
        place = f"{self.path}, line {self.lines[row]}"
        return place if column is None else f"{place}, column '{column}'"

    def texts(self, column: str) -> list[str]:
        """The cells of a column without surrounding blanks; an empty cell is an error."""
        index = self.columns.index(column)
        cells = [row[index].strip() for row in self.rows]
        if "" in cells:
            raise UserError(f"{self.where(cells.index(''), column)}: the cell is empty")
        return cells

    def numbers(self, columns: Sequence[str], *, named_by: str | None = None) -> np.ndarray:
        """The cells of the columns as finite numbers, float64 [rows, columns].

        An error names line, column and, where `named_by` is a column, the row's name in it.
        """
        place = {column: i for i, column in enumerate(self.columns)}
        indices = [place[column] for column in columns]
        try:
            values = np.array([_floats([row[i] for i in indices]) for row in self.rows])
        except ValueError:
            values = None
        if values is not None and np.isfinite(values).all():
            return values.reshape(len(self.rows), len(columns))
        for r, row in enumerate(self.rows):
            for column, i in zip(columns, indices, strict=True):
                try:
                    fine = np.isfinite(_floats([row[i]])[0])
                except ValueError:
                    fine = False
                if not fine:
                    name = "" if named_by is None else f" ('{row[place[named_by]].strip()[:80]}')"
                    raise UserError(
                        f"{self.where(r, column)}{name}: {row[i][:40]!r} is not a finite number"
                    )
        raise AssertionError("a bad number was found and then not found")


def _floats(cells: list[str]) -> list[float]:
    joined = ",".join(cells)
    if "_" in joined or not joined.isascii():  # Python's float would take 1_000 and other digits
        raise ValueError
    return list(map(float, cells))


def read_csv(path: Path | str) -> Table:
    """Reads a comma-separated file with a header line (UTF-8, with or without a mark).

    Raises:
      UserError: the file is missing, empty, not text, has duplicate columns, or a row with more
        or fewer cells than the header.
    """
    path = Path(path)
    text = _read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        columns = [cell.strip() for cell in next(reader, [])]
        for row in reader:
            if not row:
                continue  # a blank line, such as the last one of many editors
            if len(row) != len(columns):
                raise UserError(
                    f"{path}, line {reader.line_num} ('{row[0][:80]}'): {len(row)} cells, but the "
                    f"header has {len(columns)} columns"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise UserError(f"{path}: the column '{twice}' stands twice in the header")
    if not rows:
        raise UserError(f"{path}: the file has no rows below its header")
    return Table(path, columns, rows, lines)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    if not data.strip():
        raise UserError(f"{path}: the file is empty")
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


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file as a whole or not at all; text never starts a spreadsheet formula.

    Floats are written with the shortest digits that read back as the same number; None and NaN
    are empty cells.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    writer.writerows([_cell(value) for value in row] for row in rows)
    files.write_text(path, text.getvalue())


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA_STARTS) else value
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else repr(float(value))
    return value
