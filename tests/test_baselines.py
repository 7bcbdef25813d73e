"""Baselines: what they look at, and what they must not."""

import numpy as np
import pandas as pd
import pytest
from small_data import make_data

from jaxrank import baselines, metrics
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError

FOLDS = [0, 1, 2]


def split(pairs: Preferences, store: dict[str, Block]) -> SplitDataset:
    dataset = align(pairs, store)
    return SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table, folds=3))


@pytest.fixture(scope="module")
def data() -> SplitDataset:
    return split(*make_data())


def changed_outside_training(data: SplitDataset, fold: int) -> SplitDataset:
    """Other preferences, and other numbers of other photos, where the fold does not train."""
    dataset, train = data.dataset, data.rows(fold, splits.TRAIN)
    others = np.setdiff1d(np.arange(len(dataset.photos)), np.unique(dataset.pair_rows_M2[train]))
    features, preference = dataset.features_ND.copy(), 1 - dataset.preference_M
    features[others] *= -3
    preference[train] = dataset.preference_M[train]
    moved = dataset._replace(features_ND=features, preference_M=preference)
    return SplitDataset(dataset=moved, splits_FM=data.splits_FM)


def test_baselines_see_training_pairs_only(data: SplitDataset) -> None:
    before, after = (
        baselines.fit_baselines(d, FOLDS) for d in (data, changed_outside_training(data, 1))
    )
    train = np.unique(data.dataset.pair_rows_M2[data.rows(1, splits.TRAIN)])
    for name, baseline in before.items():
        if baseline.scores_FN is not None:
            moved = after[name].scores_FN
            assert moved is not None
            np.testing.assert_array_equal(baseline.scores_FN[1, train], moved[1, train])
    ridges = [found["ridge"].scores_FN for found in (before, after)]
    assert ridges[0] is not None
    assert ridges[1] is not None
    assert not np.array_equal(ridges[0][0], ridges[1][0])  # other folds train on what changed


def test_signs_and_the_best_rule_are_those_of_the_training_pairs(data: SplitDataset) -> None:
    """The first number is the quality; turned round, less of it wins. In one fold whose training
    labels are turned round, more of it."""
    dataset = data.dataset
    features = dataset.features_ND.copy()
    place = int(dataset.column_indices(["iqa"])[0])
    features[:, place] *= -1
    turned = SplitDataset(dataset=dataset._replace(features_ND=features), splits_FM=data.splits_FM)
    found = baselines.fit_baselines(turned, FOLDS)
    assert found["sharpness"].note == "rule: less sharpness wins"
    np.testing.assert_array_equal(
        found["sharpness"].scores_FN, -features[None, :, place] + [[0]] * 3
    )
    assert found["best_heuristic"].note == "the best number on training pairs: sharpness"
    np.testing.assert_array_equal(found["best_heuristic"].scores_FN, found["sharpness"].scores_FN)
    assert list(found) == [
        "chance", "sharpness", "exposure", "colorfulness", "contrast", "best_heuristic",
        "signed_sum", "ridge", "position",
    ]  # fmt: skip


def test_a_sign_that_differs_between_folds_is_in_the_note() -> None:
    numbers = baselines._note_of_sign("contrast", np.array([1, -1, -1, 1, 1]))
    assert numbers == "rule: more contrast wins, but less in 2 of 5 folds"
    assert baselines._note_of_best(["a", "b", "a"]).endswith("a 2, b 1")


def test_the_signed_sum_looks_at_no_preference(data: SplitDataset) -> None:
    dataset = data.dataset
    other = SplitDataset(
        dataset=dataset._replace(preference_M=1 - dataset.preference_M), splits_FM=data.splits_FM
    )
    sums = [baselines.fit_baselines(d, FOLDS)["signed_sum"].scores_FN for d in (data, other)]
    assert sums[0] is not None
    assert sums[1] is not None
    np.testing.assert_array_equal(sums[0], sums[1])
    assert not np.array_equal(sums[0][0], sums[0][1])  # but at each fold's training photos


def test_the_ridge_finds_a_linear_quality(data: SplitDataset) -> None:
    found = baselines.fit_baselines(data, [0])
    test = data.rows(0, splits.TEST)
    right = {
        name: (
            np.sign(b.differences(data.dataset.pair_rows_M2, 1)[0, test])
            == np.sign(data.dataset.preference_M[test] - 0.5)
        ).mean()
        for name, b in found.items()
    }
    assert right["ridge"] > right["sharpness"] > 0.7
    assert right["position"] < 0.7


def test_numbers_by_the_names_of_baselines_take_no_ones_place() -> None:
    pairs, store = make_data()
    names = ["ridge", "signed_sum", "sharpness", "shuffled"]
    found = baselines.fit_baselines(
        split(pairs, store | {"iqa": store["iqa"]._replace(columns=names)}), FOLDS
    )
    assert {f"iqa:{name}" for name in names if name != "sharpness"} < set(found)
    assert "ridge" in found["ridge"].note
    assert "signed_sum" not in found  # only one number has a known direction


def test_too_many_columns_have_no_ridge_and_that_is_said(
    data: SplitDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = data.dataset.features_ND.shape[1]
    monkeypatch.setattr(baselines, "MOST_UNKNOWNS", columns - 1)
    assert baselines.RIDGE not in baselines.fit_baselines(data, [0])
    assert baselines.RIDGE not in baselines.saved_names(data.dataset)
    (note,) = baselines.missing_notes(data.dataset)
    photos = len(data.dataset.features_ND)
    assert f"no baseline 'ridge': {columns} columns and {photos:,} photos are both more" in note
    few_photos = data.dataset._replace(features_ND=data.dataset.features_ND[: columns - 1])
    assert not baselines.missing_notes(few_photos)


@pytest.mark.parametrize("name", ["sharpness", "signed_sum", "best_heuristic", "ridge"])
def test_as_a_linear_scorer_it_gives_the_same_scores(data: SplitDataset, name: str) -> None:
    beside = baselines.fit_baselines(data, [1])[name].scores_FN
    assert beside is not None
    linear = baselines.fit_linear(name, data, 1)
    inputs_ND = linear.scaling.apply(data.dataset.inputs(list(linear.blocks)))
    np.testing.assert_allclose(inputs_ND @ linear.weights_D, beside[0], rtol=1e-4, atol=1e-4)
    assert name in baselines.saved_names(data.dataset)


def test_without_image_quality_numbers_there_is_still_a_ridge() -> None:
    pairs, store = make_data()
    found = baselines.fit_baselines(split(pairs, {"clip": store["clip"]}), FOLDS)
    assert list(found) == ["chance", "ridge", "position"]


def test_an_order_without_preferences() -> None:
    values = np.array([[1, 9, 5], [2, 7, 5], [3, 8, 5]], np.float32)
    columns = ["sharpness", "contrast", "exposure"]
    scores, note = baselines.scores_without_preferences("signed_sum", columns, values)
    np.testing.assert_allclose(scores, [-scores[2], 0, scores[2]], atol=1e-6)
    assert note.endswith("of sharpness, exposure, added up")
    scores, _ = baselines.scores_without_preferences("sharpness", columns, values)
    np.testing.assert_array_equal(scores, [1, 2, 3])


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("ridge", ["sharpness"], "fitted to preferences, .*; without preferences: sharpness"),
        ("contrast", ["sharpness", "contrast"], "fitted to preferences"),
        ("position", ["sharpness"], "does not score photos"),
        ("signed_sum", ["sharpness"], "lacks sharpness and exposure"),
        ("exposure", ["brisque"], "block 'iqa' lacks exposure; 'extract' measures it"),
        ("sharpnes", ["sharpness"], "did you mean 'sharpness'|Did you mean"),
    ],
)
def test_a_baseline_that_needs_preferences_is_told(
    name: str, columns: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=rf"--baseline={name}: .*({message})"):
        baselines.scores_without_preferences(name, columns, np.zeros((2, len(columns))))


def test_position_scores_no_photo() -> None:
    table = pd.DataFrame(
        [(str(s), f"{s}a", f"{s}b", 0.9) for s in range(12)],
        columns=["series_id", "image_a", "image_b", "preference"],
    )
    photos = [f"{s}{x}" for s in range(12) for x in "ab"]
    store = {"clip": Block(photos, ["c"], np.arange(24.0, dtype=np.float32)[:, None])}
    found = baselines.fit_baselines(split(Preferences(table), store), [2])["position"]
    assert found.scores_FN is None
    np.testing.assert_array_equal(found.differences(np.zeros((12, 2), int), 1), np.ones((1, 12)))


def noise_of_series(rng: np.random.Generator, num_series: int) -> SplitDataset:
    """Series of two photos, preferences by chance, and one number that says nothing."""
    photos = [f"{s}-{i}" for s in range(num_series) for i in range(2)]
    rows = [(str(s), f"{s}-0", f"{s}-1", rng.choice([0.1, 0.9])) for s in range(num_series)]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    block = Block(photos, ["noise"], rng.standard_normal((len(photos), 1)).astype(np.float32))
    return split(Preferences(table), {"iqa": block})


def test_a_sign_is_judged_on_series_that_did_not_choose_it() -> None:
    """A number of noise is right on more than half of the pairs that chose its sign."""
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(150):
        data = noise_of_series(rng, num_series=30)
        noise = baselines.fit_baselines(data, [0])["noise"]
        assert noise.scores_FN is not None
        assert noise.held_out_FM is not None
        train = data.rows(0, splits.TRAIN)
        assert np.isnan(np.delete(noise.held_out_FM[0], train)).all()
        preference = data.dataset.preference_M[train]
        chosen = noise.differences(data.dataset.pair_rows_M2, 1)[0, train]
        shares.append(
            [
                metrics.accuracy(values, preference)
                for values in (chosen, noise.held_out_FM[0, train])
            ]
        )
    in_sample, held_out = np.mean(shares, axis=0)
    assert in_sample > 0.58
    assert held_out < 0.54  # of the mean of 150 sets the standard error is 0.018
