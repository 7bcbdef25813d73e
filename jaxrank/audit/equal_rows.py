"""Photos whose numbers are all the same.

Axis letters: N photos, D columns.
"""

import numpy as np
import pandas as pd

# A vector is shared by many photos where at least this share of all photos and as many photos have
# it; two copies of a photo are no such thing.
SHARED_SHARE = 0.01
FEWEST_SHARED = 5


def group_rows(values_ND: np.ndarray) -> np.ndarray:
    """A number for each photo, int [N], that photos with equal rows have in common."""
    rows_ND = np.ascontiguousarray(values_ND) + 0.0  # minus zero becomes zero
    group_N, _ = pd.factorize(np.array([row.tobytes() for row in rows_ND], object))
    return group_N


def shared_size(num_photos: int) -> float:
    """How many photos must have a vector for it to be shared by many."""
    return max(FEWEST_SHARED, SHARED_SHARE * num_photos)
