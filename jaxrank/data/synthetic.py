"""Simulated data of the size of Photo Triage, with known ground truth.

Each photo's appeal has a visible part, which its features show, and a hidden part. For new series,
a model can only learn the visible part. The hidden part can be memorised photo by photo, which a
split rewards that has one series in two splits. Nothing here is measured data.

The visible part is not linear: one factor of the block `clip` saturates, and two factors, one of
`clip` and one of `cnn`, interact. A linear scorer misses both.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr

from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences

NUM_SERIES = 4300
# Shares of series with 2, 3, ... 8 photos, similar to Photo Triage: 2.7 photos and 2.8 pairs per
# series, since all pairs of a series are compared.
_SIZE_SHARES = (0.600, 0.225, 0.110, 0.040, 0.016, 0.005, 0.004)

# A block's vector is the sum of noise (standard deviation 1 in every direction), a series mean
# (standard deviation _SERIES_SPREAD) and factors (standard deviation 1 times _SIGNAL). Each factor
# has its own direction, orthogonal to the series mean. The block of the weaker signal is noisier.
_DIMS = {"clip": 512, "cnn": 1024}
_SERIES_SPREAD = 1.0
_SIGNAL = {"clip": 12.0, "cnn": 8.0}
# In log-odds of the appeal. The factor `clip_0` saturates: above its mean, more adds nothing.
# `clip_1` and `cnn_0` add to the appeal by their product.
_SATURATION = 1.0
_INTERACTION = 0.5
# Standard deviations of the appeal's parts: the part of each image-quality number, and the hidden
# part. Contrast has no part.
_SHOWN = {"sharpness": 0.36, "exposure": 0.20, "colorfulness": 0.20, "contrast": 0.0}
_HIDDEN = 0.65
# An image-quality number is the sum of its part, a series mean (standard deviation 1) and noise of
# this standard deviation.
_IQA_NOISE = 0.9
_MEAN_VOTES = 3.0


class Simulated(NamedTuple):
    """Simulated data and its ground truth.

    Attributes:
      pairs: a `Preferences`.
      features: a `Block` by name.
      best_score: expected appeal given the features, by photo name, up to a constant for each
        series. This is the ceiling: no scorer of the features orders new series better on average.
      appeal: true appeal by photo name, which the features show in part.
    """

    pairs: Preferences
    features: dict[str, Block]
    best_score: pd.Series
    appeal: pd.Series


def simulate(
    seed: int = 0, num_series: int = NUM_SERIES, num_photos: int | None = None
) -> Simulated:
    """Draws series, photos, features and votes; the same seed gives the same data.

    Args:
      seed: seed of all random numbers.
      num_series: number of series.
      num_photos: photos of every series; by default 2 to 8, in the shares of Photo Triage.

    Returns:
      A `Simulated`: pairs, features, and the true appeal of each photo.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.choice(np.arange(2, 9), size=num_series, p=_SIZE_SHARES)
    if num_photos is not None:
        sizes = np.full(num_series, num_photos)
    series = np.repeat(np.arange(num_series), sizes)
    number = np.arange(len(series)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    photos = [f"{s + 1:06d}-{n + 1:02d}.JPG" for s, n in zip(series, number, strict=True)]

    appeal = _HIDDEN * rng.standard_normal(len(series))
    best_score = np.zeros(len(series))
    blocks, seen = {}, {}
    factors = {
        "clip": rng.standard_normal((len(series), 2)),
        "cnn": rng.standard_normal((len(series), 1)),
    }
    for name, dim in _DIMS.items():
        values, seen[name] = _embedding(rng, series, factors[name], dim, _SIGNAL[name])
        blocks[name] = Block(photos, [f"{name}_{i}" for i in range(dim)], values)
    appeal += _embeddings_appeal(factors["clip"], factors["cnn"])
    best_score += _expected_embeddings_appeal(seen["clip"], seen["cnn"])

    parts = rng.standard_normal((len(series), len(_SHOWN)))
    weights = np.array(list(_SHOWN.values()))
    noise = _IQA_NOISE * rng.standard_normal(parts.shape)
    series_means = rng.standard_normal((num_series, len(weights)))[series]
    iqa = (parts * (weights > 0) + noise + series_means).astype(np.float32)
    blocks["iqa"] = Block(photos, list(_SHOWN), iqa)
    appeal += parts @ weights
    # Given the number (part + noise + series mean), the expectation of the part is
    # number / (1 + noise^2), as far as differences inside a series are concerned.
    best_score += iqa @ weights / (1 + _IQA_NOISE**2)

    first, second = _all_pairs(sizes)
    votes = 1 + rng.poisson(_MEAN_VOTES - 1, len(first))
    chance = 1 / (1 + np.exp(appeal[second] - appeal[first]))
    # Half a vote for each side, as a Bradley-Terry fit with a weak prior would give.
    preference = (rng.binomial(votes, chance) + 0.5) / (votes + 1)
    names = np.array(photos)
    table = pd.DataFrame(
        {
            "series_id": [str(s + 1) for s in series[first]],
            "image_a": names[first],
            "image_b": names[second],
            "preference": preference,
        }
    )
    return Simulated(
        Preferences(table),
        blocks,
        pd.Series(best_score, index=photos),
        pd.Series(appeal, index=photos),
    )


def _embedding(
    rng: np.random.Generator, series: np.ndarray, factors: np.ndarray, dim: int, signal: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the vectors of a block.

    A vector is the sum of its series' mean, the factors along orthonormal directions, and noise.

    Args:
      rng: source of random numbers.
      series: the series of each photo, int [N].
      factors: the factors of each photo, float [N, R].
      dim: length of a vector.
      signal: scale of the factors.

    Returns:
      The vectors, float32 [N, dim], and their readings along the directions, [N, R].
    """
    directions = np.linalg.qr(rng.standard_normal((dim, factors.shape[1])))[0].astype(np.float32)
    values = rng.standard_normal((len(series), dim), dtype=np.float32)
    means = rng.standard_normal((series[-1] + 1, dim), dtype=np.float32)
    means -= means @ directions @ directions.T
    values += np.float32(_SERIES_SPREAD) * means[series]
    values += (signal * factors).astype(np.float32) @ directions.T
    return values, values @ directions


def _embeddings_appeal(clip: np.ndarray, cnn: np.ndarray) -> np.ndarray:
    """The contribution of the factors [N, 2] and [N, 1] to the appeal [N]."""
    return _SATURATION * np.minimum(clip[:, 0], 0.0) + _INTERACTION * clip[:, 1] * cnn[:, 0]


def _expected_embeddings_appeal(clip: np.ndarray, cnn: np.ndarray) -> np.ndarray:
    """The expectation of `_embeddings_appeal` given readings [N, 2] and [N, 1].

    A factor f ~ N(0, 1) read as signal * f + N(0, 1) is N(m, v), m = reading * signal * v and
    v = 1 / (signal^2 + 1). Factors are independent, so the expectation of their product is the
    product of the means; and E min(f, 0) = m Phi(-m / sd) - sd phi(m / sd), sd = sqrt(v).
    """
    variance = {name: 1 / (signal**2 + 1) for name, signal in _SIGNAL.items()}
    clip = clip * (_SIGNAL["clip"] * variance["clip"])
    cnn = cnn * (_SIGNAL["cnn"] * variance["cnn"])
    sd = np.sqrt(variance["clip"])
    z = clip[:, 0] / sd
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    saturated = clip[:, 0] * ndtr(-z) - sd * density
    return _SATURATION * saturated + _INTERACTION * clip[:, 1] * cnn[:, 0]


def _all_pairs(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the two photos of every pair of every series, series by series."""
    starts = np.cumsum(sizes) - sizes
    places = {size: np.triu_indices(size, k=1) for size in np.unique(sizes)}
    first, second = [], []
    for start, size in zip(starts, sizes, strict=True):
        a, b = places[size]
        first.append(start + a)
        second.append(start + b)
    return np.concatenate(first), np.concatenate(second)
