"""A ridge regression that predicts each fold of series from the others: a look of the permutation
test, cheap enough to be fitted a hundred times.

Axis letters: M pairs, K inputs, F folds.
"""

import numpy as np

# The ridge expects its inputs to explain this share of the preferences' variance: small, as it is
# in this field, and fixed in advance, so that nothing is tuned on what is tested.
_EXPLAINED = 0.05


def ridge_scores(
    difference_MK: np.ndarray, target_M: np.ndarray, fold_starts: np.ndarray
) -> np.ndarray:
    """Score differences of every pair from a ridge regression on the pairs of the other folds.

    The penalty is that of a Bayesian whose inputs explain a share s of the target's variance before
    any is seen: (1 - s) / s times the sum of squares of all inputs, a pair. It has no scale of its
    own. There is no intercept, so no side of a pair is special.
    """
    differences = np.split(difference_MK, fold_starts)
    grams_FKK = np.stack([part.T @ part for part in differences]).astype(np.float64)
    targets = np.split(target_M, fold_starts)
    moments_FK = np.stack([t @ d for t, d in zip(targets, differences, strict=True)])
    sizes_F = np.array([len(part) for part in differences])
    grams_FKK = grams_FKK.sum(axis=0) - grams_FKK
    moments_FK = moments_FK.sum(axis=0) - moments_FK
    squares_F = np.trace(grams_FKK, axis1=1, axis2=2) / (len(target_M) - sizes_F)
    penalty_F = (1 - _EXPLAINED) / _EXPLAINED * squares_F
    # Where all inputs are zero in the other folds, so are the weights.
    penalty_F = np.maximum(penalty_F, np.finfo(np.float64).tiny)
    grams_FKK += penalty_F[:, None, None] * np.eye(difference_MK.shape[1])
    weights_FK = np.linalg.solve(grams_FKK, moments_FK[..., None])[..., 0]
    return np.concatenate([d @ w for d, w in zip(differences, weights_FK, strict=True)])
