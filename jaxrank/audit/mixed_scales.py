"""Check for columns measured in two units.

If some photos are measured in another unit, a column's absolute values form two groups of the same
shape. The groups are a well-known factor apart, with a gap between them. Heavy tails have no gap.
Bimodal data have two shapes, or another factor. Counts and categories have few values.

Limits: two natural groups of the same shape that happen to be such a factor apart look the same.
For numbers around zero, a smaller unit on few photos cannot be detected: the smallest numbers of
the other photos fill the gap.

Axis letters: N photos, D columns.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxrank.audit.case import TOO_FEW_PHOTOS, UNVERIFIED, WARN, AuditCase, CheckResult, out_of_time
from jaxrank.data.dataset import Dataset

# Factors of common units: percent, 8 bits, per mille, 10^4, 16 bits, a million.
FACTORS = (100.0, 255.0, 1e3, 1e4, 65535.0, 1e6)
# Each group must have at least this number of photos, and of distinct values: fewer values are a
# category.
_FEWEST_PHOTOS = 40
_FEWEST_VALUES = 20
# Each group must also have at least this share of the photos.
_LEAST_SHARE = 0.05
# Gap: the middle third between the groups' medians contains at most this share of the smaller
# group.
_GAP_SHARE = 0.15
# Same shape: the two distribution functions, one shifted by the factor, differ by at most this much
# beyond the critical value of the Kolmogorov-Smirnov test at 1%. The groups of numbers around zero
# overlap a little.
_OVERLAP = 0.03
_KS_CRITICAL = 1.63
# Factor: the ratio of the groups' medians differs from it by at most this much, as a logarithm,
# beyond two standard errors. With a larger standard error than the second limit, the finding is not
# sure.
_FACTOR_TOLERANCE = 0.1
_LARGEST_ERROR = 0.06
_MOST_PHOTOS = 5_000


class MixedColumn(NamedTuple):
    """Column of which a part seems to be measured in another unit.

    Attributes:
      column: name as `block:column`.
      factor: one of FACTORS.
      share: share of the photos with the larger numbers.
      is_sure: whether there are enough photos to distinguish the factor from others.
      example: name of a photo with a larger number.
    """

    column: str
    factor: float
    share: float
    is_sure: bool
    example: str


class TwoScales(NamedTuple):
    """Two groups of numbers of the same shape.

    Attributes:
      factor: one of FACTORS.
      larger_N: whether each number is in the larger group.
      is_sure: see `MixedColumn`.
    """

    factor: float
    larger_N: np.ndarray
    is_sure: bool


class MixedScales(NamedTuple):
    """Columns measured in two units.

    Attributes:
      num_photos: number of photos examined, at most 5,000.
      num_columns: D.
      mixed: columns in two units, including those that are not sure.
    """

    num_photos: int
    num_columns: int
    mixed: tuple[MixedColumn, ...]


def find_mixed_scales(dataset: Dataset) -> MixedScales:
    """Looks for columns in two units, one by one."""
    photos = np.arange(len(dataset.photos))
    if len(photos) > _MOST_PHOTOS:
        photos = np.sort(np.random.default_rng(0).choice(photos, _MOST_PHOTOS, replace=False))
    size_DN = np.abs(dataset.features_ND[photos].T.astype(np.float64))
    names = [f"{block}:{c}" for block, columns in dataset.block_columns.items() for c in columns]
    mixed = []
    for name, size_N in zip(names, size_DN, strict=True):
        found = two_scales(size_N)
        if found is not None:
            share = float(found.larger_N.mean())
            example = str(dataset.photos[photos[found.larger_N][0]])
            mixed.append(MixedColumn(name, found.factor, share, found.is_sure, example))
    return MixedScales(len(photos), len(names), tuple(mixed))


def two_scales(size_N: np.ndarray) -> TwoScales | None:
    """Looks for two units in the numbers of one column; returns None where it finds one unit.

    Args:
      size_N: absolute values of the numbers; zeros have no unit and are left out.
    """
    logs = np.sort(np.log(size_N[size_N > 0]))
    fewest = max(_FEWEST_PHOTOS, int(np.ceil(_LEAST_SHARE * len(size_N))))
    if len(logs) < 2 * fewest:
        return None
    cut = _two_groups(logs, fewest)
    low, high = logs[:cut], logs[cut:]
    if min(len(np.unique(low)), len(np.unique(high))) < _FEWEST_VALUES:
        return None
    middle_low, middle_high = float(np.median(low)), float(np.median(high))
    distance = middle_high - middle_low
    third = distance / 3
    between = (logs > middle_low + third) & (logs < middle_high - third)
    if between.sum() > _GAP_SHARE * min(len(low), len(high)):
        return None
    factor = min(FACTORS, key=lambda factor: abs(np.log(factor) - distance))
    error = np.hypot(_median_error(low), _median_error(high))
    if abs(np.log(factor) - distance) > _FACTOR_TOLERANCE + 2 * error:
        return None
    limit = _OVERLAP + _KS_CRITICAL * np.sqrt(1 / len(low) + 1 / len(high))
    if _largest_difference(low + np.log(factor), high) > limit:
        return None
    larger_N = size_N > np.exp((middle_low + middle_high) / 2)
    return TwoScales(factor, larger_N, bool(error <= _LARGEST_ERROR))


def _two_groups(sorted_N: np.ndarray, fewest: int) -> int:
    """Index that splits sorted numbers into two groups of the least inner variance (Otsu 1979)."""
    count = np.arange(1, len(sorted_N))
    total = np.cumsum(sorted_N)
    low, high = total[:-1] / count, (total[-1] - total[:-1]) / (len(sorted_N) - count)
    between = count * (len(sorted_N) - count) * (high - low) ** 2
    allowed = between[fewest - 1 : len(sorted_N) - fewest]
    return int(np.argmax(allowed)) + fewest


def _median_error(values: np.ndarray) -> float:
    """Standard error of the median of normal numbers, whose spread is estimated by quartiles."""
    lower, upper = np.quantile(values, [0.25, 0.75])
    return float(np.sqrt(np.pi / 2) * (upper - lower) / 1.349 / np.sqrt(len(values)))


def _largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference of two distribution functions; both samples are sorted."""
    values = np.concatenate([one, other])
    below_one = np.searchsorted(one, values, side="right") / len(one)
    below_other = np.searchsorted(other, values, side="right") / len(other)
    return float(np.abs(below_one - below_other).max())


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Checks for columns measured in two units."""
    del earlier
    if not case.seconds_left:
        return out_of_time("Mixed scales")
    found = find_mixed_scales(case.data.dataset)
    return dataclasses.replace(_judge(found), evidence=(_evidence(found),), facts=found)


def _judge(found: MixedScales) -> CheckResult:
    sure = [column for column in found.mixed if column.is_sure]
    if sure:
        first = sure[0]
        more = f"; so do {len(sure) - 1:,} further columns" if len(sure) > 1 else ""
        return CheckResult(
            verdict=WARN,
            label="two scales in one column",
            headline=f"Two scales in one column: in {first.column} {100 * first.share:.0f}% of the "
            f"photos, such as '{first.example}', have numbers {first.factor:,g} times as large as "
            f"the others{more}.",
            advice="Measure all photos in one unit.",
        )
    if found.mixed or found.num_photos < 2 * _FEWEST_PHOTOS:
        return CheckResult(
            verdict=UNVERIFIED,
            label=TOO_FEW_PHOTOS,
            headline="Too few photos to tell whether a column is measured in two units.",
            advice="Look at the features of a few photos by eye.",
        )
    return CheckResult()


def _evidence(found: MixedScales) -> str:
    if not found.mixed:
        return (
            f"Scales: none of {found.num_columns:,} columns has two groups of numbers of one shape "
            "that are a change of unit apart."
        )
    listed = "; ".join(
        f"{column.column} (factor {column.factor:,g}, {100 * column.share:.0f}% of the photos"
        f"{')' if column.is_sure else ', too few to be sure)'}"
        for column in found.mixed[:5]
    )
    return f"Scales: numbers in two units in {len(found.mixed):,} columns: {listed}."
