from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrank import tables
from jaxrank.errors import UserError


def test_reads_marks_line_ends_quotes_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffa, b\r\n1,"x, ""y"""\r\n\r\n2,\u00fc\r\n'.encode())
    table = tables.read_csv(path)
    assert table.columns == ["a", "b"]
    assert table.rows == [["1", 'x, "y"'], ["2", "\u00fc"]]
    assert table.lines == [2, 4]
    assert table.texts("b") == ['x, "y"', "\u00fc"]
    np.testing.assert_array_equal(table.numbers(["a"]), [[1.0], [2.0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"a,b\n", "no rows below its header"),
        (b"a,a\n1,2\n", "column 'a' stands twice"),
        (b"a,b\n1,2\n3\n", "line 3 ('3'): 1 cells, but the header has 2 columns"),
        (b"a,b\n1,2,3\n", "line 2 ('1'): 3 cells"),
        (b"a,b\n1,\xff\n", "not UTF-8 text (byte 0xff at offset 6)"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8 text"),
        (b"a,b\n1,\x00\n", "not a text file"),
        (b'a,b\n1,"2\n', "not valid CSV"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        tables.read_csv(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        tables.read_csv(tmp_path / "none.csv")
    with pytest.raises(UserError, match="can't be read"):
        tables.read_csv(tmp_path)


@pytest.mark.parametrize(
    "cell", ["x", "", "nan", "inf", "-Infinity", "1e999", "1,5", "1_0", "\u0661"]
)
def test_a_cell_that_is_no_finite_number_is_named(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'name,v\nfirst,1\nsecond,"{cell}"\n')
    with pytest.raises(UserError, match=r"line 3, column 'v' \('second'\): .* finite number"):
        tables.read_csv(path).numbers(["v"], named_by="name")


def test_an_empty_text_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("name,v\nfirst,1\n ,2\n")
    with pytest.raises(UserError, match="line 3, column 'name': the cell is empty"):
        tables.read_csv(path).texts("name")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_table_or_a_user_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    try:
        table = tables.read_csv(path)
    except UserError:
        return
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_written_text_starts_no_formula_and_numbers_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows: list[list[object]] = [
        ["=1+1", -0.5, 0.1],
        ["+x", None, float("nan")],
        ['a,"b"\n', 3, True],
        ["@a", "-a", 1],
    ]
    tables.write_csv(path, ["a", "b", "c"], rows)
    table = tables.read_csv(path)
    assert table.rows == [
        ["'=1+1", "-0.5", "0.1"],
        ["'+x", "", ""],
        ['a,"b"\n', "3", "True"],
        ["'@a", "'-a", "1"],
    ]
