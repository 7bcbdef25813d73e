"""Scorers that nothing was trained for: chance, position and the image-quality
heuristics. NumPy only."""

import numpy as np

from jaxrank.configs import REFERENCES
from jaxrank.data.dataset import Dataset

CHANCE, POSITION = "chance", "position"
IQA_BLOCK = "iqa"


def heuristic_scores(dataset: Dataset) -> dict[str, np.ndarray]:
    """The one-line rules as scores [N]: chance, and each image-quality number as it is."""
    scores = {CHANCE: np.zeros(len(dataset.photos), np.float32)}
    if IQA_BLOCK in dataset.block_columns:
        columns = dataset.block_columns[IQA_BLOCK]
        for name, index in zip(columns, dataset.column_indices([IQA_BLOCK]), strict=True):
            unique = f"{IQA_BLOCK}:{name}" if name in (CHANCE, POSITION, *REFERENCES) else name
            scores[unique] = dataset.features_ND[:, index]
    return scores
