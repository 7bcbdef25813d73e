"""Notebook output: a result as HTML, and an output that is updated while a cell runs.

The HTML has no scripts and no colours, so that it is readable on a light and a dark page.
"""

import html
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pandas as pd

_MOST_ROWS = 20
_CELL = "padding:0.15em 0.6em;text-align:"
_CAVEAT = "border-left:0.3em solid;padding-left:0.6em;margin:0.4em 0"


def is_notebook() -> bool:
    """Whether this program runs in the kernel of a notebook. Never imports IPython."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def show_changing(shown: Any) -> Callable[[], None]:
    """Shows an object below the running cell; the returned function updates this output."""
    from IPython.display import display

    handle = display(shown, display_id=True)
    return lambda: handle.update(shown)


def result_html(
    title: str,
    *,
    caveats: Iterable[str],
    table: pd.DataFrame | None = None,
    shares: Collection[str] = (),
    rest: str = "",
    notes: Iterable[str],
) -> str:
    """Formats a result as HTML; every text is escaped.

    Args:
      title: title of the result.
      caveats: warnings that must be read before any number.
      table: the main columns. Only the first 20 rows are shown.
      shares: columns that are shown in percent.
      rest: where the whole table is, such as an attribute of the result.
      notes: sentences below the table.
    """
    parts = [f"<p><strong>{html.escape(title)}</strong></p>"]
    parts += [f'<p style="{_CAVEAT}"><strong>{html.escape(line)}</strong></p>' for line in caveats]
    if table is not None:
        parts.append(_table(table.head(_MOST_ROWS), shares))
        if len(table) > _MOST_ROWS:
            cut = f"The first {_MOST_ROWS} of {len(table):,} rows; all are in {rest}."
            parts.append(f"<p>{html.escape(cut)}</p>")
    items = "".join(f"<li>{html.escape(line)}</li>" for line in notes)
    return f"<div>{''.join(parts)}{f'<ul>{items}</ul>' if items else ''}</div>"


def _table(table: pd.DataFrame, shares: Collection[str]) -> str:
    sides = ["right" if pd.api.types.is_numeric_dtype(dtype) else "left" for dtype in table.dtypes]
    rows = [
        [_cell(value, name in shares) for name, value in zip(table.columns, row, strict=True)]
        for row in table.itertuples(index=False, name=None)
    ]
    head = _row("th", map(str, table.columns), sides)
    body = "".join(_row("td", row, sides) for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Iterable[str], sides: Iterable[str]) -> str:
    inner = "".join(
        f'<{tag} style="{_CELL}{side}">{html.escape(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{inner}</tr>"


def _cell(value: Any, is_share: bool) -> str:
    if pd.isna(value):
        return ""
    if is_share:
        return f"{100 * value:.1f}%"
    if pd.api.types.is_bool(value):
        return "yes" if value else ""
    if pd.api.types.is_integer(value):
        return f"{value:,}"
    return f"{value:.3f}" if pd.api.types.is_float(value) else str(value)
