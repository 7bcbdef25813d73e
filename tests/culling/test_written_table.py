"""Edits of the table that `cull` wrote, by a person and by programs that save it again."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from jaxrank.culling import api
from jaxrank.culling.changes import read_changes
from jaxrank.culling.written_table import CULL_CSV, refuse_edited, write_table
from jaxrank.errors import UserError


def culled(decisions: tuple[str, ...] = ("pick", "undecided", "reject")) -> pd.DataFrame:
    """A burst of three photos, the second with two stars, and a photo that is not culled."""
    table = pd.DataFrame({
        "path": ["=a.jpg", "b, c.jpg", "d.jpg", "e.jpg"], "series": [*["=a.jpg"] * 3, "e.jpg"],
        "kind": [*["burst"] * 3, "single"], "rank": [1, 2, 3, None],
        "score": [1 / 3, 1e-9, -2.5, float("nan")], "p_best": [0.123456789123, 0.1, 0.0, None],
        "keep": [True, True, False, None], "decision": [*decisions, None],
        "rating": [None, 2, -1, None], "reasons": ["sharper, by 2", "-", "", None],
        "changed": "", "marked": [False, True, False, False],
    }).astype({"rank": "Int64", "rating": "Int64", "keep": "boolean"})  # fmt: skip
    return table[list(api.COLUMNS)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_table(tmp_path / CULL_CSV, culled())
    return tmp_path / CULL_CSV


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def save(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), "utf-8")


def saved_by_a_spreadsheet_program(path: Path) -> None:
    """Other quotes, numbers, booleans and line ends, a byte order mark, and sorted rows."""
    header, *rows = rows_of(path)
    formats = {"rank": ".1f", "score": ".5g", "p_best": ".5g", "rating": ".1f"}
    for row in rows:
        row[:] = [{"True": "TRUE", "False": "FALSE"}.get(cell, cell) for cell in row]
        for column, digits in formats.items():
            at = header.index(column)
            row[at] = f"{float(row[at]):{digits}}" if row[at] else ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    writer.writerows([header, *reversed(rows)])
    path.write_bytes(text.getvalue().encode("utf-8-sig"))


def test_a_table_that_was_saved_again_is_not_edited_and_has_no_changes(path: Path) -> None:
    before = path.read_bytes()
    refuse_edited(path, None)
    assert read_changes(path) == {}
    saved_by_a_spreadsheet_program(path)
    assert path.read_bytes() != before
    refuse_edited(path, None)
    assert read_changes(path) == {}


@pytest.mark.parametrize(
    ("column", "cell", "changes"),
    [
        ("decision", "pick", {"decision": "pick"}),
        ("decision", "", {}),
        ("rating", "3", {"rating": 3}),
        ("rating", "0", {"rating": 0}),
        ("rating", "", {}),
        ("changed", "decision", {"decision": "undecided"}),
        ("series", "mine", {}),
        ("reasons", "eyes closed", {}),
    ],
)
def test_an_edited_cell_is_an_edit_and_a_new_value_a_change(
    path: Path, column: str, cell: str, changes: dict[str, object]
) -> None:
    header, *rows = rows_of(path)
    assert rows[1][header.index(column)] != cell
    rows[1][header.index(column)] = cell
    save(path, [header, *rows])
    for is_saved_again in (False, True):
        if is_saved_again:
            saved_by_a_spreadsheet_program(path)
        with pytest.raises(UserError, match="was edited after cull wrote it"):
            refuse_edited(path, None)
        refuse_edited(path, path)
        assert read_changes(path) == ({"b, c.jpg": changes} if changes else {})


@pytest.mark.parametrize("content", ["", "path;decision\na;pick\n", "\0", "path,note\na,mine\n"])
def test_a_file_of_another_form_is_an_edit(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(UserError, match="was edited after cull wrote it"):
        refuse_edited(path, None)


def test_a_column_of_notes_is_an_edit(path: Path) -> None:
    header, *rows = rows_of(path)
    save(path, [[*header, "notes"], *([*row, "mine"] for row in rows)])
    with pytest.raises(UserError, match="was edited after cull wrote it"):
        refuse_edited(path, None)
