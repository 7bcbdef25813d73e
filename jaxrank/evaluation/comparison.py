"""Comparisons of experiments and baselines, with simultaneous confidence intervals.

Differences are between experiments: their standard errors include the seed variance, where several
seeds or folds show it. With one seed and one fold, they are differences between the trained models.

Differences come in families, whose intervals are simultaneous at a nominal level of 97.5%: all
experiments against one reference (Dunnett 1955), all entries against the best (Hsu 1984), all
pairs. The critical value of a family is a quantile of its largest standardised difference over
resamples of series and seeds. Correlated differences therefore cost less than independent ones.

Axis letters: X entries (experiments and baselines), Y some of them, B resamples.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from jaxrank.evaluation import seed_variance
from jaxrank.evaluation.resampling import Draws
from jaxrank.statistics import ratio

# Simultaneous confidence level of a family of intervals.
FAMILY_LEVEL = 0.975
# Above this number of entries, comparisons with the best use Bonferroni's critical value, which
# needs no resamples of every pair.
MOST_RESAMPLED = 100
# Variances of differences below this share of the variances' sum are rounding errors.
_ROUNDING = 1e-10


class Differences(NamedTuple):
    """Differences of accuracy to a reference, [X] each, as shares rather than percent.

    Attributes:
      reference: index of the reference entry.
      difference: differences of accuracy; NaN for an entry without a completed trial.
      low, high: bounds of the intervals, simultaneous for all experiments of the family.
      error: standard errors, seed variance included.
      critical_value: half width of each interval, in standard errors.
    """

    reference: int
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray
    critical_value: np.ndarray

    @property
    def better(self) -> np.ndarray:
        return self.low > 0

    @property
    def worse(self) -> np.ndarray:
        return self.high < 0


class Standings(NamedTuple):
    """Accuracies and comparisons of all entries in one split, as shares rather than percent.

    With fewer than FEWEST_SERIES series there are no intervals, and all entries are tied.

    Attributes:
      mean, ci_low, ci_high: [X], see `Interval`.
      to: differences to each reference, by the reference's role.
      to_best: differences to the entry of the highest mean.
      best_ci_low, best_ci_high: [X], simultaneous bounds of the differences to the truly best
        entry; never above 0.
      tied_for_best: bool [X], whether the entry may be the best (Hsu 1984).
      share_first: [X], share of resamples in which the entry ranks first; not a probability of
        being the best.
      variance_X: seed variances of the means.
      spread_X: part of a mean's variance that more seeds reduce; NaN with one seed.
      seed_source: seed_variance.SEEDS, FOLDS or UNKNOWN.
      num_series, num_pairs: numbers in this split, over all folds; of pairs, those with a
        direction.
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
    share_first: np.ndarray
    variance_X: np.ndarray
    spread_X: np.ndarray
    seed_source: str
    num_series: int
    num_pairs: int
    num_folds: int
    num_seeds: int


def standings(
    draws: Draws, references: Mapping[str, int], excluded: Sequence[int] = ()
) -> Standings:
    """Computes accuracies, intervals and comparisons of all entries in one split.

    Args:
      draws: from `resample`.
      references: by role, the entry that all others are compared with.
      excluded: entries that cannot be the best: entries composed of others, and dropped
        experiments.
    """
    mean, low, high = draws.accuracy
    excluded_X = np.isin(np.arange(len(mean)), excluded)
    contenders = draws._replace(complete_X=draws.complete_X & ~excluded_X)
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
        share_first=_rank1(contenders),
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
    """Computes the differences of all entries to one reference.

    The intervals of all trained entries hold simultaneously; those of baselines use the same
    critical value.
    """
    trained = [x for x in draws.complete_entries if not draws.is_baseline_X[x] and x != reference]
    return _with_intervals(draws, reference, _normal_factor(draws, reference, trained))


def half_widths(draws: Draws) -> Callable[[int], np.ndarray]:
    """Returns a function from a reference to the half widths [X] of all differences to it.

    The half width of entry x against a reference is that of the many-to-one family whose reference
    is x (Hsu 1984). An entry that is further below the reference than its half width is not the
    best. NaN where there are no intervals.
    """
    factors_X, alive = _factors_of_references(draws), draws.complete_entries

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
    """Combines the errors over series and over independent seeds (Satterthwaite 1946)."""
    own_X = np.diag(draws.covariance_XX)
    total_Y = own_X[entries] + own_X[reference]
    over_series_Y = total_Y - 2 * draws.covariance_XX[entries, reference]
    over_series_Y[over_series_Y < _ROUNDING * total_Y] = 0.0  # equal entries
    other_Y = np.asarray(entries) != reference
    seeds = draws.variance_X
    variance_Y = over_series_Y + (seeds[entries] + seeds[reference]) * other_Y
    uncertain_X = ratio(
        (draws.seeds.measured_X * draws.per_model_X) ** 2, draws.seeds.freedom_X
    )  # half the variance of the estimated seed variance
    uncertain_X = np.nan_to_num(uncertain_X)
    uncertain_Y = (uncertain_X[entries] + uncertain_X[reference]) * other_Y
    uncertain_Y = uncertain_Y + over_series_Y**2 / (draws.num_series - 1)
    freedom_Y = np.divide(
        variance_Y**2, uncertain_Y, out=np.ones(len(variance_Y)), where=uncertain_Y > 0
    )
    return _Errors(np.sqrt(variance_Y), freedom_Y)


def _standardised(draws: Draws, reference: int, entries: Sequence[int] | np.ndarray) -> np.ndarray:
    """Resampled differences to one entry, over series and seeds, in standard errors [B, Y]."""
    error_Y = _errors(draws, reference, entries).error_Y
    differing = np.asarray(entries)[error_Y > 0]
    return (_drawn(draws, differing) - _drawn(draws, [reference])) / error_Y[error_Y > 0]


def _drawn(draws: Draws, entries: Sequence[int] | np.ndarray) -> np.ndarray:
    """Deviations of resampled accuracies from the mean, over series and seeds [B, Y]."""
    seeds_BY = draws.seeds_BX[:, entries] * np.sqrt(draws.variance_X[entries])
    return draws.deviation_BX[:, entries] + seeds_BY


def _normal_factor(draws: Draws, reference: int, entries: Sequence[int] | np.ndarray) -> float:
    """Critical value of a family's intervals if all variances were known.

    The quantile of the family's largest standardised difference (maximum statistic).
    """
    if not len(entries):
        return float("nan")
    largest_B = np.abs(_standardised(draws, reference, entries)).max(axis=1, initial=0.0)
    return float(np.quantile(largest_B, FAMILY_LEVEL))


def _students_factor(factor: float | np.ndarray, freedom_Y: np.ndarray) -> np.ndarray:
    """Critical value of Student's t with the tail probability of a normal one."""
    return -stdtrit(freedom_Y, ndtr(-factor))


def _with_intervals(draws: Draws, reference: int, normal_factor: float) -> Differences:
    difference_X = draws.mean_X - draws.mean_X[reference]
    error_X, factor_X = np.full((2, len(difference_X)), np.nan)
    alive = draws.complete_entries
    if reference in alive:
        error_X[alive], freedom_Y = _errors(draws, reference, alive)
        factor_X[alive] = _students_factor(normal_factor, freedom_Y)
    half_width_X = np.where(error_X > 0, factor_X * error_X, error_X)
    return Differences(
        reference,
        difference_X,
        np.maximum(difference_X - half_width_X, -1.0),
        np.minimum(difference_X + half_width_X, 1.0),
        error_X,
        factor_X,
    )


def _factors_of_references(draws: Draws) -> np.ndarray:
    """Critical value of each entry's family, the differences of all others to it [X]."""
    factor_X = np.full(len(draws.mean_X), np.nan)
    others = max(len(draws.complete_entries) - 1, 1)
    for x in draws.complete_entries:
        factor_X[x] = (
            _normal_factor(draws, x, draws.complete_entries[draws.complete_entries != x])
            if len(draws.complete_entries) <= MOST_RESAMPLED
            else -ndtri((1 - FAMILY_LEVEL) / (2 * others))
        )
    return factor_X


def _truly_best(draws: Draws, factors_X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns which entries may be the best, and bounds of all differences to the best.

    Method of Edwards and Hsu (1983). If x is the best, its differences to all others lie in their
    intervals. So an entry is not the best if some other entry is separated from it in its own
    family. The differences to the best lie within the differences to the entries that may be the
    best.

    Returns:
      The candidates for the best, bool [X], and the lower and upper bounds [X].
    """
    tied_X = np.isfinite(draws.mean_X)
    low_X, high_X = np.full((2, len(tied_X)), np.nan)
    if not len(draws.complete_entries):
        return tied_X, low_X, high_X
    tied_X = draws.complete_X.copy()
    for x in draws.complete_entries:
        to_x = _with_intervals(draws, x, factors_X[x])
        tied_X[x] = not to_x.better.any()
        if tied_X[x]:
            low_X, high_X = np.fmin(low_X, to_x.low), np.fmax(high_X, to_x.high)
    high_X[tied_X] = 0.0
    return tied_X, np.minimum(low_X, 0.0), np.minimum(high_X, 0.0)


def _rank1(draws: Draws) -> np.ndarray:
    rank1_X = np.full(len(draws.mean_X), np.nan)
    alive = draws.complete_entries
    if len(alive):
        seeds_BY = (draws.seeds_BX * np.sqrt(draws.variance_X))[:, alive]
        drawn_BY = draws.mean_X[alive] + draws.deviation_BX[:, alive] + seeds_BY
        first_BY = drawn_BY == drawn_BY.max(axis=1, keepdims=True)
        rank1_X[alive] = (first_BY / first_BY.sum(axis=1, keepdims=True)).mean(axis=0)
    return rank1_X


def all_pairs(draws: Draws, entries: Sequence[int]) -> list[tuple[int, int, float, float, float]]:
    """Compares every two of some entries, with simultaneous intervals.

    Returns:
      For each pair of entries: both entries, their difference, and its lower and upper bound.
    """
    entries = [x for x in entries if x in draws.complete_entries]
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
