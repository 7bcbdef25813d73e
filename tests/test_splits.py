import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrank import splits
from jaxrank.errors import UserError


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
    parts = splits.split_series(ids(12), folds=3)
    table = splits.split_table(parts, np.array([f"s{i:02d}" for i in range(12)]))
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
