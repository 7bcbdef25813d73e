"""The table `cull.csv`, and a record beside it that shows whether a person has edited it since."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from jaxrank.errors import UserError
from jaxrank.io import documents, tables

CULL_CSV, RECORD = "cull.csv", "written.json"
# A column of CULL_CSV that the table of a contact sheet lacks.
_NOT_IN_SHEETS = "marked"
# Columns that a person has no reason to edit. A spreadsheet program writes their values in another
# form, such as TRUE, or numbers with fewer digits.
_COMPUTED = {"rank", "score", "p_best", "keep", "marked"}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes the table of `Culled`, and the record of its content and of its decisions."""
    record = path.with_name(RECORD)
    record.unlink(missing_ok=True)  # a kill in between must not make this table look edited
    tables.write_frame(path, table)
    values = table[["decision", "rating"]].astype(object).where(table.notna(), None)
    decisions = dict(zip(table["path"], values.itertuples(index=False, name=None), strict=True))
    documents.write_json(record, {"sha256": _fingerprint(path), "decisions": decisions})


def refuse_edited(path: Path, changes: Path | str | None) -> None:
    """Raises UserError if the table was edited since it was written and is not given as changes."""
    record = _record_of(path)
    if not path.exists() or not record or _fingerprint(path) == record.get("sha256"):
        return
    if changes is None or not os.path.exists(changes) or not os.path.samefile(changes, path):
        raise UserError(
            f"{path}: was edited after cull wrote it, and this run would overwrite it; keep your "
            f"decisions and ratings by --changes={path}, or remove the file"
        )


def has_record(path: Path) -> bool:
    """Whether a table is CULL_CSV with the record of what `cull` wrote beside it."""
    return path.name == CULL_CSV and bool(_record_of(path))


def written_decisions(path: Path, columns: Sequence[str]) -> Mapping[str, tuple[str, int | None]]:
    """Decision and rating of each photo as `cull` wrote them; empty for any other table.

    A contact sheet's table that is saved as CULL_CSV is another table: it may be of an earlier run,
    whose decisions differ, and it names its changes itself.
    """
    is_own = path.name == CULL_CSV and _NOT_IN_SHEETS in columns
    decisions = _record_of(path).get("decisions") if is_own else None
    if not isinstance(decisions, dict):
        return {}
    pairs = {photo: one for photo, one in decisions.items() if isinstance(one, list)}
    return {photo: (one[0] or "", one[1]) for photo, one in pairs.items() if len(one) == 2}


def _record_of(path: Path) -> dict:
    try:
        record = documents.read_json(path.with_name(RECORD))
    except (OSError, ValueError):  # of an older version, or damaged
        return {}
    return record if isinstance(record, dict) else {}


def _fingerprint(path: Path) -> str:
    """Hash of the cells that a person may edit; of the bytes if the file is no readable table.

    The same for each way to write the cells: quotes, line ends, a byte order mark, another order of
    rows or columns.
    """
    try:
        table = tables.read_csv(path)
    except UserError:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    columns = sorted({*table.columns} - _COMPUTED)
    rows = sorted(zip(*(map(_plain, table.cells(name)) for name in columns), strict=True))
    return hashlib.sha256(json.dumps([columns, rows]).encode()).hexdigest()


def _plain(cell: str) -> str:
    """A cell's text; spreadsheet programs may write a rating as 4.0."""
    return tables.unquoted(cell.strip()).removesuffix(".0")
