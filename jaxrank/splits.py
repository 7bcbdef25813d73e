"""Splits and folds by series: no series ever stands on two sides."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxrank.errors import UserError

TRAIN, VALIDATION, TEST = 0, 1, 2
PART_NAMES = ("train", "val", "test")
SPLIT_SEED = 42


def split_series(
    series_ids: Sequence[str] | np.ndarray, *, folds: int = 0, split_seed: int = SPLIT_SEED
) -> np.ndarray:
    """Deals series to parts.

    Series are ranked by a hash of the split seed and their id, and cut by rank. Without folds 80%
    train (rounded down), 10% validation (rounded down) and the rest test. With K folds, fold k is
    tested by the model of fold k, fold k+1 (mod K) validates it and the others train it, so every
    series is tested once.

    Because a series' rank depends on its own id, losing or adding a few series moves only those
    near a cut: test series of one run do not train another.

    Args:
      series_ids: distinct, in any order.
      folds: 0 for one split, else K >= 3.
      split_seed: any seed.

    Returns:
      int8 [max(folds, 1), series] of TRAIN, VALIDATION, TEST.
    """
    num_series = len(series_ids)
    if folds and folds < 3:
        raise UserError(
            f"--folds={folds}: give at least 3 (one fold tests, one validates, the rest train), "
            "or 0 for one 80/10/10 split"
        )
    least = folds or 10
    if num_series < least:
        raise UserError(
            f"only {num_series} series: "
            + (f"--folds={folds} needs {folds}" if folds else "an 80/10/10 split needs 10")
            + ("; use fewer folds" if folds > 3 else "")
        )
    digests = [
        hashlib.sha256(f"{split_seed}\n{series_id}".encode()).digest() for series_id in series_ids
    ]
    rank = np.empty(num_series, int)
    rank[sorted(range(num_series), key=digests.__getitem__)] = np.arange(num_series)
    parts = np.full((max(folds, 1), num_series), TRAIN, np.int8)
    if folds:
        fold = rank * folds // num_series
        for k in range(folds):
            parts[k, fold == k] = TEST
            parts[k, fold == (k + 1) % folds] = VALIDATION
    else:
        num_train, num_val = int(0.8 * num_series), int(0.1 * num_series)
        parts[0, rank >= num_train] = VALIDATION
        parts[0, rank >= num_train + num_val] = TEST
    return parts


def split_table(parts: np.ndarray, series_ids: np.ndarray) -> pd.DataFrame:
    """The rows of `splits.csv`: `series_id,fold,split`."""
    num_folds, num_series = parts.shape
    return pd.DataFrame(
        {
            "series_id": np.tile(series_ids, num_folds),
            "fold": np.repeat(np.arange(num_folds), num_series),
            "split": np.array(PART_NAMES)[parts.ravel()],
        }
    )
