"""Tables of every kind: bytes that are no table, cells that are no values, odd files."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from attack import Attack, Inputs, case, fed_fifo, good_frame, little_memory, refuses, sparse

import jaxrank
from jaxrank.data.series import read_series
from jaxrank.experiments.catalogue import read_catalogue
from jaxrank.extraction.photos import list_table
from jaxrank.io import tables

HEADER = b"series_id,image_a,image_b,preference\n"
ROWS = "".join(",".join(row) + "\n" for row in good_frame().itertuples(index=False)).encode()
GOOD = HEADER + ROWS
FIRST = b"0,s0-0.jpg,s0-1.jpg,0.2\n"
assert ROWS.startswith(FIRST)


def first(row: str) -> bytes:
    """The good table with another first row."""
    return GOOD.replace(FIRST, (row + "\n").encode())


REFUSED = [
    case("no bytes", b""),
    case("blanks", b" \n\t\r\n"),
    case("header only", HEADER),
    case("header and blank lines", HEADER + b"\n\n\n"),
    case("utf-16 with mark", GOOD.decode().encode("utf-16")),
    case("utf-16 without mark", GOOD.decode().encode("utf-16-le")),
    case("utf-32", GOOD.decode().encode("utf-32")),
    case("latin-1", first("0,\u00e9.jpg,s0-1.jpg,0.2").decode().encode("latin-1")),
    case("zero byte", GOOD.replace(b"s0-0", b"s0\x000", 1)),
    case("only zero bytes", bytes(5000)),
    case("lone surrogate", GOOD.replace(b"s0-0", b"s\xed\xa0\x800", 1)),
    case("overlong slash", GOOD.replace(b"s0-0", b"s\xc0\xaf0", 1)),
    case("cut letter at the end", GOOD + b"\xe2\x82"),
    case("gzip", b"\x1f\x8b\x08\x00" + bytes(range(1, 200))),
    case("excel", b"PK\x03\x04\x14\x00\x06\x00" + bytes(range(1, 200))),
    case("semicolons", GOOD.replace(b",", b";")),
    case("tabs", GOOD.replace(b",", b"\t")),
    case("column twice", GOOD.replace(b"image_b", b"image_a", 1)),
    case("columns in capitals", GOOD.replace(b"image_a", b"IMAGE_A", 1)),
    case("column missing", b"series_id,image_a,image_b\n1,a,b\n"),
    case("no header", ROWS),
    case("short row", first("0,s0-0.jpg,s0-1.jpg")),
    case("long row", first("0,s0-0.jpg,s0-1.jpg,0.2,9")),
    case("open quote", GOOD + b'7,"s7-0.jpg,s7-1.jpg,0.4\n'),
    case("text behind a quote", first('0,"s0-0.jpg"x,s0-1.jpg,0.2')),
    case("huge cell", first(f"0,{'x' * 200_000},s0-1.jpg,0.2")),
    case("not a number", first("0,s0-0.jpg,s0-1.jpg,much")),
    case("empty number", first("0,s0-0.jpg,s0-1.jpg,")),
    case("nan", first("0,s0-0.jpg,s0-1.jpg,nan")),
    case("signed nan", first("0,s0-0.jpg,s0-1.jpg,-NaN")),
    case("inf", first("0,s0-0.jpg,s0-1.jpg,inf")),
    case("infinity", first("0,s0-0.jpg,s0-1.jpg,-Infinity")),
    case("1e400", first("0,s0-0.jpg,s0-1.jpg,1e400")),
    case("above 1", first("0,s0-0.jpg,s0-1.jpg,1.0000001")),
    case("below 0", first("0,s0-0.jpg,s0-1.jpg,-0.0000001")),
    case("percent", first("0,s0-0.jpg,s0-1.jpg,20%")),
    case("decimal comma", first('0,s0-0.jpg,s0-1.jpg,"0,2"')),
    case("underscore", first("0,s0-0.jpg,s0-1.jpg,0_0.2")),
    case("arabic digits", first("0,s0-0.jpg,s0-1.jpg,\u0660.\u0662")),
    case("full-width digits", first("0,s0-0.jpg,s0-1.jpg,\uff10.\uff12")),
    case("hexadecimal", first("0,s0-0.jpg,s0-1.jpg,0x1p-2")),
    case("formula", first("0,s0-0.jpg,s0-1.jpg,=1/5")),
    case("5000 digits", first("0,s0-0.jpg,s0-1.jpg," + "9" * 5000)),
    case("no series", first(",s0-0.jpg,s0-1.jpg,0.2")),
    case("blank series", first("\u00a0,s0-0.jpg,s0-1.jpg,0.2")),
    case("no photo", first("0,,s0-1.jpg,0.2")),
    case("same photo twice", first("0,s0-1.jpg,s0-1.jpg,0.2")),
    case("same photo and blanks", first("0, s0-1.jpg,s0-1.jpg ,0.2")),
    case("photo of two series", first("1,s0-0.jpg,s0-1.jpg,0.2")),
    case("one series", HEADER + FIRST),
    case("all ties", b"".join([HEADER, *(b"%d,a%d,b%d,0.5\n" % (s, s, s) for s in range(12))])),
]


@pytest.mark.parametrize("data", REFUSED)
def test_a_table_that_is_none_is_refused(attack: Attack, inputs: Inputs, data: bytes) -> None:
    inputs.pairs.write_bytes(data)
    attack.refused("search", *inputs.words, f"--workdir={inputs.workdir}")


WORKS = [
    case("mark", b"\xef\xbb\xbf" + GOOD),
    case("windows line ends", GOOD.replace(b"\n", b"\r\n")),
    case("old mac line ends", GOOD.replace(b"\n", b"\r")),
    case("mixed line ends", HEADER + ROWS.replace(b"\n", b"\r\n", 7)),
    case("no last line end", GOOD[:-1]),
    case("blank lines", GOOD.replace(b"\n", b"\n\n")),
    case("blanks around cells", GOOD.replace(b",", b" , ")),
    case("all quoted", pd.read_csv(io.BytesIO(GOOD), dtype=str).to_csv(index=False, quoting=1)),
    case("line end in a cell", first('0,"s0\n-0.jpg",s0-1.jpg,0.2')),
    case("quote in a cell", first('0,"s0""-0.jpg",s0-1.jpg,0.2')),
    case("formula as a name", first("0,=cmd|'/c calc'!A0,s0-1.jpg,0.2")),
    case("path as a name", first("0,../../../etc/passwd,s0-1.jpg,0.2")),
    case("absolute path as a name", first("0,/etc/passwd,s0-1.jpg,0.2")),
    case("007 and 7 are one series", GOOD.replace(b"7,s7-0.jpg,s7-1", b"007,s7-0.jpg,s7-1")),
    case("names that print alike", first("0,s0\u200b-0.jpg,s0-1.jpg,0.2")),
    case("composed and decomposed", first("0,\u00e9.jpg,e\u0301.jpg,0.2")),
    case("huge series id", GOOD.replace(b"\n7,", b"\n" + b"9" * 5000 + b",")),
    case("negative series id", GOOD.replace(b"\n7,", b"\n-7,")),
    case("series id nan", GOOD.replace(b"\n7,", b"\nnan,")),
    case("1e-400", first("0,s0-0.jpg,s0-1.jpg,1e-400")),
    case("1e-5", first("0,s0-0.jpg,s0-1.jpg,1e-5")),
    case("minus zero", first("0,s0-0.jpg,s0-1.jpg,-0.0")),
    case("long name", first(f"0,{'x' * 100_000},s0-1.jpg,0.2")),
    case("row twice", GOOD + FIRST),
    case("row contradicted", GOOD + b"0,s0-1.jpg,s0-0.jpg,0.2\n"),
    case("a thousand columns", b"".join(
        [HEADER[:-1], *(b",c%d" % i for i in range(1000)), b"\n",
         ROWS.replace(b"\n", b",1" * 1000 + b"\n")])),
]  # fmt: skip


@pytest.mark.parametrize("data", WORKS)
def test_an_odd_table_works(attack: Attack, inputs: Inputs, data: bytes | str) -> None:
    inputs.pairs.write_bytes(data if isinstance(data, bytes) else data.encode())
    assert "pairs" in attack.works("search", *inputs.words, "--dry_run")


ROW = {"series_id": "1", "image_a": "a", "image_b": "b", "preference": 0.5}


def line(text: str) -> bytes:
    return (json.dumps(ROW) + "\n" + text + "\n").encode("utf-8", "surrogatepass")


def changed(**values: Any) -> bytes:
    return line(json.dumps(ROW | values))


JSONL = [
    case("not json", line("{")),
    case("python", line(repr(ROW))),
    case("text behind", line(json.dumps(ROW) + "x")),
    case("two objects", line(json.dumps(ROW) * 2)),
    case("list", line("[1, 2]")),
    case("number", line("7")),
    case("null", line("null")),
    case("empty object", line("{}")),
    case("key twice", line('{"series_id": "1", "series_id": "2"}')),
    case("key missing", line('{"series_id": "1"}')),
    case("key new", changed(more=1)),
    case("key empty", changed(**{"": 1})),
    case("value null", changed(preference=None)),
    case("value list", changed(image_a=["a"])),
    case("value object", changed(image_a={"a": 1})),
    case("nan", changed(preference=float("nan"))),
    case("infinity", changed(preference=float("inf"))),
    case("1e400", line(json.dumps(ROW).replace("0.5", "1e400"))),
    case("5000 digits", line(json.dumps(ROW).replace("0.5", "9" * 5000))),
    case("escaped surrogate", line(json.dumps(ROW).replace('"a"', '"\\ud800"'))),
    case("escaped zero", changed(image_a="a\0")),
    case("surrogate", line(json.dumps(ROW).replace('"a"', '"\ud800"'))),
    case("nested", line("[" * 100_000)),
    case("nested objects", line('{"a":' * 100_000)),
    case("true as preference", changed(preference=True)),
]


@pytest.mark.parametrize("data", JSONL)
def test_json_lines_that_are_none_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(data)
    refuses(lambda: jaxrank.read_preferences(path), "t.jsonl")


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def preferred(values: Any) -> bytes:
    return parquet(series_id=["1", "2"], image_a=["a", "c"], image_b=["b", "d"], preference=values)


WHOLE = preferred([0.1, 0.9])
PARQUET = [
    case("csv by this name", GOOD),
    case("ends only", b"PAR1PAR1"),
    case("half", WHOLE[: len(WHOLE) // 2]),
    case("last byte cut", WHOLE[:-1]),
    case("length of the footer", WHOLE[:-8] + b"\xff\xff\xff\x7f" + WHOLE[-4:]),
    case("footer of zeros", WHOLE[:-108] + bytes(100) + WHOLE[-8:]),
    case("null", preferred([0.1, None])),
    case("nan", preferred([0.1, float("nan")])),
    case("inf", preferred([0.1, float("inf")])),
    case("list", preferred([[0.1], [0.9]])),
    case("struct", preferred([{"a": 1}, {"a": 2}])),
    case("binary", preferred([b"\xff", b"\xfe"])),
    case("dates", preferred(pd.to_datetime(["2026-01-01", "2026-01-02"]))),
    case("no rows", preferred([0.1, 0.9])[:0] or parquet(series_id=[], image_a=[], image_b=[])),
    case("no columns", parquet()),
    case("zero byte in text", parquet(series_id=["1"], image_a=["a\0"], image_b=["b"],
                                      preference=[0.1])),
]  # fmt: skip


@pytest.mark.parametrize("data", PARQUET)
def test_parquet_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(data)
    refuses(lambda: jaxrank.read_preferences(path), "t.parquet")


LISTED = "1 1 2 0.7 1 2\n"
LISTS = [
    case("a column too many", "1 1 2 0.7 1 2 9"),
    case("number zero", "1 0 2 0.7 1 2"),
    case("number negative", "1 -1 2 0.7 1 2"),
    case("number with a point", "1 1.0 2 0.7 1 2"),
    case("number of 30 digits", f"1 {'9' * 30} 2 0.7 1 2"),
    case("series is text", "one 1 2 0.7 1 2"),
    case("rank nan", "1 1 2 0.7 nan 2"),
    case("preference nan", "1 1 2 nan 1 2"),
    case("preference above 1", "1 1 2 7 1 2"),
    case("photo with itself", "1 1 1 0.7 1 2"),
    case("thai digits", "1 \u0e51 2 0.7 1 2"),
    case("form feed", "1 1 2\f0.7 1"),
]


@pytest.mark.parametrize("row", LISTS)
def test_a_pair_list_that_is_none_is_refused(tmp_path: Path, row: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(LISTED + row + "\n")
    refuses(lambda: jaxrank.read_preferences(path), "list.txt")


VOTED = "series_id,compareFile1,compareFile2,LEFT,RIGHT\n3,3-1.JPG,3-2.JPG,5,1\n"
VOTES = [
    case("negative", "3,3-1.JPG,3-3.JPG,-5,1"),
    case("half a vote", "3,3-1.JPG,3-3.JPG,5,1.5"),
    case("1e10 votes", "3,3-1.JPG,3-3.JPG,5,1e10"),
    case("1e400 votes", "3,3-1.JPG,3-3.JPG,5,1e400"),
    case("nan votes", "3,3-1.JPG,3-3.JPG,5,nan"),
    case("other series", "3,4-1.JPG,4-3.JPG,5,1"),
    case("path", "3,../3-1.JPG,3-3.JPG,5,1"),
    case("no number", "3,3.JPG,3-3.JPG,5,1"),
    case("30 digits", f"3,3-{'9' * 30}.JPG,3-3.JPG,5,1"),
    case("format string", "3,{series}-1.JPG,3-3.JPG,5,1"),
]


@pytest.mark.parametrize("row", VOTES)
def test_votes_that_are_none_are_refused(tmp_path: Path, row: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(VOTED + row + "\n")
    refuses(lambda: jaxrank.read_preferences(path), "votes.csv")


CATALOGUE = "experiment_name,mlp_hidden_dims,batch_size,learning_rate,max_epochs,dropout\n"
EXPERIMENTS = [
    case("name a path", "../x,8,16,0.1,3,0"),
    case("name absolute", "/x,8,16,0.1,3,0"),
    case("name hidden", ".x,8,16,0.1,3,0"),
    case("name of a reference", "linear,8,16,0.1,3,0"),
    case("name taken", "checkpoints,8,16,0.1,3,0"),
    case("name twice", "a,8,16,0.1,3,0\na,8,16,0.1,3,0"),
    case("name of 300 letters", f"{'x' * 300},8,16,0.1,3,0"),
    case("name with an escape", "a\x1b[31m,8,16,0.1,3,0"),
    case("width zero", "a,0,16,0.1,3,0"),
    case("width of 10 digits", "a,9999999999,16,0.1,3,0"),
    case("widths are words", "a,wide,16,0.1,3,0"),
    case("batch nan", "a,8,nan,0.1,3,0"),
    case("batch of 30 digits", f"a,8,{'9' * 30},0.1,3,0"),
    case("batch superscript", "a,8,\u00b2,0.1,3,0"),
    case("rate inf", "a,8,16,inf,3,0"),
    case("rate 1e400", "a,8,16,1e400,3,0"),
    case("rate a formula", "a,8,16,=0.1,3,0"),
    case("dropout rounds to 1", "a,8,16,0.1,3,0.99999999"),
    case("epochs 2^31", "a,8,16,0.1,2147483648,0"),
]


@pytest.mark.parametrize("row", EXPERIMENTS)
def test_a_catalogue_that_is_none_is_refused(tmp_path: Path, row: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(CATALOGUE + row + "\n")
    refuses(lambda: read_catalogue(path), "c.csv")


PHOTOS = [
    case("leads out", "image,path\na,../secret.jpg"),
    case("leads out at the end", "image,path\na,x/../../secret.jpg"),
    case("absolute", "image,path\na,/etc/passwd"),
    case("photo twice", "image\na.jpg\na.jpg"),
    case("no column", "photo\na.jpg"),
    case("path empty", "image,path\na,"),
]


@pytest.mark.parametrize("text", PHOTOS)
def test_a_table_of_photos_that_leads_out_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "photos.csv"
    path.write_text(text + "\n")
    refuses(lambda: list_table(path), "photos.csv")


READERS: dict[str, tuple[str, Callable[[Path], object], bytes]] = {
    "pairs": ("t.csv", jaxrank.read_preferences, GOOD),
    "json lines": ("t.jsonl", tables.read_table, line(json.dumps(ROW))),
    "parquet": ("t.parquet", tables.read_table, WHOLE),
    "series": ("t.csv", read_series, b"series_id,image\n1,a\n"),
    "block": ("t.csv", jaxrank.read_block_csv, b"image,x\na,1\nb,2\n"),
    "photos": ("t.csv", list_table, b"image\na.jpg\n"),
    "catalogue": ("t.csv", read_catalogue, (CATALOGUE + "a,8,16,0.1,3,0\n").encode()),
}
each_reader = pytest.mark.parametrize("reader", READERS)


@each_reader
def test_a_table_may_be_a_pipe(tmp_path: Path, reader: str) -> None:
    name, read, good = READERS[reader]
    with fed_fifo(tmp_path / name, good):
        read(tmp_path / name)


@each_reader
@pytest.mark.parametrize("kind", ["missing", "folder", "circle", "dangling"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, reader: str, kind: str) -> None:
    name, read, _ = READERS[reader]
    path = tmp_path / name
    if kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nothing")
    refuses(lambda: read(path), str(tmp_path))


@each_reader
def test_a_table_of_8_gb_is_refused(tmp_path: Path, reader: str) -> None:
    name, read, good = READERS[reader]
    sparse(tmp_path / name, head=good)
    with little_memory():
        refuses(lambda: read(tmp_path / name), name)


@pytest.mark.parametrize("path", [case("zeros", "/dev/zero")])
def test_a_table_without_an_end_is_refused(path: str) -> None:
    with little_memory():
        refuses(lambda: jaxrank.read_preferences(path), path)


@pytest.mark.parametrize(
    "name",
    [
        case("zero byte", "a\0b"),
        case("half a letter", "\ud800"),
        case("300 letters", "a" * 300),
        case("home of nobody", "~nobody/x"),
        case("empty", ""),
        case("this folder", "."),
    ],
)
def test_a_path_that_is_none_is_refused(name: str) -> None:
    refuses(lambda: jaxrank.read_preferences(name))


def test_a_link_to_a_table_may_be_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(GOOD)
    os.symlink(tmp_path / "t.csv", tmp_path / "link.csv")
    assert len(jaxrank.read_preferences(tmp_path / "link.csv").table) == 36
