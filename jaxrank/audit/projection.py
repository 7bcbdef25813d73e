"""Few numbers in place of many features, without a look at the labels.

Axis letters: N photos, D features, K inputs, G groups.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.linalg
import scipy.sparse

MOST_COMPONENTS = 64


def components(
    features_ND: np.ndarray, block_columns: Mapping[str, Sequence[str]], group_N: np.ndarray
) -> np.ndarray:
    """Few inputs in place of many features, without a look at the labels.

    Of each block the deviations from the group's mean, divided by their standard deviation; of a
    wide block their first MOST_COMPONENTS principal components; then divided by one number, so that
    each block's squares sum to 1 a photo on average. Permuting rows inside groups permutes the
    result and changes nothing else.

    Returns:
      float32 [N, K]; K is 0 where no column varies inside a group.
    """
    membership = scipy.sparse.csr_array(
        (np.ones(len(group_N)), (group_N, np.arange(len(group_N)))),
    )
    count_G = np.bincount(group_N, minlength=membership.shape[0])
    pieces, start = [np.zeros((len(group_N), 0), np.float32)], 0
    for columns in block_columns.values():
        # Sums of 32-bit numbers are exact in 64 bits, so a constant column's deviation is zero.
        values = features_ND[:, start : start + len(columns)].astype(np.float64)
        start += len(columns)
        values -= ((membership @ values) / np.maximum(count_G, 1)[:, None])[group_N]
        spread = np.sqrt(np.mean(values**2, axis=0))
        varies = spread > 0
        if varies.any():
            scaled = (values[:, varies] / spread[varies]).astype(np.float32)
            piece = _principal(scaled)
            pieces.append(piece / np.sqrt(np.mean(np.sum(piece**2, axis=1))))
    return np.concatenate(pieces, axis=1)


def _principal(scaled_ND: np.ndarray) -> np.ndarray:
    """The first principal components, or all columns where these are not more."""
    width = scaled_ND.shape[1]
    if width <= MOST_COMPONENTS:
        return scaled_ND
    largest = (width - MOST_COMPONENTS, width - 1)
    _, vectors = scipy.linalg.eigh(scaled_ND.T @ scaled_ND, subset_by_index=largest)
    return scaled_ND @ vectors
