"""What a person changed in a contact sheet, as its export says it."""

from pathlib import Path
from typing import Any

from jaxrank.culling.decisions import DECISIONS
from jaxrank.errors import UserError, did_you_mean
from jaxrank.io import tables


def read_changes(path: Path | str) -> dict[str, dict[str, Any]]:
    """By photo, the `decision` and `rating` of the rows that are `changed`; of all rows where the
    table has no such column.

    Raises:
      UserError: it is no such table.
    """
    table = tables.read_table(path)
    if "path" not in table.columns or not {"decision", "rating"} & set(table.columns):
        raise UserError(f"{path}: give the columns path and decision, or rating")
    paths = table.distinct_photos("path")
    rows = [
        dict(zip(table.columns, map(str.strip, row), strict=True)) | {"path": name}
        for row, name in zip(table.rows, paths, strict=True)
    ]
    if "changed" in table.columns:
        rows = [row for row in rows if row["changed"].lower() == "true"]
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        said: dict[str, Any] = {}
        if decision := row.get("decision"):
            if decision not in DECISIONS:
                raise UserError(
                    f"{path}: decision '{decision[:40]}' of {row['path']} is unknown."
                    f"{did_you_mean(decision, DECISIONS)}"
                )
            said["decision"] = decision
        if rating := row.get("rating"):
            if rating not in ("-1", "0", "1", "2", "3", "4", "5"):
                raise UserError(
                    f"{path}: rating '{rating[:40]}' of {row['path']} is not -1, 0 to 5"
                )
            said["rating"] = int(rating)
        found[row["path"]] = said
    return found
