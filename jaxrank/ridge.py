"""Ridge regression of preferences on differences of photos, its penalty chosen across series.

Axis letters: M pairs, N photos, D features, G inner folds.

scikit-learn's RidgeCV has no groups. Its Ridge computes the D x D products of all pairs again for
each penalty and fold. The products of the inner folds add up, so they are computed once here. 32
bits are sufficient, because a penalty is at least a millionth of the largest eigenvalue.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.linalg
import scipy.sparse
from threadpoolctl import threadpool_limits

NUM_FOLDS = 5
# A penalty of k times the inputs' sum of squares per pair corresponds to a Bayesian prior. Under it
# the inputs explain a share 1 / (1 + k) of the preferences' variance: from 1/2 down to 1/3000,
# scale-free.
FACTORS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
# Factor with one series, where none can be chosen: a share of 5%, usual in this field.
_UNCHOSEN = 19.0
# Photos, or pairs, scored at a time.
_ROWS_AT_ONCE = 1 << 13


class Rows(Protocol):
    """Array [N, D], or an object that computes its rows on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any: ...


class Fitted(NamedTuple):
    """Ridge fitted on some pairs.

    Attributes:
      weights_D: weights of the inputs.
      scores_N: float32, scores of all photos.
      held_out_M: float32, score_a - score_b of the fitted pairs, from the fits on the inner folds
        without their series; NaN with one series only.
    """

    weights_D: np.ndarray
    scores_N: np.ndarray
    held_out_M: np.ndarray


def inner_folds(series_M: np.ndarray) -> list[np.ndarray]:
    """Divides pairs into at most NUM_FOLDS folds by whole series; no folds with one series."""
    # This import takes a second and more, which training need not wait for.
    from sklearn.model_selection import GroupKFold

    num_folds = min(NUM_FOLDS, len(np.unique(series_M)))
    if num_folds < 2:
        return []
    return [part for _, part in GroupKFold(num_folds).split(series_M, groups=series_M)]


def fit_ridge(
    inputs_ND: Rows,
    pair_rows_M2: np.ndarray,
    target_M: np.ndarray,
    series_M: np.ndarray,
) -> Fitted:
    """Fits a ridge on some pairs.

    The penalty is the one with the least squared error on held-out series of the inner folds. There
    is no intercept, so neither side of a pair is special.

    Args:
      inputs_ND: scaled inputs.
      pair_rows_M2: photos of the pairs to fit.
      target_M: preference minus one half of these pairs.
      series_M: series of these pairs; no photo is in two series.
    """
    used, rows_M2 = np.unique(pair_rows_M2, return_inverse=True)
    # Single-threaded: OpenBLAS's threads wait for each other in busy loops. Where another process
    # used a core, two threads took 25 times as long as one to solve 1,540 columns. And the sums of
    # one thread are the same on any number of cores.
    with threadpool_limits(limits=1, user_api="blas"):
        reduced, basis = _reduced(_Chosen(inputs_ND, used))
        weights, held_out_M = _fit(reduced, rows_M2.reshape(-1, 2), target_M, series_M)
    weights = weights if basis is None else basis @ weights
    scores_N = np.empty(len(inputs_ND), np.float32)
    for start in range(0, len(inputs_ND), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        scores_N[rows] = inputs_ND[rows].astype(np.float64) @ weights
    return Fitted(weights, scores_N, held_out_M)


class _Chosen(NamedTuple):
    """Some rows of inputs. They are copied on access: all of them may be gigabytes."""

    inputs_ND: Rows
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: Any) -> Any:
        return self.inputs_ND[self.chosen[rows]]


def _reduced(inputs_ND: Rows) -> tuple[Rows, np.ndarray | None]:
    """Reduces inputs with fewer rows than columns to the space that they span.

    A ridge's weights are always in that space.

    Returns:
      The inputs, and the basis [D, N] of the space; None where the inputs are unchanged.
    """
    if len(inputs_ND) >= inputs_ND[:1].shape[1]:
        return inputs_ND, None
    basis, triangle = np.linalg.qr(inputs_ND[:].T)
    return triangle.T, basis


def _fit(
    inputs_ND: Rows, rows_M2: np.ndarray, target_M: np.ndarray, series_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights [D], and the score differences of `Fitted.held_out_M`."""
    parts = inner_folds(series_M) or [np.arange(len(target_M))]
    products = [_products(inputs_ND, rows_M2[part], target_M[part]) for part in parts]
    gram_DD = np.sum([gram for gram, _ in products], axis=0)
    moment_D = np.sum([moment for _, moment in products], axis=0)
    unit = float(np.trace(gram_DD)) / len(target_M)
    if not unit:  # no input differs
        return np.zeros_like(moment_D), np.zeros(len(target_M), np.float32)

    @functools.cache
    def inner_weights(place: int) -> list[np.ndarray]:
        penalty = FACTORS[place] * unit
        return [_solve(gram_DD - gram, moment_D - moment, penalty) for gram, moment in products]

    @functools.cache
    def error(place: int) -> float:
        """Squared error, up to the sum of squared targets."""
        return sum(
            float(weights @ gram @ weights - 2 * moment @ weights)
            for weights, (gram, moment) in zip(inner_weights(place), products, strict=True)
        )

    held_out_M = np.full(len(target_M), np.nan, np.float32)
    if len(parts) < 2:
        return _solve(gram_DD, moment_D, _UNCHOSEN * unit), held_out_M
    best = _lowest(error, len(FACTORS))
    for part, weights in zip(parts, inner_weights(best), strict=True):
        for start in range(0, len(part), _ROWS_AT_ONCE):
            some = part[start : start + _ROWS_AT_ONCE]
            rows_a, rows_b = rows_M2[some].T
            held_out_M[some] = (inputs_ND[rows_a] - inputs_ND[rows_b]) @ weights
    return _solve(gram_DD, moment_D, FACTORS[best] * unit), held_out_M


def _lowest(error: Callable[[int], float], number: int) -> int:
    """Index of the lowest of some values that fall and then rise.

    The search starts from the middle, so most values need not be computed.
    """
    place = number // 2
    while True:
        nearby = [p for p in (place - 1, place + 1) if 0 <= p < number]
        best = min(nearby, key=error)
        if error(best) >= error(place):
            return place
        place = best


def _products(
    inputs_ND: Rows, rows_M2: np.ndarray, target_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Computes X'X [D, D] and X'y [D] of the pairs' differences X, without storing X.

    A photo's row counts as often as it has pairs.
    """
    photos, rows_M2 = np.unique(rows_M2, return_inverse=True)
    places, ones = np.arange(len(target_M)), np.ones(len(target_M), np.float32)
    rows_a, rows_b = rows_M2.reshape(-1, 2).T
    shape = len(target_M), len(photos)
    side_a, side_b = (
        scipy.sparse.csr_array((ones, (places, rows)), shape=shape) for rows in (rows_a, rows_b)
    )
    signs_MN = side_a - side_b
    mine_ND = inputs_ND[photos]
    return mine_ND.T @ ((signs_MN.T @ signs_MN) @ mine_ND), mine_ND.T @ (signs_MN.T @ target_M)


def _solve(gram_DD: np.ndarray, moment_D: np.ndarray, penalty: float) -> np.ndarray:
    penalised = gram_DD.copy()
    penalised.flat[:: len(gram_DD) + 1] += penalty
    return scipy.linalg.solve(penalised, moment_D, assume_a="pos", overwrite_a=True)
