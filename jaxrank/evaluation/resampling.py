"""Accuracies of a split with confidence intervals, and resamples of its series and seeds.

The interval covers the mean accuracy of the trained models on new series, with folds weighted by
their pairs (Bayle et al. 2020). Series are the independent units.

Axis letters: X entries (experiments and baselines), Y some of them, F folds, K seeds, S series, B
resamples.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from jaxrank.evaluation import seed_variance
from jaxrank.evaluation.hits import Hits, Pooled, pooled
from jaxrank.evaluation.seed_variance import SeedVariance
from jaxrank.statistics import FEWEST_SERIES, ratio, resamples

# Confidence level of the individual interval of an accuracy.
LEVEL = 0.95


class Interval(NamedTuple):
    """Accuracies [X] of these trained models, with individual intervals (LEVEL).

    NaN for an entry without a completed trial. The bounds are NaN with fewer than FEWEST_SERIES
    series.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Draws(NamedTuple):
    """Resamples of one split.

    Attributes:
      accuracy: accuracies of the entries.
      is_baseline_X: whether the entry is a baseline.
      trained_as_X: see `Hits`.
      deviation_BX: accuracies over resampled series minus those over all series; no rows with too
        few series.
      covariance_XX: covariance of `deviation_BX`.
      complete_X: whether the entry has a completed trial in every tested fold. Other entries are
        not compared, because folds differ in difficulty.
      seeds_BX: standard normal variables for the seeds.
      seeds: seed variance of one training of each entry; zero for baselines.
      per_model_X: see `hits.Pooled`.
      num_series, num_pairs, num_folds, num_seeds: see `Standings`.
      variance_X: seed variance of each entry's mean.
    """

    accuracy: Interval
    is_baseline_X: np.ndarray
    trained_as_X: np.ndarray
    deviation_BX: np.ndarray
    covariance_XX: np.ndarray
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
    def complete_entries(self) -> np.ndarray:
        """Indices of the complete entries, if there are intervals."""
        return np.flatnonzero(self.complete_X & (len(self.deviation_BX) > 0))

    @property
    def variance_X(self) -> np.ndarray:
        return self.seeds.true_X * self.per_model_X


def resample(hits: Hits, *, num_draws: int = 2000, seed: int = 0) -> Draws:
    """Resamples the series (multinomial weights), and estimates seed variances.

    An entry's accuracy is over its completed trials: averaged over seeds in each fold, then over
    the folds with a completed trial, weighted by their pairs.

    Args:
      hits: hits in one split.
      num_draws: B.
      seed: seed of the resamples; the same seed gives the same draws.
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
    """Estimates the seed variances of all entries; an ensemble has that of its experiment's trials.

    The estimates of candidates for selection are shrunk apart from those of the other entries: an
    experiment dropped by a rung has hardly been trained, and differs more between seeds.
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
    """Accuracies over resampled series minus those over all series [B, X].

    They are widened by the degree of freedom that the mean takes.
    """
    num_series = sums.hits_XS.shape[1]
    drawn = resamples(num_series, num_draws, rng)
    drawn_BX = np.concatenate(list(map(sums.accuracy_where(), drawn)))
    # A resample may lack all series of an entry of which all folds but one failed.
    return np.nan_to_num(drawn_BX - sums.accuracy_X) * (1 - 1 / num_series) ** -0.5


def intervals(hits: Hits) -> Interval:
    """Pooled accuracies with individual intervals, over series (linearised ratio, Cochran 1977)."""
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
