"""Photos whose numbers are all the same.

Axis letters: N photos, D columns.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

# A vector is shared by many photos where at least this share of all photos and as many photos have
# it; two copies of a photo are no such thing.
SHARED_SHARE = 0.01
FEWEST_SHARED = 5
_ROWS_AT_ONCE = 1 << 14


def row_chunks(num_rows: int) -> Iterator[slice]:
    """Slices of rows, so that no copy of all of them is made."""
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        yield slice(start, min(start + _ROWS_AT_ONCE, num_rows))


def group_rows(
    values_ND: np.ndarray, photos: np.ndarray | None = None, columns: np.ndarray | None = None
) -> np.ndarray:
    """A number for each photo, int [N], that photos with equal rows have in common.

    Args:
      values_ND: of all photos.
      photos, columns: those that are looked at; by default all.
    """
    photos = np.arange(len(values_ND)) if photos is None else photos
    digests = []
    for some in row_chunks(len(photos)):
        rows_ND = values_ND[photos[some]]
        if columns is not None:
            rows_ND = rows_ND[:, columns]
        rows_ND = np.ascontiguousarray(rows_ND) + 0.0  # minus zero becomes zero
        # 128 bits of a hash in place of a row: that two rows share them by chance is out of reach.
        digests += [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows_ND]
    group_N, _ = pd.factorize(np.array(digests, object))
    return group_N


def shared_size(num_photos: int) -> float:
    """How many photos must have a vector for it to be shared by many."""
    return max(FEWEST_SHARED, SHARED_SHARE * num_photos)
