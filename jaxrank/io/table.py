"""A table of text: its cells, its numbers, and their places in the file."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.errors import UserError
from jaxrank.io.arrow_rows import ArrowRows

# Spreadsheet programs run a cell that begins with one of these characters as a formula
# (OWASP, "CSV Injection"); a leading apostrophe makes it text.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Table(NamedTuple):
    """A file as text: `rows[i]` has one cell per column and ends on line `lines[i]`.

    Attributes:
      unit: unit of `lines` in errors; a parquet file has rows instead of lines.
      parts: the file of each row, if several files were read as one table.
    """

    path: Path
    columns: list[str]
    rows: Sequence[list[str]]
    lines: Sequence[int]
    unit: str = "line"
    parts: Sequence[Path] = ()

    def where(self, row: int, column: str | None = None) -> str:
        path = self.parts[row] if self.parts else self.path
        place = f"{path}, {self.unit} {self.lines[row]}"
        return place if column is None else f"{place}, column '{column}'"

    def place(self, row: int) -> str:
        """The place of a row, for an error that has already named the file."""
        of = f" of {self.parts[row].name}" if self.parts else ""
        return f"{self.unit} {self.lines[row]}{of}"

    def take(self, rows: Sequence[int]) -> "Table":
        """The table with some of its rows."""
        taken = self.rows.take(rows) if isinstance(self.rows, ArrowRows) else None
        return self._replace(
            rows=[self.rows[i] for i in rows] if taken is None else taken,
            lines=[self.lines[i] for i in rows],
            parts=[self.parts[i] for i in rows] if self.parts else (),
        )

    def with_column(self, column: str, cells: Sequence[str]) -> "Table":
        """The table with one more column, the last."""
        rows = [[*row, cell] for row, cell in zip(self.rows, cells, strict=True)]
        return self._replace(columns=[*self.columns, column], rows=rows)

    def without_column(self, column: str) -> "Table":
        place = self.columns.index(column)
        rows = [row[:place] + row[place + 1 :] for row in self.rows]
        return self._replace(columns=self.columns[:place] + self.columns[place + 1 :], rows=rows)

    def cells(self, column: str) -> list[str]:
        """The cells of a column as they are in the file."""
        index = self.columns.index(column)
        if isinstance(self.rows, ArrowRows):
            return _spread(*self.rows.distinct(index))
        return [row[index] for row in self.rows]

    def texts(self, column: str) -> list[str]:
        """The cells of a column without surrounding blanks; an empty cell is an error."""
        if isinstance(self.rows, ArrowRows):
            distinct, place = self.rows.distinct(self.columns.index(column))
            cells = _spread([unquoted(cell.strip()) for cell in distinct], place)
        else:
            cells = [unquoted(cell.strip()) for cell in self.cells(column)]
        if "" in cells:
            raise UserError(f"{self.where(cells.index(''), column)}: the cell is empty")
        return cells

    def series(self, column: str) -> pd.Series:
        """The cells of a column like `texts`, in as little memory as possible in pandas."""
        if isinstance(self.rows, ArrowRows):
            found = self.rows.plain_series(self.columns.index(column))
            if found is not None:
                return found
        return pd.Series(self.texts(column))

    def distinct_photos(self, column: str) -> list[str]:
        """The names of photos in a column; a repeated name is an error."""
        photos = self.texts(column)
        first: dict[str, int] = {}
        for row, photo in enumerate(photos):
            if first.setdefault(photo, row) != row:
                raise UserError(
                    f"{self.where(row)}: photo '{photo}' appears twice, first on "
                    f"{self.place(first[photo])}"
                )
        return photos

    def numbers(self, columns: Sequence[str], *, named_by: str | None = None) -> np.ndarray:
        """The cells of the columns as finite numbers, float64 [rows, columns].

        An error names line and column, and the row's cell in the column `named_by`, if any.
        """
        place = {column: i for i, column in enumerate(self.columns)}
        indices = [place[column] for column in columns]
        if isinstance(self.rows, ArrowRows):
            found = [self.rows.floats(i) for i in indices]
            if all(column is not None and np.isfinite(column).all() for column in found):
                return np.stack([column for column in found if column is not None], axis=1)
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


def _spread(distinct: Sequence[str], place: np.ndarray) -> list[str]:
    """A column's cells from its distinct texts; equal cells share one object."""
    return list(np.array(distinct, object)[place])


def unquoted(cell: str) -> str:
    """A cell without the apostrophe that `write_csv` may have added."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA_STARTS) else cell


def _floats(cells: list[str]) -> list[float]:
    joined = ",".join(cells)
    if "_" in joined or not joined.isascii():  # float() accepts 1_000 and non-ASCII digits
        raise ValueError
    return list(map(float, cells))
