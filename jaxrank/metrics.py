"""Pairwise metrics on arrays. NumPy only.

Axis letters: M pairs, N photos.
"""

import numpy as np


def pair_differences(scores_XN: np.ndarray, pair_rows_M2: np.ndarray) -> np.ndarray:
    """score_a - score_b of every pair, [..., M]."""
    rows_a, rows_b = pair_rows_M2.T
    return scores_XN[..., rows_a] - scores_XN[..., rows_b]


def pair_hits(difference: np.ndarray, preference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`losses.hits` in NumPy: hits, and which pairs have a direction, float32 both.

    In 32 bits, as the device counts: what differs by less there is equal here too.
    """
    direction = np.sign(np.asarray(preference, np.float32) - np.float32(0.5))
    order = np.sign(np.asarray(difference, np.float32))
    return np.float32(0.5) * (1 + order * direction), np.abs(direction)


def vote_weights(preference: np.ndarray) -> np.ndarray:
    """|2 preference - 1|, float64: what a pair's majority is worth beyond an equal vote."""
    return np.abs(2.0 * np.asarray(preference, np.float64) - 1.0)


def weighted_accuracy(difference_M: np.ndarray, preference_M: np.ndarray) -> float:
    """Accuracy of pairs weighted by |2 preference - 1|: agreement with the votes, rescaled so
    that the majority's direction is 1. NaN where no pair has a weight."""
    hit_M, directed_M = pair_hits(difference_M, preference_M)
    weight_M = vote_weights(preference_M) * directed_M
    total = float(weight_M.sum())
    return float((hit_M * weight_M).sum()) / total if total > 0 else float("nan")


def accuracy(difference_M: np.ndarray, preference_M: np.ndarray) -> float:
    """The share of pairs with a direction that the scores order as people do; a tie of scores
    counts one half. NaN without such pairs."""
    return masked_mean(*pair_hits(difference_M, preference_M))


def masked_mean(value_M: np.ndarray, weight_M: np.ndarray) -> float:
    """The mean of the values with weight; NaN where there are none."""
    counted = weight_M > 0
    return float(value_M[counted].mean()) if counted.any() else float("nan")
