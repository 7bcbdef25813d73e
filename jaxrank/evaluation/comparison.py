"""Which experiments are better than which, and how sure that is.

The truth that an interval covers is the mean, over the trained models, of their accuracy on new
series, folds weighted by their pairs (Bayle et al. 2020). Series are the independent units.

Axis letters: X entries (experiments and baselines), F folds, K seeds, S series, B resamples,
M pairs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.metrics import pair_differences, pair_hits
from jaxrank.statistics import FEWEST_SERIES, ratio, resamples

# Of the interval of one mean, by itself.
LEVEL = 0.95
# Of all differences between entries together. Seen to call any two of ten equally good experiments
# different in less than 5% of searches, because variances are estimates too; stricter with one seed
# and one fold, where seed variance can't be estimated (benchmarks/identical_searches.py).
SIMULTANEOUS_LEVEL, STRICTER_LEVEL = 0.975, 0.99
# Where the variance over seeds comes from.
SEEDS, FOLDS, UNKNOWN = "seeds", "folds", "unknown"


class Hits(NamedTuple):
    """What every entry got right in one split of every trained fold.

    Attributes:
      names: X of them.
      is_baseline_X: it was not trained, so its seeds are all the same.
      is_candidate_X: it may be chosen: trained, no control and no ensemble, of which no model is
        saved.
      hits_XFKS: pairs ordered right (a tie of scores is one half), summed over each series; NaN
        for a trial that failed or does not exist.
      weight_FS: pairs with a direction.
    """

    names: tuple[str, ...]
    is_baseline_X: np.ndarray
    is_candidate_X: np.ndarray
    hits_XFKS: np.ndarray
    weight_FS: np.ndarray


class SeedNoise(NamedTuple):
    """Seed variance: what training with another seed does to an accuracy, pooled over experiments
    and folds.

    Attributes:
      measured: variance of a trained model's measured accuracy over its seeds. With one seed
        (FOLDS): over the folds, less what experiments and folds have in common.
      series_variance: the share of `measured` due to the sampled series; the rest is seed variance.
      freedom: degrees of freedom of `measured`.
      source: SEEDS; FOLDS, where it is that of the fold's training pairs too; UNKNOWN, with one
        seed and one fold: then all of this is zero.
    """

    measured: float
    series_variance: float
    freedom: int
    source: str

    @property
    def seed_variance(self) -> float:
        """Variance of a trained model's true accuracy over its seeds."""
        return max(self.measured - self.series_variance, 0.0)

    def draw_seed_variance(self, num_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Values [B] that the seed variance may have, given its estimate.

        `measured` has the distribution of the true variance times chi-square / freedom.
        """
        if not self.freedom:
            return np.zeros(num_draws)
        scale_B = self.freedom / rng.chisquare(self.freedom, num_draws)
        return np.maximum(self.measured * scale_B - self.series_variance, 0.0)


class Standings(NamedTuple):
    """Accuracies of all entries in one split; shares of 1, not percent.

    NaN for an entry without a completed trial. With fewer than FEWEST_SERIES series all but `mean`
    is NaN, nothing is separated, and everything is tied.

    Attributes:
      mean, ci_low, ci_high: [X], each interval by itself (LEVEL), for these trained models.
      diff_to_baseline, diff_ci_low, diff_ci_high: [X], simultaneous; NaN without a baseline.
      diff_to_best, best_ci_low, best_ci_high: [X], to the entry of the highest mean, likewise.
      bootstrap_rank1: [X], share of resamples ranked first; no probability of being the best.
      tied_for_best: bool [X], not separated from the entry of the highest mean (Hsu 1984).
      separated_XX: bool, the simultaneous interval of the difference has no zero.
      error_XX: standard errors of the differences, seed variance included.
      critical_value: the factor of the simultaneous intervals.
      seed_variance_X: the part of each mean's variance that is seed variance.
      spread_X: the part of it that more seeds make smaller; NaN with one seed.
      seed_noise: of one training.
      num_series, num_pairs: of this split, over all folds; pairs with a direction.
      num_folds, num_seeds: F, K.
    """

    mean: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    diff_to_baseline: np.ndarray
    diff_ci_low: np.ndarray
    diff_ci_high: np.ndarray
    diff_to_best: np.ndarray
    best_ci_low: np.ndarray
    best_ci_high: np.ndarray
    bootstrap_rank1: np.ndarray
    tied_for_best: np.ndarray
    separated_XX: np.ndarray
    error_XX: np.ndarray
    critical_value: float
    seed_variance_X: np.ndarray
    spread_X: np.ndarray
    seed_noise: SeedNoise
    num_series: int
    num_pairs: int
    num_folds: int
    num_seeds: int


def from_results(
    results: Sequence[TrialResult],
    heuristics: Mapping[str, np.ndarray],
    evaluator: Evaluator,
    split: int,
    names: Sequence[str],
) -> Hits:
    """Hits of experiments and heuristics in one split.

    Args:
      results: of all trials.
      heuristics: by name, score_a - score_b of every pair in each trained fold, [F, M].
      evaluator: that the trials were measured with.
      split: splits.VALIDATION or splits.TEST.
      names: of the experiments, in the order of the entries; the heuristics come after them.

    Returns:
      Only the folds that were trained; K is the most seeds that any experiment has.
    """
    dataset = evaluator.dataset
    folds = sorted({r.trial.fold for r in results})
    seeds = {n: sorted({r.trial.seed for r in results if r.trial.experiment.name == n})
             for n in names}  # fmt: skip
    num_seeds = max([1, *map(len, seeds.values())])
    in_split_FM = (evaluator.splits_FM[folds] == split).astype(np.float64)

    def by_series(value_M: np.ndarray) -> np.ndarray:
        return np.bincount(dataset.series_M, value_M, len(dataset.series_ids))

    _, directed_M = pair_hits(np.zeros(len(dataset.preference_M)), dataset.preference_M)
    weight_FS = np.array([by_series(directed_M * in_split_M) for in_split_M in in_split_FM])
    shape = (len(names) + len(heuristics), len(folds), num_seeds, len(dataset.series_ids))
    hits_XFKS = np.full(shape, np.nan)
    for result in results:
        trial = result.trial
        name, fold = trial.experiment.name, folds.index(trial.fold)
        if name in seeds and result.metrics.completed:
            own = evaluator.of(trial.experiment).dataset
            hit_M, _ = pair_hits(
                pair_differences(result.scores_N, own.pair_rows_M2), own.preference_M
            )
            place = list(names).index(name), fold, seeds[name].index(trial.seed)
            hits_XFKS[place] = by_series(hit_M * directed_M * in_split_FM[fold])
    for x, difference_FM in enumerate(heuristics.values(), start=len(names)):
        hit_FM, _ = pair_hits(difference_FM, dataset.preference_M)
        for fold, (hit_M, in_split_M) in enumerate(zip(hit_FM, in_split_FM, strict=True)):
            hits_XFKS[x, fold] = by_series(hit_M * directed_M * in_split_M)
    # An ensemble has one seed, so `standings` gives it the seed variance of one trained model. Its
    # own is unknown, and smaller: with it, an interval is too wide and no claim too bold.
    others = {
        r.trial.experiment.name for r in results if r.trial.experiment.is_control or r.ensemble_of
    }
    is_baseline_X = np.arange(len(hits_XFKS)) >= len(names)
    is_candidate_X = ~is_baseline_X & ~np.isin([*names, *heuristics], list(others))
    return Hits((*names, *heuristics), is_baseline_X, is_candidate_X, hits_XFKS, weight_FS)


def standings(
    hits_XFKS: np.ndarray,
    weight_FS: np.ndarray,
    *,
    is_baseline_X: np.ndarray,
    baseline: int | None,
    num_draws: int = 2000,
    seed: int = 0,
) -> Standings:
    """Means, intervals and comparisons of all entries in one split.

    Series are resampled with multinomial weights, which gives each mean its interval. What is said
    of differences is said of experiments, not of these trained models: there the seed variance,
    independent between experiments, is added to each resample. All differences share one critical
    value, the quantile of the largest standardised one (maximum statistic, Westfall and Young
    1993).

    An experiment's mean is over its completed trials: over seeds in each fold, then over the folds
    that have one, weighted by their pairs.

    Args:
      hits_XFKS, weight_FS, is_baseline_X: see `Hits`.
      baseline: the entry that the others are compared with.
      num_draws: B.
      seed: of the resamples; the same seed gives the same standings.
    """
    tested_S = weight_FS.sum(axis=0) > 0
    tested_F = weight_FS.sum(axis=1) > 0
    hits_XFKS, weight_FS = hits_XFKS[:, tested_F][..., tested_S], weight_FS[tested_F][:, tested_S]
    hits_XS, weight_XS, per_model_X = over_trials(hits_XFKS, weight_FS)
    mean_X = ratio(hits_XS.sum(axis=1), weight_XS.sum(axis=1))
    noise = _seed_noise(hits_XFKS[~is_baseline_X], weight_FS)
    per_model_X = np.where(is_baseline_X, 0.0, per_model_X)
    rng = np.random.default_rng(seed)
    drawn = _draw(mean_X, hits_XS, weight_XS, per_model_X, noise, num_draws, rng)

    difference_XX = mean_X[:, None] - mean_X
    half_width_XX = drawn.critical_value * drawn.error_XX
    separated_XX = np.abs(difference_XX) > half_width_XX
    low_XX, high_XX = difference_XX - half_width_XX, difference_XX + half_width_XX
    best = int(np.argmax(np.where(np.isfinite(mean_X), mean_X, -1.0)))
    nowhere_X = np.full(len(mean_X), np.nan)
    return Standings(
        mean=mean_X,
        ci_low=np.clip(mean_X - drawn.half_width_X, 0.0, 1.0),
        ci_high=np.clip(mean_X + drawn.half_width_X, 0.0, 1.0),
        diff_to_baseline=nowhere_X if baseline is None else difference_XX[:, baseline],
        diff_ci_low=nowhere_X if baseline is None else low_XX[:, baseline],
        diff_ci_high=nowhere_X if baseline is None else high_XX[:, baseline],
        diff_to_best=difference_XX[:, best],
        best_ci_low=low_XX[:, best],
        best_ci_high=high_XX[:, best],
        bootstrap_rank1=drawn.rank1_X,
        tied_for_best=np.isfinite(mean_X) & ~separated_XX[best],
        separated_XX=separated_XX,
        error_XX=drawn.error_XX,
        critical_value=drawn.critical_value,
        seed_variance_X=noise.seed_variance * per_model_X,
        spread_X=(noise.measured if noise.source == SEEDS else np.nan) * per_model_X,
        seed_noise=noise,
        num_series=int(tested_S.sum()),
        num_pairs=int(weight_FS.sum()),
        num_folds=hits_XFKS.shape[1],
        num_seeds=hits_XFKS.shape[2],
    )


class _Drawn(NamedTuple):
    """What the resamples say; see `Standings`."""

    half_width_X: np.ndarray
    error_XX: np.ndarray
    critical_value: float
    rank1_X: np.ndarray


def _draw(
    mean_X: np.ndarray,
    hits_XS: np.ndarray,
    weight_XS: np.ndarray,
    per_model_X: np.ndarray,
    noise: SeedNoise,
    num_draws: int,
    rng: np.random.Generator,
) -> _Drawn:
    num_entries, num_series = hits_XS.shape
    half_width_X, rank1_X = np.full((2, num_entries), np.nan)
    error_XX, critical_value = np.full((num_entries, num_entries), np.nan), float("nan")
    alive = np.flatnonzero(np.isfinite(mean_X))
    if len(alive) and num_series >= FEWEST_SERIES:
        deviation_BX = _deviations(hits_XS[alive], weight_XS[alive], num_draws, rng)
        half_width_X[alive] = ndtri((1 + LEVEL) / 2) * deviation_BX.std(axis=0)
        error_YY = _errors(deviation_BX, noise.seed_variance * per_model_X[alive])
        error_XX[np.ix_(alive, alive)] = error_YY
        variance_BX = noise.draw_seed_variance(num_draws, rng)[:, None] * per_model_X[alive]
        deviation_BX += np.sqrt(variance_BX) * rng.standard_normal(deviation_BX.shape)
        level = STRICTER_LEVEL if noise.source == UNKNOWN else SIMULTANEOUS_LEVEL
        critical_value = _critical(deviation_BX, error_YY, level)
        drawn_BX = mean_X[alive] + deviation_BX
        first_BX = drawn_BX == drawn_BX.max(axis=1, keepdims=True)
        rank1_X[alive] = (first_BX / first_BX.sum(axis=1, keepdims=True)).mean(axis=0)
    return _Drawn(half_width_X, error_XX, critical_value, rank1_X)


def over_trials(
    hits_XFKS: np.ndarray, weight_FS: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits [X, S], means over completed seeds; the weights [X, S] of the folds with such a seed;
    and the variance of an entry's mean [X] where each of its models has the variance 1."""
    done_XFK = ~np.isnan(hits_XFKS).any(axis=3)
    seeds_XF = done_XFK.sum(axis=2)
    total_XFS = np.where(done_XFK[..., None], hits_XFKS, 0.0).sum(axis=2)
    hits_XS = (total_XFS / np.maximum(seeds_XF, 1)[..., None]).sum(axis=1)
    weight_XF = (seeds_XF > 0) * weight_FS.sum(axis=1)
    share_XF = weight_XF / np.maximum(weight_XF.sum(axis=1, keepdims=True), 1.0)
    per_model_X = (share_XF**2 / np.maximum(seeds_XF, 1)).sum(axis=1)
    return hits_XS, (seeds_XF > 0) @ weight_FS, per_model_X


def _seed_noise(hits_XFKS: np.ndarray, weight_FS: np.ndarray) -> SeedNoise:
    """Seed variance, from the experiments' trials.

    Measured accuracies of several seeds differ by seed variance, and because the models differ in
    which of the series at hand they get right. The second is known from
    the series: in V = sum over folds of share^2 (variance over seeds) / seeds it counts already, so
    it is taken off.
    """
    num_folds = len(weight_FS)
    weight_F = weight_FS.sum(axis=1)
    num_series_F = (weight_FS > 0).sum(axis=1)
    # The variance of a sum over series, from squared residuals of the series, as a share of pairs.
    scale_F = num_series_F / np.maximum(num_series_F - 1, 1) / weight_F**2
    done_XFK = ~np.isnan(hits_XFKS).any(axis=3)
    seeds_XF = done_XFK.sum(axis=2)
    freedom = int(np.maximum(seeds_XF - 1, 0).sum())
    total_XFS = np.where(done_XFK[..., None], hits_XFKS, 0.0).sum(axis=2)
    mean_XFS = total_XFS / np.maximum(seeds_XF, 1)[..., None]
    if freedom:
        off_XFKS = np.where(done_XFK[..., None], hits_XFKS - mean_XFS[:, :, None], 0.0)
        off_XFK = off_XFKS.sum(axis=3) / weight_F[:, None]
        residual_XFKS = off_XFKS - weight_FS[:, None] * off_XFK[..., None]
        series_variance = float(np.einsum("xfks,xfks,f->", residual_XFKS, residual_XFKS, scale_F))
        return SeedNoise(
            float((off_XFK**2).sum()) / freedom, series_variance / freedom, freedom, SEEDS
        )
    mean_XFS = mean_XFS[(seeds_XF > 0).all(axis=1)]
    freedom = max(len(mean_XFS) - 1, 0) * max(num_folds - 1, 0)
    if not freedom:
        return SeedNoise(0.0, 0.0, 0, UNKNOWN)
    # Less the means of folds, then of experiments; `residual` is what the series do to the first.
    off_XFS = mean_XFS - mean_XFS.mean(axis=0)
    off_XF = off_XFS.sum(axis=2) / weight_F
    residual_XFS = off_XFS - weight_FS * off_XF[..., None]
    series_variance = float(np.einsum("xfs,xfs,f->", residual_XFS, residual_XFS, scale_F))
    series_variance *= (num_folds - 1) / num_folds
    off_XF -= off_XF.mean(axis=1, keepdims=True)
    return SeedNoise(float((off_XF**2).sum()) / freedom, series_variance / freedom, freedom, FOLDS)


def _deviations(
    hits_XS: np.ndarray, weight_XS: np.ndarray, num_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Means of resampled series less the mean of all [B, X], widened for few series: by Student's
    t and by the degree of freedom that the mean takes."""
    num_series = hits_XS.shape[1]
    mean_X = hits_XS.sum(axis=1) / weight_XS.sum(axis=1)
    hits_SX, weight_SX = hits_XS.T, weight_XS.T
    drawn_BX = np.concatenate(
        [
            ratio(counts_BS @ hits_SX, counts_BS @ weight_SX)
            for counts_BS in resamples(num_series, num_draws, rng)
        ]
    )
    upper = (1 + LEVEL) / 2
    few = stdtrit(num_series - 1, upper) / ndtri(upper) * (1 - 1 / num_series) ** -0.5
    # A resample may lack all series of an entry whose folds failed but for one.
    return float(few) * np.nan_to_num(drawn_BX - mean_X)


def _errors(deviation_BX: np.ndarray, seed_variance_X: np.ndarray) -> np.ndarray:
    """Standard errors [X, X] of all differences: over series, and of two independent seeds."""
    variance_XX = seed_variance_X[:, None] + seed_variance_X
    for x, deviation_B in enumerate(deviation_BX.T):  # exactly zero for equal columns
        variance_XX[x] += (deviation_BX - deviation_B[:, None]).var(axis=0)
    np.fill_diagonal(variance_XX, 0.0)
    return np.sqrt(variance_XX)


def _critical(deviation_BX: np.ndarray, error_XX: np.ndarray, level: float) -> float:
    """The quantile of the largest standardised difference."""
    largest_B = np.zeros(len(deviation_BX))
    for x, error_X in enumerate(error_XX):
        unequal = np.flatnonzero(error_X[:x] > 0)
        off_BY = np.abs(deviation_BX[:, unequal] - deviation_BX[:, x, None]) / error_X[unequal]
        np.maximum(largest_B, off_BY.max(axis=1, initial=0.0), out=largest_B)
    return float(np.quantile(largest_B, level))
