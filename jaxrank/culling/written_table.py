"""Tables that `cull` writes, and a record that shows whether a person has edited them since."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from jaxrank.errors import UserError
from jaxrank.io import documents, reading, tables

CULL_CSV, RECORD = "cull.csv", "written.json"
# Columns of CULL_CSV that the table of a contact sheet lacks.
_NOT_IN_SHEETS = {"kind", "keep", "marked"}
# Columns that a person has no reason to edit. A spreadsheet program writes their values in another
# form, such as TRUE, or numbers with fewer digits.
_COMPUTED = {"rank", "score", "p_best", "keep", "marked"}


class _Content(TypedDict):
    """What the record keeps of a table: a hash, and each photo's decision and rating as text."""

    sha256: str
    decisions: dict[str, list[str]]


class WrittenTable:
    """Table in a work folder, which a person may edit between and during runs.

    Its record has both tables while one is replaced: a kill must neither make the program's table
    look edited nor hide an edit.
    """

    def __init__(self, path: Path, given: Path | str | None, keep: str):
        """Args:
          path: path of the table.
          given: table that the run reads, or None; that one may be edited.
          keep: how a person keeps the edits, up to the option that takes the table.

        Raises:
          UserError: the table was edited since it was written, and is not given; or the table or
            its record can't be read.
        """
        self._path, self._keep = path, keep
        self._before = _content_of(path)
        self.is_given = given is not None and _is_one_file(path, given)
        known = _written(path)
        if self._before and known and self._before not in known and not self.is_given:
            raise self._refusal("was edited after cull wrote it, and this run would overwrite it")

    def write(self, table: pd.DataFrame) -> None:
        """Writes the table and its record.

        Raises:
          UserError: the table in the file is no longer the one that the run started with.
        """
        now = _content_of(self._path)
        if now is not None and now != self._before:
            if now in _written(self._path):
                raise UserError(
                    f"{self._path}: another run of cull wrote it meanwhile; run cull again"
                )
            raise self._refusal("was edited while cull ran")
        new = _content(tables.frame_as_table(str(self._path), table))
        self._record([*self._replaced(), new])
        tables.write_frame(self._path, table)
        self._record([new])

    def _record(self, contents: list[_Content]) -> None:
        record = _record_beside(self._path) | {self._path.name: contents}
        documents.write_json(self._path.with_name(RECORD), record)

    def _replaced(self) -> list[_Content]:
        """The table in the file; if a person edited it, the tables that it may have been."""
        known = _written(self._path)
        if self._before is None:
            return []
        return known if known and self._before not in known else [self._before]

    def _refusal(self, what: str) -> UserError:
        return UserError(
            f"{self._path}: {what}; keep {self._keep}={self._path}, or remove the file, which "
            "discards the edits"
        )


def _is_one_file(a: Path, b: Path | str) -> bool:
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def written_decisions(table: tables.Table) -> Mapping[str, Sequence[str]]:
    """Texts that `cull` wrote as each photo's `decision` and `rating`; empty for any other table.

    After a kill, the record has several tables. The file is taken for the one that agrees with it
    on the most photos.

    A contact sheet's table that is saved as CULL_CSV is another table: it may be of an earlier run,
    whose decisions differ, and it names its changes itself.
    """
    if table.path.name != CULL_CSV or _NOT_IN_SHEETS.isdisjoint(table.columns):
        return {}
    now = _content(table)["decisions"]
    known = [content["decisions"] for content in _written(table.path)]
    return max(
        known,
        key=lambda decisions: sum(decisions.get(photo) == cells for photo, cells in now.items()),
        default={},
    )


def plain_rating(cell: str) -> str:
    """A rating without the forms that programs give it; no rating and a rating of 0 are one."""
    text = _plain(cell)
    return "" if text == "0" else text


def _written(path: Path) -> list[_Content]:
    """The tables in the record; none if it is of an older version, damaged or missing."""
    found = _record_beside(path).get(path.name)
    return found if isinstance(found, list) and all(map(_is_content, found)) else []


def _record_beside(path: Path) -> dict[str, Any]:
    file = path.with_name(RECORD)
    try:
        record = documents.read_json(file)
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise _unreadable(file, error) from None
    return record if isinstance(record, dict) else {}


def _is_content(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("sha256"), str):
        return False
    decisions = value.get("decisions")
    return isinstance(decisions, dict) and all(
        isinstance(cells, list) and len(cells) == 2 for cells in decisions.values()
    )


def _content_of(path: Path) -> _Content | None:
    """The content of a file, which may be no table; None if there is no file."""
    try:
        data = reading.read_whole(path, reading.TEXT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        return _content(tables.parse_csv(path, data))
    except UserError:
        return _Content(sha256=hashlib.sha256(data).hexdigest(), decisions={})


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: can't be read ({error.strerror or error})")


def _content(table: tables.Table) -> _Content:
    """Content that does not depend on the form of cells or the order of rows and columns."""
    cells = {name: list(map(_plain, table.cells(name))) for name in table.columns}
    columns = sorted({*cells} - _COMPUTED)
    rows = sorted(zip(*(cells[name] for name in columns), strict=True))
    sha256 = hashlib.sha256(json.dumps([columns, rows]).encode()).hexdigest()
    decisions: dict[str, list[str]] = {}
    if {"path", "decision", "rating"} <= {*cells}:
        ratings = map(plain_rating, cells["rating"])
        pairs = map(list, zip(cells["decision"], ratings, strict=True))
        decisions = dict(zip(cells["path"], pairs, strict=True))
    return _Content(sha256=sha256, decisions=decisions)


def _plain(cell: str) -> str:
    """A cell's text; spreadsheet programs may write a rating as 4.0."""
    return tables.unquoted(cell.strip()).strip().removesuffix(".0")
