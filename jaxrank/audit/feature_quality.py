"""Check for faults of the features that do not depend on the labels.

A photo in two series is rejected when pairs are read.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxrank.audit.case import NO_VERDICT, AuditCase, CheckResult, out_of_time
from jaxrank.audit.equal_rows import row_chunks
from jaxrank.data.dataset import Dataset

# A column is clipped where at least this share of the photos has its lowest or highest value.
_CLIPPED_SHARE = 0.01
# At least this number of photos must share the value: among a hundred photos, a single photo is a
# hundredth.
_FEWEST_CLIPPED = 5
# A column with fewer distinct values is a count or a category, whose ends are ordinary values.
_FEWEST_VALUES = 20
# Most clipped columns in the evidence.
_MOST_LISTED = 5


class Clipped(NamedTuple):
    """Column of which many photos have the lowest or the highest value.

    Attributes:
      column: name as `block:column`.
      value: value that these photos share.
      is_highest: whether the value is the column's highest, rather than its lowest.
      photo_share: share of all photos with the value.
      tied_share: share of all pairs whose photos both have the value.
    """

    column: str
    value: float
    is_highest: bool
    photo_share: float
    tied_share: float


class FeatureQuality(NamedTuple):
    """Constant and clipped columns.

    Attributes:
      constant: names, as `block:column`, of the columns with a single value.
      clipped: clipped columns, those with the most photos first.
    """

    constant: tuple[str, ...]
    clipped: tuple[Clipped, ...]


def inspect_features(dataset: Dataset) -> FeatureQuality:
    names = [f"{block}:{c}" for block, columns in dataset.block_columns.items() for c in columns]
    lowest_D, highest_D = dataset.features_ND.min(axis=0), dataset.features_ND.max(axis=0)
    constant_D = lowest_D == highest_D
    clipped = [
        *_clipped(dataset, names, lowest_D, ~constant_D, is_highest=False),
        *_clipped(dataset, names, highest_D, ~constant_D, is_highest=True),
    ]
    return FeatureQuality(
        constant=tuple(names[d] for d in np.flatnonzero(constant_D)),
        clipped=tuple(sorted(clipped, key=lambda c: -c.photo_share)),
    )


def _clipped(
    dataset: Dataset, names: list[str], end_D: np.ndarray, varies_D: np.ndarray, *, is_highest: bool
) -> list[Clipped]:
    features_ND = dataset.features_ND
    number_D = np.zeros(len(end_D), np.int64)
    for rows in row_chunks(len(features_ND)):
        number_D += np.count_nonzero(features_ND[rows] == end_D, axis=0)
    many_D = number_D >= max(_FEWEST_CLIPPED, _CLIPPED_SHARE * len(features_ND))
    found = []
    for d in np.flatnonzero(varies_D & many_D):
        if len(np.unique(features_ND[:, d])) >= _FEWEST_VALUES:
            tied = (features_ND[:, d] == end_D[d])[dataset.pair_rows_M2].all(axis=1)
            share, tied_share = float(number_D[d] / len(features_ND)), float(tied.mean())
            found.append(Clipped(names[d], float(end_D[d]), is_highest, share, tied_share))
    return found


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Reports constant and clipped columns, as evidence without a verdict."""
    del earlier
    if not case.seconds_left:
        return out_of_time("Feature quality")
    found = inspect_features(case.data.dataset)
    return CheckResult(verdict=NO_VERDICT, evidence=tuple(_evidence(found)), facts=found)


def _evidence(found: FeatureQuality) -> list[str]:
    lines = []
    if found.constant:
        lines.append(
            f"Features: {len(found.constant):,} columns never vary, such as {found.constant[0]}."
        )
    for clip in found.clipped[:_MOST_LISTED]:
        end = "highest" if clip.is_highest else "lowest"
        lines.append(
            f"Features: {clip.column} is clipped: {100 * clip.photo_share:.0f}% of the photos have "
            f"its {end} value, {clip.value:g}, and {100 * clip.tied_share:.0f}% of the pairs tie "
            "on it."
        )
    return lines
