"""Slopes, probabilities of picks and keep sets, on scores whose truth is known."""

import math

import numpy as np
import pytest
from scipy.special import expit

from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.evaluation import calibration, ensembles
from jaxrank.evaluation.calibration import Part, fit_pick_slope, fit_slope, keep_set
from jaxrank.evaluation.evaluator import make_evaluator
from jaxrank.evaluation.ranking import SeriesPhotos


def series_of(sizes: np.ndarray, best: np.ndarray) -> SeriesPhotos:
    """Series of these sizes side by side; the photo at each place `best` is the best."""
    starts = np.cumsum(sizes) - sizes
    best_G = np.zeros(int(sizes.sum()), bool)
    best_G[starts + best] = True
    empty = np.zeros(0, int)
    return SeriesPhotos(
        photos_G=np.arange(len(best_G)),
        starts=starts,
        series_G=np.repeat(np.arange(len(sizes)), sizes),
        best_G=best_G,
        first_K=empty,
        second_K=empty,
        decided_K=empty.astype(bool),
        pair_starts=empty,
    )


def drawn(num_series: int, size: int, slope: float, seed: int) -> tuple[np.ndarray, SeriesPhotos]:
    """Scores, and series whose best photo is drawn by the softmax of slope * score."""
    rng = np.random.default_rng(seed)
    scores_SJ = rng.standard_normal((num_series, size))
    best = np.argmax(slope * scores_SJ + rng.gumbel(size=scores_SJ.shape), axis=1)
    return scores_SJ.ravel(), series_of(np.full(num_series, size), best)


def test_the_slope_of_many_pairs_is_the_true_one_whatever_the_scale() -> None:
    rng = np.random.default_rng(0)
    difference = rng.standard_normal(20_000)
    preference = (rng.random(20_000) < expit(1.7 * difference)).astype(float)
    for scale in (1e-3, 1.0, 1e5):
        assert fit_slope(scale * difference, preference) * scale == pytest.approx(1.7, rel=0.05)


def test_pairs_whose_scores_tie_say_nothing() -> None:
    one = fit_slope(np.ones(49), np.full(49, 0.9))
    ties = fit_slope(np.r_[np.ones(49), np.zeros(51)], np.full(100, 0.9))
    assert ties == pytest.approx(one, rel=1e-6)
    assert fit_slope(np.zeros(5), np.ones(5)) == 0


def test_a_handful_of_pairs_gives_a_moderate_slope() -> None:
    """All of twelve right, or all wrong: without the prior infinity, and zero; with nothing 0.3."""
    right = fit_slope(np.ones(12), np.ones(12))
    wrong = fit_slope(np.ones(12), np.zeros(12))
    assert 0.35 < right < 1
    assert 0.1 < wrong < 0.25
    assert right > fit_slope(np.ones(3), np.ones(3)) > fit_slope(np.ones(0), np.ones(0)) == 0


def test_the_pick_slope_is_that_by_which_the_best_were_drawn() -> None:
    scores, photos = drawn(8_000, 4, slope=1.3, seed=1)
    assert fit_pick_slope([(scores, photos)]) == pytest.approx(1.3, rel=0.06)
    # The same in two parts, of which one has no series.
    none = series_of(np.zeros(0, int), np.zeros(0, int))
    assert fit_pick_slope([(scores, photos), (scores, none)]) == pytest.approx(1.3, rel=0.06)
    assert fit_pick_slope([(scores, none)]) == 0


def test_keep_sets_hold_the_best_of_nine_in_ten_new_series() -> None:
    covered, sizes = [], []
    for seed in range(40):
        scores, photos = drawn(60, 5, slope=1.0, seed=seed)
        gap, size, num_series = keep_set([(scores, photos)])
        assert num_series == 60
        new, truth = drawn(400, 5, slope=1.0, seed=1_000 + seed)
        behind_SJ = new.reshape(-1, 5).max(axis=1, keepdims=True) - new.reshape(-1, 5)
        kept_SJ = behind_SJ <= gap
        covered.append(kept_SJ[truth.best_G.reshape(-1, 5)].mean())
        sizes.append((kept_SJ.sum(axis=1).mean(), size))
    # By theory between 0.9 and 0.9 + 1/61; of 40 means of 400 series the error is 0.004.
    assert 0.888 < np.mean(covered) < 0.93
    assert np.mean(sizes, axis=0)[0] == pytest.approx(np.mean(sizes, axis=0)[1], rel=0.05)


def test_fewer_than_nine_series_keep_all() -> None:
    scores, photos = drawn(8, 3, slope=9.0, seed=0)
    assert keep_set([(scores, photos)]) == (math.inf, 3.0, 8)
    scores, photos = drawn(9, 3, slope=9.0, seed=0)
    assert keep_set([(scores, photos)])[0] < math.inf
    gap, size, num_series = keep_set([])
    assert (gap, num_series) == (math.inf, 0)
    assert math.isnan(size)


def test_the_confidence_is_the_lowest_at_which_four_of_five_picks_are_right() -> None:
    scores, photos = drawn(20_000, 3, slope=2.0, seed=5)
    confidence, decided = calibration.confidence_of_picks([(scores, photos)], 2.0)
    new, truth = drawn(20_000, 3, slope=2.0, seed=6)
    odds_SJ = np.exp(2.0 * new.reshape(-1, 3))
    p_SJ = odds_SJ / odds_SJ.sum(axis=1, keepdims=True)
    sure = p_SJ.max(axis=1) >= confidence
    right = truth.best_G.reshape(-1, 3)[np.arange(len(p_SJ)), p_SJ.argmax(axis=1)]
    assert right[sure].mean() == pytest.approx(0.8, abs=0.015)
    assert sure.mean() == pytest.approx(decided, abs=0.015)
    assert 0.3 < decided < 0.9
    # Scores that say nothing decide nothing, and a few series say nothing.
    assert calibration.confidence_of_picks([(np.zeros_like(scores), photos)], 2.0) == (math.inf, 0)
    assert calibration.confidence_of_picks([], 2.0)[0] == math.inf
    few = drawn(9, 3, slope=50.0, seed=0)
    assert calibration.confidence_of_picks([few], 50.0) == (math.inf, 0)


def test_of_several_best_photos_one_is_enough() -> None:
    photos = series_of(np.full(20, 3), np.zeros(20, int))
    photos = photos._replace(best_G=np.tile([True, True, False], 20))
    scores = np.tile([0.0, 2.0, 5.0], 20)
    assert keep_set([(scores, photos)])[0] == 3.0


def test_the_log_loss_of_noise_is_not_below_chance_and_is_said(
    dataset: Dataset, parts: np.ndarray
) -> None:
    """Each part has the slope of the others: noise can't fit itself."""
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    rng = np.random.default_rng(3)
    losses: list[calibration.Calibration] = []
    good: list[calibration.Calibration] = []
    truth_N = dataset.features_ND[:, 0]
    for _ in range(10):
        for found, noise in ((losses, 1.0), (good, 0.0)):
            scores = [
                (1 - noise) * truth_N + noise * rng.standard_normal(len(dataset.photos))
                for _ in range(3)
            ]
            held_out = [
                Part(scores[f], evaluator.data.rows(f, 2), evaluator.photos[f, 2]) for f in range(3)
            ]
            found.append(calibration.calibrate(held_out, evaluator, "made up"))
    assert np.mean([c.log_loss for c in losses]) > calibration.CHANCE_LOG_LOSS
    assert not all(c.beats_chance for c in losses)
    assert all(c.beats_chance and c.log_loss < calibration.CHANCE_LOG_LOSS - 0.02 for c in good)
    assert all(c.slope_low < c.slope < c.slope_high for c in good)


def test_members_are_standardised_before_and_after_they_are_added() -> None:
    rng = np.random.default_rng(0)
    scores_KN = np.stack([rng.standard_normal(500), 1e4 + 100 * rng.standard_normal(500)])
    photos = np.arange(300)
    combined, how = ensembles.combine(scores_KN, photos)
    assert combined[photos].mean() == pytest.approx(0, abs=1e-6)
    assert combined[photos].std() == pytest.approx(1, abs=1e-6)
    by_hand = ((scores_KN.T - how.member_mean_K) / how.member_deviation_K).mean(axis=1)
    np.testing.assert_allclose((by_hand - how.mean) / how.deviation, combined, atol=1e-6)
    assert np.corrcoef(combined, scores_KN[1])[0, 1] > 0.6  # its scale gives it no more weight
