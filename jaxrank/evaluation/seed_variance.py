"""Seed variance: the variance of an accuracy between trainings with different seeds.

Each experiment has its own estimate, shrunk towards a common value (Smyth 2004): completely where
the estimates differ no more than by chance, hardly where they differ much. An estimate that is
clearly higher is kept: shrinking it would understate the error of the one experiment with noisy
training (benchmarks/identical_searches.py).

Axis letters: X experiments, Y those with an estimate, F folds, K seeds, S series.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

# Sources of the seed variance.
SEEDS, FOLDS, UNKNOWN = "seeds", "folds", "unknown"
# Search range of the prior's degrees of freedom.
_LEAST_FREEDOM, _MOST_FREEDOM = 1e-2, 1e6
# An estimate above this multiple of the shrunk estimate is kept.
_CLEARLY_HIGHER = 1.2


class SeedVariance(NamedTuple):
    """Variances of one trained model's accuracy; [X] each.

    Attributes:
      measured_X: variance of the measured accuracy over seeds. With one seed (FOLDS): over folds,
        less the effects common to experiments and to folds.
      series_X: part of `measured_X` due to the sampled series.
      freedom_X: degrees of freedom of `measured_X`.
      source: SEEDS; FOLDS, where the variance includes that of the fold's training pairs; UNKNOWN,
        with one seed and one fold, where all variances are zero.
    """

    measured_X: np.ndarray
    series_X: np.ndarray
    freedom_X: np.ndarray
    source: str

    @property
    def true_X(self) -> np.ndarray:
        """Variance of a trained model's accuracy on all series."""
        return np.maximum(self.measured_X - self.series_X, 0.0)


def estimate(hits_XFKS: np.ndarray, weight_FS: np.ndarray) -> SeedVariance:
    """Estimates the seed variance of each experiment, from the hits of its trials (see `Hits`)."""
    own, source = _over_seeds(hits_XFKS, weight_FS), SEEDS
    if not own.freedom_X.any():
        own, source = _over_folds(hits_XFKS, weight_FS), FOLDS
    if not own.freedom_X.any():
        zero_X = np.zeros(len(hits_XFKS))
        return SeedVariance(zero_X, zero_X, zero_X, UNKNOWN)
    total = own.freedom_X.sum()
    prior = _prior(own)
    weight_X = own.freedom_X / (own.freedom_X + prior.freedom)
    shrunk_X = weight_X * own.measured_X + (1 - weight_X) * prior.measured
    weight_X = np.where(own.measured_X > _CLEARLY_HIGHER * shrunk_X, 1.0, weight_X)
    common_series = own.freedom_X @ own.series_X / total
    return SeedVariance(
        weight_X * own.measured_X + (1 - weight_X) * prior.measured,
        weight_X * own.series_X + (1 - weight_X) * common_series,
        np.where(weight_X == 1, own.freedom_X, np.minimum(own.freedom_X + prior.freedom, total)),
        source,
    )


class _Own(NamedTuple):
    """Estimates of each experiment from its own trials; see `SeedVariance`."""

    measured_X: np.ndarray
    series_X: np.ndarray
    freedom_X: np.ndarray


def _series_scale(weight_FS: np.ndarray) -> np.ndarray:
    """Scale from squared residuals to the variance of an accuracy over series, [F].

    The variance is of the sum of residuals over series, as a share of the fold's pairs.
    """
    num_series_F = (weight_FS > 0).sum(axis=1)
    return num_series_F / np.maximum(num_series_F - 1, 1) / weight_FS.sum(axis=1) ** 2


def _over_seeds(hits_XFKS: np.ndarray, weight_FS: np.ndarray) -> _Own:
    """Estimates the variances over seeds within folds.

    Accuracies of several seeds differ by the seed variance. They also differ because the models
    order different sampled series right; the residuals of the series estimate this part.
    """
    weight_F, scale_F = weight_FS.sum(axis=1), _series_scale(weight_FS)
    measured_X, series_X, freedom_X = np.zeros((3, len(hits_XFKS)))
    for x, hits_FKS in enumerate(hits_XFKS):
        done_FK = ~np.isnan(hits_FKS).any(axis=2)
        seeds_F = done_FK.sum(axis=1)
        freedom_X[x] = np.maximum(seeds_F - 1, 0).sum()
        if freedom_X[x]:
            total_FS = np.where(done_FK[..., None], hits_FKS, 0.0).sum(axis=1, dtype=np.float64)
            mean_FS = total_FS / np.maximum(seeds_F, 1)[:, None]
            off_FKS = np.where(done_FK[..., None], hits_FKS - mean_FS[:, None], 0.0)
            off_FK = off_FKS.sum(axis=2) / weight_F[:, None]
            residual_FKS = off_FKS - weight_FS[:, None] * off_FK[..., None]
            measured_X[x] = (off_FK**2).sum() / freedom_X[x]
            series_X[x] = (residual_FKS**2).sum(axis=(1, 2)) @ scale_F / freedom_X[x]
    return _Own(measured_X, series_X, freedom_X)


def _over_folds(hits_XFKS: np.ndarray, weight_FS: np.ndarray) -> _Own:
    """Estimates the variances over folds, less the means of folds and of experiments.

    Only complete experiments with one seed per fold are used.
    """
    num_folds, _, num_series = hits_XFKS.shape[1:]
    first_XFS = np.zeros((len(hits_XFKS), num_folds, num_series))
    for first_FS, hits_FKS in zip(first_XFS, hits_XFKS, strict=True):
        first_FS[:] = _first_seed(hits_FKS)
    complete_X = ~np.isnan(first_XFS).any(axis=(1, 2))
    num_entries = int(complete_X.sum())
    measured_X, series_X, freedom_X = np.zeros((3, len(hits_XFKS)))
    if num_entries < 2 or num_folds < 2:
        return _Own(measured_X, series_X, freedom_X)
    weight_F = weight_FS.sum(axis=1)
    off_XFS = first_XFS[complete_X] - first_XFS[complete_X].mean(axis=0)
    off_XF = off_XFS.sum(axis=2) / weight_F
    freedom = (num_folds - 1) * (num_entries - 1) / num_entries
    for x, off_FS, off_F in zip(np.flatnonzero(complete_X), off_XFS, off_XF, strict=True):
        residual_FS = off_FS - weight_FS * off_F[:, None]
        by_series = (residual_FS**2).sum(axis=1) @ _series_scale(weight_FS)
        series_X[x] = by_series * (num_folds - 1) / num_folds / freedom
        measured_X[x] = ((off_F - off_F.mean()) ** 2).sum() / freedom
        freedom_X[x] = freedom
    return _Own(measured_X, series_X, freedom_X)


def _first_seed(hits_FKS: np.ndarray) -> np.ndarray:
    """Hits [F, S] of the only completed seed of each fold."""
    done_FK = ~np.isnan(hits_FKS).any(axis=2)
    return hits_FKS[np.arange(len(hits_FKS)), done_FK.argmax(axis=1)]


class _Prior(NamedTuple):
    """Prior of the experiments' variances: a variance, and its weight in degrees of freedom."""

    measured: float
    freedom: float


def _prior(own: _Own) -> _Prior:
    """Fits the distribution of the true variances by the method of moments (Smyth 2004).

    The variances are assumed to follow a scaled inverse chi-square distribution. Its degrees of
    freedom follow from the variance of the estimates' logarithms beyond chance, its scale from
    their mean.
    """
    from scipy.optimize import brentq  # takes 0.1 s, for which no dispatch should wait

    known_X = (own.freedom_X > 0) & (own.measured_X > 0)
    half_Y = own.freedom_X[known_X] / 2
    if known_X.sum() > 1:
        log_Y = np.log(own.measured_X[known_X]) - digamma(half_Y) + np.log(half_Y)
        excess = log_Y.var(ddof=1) - polygamma(1, half_Y).mean()
        if excess > polygamma(1, _MOST_FREEDOM / 2):
            half = brentq(
                lambda half: polygamma(1, half) - excess, _LEAST_FREEDOM / 2, _MOST_FREEDOM / 2
            )
            return _Prior(np.exp(log_Y.mean() + digamma(half) - np.log(half)), 2 * half)
    pooled = own.freedom_X @ own.measured_X / own.freedom_X.sum()
    return _Prior(float(pooled), np.inf)
