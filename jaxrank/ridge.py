"""A ridge regression of preferences on differences of photos, its penalty chosen by series.

Axis letters: M pairs, N photos, D features, G inner folds.

scikit-learn's RidgeCV has no groups; and its Ridge builds the D x D products of all pairs anew
for each penalty and fold, where those of the inner folds, which add up, need to be built once. In
32 bits: a penalty is at least a millionth of the largest eigenvalue, and they suffice for that.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.linalg
import scipy.sparse
from threadpoolctl import threadpool_limits

NUM_FOLDS = 5
# A penalty of k times the inputs' sum of squares, a pair, is that of a Bayesian whose inputs
# explain a share 1 / (1 + k) of the preferences' variance before any is seen: from 1/2 down to
# 1/3000, scale-free.
FACTORS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
# With one series there is nothing to choose by: a share of 5%, usual in this field.
_UNCHOSEN = 19.0
# Photos that are scored at a time, as 64-bit numbers.
_PHOTOS_AT_ONCE = 1 << 16


class Rows(Protocol):
    """An array [N, D], or what makes its rows when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any: ...


class Fitted(NamedTuple):
    """A ridge fitted on some pairs.

    Attributes:
      weights_D: of the inputs.
      scores_N: float32, of all photos.
      held_out_M: float32, score_a - score_b of the fitted pairs from the fits on the inner folds
        without their series; NaN where there is one series only.
    """

    weights_D: np.ndarray
    scores_N: np.ndarray
    held_out_M: np.ndarray


def inner_folds(series_M: np.ndarray) -> list[np.ndarray]:
    """Pairs dealt to at most NUM_FOLDS folds by whole series; none where there is one series."""
    # A second and more, which training can begin without.
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

    The penalty has the least squared error on the series of inner folds that a fit on the others
    has not seen. No intercept, so no side of a pair is special.

    Args:
      inputs_ND: scaled.
      pair_rows_M2: of the pairs to fit.
      target_M: for these, preference less one half.
      series_M: and their series; no photo is in two.
    """
    used, rows_M2 = np.unique(pair_rows_M2, return_inverse=True)
    reduced, basis = _reduced(inputs_ND[used])
    weights, held_out_M = _fit(reduced, rows_M2.reshape(-1, 2), target_M, series_M)
    weights = weights if basis is None else basis @ weights
    scores_N = np.empty(len(inputs_ND), np.float32)
    for start in range(0, len(inputs_ND), _PHOTOS_AT_ONCE):
        rows = slice(start, start + _PHOTOS_AT_ONCE)
        scores_N[rows] = inputs_ND[rows].astype(np.float64) @ weights
    return Fitted(weights, scores_N, held_out_M)


def _reduced(inputs_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The inputs, and a basis [D, N] of what they span where they are fewer than their columns: a
    ridge's weights never leave it."""
    if len(inputs_ND) >= inputs_ND.shape[1]:
        return inputs_ND, None
    basis, triangle = np.linalg.qr(inputs_ND.T)
    return triangle.T, basis


def _fit(
    inputs_ND: np.ndarray, rows_M2: np.ndarray, target_M: np.ndarray, series_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weights [D], and the score differences of `Fitted.held_out_M`."""
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
        """Up to the sum of squared targets."""
        return sum(
            float(weights @ gram @ weights - 2 * moment @ weights)
            for weights, (gram, moment) in zip(inner_weights(place), products, strict=True)
        )

    held_out_M = np.full(len(target_M), np.nan, np.float32)
    if len(parts) < 2:
        return _solve(gram_DD, moment_D, _UNCHOSEN * unit), held_out_M
    best = _lowest(error, len(FACTORS))
    for part, weights in zip(parts, inner_weights(best), strict=True):
        rows_a, rows_b = rows_M2[part].T
        held_out_M[part] = (inputs_ND[rows_a] - inputs_ND[rows_b]) @ weights
    return _solve(gram_DD, moment_D, FACTORS[best] * unit), held_out_M


def _lowest(error: Callable[[int], float], number: int) -> int:
    """The place of the lowest of so many values that fall and then rise, looked for from the
    middle: most need not be known."""
    place = number // 2
    while True:
        nearby = [p for p in (place - 1, place + 1) if 0 <= p < number]
        best = min(nearby, key=error)
        if error(best) >= error(place):
            return place
        place = best


def _products(
    inputs_ND: np.ndarray, rows_M2: np.ndarray, target_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """X'X [D, D] and X'y [D] of the pairs' differences X, without making them: a photo's row counts
    as often as it has pairs."""
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
    # OpenBLAS's threads wait for each other in busy loops: where another process has a core, two of
    # them took 25 times as long as one (1,540 columns).
    with threadpool_limits(limits=1, user_api="blas"):
        return scipy.linalg.solve(penalised, moment_D, assume_a="pos", overwrite_a=True)
