"""Projection of many features to a few inputs, without using the labels.

Axis letters: N photos, D features, K inputs, G groups.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse

MOST_COMPONENTS = 64
# With more photos and more features than the first number, the components come from a sample of the
# photos: exact components take time that grows with the cube.
_MOST_EXACT, _SAMPLE = 2048, 1024
# Columns, and rows, processed at a time as 64-bit numbers. Photos that fit into one chunk of rows
# are summed in the same order as without chunks.
_COLUMNS_AT_ONCE, _SHARE_AT_ONCE = 64, 16
_ROWS_AT_ONCE = 1 << 15


def components(
    features_ND: np.ndarray, block_columns: Mapping[str, Sequence[str]], group_N: np.ndarray
) -> np.ndarray:
    """Projects many features to a few inputs, without using the labels.

    In each block, deviations from the group's mean are divided by their standard deviation. A wide
    block is reduced to its first MOST_COMPONENTS principal components. Each block is then divided
    by a constant, so that its squares sum to 1 per photo on average. Permuting rows inside groups
    permutes the result and changes nothing else, as long as the components are computed from all
    photos.

    Args:
      features_ND: features of all photos.
      block_columns: columns of each block, in the order of D.
      group_N: group of each photo, from 0.

    Returns:
      float32 [N, K]; K is 0 where no column varies inside a group.
    """
    membership_GN = scipy.sparse.csr_array(
        (np.ones(len(group_N)), (group_N, np.arange(len(group_N)))),
    )
    count_G = np.bincount(group_N, minlength=membership_GN.shape[0])
    pieces, start = [np.zeros((len(group_N), 0), np.float32)], 0
    for columns in block_columns.values():
        scaled = _Deviations(
            features_ND[:, start : start + len(columns)], membership_GN, count_G, group_N
        )
        start += len(columns)
        if scaled.width:
            piece = _principal(scaled)
            pieces.append(piece / np.sqrt(np.mean(np.sum(piece**2, axis=1))))
    return np.concatenate(pieces, axis=1) if len(pieces) > 2 else pieces[-1]


class _Deviations:
    """Standardised deviations from the group's mean, of the columns that vary.

    Rows are computed on access.

    Attributes:
      width: number of columns that vary.
    """

    def __init__(
        self,
        features_ND: np.ndarray,
        membership_GN: scipy.sparse.csr_array,
        count_G: np.ndarray,
        group_N: np.ndarray,
    ):
        self._features_ND, self._group_N = features_ND, group_N
        self._mean_GD = np.empty((len(count_G), features_ND.shape[1]))
        self._spread_D = np.empty(features_ND.shape[1])
        for start, end in _column_runs(features_ND.shape[1]):
            # Sums of 32-bit numbers are exact in 64 bits: a constant column's deviation is zero.
            values = features_ND[:, start:end].astype(np.float64, order="C")
            mean_GD = (membership_GN @ values) / np.maximum(count_G, 1)[:, None]
            values -= mean_GD if len(mean_GD) == 1 else mean_GD[group_N]
            np.multiply(values, values, out=values)
            self._mean_GD[:, start:end] = mean_GD
            self._spread_D[start:end] = np.sqrt(np.mean(values, axis=0))
        self._varies_D = self._spread_D > 0
        self.width = int(np.count_nonzero(self._varies_D))

    def __len__(self) -> int:
        return len(self._features_ND)

    def rows(self, rows: Any) -> np.ndarray:
        """Deviations of some photos, float32 [photos, width]."""
        values = self._features_ND[rows].astype(np.float64, order="C")
        values -= self._mean_GD[self._group_N[rows]]
        if not self._varies_D.all():
            values = values[:, self._varies_D]
        values /= self._spread_D[self._varies_D]
        return np.ascontiguousarray(values, np.float32)

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields all photos in chunks: their slice, and their rows."""
        for start in range(0, len(self), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            yield some, self.rows(some)


def _column_runs(num_columns: int) -> list[tuple[int, int]]:
    """Splits columns into runs of nearly equal width.

    No run has a single column, unless there is only one: NumPy sums a single column in another
    order than the columns of a table.
    """
    width = min(_COLUMNS_AT_ONCE, max(4, num_columns // _SHARE_AT_ONCE))
    bounds = np.linspace(0, num_columns, -(-num_columns // width) + 1).astype(int).tolist()
    return list(itertools.pairwise(bounds))


def _principal(scaled: _Deviations) -> np.ndarray:
    """Computes the first principal components, or returns all columns if there are no more.

    The components come from the products of photos or of features, whichever are fewer. Their signs
    are arbitrary. With fewer photos than components, the last components are zero.
    """
    num_photos, width = len(scaled), scaled.width
    if width <= MOST_COMPONENTS:
        return _projected(scaled, None)
    if width <= min(num_photos, _MOST_EXACT):
        products_DD = np.zeros((width, width), np.float32)
        for _, rows_ND in scaled.chunks():
            products_DD += rows_ND.T @ rows_ND
        _, vectors_DK = _largest(products_DD)
        return _projected(scaled, vectors_DK)
    if num_photos <= _MOST_EXACT:
        scaled_ND = scaled.rows(slice(None))
        squares_K, vectors_NK = _largest(scaled_ND @ scaled_ND.T)
        found_NK = vectors_NK * np.sqrt(np.maximum(squares_K, 0))
        return np.pad(found_NK, ((0, 0), (MOST_COMPONENTS - found_NK.shape[1], 0)))
    sample_ND = scaled.rows(np.linspace(0, num_photos - 1, _SAMPLE, dtype=np.int64))
    squares_K, vectors_NK = _largest(sample_ND @ sample_ND.T)
    scale_K = np.sqrt(np.maximum(squares_K, np.finfo(np.float32).tiny))
    return _projected(scaled, sample_ND.T @ (vectors_NK / scale_K))


def _projected(scaled: _Deviations, vectors_DK: np.ndarray | None) -> np.ndarray:
    """Projects all rows onto some vectors, or returns them unchanged, float32 [N, K]."""
    width = scaled.width if vectors_DK is None else vectors_DK.shape[1]
    found_NK = np.empty((len(scaled), width), np.float32)
    for some, rows_ND in scaled.chunks():
        found_NK[some] = rows_ND if vectors_DK is None else rows_ND @ vectors_DK
    return found_NK


def _largest(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues of a symmetric matrix, and their vectors; at most MOST_COMPONENTS."""
    size = len(products)
    found = scipy.linalg.eigh(products, subset_by_index=(max(0, size - MOST_COMPONENTS), size - 1))
    return found[0], found[1]
