"""Ridge regression that predicts each fold of series from the others, for the permutation test.

It is cheap enough to be fitted a hundred times.

Axis letters: M pairs, K inputs, F folds.
"""

import numpy as np

# Share of the preferences' variance that the ridge's prior expects its inputs to explain. It is
# small, as usual in this field, and fixed in advance, so that nothing is tuned on the tested pairs.
_EXPLAINED = 0.05


def ridge_scores(
    difference_MK: np.ndarray, target_M: np.ndarray, fold_starts: np.ndarray
) -> np.ndarray:
    """Predicts the score difference of every pair from a ridge regression on the other folds.

    The penalty is that of a Bayesian prior under which the inputs explain a share s of the target's
    variance: (1 - s) / s times the inputs' sum of squares per pair. It is therefore invariant to
    the scale of the inputs. There is no intercept, so neither side of a pair is special.
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
    # Avoids a singular system where all inputs are zero in the other folds; the weights are then
    # zero.
    penalty_F = np.maximum(penalty_F, np.finfo(np.float64).tiny)
    grams_FKK += penalty_F[:, None, None] * np.eye(difference_MK.shape[1])
    weights_FK = np.linalg.solve(grams_FKK, moments_FK[..., None])[..., 0]
    return np.concatenate([d @ w for d, w in zip(differences, weights_FK, strict=True)])
