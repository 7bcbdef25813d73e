"""Pairwise metrics on arrays. NumPy only.

Axis letters: M pairs, N photos; X any number of scorers, or no axis for one scorer.
"""

import numpy as np


def pair_differences(scores_XN: np.ndarray, pair_rows_M2: np.ndarray) -> np.ndarray:
    """score_a - score_b of every pair, [..., M]."""
    # Uses `take`, not indexing: only `take` fixes the memory layout of several rows, and so the
    # order in which sums over it are taken.
    return np.subtract(*(np.take(scores_XN, rows, axis=-1) for rows in pair_rows_M2.T))


def pair_hits(difference: np.ndarray, preference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NumPy version of `losses.hits`: hits, and which pairs have a direction, both float32.

    Computed in 32 bits, like on the device: differences that vanish there are ties here too.
    """
    direction = np.sign(np.asarray(preference, np.float32) - np.float32(0.5))
    order = np.sign(np.asarray(difference, np.float32))
    return np.float32(0.5) * (1 + order * direction), np.abs(direction)


def vote_weights(preference: np.ndarray) -> np.ndarray:
    """Weight of a pair by its votes, |2 preference - 1|, float64.

    It is the majority's lead over an equal vote.
    """
    return np.abs(2.0 * np.asarray(preference, np.float64) - 1.0)


def weighted_accuracy(difference_XM: np.ndarray, preference_M: np.ndarray) -> np.ndarray:
    """Accuracy of pairs weighted by |2 preference - 1|, for each scorer; float64.

    With w the mean weight of the pairs, w times the weighted accuracy plus (1 - w) / 2 is the
    agreement with single votes. NaN where no pair has a weight.
    """
    hit_XM, directed_M = pair_hits(difference_XM, preference_M)
    weight_M = vote_weights(preference_M) * directed_M
    total = float(weight_M.sum())
    return (hit_XM * weight_M).sum(axis=-1) / (total if total > 0 else np.nan)


def accuracy(difference_XM: np.ndarray, preference_M: np.ndarray) -> np.ndarray:
    """Share of pairs with a direction that the scores order as people do, for each scorer.

    A tie of scores counts one half. NaN without such pairs.
    """
    return masked_mean(*pair_hits(difference_XM, preference_M))


def masked_mean(value_XM: np.ndarray, counts_M: np.ndarray) -> np.ndarray:
    """Unweighted mean of each row's values where `counts_M` is positive; NaN without such values.

    It is computed in the values' type and returned in 64 bits.
    """
    counted_M = counts_M > 0
    if not counted_M.any():
        return np.full(value_XM.shape[:-1], np.nan)[()]
    if not counted_M.all():
        value_XM = np.compress(counted_M, value_XM, axis=-1)
    return value_XM.mean(axis=-1).astype(np.float64)[()]
