import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from small_data import result_of

from jaxrank.configs import default
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import calibration, ranking
from jaxrank.evaluation.calibration import Reliability
from jaxrank.evaluation.evaluator import Evaluator, make_evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.experiments.hyperparameters import read_experiments
from jaxrank.planning.trials import Trial
from jaxrank.reporting import figures

EXPERIMENT = dataclasses.replace(
    read_experiments(default.get_config(), ["iqa_only"], {})[0], blocks=("iqa",)
)


def dataset_of(rows: list[tuple[str, str, str, float]]) -> Dataset:
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    photos = pd.unique(table[["image_a", "image_b"]].to_numpy().ravel())
    values = np.arange(len(photos), dtype=np.float32)[:, None]
    return align(Preferences(table), {"iqa": Block(list(photos), ["x"], values)})


def by_name(dataset: Dataset, values: Any) -> np.ndarray:
    """Values of photos in alphabetical order, in the order of the dataset's."""
    return np.array(values, np.float64)[np.argsort(np.argsort(dataset.photos))]


def result(scores: Any, fold: int = 0, status: str = "completed") -> TrialResult:
    return result_of(Trial(EXPERIMENT, fold, 0), np.array(scores), status)


def calibrated(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds, and votes of one voter that follow them."""
    log_odds = rng.normal(0, 1.5, number)
    return log_odds, (rng.random(number) < expit(log_odds)).astype(np.float64)


def measure(log_odds: np.ndarray, preference: np.ndarray, pairs_a_series: int = 1) -> Reliability:
    pairs = np.arange(len(log_odds))
    return calibration.reliability(log_odds, preference, pairs, pairs // pairs_a_series)


def test_judgements_are_of_test_pairs_with_a_slope_from_validation_pairs() -> None:
    """Two folds of two series each; the trials' scores differ in scale."""
    dataset = dataset_of([("1", "a", "b", 0.9), ("2", "c", "d", 0.2), ("3", "e", "f", 0.6)])
    val, test, train = splits.VALIDATION, splits.TEST, splits.TRAIN
    evaluator = make_evaluator(
        SplitDataset(dataset=dataset, splits_FM=np.array([[val, test, train], [test, val, test]]))
    )
    found = calibration.judgements(
        [
            result(by_name(dataset, [2, 0, 1, 0, 0, 0])),
            result(np.full(6, np.nan), status="failed"),
            result(by_name(dataset, [0, 3, 0, 5, 7, 0]), fold=1),
        ],
        evaluator,
    )
    np.testing.assert_array_equal(found.pair_R, [1, 0, 2])
    np.testing.assert_array_equal(found.difference_R, [1, -3, 7])
    # log(0.9 / 0.1) at a difference of 2, log(0.8 / 0.2) at 5.
    slopes = np.log([9, 4, 4]) / [2, 5, 5]
    np.testing.assert_allclose(found.log_odds_R, found.difference_R * slopes, rtol=1e-5)


def test_log_loss_and_calibration_by_hand() -> None:
    # Said: 80% for the first, 80% for the second, 80% for the second. It got 60%, 70%, 80%.
    log_odds = np.log([4, 1 / 4, 1 / 4])
    preference = np.array([0.6, 0.3, 0.2])
    found = measure(log_odds, preference)
    agreed = np.array([0.6, 0.7, 0.8])
    assert found.log_loss == pytest.approx(
        -np.mean(agreed * np.log(0.8) + (1 - agreed) * np.log(0.2))
    )
    nats = -(agreed * np.log(agreed) + (1 - agreed) * np.log(1 - agreed))
    assert found.entropy == pytest.approx(nats.mean())
    np.testing.assert_array_equal(found.count_C, [3])  # equal confidences share a bin
    np.testing.assert_allclose(found.confidence_C, [0.8])
    np.testing.assert_allclose(found.agreement_C, [0.7])
    assert found.calibration_error == pytest.approx(0.1)
    assert (found.num_pairs, found.num_series) == (3, 3)
    assert np.isnan(found.calibration_error_by_chance)  # three series tell no error


def test_swapping_the_photos_of_pairs_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    log_odds, preference = calibrated(500, rng)
    log_odds[:50] = 0
    swapped = rng.random(500) < 0.5
    found = measure(log_odds, preference)
    other = measure(np.where(swapped, -log_odds, log_odds), abs(preference - swapped))
    for name in Reliability._fields:
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), rtol=1e-12)


def test_saying_one_half_to_everything_costs_the_log_of_two_and_is_calibrated() -> None:
    found = measure(np.zeros(40), np.linspace(0, 1, 40))
    assert found.log_loss == pytest.approx(calibration.CHANCE_LOG_LOSS)
    assert found.calibration_error == 0
    np.testing.assert_array_equal(found.agreement_C, [0.5])


def test_bins_hold_about_equal_counts_in_the_order_of_confidence() -> None:
    found = measure(*calibrated(1003, np.random.default_rng(2)))
    assert len(found.count_C) == calibration.NUM_BINS
    assert found.count_C.sum() == 1003
    assert found.count_C.max() - found.count_C.min() <= 1
    assert (np.diff(found.confidence_C) > 0).all()


def test_perfect_probabilities_err_as_chance_says_and_boastful_ones_more() -> None:
    rng = np.random.default_rng(3)
    draws = [calibrated(2000, rng) for _ in range(30)]
    honest = [measure(*draw) for draw in draws]
    seen = np.mean([found.calibration_error for found in honest])
    by_chance = np.mean([found.calibration_error_by_chance for found in honest])
    assert seen == pytest.approx(by_chance, rel=0.1)
    assert 0.01 < by_chance < 0.05
    boastful = [measure(3 * log_odds, vote) for log_odds, vote in draws]
    assert min(found.calibration_error for found in boastful) > 3 * by_chance
    assert all(b.log_loss > h.log_loss for b, h in zip(boastful, honest, strict=True))


def test_the_interval_of_a_bin_is_clustered_by_series() -> None:
    """Four equal pairs a series: as uncertain as one pair a series, not as four."""
    rng = np.random.default_rng(4)
    log_odds, preference = calibrated(300, rng)
    one = measure(log_odds, preference)
    four = measure(np.repeat(log_odds, 4), np.repeat(preference, 4), pairs_a_series=4)
    np.testing.assert_allclose(four.error_C, one.error_C, rtol=1e-9)
    np.testing.assert_array_equal(four.count_C, 4 * one.count_C)
    # As many series, a pair each, are twice as sure (but for n / (n - 1)).
    apart = measure(np.repeat(log_odds, 4), np.repeat(preference, 4))
    np.testing.assert_allclose(2 * apart.error_C, one.error_C, rtol=0.02)


def test_without_judgements_there_is_nothing_to_say() -> None:
    found = measure(np.zeros(0), np.zeros(0))
    assert (found.num_pairs, len(found.count_C)) == (0, 0)
    assert np.isnan([found.log_loss, found.entropy, found.calibration_error]).all()


def test_the_reliability_of_trials_reads_their_test_pairs(
    dataset: Dataset, parts: np.ndarray
) -> None:
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    scores = dataset.features_ND[:, 0]
    judged = calibration.judgements([result(scores, fold) for fold in (0, 2)], evaluator)
    found = calibration.reliability_of(judged, evaluator)
    tested = np.isin(np.arange(len(dataset.table)), judged.pair_R)
    np.testing.assert_array_equal(tested, (parts[[0, 2]] == splits.TEST).any(axis=0))
    p = dataset.table["preference"].to_numpy()[tested]
    assert found.num_pairs == tested.sum() == found.count_C.sum()
    assert found.entropy == pytest.approx(-np.mean(p * np.log(p) + (1 - p) * np.log(1 - p)))
    assert found.entropy < found.log_loss < calibration.CHANCE_LOG_LOSS


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    found = measure(*calibrated(300, np.random.default_rng(5)))
    figures.draw_reliability(tmp_path / "reliability.png", "an experiment", found)
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
    for number in (3, 0):  # no intervals, no points
        few = measure(np.ones(number), np.ones(number))
        figures.draw_reliability(tmp_path / "few.png", "few", few)
        assert (tmp_path / "few.png").read_bytes().startswith(b"\x89PNG")


def group_of(dataset: Dataset, worth: Any) -> ranking.SeriesPhotos:
    rows = np.arange(len(dataset.table))
    return ranking.series_photos(dataset, by_name(dataset, worth), rows)


def test_ndcg_by_hand() -> None:
    dataset = dataset_of(
        [("1", "a", "b", 0.5), ("1", "b", "c", 0.5), ("1", "a", "c", 0.5), ("2", "d", "e", 0.5)]
    )
    group = group_of(dataset, [9, 5, 5, 1, 2])  # a before b and c, which are equal; e before d
    second, third = 1 / np.log2(3), 1 / 2
    for scores, first_series, second_series in (
        ([3, 2, 1, 0, 1], 1, 1),
        ([3, 1, 2, 0, 1], 1, 1),  # of equal worth: any order
        ([2, 3, 1, 1, 0], second, second),
        ([1, 3, 2, 0, 0], third, (1 + second) / 2),  # equal scores: both orders
        ([0, 0, 0, 7, 7], (1 + second + third) / 3, (1 + second) / 2),
    ):
        found = calibration.ndcg(by_name(dataset, scores), group)
        assert found == pytest.approx((first_series + second_series) / 2)


def test_ndcg_counts_how_many_photos_are_worth_less() -> None:
    dataset = dataset_of([("1", "a", "b", 0.5), ("1", "b", "c", 0.5), ("1", "c", "d", 0.5)])
    group = group_of(dataset, [100, 3, 2, 1])
    discount = 1 / np.log2([2, 3, 4, 5])
    best = discount @ [3, 2, 1, 0]
    reversed_order = discount @ [0, 1, 2, 3]
    for scores, expected in (
        ([1, 2, 3, 4], reversed_order),
        ([4, 3, 2, 1], best),
        ([1e38, -3e38, 0, 3e38], discount @ [0, 3, 1, 2]),  # d a c b
    ):
        found = calibration.ndcg(by_name(dataset, scores), group)
        assert found == pytest.approx(expected / best)


def test_ndcg_is_a_mean_over_series() -> None:
    dataset = dataset_of([(str(s), f"{s}a", f"{s}b", 0.5) for s in range(4)])
    group = group_of(dataset, [2, 1] * 4)
    found = calibration.ndcg(by_name(dataset, [5, 3, 8, 6, 1, 0, 1, 2]), group)
    assert found == pytest.approx((3 + 1 / np.log2(3)) / 4)  # the last one is the wrong way round


def test_ndcg_without_an_order_is_not_a_number() -> None:
    dataset = dataset_of([("1", "a", "b", 0.5)])
    assert np.isnan(calibration.ndcg(np.array([1.0, 2.0]), group_of(dataset, [1, 1])))


def test_ndcg_of_trials_is_their_mean_beside_that_of_random_orders(
    dataset: Dataset, parts: np.ndarray
) -> None:
    evaluator: Evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    scores = dataset.features_ND[:, 0]
    results = [result(scores), result(np.nan * scores, status="failed"), result(-scores, fold=1)]
    found = calibration.ndcg_of(results, evaluator)
    each = [
        calibration.ndcg(sign * scores, evaluator.photos[fold, splits.TEST])
        for sign, fold in ((1, 0), (-1, 1))
    ]
    assert each[0] > found.by_chance > each[1]
    assert found.value == pytest.approx(np.mean(each))
    rng = np.random.default_rng(0)
    shuffled = [
        calibration.ndcg(rng.random(len(scores)), evaluator.photos[fold, splits.TEST])
        for _ in range(100)
        for fold in (0, 1)
    ]
    assert found.by_chance == pytest.approx(np.mean(shuffled), abs=0.01)
    assert np.isnan(calibration.ndcg_of(results[1:2], evaluator).value)
