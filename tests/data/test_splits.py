import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrank.data import splits
from jaxrank.errors import UserError


def pairs_of(num_series: int) -> pd.DataFrame:
    """Three photos a series, all three pairs."""
    rows = [
        (f"s{s:03d}", f"{s}-{a}.jpg", f"{s}-{b}.jpg", 0.7)
        for s in range(num_series)
        for a, b in ((1, 2), (1, 3), (2, 3))
    ]
    return pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])


def ids(number: int) -> list[str]:
    return [f"s{i}" for i in range(number)]


def test_the_real_number_of_series_splits_as_stated() -> None:
    parts = splits.split_series(ids(4333))
    assert np.bincount(parts[0]).tolist() == [3466, 433, 434]


@given(num_series=st.integers(10, 300), folds=st.integers(3, 10), seed=st.integers(0, 5))
def test_every_series_is_tested_once_and_validated_once(
    num_series: int, folds: int, seed: int
) -> None:
    parts = splits.split_series(ids(num_series), folds=folds, split_seed=seed)
    assert parts.shape == (folds, num_series)
    assert ((parts == splits.TEST).sum(axis=0) == 1).all()
    assert ((parts == splits.VALIDATION).sum(axis=0) == 1).all()
    for k in range(folds):  # fold k + 1 validates what fold k tests
        validated, tested = parts[k] == splits.VALIDATION, parts[(k + 1) % folds] == splits.TEST
        np.testing.assert_array_equal(validated, tested)


def test_the_split_depends_on_its_seed_only() -> None:
    np.testing.assert_array_equal(
        splits.split_series(ids(100)), splits.split_series(ids(100), split_seed=42)
    )
    assert (splits.split_series(ids(100)) != splits.split_series(ids(100), split_seed=43)).any()


@pytest.mark.parametrize(("num_series", "folds"), [(9, 0), (4, 5), (2, 3), (50, 1), (50, 2)])
def test_too_few_series_or_folds_are_told(num_series: int, folds: int) -> None:
    with pytest.raises(UserError, match=r"series|folds"):
        splits.split_series(ids(num_series), folds=folds)


def test_the_table_has_a_row_a_fold_and_series() -> None:
    pairs = pairs_of(12)
    table = splits.split_frame(splits.split_pairs(pairs, folds=3), pairs, splits.SERIES)
    assert len(table) == 36
    for _, rows in table.groupby("series_id"):
        assert sorted(rows["split"]) == ["test", "train", "val"]
        assert sorted(rows["fold"]) == [0, 1, 2]


@pytest.mark.parametrize("folds", [0, 5])
def test_losing_a_series_moves_only_series_near_a_cut(folds: int) -> None:
    series = ids(1000)
    whole = splits.split_series(series, folds=folds)
    fewer = splits.split_series(series[1:], folds=folds)
    moved = (whole[:, 1:] != fewer).sum()
    assert moved <= 4 * max(folds, 1)
    backwards = splits.split_series(series[::-1], folds=folds)
    np.testing.assert_array_equal(whole[:, ::-1], backwards)  # the file's order says nothing


@pytest.mark.parametrize("folds", [0, 4])
def test_pairs_are_split_by_whole_series(folds: int) -> None:
    pairs = pairs_of(50)
    parts = splits.split_pairs(pairs, folds=folds)
    assert parts.shape == (max(folds, 1), 150)
    by_series = splits.split_series(sorted(set(pairs["series_id"])), folds=folds)
    np.testing.assert_array_equal(parts, np.repeat(by_series, 3, axis=1))


def test_a_random_split_puts_series_on_both_sides_and_pairs_on_one() -> None:
    pairs = pairs_of(100)
    parts = splits.split_pairs(pairs, "random")
    assert np.bincount(parts[0]).tolist() == [240, 30, 30]
    torn = pairs.groupby("series_id").apply(lambda rows: len(set(parts[0][rows.index])) > 1)
    assert torn.mean() > 0.3
    turned = pairs.rename(columns={"image_a": "image_b", "image_b": "image_a"})
    np.testing.assert_array_equal(splits.split_pairs(turned, "random"), parts)
    assert (splits.split_pairs(pairs, "random", split_seed=1) != parts).any()
    folds = splits.split_pairs(pairs, "random", folds=5)
    assert ((folds == splits.TEST).sum(axis=0) == 1).all()
    table = splits.split_frame(parts, pairs, "random")
    assert table.columns.tolist() == ["series_id", "image_a", "image_b", "fold", "split"]
    assert len(table) == 300


def test_an_official_split_tests_the_val_list_and_validates_a_tenth_of_train() -> None:
    pairs = pairs_of(50)
    official = np.where(pairs["series_id"] < "s040", "train", "val")
    parts = splits.split_pairs(pairs.assign(official_split=official), "official")
    np.testing.assert_array_equal(parts[0] == splits.TEST, official == "val")
    validated = set(pairs["series_id"][parts[0] == splits.VALIDATION])
    assert len(validated) == 4
    assert not validated & set(pairs["series_id"][parts[0] == splits.TRAIN])


def test_an_official_split_with_test_pairs_validates_on_its_own_val_pairs() -> None:
    pairs = pairs_of(50)
    before = [pairs["series_id"] < "s030", pairs["series_id"] < "s040"]
    official = np.select(before, ["train", "val"], "test")
    parts = splits.split_pairs(pairs.assign(official_split=official), "official")
    np.testing.assert_array_equal(np.array(splits.SPLIT_NAMES)[parts[0]], official)


def test_an_official_split_of_train_and_test_validates_as_one_of_train_and_val() -> None:
    pairs = pairs_of(50)
    train_M = pairs["series_id"] < "s040"
    with_test, with_val = (
        splits.split_pairs(
            pairs.assign(official_split=np.where(train_M, "train", other)), "official"
        )
        for other in ("test", "val")
    )
    np.testing.assert_array_equal(with_test, with_val)
    assert (with_test == splits.VALIDATION).any()


def test_a_missing_official_split_names_a_column_that_may_be_it() -> None:
    pairs = pairs_of(20)
    halves = np.where(np.arange(len(pairs)) % 2, "Training", "validation")
    for name, cells in (("Split", "a"), ("subset", halves)):
        message = rf"no column 'official_split'.*rename '{name}'"
        with pytest.raises(UserError, match=message):
            splits.split_pairs(pairs.assign(**{name: cells}), "official")
    with pytest.raises(UserError, match="a folder with train_pairlist"):
        splits.split_pairs(pairs.assign(city="Rome"), "official")


@pytest.mark.parametrize(
    ("official", "folds", "message"),
    [
        (None, 0, "no column 'official_split'"),
        ("train", 3, "--folds=3: an official split is one"),
        ("dev", 0, "official_split of series s000 is 'dev', not train, val or test"),
        ("both", 0, "series s000 has pairs in train and in val"),
        ("val_and_test", 0, "series s000 has pairs in val and in test"),
        ("train", 0, "no pair is test in official_split; write test for the pairs that test"),
        ("test", 0, "no pair is train in official_split; write train for the pairs that train"),
        ("few", 0, "a tenth of the training series validate, and 9 are too few"),
    ],
)
def test_an_official_split_that_is_none_is_told(
    official: str | None, folds: int, message: str
) -> None:
    pairs = pairs_of(20)
    if official is not None:
        columns = {
            "both": ["val", "train", "train"] * 20,
            "val_and_test": ["test", "val", "val"] * 20,
            "few": ["train"] * 27 + ["val"] * 33,
        }
        pairs["official_split"] = columns.get(official, official)
    with pytest.raises(UserError, match=message):
        splits.split_pairs(pairs, "official", folds=folds)


@pytest.mark.parametrize("folds", [0, 4])
def test_pretraining_sees_training_series_only(folds: int) -> None:
    """What it validates on are pairs of training series, what it tests the validation series."""
    pairs = pairs_of(100)
    whole = splits.split_pairs(pairs, folds=folds)
    parts = splits.split_pairs(pairs, "pretrain", folds=folds)
    np.testing.assert_array_equal(parts == splits.UNUSED, whole == splits.TEST)
    np.testing.assert_array_equal(parts == splits.TEST, whole == splits.VALIDATION)
    num_train = (whole == splits.TRAIN).sum(axis=1)
    np.testing.assert_array_equal(
        (parts == splits.TRAIN).sum(axis=1), (0.9 * num_train).astype(int)
    )
    table = splits.split_frame(parts, pairs, "pretrain")
    assert set(table["split"]) == {"train", "val", "test", "unused"}


def test_an_unknown_split_is_told() -> None:
    with pytest.raises(UserError, match=r"--split=serise: unknown\. Did you mean 'series'"):
        splits.split_pairs(pairs_of(20), "serise")
