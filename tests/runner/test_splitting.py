"""Too few series: folds that work are taken, or the error names them, or what is lacking."""

from typing import Any

import numpy as np
import pytest
from small_data import make_data

from jaxrank.data import splits
from jaxrank.data.dataset import align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.runner.options import SearchOptions
from jaxrank.runner.prepare import Prepared, prepare
from jaxrank.runner.splitting import split_data


def prepared(num_series: int, undirected: int = 0, **options: Any) -> Prepared:
    """So many series, in the first ones of which every preference is 0.5."""
    pairs, store = make_data(num_series)
    series = pairs.table["series_id"].astype(int)
    preference = pairs.table["preference"].where(series >= undirected, 0.5)
    table = pairs.table.assign(preference=preference)
    return prepare(Preferences(table), store, experiments=["iqa_only"], **options)


@pytest.mark.parametrize(
    ("num_series", "undirected", "options", "named"),
    [
        (12, 0, {"folds": 13}, 10),
        (6, 1, {"folds": 6}, 5),
        (9, 1, {"split": "pretrain"}, 5),
    ],
)
def test_the_largest_number_of_folds_that_works_is_named(
    num_series: int, undirected: int, options: dict[str, Any], named: int
) -> None:
    with pytest.raises(UserError) as caught:
        prepared(num_series, undirected, **options)
    assert str(caught.value).endswith(f"; --folds={named} works (cross-validation)")
    assert prepared(num_series, undirected, **options | {"folds": named})
    for more in range(named + 1, 11):
        with pytest.raises(UserError):
            prepared(num_series, undirected, **options | {"folds": more})


@pytest.mark.parametrize(
    ("num_series", "undirected", "split", "folds"),
    [
        (3, 0, "series", 3),
        (9, 0, "series", 9),
        (9, 1, "series", 5),
        (10, 2, "series", 5),  # enough series, too few of them with a direction
        (49, 0, "series", 10),
        (5, 3, "random", 4),
    ],
)
def test_too_few_series_for_one_split_are_split_into_folds(
    num_series: int, undirected: int, split: str, folds: int
) -> None:
    found = prepared(num_series, undirected, split=split)
    asked = prepared(num_series, undirected, split=split, folds=folds)
    np.testing.assert_array_equal(found.split_data.splits_FM, asked.split_data.splits_FM)
    assert found.split_data.num_folds == folds
    (note,) = set(found.data.notes) - set(asked.data.notes)
    assert note.endswith(f": {folds} folds instead, as with --folds={folds}")


def test_series_that_features_leave_empty_are_split_into_folds() -> None:
    """Whether series are many is for the pairs to say: features move none to another part."""
    pairs, store = make_data(60)
    block = store["iqa"]
    for number, folds in ((30, 1), (4, 3)):
        kept = [i for i, p in enumerate(block.photos) if int(p[1:].split("-")[0]) < number]
        iqa = Block([block.photos[i] for i in kept], block.columns, block.values[kept])
        found = prepare(pairs, {"iqa": iqa}, experiments=["iqa_only"])
        assert found.split_data.num_folds == folds
        said = [note for note in found.data.notes if "folds instead" in note]
        assert len(said) == (folds > 1)
        assert all("lack the features of a photo" in note for note in said)


def test_an_official_split_without_features_of_its_test_photos_is_explained() -> None:
    """As of a published pair list whose validation photos were not extracted."""
    pairs, store = make_data(60)
    number_M = pairs.table["series_id"].astype(int)
    official = Preferences(
        pairs.table.assign(official_split=np.where(number_M < 50, "train", "val"))
    )
    block = store["iqa"]
    kept = [i for i, p in enumerate(block.photos) if int(p[1:].split("-")[0]) < 50]
    iqa = Block([block.photos[i] for i in kept], block.columns, block.values[kept])
    total = int((number_M >= 50).sum())
    with pytest.raises(UserError) as caught:
        prepare(official, {"iqa": iqa}, experiments=["iqa_only"], split="official")
    assert str(caught.value).startswith(
        f"no test pair can be used: of {total}, {total} lack the features of a photo and 0 have a "
    )
    assert "get the features of these photos" in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "note"),
    [
        (["train", "val"], "{0} of its {1} val pairs test, a tenth of its training series valid"),
        (["train", "test"], "{0} of its {1} test pairs test, a tenth of its training series valid"),
        (["train", "val", "test"], "{0} of its {1} test pairs test, {2} of its {2} val pairs vali"),
    ],
)
def test_the_log_says_which_parts_of_an_official_split_test_and_validate(
    parts: list[str], note: str
) -> None:
    pairs, store = make_data(60)
    number_M = pairs.table["series_id"].astype(int)
    table = pairs.table.assign(official_split=np.array(parts)[number_M % len(parts)])
    tested = table["official_split"] == parts[-1]
    last = sorted(set(table.loc[tested, "image_a"]))[-1]  # a test photo without features
    iqa = store["iqa"]
    rows = [i for i, photo in enumerate(iqa.photos) if photo != last]
    iqa = Block([iqa.photos[i] for i in rows], iqa.columns, iqa.values[rows])
    found = prepare(Preferences(table), {"iqa": iqa}, experiments=["iqa_only"], split="official")
    lost = (table["image_a"] == last) | (table["image_b"] == last)
    total, validate = int(tested.sum()), int((table["official_split"] == "val").sum())
    beginning = f"official split: {note.format(total - int(lost.sum()), total, validate)}"
    assert any(line.startswith(beginning) for line in found.data.notes)
    parts_M = found.split_data.splits_FM[0]
    tests = found.dataset.table["official_split"][parts_M == splits.TEST]
    assert set(tests) == {parts[-1]}


def test_a_note_says_that_an_official_split_is_not_used() -> None:
    pairs, store = make_data(60)
    table = pairs.table.assign(official_split="train")
    for split, number in (("series", 1), ("random", 0)):
        found = prepare(Preferences(table), store, experiments=["iqa_only"], split=split)
        notes = [n for n in found.data.notes if "an official split, which is not used" in n]
        assert len(notes) == number


def test_fifty_series_are_one_split() -> None:
    found = prepared(50)
    assert found.split_data.num_folds == 1
    assert not any("80/10/10" in note for note in found.data.notes)


def test_training_from_a_model_keeps_the_split_that_the_model_was_trained_on() -> None:
    pairs, store = make_data(30)
    dataset = align(pairs, store)
    for options, folds in ((SearchOptions(), 10), (SearchOptions(init_from="model"), 1)):
        found, notes = split_data(pairs.table, dataset, options)
        assert (found.num_folds, len(notes)) == (folds, int(folds > 1))


def test_each_series_tests_once_where_it_can() -> None:
    """A series without a direction can't: it trains every model."""
    found = prepared(7, 2, folds="series")
    splits_FM, series_M = found.split_data.splits_FM, found.dataset.series_M
    assert len(splits_FM) == 5
    for fold, parts_M in enumerate(splits_FM):
        for split in (splits.TEST, splits.VALIDATION):
            assert len(np.unique(series_M[parts_M == split])) == 1
        tested = series_M[parts_M == splits.TEST]
        after = series_M[splits_FM[fold - 1] == splits.VALIDATION]
        assert set(tested) == set(after)
    tests_M = (splits_FM == splits.TEST).sum(axis=0)
    undirected = np.isin(found.dataset.series_ids[series_M], ["0", "1"])
    np.testing.assert_array_equal(tests_M, ~undirected)
    assert (splits_FM[:, undirected] == splits.TRAIN).all()
    assert {e.patience for e in found.experiments} == {0}


@pytest.mark.parametrize(
    ("num_series", "options", "message"),
    [
        (201, {}, "201 series with features and a preference other than 0.5 would be as many folds "
         "(at most 200); --folds=10 tests every series too"),
        (2, {}, "at least 3 are needed"),
        (9, {"split": "random"}, "give a number of folds, or 'series' with --split=series"),
        (9, {"folds": "photo"}, "--folds=photo: give a number of folds, or 'series'"),
    ],
)  # fmt: skip
def test_folds_of_one_series_that_can_not_be(
    num_series: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        prepared(num_series, **{"folds": "series"} | options)
    assert message in str(caught.value)


def test_epochs_follow_from_the_smallest_fold_and_a_note_says_so() -> None:
    """Whichever folds are trained: training the others later must not change a program."""
    found = prepared(60, folds=3)
    counts = [len(found.split_data.rows(fold, splits.TRAIN)) for fold in range(3)]
    assert len(set(counts)) > 1
    (note,) = (n for n in found.data.notes if n.startswith("few data"))
    assert f"{min(counts)} training pairs and 20 validation series in a fold" in note
    (note,) = (n for n in prepared(60).data.notes if n.startswith("few data"))
    assert "6 validation series in the split;" in note
    one = prepared(60, folds=3, only_folds=[int(np.argmax(counts))])
    assert one.experiments == found.experiments
    given = prepared(60, folds=3, overrides={"batch_size": 256, "max_epochs": 30, "patience": 6})
    assert given.experiments[0].batch_size == 256
    assert (given.experiments[0].max_epochs, given.experiments[0].patience) == (30, 6)


@pytest.mark.parametrize(
    ("num_series", "undirected", "message"),
    [
        (2, 0, "only 2 series: an 80/10/10 split needs 10; no number of folds works either: at "
         "least 3 series with features and a preference other than 0.5 are needed (now 2)"),
        (12, 10, "at least 3 series with features and a preference other than 0.5 are needed "
         "(now 2)"),
    ],
)  # fmt: skip
def test_where_no_number_works_it_says_what_is_needed(
    num_series: int, undirected: int, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        prepared(num_series, undirected)
    assert str(caught.value).endswith(message)
