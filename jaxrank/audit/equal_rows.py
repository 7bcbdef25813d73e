"""Groups of photos whose rows are equal.

Axis letters: N photos, D columns.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

# A vector is shared by many photos from this share of all photos, and from this number of photos,
# on; two copies of a photo are fewer.
SHARED_SHARE = 0.01
FEWEST_SHARED = 5
_ROWS_AT_ONCE = 1 << 14


def row_chunks(num_rows: int) -> Iterator[slice]:
    """Yields slices of rows, so that the whole array need not be copied at once."""
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        yield slice(start, min(start + _ROWS_AT_ONCE, num_rows))


def group_rows(
    values_ND: np.ndarray, photos: np.ndarray | None = None, columns: np.ndarray | None = None
) -> np.ndarray:
    """Numbers the groups of photos with equal rows, int [N].

    Args:
      values_ND: numbers of all photos.
      photos, columns: photos and columns that are compared; by default all.
    """
    photos = np.arange(len(values_ND)) if photos is None else photos
    digests = []
    for some in row_chunks(len(photos)):
        rows_ND = values_ND[photos[some]]
        if columns is not None:
            rows_ND = rows_ND[:, columns]
        rows_ND = np.ascontiguousarray(rows_ND) + 0.0  # minus zero becomes zero
        # A 128-bit hash replaces each row; equal hashes of different rows are practically
        # impossible.
        digests += [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows_ND]
    group_N, _ = pd.factorize(np.array(digests, object))
    return group_N


def shared_size(num_photos: int) -> float:
    """Number of photos from which a vector counts as shared by many."""
    return max(FEWEST_SHARED, SHARED_SHARE * num_photos)
