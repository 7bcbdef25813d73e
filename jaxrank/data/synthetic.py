"""A simulated Photo Triage of the real one's size, with known truth.

Each photo's appeal has a part that its features show and a part that they do not. A model can
only learn the first part for new series; the second can be memorised photo by photo, which is
what a split that puts one series on two sides rewards. Nothing here is measured data.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences

NUM_SERIES = 4300
# Shares of series with 2, 3, ... 8 photos: near those of Photo Triage (2.7 photos a series, all
# pairs of a series compared: 2.8 pairs a series).
_SIZE_SHARES = (0.600, 0.225, 0.110, 0.040, 0.016, 0.005, 0.004)
_DIMS = {"clip": 512, "cnn": 1024}

# Standard deviations, in units of the appeal's log-odds: what each block or image-quality number
# shows, and what no feature shows. Contrast shows nothing.
_SHOWN = {
    "clip": 0.46,
    "cnn": 0.34,
    "sharpness": 0.26,
    "exposure": 0.20,
    "colorfulness": 0.20,
    "contrast": 0.0,
}
_HIDDEN = 0.65
# A block's vector: noise of 1 in every direction, a series mean of this standard deviation, and
# the shown part, times this signal, along one direction.
_SERIES_SPREAD = 2.0
_SIGNAL = 2.0
# An image-quality number: the shown part, a series mean of standard deviation 1, and this noise.
_IQA_NOISE = 0.9
_MEAN_VOTES = 3.0


class Simulated(NamedTuple):
    """Simulated data and its truth.

    Attributes:
      pairs, features: as read from files.
      best_score: by photo name, the expected appeal given the features (up to a number that the
        photos of a series share). No scorer of the features orders new series better on average:
        the ceiling.
      appeal: the true appeal, which the features show in part.
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
      seed: of everything.
      num_series: S.
      num_photos: of every series; by default 2 to 8, in the shares of Photo Triage.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.choice(np.arange(2, 9), size=num_series, p=_SIZE_SHARES)
    if num_photos is not None:
        sizes = np.full(num_series, num_photos)
    series = np.repeat(np.arange(num_series), sizes)
    number = np.arange(len(series)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    photos = [f"{s + 1:06d}-{n + 1:02d}.JPG" for s, n in zip(series, number, strict=True)]

    parts = {name: rng.standard_normal(len(series)) for name in _SHOWN}
    shown = np.sum([_SHOWN[name] * part for name, part in parts.items()], axis=0)
    appeal = shown + _HIDDEN * rng.standard_normal(len(series))

    # The expectation of a part, given a reading of signal * part + noise + series mean, is in
    # differences inside the series: reading * signal / (signal^2 + noise^2).
    best_score = np.zeros(len(series))
    blocks = {}
    for name, dim in _DIMS.items():
        values, reading = _embedding(rng, series, parts[name], dim)
        blocks[name] = Block(photos, [f"{name}_{i}" for i in range(dim)], values)
        best_score += _SHOWN[name] * reading * _SIGNAL / (_SIGNAL**2 + 1)
    columns = [name for name in _SHOWN if name not in _DIMS]
    signal = np.stack([parts[name] * (_SHOWN[name] > 0) for name in columns], axis=1)
    noise = _IQA_NOISE * rng.standard_normal(signal.shape)
    series_means = rng.standard_normal((num_series, len(columns)))[series]
    iqa = (signal + noise + series_means).astype(np.float32)
    blocks["iqa"] = Block(photos, columns, iqa)
    for name, reading in zip(columns, iqa.T, strict=True):
        best_score += _SHOWN[name] * reading / (1 + _IQA_NOISE**2)

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
    rng: np.random.Generator, series: np.ndarray, shown: np.ndarray, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 [N, dim]: a mean of the series, the shown part along one direction, noise;
    and their reading along that direction [N]."""
    direction = rng.standard_normal(dim)
    direction /= np.linalg.norm(direction)
    values = rng.standard_normal((len(series), dim), dtype=np.float32)
    means = rng.standard_normal((series[-1] + 1, dim), dtype=np.float32)
    values += np.float32(_SERIES_SPREAD) * means[series]
    values += (_SIGNAL * shown[:, None] * direction).astype(np.float32)
    return values, values @ direction.astype(np.float32)


def _all_pairs(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both photos of every pair of every series, series by series."""
    starts = np.cumsum(sizes) - sizes
    first, second = [], []
    for start, size in zip(starts, sizes, strict=True):
        a, b = np.triu_indices(size, k=1)
        first.append(start + a)
        second.append(start + b)
    return np.concatenate(first), np.concatenate(second)
