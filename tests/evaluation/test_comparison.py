from pathlib import Path
from typing import Any

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
from jaxrank.evaluation import comparison, selection
from jaxrank.evaluation.comparison import Hits, Standings
from jaxrank.evaluation.evaluator import make_evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.planning.trials import Trial
from jaxrank.reporting import figures, sentences
from jaxrank.reporting.figures import draw_leaderboard

NAN = float("nan")


def one_fold(hits_XS: Any) -> tuple[np.ndarray, np.ndarray]:
    """Hits of one fold and one seed, a pair a series."""
    hits = np.asarray(hits_XS, np.float64)
    return hits[:, None, None], np.ones((1, hits.shape[1]))


def standings(
    hits: np.ndarray,
    weight: np.ndarray,
    heuristics: int = 0,
    baseline: int | None = None,
    **options: Any,
) -> Standings:
    """Standings of entries the last of which are heuristics."""
    is_rule = np.arange(len(hits)) >= len(hits) - heuristics
    return comparison.standings(hits, weight, is_baseline_X=is_rule, baseline=baseline, **options)


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
    table = standings(*one_fold(alternating(400)), num_draws=8000)
    # Of 400 series at 50%: 0.5 / sqrt(400); the difference is +1 or -1: 1 / sqrt(400).
    np.testing.assert_allclose(table.ci_high - 0.5, 1.96 * 0.025, rtol=0.04)
    np.testing.assert_allclose(0.5 - table.ci_low, 1.96 * 0.025, rtol=0.04)
    assert table.error_XX[0, 1] == pytest.approx(0.05, rel=0.04)
    assert table.error_XX[0, 0] == 0
    # With one difference the maximum statistic is that difference's: two-sided 99% with one seed
    # and one fold.
    assert table.critical_value == pytest.approx(norm.ppf(1 - 0.005), abs=0.1)
    np.testing.assert_allclose(table.bootstrap_rank1, 0.5, atol=0.03)


def test_series_are_the_units_not_pairs() -> None:
    """Four pairs a series that are right together say no more than one."""
    hits, weight = one_fold(alternating(400))
    single, fourfold = standings(hits, weight), standings(4 * hits, 4 * weight)
    np.testing.assert_allclose(fourfold.ci_high, single.ci_high)
    np.testing.assert_allclose(fourfold.error_XX, single.error_XX)
    assert fourfold.num_pairs == 4 * single.num_pairs


def test_one_series_short_of_the_fewest() -> None:
    enough, short = (standings(*one_fold(alternating(n)), baseline=1) for n in (10, 9))
    # Student's t of 9 degrees of freedom is 2.262; variance by 9, not by 10.
    half_width = 2.262 * 0.5 / np.sqrt(9)
    assert enough.ci_high[0] - 0.5 == pytest.approx(half_width, rel=0.08)
    assert not np.isnan(enough.diff_ci_low).any()
    np.testing.assert_allclose(short.mean, [4 / 9, 5 / 9])
    for bounds in (short.ci_low, short.ci_high, short.diff_ci_low, short.best_ci_high,
                    short.bootstrap_rank1, short.critical_value):  # fmt: skip
        assert np.isnan(bounds).all()
    assert not short.separated_XX.any()
    assert short.tied_for_best.all()


def test_more_comparisons_need_a_larger_factor() -> None:
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 2, (12, 300))
    few, many = standings(*one_fold(hits[:2])), standings(*one_fold(hits))
    # Twelve independent entries: the 99% point of the studentised range (tables: 5.29) / sqrt(2).
    assert (
        few.critical_value + 0.8 < many.critical_value == pytest.approx(5.29 / np.sqrt(2), abs=0.2)
    )


def test_what_is_clearly_better_is_separated() -> None:
    rng = np.random.default_rng(0)
    good = rng.random(400) < 0.9
    hits = np.stack([good, rng.random(400) < 0.5, good, np.full(400, 0.5)])
    table = standings(*one_fold(hits), heuristics=1, baseline=3)
    # The first and the third are the same; the baseline scores all photos alike.
    expected = [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]
    np.testing.assert_array_equal(table.separated_XX, np.array(expected, bool))
    np.testing.assert_array_equal(table.tied_for_best, [True, False, True, False])
    np.testing.assert_allclose(table.bootstrap_rank1, [0.5, 0, 0.5, 0])
    np.testing.assert_allclose(table.diff_to_baseline, hits.mean(axis=1) - 0.5)
    np.testing.assert_array_equal(table.diff_ci_low > 0, [True, False, True, False])
    assert table.diff_to_best[0] == table.best_ci_low[0] == table.best_ci_high[2] == 0
    assert table.best_ci_high[1] < 0
    assert (table.ci_low[3], table.ci_high[3]) == (0.5, 0.5)


def test_a_rule_equal_to_an_experiment_is_not_beaten() -> None:
    hits = np.stack([alternating(100)[0]] * 2)
    table = standings(*one_fold(hits), heuristics=1, baseline=1)
    assert table.diff_to_baseline[0] == table.diff_ci_low[0] == table.diff_ci_high[0] == 0
    assert not table.separated_XX.any()
    assert np.isnan(standings(*one_fold(hits)).diff_to_baseline).all()  # no baseline, no difference


def test_a_failed_experiment_changes_nothing_for_the_others() -> None:
    hits, weight = one_fold(np.vstack([alternating(100), np.full(100, NAN)]))
    table, without = standings(hits, weight), standings(hits[:2], weight)
    np.testing.assert_array_equal(table.error_XX[:2, :2], without.error_XX)
    assert table.critical_value == without.critical_value
    np.testing.assert_array_equal(table.tied_for_best, [True, True, False])
    assert np.isnan([table.mean[2], table.ci_low[2], table.bootstrap_rank1[2]]).all()
    for nothing in (standings(hits[2:], weight), standings(hits, 0 * weight)):
        assert np.isnan(nothing.mean).all()
        assert not nothing.tied_for_best.any()


def test_the_luck_of_seeds_by_hand() -> None:
    """One seed right everywhere, one nowhere: nothing of it is explained by series."""
    right = np.ones(12)
    hits = np.stack([np.stack([right, 0 * right]), np.stack([0.25 * right, 0.75 * right])])
    weight = np.ones((1, 12))
    table = standings(hits[:, None], weight)
    # Variances over two seeds: 1/2 and 1/8. The mean over two seeds has half of their mean.
    assert table.seed_noise == (pytest.approx(0.3125), 0, 2, comparison.SEEDS)
    assert table.seed_noise.seed_variance == pytest.approx(0.3125)
    np.testing.assert_allclose(table.seed_variance_X, 0.3125 / 2)
    assert table.error_XX[0, 1] == pytest.approx(np.sqrt(0.3125), rel=0.06)
    # A baseline has none, and says nothing about that of the others.
    beside_rule = standings(hits[:, None], weight, heuristics=1)
    np.testing.assert_allclose(beside_rule.seed_variance_X, [0.25, 0])
    # Of two folds each has a quarter of its variance.
    folds = standings(np.stack([hits, hits], axis=1), np.ones((2, 12)))
    np.testing.assert_allclose(folds.seed_variance_X, (0.25 + 0.25) * 0.3125 / 2)


def test_seeds_that_differ_on_the_series_at_hand_only_are_no_luck() -> None:
    halves = alternating(40)
    table = standings(halves[None, None], np.ones((1, 40)))
    assert table.seed_noise.measured == 0
    assert table.seed_noise.series_variance > 0
    # Independent hits: accuracies differ, by as much as the series explain.
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 2, (30, 2, 3, 200)).astype(float)
    table = standings(hits, np.ones((2, 200)), num_draws=10)
    assert table.seed_noise.measured == pytest.approx(0.25 / 200, rel=0.25)
    assert table.seed_noise.seed_variance < 0.3 * 0.25 / 200


def test_with_one_seed_folds_tell_the_luck_of_training() -> None:
    right = np.ones(12)
    hits = np.stack([np.stack([right, 0 * right]), np.stack([0 * right, right])])
    table = standings(hits[:, :, None], np.ones((2, 12)))
    # Less the means of experiments and folds: +-1/2 four times, one degree of freedom.
    assert table.seed_noise.seed_variance == pytest.approx(1.0)
    assert table.seed_noise.source == comparison.FOLDS
    np.testing.assert_allclose(table.seed_variance_X, (0.25 + 0.25) * 1.0)
    # Independent hits: what looks like luck is what the series explain.
    hits = np.random.default_rng(0).integers(0, 2, (60, 2, 1, 200)).astype(float)
    noise = standings(hits, np.ones((2, 200)), num_draws=10).seed_noise
    assert noise.measured == pytest.approx(noise.series_variance, rel=0.4)
    assert noise.series_variance == pytest.approx(0.25 / 200, rel=0.05)
    one = standings(*one_fold(alternating(12)))
    assert one.seed_noise.seed_variance == 0
    assert one.seed_noise.source == comparison.UNKNOWN


def test_luck_is_drawn_about_its_estimate_wider_with_few_degrees_of_freedom() -> None:
    few, many = (comparison.SeedNoise(5.0, 2.0, n, comparison.SEEDS) for n in (4, 10**6))
    few_B, many_B = (
        noise.draw_seed_variance(4000, np.random.default_rng(0)) for noise in (few, many)
    )
    np.testing.assert_allclose(many_B, 3.0, atol=0.05)
    # The 5% and 95% points of chi-square with 4 degrees of freedom are 0.711 and 9.488.
    low, high = np.quantile(few_B, [0.05, 0.95])
    assert low == pytest.approx(5 * 4 / 9.488 - 2, abs=0.1)
    assert high == pytest.approx(5 * 4 / 0.711 - 2, rel=0.08)


def test_the_same_seed_gives_the_same_standings() -> None:
    hits, weight = one_fold(np.random.default_rng(0).integers(0, 2, (4, 60)))
    first, again, other = (standings(hits, weight, baseline=0, seed=s) for s in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.ci_low, other.ci_low)


def test_a_small_simulation_keeps_its_word() -> None:
    """Five equally good entries with three lucky or unlucky trainings each, 120 series."""
    num_searches, num_series = 200, 120
    covered, claimed, unadjusted = 0.0, 0, 0
    for search in range(num_searches):
        rng = np.random.default_rng(search)
        weight = rng.integers(1, 4, num_series).astype(float)
        true = 0.6 + 0.03 * rng.standard_normal((5, 1, 3, 1))
        ease = 0.1 * rng.standard_normal(num_series)  # of a series, for all alike
        hits = rng.binomial(weight.astype(int), np.clip(true + ease, 0, 1)).astype(float)
        table = standings(hits, weight[None], num_draws=300)
        truth = true.mean(axis=(1, 2, 3))
        covered += ((table.ci_low < truth) & (truth < table.ci_high)).mean()
        claimed += bool(table.separated_XX.any())
        difference = table.mean[:, None] - table.mean
        unadjusted += bool((np.abs(difference) > 1.96 * table.error_XX).any())
    assert 0.93 < covered / num_searches < 0.97
    assert claimed / num_searches <= 0.06
    assert unadjusted / num_searches > 0.12


def hits_of(part: np.ndarray, weight: np.ndarray, candidates: int | None = None) -> Hits:
    is_candidate = np.arange(len(part)) < (len(part) if candidates is None else candidates)
    names = tuple(f"e{x}" for x in range(len(part)))
    return Hits(names, ~is_candidate, is_candidate, part, weight)


def test_a_choice_that_saw_no_test_series_needs_no_correction() -> None:
    hits, weight = one_fold(np.random.default_rng(0).integers(0, 2, (5, 60)))
    validates = np.arange(60) < 30
    validation, test = (hits_of(hits * part, weight * part) for part in (validates, ~validates))
    chosen = selection.chosen_score(validation, test)
    assert chosen is not None
    expected = hits[:, 0, 0, :30].sum(axis=1).argmax()
    accuracy = hits[expected, 0, 0, 30:].mean()
    assert chosen == (expected, 5, accuracy, accuracy)


def test_the_corrected_score_of_the_choice_is_unbiased() -> None:
    """Eight coins: the best of them seems to see the next toss."""
    raw, corrected = [], []
    for search in range(60):
        rng = np.random.default_rng(search)
        part = hits_of(*one_fold(rng.integers(0, 2, (8, 150))))
        chosen = selection.chosen_score(part, part, num_draws=128)
        assert chosen is not None
        raw.append(chosen.raw - 0.5)
        corrected.append(chosen.corrected - 0.5)
    # 1.42 standard deviations of 1 / (2 sqrt(150)); the means of 60 have errors below 0.004.
    assert np.mean(raw) == pytest.approx(1.42 * 0.0408, abs=0.012)
    assert abs(np.mean(corrected)) < 0.012


def test_rules_controls_and_failed_experiments_are_not_chosen() -> None:
    good, bad = np.ones(30), alternating(30)[0]
    hits, weight = one_fold(np.stack([bad, NAN * bad, good]))
    chosen = selection.chosen_score(*[hits_of(hits, weight, candidates=2)] * 2)
    assert chosen == (0, 1, 0.5, pytest.approx(0.5, abs=0.02))
    failed = hits_of(hits[1:], weight, candidates=1)
    assert selection.chosen_score(failed, failed) is None
    few = hits_of(hits[..., :9], weight[:, :9])
    too_few = selection.chosen_score(few, few)
    assert too_few is not None
    assert np.isnan(too_few.corrected)


def test_power_by_hand() -> None:
    assert selection.power(0.03, 0.01, 3.0) == pytest.approx(0.5, abs=1e-6)
    assert selection.power(0.0, 0.01, 1.96) == pytest.approx(0.05, abs=1e-4)
    assert selection.power(-0.03, 0.01, 3.0 - 0.8416) == pytest.approx(0.8, abs=1e-4)
    assert selection.power(0.03, 0.0, 3.0) == 1


def test_series_and_seeds_that_a_difference_needs_by_hand() -> None:
    hits, weight = one_fold(alternating(20))
    table = standings(hits, weight)._replace(
        error_XX=np.array([[0, 0.02], [0.02, 0]]),
        seed_variance_X=np.full(2, 2e-5),
        spread_X=np.full(2, 25e-5),
        critical_value=3.0,
        num_series=400,
        num_seeds=2,
    )
    everyone = np.array([True, True])
    need = selection.needed(table, everyone)
    assert need is not None
    assert need.power == pytest.approx(norm.cdf(1.5 - 3), abs=1e-4)
    # The variance may be (0.03 / 3.8416)^2 = 6.098e-5, luck 4e-5 of it: 36e-5 / 2.098e-5 * 400.
    assert need.num_series == pytest.approx(6862, abs=3)
    # 33.9e-5 of the seeds' 50e-5 must go: 2 / (1 - 0.678).
    assert need.num_seeds == 7
    lucky = selection.needed(table._replace(seed_variance_X=np.full(2, 4e-5)), everyone)
    assert lucky is not None
    assert lucky.num_series is None
    hopeless = selection.needed(table._replace(spread_X=np.full(2, 1e-4)), everyone)
    assert hopeless is not None
    assert hopeless.num_seeds is None
    assert selection.needed(table, np.array([True, False])) is None


def test_enough_series_are_enough() -> None:
    """With as many series as it asks for, the predicted power is the one that was asked for."""
    rng = np.random.default_rng(0)
    hits = rng.random((4, 1, 1, 400)) < 0.6
    table = standings(hits.astype(float), np.ones((1, 400)))
    need = selection.needed(table, np.ones(4, bool), difference=0.05)
    assert need is not None
    assert need.num_series is not None
    error = np.median(table.error_XX[np.triu_indices(4, 1)]) * np.sqrt(400 / need.num_series)
    assert selection.power(0.05, float(error), table.critical_value) == pytest.approx(0.8, abs=0.01)


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
    in_each_fold = np.array([np.ones(6), -np.ones(6)], np.float32)
    names = ["two", "one", "shuffled"]
    hits = comparison.from_results(results, {"fitted": in_each_fold}, evaluator, splits.TEST, names)
    assert hits.names == ("two", "one", "shuffled", "fitted")
    np.testing.assert_array_equal(hits.is_baseline_X, [False, False, False, True])
    np.testing.assert_array_equal(hits.is_candidate_X, [True, True, False, False])
    # Fold 0 tests series c, fold 2 tests b and c; the pair of one half has no direction.
    np.testing.assert_array_equal(hits.weight_FS, [[0, 0, 3], [0, 1, 3]])
    absent = [NAN] * 3
    np.testing.assert_array_equal(hits.hits_XFKS[0], [[absent, absent], [[0, 1, 1], absent]])
    expected = [[[0, 0, 1], [0, 0, 2]], [[0, 0.5, 1.5], absent]]
    np.testing.assert_array_equal(hits.hits_XFKS[1], expected)
    np.testing.assert_array_equal(hits.hits_XFKS[3], [[[0, 0, 2]] * 2, [[0, 1, 1]] * 2])
    # The control is measured by the pairs that it was trained on.
    control = evaluator.control
    assert control is not None
    difference = metrics.pair_differences(up, control.dataset.pair_rows_M2)
    own, _ = metrics.pair_hits(difference, control.dataset.preference_M)
    assert hits.hits_XFKS[2, 0, 0, 2] == own[3:].sum()


def simple_standings() -> tuple[list[str], Standings, np.ndarray]:
    rng = np.random.default_rng(0)
    hits, weight = one_fold(rng.random((4, 500)) < np.array([[0.8], [0.78], [0.5], [0.52]]))
    names = ["good", "fine", "poor", "sharpness"]
    return names, standings(hits, weight, heuristics=1, baseline=3), np.arange(4) < 3


def test_sentences_say_who_beats_the_rule_and_who_is_tied() -> None:
    names, table, candidates = simple_standings()
    chosen = selection.Chosen(0, 3, 0.81, 0.79)
    lines = sentences.comparison_notes(names, table, candidates, 3, chosen)
    better, tied_with_rule, best, shares, retrained, chosen_line, power = lines
    good, fine = (100 * table.diff_to_baseline[x] for x in (0, 1))
    assert better.startswith("Better than the baseline 'sharpness': ")
    assert f"good by {good:.1f} points (" in better
    assert f"fine by {fine:.1f} points (" in better
    assert tied_with_rule == "Statistically tied with the baseline: poor."
    leader, other = ("good", "fine") if good > fine else ("fine", "good")
    assert best.startswith(f"Highest on the test pairs: {leader}, ")
    assert best.endswith(f"statistically tied with {other}.")
    assert shares.startswith(f"Share of resamples ranked first: {leader} ")
    assert chosen_line == (
        "Chosen by validation: good, right on 81.0% of the test pairs, 79.0% corrected for the "
        "choice among 3."
    )
    assert "3 points" in power
    assert "test series (now 500; with --folds every series tests)" in power
    assert "One seed and one fold" in retrained
    assert all(len(line) < 200 for line in lines)


def test_sentences_where_nothing_is_better() -> None:
    hits, weight = one_fold(np.vstack([np.zeros(50), np.zeros(50), np.ones(50)]))
    table = standings(hits, weight, heuristics=1, baseline=2)
    lines = sentences.comparison_notes(["a", "b", "baseline"], table, np.arange(3) < 2, 2, None)
    assert "No experiment is shown to be better than the baseline 'baseline'." in lines
    assert "Worse than the baseline: a, b." in lines
    assert (
        "Highest on the test pairs: baseline, 100.0% (100.0 to 100.0); better than every other."
        in (lines)
    )


def test_sentences_of_too_few_series_and_of_nothing() -> None:
    few = standings(*one_fold(alternating(9)))
    lines = sentences.comparison_notes(["a", "b"], few, np.ones(2, bool), None, None)
    assert len(lines) == 1
    assert lines[0].startswith("Only 9 series test: too few ")
    failed = standings(*one_fold(np.full((2, 50), NAN)))
    lines = sentences.comparison_notes(["a", "b"], failed, np.ones(2, bool), None, None)
    assert lines == []


def test_long_lists_are_cut() -> None:
    hits, weight = one_fold(np.vstack([np.ones((12, 50)), np.zeros(50)]))
    table = standings(hits, weight, heuristics=1, baseline=12)
    names = [*(f"e{x}" for x in range(12)), "baseline"]
    lines = sentences.comparison_notes(names, table, np.arange(13) < 12, 12, None)
    assert any(line.endswith("e7, e8 and 3 more.") for line in lines)


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    names, table, _ = simple_standings()
    few = standings(
        *one_fold(np.vstack([alternating(9), alternating(9)])), heuristics=1, baseline=3
    )
    for number, (part, caveats) in enumerate([(table, ["SIMULATED data"]), (few, [])]):
        path = tmp_path / f"{number}.png"
        draw_leaderboard(path, names, part, part, 3, caveats)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_many_entries_stays_readable_and_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = np.random.default_rng(0).integers(0, 2, (300, 40)).astype(float)
    table = standings(*one_fold(hits))
    heights, titles = [], []

    class Watched(figures.Figure):
        def suptitle(self, t: str, **kwargs: Any) -> Any:
            heights.append(self.get_figheight())
            titles.append(t)
            return super().suptitle(t, **kwargs)

    monkeypatch.setattr(figures, "Figure", Watched)
    names = [f"e{i}" for i in range(300)]
    draw_leaderboard(tmp_path / "f.png", names, table, table, None, [])
    assert heights[0] < 30
    assert titles[0].endswith("220 entries with a lower validation mean are not drawn")
