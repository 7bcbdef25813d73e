"""Scorers that nothing was trained for: chance, position and the image-quality
heuristics. NumPy only."""

import numpy as np

from jaxrank.configs import REFERENCES
from jaxrank.data.dataset import Dataset

CHANCE, POSITION = "chance", "position"
IQA_BLOCK = "iqa"
# Of a wide block the first columns are baselines: each one is compared with every experiment.
MOST_HEURISTICS = 64


def heuristic_scores(dataset: Dataset) -> dict[str, np.ndarray]:
    """The heuristic baselines as scores [N]: chance, and each image-quality number as it is, of
    MOST_HEURISTICS at most."""
    scores = {CHANCE: np.zeros(len(dataset.photos), np.float32)}
    if IQA_BLOCK in dataset.block_columns:
        columns = dataset.block_columns[IQA_BLOCK]
        indices = dataset.column_indices([IQA_BLOCK])
        for name, index in list(zip(columns, indices, strict=True))[:MOST_HEURISTICS]:
            unique = f"{IQA_BLOCK}:{name}" if name in (CHANCE, POSITION, *REFERENCES) else name
            scores[unique] = dataset.features_ND[:, index]
    return scores


def heuristic_notes(dataset: Dataset) -> list[str]:
    """Which image-quality numbers are no baselines."""
    columns = dataset.block_columns.get(IQA_BLOCK, ())
    if len(columns) <= MOST_HEURISTICS:
        return []
    return [
        f"block '{IQA_BLOCK}' has {len(columns):,} columns: only its first {MOST_HEURISTICS} are "
        f"heuristic baselines, up to '{columns[MOST_HEURISTICS - 1]}'"
    ]


RIDGE, SIGNED_SUM = "ridge", "signed sum"
# Of these image-quality numbers more is better, on average.
BETTER_WHEN_HIGHER = ("sharpness", "exposure", "colorfulness")
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
