import numpy as np
import pandas as pd
import pytest

from jaxrank import baselines
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.synthetic import NUM_SERIES, simulate
from jaxrank.evaluation.evaluator import baseline_metrics, make_evaluator


def test_the_embedded_data_have_the_real_sets_size_and_known_truth() -> None:
    simulated = simulate()
    dataset = align(simulated.pairs, simulated.features)
    assert len(dataset.series_ids) == NUM_SERIES == 4300
    assert 11_700 < len(dataset.table) < 12_300
    assert 11_300 < len(dataset.photos) < 11_700
    assert {name: len(c) for name, c in dataset.block_columns.items()} == {
        "clip": 512,
        "cnn": 1024,
        "iqa": 4,
    }
    evaluator = make_evaluator(
        SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table, folds=3))
    )
    rules = baselines.heuristic_scores(dataset)
    accuracy = {
        name: baseline_metrics(scores, evaluator)["test_accuracy"] for name, scores in rules.items()
    }
    assert accuracy["sharpness"] == pytest.approx(0.56, abs=0.012)
    assert accuracy["contrast"] == pytest.approx(0.5, abs=0.015)
    assert min(accuracy["exposure"], accuracy["colorfulness"]) > 0.515
    possible = simulated.best_score[dataset.photos].to_numpy()
    ceiling = baseline_metrics(possible, evaluator)["test_accuracy"]
    appeal = simulated.appeal[dataset.photos].to_numpy()
    best = baseline_metrics(appeal, evaluator)["test_accuracy"]
    assert 0.70 < ceiling < 0.74 < best < 0.9


def regression(inputs_XN: list[np.ndarray], target_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares coefficients and their standard errors."""
    x = np.stack(inputs_XN, axis=1)
    gram = np.linalg.inv(x.T @ x)
    coefficients = gram @ x.T @ target_N
    residual = target_N - x @ coefficients
    return coefficients, np.sqrt(np.diag(gram) * residual.var())


def test_no_other_use_of_the_features_adds_to_the_best_score() -> None:
    """The best score is the conditional expectation: nothing that the features give predicts
    what it leaves of the appeal. First in whole data, then by the factors of the embeddings."""
    simulated = simulate(1, 1500)
    table = simulated.pairs.table
    first, second = table["image_a"], table["image_b"]

    def difference(of_photos: pd.Series) -> np.ndarray:
        return of_photos[first].to_numpy() - of_photos[second].to_numpy()

    iqa = simulated.features["iqa"]
    others = [
        difference(pd.Series(transform(column), iqa.photos))
        for column in iqa.values.T
        for transform in (np.asarray, np.abs)
    ]
    columns = [difference(simulated.best_score), *others]
    coefficients, errors = regression(columns, difference(simulated.appeal))
    # The pairs of a series share photos, so the true errors are some 1.5 times these.
    assert np.all(np.abs(coefficients - np.eye(len(columns))[0]) < 6 * errors)
    assert errors[0] < 0.03

    rng = np.random.default_rng(2)
    clip, cnn = rng.standard_normal((200_000, 2)), rng.standard_normal((200_000, 1))
    appeal = synthetic._embeddings_appeal(clip, cnn)
    read = {
        name: synthetic._SIGNAL[name] * factors + rng.standard_normal(factors.shape)
        for name, factors in {"clip": clip, "cnn": cnn}.items()
    }
    expected = synthetic._expected_embeddings_appeal(read["clip"], read["cnn"])
    a, b, c = read["clip"][:, 0], read["clip"][:, 1], read["cnn"][:, 0]
    ones = np.ones(len(a))
    columns = [ones, a, b, c, np.minimum(a, 0), np.abs(a) < 1, b * c, b * np.abs(c)]
    coefficients, errors = regression(columns, appeal - expected)
    assert np.all(np.abs(coefficients) < 4 * errors)
    # A linear scorer of the factors misses much of it.
    linear, _ = regression([ones, a, b, c], expected)
    missed = expected - np.stack([ones, a, b, c], axis=1) @ linear
    assert 0.45 < missed.var() / expected.var() < 0.65


def test_the_seed_decides_everything() -> None:
    first, again, other = simulate(3, 30), simulate(3, 30), simulate(4, 30)
    pd.testing.assert_frame_equal(first.pairs.table, again.pairs.table)
    for name, block in first.features.items():
        np.testing.assert_array_equal(block.values, again.features[name].values)
    assert not np.array_equal(
        first.pairs.table["preference"][:20], other.pairs.table["preference"][:20]
    )


def test_all_pairs_of_a_series_are_compared_and_photos_stay_in_one_series() -> None:
    table = simulate(0, 50).pairs.table
    for _, rows in table.groupby("series_id"):
        size = len(set(rows["image_a"]) | set(rows["image_b"]))
        assert len(rows) == size * (size - 1) / 2
        assert rows["image_a"].str[:6].nunique() == 1
    assert table["preference"].between(0, 1).all()
