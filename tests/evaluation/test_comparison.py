import re
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from small_data import experiment, result_of

from jaxrank import metrics
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import comparison, hits, resampling, seed_variance, selection
from jaxrank.evaluation.comparison import Standings
from jaxrank.evaluation.evaluator import make_evaluator
from jaxrank.evaluation.hits import Hits
from jaxrank.evaluation.leaderboard import YARDSTICK
from jaxrank.evaluation.resampling import Draws, Interval
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.experiments.hyperparameters import LINEAR
from jaxrank.planning.trials import Trial
from jaxrank.reporting.comparison_notes import comparison_notes
from jaxrank.reporting.figures import draw_leaderboard

NAN = float("nan")


def one_fold(hits_XS: Any) -> tuple[np.ndarray, np.ndarray]:
    """Hits of one fold and one seed, a pair a series."""
    hits = np.asarray(hits_XS, np.float64)
    return hits[:, None, None], np.ones((1, hits.shape[1]))


def hits_of(
    part: np.ndarray, weight: np.ndarray, candidates: int | None = None, ensembles: Any = ()
) -> Hits:
    """Entries the last of which are baselines; `ensembles`: pairs (entry, trained as)."""
    is_candidate = np.arange(len(part)) < (len(part) if candidates is None else candidates)
    trained_as = np.arange(len(part))
    for entry, other in ensembles:
        trained_as[entry] = other
    names = tuple(f"e{x}" for x in range(len(part)))
    return Hits(names, ~is_candidate, is_candidate, trained_as, part, weight)


def drawn(part: np.ndarray, weight: np.ndarray, heuristics: int = 0, **options: Any) -> Draws:
    return resampling.resample(hits_of(part, weight, len(part) - heuristics), **options)


def standings(
    part: np.ndarray,
    weight: np.ndarray,
    heuristics: int = 0,
    baseline: int | None = None,
    **options: Any,
) -> Standings:
    """Standings of entries the last of which are heuristics."""
    references = {} if baseline is None else {YARDSTICK: baseline, "chance": baseline}
    return comparison.standings(drawn(part, weight, heuristics, **options), references)


def alternating(num_series: int) -> np.ndarray:
    """Right on every other series, and the opposite: two entries of 50%."""
    right = np.arange(num_series) % 2
    return np.stack([right, 1 - right])


def test_means_are_over_completed_seeds_then_over_folds_by_their_pairs() -> None:
    hits = np.array(
        [
            [[[2, 0], [1, 0]], [[0, 3], [0, NAN]]],  # the second seed of the second fold failed
            [[[2, 0], [1, 0]], [[0, NAN], [0, NAN]]],  # the second fold failed
            [[[NAN, 0], [0, NAN]], [[0, NAN], [0, NAN]]],
        ]
    )
    weight = np.array([[2.0, 0.0], [0.0, 6.0]])
    table = standings(hits, weight)
    # (1.5 of 2 + 3 of 6) / 8; 1.5 of 2; nothing.
    np.testing.assert_allclose(table.mean, [4.5 / 8, 1.5 / 2, NAN])
    sizes = (table.num_series, table.num_pairs, table.num_folds, table.num_seeds)
    assert sizes == (2, 8, 2, 2)


def test_intervals_and_errors_of_differences_by_hand() -> None:
    table = standings(*one_fold(alternating(400)), baseline=1, num_draws=8000)
    # Of 400 series at 50%: 0.5 / sqrt(400); the difference is +1 or -1: 1 / sqrt(400).
    np.testing.assert_allclose(table.ci_high - 0.5, 1.96 * 0.025, rtol=0.04)
    np.testing.assert_allclose(0.5 - table.ci_low, 1.96 * 0.025, rtol=0.04)
    to = table.to[YARDSTICK]
    assert to.error[0] == pytest.approx(0.05, rel=0.04)
    assert to.error[1] == to.low[1] == to.high[1] == 0
    # With one difference the maximum statistic is that difference's: two-sided 97.5%.
    assert to.critical_value[0] == pytest.approx(norm.ppf(1 - 0.0125), abs=0.08)
    assert to.high[0] == pytest.approx(to.critical_value[0] * to.error[0])
    np.testing.assert_allclose(table.share_first, 0.5, atol=0.03)


def test_series_are_the_units_not_pairs() -> None:
    """Four pairs a series that are right together say no more than one."""
    hits, weight = one_fold(alternating(400))
    single, fourfold = (standings(f * hits, f * weight, baseline=1) for f in (1, 4))
    np.testing.assert_allclose(fourfold.ci_high, single.ci_high)
    np.testing.assert_allclose(fourfold.to[YARDSTICK].error, single.to[YARDSTICK].error)
    assert fourfold.num_pairs == 4 * single.num_pairs


def test_one_series_short_of_the_fewest() -> None:
    enough, short = (standings(*one_fold(alternating(n)), baseline=1) for n in (10, 9))
    # Student's t of 9 degrees of freedom is 2.262; variance by 9, not by 10.
    half_width = 2.262 * 0.5 / np.sqrt(9)
    assert enough.ci_high[0] - 0.5 == pytest.approx(half_width, rel=0.08)
    assert not np.isnan(enough.to[YARDSTICK].low).any()
    np.testing.assert_allclose(short.mean, [4 / 9, 5 / 9])
    to = short.to[YARDSTICK]
    for bounds in (short.ci_low, short.ci_high, to.low, to.critical_value, short.best_ci_high,
                    short.share_first):  # fmt: skip
        assert np.isnan(bounds).all()
    assert not (to.better | to.worse).any()
    assert short.tied_for_best.all()


def test_a_family_asks_as_many_questions_as_it_has_experiments() -> None:
    """Tables of Dunnett's two-sided test at 2.5%: one comparison 2.24, independent ones more; all
    pairs of the same entries ask more questions still."""
    rng = np.random.default_rng(0)
    part = np.vstack([rng.integers(0, 2, (12, 300)), np.full(300, 0.5)]).astype(float)
    draws = drawn(*one_fold(part), heuristics=1, num_draws=8000)
    # The reference is constant, so twelve independent questions: (1 - p)^12 = 97.5%, two-sided.
    factors = comparison.against(draws, 12).critical_value[:12]
    np.testing.assert_allclose(factors, norm.ppf(1 - (1 - 0.975 ** (1 / 12)) / 2), atol=0.12)
    rows = comparison.all_pairs(draws, range(12))
    assert len(rows) == 66
    # The 97.5% point of the studentised range of twelve (tables: 4.91) / sqrt(2).
    x, y, difference, low, high = rows[0]
    error = np.sqrt(part[[x, y]].var(axis=1).sum() / 300)
    assert difference == pytest.approx(part[x].mean() - part[y].mean())
    assert (high - low) / 2 / error == pytest.approx(4.91 / np.sqrt(2), abs=0.2)
    few = comparison.against(drawn(*one_fold(part[[0, 12]]), heuristics=1), 1)
    assert few.critical_value[0] < factors[0] - 0.5


def test_what_is_clearly_better_is_separated() -> None:
    rng = np.random.default_rng(0)
    good = rng.random(400) < 0.9
    hits = np.stack([good, rng.random(400) < 0.5, good, np.full(400, 0.5)])
    table = standings(*one_fold(hits), heuristics=1, baseline=3)
    # The first and the third are the same; the baseline scores all photos alike.
    to = table.to[YARDSTICK]
    np.testing.assert_array_equal(to.better, [True, False, True, False])
    np.testing.assert_array_equal(to.worse, np.zeros(4, bool))
    np.testing.assert_allclose(to.difference, hits.mean(axis=1) - 0.5)
    np.testing.assert_array_equal(table.tied_for_best, [True, False, True, False])
    np.testing.assert_allclose(table.share_first, [0.5, 0, 0.5, 0])
    assert table.to_best.difference[0] == table.best_ci_low[0] == table.best_ci_high[2] == 0
    assert table.best_ci_low[1] < -0.4 < table.best_ci_high[1] < -0.25
    assert (table.ci_low[3], table.ci_high[3]) == (0.5, 0.5)


def test_differences_to_the_best_reach_to_every_entry_that_may_be_it() -> None:
    """The second entry may be the best, too: then the third is as far below that one."""
    rng = np.random.default_rng(1)
    base = rng.random(900)
    part = np.stack([base < 0.80, rng.permutation(base) < 0.79, base < 0.6]).astype(float)
    table = standings(*one_fold(part))
    np.testing.assert_array_equal(table.tied_for_best, [True, True, False])
    assert table.best_ci_high[0] == table.best_ci_high[1] == 0
    assert table.best_ci_low[0] < 0  # the second may be better than the first
    to_best = table.to_best
    assert table.best_ci_high[2] > to_best.high[2]
    assert table.best_ci_low[2] <= to_best.low[2]


def test_many_entries_are_compared_with_bonferronis_factor() -> None:
    rng = np.random.default_rng(0)
    part = rng.integers(0, 2, (comparison.MOST_RESAMPLED + 1, 100)).astype(float)
    many = standings(*one_fold(part), num_draws=200)
    factor = np.nanmedian(many.to_best.critical_value)
    assert factor > norm.ppf(1 - 0.0125 / comparison.MOST_RESAMPLED)
    assert factor == pytest.approx(norm.ppf(1 - 0.0125 / comparison.MOST_RESAMPLED), abs=0.4)
    assert many.tied_for_best[many.mean.argmax()]


def test_a_rule_equal_to_an_experiment_is_not_beaten() -> None:
    hits = np.stack([alternating(100)[0]] * 2)
    to = standings(*one_fold(hits), heuristics=1, baseline=1).to[YARDSTICK]
    assert to.difference[0] == to.low[0] == to.high[0] == 0
    assert not (to.better | to.worse).any()


def test_a_failed_experiment_changes_nothing_for_the_others() -> None:
    hits, weight = one_fold(np.vstack([alternating(100), np.full(100, NAN)]))
    table, without = (standings(h, weight, baseline=0) for h in (hits, hits[:2]))
    np.testing.assert_allclose(table.to_best.error[:2], without.to_best.error)
    np.testing.assert_array_equal(table.tied_for_best, [True, True, False])
    assert np.isnan([table.mean[2], table.ci_low[2], table.share_first[2]]).all()
    assert np.isnan(table.to[YARDSTICK].low[2])
    for nothing in (standings(hits[2:], weight), standings(hits, 0 * weight)):
        assert np.isnan(nothing.mean).all()
        assert not nothing.tied_for_best.any()


def test_the_variance_of_seeds_by_hand() -> None:
    """One seed right everywhere, one nowhere: nothing of it is explained by series."""
    right = np.ones(12)
    part = np.stack([np.stack([right, 0 * right]), np.stack([0.25 * right, 0.75 * right])])
    weight = np.ones((1, 12))
    draws = drawn(part[:, None], weight)
    # Variances over two seeds: 1/2 and 1/8, which is no more apart than chance allows. The mean
    # over two seeds has half of their mean.
    np.testing.assert_allclose(draws.seeds.measured_X, [0.5, 0.3125])
    np.testing.assert_allclose(draws.seeds.freedom_X, [1, 2])
    assert draws.seeds.source == seed_variance.SEEDS
    np.testing.assert_allclose(draws.variance_X, [0.25, 0.3125 / 2])
    to = comparison.against(draws, 1)
    assert to.error[0] == pytest.approx(np.sqrt(0.25 + 0.3125 / 2))
    # A baseline has none, and says nothing about that of the others.
    np.testing.assert_allclose(drawn(part[:, None], weight, heuristics=1).variance_X, [0.25, 0])
    # Of two folds each has a quarter of its variance.
    folds = drawn(np.stack([part, part], axis=1), np.ones((2, 12)))
    np.testing.assert_allclose(folds.variance_X, (0.25 + 0.25) * folds.seeds.measured_X / 2)


def test_an_experiment_that_trains_noisily_keeps_its_variance_and_lends_it_to_no_other() -> None:
    rng = np.random.default_rng(0)
    deviation = np.append(np.full(9, 0.01), 0.13)
    accuracy = 0.6 + deviation[:, None, None] * rng.standard_normal((10, 5, 3))
    part = np.repeat(accuracy[..., None], 40, axis=3)
    seeds = seed_variance.estimate(part, np.ones((5, 40)))
    own = accuracy[9].var(axis=1, ddof=1).mean()
    assert own / 1.2 <= seeds.measured_X[9] <= own * 1.000001
    assert (np.sqrt(seeds.true_X[:9]) < 0.03).all()
    equal = seed_variance.estimate(
        0.6 + 0.01 * rng.standard_normal((10, 5, 3))[..., None] * np.ones(40), np.ones((5, 40))
    )
    # Where all train alike, most share one estimate of many degrees of freedom.
    assert np.median(equal.freedom_X) > 50
    np.testing.assert_allclose(np.median(np.sqrt(equal.true_X)), 0.01, rtol=0.2)


def test_an_ensemble_has_the_seed_variance_of_its_trainings() -> None:
    """Its hits are the same in every seed, which would look like no variance at all."""
    right = np.ones(12)
    single = np.stack([right, 0 * right])[None]
    part = np.stack([single, 0.5 + 0 * single])
    draws = resampling.resample(hits_of(part, np.ones((1, 12)), ensembles=[(1, 0)]))
    np.testing.assert_allclose(draws.seeds.measured_X, [0.5, 0.5])
    np.testing.assert_allclose(draws.variance_X, [0.25, 0.25])


def test_seeds_that_differ_on_the_series_at_hand_only_have_no_variance() -> None:
    halves = alternating(40)
    seeds = drawn(halves[None, None], np.ones((1, 40))).seeds
    assert seeds.measured_X == 0
    # Independent hits: accuracies differ, by as much as the series explain.
    rng = np.random.default_rng(0)
    part = rng.integers(0, 2, (30, 2, 3, 200)).astype(float)
    seeds = drawn(part, np.ones((2, 200)), num_draws=10).seeds
    assert np.median(seeds.measured_X) == pytest.approx(0.25 / 200, rel=0.25)
    assert np.median(seeds.true_X) < 0.3 * 0.25 / 200


def test_with_one_seed_folds_show_the_variance_of_training() -> None:
    right = np.ones(12)
    part = np.stack([np.stack([right, 0 * right]), np.stack([0 * right, right])])
    draws = drawn(part[:, :, None], np.ones((2, 12)))
    # Less the means of experiments and folds: +-1/2 four times, one degree of freedom.
    np.testing.assert_allclose(draws.seeds.true_X, 1.0)
    assert draws.seeds.source == seed_variance.FOLDS
    np.testing.assert_allclose(draws.variance_X, (0.25 + 0.25) * 1.0)
    # Independent hits: what looks like seed variance is what the series explain.
    part = np.random.default_rng(0).integers(0, 2, (60, 2, 1, 200)).astype(float)
    seeds = drawn(part, np.ones((2, 200)), num_draws=10).seeds
    np.testing.assert_allclose(np.median(seeds.series_X), 0.25 / 200, rtol=0.05)
    one = drawn(*one_fold(alternating(12)))
    assert not one.variance_X.any()
    assert one.seeds.source == seed_variance.UNKNOWN


def test_few_seeds_widen_the_intervals_of_what_they_are_most_of() -> None:
    """Student's t: two trainings say little of a variance that is the whole error."""
    right = np.ones(200)
    part = np.stack([np.stack([right, 0 * right]), np.stack([0.5 * right] * 2)])[:, None]
    to = comparison.against(drawn(part, np.ones((1, 200)), heuristics=1), 1)
    # Two-sided 97.5% with one degree of freedom: 25.5 (tables).
    assert to.critical_value[0] == pytest.approx(25.5, rel=0.15)


def test_the_same_seed_gives_the_same_standings() -> None:
    hits, weight = one_fold(np.random.default_rng(0).integers(0, 2, (4, 60)))
    first, again, other = (standings(hits, weight, seed=s) for s in (1, 1, 2))
    for column in ("ci_low", "best_ci_low", "share_first"):
        np.testing.assert_array_equal(getattr(first, column), getattr(again, column))
    assert not np.array_equal(first.best_ci_low, other.best_ci_low)


def test_a_small_simulation_keeps_its_word() -> None:
    """Five equally good entries with three noisy trainings each and one trained five times as
    noisily, 120 series, against a baseline that is as good."""
    num_searches, num_series = 150, 120
    covered, claimed, unadjusted = 0.0, 0, 0
    deviation = np.array([0.02, 0.02, 0.02, 0.02, 0.1])[:, None, None, None]
    for search in range(num_searches):
        rng = np.random.default_rng(search)
        weight = rng.integers(1, 4, num_series).astype(float)
        true = np.append(
            0.6 + deviation * rng.standard_normal((5, 1, 3, 1)), 0.6 * np.ones((1, 1, 3, 1)), 0
        )
        ease = 0.1 * rng.standard_normal(num_series)  # of a series, for all alike
        hits = rng.binomial(weight.astype(int), np.clip(true + ease, 0, 1)).astype(float)
        hits[5, :, 1:] = hits[5, :, :1]
        table = standings(hits, weight[None], heuristics=1, baseline=5, num_draws=300)
        truth = true.mean(axis=(1, 2, 3))
        covered += ((table.ci_low < truth) & (truth < table.ci_high))[:5].mean()
        to = table.to[YARDSTICK]
        claimed += bool((to.better | to.worse).any())
        unadjusted += bool((np.abs(to.difference) > 1.96 * to.error)[:5].any())
    assert 0.93 < covered / num_searches < 0.97
    assert claimed / num_searches <= 0.06
    assert unadjusted / num_searches > 0.08


def select(validation: Hits, test: Hits, sizes: Any = None, **options: Any) -> selection.Chosen:
    parameters = np.ones(len(test.names)) if sizes is None else np.array(sizes)
    chosen = selection.select_experiment(validation, test, parameters, **options)
    assert chosen is not None
    return chosen


def in_folds(hits_XS: np.ndarray, folds: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Hits of one seed, a pair a series; series are dealt to the folds in turn."""
    num_series = hits_XS.shape[1]
    weight = (np.arange(num_series) % folds == np.arange(folds)[:, None]).astype(float)
    return hits_XS[:, None, None] * weight[:, None], weight


def test_one_split_selects_by_validation_and_needs_no_correction() -> None:
    hits, weight = one_fold(np.random.default_rng(0).integers(0, 2, (5, 60)))
    validates = np.arange(60) < 30
    validation, test = (hits_of(hits * part, weight * part) for part in (validates, ~validates))
    expected = hits[:, 0, 0, :30].sum(axis=1).argmax()
    accuracy = hits[expected, 0, 0, 30:].mean()
    assert select(validation, test)[:5] == (expected, (0, 1, 2, 3, 4), False, accuracy, accuracy)


def test_folds_select_by_their_test_pairs() -> None:
    """Validation pairs have stopped the epochs; they flatter noisy training."""
    part = np.stack([np.arange(60) < 40, np.arange(60) < 30]).astype(float)
    flattered = part.copy()
    flattered[1] = 1.0
    chosen = select(hits_of(*in_folds(flattered)), hits_of(*in_folds(part)))
    assert (chosen.entry, chosen.out_of_fold) == (0, True)


def test_of_equal_candidates_the_one_with_fewer_parameters_is_selected() -> None:
    part = hits_of(*in_folds(np.stack([np.arange(60) % 2] * 3).astype(float)))
    assert select(part, part, [30, 10, 20]).entry == 1


def test_the_corrected_score_of_the_selected_is_unbiased() -> None:
    """Eight coins: the best of them seems to see the next toss."""
    raw, corrected = [], []
    for search in range(60):
        rng = np.random.default_rng(search)
        part = hits_of(*in_folds(rng.integers(0, 2, (8, 150))))
        chosen = select(part, part, num_draws=128)
        raw.append(chosen.raw - 0.5)
        corrected.append(chosen.accuracy - 0.5)
    # 1.42 standard deviations of 1 / (2 sqrt(150)); the means of 60 have errors below 0.004.
    assert np.mean(raw) == pytest.approx(1.42 * 0.0408, abs=0.012)
    assert abs(np.mean(corrected)) < 0.012


def test_a_correction_never_raises_the_score() -> None:
    """Right on a series drawn means right on none left out, with few candidates by chance more."""
    for search in range(20):
        rng = np.random.default_rng(search)
        part = hits_of(*in_folds(rng.random((2, 40)) < [[0.9], [0.2]]))
        chosen = select(part, part, num_draws=64)
        assert chosen.accuracy <= chosen.raw
    alone = hits_of(*in_folds(alternating(40)[:1]))
    assert select(alone, alone).accuracy == 0.5


def test_rules_controls_and_failed_experiments_are_not_selected() -> None:
    good, bad = np.ones(30), alternating(30)[0]
    part, weight = in_folds(np.stack([bad, NAN * bad, good]))
    part[1] = NAN
    mine = hits_of(part, weight, candidates=2)
    assert select(mine, mine)[:5] == (0, (0,), True, 0.5, 0.5)
    failed = hits_of(part[1:], weight, candidates=1)
    assert selection.select_experiment(failed, failed, np.ones(2)) is None
    few = hits_of(*in_folds(np.stack([bad, good])[:, :9]))
    assert np.isnan(select(few, few).accuracy)


def test_power_by_hand() -> None:
    assert selection.power(0.03, 0.01, 3.0) == pytest.approx(0.5, abs=1e-6)
    assert selection.power(0.0, 0.01, 1.96) == pytest.approx(0.05, abs=1e-4)
    assert selection.power(-0.03, 0.01, 3.0 - 0.8416) == pytest.approx(0.8, abs=1e-4)
    assert selection.power(0.03, 0.0, 3.0) == 1


def test_series_and_seeds_that_a_difference_needs_by_hand() -> None:
    hits, weight = one_fold(alternating(20))
    table = standings(hits, weight, baseline=1)
    to = table.to[YARDSTICK]._replace(error=np.array([0.02, 0.0]), critical_value=np.full(2, 3.0))
    table = table._replace(
        variance_X=np.array([4e-5, 0.0]),
        spread_X=np.array([50e-5, 0.0]),
        num_series=400,
        num_seeds=2,
    )
    everyone = np.array([True, True])
    need = selection.power_analysis(table, to, everyone)
    assert need is not None
    assert need.power == pytest.approx(norm.cdf(1.5 - 3), abs=1e-4)
    # The variance may be (0.03 / 3.8416)^2 = 6.098e-5, seeds 4e-5 of it: 36e-5 / 2.098e-5 * 400.
    assert need.num_series == pytest.approx(6862, abs=3)
    # 33.9e-5 of the seeds' 50e-5 must go: 2 / (1 - 0.678).
    assert need.num_seeds == 7
    noisy = selection.power_analysis(table._replace(variance_X=np.array([8e-5, 0])), to, everyone)
    assert noisy is not None
    assert noisy.num_series is None
    hopeless = selection.power_analysis(table._replace(spread_X=np.array([2e-4, 0])), to, everyone)
    assert hopeless is not None
    assert hopeless.num_seeds is None
    assert selection.power_analysis(table, to, np.array([False, True])) is None


def test_enough_series_are_enough() -> None:
    """With as many series as it asks for, the predicted power is the one that was asked for."""
    rng = np.random.default_rng(0)
    hits = rng.random((4, 1, 1, 400)) < 0.6
    table = standings(hits.astype(float), np.ones((1, 400)), baseline=3)
    to = table.to[YARDSTICK]
    need = selection.power_analysis(table, to, np.ones(4, bool), difference=0.05)
    assert need is not None
    assert need.num_series is not None
    error = np.median(to.error[:3]) * np.sqrt(400 / need.num_series)
    power = selection.power(0.05, float(error), float(np.median(to.critical_value[:3])))
    assert power == pytest.approx(0.8, abs=0.01)


def result(name: str, fold: int, seed: int, scores: Any, status: str = "completed") -> TrialResult:
    trial = Trial(experiment(name), fold, seed)
    return result_of(trial, np.array(scores, np.float32), status)


def test_hits_come_from_the_results_of_a_search() -> None:
    rows = [
        ("a", "p0", "p1", 0.9),
        ("b", "p2", "p3", 0.4),
        ("b", "p3", "p4", 0.5),
        ("c", "p5", "p6", 0.2),
        ("c", "p5", "p7", 0.8),
        ("c", "p6", "p7", 0.6),
    ]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    photos = [f"p{i}" for i in range(8)]
    dataset = align(Preferences(table), {"iqa": Block(photos, ["x"], np.arange(8.0)[:, None])})
    parts_of_series = [[splits.TRAIN, splits.VALIDATION, splits.TEST],
                       [splits.TEST, splits.TEST, splits.TEST],  # not trained
                       [splits.VALIDATION, splits.TEST, splits.TEST]]  # fmt: skip
    parts = np.array(parts_of_series, np.int8)[:, dataset.series_M]
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    up, down = np.arange(8), -np.arange(8)
    results = [
        result("one", 0, 7, up),
        result("one", 0, 9, down),
        result("one", 2, 7, np.zeros(8)),
        result("two", 0, 3, up, status="failed"),
        result("two", 2, 3, up),
        result("shuffled", 0, 0, up),
    ]
    always_a = np.ones(6, np.float32)
    names = ["two", "one", "shuffled"]
    by_fold = np.stack([always_a, always_a, -always_a])
    found = hits.from_results(
        results, {"first": always_a, "mixed": by_fold}, evaluator, splits.TEST, names
    )
    assert found.names == ("two", "one", "shuffled", "first", "mixed")
    np.testing.assert_array_equal(found.is_baseline_X, [False, False, False, True, True])
    np.testing.assert_array_equal(found.is_candidate_X, [True, True, False, False, False])
    found = in_all_series(found)
    # Fold 0 tests series c, fold 2 tests b and c; the pair of one half has no direction.
    np.testing.assert_array_equal(found.weight_FS, [[0, 0, 3], [0, 1, 3]])
    absent = [NAN] * 3
    np.testing.assert_array_equal(found.hits_XFKS[0], [[absent, absent], [[0, 1, 1], absent]])
    expected = [[[0, 0, 1], [0, 0, 2]], [[0, 0.5, 1.5], absent]]
    np.testing.assert_array_equal(found.hits_XFKS[1], expected)
    np.testing.assert_array_equal(found.hits_XFKS[3], [[[0, 0, 2]] * 2, [[0, 0, 2]] * 2])
    # The baseline that differs between folds is the opposite in fold 2.
    np.testing.assert_array_equal(found.hits_XFKS[4], [[[0, 0, 2]] * 2, [[0, 1, 1]] * 2])
    # The control is measured by the pairs that it was trained on.
    control = evaluator.control
    assert control is not None
    difference = metrics.pair_differences(up, control.dataset.pair_rows_M2)
    own, _ = metrics.pair_hits(difference, control.dataset.preference_M)
    assert found.hits_XFKS[2, 0, 0, 2] == own[3:].sum()
    # Weighted by |2p - 1|: 0.6, 0.6 and 0.2 in series c, 0.2 in b.
    by_votes = hits.from_results(
        results, {"first": always_a}, evaluator, splits.TEST, names, by_votes=True
    )
    by_votes = in_all_series(by_votes)
    np.testing.assert_allclose(by_votes.weight_FS, [[0, 0, 1.4], [0, 0.2, 1.4]], atol=1e-6)
    np.testing.assert_allclose(by_votes.hits_XFKS[3, 1, 0], [0, 0, 0.8], atol=1e-6)
    accuracy = hits.pooled(by_votes).accuracy_X[3]
    assert accuracy == pytest.approx((0.8 + 0.8) / (1.4 + 1.6), abs=1e-6)
    # Pooled over pairs, not a mean over folds: 1.5 of 3 (mean of two seeds) and 2 of 4.
    assert hits.pooled_accuracy(results, evaluator, splits.TEST, "one") == pytest.approx(3.5 / 7)
    assert hits.baseline_accuracy(by_fold, evaluator, splits.TEST, [0, 2]) == pytest.approx(4 / 7)


NAMES = ["good", "fine", "poor", "sharpness", "chance"]


def simple_standings(fine: float = 0.78, folds: int = 1) -> tuple[Standings, np.ndarray]:
    rng = np.random.default_rng(0)
    right = rng.random((4, 500)) < np.array([[0.8], [fine], [0.5], [0.52]])
    part, weight = in_folds(np.vstack([right, np.full(500, 0.5)]), folds)
    draws = drawn(part, weight, heuristics=2)
    table = comparison.standings(draws, {YARDSTICK: 3, "chance": 4})
    return table, np.arange(5) < 3


def paragraph(table: Standings, is_candidate_X: np.ndarray, **chosen: Any) -> list[str]:
    usual = selection.Chosen(0, (0, 1, 2), True, 0.81, 0.79)
    selected = usual._replace(**chosen)
    return notes_on(NAMES, table, is_candidate_X, "sharpness", selected)


def notes_on(*given: Any, can_use_folds: bool = True) -> list[str]:
    return comparison_notes(*given, can_use_folds=can_use_folds)


def test_folds_are_not_advised_where_they_are_refused() -> None:
    table, candidates = simple_standings()
    few = standings(*one_fold(alternating(9)), baseline=1)
    chosen = selection.Chosen(2, (0, 1, 2), False, table.mean[2], table.mean[2])
    for given in (
        (NAMES, table, candidates, "sharpness", chosen),
        (["a", "b"], few, np.ones(2, bool), "b", chosen._replace(entry=0, candidates=(0, 1))),
    ):
        assert any("--folds" in line for line in notes_on(*given))
        lines = notes_on(*given, can_use_folds=False)
        assert not any("--folds" in line for line in lines)
        assert len(lines) == len(notes_on(*given))


def test_sentences_say_what_is_best_how_sure_and_what_next() -> None:
    table, candidates = simple_standings()
    best, better, tied, below, brackets, power = paragraph(
        table._replace(seed_source="seeds"), candidates
    )
    assert re.fullmatch(
        r"Best of 3 candidates: good, test accuracy 81.0% \([\d.]+ to [\d.]+%\) on 500 pairs. "
        r"Corrected for the selection: 79.0%.", best,
    )  # fmt: skip
    share = f"{100 * table.mean[3]:.1f}%"
    assert better.startswith(f"Better than the strongest baseline (sharpness), {share}: ")
    to = table.to[YARDSTICK]
    for x, name in enumerate(["good", "fine"]):
        middle, low, high = (100 * v[x] for v in (to.difference, to.low, to.high))
        assert f"{name} by {middle:.1f} points ({low:.1f} to {high:.1f})" in better
    assert "poor" not in better
    leader, other = ("good", "fine") if table.mean[0] > table.mean[1] else ("fine", "good")
    assert tied.startswith(f"The best may be {leader} or one of these: ")
    assert re.search(rf": {other} \(up to \d+\.\d points below it\)", tied)
    assert below.startswith(f"Worse than the best entry ({leader}): ")
    assert below.endswith(", and 2 more.")
    assert brackets.startswith("In brackets: 95% confidence intervals")
    assert brackets.endswith("They allow for other seeds, by the variance among 1, too.")
    for source, phrase in (
        ("folds", "by the variance among folds"),
        ("unknown", "level of 97.5%."),
    ):
        lines = paragraph(table._replace(seed_source=source), candidates)
        (line,) = (line for line in lines if line.startswith("In brackets"))
        assert phrase in line
        assert ("other seeds" in line) == (source == "folds")
    assert power.startswith(
        "Power: this search detects a true difference of 3 points between two experiments with "
        "probability "
    )
    assert "A power of 80% needs about " in power
    assert "test series (now 500; --folds=5 tests every series)" in power
    assert all(len(line) < 240 for line in paragraph(table, candidates))


def test_bounds_say_how_they_differ_from_the_interval_of_the_same_two_entries() -> None:
    """Where the strongest baseline is the best, or may be."""
    why = "These bounds, unlike intervals to the baseline, allow for any entry to be the best."

    def tied_note(baseline: float) -> str:
        rng = np.random.default_rng(0)
        accuracies = np.array([0.7, 0.69, baseline])
        right_XS = (rng.random((3, 500)) < accuracies[:, None]).astype(float)
        draws = drawn(*one_fold(right_XS), heuristics=1)
        table = comparison.standings(draws, {YARDSTICK: 2, "chance": 2})
        chosen = selection.Chosen(0, (0, 1), True, 0.7, 0.7)
        lines = notes_on(["a", "b", "rule"], table, np.arange(3) < 2, "rule", chosen)
        return next(line for line in lines if line.startswith("The best may be "))

    best, may_be, is_not = tied_note(0.75), tied_note(0.68), tied_note(0.5)
    assert best.startswith("The best may be rule or one of these: ")
    assert best.endswith(why)
    assert "rule (up to" in may_be
    assert may_be.endswith(why)
    assert is_not.endswith(" points below it).")


def test_a_small_power_is_not_rounded_to_impossible() -> None:
    """Nor is a large one rounded to certain."""
    table, candidates = simple_standings()

    def power_note(scale: float) -> str:
        to = table.to_best._replace(error=scale * table.to_best.error)
        rescaled = table._replace(seed_source="seeds", to_best=to)
        return next(line for line in paragraph(rescaled, candidates) if "Power: " in line)

    assert "between two experiments with probability less than 1%. A power of 80%" in power_note(4)
    assert "between two experiments with probability more than 99%; more" in power_note(1 / 8)


def test_the_level_of_simultaneous_intervals_is_nominal() -> None:
    lines = paragraph(*simple_standings())
    assert any(line.endswith("simultaneous for all experiments, with a nominal level of 97.5%.")
               for line in lines)  # fmt: skip


def test_what_is_worse_than_a_best_baseline_is_named_once() -> None:
    """The comparison with the strongest baseline names experiments; other baselines follow."""
    rng = np.random.default_rng(3)
    accuracies = np.array([0.6, 0.5, 0.8, 0.65, 0.5])
    right_XS = (rng.random((5, 500)) < accuracies[:, None]).astype(float)
    draws = drawn(*one_fold(right_XS), heuristics=3)
    table = comparison.standings(draws, {YARDSTICK: 2, "chance": 4})
    names = ["good", "poor", "sharpness", "size", "chance"]
    chosen = selection.Chosen(0, (0, 1), True, 0.6, 0.6)
    lines = notes_on(names, table, np.arange(5) < 2, "sharpness", chosen)
    (among_trained,) = [line for line in lines if line.startswith("Worse than the strongest")]
    assert "poor by" in among_trained
    (others,) = [line for line in lines if line.startswith("Worse than the best entry")]
    assert re.match(r"Worse than the best entry \(sharpness\): size by .*, and 1 more", others)


def test_one_seed_and_one_fold_are_about_these_models() -> None:
    table, candidates = simple_standings()
    assert any(line.startswith("One seed and one fold: ") and line.endswith(
        "Next: --folds=5 --num_seeds=3.") for line in paragraph(table, candidates))  # fmt: skip
    several = table._replace(seed_source="folds")
    assert not any("One seed" in line for line in paragraph(several, candidates))


def test_the_selected_of_one_split_may_not_be_the_highest() -> None:
    table, candidates = simple_standings()
    lines = paragraph(table, candidates, entry=2, out_of_fold=False, raw=table.mean[2])
    assert lines[0].startswith("Selected on validation from 3 candidates: poor, test accuracy ")
    assert lines[1].startswith("Best on test: fine, ")
    assert any(line.startswith("The difference of poor to it: ") for line in lines)
    (no_better,) = (line for line in lines if "poor is not shown to be better than chance" in line)
    assert table.ci_low[2] <= 0.5
    assert "Do not pick photos by it: " in no_better
    sure = table._replace(ci_low=table.ci_low + 0.2)
    lines = paragraph(sure, candidates, entry=2, out_of_fold=False, raw=table.mean[2])
    assert "poor is not shown to be better than chance either." in lines
    assert any("points to the strongest baseline with probability" in line for line in lines)


def test_nothing_is_said_of_a_correction_that_changes_nothing() -> None:
    table, candidates = simple_standings()
    assert "Corrected" not in paragraph(table, candidates, accuracy=0.81)[0]
    assert "too few series to correct it" in paragraph(table, candidates, accuracy=NAN)[0]
    assert paragraph(table, candidates, candidates=(0,))[0].startswith("The only candidate: good")


def test_what_may_be_the_best_contradicts_no_comparison_with_the_baseline() -> None:
    """Alone, they have narrower intervals than the comparisons with all that may be the best."""
    table, candidates = simple_standings()
    leader = int(np.argmax(table.mean))
    assert table.to[YARDSTICK].better[leader]
    tied_X = table.tied_for_best | (np.arange(5) == 3)  # the baseline, sharpness
    lines = paragraph(table._replace(tied_for_best=tied_X), candidates)
    (line,) = (line for line in lines if line.startswith("The best may be "))
    assert "sharpness" not in line
    # The other way round: the baseline has the highest mean, and an experiment is worse.
    turned = comparison.standings(
        drawn(*one_fold(np.vstack([np.zeros((2, 50)), np.ones(50)])), heuristics=1),
        {YARDSTICK: 2, "chance": 2},
    )
    chosen = selection.Chosen(0, (0, 1), False, 0.0, 0.0)
    turned = turned._replace(tied_for_best=np.full(3, True))
    lines = notes_on(["a", "b", "rule"], turned, np.arange(3) < 2, "rule", chosen)
    assert "rule is shown to be the best of the entries compared." in lines


def test_a_twin_of_the_best_is_zero_points_below_it() -> None:
    right_XS = np.tile(np.arange(60) % 5 > 0, (2, 1)).astype(float)
    right_XS = np.vstack([right_XS, 1 - right_XS[:1]])
    table = comparison.standings(
        drawn(*one_fold(right_XS), heuristics=1), {YARDSTICK: 2, "chance": 2}
    )
    table = table._replace(best_ci_low=np.where(table.tied_for_best, -0.0, table.best_ci_low))
    chosen = selection.Chosen(0, (0, 1), True, 0.8, 0.8)
    lines = notes_on(["a", "b", "rule"], table, np.arange(3) < 2, "rule", chosen)
    assert "The best may be a or one of these: b (up to 0.0 points below it)." in lines


def test_the_candidates_count_the_reference_linear() -> None:
    table, candidates = simple_standings()
    names = [LINEAR if name == "fine" else name for name in NAMES]
    chosen = selection.Chosen(0, (0, 1, 2), True, 0.81, 0.79)
    line = notes_on(names, table, candidates, "sharpness", chosen)[0]
    assert line.startswith("Best of 3 candidates (the reference linear is one): good, ")


def test_sentences_where_one_experiment_is_clearly_best() -> None:
    table, candidates = simple_standings(fine=0.6)
    lines = paragraph(table._replace(seed_source="seeds"), candidates)
    assert "good is shown to be the best of the entries compared." in lines
    assert lines[-1] == "No further run is needed to prefer good."


def test_sentences_where_nothing_is_better() -> None:
    part, weight = one_fold(np.vstack([np.zeros((2, 50)), np.ones(50), np.full(50, 0.5)]))
    draws = drawn(part, weight, heuristics=2)
    table = comparison.standings(draws, {YARDSTICK: 2, "chance": 3})
    chosen = selection.Chosen(0, (0, 1), False, 0.0, 0.0)
    lines = notes_on(["a", "b", "rule", "chance"], table, np.arange(4) < 2, "rule", chosen)
    expected = "No experiment is shown to be better than the strongest baseline (rule), 100.0%."
    assert expected in lines
    assert "The difference of a to it: -100.0 points (-100.0 to -100.0): it is worse." in lines
    assert "Worse than the strongest baseline (rule): b by 100.0 points (100.0 to 100.0)." in lines
    assert "rule is shown to be the best of the entries compared." in lines
    # Only the other baselines are in the list of what is worse than the best.
    (others,) = [line for line in lines if line.startswith("Worse than the best entry")]
    assert others == "Worse than the best entry (rule): chance by 50.0 points (50.0 to 50.0)."


def test_where_no_baseline_beats_chance_the_yardstick_is_chance() -> None:
    table, candidates = simple_standings()
    to_chance = table._replace(to={YARDSTICK: table.to["chance"], "chance": table.to["chance"]})
    lines = paragraph(to_chance, candidates)
    assert any(
        line.startswith("Better than chance (the baseline chosen is no better), 50.0%: ")
        for line in lines
    )
    assert not any("either" in line or "all the same" in line for line in lines)


def test_sentences_of_too_few_series_and_of_nothing() -> None:
    few = standings(*one_fold(alternating(9)), baseline=1)
    chosen = selection.Chosen(0, (0, 1), False, 4 / 9, 4 / 9)
    lines = notes_on(["a", "b"], few, np.ones(2, bool), "b", chosen)
    assert lines[0] == (
        "Selected on validation from 2 candidates: a, test accuracy 44.4% on 9 pairs."
    )
    assert lines[-1].startswith("Only 9 series test: too few ")
    assert lines[-1].endswith("--folds=5 tests every series.")
    failed = standings(*one_fold(np.full((2, 50), NAN)))
    assert notes_on(["a", "b"], failed, np.ones(2, bool), "b", None) == []


def test_no_interval_of_a_difference_is_wider_than_differences_can_be() -> None:
    right_S = np.random.default_rng(0).random((2, 10)).round()[0]
    to = standings(*one_fold([right_S, 1 - right_S]), baseline=1).to[YARDSTICK]
    assert to.difference[0] + to.critical_value[0] * to.error[0] > 1.1
    assert to.high[0] == 1
    assert to.low[0] == to.difference[0] - to.critical_value[0] * to.error[0]


def test_long_lists_are_cut() -> None:
    part, weight = one_fold(np.vstack([np.ones((12, 50)), np.zeros(50), np.full(50, 0.5)]))
    draws = drawn(part, weight, heuristics=2)
    table = comparison.standings(draws, {YARDSTICK: 12, "chance": 13})
    names = [*(f"e{x}" for x in range(12)), "baseline", "chance"]
    chosen = selection.Chosen(0, tuple(range(12)), True, 1.0, 1.0)
    lines = notes_on(names, table, np.arange(14) < 12, "baseline", chosen)
    assert any(re.search(r"e7 by 100.0 points \([^)]*\) and 4 more\.$", line) for line in lines)


def interval(table: Standings) -> Interval:
    return Interval(table.mean, table.ci_low, table.ci_high)


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    table, _ = simple_standings()
    few = standings(
        *one_fold(np.vstack([alternating(9), alternating(9), alternating(9)[:1]])), heuristics=1
    )
    for number, (part, caveats) in enumerate([(table, ["SIMULATED data"]), (few, [])]):
        path = tmp_path / f"{number}.png"
        draw_leaderboard(path, NAMES, interval(part), part, 3, caveats)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_many_entries_stays_readable_and_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = np.random.default_rng(0).integers(0, 2, (300, 40)).astype(float)
    table = standings(*one_fold(hits))
    heights, titles = [], []

    class Watched(matplotlib.figure.Figure):
        def suptitle(self, t: str, **kwargs: Any) -> Any:
            heights.append(self.get_figheight())
            titles.append(t)
            return super().suptitle(t, **kwargs)

    monkeypatch.setattr(matplotlib.figure, "Figure", Watched)
    names = [f"e{i}" for i in range(300)]
    draw_leaderboard(tmp_path / "f.png", names, interval(table), table, None, [])
    assert heights[0] < 30
    assert titles[0].endswith("220 entries with a lower validation mean are not drawn")


def in_all_series(found: hits.Hits) -> hits.Hits:
    """The same with a place for each series in each fold."""
    series_FS, num_series = found.series_FS, found.num_series
    assert series_FS is not None
    hits_XFKS = np.zeros((*found.hits_XFKS.shape[:3], num_series + 1))
    weight_FS = np.zeros((len(series_FS), num_series + 1))
    for fold, series_S in enumerate(series_FS):
        hits_XFKS[:, fold][..., series_S] = found.hits_XFKS[:, fold]
        weight_FS[fold, series_S] = found.weight_FS[fold]
    hits_XFKS[np.isnan(found.hits_XFKS).any(axis=3)] = NAN
    return found._replace(
        hits_XFKS=hits_XFKS[..., :num_series],
        weight_FS=weight_FS[:, :num_series],
        series_FS=None,
        num_series=0,
    )


def test_a_fold_needs_places_for_its_own_series_only() -> None:
    """Hits of each fold's series alone, in folds of different sizes, and of all series."""
    rng = np.random.default_rng(0)
    sizes, num_entries, num_series = (40, 25, 30), 4, 95
    series_FS = np.full((3, 40), num_series)
    weight_FS, hits_XFKS = np.zeros((3, 40)), np.zeros((num_entries, 3, 2, 40), np.float32)
    order = rng.permutation(num_series)
    for fold, (size, end) in enumerate(zip(sizes, np.cumsum(sizes), strict=True)):
        series_FS[fold, :size] = order[end - size : end]
        weight_FS[fold, :size] = rng.integers(1, 6, size)
        share = rng.binomial(1, 0.6, (num_entries, 2, size))
        hits_XFKS[:, fold, :, :size] = share * weight_FS[fold, :size]
    hits_XFKS[1, 1, 1] = NAN
    hits_XFKS[3, 2] = NAN
    no = np.zeros(num_entries, bool)
    names = tuple("abcd")
    few = hits.Hits(
        names, no, ~no, np.arange(num_entries), hits_XFKS, weight_FS, series_FS, num_series
    )
    many = in_all_series(few)
    assert many.hits_XFKS.shape == (num_entries, 3, 2, num_series)
    one, other = hits.pooled(few), hits.pooled(many)
    np.testing.assert_allclose(one.hits_XS, other.hits_XS)
    np.testing.assert_allclose(one.accuracy_X, other.accuracy_X)
    first, second = (comparison.standings(resampling.resample(h), {"a": 0}) for h in (few, many))
    assert np.isfinite(first.ci_low).all()
    for name in ("mean", "ci_low", "ci_high", "best_ci_low", "share_first", "variance_X"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), err_msg=name)
    np.testing.assert_allclose(first.to["a"].low, second.to["a"].low)
    of_few, of_many = select(few, few, np.zeros(4)), select(many, many, np.zeros(4))
    assert of_few._replace(accuracy=0) == of_many._replace(accuracy=0)
    assert of_few.accuracy == pytest.approx(of_many.accuracy)


def test_what_is_selected_without_some_series_does_not_look_at_them() -> None:
    """Entry 1 is the best by one series alone, that of many hits."""
    hits_XS = np.array([[3.0, 3.0, 3.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0, 9.0]])
    weight_FS = np.kron(np.eye(2), [4.0, 4.0, 9.0])
    test = hits_of(hits_XS[:, None, None] * (weight_FS > 0)[:, None], weight_FS)
    chosen = select(test, test)
    assert chosen.entry == 1
    left_out_FS = np.zeros((3, 6), bool)
    left_out_FS[0, 5] = left_out_FS[1, 0] = True
    chosen_F, accuracy_FX = selection.chosen_without(left_out_FS, hits.pooled(test), chosen)
    assert chosen_F.tolist() == [0, 1, 1]
    np.testing.assert_allclose(accuracy_FX[0], [15 / 25, 10 / 25])
    np.testing.assert_allclose(accuracy_FX[2], [15 / 34, 19 / 34])


def test_an_experiment_that_failed_in_some_folds_is_not_compared() -> None:
    """It is worse everywhere, and has completed in the one easy fold only."""
    rng = np.random.default_rng(0)
    share_F = np.array([0.9, 0.6, 0.6])
    hits_XFKS = np.full((2, 3, 1, 90), np.nan)
    weight_FS = np.kron(np.eye(3), np.full(30, 4.0))
    for fold in range(3):
        hits_XFKS[0, fold, 0] = rng.binomial(4, share_F[fold], 90) * (weight_FS[fold] > 0)
    hits_XFKS[1, 0, 0] = rng.binomial(4, 0.85, 90) * (weight_FS[0] > 0)
    yes = np.array([True, True])
    both = hits.Hits(("whole", "partial"), ~yes, yes, np.arange(2), hits_XFKS, weight_FS)
    table = comparison.standings(resampling.resample(both), {})
    assert table.mean[1] > table.mean[0] + 0.05
    assert table.to_best.reference == 0
    assert table.tied_for_best.tolist() == [True, False]
    assert np.isnan(table.to_best.low[1])
    chosen = selection.select_experiment(both, both, np.zeros(2))
    assert chosen is not None
    assert chosen.entry == 0


def test_an_entry_that_consists_of_others_is_not_the_best() -> None:
    table = comparison.standings(drawn(*one_fold(alternating(400))), {}, excluded=[0])
    assert table.to_best.reference != 0
    assert not table.tied_for_best[0]
    assert np.isnan(table.share_first[0])
    assert np.isfinite(table.share_first[1:]).all()
