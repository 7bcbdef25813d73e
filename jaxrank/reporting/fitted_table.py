"""Terminal output: tables fitted to the width, and sentences wrapped between words."""

import os
import textwrap
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from jaxrank.io.printable import printable

_UNLIMITED = 100_000  # terminal columns


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      title: text of the column header.
      cells: text of each row.
      justify: side at which cells are aligned.
      drop: priority for omission; columns with the highest number are omitted first where the table
        is too wide, columns with 0 never.
    """

    title: str
    cells: Sequence[str]
    justify: Literal["left", "right"] = "right"
    drop: int = 0


def print_fitted(console: Console, columns: Sequence[Column], where: str) -> None:
    """Prints a table that fits the width of the console.

    Whole columns are omitted and named below the table; cells are never truncated. Columns without
    any text are not shown.

    Args:
      console: console to print to; its width limits the table.
      columns: columns from left to right.
      where: name of the place with the omitted columns, such as a file.
    """
    shown = [column for column in columns if any(column.cells)]
    left_out: list[str] = []
    while _width(console, _table(shown)) > console.width:
        most = max(column.drop for column in shown)
        if not most:
            break  # the remaining columns are required; the terminal wraps them
        # Among equal priorities the last column is omitted first.
        place = max(i for i, column in enumerate(shown) if column.drop == most)
        left_out.insert(0, shown.pop(place).title)
    table = _table(shown)
    table.width = _width(console, table)
    console.print(table, crop=False)
    if left_out:
        names = ", ".join(left_out)
        show_lines(console, f"Columns left out (width {console.width}): {names} (see {where})")


def _table(columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        title = Text(printable(column.title))
        table.add_column(title, justify=column.justify, no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: cells may look like markup
    return table


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(width=_UNLIMITED), table).maximum


def show_lines(console: Console, *lines: str) -> None:
    """Prints sentences, wrapped between words on a terminal or where COLUMNS is set."""
    wraps = console.is_terminal or "COLUMNS" in os.environ
    for line in map(printable, lines):
        if wraps:
            line = "\n".join(
                textwrap.wrap(line, console.width, break_long_words=False, break_on_hyphens=False)
            )
        console.print(Text(line), soft_wrap=True)
