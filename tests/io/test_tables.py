import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrank.errors import UserError
from jaxrank.io import tables


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
        (b"a,a\n1,2\n", "column 'a' appears twice"),
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


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def test_the_suffix_chooses_the_reader(tmp_path: Path) -> None:
    for name, content in {
        "t.csv": b"a,b\n1,x\n",
        "t.JSONL": b'{"a": 1, "b": "x"}\n',
        "t.ndjson": b'{"a": 1, "b": "x"}\n',
        "t": b"a,b\n1,x\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        table = tables.read_table(tmp_path / name)
        assert (table.columns, table.rows) == (["a", "b"], [["1", "x"]])
    table = tables.read_table(write_parquet(tmp_path / "t.Parquet", {"a": [1], "b": ["x"]}))
    assert (table.columns, table.rows) == (["a", "b"], [["1", "x"]])


def test_jsonl_keeps_the_spelling_of_numbers_and_the_lines_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": 0.10, "b": "x\\ny"}\r\n\r\n  {"b": "", "a": 123456789012345678901}\r\n'
        b'{"a": -1E+2, "b": "\\u00fc"}'
    )
    table = tables.read_jsonl(path)
    assert table.columns == ["a", "b"]
    assert table.rows == [["0.10", "x\ny"], ["123456789012345678901", ""], ["-1E+2", "\u00fc"]]
    assert table.lines == [1, 3, 4]
    assert table.where(1, "b") == f"{path}, line 3, column 'b'"
    np.testing.assert_array_equal(table.numbers(["a"])[[0, 2], 0], [0.1, -100])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        ("\u00a0\n".encode(), "the file has no rows"),
        (b'{"a": 1}\n{"a": \xff}', "not UTF-8 text (byte 0xff at offset 15)"),
        (b'{"a": "\x00"}', "not a text file (it holds zero bytes)"),
        (b'{"a": 1}\n{"a": ', "line 2: not valid JSON (Expecting value, column 7)"),
        (b'{"a": 1} {"a": 2}', "line 1: not valid JSON (Extra data, column 10)"),
        (b'[{"a": 1}]', "line 1: not a JSON object"),
        (b'\n"a"', "line 2: not a JSON object"),
        (b"{}", "line 1: not a JSON object with keys"),
        (b'{"a": 1, "b": 2}\n{"a": 1}', "line 2: the key 'b' is missing"),
        (b'{"a": 1}\n{"a": 1, "c": 2}', "line 2: the key 'c' is new"),
        (b'{"a": 1, "a": 1}', "line 1: the key 'a' appears twice"),
        (b'{"a": null}', "line 1, key 'a': null is neither"),
        (b'{"a": [1]}', "line 1, key 'a': a list is neither"),
        (b'{"a": {"b": 1}}', "line 1, key 'a': an object is neither"),
        (b'{"a": NaN}', "line 1, key 'a': NaN or Infinity is neither"),
        (b'{"a": -Infinity}', "line 1, key 'a': NaN or Infinity is neither"),
        (b'{"a": "\\ud800"}', "line 1, key 'a': '\\ud800' is not text"),
        (b'{"a\\u0000": "x"}', "line 1, key 'a\\x00': 'x' is not text"),
        (b'{"a": ' + 100_000 * b"[" + 100_000 * b"]" + b"}", "line 1: nested too deeply"),
    ],
)
def test_what_is_no_jsonl_is_told_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        tables.read_jsonl(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_parquet_cells_are_the_text_of_flat_types_and_nulls_are_empty(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "t.parquet",
        {
            "text": ["x", None],
            "whole": pyarrow.array([2**63, 1], pyarrow.uint64()),
            "share": [0.949, 1.0],
            "half": pyarrow.array(np.array([0.5, 1.5], np.float16)),
            "coded": pyarrow.array(["b", "b"]).dictionary_encode(),
            "exact": [decimal.Decimal("1.50"), None],
            "day": [datetime.date(2026, 11, 24), None],
            "flag": [True, False],
            "nothing": pyarrow.nulls(2),
        },
    )
    table = tables.read_parquet(path)
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "text": "x", "whole": str(2**63), "share": "0.949", "half": "0.5", "coded": "b",
        "exact": "1.50", "day": "2026-11-24", "flag": "true", "nothing": "",
    }  # fmt: skip
    assert table.rows[1] == ["", "1", "1", "1.5", "b", "", "", "false", ""]
    assert table.where(1, "text") == f"{path}, row 2, column 'text'"
    assert table.place(1) == "row 2"
    with pytest.raises(UserError, match="row 2, column 'text': the cell is empty"):
        table.texts("text")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wide=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    narrow=st.floats(allow_nan=False, allow_infinity=False, width=32),
)
def test_parquet_numbers_read_back_exactly(
    tmp_path: Path, wide: list[float], narrow: float
) -> None:
    single = pyarrow.array([narrow] * len(wide), pyarrow.float32())
    path = write_parquet(tmp_path / "t.parquet", {"wide": wide, "narrow": single})
    numbers = tables.read_parquet(path).numbers(["wide", "narrow"])
    np.testing.assert_array_equal(numbers[:, 0], wide)
    np.testing.assert_array_equal(numbers[:, 1], narrow)


def test_what_is_no_parquet_table_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    x = pyarrow.array(["x"])
    for columns, message in [
        ({"a": x, "b": pyarrow.array([[1]])}, "column 'b' (list<element: int64>): not text or nu"),
        ({"a": x, "b": pyarrow.array([{"c": 1}])}, "column 'b' (struct<c: int64>): not text or"),
        ({"a": pyarrow.array([b"\xff"])}, "column 'a' (binary): not text or numbers (Invalid UTF8"),
        ({"a": pyarrow.array(["x\0"])}, "row 1, column 'a': 'x\\x00' is not text"),
        ({"a": pyarrow.array([], pyarrow.string())}, "the file has no rows"),
        ({}, "the file has no rows"),
    ]:
        write_parquet(path, columns)
        with pytest.raises(UserError) as error:
            tables.read_parquet(path)
        assert message in str(error.value)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    twice = pyarrow.table([x, x], names=["a", "a"])
    pyarrow.parquet.write_table(twice, path)
    with pytest.raises(UserError, match="the column 'a' appears twice"):
        tables.read_parquet(path)


def test_damaged_parquet_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(UserError, match="can't be read"):
        tables.read_parquet(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="the file is empty"):
        tables.read_parquet(path)
    write_parquet(path, {"a": ["photo"] * 9}, compression="NONE", write_page_checksum=True)
    good = path.read_bytes()
    for damaged in (good[:-9], b"a,b\n1,2\n", good.replace(b"photo", b"photx", 1)):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not a readable parquet file") as error:
            tables.read_parquet(path)
        assert "\n" not in str(error.value)


GOOD = [{"series_id": 12, "image_a": "a.jpg", "preference": 0.5}] * 3


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_any_nearly_good_bytes_are_a_table_or_a_user_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "t.jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in GOOD))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(GOOD), path)
    good = path.read_bytes()
    tokens = st.sampled_from(
        [b'"', b"{", b"]", b"null", b"NaN", b"\\ud800", b"\xff", b"\n", b"1e9"]
    )

    @settings(max_examples=300)
    @given(
        edits=st.lists(
            st.tuples(st.integers(0, len(good)), st.integers(0, 6), st.binary(max_size=6) | tokens),
            min_size=1,
            max_size=4,
        )
    )
    def fuzz(edits: list[tuple[int, int, bytes]]) -> None:
        data = bytearray(good)
        for start, length, new in edits:
            data[start : start + length] = new
        path.write_bytes(data)
        try:
            table = tables.read_table(path)
        except UserError:
            return
        assert all(len(row) == len(table.columns) for row in table.rows)

    fuzz()
