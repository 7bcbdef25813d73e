"""Readers of blocks: CSV, .npy with names, safetensors."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from jaxrank.data import feature_store, importers
from jaxrank.errors import UserError


def test_csv_becomes_a_block(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("image,sharpness,contrast\n b.jpg ,1,2.5\na.jpg,-3,1e-3\n")
    block = importers.read_block_csv(path)
    assert block.photos == ["b.jpg", "a.jpg"]
    assert block.columns == ["sharpness", "contrast"]
    assert block.values.dtype == np.float32
    np.testing.assert_allclose(block.values, [[1, 2.5], [-3, 1e-3]])
    assert block.source == "f.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x\na,1\nb,nan\n", "line 3, column 'x' ('b'): 'nan' is not a finite number"),
        ("image,x\na,1\nb,inf\n", "('b'): 'inf' is not a finite number"),
        ("image,x\na,1\nb,\n", "('b'): '' is not a finite number"),
        ("image,x\na,1\nb,1e39\n", "photo 'b', column 'x': 1e+39 is not a finite 32-bit number"),
        ("image,x\na,1\nb,2\na,3\n", "line 4: photo 'a' appears twice, first on line 2"),
        ("image,x\na,1\nb\n", "line 3 ('b'): 1 cells"),
        ("image,series_id,x\na,1,2\n", "the column 'series_id' is not a feature"),
        ("image\na\n", "one column only"),
        ("image,x,\na,1,2\n", "column 3 has no name"),
    ],
)
def test_errors_in_a_feature_table_name_the_photo(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        importers.read_block_csv(path)
    assert message in str(error.value)


def written_npy(tmp_path: Path, values: np.ndarray, names: str = "a\nb\n") -> tuple[Path, Path]:
    np.save(tmp_path / "f.npy", values)
    (tmp_path / "names.txt").write_text(names)
    return tmp_path / "f.npy", tmp_path / "names.txt"


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f2", "i8", "u1", "?"])
def test_npy_and_names_become_a_block(tmp_path: Path, dtype: str) -> None:
    values = np.array([[1, 0, 1], [0, 0, 1]], dtype)
    paths = written_npy(tmp_path, values, "\ufeffb.jpg\r\n \u00fc a.jpg \r\n\r\n")
    block = importers.read_block_npy(*paths, block="clip")
    assert block.photos == ["b.jpg", "\u00fc a.jpg"]
    assert block.columns == ["clip_0", "clip_1", "clip_2"]
    assert block.source == "f.npy"
    assert block.values.dtype == (np.float16 if dtype[1:] == "f2" else np.float32)
    np.testing.assert_array_equal(block.values, values)
    named = importers.read_block_npy(*paths, block="iqa", columns=["x", "y", "z"])
    assert named.columns == ["x", "y", "z"]


def test_a_float32_array_stays_on_disk_whatever_its_order(tmp_path: Path) -> None:
    paths = written_npy(tmp_path, np.array([[1, 2, 3], [4, 5, 6]], np.float32, order="F"))
    block = importers.read_block_npy(*paths, block="clip")
    assert isinstance(block.values, np.memmap)
    feature_store.write_block(tmp_path / "store", "clip", block)
    opened = feature_store.open_feature_store(tmp_path / "store")["clip"]
    np.testing.assert_array_equal(opened.values, [[1, 2, 3], [4, 5, 6]])


TWO = np.array([[1, 2], [3, 4]], np.float32)


@pytest.mark.parametrize(
    ("values", "names", "columns", "message"),
    [
        (TWO[0], "a\nb\n", "", "f.npy: an array of shape [2]; a block has two dimensions"),
        (TWO[None], "a\nb\n", "", "an array of shape [1, 2, 2]"),
        (TWO, "a\n", "", "names.txt: 1 names, but"),
        (TWO, "a\nb\nc", "", "names.txt: 3 names, but"),
        (TWO, "a\n\nb\n", "", "names.txt, line 2, column 'photo': the cell is empty"),
        (TWO, "a\nb\n\n\n", "", "names.txt, line 3, column 'photo': the cell is empty"),
        (TWO, "a\nb\na \n", "", "names.txt, line 3: photo 'a' appears twice, first on line 1"),
        (TWO, "", "", "names.txt: the file is empty"),
        (TWO, "a\nb\n", "x", "f.npy: --columns must give 2 names, not x"),
        (TWO, "a\nb\n", "x,", "f.npy: --columns must give 2 names, not x,"),
        (TWO, "a\nb\n", "x,x", "f.npy: column 'x' appears twice"),
        (TWO[:, :0], "a\nb\n", "", "f.npy: "),
        (np.array([[1, np.inf], [2, 3]]), "a\nb\n", "", "photo 'a', column 'clip_1': inf is not"),
        (np.array([["x"], ["y"]]), "a\nb\n", "", "not numbers"),
        (np.array([[1j], [2]]), "a\nb\n", "", "type complex128, not numbers"),
        (np.array([[{}], [{}]], object), "a\nb\n", "", "f.npy: can't be read ("),
        (np.zeros((2, 1), ml_dtypes.bfloat16), "a\nb\n", "", "not numbers"),
    ],
)
def test_errors_in_npy_and_names_are_one_line(
    tmp_path: Path, values: np.ndarray, names: str, columns: str, message: str
) -> None:
    paths = written_npy(tmp_path, values, names)
    with pytest.raises(UserError) as error:
        importers.read_block_npy(
            *paths, block="clip", columns=columns.split(",") if columns else ()
        )
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_npy_file_is_told(tmp_path: Path) -> None:
    array, names = written_npy(tmp_path, TWO)
    np.savez(tmp_path / "f.npz", TWO)
    array.write_bytes(array.read_bytes()[:-1])
    for path in (array, tmp_path / "f.npz", tmp_path / "none.npy", tmp_path, names):
        with pytest.raises(UserError, match="can't be read") as error:
            importers.read_block_npy(path, names, block="clip")
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def written_tensors(tmp_path: Path, **tensors: Any) -> Path:
    save_file({name: np.ascontiguousarray(v) for name, v in tensors.items()}, tmp_path / "f.st")
    return tmp_path / "f.st"


def test_a_tensor_with_names_becomes_a_block(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("b\na\n")
    path = written_tensors(tmp_path, x=TWO.astype(np.float16), scale=np.ones(7))
    block = importers.read_block_safetensors(path, names, block="clip")
    assert block.photos == ["b", "a"]
    assert block.columns == ["clip_0", "clip_1"]
    assert block.source == "f.st"
    assert block.values.dtype == np.float16
    np.testing.assert_array_equal(block.values, TWO)
    # Of several matrices the one called like the block, or the one that was asked for.
    path = written_tensors(tmp_path, clip=TWO, other=TWO + 1)
    block = importers.read_block_safetensors(path, names, block="clip", columns=["x", "y"])
    assert block.columns == ["x", "y"]
    np.testing.assert_array_equal(block.values, TWO)
    block = importers.read_block_safetensors(path, names, block="clip", tensor="other")
    np.testing.assert_array_equal(block.values, TWO + 1)


def test_tensors_called_by_photo_become_a_block(tmp_path: Path) -> None:
    vectors = {"b.jpg": np.array([1, 2.5]), "a.jpg": np.array([3, 4], np.float32)}
    block = importers.read_block_safetensors(written_tensors(tmp_path, **vectors), block="cnn")
    assert block.photos == ["a.jpg", "b.jpg"]
    assert block.columns == ["cnn_0", "cnn_1"]
    assert block.values.dtype == np.float32
    np.testing.assert_array_equal(block.values, [[3, 4], [1, 2.5]])


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        ({"x": TWO, "y": TWO}, {}, "holds 2 tensors: 'x' F32 [2, 2], 'y' F32 [2, 2]; 'clip' is no"),
        (
            {"x": TWO},
            {"tensor": "y"},
            "holds 1 tensors: 'x' F32 [2, 2]; 'y' is not a tensor with two",
        ),
        (
            {"x": TWO[0]},
            {"tensor": "x"},
            "holds 1 tensors: 'x' F32 [2]; 'x' is not a tensor with two",
        ),
        ({"x": TWO[:1]}, {}, "names.txt: 2 names, but"),
        ({"x": TWO}, {"names": None}, "f.st: holds 1 tensors: 'x' F32 [2, 2]; without --names"),
        ({"a": TWO[0], "b": np.ones(3)}, {"names": None}, "'a' F32 [2], 'b' F64 [3]; without --na"),
        ({}, {"names": None}, "holds 0 tensors; without --names"),
        ({"a": TWO[0]}, {"names": None, "tensor": "a"}, "--tensor=a needs --names"),
        ({"a": np.ones(0)}, {"names": None}, "there is no column"),
        ({"a": TWO[0]}, {"names": None, "columns": ["x"]}, "--columns must give 2 names, not x"),
        ({"a": TWO[0] * np.nan}, {"names": None}, "photo 'a', column 'clip_0': nan is not"),
        ({"x": TWO.astype(ml_dtypes.bfloat16)}, {}, "tensor 'x' has numbers of type BF16, which"),
        ({"a": np.ones(2, ml_dtypes.bfloat16)}, {"names": None}, "tensor 'a' has numbers of type"),
        ({"x": TWO.astype(np.complex64)}, {}, "tensor 'x' has numbers of type C64"),
    ],
)
def test_errors_in_safetensors_are_one_line(
    tmp_path: Path, tensors: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\n")
    path = written_tensors(tmp_path, **tensors)
    given: dict[str, Any] = {"names": names, "block": "clip"} | options
    with pytest.raises(UserError) as error:
        importers.read_block_safetensors(path, **given)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_safetensors_file_is_told(tmp_path: Path) -> None:
    path = written_tensors(tmp_path, a=TWO[0])
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-1])
    (tmp_path / "empty").write_bytes(b"")
    for name in ("cut", "empty", "none", "."):
        with pytest.raises(UserError, match="can't be read as safetensors") as error:
            importers.read_block_safetensors(tmp_path / name, block="clip")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["npy", "names", "safetensors"])
def test_any_nearly_good_bytes_are_a_block_or_a_user_error(tmp_path: Path, kind: str) -> None:
    array, names = written_npy(tmp_path, TWO)
    tensors = written_tensors(tmp_path, a=TWO[0], b=TWO[1])
    path = {"npy": array, "names": names, "safetensors": tensors}[kind]
    good = path.read_bytes()
    tokens = st.sampled_from([b"{", b"'", b'"', b"[", b"9" * 9, b"\n", b"\xff", b"\x00", b"O"])

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
            if kind == "safetensors":
                block = importers.read_block_safetensors(tensors, block="clip")
            else:
                block = importers.read_block_npy(array, names, block="clip")
        except UserError:
            return
        assert block.values.shape == (len(block.photos), len(block.columns))

    fuzz()
