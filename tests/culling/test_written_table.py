"""Edits of the table that `cull` wrote, by a person and by programs that save it again."""

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from contact_sheets import HOSTILE

from jaxrank.culling import api
from jaxrank.culling.changes import read_changes
from jaxrank.culling.written_table import CULL_CSV, RECORD, WrittenTable
from jaxrank.errors import UserError
from jaxrank.io import atomic, reading, tables


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


def cull_csv(path: Path, changes: Path | None) -> WrittenTable:
    return WrittenTable(path, changes, "your decisions and ratings by --changes")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    cull_csv(tmp_path / CULL_CSV, tmp_path / CULL_CSV).write(culled())
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
    cull_csv(path, None)
    assert read_changes(path) == {}
    saved_by_a_spreadsheet_program(path)
    assert path.read_bytes() != before
    cull_csv(path, None)
    assert read_changes(path) == {}


@pytest.mark.parametrize(
    ("column", "cell", "changes"),
    [
        ("decision", "pick", {"decision": "pick"}),
        ("decision", " Pick ", {"decision": "pick"}),
        ("decision", "Undecided", {}),
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
            cull_csv(path, None)
        cull_csv(path, path)
        assert read_changes(path) == ({"b, c.jpg": changes} if changes else {})


def test_edits_are_not_lost_with_a_column_that_contact_sheets_lack(path: Path) -> None:
    header, *rows = rows_of(path)
    rows[1][header.index("decision")] = "pick"
    columns = pd.DataFrame(rows, columns=header).drop(columns="marked")
    columns.to_csv(path, index=False)
    assert read_changes(path) == {"b, c.jpg": {"decision": "pick"}}
    columns.drop(columns=["kind", "keep"]).to_csv(path, index=False)
    with pytest.raises(UserError, match="no row is marked as changed"):
        read_changes(path)


def test_a_record_that_cannot_be_read_is_an_error(path: Path) -> None:
    record = path.with_name(RECORD)
    record.unlink()
    cull_csv(path, None)
    record.mkdir()
    for reads in (lambda: cull_csv(path, None), lambda: read_changes(path)):
        with pytest.raises(UserError, match=r"written.json: can't be read \(it is a folder\)$"):
            reads()


def test_a_table_that_cannot_be_read_is_not_called_edited(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = cull_csv(path, None)
    with monkeypatch.context() as patched:
        patched.setattr(reading, "available_bytes", lambda: 1)
        for reads in (lambda: cull_csv(path, None), lambda: table.write(culled())):
            with pytest.raises(UserError, match=r"cull.csv: can't be read \(.* the free memory"):
                reads()
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"cull.csv: can't be read \(it is a folder\)$"):
        cull_csv(path, None)


@pytest.mark.parametrize("content", ["", "path;decision\na;pick\n", "\0", "path,note\na,mine\n"])
def test_a_file_of_another_form_is_an_edit(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(UserError, match="was edited after cull wrote it"):
        cull_csv(path, None)


def test_a_column_of_notes_is_an_edit(path: Path) -> None:
    header, *rows = rows_of(path)
    save(path, [[*header, "notes"], *([*row, "mine"] for row in rows)])
    with pytest.raises(UserError, match="was edited after cull wrote it"):
        cull_csv(path, None)


@pytest.mark.parametrize("has_table", [True, False])
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_kill_neither_hides_an_edit_nor_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, has_table: bool
) -> None:
    """Killed after so many of its writes: the record, the table, and the record again."""
    path = tmp_path / CULL_CSV
    if has_table:
        cull_csv(path, path).write(culled())
    done = 0
    write_text = atomic.write_text

    def write_or_stop(file: Path, text: str) -> None:
        nonlocal done
        if done == writes:
            raise KeyboardInterrupt
        write_text(file, text)
        done += 1

    for _ in range(2):  # a second kill, too
        done = 0
        with monkeypatch.context() as patched:
            patched.setattr(atomic, "write_text", write_or_stop)
            with pytest.raises(KeyboardInterrupt):
                cull_csv(path, path).write(culled(("undecided", "pick", "alternate")))
        cull_csv(path, None)
    if path.exists():
        assert read_changes(path) == {}
        header, *rows = rows_of(path)
        rows[2][header.index("rating")] = "4"
        save(path, [header, *rows])
        with pytest.raises(UserError, match="was edited after cull wrote it"):
            cull_csv(path, None)
        assert read_changes(path) == {"d.jpg": {"rating": 4}}
    cull_csv(path, path).write(culled())
    cull_csv(path, None)


def test_a_kill_while_an_edited_table_is_replaced_leaves_its_changes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, *rows = rows_of(path)
    rows[1][header.index("decision")] = "alternate"
    save(path, [header, *rows])
    with monkeypatch.context() as patched:
        patched.setattr(tables, "write_csv", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cull_csv(path, path).write(culled(("undecided", "undecided", "alternate")))
    with pytest.raises(UserError, match="was edited after cull wrote it"):
        cull_csv(path, None)
    # The pick and the reject are the program's, although its new ones differ.
    assert read_changes(path) == {"b, c.jpg": {"decision": "alternate"}}


@pytest.mark.parametrize("is_replaced", [False, True])
def test_after_a_kill_an_edit_may_be_the_value_of_the_other_table(
    path: Path, is_replaced: bool
) -> None:
    record = path.with_name(RECORD)
    (old,) = json.loads(record.read_text())[CULL_CSV]
    before = path.read_bytes()
    cull_csv(path, None).write(culled(("undecided", "pick", "alternate")))
    (new,) = json.loads(record.read_text())[CULL_CSV]
    record.write_text(json.dumps({CULL_CSV: [old, new]}))
    if not is_replaced:
        path.write_bytes(before)
    header, *rows = rows_of(path)
    row = rows[0 if is_replaced else 1]
    assert row[header.index("decision")] == "undecided"
    row[header.index("decision")] = "pick"
    save(path, [header, *rows])
    with pytest.raises(UserError, match="was edited after cull wrote it"):
        cull_csv(path, None)
    assert list(read_changes(path).values()) == [{"decision": "pick"}]


def test_a_table_without_a_record_is_replaced_as_one_that_was_not_edited(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of an older version has another form."""
    path.with_name(RECORD).write_text('{"sha256": "0", "decisions": {}}')
    cull_csv(path, None)
    with monkeypatch.context() as patched:
        patched.setattr(tables, "write_csv", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cull_csv(path, path).write(culled(("undecided", "pick", "alternate")))
    cull_csv(path, None)
    assert read_changes(path) == {}


def test_names_of_photos_read_back_as_they_were_written(tmp_path: Path) -> None:
    names = [*(name for name in HOSTILE if name.isprintable()), "\tx.jpg", " y.jpg", "'=z.jpg"]
    table = pd.concat([culled().iloc[:1]] * len(names)).assign(path=names, series=names)
    cull_csv(tmp_path / CULL_CSV, tmp_path / CULL_CSV).write(table)
    cull_csv(tmp_path / CULL_CSV, None)
    assert read_changes(tmp_path / CULL_CSV) == {}


@pytest.mark.parametrize("has_table", [True, False])
def test_a_table_that_was_edited_meanwhile_is_not_overwritten(
    tmp_path: Path, has_table: bool
) -> None:
    path = tmp_path / CULL_CSV
    if has_table:
        cull_csv(path, None).write(culled())
    for changes in (None, path):
        table = cull_csv(path, changes)
        path.write_text(f"path,decision\na.jpg,pick\n{changes},pick\n")
        edited = path.read_bytes()
        with pytest.raises(UserError, match=r"was edited while cull ran; keep .* by --changes="):
            table.write(culled())
        assert path.read_bytes() == edited
        path.unlink()


def test_a_table_that_was_removed_meanwhile_is_written(path: Path) -> None:
    table = cull_csv(path, None)
    path.unlink()
    table.write(culled())
    assert read_changes(path) == {}


@pytest.mark.parametrize("has_table", [True, False])
def test_a_table_of_another_run_is_not_called_edited(tmp_path: Path, has_table: bool) -> None:
    path = tmp_path / CULL_CSV
    if has_table:
        cull_csv(path, None).write(culled())
    table = cull_csv(path, None)
    cull_csv(path, None).write(culled(("undecided", "pick", "alternate")))
    other = path.read_bytes()
    with pytest.raises(UserError, match=r"cull.csv: another run of cull wrote it meanwhile"):
        table.write(culled())
    assert path.read_bytes() == other


def test_two_tables_have_their_own_records(path: Path) -> None:
    other = path.with_name("groups.csv")
    WrittenTable(other, None, "your groups by --series").write(pd.DataFrame({"image": ["a"]}))
    cull_csv(path, None)
    other.write_text("image\nb\n")
    cull_csv(path, None).write(culled())
    with pytest.raises(UserError, match=r"keep your groups by --series=.*groups.csv, or remove"):
        WrittenTable(other, path, "your groups by --series")
    assert WrittenTable(other, other, "").is_given
