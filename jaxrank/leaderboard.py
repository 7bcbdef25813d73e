"""Which experiments are better than which, and how sure that is.

The truth that an interval covers is the mean, over the trained models, of their accuracy on new
series, folds weighted by their pairs (Bayle et al. 2020). Series are the independent units.

Axis letters: X entries (experiments and rules), F folds, K seeds, S series, B resamples, M pairs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtr, ndtri, stdtrit

from jaxrank import files
from jaxrank.evaluate import (
    COMPLETED,
    FEWEST_SERIES,
    TrialResult,
    Yardstick,
    hits_of,
    pair_differences,
)

# Of the interval of one mean, by itself.
LEVEL = 0.95
# Of all differences between entries together. Seen to call any two of ten equally good experiments
# different in less than 5% of searches, because variances are estimates too; stricter with one seed
# and one fold, where luck of training can't be estimated (benchmarks/identical_searches.py).
SIMULTANEOUS_LEVEL, STRICTER_LEVEL = 0.975, 0.99
POWER = 0.8
# Where the variance over seeds comes from.
SEEDS, FOLDS, UNKNOWN = "seeds", "folds", "unknown"
_CHUNK = 64  # resamples in memory at a time


class Hits(NamedTuple):
    """What every entry got right in one part of every trained fold.

    Attributes:
      names: X of them.
      is_rule_X: it was not trained, so its seeds are all the same.
      is_candidate_X: it may be chosen: trained, and no control.
      hits_XFKS: pairs ordered right (a tie of scores is one half), summed over each series; NaN
        for a trial that failed or does not exist.
      weight_FS: pairs with a direction.
    """

    names: tuple[str, ...]
    is_rule_X: np.ndarray
    is_candidate_X: np.ndarray
    hits_XFKS: np.ndarray
    weight_FS: np.ndarray


class SeedNoise(NamedTuple):
    """What the luck of one training does to an accuracy, pooled over experiments and folds.

    Attributes:
      measured: variance of a trained model's measured accuracy over its seeds. With one seed
        (FOLDS): over the folds, less what experiments and folds have in common.
      by_series: the part of that which is there because models differ in which of the series at
        hand they get right; the rest is luck.
      freedom: degrees of freedom of `measured`.
      source: SEEDS; FOLDS, where luck is that of the fold's training pairs too; UNKNOWN, with one
        seed and one fold: then all of this is zero.
    """

    measured: float
    by_series: float
    freedom: int
    source: str

    @property
    def luck(self) -> float:
        """Variance of a trained model's true accuracy over its seeds."""
        return max(self.measured - self.by_series, 0.0)

    def draw_luck(self, num_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Values [B] that the luck may have, given its estimate: `measured` has the distribution of
        the true variance times chi-square / freedom."""
        if not self.freedom:
            return np.zeros(num_draws)
        scale_B = self.freedom / rng.chisquare(self.freedom, num_draws)
        return np.maximum(self.measured * scale_B - self.by_series, 0.0)


class Standings(NamedTuple):
    """Accuracies of all entries in one part; shares of 1, not percent.

    NaN for an entry without a completed trial. With fewer than FEWEST_SERIES series all but `mean`
    is NaN, nothing is separated, and everything is tied.

    Attributes:
      mean, ci_low, ci_high: [X], each interval by itself (LEVEL), for these trained models.
      diff_to_rule, diff_ci_low, diff_ci_high: [X], simultaneous intervals; NaN without a rule.
      diff_to_best, best_ci_low, best_ci_high: [X], to the entry of the highest mean, likewise.
      share_first: [X], share of resamples ranked first; no probability of being the best.
      tied_for_best: bool [X], not separated from the entry of the highest mean (Hsu 1984).
      separated_XX: bool, the simultaneous interval of the difference has no zero.
      error_XX: standard errors of the differences, luck of training included.
      critical: the factor of the simultaneous intervals.
      luck_X: the part of each mean's variance that is luck of training.
      spread_X: the part of it that more seeds make smaller; NaN with one seed.
      seed_noise: of one training.
      num_series, num_pairs: of this part, over all folds; pairs with a direction.
      num_folds, num_seeds: F, K.
    """

    mean: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    diff_to_rule: np.ndarray
    diff_ci_low: np.ndarray
    diff_ci_high: np.ndarray
    diff_to_best: np.ndarray
    best_ci_low: np.ndarray
    best_ci_high: np.ndarray
    share_first: np.ndarray
    tied_for_best: np.ndarray
    separated_XX: np.ndarray
    error_XX: np.ndarray
    critical: float
    luck_X: np.ndarray
    spread_X: np.ndarray
    seed_noise: SeedNoise
    num_series: int
    num_pairs: int
    num_folds: int
    num_seeds: int


def from_results(
    results: Sequence[TrialResult],
    rules: Mapping[str, np.ndarray],
    yardstick: Yardstick,
    part: int,
    names: Sequence[str],
) -> Hits:
    """Hits of experiments and rules in one part.

    Args:
      results: of all trials.
      rules: by name, score_a - score_b of every pair [M], as `evaluate.pair_differences` gives.
      yardstick: that the trials were measured with.
      part: splits.VALIDATION or splits.TEST.
      names: of the experiments, in the order of the entries; the rules come after them.

    Returns:
      Only the folds that were trained; K is the most seeds that any experiment has.
    """
    dataset = yardstick.dataset
    folds = sorted({r.trial.fold for r in results})
    seeds = {n: sorted({r.trial.seed for r in results if r.trial.experiment.name == n})
             for n in names}  # fmt: skip
    num_seeds = max([1, *map(len, seeds.values())])
    in_part_FM = (yardstick.parts_FM[folds] == part).astype(np.float64)

    def by_series(value_M: np.ndarray) -> np.ndarray:
        return np.bincount(dataset.series_M, value_M, len(dataset.series_ids))

    _, directed_M = hits_of(np.zeros(len(dataset.preference_M)), dataset.preference_M)
    weight_FS = np.array([by_series(directed_M * in_part_M) for in_part_M in in_part_FM])
    shape = (len(names) + len(rules), len(folds), num_seeds, len(dataset.series_ids))
    hits_XFKS = np.full(shape, np.nan)
    for result in results:
        trial = result.trial
        name, fold = trial.experiment.name, folds.index(trial.fold)
        if name in seeds and result.row["status"] == COMPLETED:
            own = yardstick.of(trial.experiment).dataset
            hit_M, _ = hits_of(pair_differences(result.scores_N, own), own.preference_M)
            place = list(names).index(name), fold, seeds[name].index(trial.seed)
            hits_XFKS[place] = by_series(hit_M * directed_M * in_part_FM[fold])
    for x, difference_M in enumerate(rules.values(), start=len(names)):
        hit_M, _ = hits_of(difference_M, dataset.preference_M)
        for fold, in_part_M in enumerate(in_part_FM):
            hits_XFKS[x, fold] = by_series(hit_M * directed_M * in_part_M)
    controls = {r.trial.experiment.name for r in results if r.trial.experiment.renumbered}
    is_rule_X = np.arange(len(hits_XFKS)) >= len(names)
    is_candidate_X = ~is_rule_X & ~np.isin([*names, *rules], list(controls))
    return Hits((*names, *rules), is_rule_X, is_candidate_X, hits_XFKS, weight_FS)


def standings(
    hits_XFKS: np.ndarray,
    weight_FS: np.ndarray,
    *,
    is_rule_X: np.ndarray,
    rule: int | None,
    num_draws: int = 2000,
    seed: int = 0,
) -> Standings:
    """Means, intervals and comparisons of all entries in one part.

    Series are resampled with multinomial weights, which gives each mean its interval. What is said
    of differences is said of experiments, not of these trained models: there the luck of training,
    independent between experiments, is added to each resample. All differences share one critical
    value, the quantile of the largest standardised one (maximum statistic, Westfall and Young
    1993).

    An experiment's mean is over its completed trials: over seeds in each fold, then over the folds
    that have one, weighted by their pairs.

    Args:
      hits_XFKS, weight_FS, is_rule_X: see `Hits`.
      rule: the entry that the others are compared with.
      num_draws: B.
      seed: of the resamples; the same seed gives the same standings.
    """
    tested_S = weight_FS.sum(axis=0) > 0
    tested_F = weight_FS.sum(axis=1) > 0
    hits_XFKS, weight_FS = hits_XFKS[:, tested_F][..., tested_S], weight_FS[tested_F][:, tested_S]
    hits_XS, weight_XS, per_model_X = _over_trials(hits_XFKS, weight_FS)
    mean_X = _ratio(hits_XS.sum(axis=1), weight_XS.sum(axis=1))
    noise = _seed_noise(hits_XFKS[~is_rule_X], weight_FS)
    per_model_X = np.where(is_rule_X, 0.0, per_model_X)
    rng = np.random.default_rng(seed)
    drawn = _draw(mean_X, hits_XS, weight_XS, per_model_X, noise, num_draws, rng)

    difference_XX = mean_X[:, None] - mean_X
    half_width_XX = drawn.critical * drawn.error_XX
    separated_XX = np.abs(difference_XX) > half_width_XX
    low_XX, high_XX = difference_XX - half_width_XX, difference_XX + half_width_XX
    best = int(np.argmax(np.where(np.isfinite(mean_X), mean_X, -1.0)))
    nowhere_X = np.full(len(mean_X), np.nan)
    return Standings(
        mean=mean_X,
        ci_low=np.clip(mean_X - drawn.half_width_X, 0.0, 1.0),
        ci_high=np.clip(mean_X + drawn.half_width_X, 0.0, 1.0),
        diff_to_rule=nowhere_X if rule is None else difference_XX[:, rule],
        diff_ci_low=nowhere_X if rule is None else low_XX[:, rule],
        diff_ci_high=nowhere_X if rule is None else high_XX[:, rule],
        diff_to_best=difference_XX[:, best],
        best_ci_low=low_XX[:, best],
        best_ci_high=high_XX[:, best],
        share_first=drawn.share_X,
        tied_for_best=np.isfinite(mean_X) & ~separated_XX[best],
        separated_XX=separated_XX,
        error_XX=drawn.error_XX,
        critical=drawn.critical,
        luck_X=noise.luck * per_model_X,
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
    critical: float
    share_X: np.ndarray


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
    half_width_X, share_X = np.full((2, num_entries), np.nan)
    error_XX, critical = np.full((num_entries, num_entries), np.nan), float("nan")
    alive = np.flatnonzero(np.isfinite(mean_X))
    if len(alive) and num_series >= FEWEST_SERIES:
        deviation_BX = _deviations(hits_XS[alive], weight_XS[alive], num_draws, rng)
        half_width_X[alive] = ndtri((1 + LEVEL) / 2) * deviation_BX.std(axis=0)
        error_YY = _errors(deviation_BX, noise.luck * per_model_X[alive])
        error_XX[np.ix_(alive, alive)] = error_YY
        luck_BX = noise.draw_luck(num_draws, rng)[:, None] * per_model_X[alive]
        deviation_BX += np.sqrt(luck_BX) * rng.standard_normal(deviation_BX.shape)
        level = STRICTER_LEVEL if noise.source == UNKNOWN else SIMULTANEOUS_LEVEL
        critical = _critical(deviation_BX, error_YY, level)
        drawn_BX = mean_X[alive] + deviation_BX
        first_BX = drawn_BX == drawn_BX.max(axis=1, keepdims=True)
        share_X[alive] = (first_BX / first_BX.sum(axis=1, keepdims=True)).mean(axis=0)
    return _Drawn(half_width_X, error_XX, critical, share_X)


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """A quotient; NaN where nothing is counted."""
    return np.divide(over, under, out=np.full(np.shape(over), np.nan), where=under > 0)


def _over_trials(
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
    """The luck of training, from the experiments' trials.

    Measured accuracies of several seeds differ by luck and because the models differ in which of
    the series at hand they get right. The second is known from the series: in V = sum over folds
    of share^2 (variance over seeds) / seeds it counts already, so it is taken off.
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
        by_series = float(np.einsum("xfks,xfks,f->", residual_XFKS, residual_XFKS, scale_F))
        return SeedNoise(float((off_XFK**2).sum()) / freedom, by_series / freedom, freedom, SEEDS)
    mean_XFS = mean_XFS[(seeds_XF > 0).all(axis=1)]
    freedom = max(len(mean_XFS) - 1, 0) * max(num_folds - 1, 0)
    if not freedom:
        return SeedNoise(0.0, 0.0, 0, UNKNOWN)
    # Less the means of folds, then of experiments; `residual` is what the series do to the first.
    off_XFS = mean_XFS - mean_XFS.mean(axis=0)
    off_XF = off_XFS.sum(axis=2) / weight_F
    residual_XFS = off_XFS - weight_FS * off_XF[..., None]
    by_series = float(np.einsum("xfs,xfs,f->", residual_XFS, residual_XFS, scale_F))
    by_series *= (num_folds - 1) / num_folds
    off_XF -= off_XF.mean(axis=1, keepdims=True)
    return SeedNoise(float((off_XF**2).sum()) / freedom, by_series / freedom, freedom, FOLDS)


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
            _ratio(counts_BS @ hits_SX, counts_BS @ weight_SX)
            for counts_BS in _resamples(num_series, num_draws, rng)
        ]
    )
    upper = (1 + LEVEL) / 2
    few = stdtrit(num_series - 1, upper) / ndtri(upper) * (1 - 1 / num_series) ** -0.5
    # A resample may lack all series of an entry whose folds failed but for one.
    return float(few) * np.nan_to_num(drawn_BX - mean_X)


def _resamples(num_series: int, num_draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each series is drawn in each resample, float64 [up to _CHUNK, S] at a time."""
    for start in range(0, num_draws, _CHUNK):
        shape = (min(_CHUNK, num_draws - start), num_series)
        drawn = rng.integers(num_series, size=shape) + num_series * np.arange(shape[0])[:, None]
        counts = np.bincount(drawn.ravel(), minlength=shape[0] * num_series)
        yield counts.reshape(shape).astype(np.float64)


def _errors(deviation_BX: np.ndarray, luck_X: np.ndarray) -> np.ndarray:
    """Standard errors [X, X] of all differences: over series, and of two independent lucks."""
    variance_XX = luck_X[:, None] + luck_X
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


class Chosen(NamedTuple):
    """The experiment that validation chose, and how good it is on new series.

    Attributes:
      entry: which.
      num_candidates: how many it was chosen from.
      raw: its mean in the test part, too good where the choice saw the same series.
      corrected: what remains of that on series that the choice has not seen.
    """

    entry: int
    num_candidates: int
    raw: float
    corrected: float


def chosen_score(
    validation: Hits, test: Hits, *, num_draws: int = 1000, seed: int = 0
) -> Chosen | None:
    """The score of the candidate of highest validation mean, corrected for the choice.

    BBC-CV (Tsamardinos et al. 2018), clustered by series: resample the series, choose by the
    validation pairs of those drawn, measure by the test pairs of those left out; the mean over the
    resamples. With folds a series validates one model and tests another; where no series does
    both, the choice saw nothing of the test part and there is nothing to correct.

    Returns:
      None where no candidate has a completed trial in both parts.
    """
    (hits_XS, weight_XS, _), (tested_XS, asked_XS, _) = (
        _over_trials(part.hits_XFKS, part.weight_FS) for part in (validation, test)
    )
    complete_X = (weight_XS.sum(axis=1) > 0) & (asked_XS.sum(axis=1) > 0)
    candidates = np.flatnonzero(complete_X & validation.is_candidate_X)
    if not len(candidates):
        return None
    hits_SX, weight_SX = hits_XS[candidates].T, weight_XS[candidates].T
    tested_SX, asked_SX = tested_XS[candidates].T, asked_XS[candidates].T
    best = int(np.argmax(_ratio(hits_SX.sum(axis=0), weight_SX.sum(axis=0))))
    raw = corrected = float(tested_SX[:, best].sum() / asked_SX[:, best].sum())
    validated_S, tested_S = (part.weight_FS.sum(axis=0) > 0 for part in (validation, test))
    num_shared = int((validated_S & tested_S).sum())
    if 0 < num_shared < FEWEST_SERIES:
        corrected = float("nan")
    elif num_shared:
        used_S = validated_S | tested_S
        corrected = _bootstrap_bias_corrected(
            (hits_SX[used_S], weight_SX[used_S]),
            (tested_SX[used_S], asked_SX[used_S]),
            _resamples(int(used_S.sum()), num_draws, np.random.default_rng(seed)),
        )
    return Chosen(int(candidates[best]), len(candidates), raw, corrected)


def _bootstrap_bias_corrected(
    validation_SX: tuple[np.ndarray, np.ndarray],
    test_SX: tuple[np.ndarray, np.ndarray],
    resamples: Iterator[np.ndarray],
) -> float:
    """Mean test accuracy, on the series left out, of what the series drawn choose; each pair is
    hits and weights."""
    scores = []
    for counts_BS in resamples:
        drawn_BX = _ratio(*(counts_BS @ value_SX for value_SX in validation_SX))
        chosen_B1 = np.argmax(np.nan_to_num(drawn_BX, nan=-1.0), axis=1)[:, None]
        left_BS = (counts_BS == 0).astype(np.float64)
        left_BX = _ratio(*(left_BS @ value_SX for value_SX in test_SX))
        scores.append(np.take_along_axis(left_BX, chosen_B1, axis=1))
    return float(np.nanmean(np.concatenate(scores)))


class Needed(NamedTuple):
    """What it takes to tell a stated difference between two typical candidates.

    Attributes:
      difference: stated beforehand; power for the observed difference would say no more than its
        p-value (Hoenig and Heisey 2001).
      power: the chance to separate two candidates that truly differ so much.
      num_series: in this part, for a chance of POWER; None where no number is enough.
      num_seeds: likewise; None where no number is enough, or where one seed does not tell.
    """

    difference: float
    power: float
    num_series: int | None
    num_seeds: int | None


def needed(table: Standings, is_candidate_X: np.ndarray, difference: float = 0.03) -> Needed | None:
    """How many series, or seeds, would tell a stated difference.

    Typical: the medians, over pairs of candidates, of the difference's variance and of its parts.
    Series make all of it smaller but luck; seeds make smaller what differs between seeds.

    Returns:
      None where there are no two candidates with intervals.
    """
    alive = np.flatnonzero(is_candidate_X & np.isfinite(np.diag(table.error_XX)))
    if len(alive) < 2:
        return None
    a, b = alive[np.array(np.triu_indices(len(alive), k=1))]
    variance = float(np.median(table.error_XX[a, b] ** 2))
    luck = float(np.median(table.luck_X[a] + table.luck_X[b]))
    spread = float(np.median(table.spread_X[a] + table.spread_X[b]))
    limit = (difference / (table.critical + ndtri(POWER))) ** 2
    series = max(variance - luck, 0.0) / (limit - luck) if limit > luck else np.inf
    kept = 1.0 - (variance - limit) / spread if spread > 0 else np.nan
    return Needed(
        difference,
        power(difference, variance**0.5, table.critical),
        _at_least(series * table.num_series),
        _at_least(table.num_seeds / kept if kept > 0 else np.inf),
    )


def power(difference: float, error: float, critical: float) -> float:
    """The chance that a true difference is further from zero than critical * error."""
    if error == 0:
        return float(difference != 0)
    off = abs(difference) / error
    return float(ndtr(off - critical) + ndtr(-off - critical))


def _at_least(number: float) -> int | None:
    return max(int(np.ceil(number)), 1) if np.isfinite(number) else None


def sentences(
    names: Sequence[str],
    test: Standings,
    is_candidate_X: np.ndarray,
    rule: int | None,
    chosen: Chosen | None,
    difference: float = 0.03,
) -> list[str]:
    """What the standings of the test part say, in words.

    Args:
      names: of the entries.
      test: their standings on the test pairs, compared with `rule`.
      is_candidate_X: see `Hits`.
      rule: the entry that experiments should beat.
      chosen: from `chosen_score`.
      difference: between two experiments, that a reader would care about.
    """
    lines = []
    if test.num_series < FEWEST_SERIES:
        lines.append(
            f"Only {test.num_series} series test: too few to tell experiments apart or to say how "
            f"sure a figure is; at least {FEWEST_SERIES} are needed, hundreds are useful."
        )
    elif np.isfinite(test.mean[is_candidate_X]).any():
        if rule is not None:
            lines += _against_rule(names, test, is_candidate_X, rule)
        lines += _about_best(names, test)
        if test.seed_noise.source == UNKNOWN:
            lines.append(
                "One seed and one fold: this holds for these trained models; trained again, the "
                "order may change. Several seeds (--num_seeds) would tell."
            )
    if chosen is not None:
        lines.append(_about_choice(names[chosen.entry], chosen))
    need = needed(test, is_candidate_X, difference)
    if need is not None:
        lines.append(_about_power(need, test))
    return lines


def _against_rule(
    names: Sequence[str], test: Standings, is_candidate_X: np.ndarray, rule: int
) -> list[str]:
    trained_X = is_candidate_X & np.isfinite(test.mean)
    apart_X = test.separated_XX[rule]
    better_X = trained_X & apart_X & (test.diff_to_rule > 0)
    worse_X = trained_X & apart_X & (test.diff_to_rule < 0)

    def described(x: int) -> str:
        figures = (test.diff_to_rule[x], test.diff_ci_low[x], test.diff_ci_high[x])
        middle, low, high = (100 * figure for figure in figures)
        return f"{names[x]} by {middle:.1f} points ({low:.1f} to {high:.1f})"

    lines = []
    if better_X.any():
        order = _by_mean(better_X, test)
        lines.append(f"Better than the rule '{names[rule]}': {_listed(map(described, order))}.")
    else:
        lines.append(f"No experiment is shown to be better than the rule '{names[rule]}'.")
    for entries_X, claim in (
        (worse_X, "Worse than the rule"),
        (trained_X & ~apart_X, "Can't be told apart from the rule"),
    ):
        if entries_X.any():
            lines.append(f"{claim}: {_listed(names[x] for x in _by_mean(entries_X, test))}.")
    return lines


def _about_best(names: Sequence[str], test: Standings) -> list[str]:
    best = int(np.nanargmax(test.mean))
    others_X = test.tied_for_best & (np.arange(len(names)) != best)
    low, high = 100 * test.ci_low[best], 100 * test.ci_high[best]
    tied = (
        f"it can't be told apart from {_listed(names[x] for x in _by_mean(others_X, test))}."
        if others_X.any()
        else "better than every other."
    )
    often = np.flatnonzero(test.share_first >= 0.05).tolist()
    first = sorted(often, key=lambda x: -test.share_first[x])
    shares = _listed(f"{names[x]} {100 * test.share_first[x]:.0f}%" for x in first)
    return [
        f"Highest on the test pairs: {names[best]}, {100 * test.mean[best]:.1f}% "
        f"({low:.1f} to {high:.1f}); {tied}",
        f"Share of resamples ranked first: {shares}.",
    ]


def _about_choice(name: str, chosen: Chosen) -> str:
    raw, corrected = 100 * chosen.raw, 100 * chosen.corrected
    line = f"Chosen by validation: {name}, right on {raw:.1f}% of the test pairs"
    if chosen.corrected == chosen.raw or chosen.num_candidates == 1:
        return f"{line}; the choice saw none of them, so nothing is to be corrected."
    if np.isnan(corrected):
        return f"{line}; too few series to correct that for the choice."
    return f"{line}, {corrected:.1f}% corrected for the choice among {chosen.num_candidates}."


def _about_power(need: Needed, test: Standings) -> str:
    points = f"{100 * need.difference:g} points"
    line = (
        f"A true difference of {points} between two experiments would be found in "
        f"{100 * need.power:.0f} of 100 such searches"
    )
    if need.power >= POWER:
        return f"{line}."
    ways = []
    if need.num_series is not None:
        hint = "; with --folds every series tests" if test.num_folds == 1 else ""
        number = float(f"{need.num_series:.2g}")  # it is an estimate
        ways.append(f"about {number:,.0f} test series (now {test.num_series:,}{hint})")
    if need.num_seeds is not None:
        ways.append(f"{need.num_seeds:,} seeds (now {test.num_seeds:,})")
    if not ways:
        return f"{line}; more seeds and more series would be needed together."
    return f"{line}; {100 * POWER:.0f} take {' or '.join(ways)}."


def _by_mean(chosen_X: np.ndarray, table: Standings) -> list[int]:
    """Entries from the highest mean to the lowest."""
    return sorted(np.flatnonzero(chosen_X).tolist(), key=lambda x: -table.mean[x])


def _listed(words: Iterable[str], most: int = 8) -> str:
    """At most so many, and how many more."""
    everything = list(words)
    more = len(everything) - most
    return ", ".join(everything[:most]) + (f" and {more} more" if more > 0 else "")


def draw_leaderboard(
    path: Path,
    names: Sequence[str],
    validation: Standings,
    test: Standings,
    rule: int | None,
    caveats: Sequence[str],
) -> None:
    """Means with their intervals, a row an entry, the highest validation mean on top.

    Filled marks are tied for best on the test pairs. Each interval is of its own mean: two may
    overlap although their difference is sure.
    """
    order = sorted(
        np.flatnonzero(np.isfinite(test.mean)).tolist(),
        key=lambda x: np.nan_to_num(validation.mean[x]),
    )
    figure = Figure(figsize=(9, 1.8 + 0.32 * len(order)), layout="constrained")
    figure.suptitle("\n".join(["Accuracy on new series, with 95% intervals", *caveats]))
    axes = figure.subplots()
    for part, colour, label, offset in (
        (validation, "tab:orange", "validation", 0.14),
        (test, "tab:blue", "test", -0.14),
    ):
        for row, x in enumerate(order):
            mean, low, high = 100 * part.mean[x], 100 * part.ci_low[x], 100 * part.ci_high[x]
            filled = colour if test.tied_for_best[x] else "white"
            axes.plot([low, high], [row + offset] * 2, color=colour, linewidth=1.5)
            axes.plot(mean, row + offset, "o", color=colour, markerfacecolor=filled, markersize=5)
        axes.plot([], [], "o-", color=colour, label=label)
    axes.plot([], [], "o", color="grey", label="filled: tied for best (test)")
    if rule is not None and np.isfinite(test.mean[rule]):
        axes.axvline(
            100 * test.mean[rule], color="grey", linestyle="--", label=f"rule {names[rule]} (test)"
        )
    axes.set_yticks(range(len(order)), [names[x] for x in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("pairs ordered as people do, %")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    with files.whole_file(path, "wb") as file:
        figure.savefig(file, dpi=110, format="png")
