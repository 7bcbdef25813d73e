import csv
from pathlib import Path

import numpy as np
import pytest

from jaxrank.data.preferences import read_preferences
from jaxrank.errors import UserError
from jaxrank.io import arrow_rows, tables

PLAIN = [
    b"a,b\n1,x\n2,y\n",
    b"\xef\xbb\xbfa, b \r\n 1 ,\r\n-2e-3,\xc3\xbc\r\n",
    b"a,b\n0.1,' =x\n1e400,",
    b"a,b\n+1,x\n 1_000 ,x\n",
]
# What pyarrow would read otherwise than the csv module, or could not name the line of.
NOT_PLAIN = [
    b'a,b\n1,"x,y"\n',
    b"a,b\n\n1,x\n",
    b"\na,b\n1,x\n",
    b"a,b\r1,x\r",
    b"a,b\n1,x\n2\n",
    b"a,b\n1,\xff\n",
    b"a,b\n1,\0\n",
    b"a,b\n",
    b"a\n1\n\n2\n",
    b"a,b\n1," + b"x" * (csv.field_size_limit() + 1) + b"\n",
]


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_rows, "LEAST_BYTES", 0)


def numbers(table: tables.Table) -> object:
    try:
        return table.numbers(["a"]).tolist()
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("data", PLAIN)
def test_a_plain_file_is_read_as_by_the_csv_module(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = tables.parse_csv(Path("t.csv"), data)
    assert isinstance(fast.rows, arrow_rows.ArrowRows)
    monkeypatch.setattr(arrow_rows, "LEAST_BYTES", 1 << 40)
    careful = tables.parse_csv(Path("t.csv"), data)
    assert isinstance(careful.rows, list)
    assert fast.columns == careful.columns
    assert list(fast.rows) == careful.rows == [fast.rows[0], *fast.rows[1:]]
    assert list(fast.lines) == careful.lines
    assert fast.texts("a") == careful.texts("a")
    assert fast.cells("b") == careful.cells("b")
    assert numbers(fast) == numbers(careful)
    assert list(fast.take([1, 0, 1]).rows) == careful.take([1, 0, 1]).rows
    more = [table.with_column("c", ["u", "v"]).rows for table in (fast, careful)]
    assert more[0] == more[1]


@pytest.mark.parametrize("data", NOT_PLAIN)
def test_any_other_file_is_left_to_the_csv_module(data: bytes) -> None:
    assert arrow_rows.parse(data) is None


def test_numbers_are_the_nearest_ones() -> None:
    rng = np.random.default_rng(0)
    cells = [repr(float(x)) for x in rng.standard_normal(2000) * 10.0 ** rng.integers(-300, 300)]
    cells += ["9007199254740993", "5e-324", "1.7976931348623157e308", "0.1" + "0" * 400 + "1"]
    table = tables.parse_csv(Path("t.csv"), "\n".join(["a", *cells]).encode())
    assert isinstance(table.rows, arrow_rows.ArrowRows)
    assert table.numbers(["a"])[:, 0].tolist() == [float(cell) for cell in cells]


def test_pairs_of_a_large_file_are_those_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        "series_id,image_a,image_b,preference,rank\n"
        "007,b, a,0.25,1\n7,a,b,0.5,2\n8,c,d,1,\n8,d,e,0,3\n8,d,c,1,4\n"
    )
    fast = read_preferences(path)
    monkeypatch.setattr(arrow_rows, "LEAST_BYTES", 1 << 40)
    careful = read_preferences(path)
    assert fast.table.equals(careful.table)
    assert fast.table["preference"].tolist() == [0.375, 0.5, 0.0]
    assert fast.notes == careful.notes
    assert "5 rows merged to 3 pairs; 1 of them" in fast.notes[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,a,b,x", "line 4, column 'preference': 'x' is not a finite number"),
        ("1,a,,1", "line 4, column 'image_b': the cell is empty"),
        ("1,a,a,1", "line 4: photo 'a' is compared with itself"),
        ("2,a,c,1", "line 4: photo 'a' is in series 2 and, on line 2, in series 1"),
        ("1,a,b", "line 4 ('1'): 3 cells"),
    ],
)
def test_an_error_in_a_large_file_names_its_line(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "p.csv"
    head = "series_id,image_a,image_b,preference\n1,a,b,1\n1,b,d,0.5\n"
    path.write_text(head + row + "\n3,x,y,1\n")
    with pytest.raises(UserError) as error:
        read_preferences(path)
    assert message in str(error.value)
