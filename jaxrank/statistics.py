"""Standard errors and resamples; series are the independent units. NumPy only."""

from collections.abc import Iterator

import numpy as np

_CHUNK = 64  # resamples in memory at a time


def ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Quotient; NaN where the denominator is zero."""
    return np.divide(over, under, out=np.full(np.shape(over), np.nan), where=under > 0)


def resamples(num_series: int, num_draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields how often each series is drawn, float64 [up to _CHUNK resamples, S]."""
    for start in range(0, num_draws, _CHUNK):
        shape = (min(_CHUNK, num_draws - start), num_series)
        drawn = rng.integers(num_series, size=shape) + num_series * np.arange(shape[0])[:, None]
        counts = np.bincount(drawn.ravel(), minlength=shape[0] * num_series)
        yield counts.reshape(shape).astype(np.float64)


# A standard error from fewer clusters would be mostly noise.
FEWEST_SERIES = 10


def clustered_error(
    hits_M: np.ndarray, weight_M: np.ndarray, series_M: np.ndarray
) -> tuple[float, int, int]:
    """Standard error of sum(hits) / sum(weight), with the numbers of pairs and series.

    Series are the independent units: the residuals of a series' pairs are summed before they are
    squared (linearised ratio estimator, Cochran 1977, section 3A). NaN with fewer than
    FEWEST_SERIES series.
    """
    used = weight_M > 0  # a pair without a direction has half a hit but no weight
    hits, weight, series = hits_M[used], weight_M[used], series_M[used]
    num_pairs, num_series = len(hits), len(np.unique(series))
    if num_series < FEWEST_SERIES:
        return float("nan"), num_pairs, num_series
    total = float(weight.sum())
    accuracy = float(hits.sum()) / total
    residual = np.bincount(series, weights=hits - weight * accuracy)
    correction = num_series / (num_series - 1)
    return float(np.sqrt(correction * (residual**2).sum())) / total, num_pairs, num_series
