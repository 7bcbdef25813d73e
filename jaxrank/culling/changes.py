"""Tables of decisions, as `cull` writes them and a contact sheet exports them."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxrank.culling.decisions import DECISIONS
from jaxrank.culling.written_table import plain_rating, written_decisions
from jaxrank.errors import UserError, did_you_mean
from jaxrank.io import documents, tables

# Columns that a person can change.
CHANGEABLE = ("decision", "rating")


class SheetRow(NamedTuple):
    """Row of a table of decisions: one photo.

    Attributes:
      path: name of the photo.
      series: ID of the photo's series; empty in a table without the column.
      decision: decision on the photo; empty for a photo that is not culled.
      rating: rating of the photo, or None.
      changed: columns of CHANGEABLE that have a value and that a person changed: those that the
        column `changed` names, and in the `cull.csv` of a work folder those that differ from
        what `cull` wrote. All that have a value in a table without the column `changed`.
    """

    path: str
    series: str
    decision: str
    rating: int | None
    changed: frozenset[str]


def sheet_rows(table: tables.Table) -> list[SheetRow]:
    """Parses a table with `path` and `decision` or `rating`; `series` and `changed` are optional.

    Decisions may have capital letters.

    Raises:
      UserError: the table has another form; the message names line and column.
    """
    if "path" not in table.columns or not {*CHANGEABLE} & {*table.columns}:
        raise UserError(f"{table.path}: give the columns path and decision, or rating")
    place = {column: table.columns.index(column) for column in table.columns}
    rows, written = [], written_decisions(table)
    for number, photo in enumerate(table.distinct_photos("path")):
        cells = {column: table.rows[number][at].strip() for column, at in place.items()}
        decision = cells.get("decision", "").lower()
        if decision and decision not in DECISIONS:
            raise UserError(
                f"{table.where(number, 'decision')}: {decision[:40]!r} is no decision."
                f"{did_you_mean(decision, DECISIONS)}"
            )
        rating = cells.get("rating", "").lstrip("'").removesuffix(".0")
        if rating not in ("", "-1", "0", "1", "2", "3", "4", "5"):
            raise UserError(
                f"{table.where(number, 'rating')}: {rating[:40]!r} is not empty, nor -1 to 5"
            )
        now = (decision, plain_rating(rating))
        pairs = zip(CHANGEABLE, now, written.get(photo, now), strict=True)
        edited = {name for name, text, before in pairs if text != before}
        named = _changed(cells.get("changed", "true"))
        given = {name for name, cell in (("decision", decision), ("rating", rating)) if cell}
        changed = (named | edited) & given
        stars = int(rating) if rating else None
        rows.append(SheetRow(photo, cells.get("series", ""), decision, stars, changed))
    return rows


def _changed(cell: str) -> frozenset[str]:
    """Parses a cell of `changed`: names of columns; True of an older version means all."""
    if cell.lower() == "true":
        return frozenset(CHANGEABLE)
    return frozenset(cell.split()) & frozenset(CHANGEABLE)


def kept_changes(file: Path, given: Path | str | None) -> dict[str, dict[str, Any]]:
    """Returns a person's decisions by photo, from earlier runs and from a table that is given now.

    The given table takes precedence. Its decisions are added to the file for later runs.

    Args:
      file: JSON file of the decisions from earlier runs.
      given: table of new decisions, or None.

    Raises:
      UserError: the table has another form (see `sheet_rows`), or the file is damaged.
    """
    known: dict[str, dict[str, Any]] = {}
    try:
        known = documents.read_json(file)
        sound = all(isinstance(one, dict) and {*one} <= {*CHANGEABLE} for one in known.values())
    except FileNotFoundError:
        sound = True
    except (OSError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise UserError(f"{file}: damaged; remove it, and give --changes again")
    if given is None:
        return known
    for path, changed in read_changes(given).items():
        known[path] = known.get(path, {}) | changed
    documents.write_json(file, known)
    return known


def read_changes(path: Path | str) -> dict[str, dict[str, Any]]:
    """Reads the `decision` and `rating` that a person changed, by photo.

    A `cull.csv` that nobody has edited has no changes.

    Raises:
      UserError: the table has another form (see `sheet_rows`), or nothing in another table is
        marked as changed.
    """
    found = {}
    table = tables.read_table(path)
    rows = sheet_rows(table)
    if not any(row.changed for row in rows) and not written_decisions(table):
        raise UserError(
            f"{path}: no row is marked as changed; write decision or rating into the column "
            "'changed' of your changes, or remove that column if all rows are yours"
        )
    for row in rows:
        if row.changed:
            values = {"decision": row.decision, "rating": row.rating}
            found[row.path] = {name: values[name] for name in row.changed}
    return found
