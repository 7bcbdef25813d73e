"""Check for a column that orders the pairs too well to be a measurement.

A column made from the preferences orders nearly all pairs. The best of the real image-quality
numbers orders 57%, and a trained model of four of them 59%. Published networks reach 75% on pairs
without close calls.

Axis letters: M pairs with a direction, D columns, S series.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxrank import statistics
from jaxrank.audit.case import TOO_FEW_PAIRS, UNVERIFIED, WARN, AuditCase, CheckResult, out_of_time
from jaxrank.audit.permutation_test import MOST_PAIRS
from jaxrank.data.dataset import Dataset

# A column is too good where the lower end of its interval is above this share of the pairs.
MOST_ACCURACY = 0.85
# 95% interval. For a column that orders all pairs, it is above the limit from 22 series on. With 22
# series, one of 20,000 columns would order all pairs by chance in one data set of a hundred.
_INTERVAL_Z = 1.96
_COLUMNS_AT_ONCE = 64
_MOST_EXAMPLES = 5


class ColumnAccuracy(NamedTuple):
    """Share of the pairs that a column orders.

    Attributes:
      column: name as `block:column`.
      accuracy: accuracy in the better direction; a tie counts one half.
      low: lower end of its interval.
    """

    column: str
    accuracy: float
    low: float


class TargetLeakage(NamedTuple):
    """Accuracies of single columns.

    Attributes:
      num_pairs, num_series: number of pairs with a direction, at most MOST_PAIRS, and of their
        series.
      num_columns: D.
      best: columns that order the most pairs, the best first.
      highest_low: lower end of the interval of a column that orders every pair.
    """

    num_pairs: int
    num_series: int
    num_columns: int
    best: tuple[ColumnAccuracy, ...]
    highest_low: float


def measure_columns(dataset: Dataset) -> TargetLeakage:
    """Measures the share of the pairs that each column orders.

    Intervals are Wilson's (1927). Their number of observations is the number of independent pairs
    that has the same standard error as these pairs have over series. It is at least Kish's (1965)
    effective number of series, in which series with more pairs weigh more.
    """
    directed = np.flatnonzero(dataset.preference_M != 0.5)
    if len(directed) > MOST_PAIRS:
        directed = np.sort(np.random.default_rng(0).choice(directed, MOST_PAIRS, replace=False))
    width = dataset.features_ND.shape[1]
    if not len(directed):
        return TargetLeakage(0, 0, width, (), 0.0)
    pairs_S = np.unique(dataset.series_M[directed], return_counts=True)[1]
    effective = float(pairs_S.sum()) ** 2 / float((pairs_S.astype(np.float64) ** 2).sum())
    accuracy_D = 0.5 + 0.5 * np.abs(_net_hits(dataset, directed))
    names = [f"{block}:{c}" for block, columns in dataset.block_columns.items() for c in columns]
    best = np.argsort(-accuracy_D, kind="stable")[:_MOST_EXAMPLES]
    return TargetLeakage(
        num_pairs=len(directed),
        num_series=len(pairs_S),
        num_columns=width,
        best=tuple(
            ColumnAccuracy(
                names[d],
                float(accuracy_D[d]),
                _lower_end(dataset, directed, d, float(accuracy_D[d]), effective),
            )
            for d in best
        ),
        highest_low=_wilson_low(1.0, effective, _INTERVAL_Z),
    )


def _net_hits(dataset: Dataset, pairs: np.ndarray) -> np.ndarray:
    """Share of pairs that each column orders right, minus the share that it orders wrong, [D]."""
    rows_a, rows_b = dataset.pair_rows_M2[pairs].T
    preferred_M = np.sign(dataset.preference_M[pairs] - 0.5)
    net = []
    photos, (rows_a, rows_b) = _compact_rows(rows_a, rows_b)
    for start in range(0, dataset.features_ND.shape[1], _COLUMNS_AT_ONCE):
        # Copies these columns once: gathering from all columns would read far more memory.
        values_ND = dataset.features_ND[photos, start : start + _COLUMNS_AT_ONCE]
        a_MD, b_MD = values_ND[rows_a], values_ND[rows_b]
        sign_MD = (a_MD > b_MD).astype(np.float32) - (a_MD < b_MD)
        net.append(preferred_M @ sign_MD)
    return np.asarray(np.concatenate(net) / len(pairs))


def _compact_rows(*rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows among some arrays of rows, and the index of each row among them.

    The indices have the shape of the arrays.
    """
    distinct, places = np.unique(np.stack(rows), return_inverse=True)
    return distinct, places.reshape(len(rows), -1)


def _lower_end(
    dataset: Dataset, pairs: np.ndarray, column: int, accuracy: float, effective: float
) -> float:
    """Lower end of the interval of a column's accuracy."""
    a_M, b_M = dataset.features_ND[dataset.pair_rows_M2[pairs], column].T
    hits_M = 0.5 + 0.5 * np.sign(a_M - b_M) * np.sign(dataset.preference_M[pairs] - 0.5)
    # An inverted column has the same error.
    error, _, _ = statistics.clustered_error(hits_M, np.ones(len(hits_M)), dataset.series_M[pairs])
    number = accuracy * (1 - accuracy) / error**2 if error > 0 else 0.0
    return _wilson_low(accuracy, max(effective, min(number, len(pairs))), _INTERVAL_Z)


def _wilson_low(accuracy: float, number: float, z: float) -> float:
    """Lower end of Wilson's interval of a share of `number` observations."""
    middle = accuracy + z**2 / (2 * number)
    half = z * np.sqrt(accuracy * (1 - accuracy) / number + z**2 / (4 * number**2))
    return float((middle - half) / (1 + z**2 / number))


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Checks for a column that orders the pairs too well to be a measurement."""
    del earlier
    if not case.seconds_left:
        return out_of_time("Target leakage")
    found = measure_columns(case.data.dataset)
    return dataclasses.replace(_judge(found), evidence=(_evidence(found),), facts=found)


def _judge(found: TargetLeakage) -> CheckResult:
    if found.highest_low <= MOST_ACCURACY:
        return CheckResult(
            verdict=UNVERIFIED,
            label=TOO_FEW_PAIRS,
            headline="Too few pairs to tell whether a column was made from the preferences: one "
            "that orders every pair could do so by chance.",
            advice="See how each column was made.",
        )
    best = found.best[0]
    if best.low <= MOST_ACCURACY:
        return CheckResult()
    return CheckResult(
        verdict=WARN,
        label="target leakage in a column",
        headline=f"Target leakage: column {best.column} alone orders "
        f"{100 * best.accuracy:.1f}% of the pairs.",
        advice="See whether this column was made from the preferences; if so, leave it out.",
    )


def _evidence(found: TargetLeakage) -> str:
    if not found.best:
        return "Single columns: no pair has a direction."
    best = found.best[0]
    return (
        f"Single columns: the best of {found.num_columns:,}, {best.column}, orders "
        f"{100 * best.accuracy:.1f}% of {found.num_pairs:,} pairs of {found.num_series:,} series "
        f"(lower end of its 95% interval {100 * best.low:.1f}%; target leakage above "
        f"{100 * MOST_ACCURACY:.0f}%)."
    )
