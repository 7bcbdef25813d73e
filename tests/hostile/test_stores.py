"""Feature stores: each key of a manifest damaged, arrays that are no arrays, odd files."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack import (
    Attack,
    Inputs,
    case,
    fifo_left_alone,
    flip,
    good_block,
    good_frame,
    little_memory,
    refuses,
    result_or_refusal,
    sparse,
)

import jaxrank
from jaxrank.data import feature_store
from jaxrank.data.feature_store import Block, Extraction
from jaxrank.data.importers import read_block_npy, read_block_safetensors

SHA = "0" * 64
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "number": -1,
    "infinity": float("inf"),
    "text": "\u202e\x1b[31m",
    "list": [],
    "list of lists": [["a"]],
    "object": {},
    "nested": [{"a": [None]}],
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store whose block was made of photos, so that its manifest has every key."""
    folder = tmp_path / "store"
    block = good_block(good_frame(2))
    made = Extraction({"model": "m"}, [SHA] * len(block.photos))
    feature_store.write_block(folder, "iqa", block._replace(caveat="c", extraction=made))
    return folder


def manifest(store: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = store / "manifest.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def array(store: Path) -> Path:
    (path,) = store.glob("iqa-*.npy")
    return path


ENTRY = ("photos", "shards", "columns", "dtype", "source", "sha256", "caveat", "extraction")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", ENTRY)
def test_a_damaged_entry_is_refused(store: Path, key: str, value: str) -> None:
    manifest(store, lambda m: m["blocks"]["iqa"].update({key: VALUES[value]}))
    read = result_or_refusal(lambda: jaxrank.open_feature_store(store))
    # Any text may say where a block comes from.
    assert read is None or (key in ("source", "caveat") and value == "text")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", ["recipe", "options", "photos_sha256"])
def test_a_damaged_extraction_is_refused(store: Path, key: str, value: str) -> None:
    manifest(store, lambda m: m["blocks"]["iqa"]["extraction"].update({key: VALUES[value]}))
    read = result_or_refusal(lambda: jaxrank.open_feature_store(store))
    assert read is None or (key, value) in (("recipe", "object"), ("options", "object"))


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", ["format", "blocks"])
def test_a_damaged_manifest_is_refused(store: Path, key: str, value: str) -> None:
    manifest(store, lambda m: m.update({key: VALUES[value]}))
    if (key, value) != ("format", "true"):  # which Python takes for 1
        refuses(lambda: jaxrank.open_feature_store(store), "manifest.json")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a\0", "\x1b[31m", "A", "x" * 33])
def test_a_block_of_a_damaged_name_is_refused(store: Path, name: str) -> None:
    manifest(store, lambda m: m["blocks"].update({name: m["blocks"].pop("iqa")}))
    refuses(lambda: jaxrank.open_feature_store(store), "manifest.json")


WHOLE_MANIFESTS = [
    case("empty", b""),
    case("null", b"null"),
    case("list", b"[]"),
    case("zero bytes", bytes(100)),
    case("utf-16", '{"format": 1}'.encode("utf-16")),
    case("mark", b'\xef\xbb\xbf{"format": 1}'),
    case("nested", b"[" * 200_000),
    case("nested objects", b'{"a":' * 200_000),
    case("5000 digits", b'{"format": ' + b"1" * 5000 + b"}"),
    case("nan", b'{"format": NaN, "blocks": NaN}'),
    case("surrogates", b'{"format": 1, "blocks": {"\\ud800": {}}}'),
]


@pytest.mark.parametrize("data", WHOLE_MANIFESTS)
def test_a_manifest_that_is_none_is_refused(attack: Attack, inputs: Inputs, data: bytes) -> None:
    (inputs.store / "manifest.json").write_bytes(data)
    attack.refused("search", *inputs.words, "--dry_run", names="manifest.json")


@pytest.mark.parametrize("kind", ["circle", "dangling", "folder", "missing"])
@pytest.mark.parametrize("name", ["manifest", "array"])
def test_a_file_of_a_store_that_is_none_is_refused(store: Path, name: str, kind: str) -> None:
    path = store / "manifest.json" if name == "manifest" else array(store)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "dangling":
        path.symlink_to(store / "nothing")
    refuses(lambda: jaxrank.open_feature_store(store), str(store))


@pytest.mark.parametrize("name", [case("manifest", "manifest"), case("array", "array")])
def test_a_pipe_in_a_store_is_refused(store: Path, name: str) -> None:
    path = store / "manifest.json" if name == "manifest" else array(store)
    path.unlink()
    with fifo_left_alone(path):
        refuses(lambda: jaxrank.open_feature_store(store), str(store))


@pytest.mark.parametrize("name", [case("manifest", "manifest"), case("array", "array")])
def test_a_file_of_8_gb_in_a_store_takes_no_memory(store: Path, name: str) -> None:
    path = store / "manifest.json" if name == "manifest" else array(store)
    sparse(path, head=path.read_bytes())
    with little_memory():
        read = result_or_refusal(lambda: jaxrank.open_feature_store(store))
    assert read is None or name == "array"  # what is behind an array is not read


@pytest.mark.parametrize("share", [0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_a_cut_array_is_refused(store: Path, share: float) -> None:
    path = array(store)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refuses(lambda: jaxrank.open_feature_store(store), path.name)


@pytest.mark.parametrize("place", [0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1])
def test_a_flipped_bit_in_an_array_is_found(store: Path, place: float) -> None:
    path = array(store)
    good = jaxrank.open_feature_store(store)["iqa"].values.copy()
    flip(path, place)
    read = result_or_refusal(lambda: jaxrank.open_feature_store(store))
    # A bit of the header's padding changes nothing.
    assert read is None or (place < 0.4 and np.array_equal(read["iqa"].values, good))


def header(description: str) -> bytes:
    text = description.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


F4 = np.zeros((6, 2), "<f4")
ARRAYS: list[Any] = [
    case("float64", F4.astype("<f8")),
    case("float16", F4.astype("<f2")),
    case("big-endian", F4.astype(">f4")),
    case("complex", F4.astype("c8")),
    case("int32", F4.astype("<i4")),
    case("bool", F4.astype("?")),
    case("text", F4.astype("U4")),
    case("bytes", F4.astype("S4")),
    case("dates", F4.astype("M8[s]")),
    case("record", np.zeros(6, [("a", "<f4"), ("b", "<f4")])),
    case("transposed", F4.T.copy()),
    case("fortran", np.asfortranarray(F4)),
    case("flat", F4.ravel()),
    case("cube", F4[None]),
    case("one number", np.float32(0)),
    case("no rows", F4[:0]),
    case("nan", F4 * np.nan),
    case("pickle", np.array([{"a": 1}, None], dtype=object)),
]


@pytest.mark.parametrize("values", ARRAYS)
def test_another_array_is_refused(store: Path, values: np.ndarray) -> None:
    np.save(array(store), values, allow_pickle=True)
    refuses(lambda: jaxrank.open_feature_store(store), "iqa-")


HEADERS = [
    case("code", header("__import__('os').system('touch owned')")),
    case("terabytes", header("{'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 2)}")),
    case("2^62 rows", header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 2)}}")),
    case("negative", header("{'descr': '<f4', 'fortran_order': False, 'shape': (-6, 2)}")),
    case("object", header("{'descr': '|O', 'fortran_order': False, 'shape': (6, 2)}")),
    case("more keys", header("{'descr': '<f4', 'fortran_order': False, 'shape': (6, 2), 'a': 1}")),
    case("nested", header("(" * 5000)),
    case("unknown type", header("{'descr': 'owned', 'fortran_order': False, 'shape': (6, 2)}")),
    case("version 9", b"\x93NUMPY\x09\x00" + bytes(100)),
    case("version 3", b"\x93NUMPY\x03\x00" + struct.pack("<I", 2**31) + b"{}"),
    case("archive", b"PK\x03\x04" + bytes(100)),
    case("pickle", b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."),
]


@pytest.mark.parametrize("data", HEADERS)
def test_a_hostile_header_is_refused(store: Path, data: bytes) -> None:
    array(store).write_bytes(data)
    with little_memory():
        refuses(lambda: jaxrank.open_feature_store(store), "iqa-")
    assert list(Path.cwd().iterdir()) == []


def tensors(description: object, data: bytes = b"") -> bytes:
    text = json.dumps(description).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str = "F32", shape: object = (2, 2), ends: object = (0, 16)) -> dict[str, Any]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": ends}}


TENSORS = [
    case("empty", b""),
    case("length of 2^63", struct.pack("<Q", 2**63) + b"{}"),
    case("length above the file", struct.pack("<Q", 1000) + b"{}"),
    case("not json", struct.pack("<Q", 3) + b"{{{"),
    case("no tensors", tensors({})),
    case("list", tensors([1])),
    case("cut", tensors(tensor(), bytes(9))),
    case("bytes behind", tensors(tensor(), bytes(99))),
    case("offsets turned round", tensors(tensor(ends=(16, 0)), bytes(16))),
    case("shape negative", tensors(tensor(shape=(-2, 2)), bytes(16))),
    case("shape of 2^62", tensors(tensor(shape=(2**62, 2**62)), bytes(16))),
    case("bfloat16", tensors(tensor("BF16", ends=(0, 8)), bytes(8))),
    case("float8", tensors(tensor("F8_E4M3", ends=(0, 4)), bytes(4))),
    case("unknown type", tensors(tensor("owned"), bytes(16))),
    case("three dimensions", tensors(tensor(shape=(2, 2, 1)), bytes(16))),
    case("no rows", tensors(tensor(shape=(0, 2), ends=(0, 0)))),
    case("nan", tensors(tensor(), np.full(4, np.nan, "<f4").tobytes())),
    case("pickle", b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."),
]


@pytest.mark.parametrize("data", TENSORS)
def test_safetensors_that_are_none_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(data)
    (tmp_path / "names.txt").write_text("a\nb\n")
    refuses(lambda: read_block_safetensors(path, tmp_path / "names.txt", block="x"), "t.safe")


NAMES = [
    case("too few", b"a\n"),
    case("too many", b"a\nb\nc\n"),
    case("twice", b"a\na\n"),
    case("empty", b""),
    case("blank line", b"a\n\nb\n"),
    case("zero byte", b"a\nb\0\n"),
    case("latin-1", b"a\n\xe9\n"),
    case("utf-16", "a\nb\n".encode("utf-16")),
]


@pytest.mark.parametrize("names", NAMES)
def test_names_that_are_none_are_refused(tmp_path: Path, names: bytes) -> None:
    np.save(tmp_path / "f.npy", F4[:2])
    (tmp_path / "names.txt").write_bytes(names)
    refuses(
        lambda: read_block_npy(tmp_path / "f.npy", tmp_path / "names.txt", block="x"), "names.txt"
    )


BLOCKS = [
    case("formula", "image,x\na,=1+1\n"),
    case("1e39", "image,x\na,1e39\n"),
    case("1e400", "image,x\na,-1e400\n"),
    case("nan", "image,x\na,nan\n"),
    case("no columns", "image\na\n"),
    case("column twice", "image,x,x\na,1,2\n"),
    case("column without a name", "image,\na,1\n"),
    case("photo twice", "image,x\na,1\na,2\n"),
    case("photo twice with blanks", "image,x\na,1\n a ,2\n"),
    case("photo empty", "image,x\n,1\n"),
    case("5000 digits", f"image,x\na,{'9' * 5000}\n"),
    case("too close to tell apart", "image,x\na,100000000\nb,100000001\n"),
]


@pytest.mark.parametrize("text", BLOCKS)
def test_a_block_that_is_none_is_refused(attack: Attack, inputs: Inputs, text: str) -> None:
    path = inputs.folder / "b.csv"
    path.write_text(text)
    attack.refused(
        "features", f"--from_csv={path}", "--block=x", f"--features={inputs.store}", names="b.csv"
    )


@pytest.mark.parametrize("kind", [case("npy", "npy"), case("safetensors", "safetensors")])
def test_an_array_that_is_a_pipe_is_refused(tmp_path: Path, kind: str) -> None:
    path, names = tmp_path / f"f.{kind}", tmp_path / "names.txt"
    names.write_text("a\nb\n")
    read: Any = read_block_npy if kind == "npy" else read_block_safetensors
    with fifo_left_alone(path):
        refuses(lambda: read(path, names, block="x"), path.name)


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_an_array_of_8_gb_of_nothing_is_refused(tmp_path: Path, kind: str) -> None:
    path, names = tmp_path / f"f.{kind}", tmp_path / "names.txt"
    names.write_text("a\nb\n")
    sparse(path)
    read: Any = read_block_npy if kind == "npy" else read_block_safetensors
    with little_memory():
        refuses(lambda: read(path, names, block="x"), path.name)


@pytest.mark.parametrize("kind", ["itself", "damaged", "other columns", "no store"])
def test_a_store_that_does_not_fit_is_not_merged(attack: Attack, inputs: Inputs, kind: str) -> None:
    source = inputs.folder / "source"
    if kind == "itself":
        source.symlink_to(inputs.store)
    elif kind == "no store":
        source.mkdir()
    else:
        columns = ("x",) if kind == "other columns" else ("sharpness", "contrast")
        feature_store.write_block(source, "iqa", good_block(good_frame(), columns))
    if kind == "damaged":
        flip(array(source), 1)
    attack.refused("features", f"--from_store={source}", f"--features={inputs.store}")


def array_as_folder(store: Path) -> None:
    path = array(store)
    path.unlink()
    path.mkdir()


DAMAGED_STORE: dict[str, Callable[[Path], object]] = {
    "manifest cut": lambda s: (s / "manifest.json").write_text('{"format": 1, "blo'),
    "entry damaged": lambda s: manifest(s, lambda m: m["blocks"]["iqa"].pop("shards")),
    "entry a list": lambda s: manifest(s, lambda m: m["blocks"].update(iqa=[])),
    "digest a path": lambda s: manifest(
        s, lambda m: m["blocks"]["iqa"].update(sha256="../../secret")
    ),
    "array a folder": array_as_folder,
}


@pytest.mark.parametrize("kind", DAMAGED_STORE)
def test_writing_to_a_damaged_store_is_a_refusal_or_mends_it(
    store: Path, tmp_path: Path, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    DAMAGED_STORE[kind](store)
    result_or_refusal(lambda: feature_store.write_block(store, "iqa", good_block(good_frame(2))))
    result_or_refusal(lambda: jaxrank.open_feature_store(store))
    assert secret.read_text() == "s"


MEMORY: list[Any] = [
    case("no photos", Block([], ["x"], np.zeros((0, 1), "f"))),
    case("no columns", Block(["a"], [], np.zeros((1, 0), "f"))),
    case("other shape", Block(["a"], ["x"], np.zeros((2, 1), "f"))),
    case("flat", Block(["a"], ["x"], np.zeros(1, "f"))),
    case("nan", Block(["a"], ["x"], np.full((1, 1), np.nan, "f"))),
    case("too large", Block(["a"], ["x"], np.full((1, 1), 1e300))),
    case("objects", Block(["a"], ["x"], np.array([[object()]]))),
    case("texts", Block(["a"], ["x"], np.array([["1"]]))),
    case("complex", Block(["a"], ["x"], np.ones((1, 1), complex))),
    case("photo a number", Block([1], ["x"], np.ones((1, 1)))),  # type: ignore[list-item]
    case("photo twice", Block(["a", "a"], ["x"], np.ones((2, 1)))),
    case("column twice", Block(["a"], ["x", "x"], np.ones((1, 2)))),
    case("half a letter", Block(["\ud800"], ["x"], np.ones((1, 1), "f"))),
]


@pytest.mark.parametrize("block", MEMORY)
def test_a_block_in_memory_that_is_none_is_refused(tmp_path: Path, block: Block) -> None:
    refuses(lambda: feature_store.write_block(tmp_path / "s", "iqa", block))
    assert not list(tmp_path.rglob("*.tmp"))
