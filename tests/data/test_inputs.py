"""Every form of features, and series ids that are found beside them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrank.data import importers
from jaxrank.data.feature_store import write_block
from jaxrank.data.inputs import IN_MEMORY, FeaturesInput, load_inputs, read_features
from jaxrank.errors import UserError

PHOTOS = ["b.jpg", "a.jpg", "c.jpg"]
VALUES = np.array([[1, 2.5], [-3, 4], [0, 1e-3]], np.float32)
FRAME = pd.DataFrame(VALUES, index=PHOTOS, columns=["x", "y"])
LISTS = pd.DataFrame({"embedding": [*VALUES.tolist()], "image": PHOTOS})


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "f.npz", **arrays)
    return folder / "f.npz"


def parquet(folder: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "f.parquet")
    return folder / "f.parquet"


def csv(folder: Path) -> Path:
    FRAME.to_csv(folder / "f.csv", index_label="image")
    return folder / "f.csv"


def parquet_of(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_parquet(folder / "f.parquet")
    return folder / "f.parquet"


FIXED = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(VALUES.ravel()), 2)
X_Y, NUMBERED = ["x", "y"], ["features_0", "features_1"]
# By name, the form of the one block without a name and its columns.
FORMS: dict[str, Any] = {
    "frame, names as index": (lambda folder: FRAME, X_Y),
    "frame, names as index called image": (lambda folder: FRAME.rename_axis("image"), X_Y),
    "frame, names as text column": (lambda folder: FRAME.reset_index(), X_Y),
    "frame, names as column image": (
        lambda folder: FRAME.assign(image=PHOTOS).set_axis([7, 8, 9]), X_Y),
    "frame, names as categories": (
        lambda folder: FRAME.reset_index().astype({"index": "category"}), X_Y),
    "frame of nullable numbers": (lambda folder: FRAME.astype("Float64"), X_Y),
    "frame of lists": (lambda folder: LISTS, NUMBERED),
    "array and names": (lambda folder: (VALUES, PHOTOS), NUMBERED),
    "lists and index": (lambda folder: (VALUES.tolist(), FRAME.index), NUMBERED),
    "csv": (csv, X_Y),
    "parquet of a frame": (lambda folder: parquet_of(FRAME, folder), X_Y),
    "parquet with text column": (
        lambda folder: parquet(folder, x=VALUES[:, 0], name=PHOTOS, y=VALUES[:, 1]), X_Y),
    "parquet with coded column image": (
        lambda folder: parquet(folder, x=VALUES[:, 0], y=VALUES[:, 1],
                               image=pyarrow.array(PHOTOS).dictionary_encode()), X_Y),
    "parquet of lists": (
        lambda folder: parquet(folder, photo=PHOTOS, embedding=VALUES.tolist()), NUMBERED),
    "parquet of fixed-size lists": (
        lambda folder: parquet(folder, embedding=FIXED, photo=PHOTOS), NUMBERED),
    "npz": (lambda folder: npz(folder, names=np.array(PHOTOS), features=VALUES), NUMBERED),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_one_block_in_any_form_is_the_same_block(tmp_path: Path, form: str) -> None:
    make, columns = FORMS[form]
    (name,) = found = read_features(make(tmp_path))
    assert name == "features"
    block = found[name]
    assert (list(block.photos), list(block.columns)) == (PHOTOS, columns)
    np.testing.assert_array_equal(block.values, VALUES)
    assert block.values.dtype == np.float32


def test_blocks_by_name_may_have_several_forms_and_keep_their_order(tmp_path: Path) -> None:
    write_block(tmp_path / "store", "clip", read_features(FRAME)["features"])
    store = read_features(tmp_path / "store")
    given = {"other": (VALUES, PHOTOS), "iqa": FRAME, "clip": store["clip"]}
    found = read_features(given)
    assert list(found) == ["other", "iqa", "clip"]
    assert found["other"].columns == ["other_0", "other_1"]
    for block in found.values():
        np.testing.assert_array_equal(block.values, VALUES)
    path = npz(tmp_path, names=np.array(PHOTOS), iqa=VALUES, clip=VALUES.astype(np.float16))
    blocks = read_features(path)
    assert list(blocks) == ["clip", "iqa"]
    assert blocks["clip"].values.dtype == np.float16


BAD = VALUES.copy()
BAD[1, 1] = np.nan
NAMES = np.array(PHOTOS)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (FRAME.assign(y=BAD[:, 1]), "features, photo 'a.jpg', column 'y': nan is not a finite"),
        ({"clip": FRAME.assign(y=BAD[:, 1])}, "block 'clip', photo 'a.jpg', column 'y': nan"),
        (FRAME.assign(y=[1, pd.NA, 2]).astype({"y": "Int64"}), "photo 'a.jpg', column 'y': nan"),
        (FRAME.assign(tag="t"), "features, column 'tag': str is not numbers; leave it out"),
        (FRAME.reset_index(drop=True), "features: no photo names; they are the index, a column"),
        (FRAME.set_axis(["a", "b", "a"]), "features: photo 'a' appears twice"),
        (FRAME.set_axis([1, "1"], axis=1), "features: the column '1' appears twice"),
        (FRAME.assign(series_id=1), "features: the column 'series_id' is not a feature; leave it"),
        (FRAME.iloc[:0], "features: there is no photo"),
        (FRAME.assign(image=["a", None, "b"]), "features, row 2, column 'image': the cell is em"),
        (LISTS.assign(z=1), "'embedding' holds lists, so it is the only one that is read; leave"),
        (LISTS.assign(embedding=[[1, 2], [3], [4, 5]]),
         "column 'embedding', photo 'a.jpg': 1 numbers, but photo 'b.jpg' has 2"),
        (LISTS.assign(embedding=[[1], None, [2]]), "photo 'a.jpg': not a list of numbers"),
        (LISTS.assign(embedding=[[1], ["x"], [2]]), "photo 'a.jpg': not a list of numbers"),
        (LISTS.assign(embedding=[[1.0], [np.inf], [2]]), "'a.jpg', column 'features_0': inf is"),
        ((VALUES, PHOTOS[:2]), "the values have shape [3, 2], but there are 2 photos"),
        ((VALUES[0], PHOTOS), "features: an array of shape [2]; a block has two dimensions"),
        ((VALUES, [1, 2, 3]), "features: the photo names must be text"),
        ({"clip": (BAD, PHOTOS)}, "block 'clip', photo 'a.jpg', column 'clip_1': nan"),
        ({"My block": FRAME}, "features 'My block': a block's name is lower-case letters"),
        ({0: FRAME}, "features '0': a block's name is"),
        ({"clip": VALUES}, "block 'clip': ndarray is none of: the path of a store, .npz"),
        (VALUES, "features: ndarray is none of"),
    ],
)  # fmt: skip
def test_errors_of_what_is_in_memory_name_block_column_and_photo(
    features: Any, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_features(features)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"clip": VALUES}, "the file has 'clip'; it needs 'names', the photos' names"),
        ({"names": NAMES}, "the file has 'names'; it needs 'names', the photos' names, and an"),
        ({"names": NAMES.astype(object), "clip": VALUES}, "save names as np.array(names, dtype=s"),
        ({"names": NAMES.astype("S"), "clip": VALUES}, "'names' is |S5 [3], not text [photos]"),
        ({"names": NAMES[:, None], "clip": VALUES}, "'names' is <U5 [3, 1], not text [photos]"),
        ({"names": NAMES, "clip": VALUES[0]}, "array 'clip': an array of shape [2]; a block has"),
        ({"names": NAMES[:2], "clip": VALUES}, "array 'clip': the values have shape [3, 2], but"),
        ({"names": NAMES, "clip": BAD}, "array 'clip', photo 'a.jpg', column 'clip_1': nan is"),
        ({"names": NAMES, "CLIP": VALUES}, "'CLIP': a block's name is lower-case letters"),
        ({"names": NAMES, "clip": NAMES[:, None]}, "the values are of type <U5, not numbers"),
    ],
)
def test_errors_in_npz_name_file_and_array(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = npz(tmp_path, **arrays)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_features(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_npz_file_is_told(tmp_path: Path) -> None:
    path = npz(tmp_path, names=NAMES, clip=VALUES)
    good = path.read_bytes()
    np.save(tmp_path / "array.npy", VALUES)
    single = (tmp_path / "array.npy").read_bytes()
    for data in (b"", good[:-9], b"\x80\x04N.", single):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"f\.npz: can't be read as \.npz") as error:
            read_features(path)
        assert "\n" not in str(error.value)
    for name in ("none.npz", "none.parquet", "none.csv"):
        with pytest.raises(UserError, match=rf"{name}: can't be read \("):
            read_features(tmp_path / name)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": PHOTOS, "x": [1.0, None, 2.0]}, "photo 'a.jpg', column 'x': nan is not a fi"),
        ({"image": PHOTOS, "x": PHOTOS}, "column 'x': str is not numbers; leave it out"),
        ({"image": ["a", None, "b"], "x": [1, 2, 3]}, "row 2, column 'image': the cell is empty"),
        ({"image": ["a", "b", "a"], "x": [1, 2, 3]}, "photo 'a' appears twice"),
        ({"image": PHOTOS}, "there is no column"),
        ({"x": [1, 2, 3]}, "no photo names; they are the index"),
        ({"image": PHOTOS, "e": [[1], [2, 3], [4]]}, "column 'e', photo 'a.jpg': 2 numbers, but"),
        ({"image": PHOTOS, "e": [[1], None, [4]]}, "column 'e', photo 'a.jpg': not a list of nu"),
        ({"image": PHOTOS, "e": [[1.0], [None], [4.0]]}, "photo 'a.jpg', column 'features_0': nan"),
    ],
)
def test_errors_in_parquet_name_file_column_and_photo(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = parquet(tmp_path, **columns)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_features(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_any_nearly_good_bytes_are_blocks_or_a_user_error(tmp_path: Path, suffix: str) -> None:
    if suffix == "npz":
        path = npz(tmp_path, names=NAMES, clip=VALUES)
    else:
        path = parquet_of(LISTS, tmp_path)
    good = path.read_bytes()
    tokens = st.sampled_from([b"{", b"'", b"\x00", b"PK\x03\x04", b"9" * 9, b"\xff", b"O"])

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
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
            found = read_features(path)
        except UserError:
            return
        for block in found.values():
            assert block.values.shape == (len(block.photos), len(block.columns))

    fuzz()


def test_a_folder_is_a_store_whatever_it_is_called(tmp_path: Path) -> None:
    write_block(tmp_path / "my.npz", "clip", read_features(FRAME)["features"])
    assert list(read_features(tmp_path / "my.npz")) == ["clip"]


NONE: dict[str, Any] = {"photo_name": None, "min_agreement": None, "min_reviewers": None}


def test_ratings_find_their_series_beside_the_store(tmp_path: Path) -> None:
    store, ratings = tmp_path / "store", tmp_path / "ratings.csv"
    ratings.write_text("image,rating\na.jpg,1\nb.jpg,2\n")
    write_block(store, "clip", read_features(FRAME)["features"])
    with pytest.raises(UserError, match=rf"give --series=FILE .*no series\.csv in {store}"):
        load_inputs(ratings, store, NONE)
    (store / "series.csv").write_text("series_id,image\n7,a.jpg\n7,b.jpg\n")
    found = load_inputs(ratings, store, NONE)
    assert found.pairs.table["series_id"].tolist() == ["7"]
    assert found.pairs.notes[0] == f"series_id is from {store / 'series.csv'}"
    frame = pd.read_csv(ratings)
    for features in (FRAME, {"clip": FRAME}, (VALUES, PHOTOS), csv(tmp_path)):
        given: FeaturesInput = features
        with pytest.raises(UserError, match="give --series=FILE"):
            load_inputs(frame, given, NONE)
        inputs = load_inputs(frame, given, NONE | {"series": store / "series.csv"})
        assert inputs.pairs.table["series_id"].tolist() == ["7"]
        assert inputs.features_source in (IN_MEMORY, str(tmp_path / "f.csv"))
    with pytest.raises(UserError, match="--series is for tables without series, but the Pref"):
        load_inputs(found.pairs, FRAME, NONE | {"series": store / "series.csv"})
    assert load_inputs(found.pairs, store, NONE).pairs is found.pairs


def test_a_parquet_block_is_written_like_any_other(tmp_path: Path) -> None:
    path = parquet(tmp_path, embedding=FIXED, photo=PHOTOS)
    block = importers.read_block_parquet(path, block="clip", dtype="float16")
    assert block.columns == ["clip_0", "clip_1"]
    assert block.values.dtype == np.float16
    assert block.source == "f.parquet"
