import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxrank.data import feature_store, importers
from jaxrank.data.dataset import align, content_hash
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.io import atomic
from jaxrank.scaling import fit_scaling

IQA = Block(
    ["a", "b", "c"], ["sharpness", "contrast"], np.arange(6, dtype=np.float32).reshape(3, 2)
)


def make_pairs(*rows: tuple[str, str, str, float]) -> Preferences:
    return Preferences(
        pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    )


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    store = tmp_path / "deep" / "st\u00f6re"
    feature_store.write_block(store, "iqa", IQA)
    feature_store.write_block(store, "zeta", IQA._replace(columns=["x", "y"]))
    feature_store.write_block(store, "clip", IQA._replace(values=np.ones((3, 2), np.float16)))
    opened = feature_store.open_feature_store(store)
    assert list(opened) == ["clip", "iqa", "zeta"]
    assert opened["iqa"].photos == IQA.photos
    assert opened["iqa"].columns == IQA.columns
    np.testing.assert_array_equal(opened["iqa"].values, IQA.values)
    assert isinstance(opened["iqa"].values, np.memmap)
    assert opened["clip"].values.dtype == np.float16


def test_replacing_a_block_leaves_one_array_and_the_others_alone(tmp_path: Path) -> None:
    feature_store.write_block(tmp_path, "iqa", IQA)
    feature_store.write_block(tmp_path, "cnn", IQA)
    feature_store.write_block(tmp_path, "iqa", IQA._replace(values=IQA.values + 1))
    assert len(list(tmp_path.glob("*.npy"))) == 2
    opened = feature_store.open_feature_store(tmp_path)
    np.testing.assert_array_equal(opened["iqa"].values, IQA.values + 1)
    np.testing.assert_array_equal(opened["cnn"].values, IQA.values)


def test_a_write_that_stops_half_way_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature_store.write_block(tmp_path, "iqa", IQA)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "write_text", full_disk)
    with pytest.raises(UserError, match="No space left"):
        feature_store.write_block(tmp_path, "iqa", IQA._replace(values=IQA.values + 1))
    np.testing.assert_array_equal(
        feature_store.open_feature_store(tmp_path)["iqa"].values, IQA.values
    )


@pytest.mark.parametrize("name", ["../iqa", "all", "", "A", "iqa/x", "x" * 33])
def test_block_names_are_no_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="--block="):
        feature_store.write_block(tmp_path / "store", name, IQA)
    assert not (tmp_path / "store").exists()


def damage(store: Path, how: str) -> None:
    manifest = store / "manifest.json"
    array = next(store.glob("iqa-*.npy"))
    entry = json.loads(manifest.read_text())
    if how == "truncated":
        array.write_bytes(array.read_bytes()[:-4])
    elif how == "pickle":
        np.save(array, np.array([{}], dtype=object), allow_pickle=True)
    elif how == "other values":
        np.save(array, IQA.values + 1)
    elif how == "more rows":
        np.save(array, np.zeros((4, 2), np.float32))
    elif how == "other type":
        np.save(array, IQA.values.astype(np.float64))
    elif how == "no array":
        array.unlink()
    elif how == "no manifest":
        manifest.unlink()
    elif how == "not JSON":
        manifest.write_text("{")
    elif how == "a path for a hash":
        entry["blocks"]["iqa"]["sha256"] = "../../../../etc/passwd"
    elif how == "a path for a name":
        entry["blocks"]["../x"] = entry["blocks"].pop("iqa")
    elif how == "object type":
        entry["blocks"]["iqa"]["dtype"] = "object"
    elif how == "no photos":
        entry["blocks"]["iqa"]["photos"] = []
    elif how == "no blocks":
        entry["blocks"] = {}
    elif how == "other format":
        entry["format"] = 99
    if how in ("a path for a hash", "a path for a name", "object type", "no photos", "no blocks",
               "other format"):  # fmt: skip
        manifest.write_text(json.dumps(entry))


@pytest.mark.parametrize(
    "how",
    ["truncated", "pickle", "other values", "more rows", "other type", "no array", "no manifest",
     "not JSON", "a path for a hash", "a path for a name", "object type", "no photos", "no blocks",
     "other format"],
)  # fmt: skip
def test_a_damaged_store_is_told_in_one_line(tmp_path: Path, how: str) -> None:
    feature_store.write_block(tmp_path, "iqa", IQA)
    damage(tmp_path, how)
    with pytest.raises(UserError) as error:
        feature_store.open_feature_store(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_pairs_without_features_are_left_out_counted_and_said() -> None:
    pairs = make_pairs(("1", "a", "b", 0.9), ("1", "b", "x", 0.8), ("2", "c", "y", 0.2))
    store = {"clip": IQA, "iqa": IQA._replace(photos=["b", "a", "z"])}
    dataset = align(pairs, store)
    assert dataset.table["image_b"].tolist() == ["b"]
    assert dataset.photos.tolist() == ["a", "b"]
    # Photo by photo the clip row, then the iqa row: rows are found by name, not by place.
    np.testing.assert_array_equal(dataset.features_ND, [[0, 1, 2, 3], [2, 3, 0, 1]])
    np.testing.assert_array_equal(dataset.pair_rows_M2, [[0, 1]])
    assert dataset.notes == (
        "2 of 5 photos in the pairs have no row in block 'clip', such as 'x'",
        "3 of 5 photos in the pairs have no row in block 'iqa', such as 'c'",
        "2 of 3 pairs left out: a photo without features",
    )
    assert dataset.column_indices(["iqa"]).tolist() == [2, 3]


def test_no_known_photo_is_an_error_that_shows_both_spellings() -> None:
    with pytest.raises(UserError, match=r"such as 'A\.jpg', block 'iqa' such as 'a'"):
        align(make_pairs(("1", "A.jpg", "B.jpg", 1.0)), {"iqa": IQA})


def test_scaling_is_that_of_the_training_photos() -> None:
    values = np.array([[1, 5, 3], [3, 5, 1e6], [99, 7, 3]], np.float32)
    mean, inv_std, *_ = fit_scaling(values, np.array([0, 1]))
    np.testing.assert_allclose(mean, [2, 5, 500001.5])
    # The second column does not vary over the training photos: factor 0, not a huge one.
    np.testing.assert_allclose(inv_std, [1, 0, 1 / 499998.5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photos": ["a", "b", "a"]}, "photo 'a' appears twice"),
        ({"columns": ["x", "x"]}, "column 'x' appears twice"),
        ({"photos": ["a", "b"]}, r"shape \[3, 2\], but there are 2 photos and 2 columns"),
        ({"photos": [1, 2, 3]}, "the photo names must be text"),
        ({"photos": []}, "there is no photo"),
        ({"values": np.full((3, 2), np.nan)}, "photo 'a', column 'sharpness': nan is not"),
        ({"values": np.array([["x", "y"]] * 3)}, "not numbers"),
        ({"values": np.array([[{}, {}]] * 3)}, "not numbers"),
        ({"values": 1.6e9 + np.arange(6).reshape(3, 2)}, "subtract a constant"),
    ],
)
def test_a_block_in_memory_is_checked_like_a_file(
    tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        feature_store.write_block(tmp_path / "store", "iqa", IQA._replace(**changes))
    assert not (tmp_path / "store").exists()


def test_wider_numbers_become_32_bit_ones(tmp_path: Path) -> None:
    feature_store.write_block(tmp_path, "iqa", IQA._replace(values=IQA.values.astype(np.float64)))
    assert feature_store.open_feature_store(tmp_path)["iqa"].values.dtype == np.float32


def test_a_block_can_be_stored_in_half_the_bits(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("image,x,y\na,0.1,1\nb,2049,1\n")
    block = importers.read_block_csv(path, dtype="float16")
    assert block.values.dtype == np.float16
    # The nearest 16-bit numbers: 10 bits after the first one, so 0.1 is 1638/16384 and above
    # 2048 every second whole number is missing.
    np.testing.assert_array_equal(block.values, [[1638 / 16384, 1], [2048, 1]])
    half = feature_store.check_block("b", IQA._replace(values=IQA.values.astype(np.float16)))
    assert half.values.dtype == np.float16
    single = feature_store.check_block("b", half, "float32")
    assert single.values.dtype == np.float32
    np.testing.assert_array_equal(single.values, IQA.values)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1, 2, 65536], "photo 'c', column 'x': 65536.0 is not a finite 16-bit number"),
        ([1, 2, -1e300], "is not a finite 16-bit number"),
        ([1000, 1000.1, 1000.2], "column 'x': its values differ by less than 16-bit numbers"),
        ([1e-9, 2e-9, 3e-9], "subtract a constant, or scale it"),
    ],
)
def test_what_16_bit_numbers_would_lose_is_told(column: list[float], message: str) -> None:
    values = np.array([[0.1, x] for x in column])
    with pytest.raises(UserError) as error:
        feature_store.check_block("f", Block(["a", "b", "c"], ["same", "x"], values), "float16")
    assert message in str(error.value)


def test_a_column_that_never_varies_loses_nothing() -> None:
    values = np.full((3, 2), 0.1)  # whose mean in floating point is not 0.1
    for dtype in (None, "float16"):
        block = feature_store.check_block("f", IQA._replace(values=values), dtype)
        assert (block.values[0] == block.values).all()


def test_one_far_value_among_many_does_not_forbid_16_bits() -> None:
    values = np.random.default_rng(0).standard_normal((400_000, 1))
    values[0] = 60_000
    block = Block([str(i) for i in range(len(values))], ["x"], values)
    assert feature_store.check_block("f", block, "float16").values.dtype == np.float16


def test_a_float16_store_is_aligned_to_its_values_in_32_bits(tmp_path: Path) -> None:
    values = np.array([[0.1, 2049], [0.2, 5], [0.3, 7]])
    block = IQA._replace(values=values)
    feature_store.write_block(tmp_path, "iqa", feature_store.check_block("iqa", block, "float16"))
    opened = feature_store.open_feature_store(tmp_path)
    assert opened["iqa"].values.dtype == np.float16
    dataset = align(make_pairs(("1", "c", "a", 1.0)), opened)
    assert dataset.features_ND.dtype == np.float16  # half the memory
    expected = values[[2, 0]].astype(np.float16)
    assert (expected != values[[2, 0]]).any()
    np.testing.assert_array_equal(dataset.features_ND, expected)
    assert dataset.inputs(["iqa"]).dtype == np.float32
    wide = {"iqa": IQA._replace(values=values.astype(np.float16).astype(np.float32))}
    in_32_bits = align(make_pairs(("1", "c", "a", 1.0)), wide)
    assert in_32_bits.features_ND.dtype == np.float32
    assert content_hash(dataset) == content_hash(in_32_bits)
    # A narrow block beside a wide one is read as the wide one.
    both = align(make_pairs(("1", "c", "a", 1.0)), {"clip": wide["iqa"], "iqa": opened["iqa"]})
    assert both.features_ND.dtype == np.float32


def test_a_damaged_entry_is_mended_by_making_that_block_again(tmp_path: Path) -> None:
    feature_store.write_block(tmp_path, "iqa", IQA)
    feature_store.write_block(tmp_path, "clip", IQA)
    damage(tmp_path, "object type")
    with pytest.raises(UserError, match="the entry of block 'iqa' is damaged"):
        feature_store.open_feature_store(tmp_path)
    feature_store.write_block(tmp_path, "iqa", IQA)
    assert list(feature_store.open_feature_store(tmp_path)) == ["clip", "iqa"]


def test_a_column_with_a_large_offset_is_kept_and_a_constant_one_is_told() -> None:
    values = np.array([[1e6, 7], [1e6 + 0.5, 7], [1e6 + 1, 7]], np.float32)
    mean, inv_std, *_ = fit_scaling(values, np.arange(3))
    scaled = (values - mean) * inv_std
    assert scaled[:, 0].std() == pytest.approx(1, rel=0.1)
    assert inv_std[1] == 0
    store = {"iqa": IQA._replace(values=values)}
    dataset = align(make_pairs(("1", "a", "b", 1.0), ("1", "b", "c", 1.0)), store)
    assert dataset.notes == (
        "1 of 2 columns never vary and are ignored, the first is 'contrast' of block 'iqa'",
    )


def test_a_column_that_varies_late_is_not_constant() -> None:
    names = [f"{number}" for number in range(4000)]
    values = np.ones((len(names), 2), np.float16)
    values[-1, 1] = 2
    store = {"iqa": IQA._replace(photos=names, values=values)}
    pairs = make_pairs(*(("1", a, b, 1.0) for a, b in itertools.pairwise(names)))
    (note,) = align(pairs, store).notes
    assert "1 of 2 columns never vary" in note
    assert f"'{IQA.columns[0]}'" in note


def test_the_content_hash_sees_every_part_of_the_data() -> None:
    pairs = make_pairs(("1", "a", "b", 1.0), ("1", "b", "c", 0.25))
    dataset = align(pairs, {"iqa": IQA})
    variants = [
        dataset,
        dataset._replace(preference_M=dataset.preference_M[::-1]),
        dataset._replace(features_ND=dataset.features_ND + 1),
        dataset._replace(pair_rows_M2=dataset.pair_rows_M2[::-1]),
        dataset._replace(series_ids=np.array(["2"], object)),
        dataset._replace(block_columns={"cnn": ("sharpness", "contrast")}),
        # Ranks decide what top-1 and tau compare with.
        dataset._replace(table=dataset.table.assign(rank_a=[1, 2], rank_b=[2, 3])),
        dataset._replace(table=dataset.table.assign(rank_a=[3, 2], rank_b=[2, 1])),
        dataset._replace(table=dataset.table.assign(rank_b=[2, 1])),
    ]
    assert len({content_hash(variant) for variant in variants}) == len(variants)
    assert content_hash(dataset) == content_hash(align(pairs, {"iqa": IQA}))
