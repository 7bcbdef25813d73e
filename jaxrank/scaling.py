"""Scaling of a photo's numbers to model inputs: normal scores, then standardisation.

Axis letters: N photos, D columns, J columns with normal scores, K knots.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

# Values of the hyperparameter `input_scaling`. AUTO uses normal scores for blocks of at most
# MOST_COLUMNS columns, such as image-quality numbers, whose units and tails are arbitrary. It
# standardises embeddings, whose directions carry meaning jointly.
AUTO, STANDARD, NORMAL_SCORES = INPUT_SCALINGS = ("auto", "standard", "normal_scores")
MOST_COLUMNS = 32
# Columns fitted at a time as 64-bit numbers: at most the first number, and about one part in the
# second number of all columns. So they take a small share of the features' memory.
_COLUMNS_AT_ONCE, _SHARE_AT_ONCE = 64, 64
# At most 0.4% of the training photos, or a single value, are between two knots.
NUM_KNOTS = 256


class Scaling(NamedTuple):
    """Scaling fitted on training photos; saved with the model.

    Attributes:
      mean_D, inv_std_D: float32 mean and 1/standard deviation after the normal scores; see
        `fit_scaling`.
      columns_J: int32, columns that become normal scores.
      knots_JK: float32, values of those columns, increasing; with fewer than NUM_KNOTS distinct
        values, the last is repeated.
      scores_JK: float32, normal scores of these values.
    """

    mean_D: np.ndarray
    inv_std_D: np.ndarray
    columns_J: np.ndarray
    knots_JK: np.ndarray
    scores_JK: np.ndarray

    def normal_scores(self, raw_ND: np.ndarray) -> np.ndarray:
        """Normal scores of the columns `columns_J`, float32 [N, J].

        They are interpolated linearly between knots and constant outside. So a photo unlike all
        training photos is no more extreme than the most extreme training photo.
        """
        scores = np.empty((len(raw_ND), len(self.columns_J)), np.float32)
        for j, column in enumerate(self.columns_J):
            scores[:, j] = np.interp(raw_ND[:, column], self.knots_JK[j], self.scores_JK[j])
        return scores

    def apply(self, raw_ND: np.ndarray) -> np.ndarray:
        """Model inputs, float32 [N, D]."""
        # The memory layout determines the order in which a product with the result is summed.
        inputs_ND = raw_ND.astype(np.float32, order="C" if len(self.columns_J) else "K")
        if len(self.columns_J):
            inputs_ND[:, self.columns_J] = self.normal_scores(raw_ND)
        inputs_ND -= self.mean_D
        inputs_ND *= self.inv_std_D
        return inputs_ND


class ScaledRows(NamedTuple):
    """Scaled inputs whose rows are computed on access."""

    raw_ND: np.ndarray
    scaling: Scaling

    def __len__(self) -> int:
        return len(self.raw_ND)

    def __getitem__(self, rows: Any) -> Any:
        return self.scaling.apply(self.raw_ND[rows])


def normal_score_columns(
    block_columns: Mapping[str, Sequence[str]], blocks: Sequence[str], input_scaling: str
) -> np.ndarray:
    """Columns that become normal scores, int32 [J], as indices into the columns of `blocks`."""
    chosen = [
        input_scaling == NORMAL_SCORES
        or (input_scaling == AUTO and len(block_columns[name]) <= MOST_COLUMNS)
        for name in blocks
        for _ in block_columns[name]
    ]
    return np.flatnonzero(chosen).astype(np.int32)


def fit_scaling(
    raw_ND: np.ndarray, train_photos: np.ndarray, columns_J: Sequence[int] | np.ndarray = ()
) -> Scaling:
    """Fits normal scores of some columns, then mean and 1/standard deviation of all columns.

    A column that does not vary over the training photos gets the factor 0: it carries no
    information there, and dividing by the deviation of rounding errors would amplify its values for
    other photos.

    Args:
      raw_ND: features, float32 or float16.
      train_photos: rows of the training photos.
      columns_J: columns that become normal scores.
    """
    columns_J = np.asarray(columns_J, np.int32)
    knots_JK, scores_JK = np.zeros((2, len(columns_J), NUM_KNOTS), np.float32)
    mean, deviation = np.zeros((2, raw_ND.shape[1]))
    for start, end in _column_runs(raw_ND.shape[1]):
        values = raw_ND[train_photos, start:end].astype(np.float64, order="C")
        for j in np.flatnonzero((columns_J >= start) & (columns_J < end)):
            column_N = values[:, columns_J[j] - start]
            knots_JK[j], scores_JK[j] = _fit_knots(column_N)
            column_N[:] = np.interp(column_N, knots_JK[j], scores_JK[j])
        # Same bits as values.mean and values.std, without the copy that std makes.
        mean[start:end] = values.mean(axis=0)
        values -= mean[start:end]
        np.multiply(values, values, out=values)
        deviation[start:end] = np.sqrt(values.mean(axis=0))
    # In 64 bits, equal 32-bit numbers have a deviation of about 1e-16 of their size. Different
    # numbers have a deviation of more than 1e-8 of their size, divided by the root of their count.
    varies = deviation > 1e-12 * np.abs(mean)
    inv_std = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    return Scaling(
        mean.astype(np.float32), inv_std.astype(np.float32), columns_J, knots_JK, scores_JK
    )


def columns_at_once(num_columns: int) -> int:
    """Largest number of columns fitted at a time, given the number of all columns."""
    return min(_COLUMNS_AT_ONCE, max(4, num_columns // _SHARE_AT_ONCE))


def _column_runs(num_columns: int) -> list[tuple[int, int]]:
    """Splits columns into runs of nearly equal width.

    No run has a single column, unless there is only one: NumPy sums a single column in another
    order than the columns of a table.
    """
    num_runs = -(-num_columns // columns_at_once(num_columns))
    bounds = np.linspace(0, num_columns, num_runs + 1).astype(int).tolist()
    return list(itertools.pairwise(bounds))


def _fit_knots(values_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits values [K] and their normal scores [K].

    A normal score is the normal quantile of the average rank, less one half, as a share of the
    photos. Equal values share a rank (a clipped number ties on its limit).
    """
    distinct, counts = np.unique(values_N, return_counts=True)
    share = (np.cumsum(counts) - counts / 2) / len(values_N)
    if len(distinct) > NUM_KNOTS:
        chosen = np.searchsorted(share, np.linspace(share[0], share[-1], NUM_KNOTS))
    else:
        chosen = np.minimum(np.arange(NUM_KNOTS), len(distinct) - 1)
    return distinct[chosen], ndtri(share[chosen])
