"""Few numbers in place of many features, without a look at the labels.

Axis letters: N photos, D features, K inputs, G groups.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.linalg
import scipy.sparse

MOST_COMPONENTS = 64
# Of more photos and more features than these, the components are those of a sample of the photos:
# the time of exact ones grows with the cube.
_MOST_EXACT, _SAMPLE = 2048, 1024
_COLUMNS_AT_ONCE = 512  # as 64-bit numbers


def components(
    features_ND: np.ndarray, block_columns: Mapping[str, Sequence[str]], group_N: np.ndarray
) -> np.ndarray:
    """Few inputs in place of many features, without a look at the labels.

    Of each block the deviations from the group's mean, divided by their standard deviation; of a
    wide block their first MOST_COMPONENTS principal components; then divided by one number, so that
    each block's squares sum to 1 a photo on average. Permuting rows inside groups permutes the
    result and changes nothing else, as long as all photos decide on the components.

    Returns:
      float32 [N, K]; K is 0 where no column varies inside a group.
    """
    membership_GN = scipy.sparse.csr_array(
        (np.ones(len(group_N)), (group_N, np.arange(len(group_N)))),
    )
    count_G = np.bincount(group_N, minlength=membership_GN.shape[0])
    pieces, start = [np.zeros((len(group_N), 0), np.float32)], 0
    for columns in block_columns.values():
        scaled_ND = _deviations(
            features_ND[:, start : start + len(columns)], membership_GN, count_G, group_N
        )
        start += len(columns)
        if scaled_ND.shape[1]:
            piece = _principal(scaled_ND)
            pieces.append(piece / np.sqrt(np.mean(np.sum(piece**2, axis=1))))
    return np.concatenate(pieces, axis=1)


def _deviations(
    features_ND: np.ndarray,
    membership_GN: scipy.sparse.csr_array,
    count_G: np.ndarray,
    group_N: np.ndarray,
) -> np.ndarray:
    """Deviations from the group's mean in standard deviations, of the columns that vary."""
    scaled = [np.zeros((len(group_N), 0), np.float32)]
    for start in range(0, features_ND.shape[1], _COLUMNS_AT_ONCE):
        # Sums of 32-bit numbers are exact in 64 bits, so a constant column's deviation is zero.
        values = features_ND[:, start : start + _COLUMNS_AT_ONCE].astype(np.float64)
        values -= ((membership_GN @ values) / np.maximum(count_G, 1)[:, None])[group_N]
        spread = np.sqrt(np.mean(values**2, axis=0))
        varies = spread > 0
        scaled.append((values[:, varies] / spread[varies]).astype(np.float32))
    return np.concatenate(scaled, axis=1)


def _principal(scaled_ND: np.ndarray) -> np.ndarray:
    """The first principal components, or all columns where these are not more.

    They come from the products of photos or from those of features, whichever are fewer; their
    signs are arbitrary. Without as many photos the last components are zero.
    """
    num_photos, width = scaled_ND.shape
    if width <= MOST_COMPONENTS:
        return scaled_ND
    if width <= min(num_photos, _MOST_EXACT):
        _, vectors_DK = _largest(scaled_ND.T @ scaled_ND)
        return np.asarray(scaled_ND @ vectors_DK)
    if num_photos <= _MOST_EXACT:
        squares_K, vectors_NK = _largest(scaled_ND @ scaled_ND.T)
        found_NK = vectors_NK * np.sqrt(np.maximum(squares_K, 0))
        return np.pad(found_NK, ((0, 0), (MOST_COMPONENTS - found_NK.shape[1], 0)))
    sample_ND = scaled_ND[np.linspace(0, num_photos - 1, _SAMPLE, dtype=np.int64)]
    squares_K, vectors_NK = _largest(sample_ND @ sample_ND.T)
    scale_K = np.sqrt(np.maximum(squares_K, np.finfo(np.float32).tiny))
    return np.asarray(scaled_ND @ (sample_ND.T @ (vectors_NK / scale_K)))


def _largest(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues of a symmetric matrix, and their vectors; at most MOST_COMPONENTS."""
    size = len(products)
    found = scipy.linalg.eigh(products, subset_by_index=(max(0, size - MOST_COMPONENTS), size - 1))
    return found[0], found[1]
