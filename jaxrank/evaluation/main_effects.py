"""Main effects of hyperparameters, and the share of noise in the differences of accuracy.

An additive model of the experiments' accuracies, fitted by least squares: each value of a
hyperparameter adds a constant, whatever the other values are. Interactions and seeds are the
residual. The sampling of series is a second, correlated error.

Axis letters: X experiments, S series, C columns of the model.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from jaxrank.statistics import FEWEST_SERIES

LEVEL = 0.95
# Fewest residual degrees of freedom of a model.
FEWEST_FREE = 3


class Effect(NamedTuple):
    """Effect of one value of a hyperparameter.

    Attributes:
      key, level: hyperparameter and its value.
      num_experiments: number of experiments with this value.
      accuracy: expected accuracy with this value, averaged over the experiments' other values.
      difference, low, high: difference to the mean over all values of this hyperparameter, with its
        individual interval (LEVEL).
    """

    key: str
    level: str
    num_experiments: int
    accuracy: float
    difference: float
    low: float
    high: float


class MainEffects(NamedTuple):
    """Main effects of all hyperparameters.

    Attributes:
      effects: effects by hyperparameter and value, in order.
      shares: by hyperparameter, its share of the variance among the experiments' accuracies, less
        the expected share of an irrelevant hyperparameter (omega squared, Hays 1963); never below
        0.
      noise_share: expected share of that variance due to the sampled series and to seeds; from 0 to
        1.
    """

    effects: list[Effect]
    shares: dict[str, float]
    noise_share: float


def main_effects(
    levels: Mapping[str, Sequence[str | None]],
    hits_XS: np.ndarray,
    weight_XS: np.ndarray,
    seed_variance_X: np.ndarray,
) -> MainEffects | None:
    """Estimates the main effects of hyperparameters on accuracy.

    Args:
      levels: by hyperparameter, the value of each experiment; None where its condition did not
        hold.
      hits_XS, weight_XS: correctly ordered pairs and all pairs of each series, see `hits.Pooled`;
        all experiments have the same weights.
      seed_variance_X: seed variance of each accuracy; zero where unknown.

    Returns:
      The effects; None with too few experiments for a model, or too few series for an interval.
    """
    num_experiments = len(hits_XS)
    num_series = int(weight_XS.any(axis=0).sum())
    coded = {key: _coded(values) for key, values in levels.items()}
    model_XC = np.hstack([np.ones((num_experiments, 1)), *(code for _, code in coded.values())])
    rank = int(np.linalg.matrix_rank(model_XC))
    free = num_experiments - rank
    if free < FEWEST_FREE or num_series < FEWEST_SERIES:
        return None
    total_X = weight_XS.sum(axis=1)
    accuracy_X = hits_XS.sum(axis=1) / total_X
    # Linearised ratio estimator, as in statistics.clustered_error.
    deviation_XS = (hits_XS - accuracy_X[:, None] * weight_XS) / total_X[:, None]
    deviation_XS *= np.sqrt(num_series / (num_series - 1))
    inverse_CX = np.linalg.pinv(model_XC)
    residual_X = accuracy_X - model_XC @ (inverse_CX @ accuracy_X)
    beyond_XS = deviation_XS - model_XC @ (inverse_CX @ deviation_XS)
    excess = max((residual_X @ residual_X - (beyond_XS**2).sum()) / free, 0.0)
    total = float(((accuracy_X - accuracy_X.mean()) ** 2).sum())
    left = float(residual_X @ residual_X)
    effects, shares = [], {}
    start = 1
    for key, (words, code_XC) in coded.items():
        place = slice(start, start + code_XC.shape[1])
        start = place.stop
        without_XC = np.delete(model_XC, np.r_[place], axis=1)
        more = _residual_squares(without_XC, accuracy_X) - left
        lost = rank - int(np.linalg.matrix_rank(without_XC))
        shares[key] = max(more - lost * left / free, 0.0) / total if total > 0 else 0.0
        active_X = np.array([value is not None for value in levels[key]])
        rows = [
            _expected(model_XC, active_X, place, code) @ inverse_CX for code in _codes(len(words))
        ]
        counts = np.array([list(levels[key]).count(word) for word in words])
        mean_X = counts @ np.array(rows) / counts.sum()
        for word, row_X, count in zip(words, rows, counts, strict=True):
            contrast_X = row_X - mean_X
            series = float(((contrast_X @ deviation_XS) ** 2).sum())
            others = float(excess * contrast_X @ contrast_X)
            half = _half_width(series, num_series - 1, others, free)
            difference = float(contrast_X @ accuracy_X)
            effects.append(
                Effect(
                    key, word, int(count), float(row_X @ accuracy_X),
                    difference, difference - half, difference + half,
                )
            )  # fmt: skip
    apart_XS = deviation_XS - deviation_XS.mean(axis=0)
    noise = (apart_XS**2).sum() / (num_experiments - 1) + float(np.mean(seed_variance_X))
    variance = float(accuracy_X.var(ddof=1))
    noise_share = float(np.clip(noise / variance, 0, 1)) if variance > 0 else 1.0
    return MainEffects(effects, shares, noise_share)


def _residual_squares(model_XC: np.ndarray, value_X: np.ndarray) -> float:
    residual_X = value_X - model_XC @ (np.linalg.pinv(model_XC) @ value_X)
    return float(residual_X @ residual_X)


def _coded(values: Sequence[str | None]) -> tuple[list[str], np.ndarray]:
    """Codes a hyperparameter as columns of an additive model.

    The columns sum to zero over the values, and are zero where the experiment has no value.

    Returns:
      The distinct values, and the columns.
    """
    words = list(dict.fromkeys(value for value in values if value is not None))
    codes = [*_codes(len(words)), np.zeros(len(words) - 1)]
    places = [words.index(value) if value is not None else -1 for value in values]
    return words, np.array([codes[place] for place in places])


def _codes(num_values: int) -> list[np.ndarray]:
    """Columns of each value (effect coding)."""
    return [*np.eye(num_values - 1), -np.ones(num_values - 1)]


def _expected(
    model_XC: np.ndarray, active_X: np.ndarray, place: slice, code: np.ndarray
) -> np.ndarray:
    """Mean row of the model if all experiments with this hyperparameter had the same value."""
    row_C = model_XC[active_X].mean(axis=0)
    row_C[place] = code
    return row_C


def _half_width(series: float, series_free: int, others: float, others_free: int) -> float:
    """Half width of the interval of a difference with two variances (Satterthwaite 1946)."""
    total = series + others
    if total == 0:
        return 0.0
    free = total**2 / (series**2 / series_free + others**2 / others_free)
    return float(stdtrit(free, (1 + LEVEL) / 2) * np.sqrt(total))
