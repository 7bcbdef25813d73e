"""Which experiments are better than which, and how sure that is.

The truth that an accuracy's interval covers is the mean, over the trained models, of their accuracy
on new series, folds weighted by their pairs (Bayle et al. 2020). Series are the independent units.
Differences are those of experiments: their standard errors include the seed variance, where several
seeds or folds show it. With one seed and one fold they are differences of the trained models.

Differences come in families, each with intervals that hold at once in 97.5% of searches: all
experiments against one reference (Dunnett 1955), all entries against the best (Hsu 1984), all
pairs. The factor of a family is a quantile of its largest standardised difference over resamples
of series and seeds, so correlated differences cost less than independent ones.

Axis letters: X entries (experiments and baselines), Y some of them, F folds, K seeds, S series,
B resamples.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from jaxrank.evaluation import seed_variance
from jaxrank.evaluation.hits import Hits, Pooled, pooled
from jaxrank.evaluation.seed_variance import SeedVariance
from jaxrank.statistics import FEWEST_SERIES, ratio, resamples

# Of the interval of one accuracy, by itself.
LEVEL = 0.95
# Of all intervals of a family at once.
FAMILY_LEVEL = 0.975
# More entries than this are compared with the best by Bonferroni's factor, which needs no
# resamples of every pair.
MOST_RESAMPLED = 100
# Variances of differences below this share of their terms are rounding errors.
_ROUNDING = 1e-10


class Interval(NamedTuple):
    """Accuracies [X] with their intervals, each by itself (LEVEL), for these trained models; NaN
    for an entry without a completed trial, and for intervals from fewer than FEWEST_SERIES."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Differences(NamedTuple):
    """Differences of accuracy to a reference; [X] each, in shares of 1.

    Attributes:
      reference: the entry.
      difference: NaN for an entry without a completed trial.
      low, high: at once for all experiments of the family.
      error: standard errors, seed variance included.
      factor: half of an interval's width, in standard errors.
    """

    reference: int
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray
    factor: np.ndarray

    @property
    def better(self) -> np.ndarray:
        return self.low > 0

    @property
    def worse(self) -> np.ndarray:
        return self.high < 0


class Standings(NamedTuple):
    """Accuracies of all entries in one split; shares of 1, not percent.

    With fewer than FEWEST_SERIES series there are no intervals and everything is tied.

    Attributes:
      mean, ci_low, ci_high: [X], see `Interval`.
      to: differences to each reference, by its role.
      to_best: differences to the entry of the highest mean.
      best_ci_low, best_ci_high: [X], differences to the truly best entry, at once; never above 0.
      tied_for_best: bool [X], may be the best entry (Hsu 1984).
      bootstrap_rank1: [X], share of resamples ranked first; no probability of being the best.
      variance_X: seed variances of the means.
      spread_X: the part of a mean's variance that more seeds make smaller; NaN with one seed.
      seed_source: seed_variance.SEEDS, FOLDS or UNKNOWN.
      num_series, num_pairs: of this split, over all folds; pairs with a direction.
      num_folds, num_seeds: F, K.
    """

    mean: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    to: dict[str, Differences]
    to_best: Differences
    best_ci_low: np.ndarray
    best_ci_high: np.ndarray
    tied_for_best: np.ndarray
    bootstrap_rank1: np.ndarray
    variance_X: np.ndarray
    spread_X: np.ndarray
    seed_source: str
    num_series: int
    num_pairs: int
    num_folds: int
    num_seeds: int


class Draws(NamedTuple):
    """Resamples of one split.

    Attributes:
      accuracy: of the entries.
      is_baseline_X: see `Hits`.
      trained_as_X: see `Hits`.
      deviation_BX: accuracies of resampled series less those of all; no rows where there are too
        few series.
      series_XX: covariance of `deviation_BX`.
      complete_X: has a completed trial in every tested fold. Others are not compared: folds differ
        in difficulty.
      seeds_BX: standard normal variables, of the seeds.
      seeds: of one training of each entry; zero for baselines.
      per_model_X: see `hits.Pooled`.
      num_series, num_pairs, num_folds, num_seeds: see `Standings`.
    """

    accuracy: Interval
    is_baseline_X: np.ndarray
    trained_as_X: np.ndarray
    deviation_BX: np.ndarray
    series_XX: np.ndarray
    complete_X: np.ndarray
    seeds_BX: np.ndarray
    seeds: SeedVariance
    per_model_X: np.ndarray
    num_series: int
    num_pairs: int
    num_folds: int
    num_seeds: int

    @property
    def mean_X(self) -> np.ndarray:
        return self.accuracy.mean

    @property
    def alive(self) -> np.ndarray:
        """The complete entries, if there are intervals."""
        return np.flatnonzero(self.complete_X & (len(self.deviation_BX) > 0))

    @property
    def variance_X(self) -> np.ndarray:
        return self.seeds.true_X * self.per_model_X


def resample(hits: Hits, *, num_draws: int = 2000, seed: int = 0) -> Draws:
    """Accuracies of resampled series (multinomial weights), and seed variances.

    An entry's accuracy is over its completed trials: over seeds in each fold, then over the folds
    that have one, weighted by their pairs.

    Args:
      hits: of one split.
      num_draws: B.
      seed: of the resamples; the same seed gives the same draws.
    """
    tested_F = hits.weight_FS.sum(axis=1) > 0
    if not tested_F.all():
        series_FS = None if hits.series_FS is None else hits.series_FS[tested_F]
        hits = hits._replace(
            hits_XFKS=hits.hits_XFKS[:, tested_F],
            weight_FS=hits.weight_FS[tested_F],
            series_FS=series_FS,
        )
    tested_S = hits.by_series(hits.weight_FS) > 0
    sums = pooled(hits).take(slice(None), tested_S)
    rng = np.random.default_rng(seed)
    num_series = int(tested_S.sum())
    deviation_BX = np.zeros((0, len(hits.names)))
    if num_series >= FEWEST_SERIES:
        deviation_BX = _deviations(sums, num_draws, rng)
        deviation_BX -= deviation_BX.mean(axis=0)
    return Draws(
        _intervals(sums, num_series),
        hits.is_baseline_X,
        hits.trained_as_X,
        deviation_BX,
        deviation_BX.T @ deviation_BX / max(len(deviation_BX), 1),
        sums.num_pairs_X == hits.weight_FS.sum(),
        rng.standard_normal(deviation_BX.shape),
        _seeds(hits),
        sums.per_model_X,
        num_series,
        int(hits.weight_FS.sum()),
        *hits.hits_XFKS.shape[1:3],
    )


def _seeds(hits: Hits) -> SeedVariance:
    """Seed variances of all entries: an ensemble has that of its experiment's trainings.

    Those that may be selected lend each other none of the others: what a rung has dropped has
    hardly been trained, and differs more between seeds.
    """
    single_X = ~hits.is_baseline_X & (hits.trained_as_X == np.arange(len(hits.names)))
    whole = single_X & hits.is_candidate_X
    values = np.zeros((3, len(single_X)))
    source = seed_variance.UNKNOWN
    for alike_X in (single_X & ~whole, whole):
        if alike_X.any():
            found = seed_variance.estimate(hits.hits_XFKS[alike_X], hits.weight_FS)
            values[:, alike_X] = found.measured_X, found.series_X, found.freedom_X
            source = found.source
    measured_X, series_X, freedom_X = np.where(
        hits.is_baseline_X, 0.0, values[:, hits.trained_as_X]
    )
    return SeedVariance(measured_X, series_X, freedom_X, source)


def _deviations(sums: Pooled, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Accuracies of resampled series less those of all [B, X], widened by the degree of freedom
    that the mean takes."""
    num_series = sums.hits_XS.shape[1]
    drawn = resamples(num_series, num_draws, rng)
    drawn_BX = np.concatenate(list(map(sums.accuracy_where(), drawn)))
    # A resample may lack all series of an entry whose folds failed but for one.
    return np.nan_to_num(drawn_BX - sums.accuracy_X) * (1 - 1 / num_series) ** -0.5


def intervals(hits: Hits) -> Interval:
    """Pooled accuracies with an interval each, over series (linearised ratio, Cochran 1977)."""
    return _intervals(pooled(hits), int((hits.by_series(hits.weight_FS) > 0).sum()))


def _intervals(sums: Pooled, num_series: int) -> Interval:
    mean_X = sums.accuracy_X
    half_width_X = np.full(len(mean_X), np.nan)
    if num_series >= FEWEST_SERIES:
        squares_X = np.zeros(len(mean_X))
        for x, hits_S in enumerate(sums.hits_XS):  # entry by entry, to save memory
            weight_S = sums.weight_YS[sums.weight_of_X[x]]
            squares_X[x] = ((hits_S - mean_X[x] * weight_S) ** 2).sum()
        variance_X = squares_X * num_series / (num_series - 1)
        error_X = ratio(np.sqrt(variance_X), sums.num_pairs_X)
        half_width_X = stdtrit(num_series - 1, (1 + LEVEL) / 2) * error_X
    return Interval(
        mean_X, np.clip(mean_X - half_width_X, 0.0, 1.0), np.clip(mean_X + half_width_X, 0.0, 1.0)
    )


def standings(draws: Draws, references: Mapping[str, int], apart: Sequence[int] = ()) -> Standings:
    """Accuracies, intervals and comparisons of all entries in one split.

    Args:
      draws: of `resample`.
      references: by role, the entry that all others are compared with.
      apart: entries that can't be the best, as they consist of others.
    """
    mean, low, high = draws.accuracy
    apart_X = np.isin(np.arange(len(mean)), apart)
    contenders = draws._replace(complete_X=draws.complete_X & ~apart_X)
    comparable_X = contenders.complete_X if contenders.complete_X.any() else np.isfinite(mean)
    best = int(np.argmax(np.where(comparable_X, mean, -1.0)))
    factors_X = _factors_of_references(contenders)
    to_best = _with_intervals(contenders, best, factors_X[best])
    tied_X, best_low_X, best_high_X = _truly_best(contenders, factors_X)
    return Standings(
        mean=mean,
        ci_low=low,
        ci_high=high,
        to={role: against(draws, entry) for role, entry in references.items()},
        to_best=to_best,
        best_ci_low=best_low_X,
        best_ci_high=best_high_X,
        tied_for_best=tied_X,
        bootstrap_rank1=_rank1(contenders),
        variance_X=draws.variance_X,
        spread_X=draws.per_model_X
        * (draws.seeds.measured_X if draws.seeds.source == seed_variance.SEEDS else np.nan),
        seed_source=draws.seeds.source,
        num_series=draws.num_series,
        num_pairs=draws.num_pairs,
        num_folds=draws.num_folds,
        num_seeds=draws.num_seeds,
    )


def against(draws: Draws, reference: int) -> Differences:
    """Differences of all entries to one; the intervals of all trained ones hold at once, those of
    baselines have the same factor."""
    trained = [x for x in draws.alive if not draws.is_baseline_X[x] and x != reference]
    return _with_intervals(draws, reference, _normal_factor(draws, reference, trained))


def half_widths(draws: Draws) -> Callable[[int], np.ndarray]:
    """A function from an entry to the half widths [X] of the intervals of its differences to all
    others, each in the other's own family (Hsu 1984). What is further below the entry is not the
    best. NaN where there are no intervals."""
    factors_X, alive = _factors_of_references(draws), draws.alive

    @functools.cache
    def of(reference: int) -> np.ndarray:
        half_width_X = np.full(len(draws.mean_X), np.nan)
        if reference in alive:
            error_Y, freedom_Y = _errors(draws, reference, alive)
            factor_Y = _students_factor(factors_X[alive], freedom_Y)
            half_width_X[alive] = np.where(error_Y > 0, factor_Y * error_Y, 0.0)
        return half_width_X

    return of


class _Errors(NamedTuple):
    """Standard errors [Y] of differences to one entry, and their degrees of freedom."""

    error_Y: np.ndarray
    freedom_Y: np.ndarray


def _errors(draws: Draws, reference: int, entries: Sequence[int] | np.ndarray) -> _Errors:
    """Over series, and of independent seeds (Satterthwaite 1946)."""
    own_X = np.diag(draws.series_XX)
    total_Y = own_X[entries] + own_X[reference]
    over_series_Y = total_Y - 2 * draws.series_XX[entries, reference]
    over_series_Y[over_series_Y < _ROUNDING * total_Y] = 0.0  # equal entries
    other_Y = np.asarray(entries) != reference
    seeds = draws.variance_X
    variance_Y = over_series_Y + (seeds[entries] + seeds[reference]) * other_Y
    uncertain_X = ratio(
        (draws.seeds.measured_X * draws.per_model_X) ** 2, draws.seeds.freedom_X
    )  # of the estimate of a seed variance, halved
    uncertain_X = np.nan_to_num(uncertain_X)
    uncertain_Y = (uncertain_X[entries] + uncertain_X[reference]) * other_Y
    uncertain_Y = uncertain_Y + over_series_Y**2 / (draws.num_series - 1)
    freedom_Y = np.divide(
        variance_Y**2, uncertain_Y, out=np.ones(len(variance_Y)), where=uncertain_Y > 0
    )
    return _Errors(np.sqrt(variance_Y), freedom_Y)


def _standardised(draws: Draws, reference: int, entries: Sequence[int] | np.ndarray) -> np.ndarray:
    """Resampled differences to one entry, series and seeds, in standard errors [B, Y]."""
    error_Y = _errors(draws, reference, entries).error_Y
    differing = np.asarray(entries)[error_Y > 0]
    return (_drawn(draws, differing) - _drawn(draws, [reference])) / error_Y[error_Y > 0]


def _drawn(draws: Draws, entries: Sequence[int] | np.ndarray) -> np.ndarray:
    """Resampled accuracies of some entries, series and seeds, less those of all [B, Y]."""
    seeds_BY = draws.seeds_BX[:, entries] * np.sqrt(draws.variance_X[entries])
    return draws.deviation_BX[:, entries] + seeds_BY


def _normal_factor(draws: Draws, reference: int, entries: Sequence[int] | np.ndarray) -> float:
    """The factor of a family's intervals if all variances were known: the quantile of its largest
    standardised difference (maximum statistic)."""
    if not len(entries):
        return float("nan")
    largest_B = np.abs(_standardised(draws, reference, entries)).max(axis=1, initial=0.0)
    return float(np.quantile(largest_B, FAMILY_LEVEL))


def _students_factor(factor: float | np.ndarray, freedom_Y: np.ndarray) -> np.ndarray:
    """Student's factor with the tail probability of a normal one."""
    return -stdtrit(freedom_Y, ndtr(-factor))


def _with_intervals(draws: Draws, reference: int, normal_factor: float) -> Differences:
    difference_X = draws.mean_X - draws.mean_X[reference]
    error_X, factor_X = np.full((2, len(difference_X)), np.nan)
    alive = draws.alive
    if reference in alive:
        error_X[alive], freedom_Y = _errors(draws, reference, alive)
        factor_X[alive] = _students_factor(normal_factor, freedom_Y)
    half_width_X = np.where(error_X > 0, factor_X * error_X, error_X)
    return Differences(
        reference,
        difference_X,
        difference_X - half_width_X,
        difference_X + half_width_X,
        error_X,
        factor_X,
    )


def _factors_of_references(draws: Draws) -> np.ndarray:
    """For every entry [X], the factor of the differences of all others to it."""
    factor_X = np.full(len(draws.mean_X), np.nan)
    others = max(len(draws.alive) - 1, 1)
    for x in draws.alive:
        factor_X[x] = (
            _normal_factor(draws, x, draws.alive[draws.alive != x])
            if len(draws.alive) <= MOST_RESAMPLED
            else -ndtri((1 - FAMILY_LEVEL) / (2 * others))
        )
    return factor_X


def _truly_best(draws: Draws, factors_X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which entries may be the best [X], and the differences of all to the best, lower and upper
    (Edwards and Hsu 1983).

    If x is the best, then its differences to all others lie in their intervals. So an entry that
    some other entry is separated from in its own family is not the best, and the differences to the
    best are within those to the entries that may be it.
    """
    tied_X = np.isfinite(draws.mean_X)
    low_X, high_X = np.full((2, len(tied_X)), np.nan)
    if not len(draws.alive):
        return tied_X, low_X, high_X
    tied_X = draws.complete_X.copy()
    for x in draws.alive:
        to_x = _with_intervals(draws, x, factors_X[x])
        tied_X[x] = not to_x.better.any()
        if tied_X[x]:
            low_X, high_X = np.fmin(low_X, to_x.low), np.fmax(high_X, to_x.high)
    high_X[tied_X] = 0.0
    return tied_X, np.minimum(low_X, 0.0), np.minimum(high_X, 0.0)


def _rank1(draws: Draws) -> np.ndarray:
    rank1_X = np.full(len(draws.mean_X), np.nan)
    alive = draws.alive
    if len(alive):
        seeds_BY = (draws.seeds_BX * np.sqrt(draws.variance_X))[:, alive]
        drawn_BY = draws.mean_X[alive] + draws.deviation_BX[:, alive] + seeds_BY
        first_BY = drawn_BY == drawn_BY.max(axis=1, keepdims=True)
        rank1_X[alive] = (first_BY / first_BY.sum(axis=1, keepdims=True)).mean(axis=0)
    return rank1_X


def all_pairs(draws: Draws, entries: Sequence[int]) -> list[tuple[int, int, float, float, float]]:
    """Every two of some entries: both, their difference, and its interval; all hold at once."""
    entries = [x for x in entries if x in draws.alive]
    largest_B = np.zeros(len(draws.deviation_BX))
    for place, x in enumerate(entries[:-1]):
        off_BY = np.abs(_standardised(draws, x, entries[place + 1 :]))
        np.maximum(largest_B, off_BY.max(axis=1, initial=0.0), out=largest_B)
    if len(entries) < 2:
        return []
    factor = float(np.quantile(largest_B, FAMILY_LEVEL))
    rows = []
    for place, x in enumerate(entries[:-1]):
        to_x = _with_intervals(draws, x, factor)
        rows += [
            (x, y, -to_x.difference[y], -to_x.high[y], -to_x.low[y]) for y in entries[place + 1 :]
        ]
    return rows
