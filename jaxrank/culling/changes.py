"""Tables of decisions, as `cull` writes them and a contact sheet exports them."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxrank.culling.decisions import DECISIONS
from jaxrank.errors import UserError, did_you_mean
from jaxrank.io import documents, tables

# The columns that a person can change.
CHANGEABLE = ("decision", "rating")


class SheetRow(NamedTuple):
    """A photo in a table of decisions.

    Attributes:
      decision: empty where nothing is culled.
      rating: None for none.
      changed: which of CHANGEABLE a person changed; all of them in a table without the column.
    """

    path: str
    series: str
    decision: str
    rating: int | None
    changed: frozenset[str]


def read_rows(path: Path | str) -> list[SheetRow]:
    """The photos of a table with `path` and `decision` or `rating`; `series` and `changed` may
    stand there, too.

    Raises:
      UserError: naming line and column, for any other table.
    """
    table = tables.read_table(path)
    if "path" not in table.columns or not {*CHANGEABLE} & {*table.columns}:
        raise UserError(f"{path}: give the columns path and decision, or rating")
    place = {column: table.columns.index(column) for column in table.columns}
    rows = []
    for number, photo in enumerate(table.distinct_photos("path")):
        cells = {column: table.rows[number][at].strip() for column, at in place.items()}
        decision = cells.get("decision", "")
        if decision and decision not in DECISIONS:
            raise UserError(
                f"{table.where(number, 'decision')}: {decision[:40]!r} is none of "
                f"{', '.join(DECISIONS)}.{did_you_mean(decision, DECISIONS)}"
            )
        rating = cells.get("rating", "").lstrip("'").removesuffix(".0")
        if rating not in ("", "-1", "0", "1", "2", "3", "4", "5"):
            raise UserError(
                f"{table.where(number, 'rating')}: {rating[:40]!r} is not empty, nor -1 to 5"
            )
        rows.append(
            SheetRow(
                photo,
                cells.get("series", ""),
                decision,
                int(rating) if rating else None,
                _changed(cells.get("changed", "true")),
            )
        )
    return rows


def _changed(cell: str) -> frozenset[str]:
    """A contact sheet writes the names of the columns; `cull` writes True or False."""
    if cell.lower() == "true":
        return frozenset(CHANGEABLE)
    return frozenset(cell.split()) & frozenset(CHANGEABLE)


def kept_changes(file: Path, given: Path | str | None) -> dict[str, dict[str, Any]]:
    """What a person decided in earlier runs, and in a table that is given now, which comes last;
    kept in the file for later ones.

    Raises:
      UserError: see `read_rows`; the file is damaged.
    """
    known: dict[str, dict[str, Any]] = {}
    try:
        known = documents.read_json(file)
        sound = all(isinstance(said, dict) and {*said} <= {*CHANGEABLE} for said in known.values())
    except FileNotFoundError:
        sound = True
    except (OSError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise UserError(f"{file}: damaged; remove it, and give --changes again")
    if given is None:
        return known
    for path, said in read_changes(given).items():
        known[path] = known.get(path, {}) | said
    documents.write_json(file, known)
    return known


def read_changes(path: Path | str) -> dict[str, dict[str, Any]]:
    """By photo, the `decision` and `rating` that a person changed.

    Raises:
      UserError: see `read_rows`.
    """
    found = {}
    for row in read_rows(path):
        said = {"decision": row.decision or None, "rating": row.rating}
        mine = {name: said[name] for name in row.changed if said[name] is not None}
        if mine:
            found[row.path] = mine
    return found
