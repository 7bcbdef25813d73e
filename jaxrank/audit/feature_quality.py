"""What is wrong with the features whatever the labels are.

That a photo stands in two series is refused where pairs are read.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.audit.case import AuditCase, CheckResult
from jaxrank.data.dataset import Dataset

# A number is called clipped where at least this share of the photos sits at its end.
_CLIPPED_SHARE = 0.01
# So many at least: the last of a hundred photos is a hundredth of them.
_FEWEST_CLIPPED = 5
# With fewer values it is a count or a category, and its ends are values like others.
_FEWEST_VALUES = 20
_MOST_EXAMPLES = 5
# Clipped columns that are listed.
_MOST_LISTED = 5


class Clipped(NamedTuple):
    """A column of which many photos have the lowest or the highest value.

    Attributes:
      column: as `block:column`.
      value: that they share.
      is_highest: whether it is the column's highest value, or its lowest.
      photo_share: of all photos.
      tied_share: of all pairs, those that tie on it: both photos have it.
    """

    column: str
    value: float
    is_highest: bool
    photo_share: float
    tied_share: float


class DuplicatedRows(NamedTuple):
    """Photos whose features are all equal to another photo's.

    Attributes:
      num_photos: of such photos, each counted.
      num_pairs: that compare two photos of equal features, which no scorer can tell apart.
      num_across: photos whose features are equal to those of a photo of another series.
      examples: names of two photos with equal features.
    """

    num_photos: int
    num_pairs: int
    num_across: int
    examples: tuple[tuple[str, str], ...]


class Hygiene(NamedTuple):
    """Attributes:
    constant: columns as `block:column` that have one value.
    clipped: the most photos first.
    duplicated: rows of features.
    """

    constant: tuple[str, ...]
    clipped: tuple[Clipped, ...]
    duplicated: DuplicatedRows


def inspect_features(dataset: Dataset) -> Hygiene:
    names = [f"{block}:{c}" for block, columns in dataset.block_columns.items() for c in columns]
    lowest_D, highest_D = dataset.features_ND.min(axis=0), dataset.features_ND.max(axis=0)
    constant_D = lowest_D == highest_D
    clipped = [
        *_clipped(dataset, names, lowest_D, ~constant_D, is_highest=False),
        *_clipped(dataset, names, highest_D, ~constant_D, is_highest=True),
    ]
    return Hygiene(
        constant=tuple(names[d] for d in np.flatnonzero(constant_D)),
        clipped=tuple(sorted(clipped, key=lambda c: -c.photo_share)),
        duplicated=_duplicated(dataset),
    )


def _clipped(
    dataset: Dataset, names: list[str], end_D: np.ndarray, varies_D: np.ndarray, *, is_highest: bool
) -> list[Clipped]:
    at_end_ND = dataset.features_ND == end_D
    share_D = at_end_ND.mean(axis=0)
    many_D = at_end_ND.sum(axis=0) >= np.maximum(_FEWEST_CLIPPED, _CLIPPED_SHARE * len(at_end_ND))
    found = []
    for d in np.flatnonzero(varies_D & many_D):
        if len(np.unique(dataset.features_ND[:, d])) >= _FEWEST_VALUES:
            tied = at_end_ND[:, d][dataset.pair_rows_M2].all(axis=1)
            share, tied_share = float(share_D[d]), float(tied.mean())
            found.append(Clipped(names[d], float(end_D[d]), is_highest, share, tied_share))
    return found


def _duplicated(dataset: Dataset) -> DuplicatedRows:
    values_ND = np.ascontiguousarray(dataset.features_ND) + 0.0  # minus zero becomes zero
    group_N, groups = pd.factorize(np.array([row.tobytes() for row in values_ND], object))
    series_N = np.zeros(len(group_N), np.int64)
    series_N[dataset.pair_rows_M2] = dataset.series_M[:, None]
    in_group_N = np.bincount(group_N)[group_N]
    # A group lies across series where its photos have more than one.
    group_series = np.unique(np.stack([group_N, series_N]), axis=1)[0]
    across_N = np.bincount(group_series, minlength=len(groups))[group_N] > 1
    group_M2 = group_N[dataset.pair_rows_M2]
    by_group = np.argsort(group_N, kind="stable")
    same = np.flatnonzero(group_N[by_group][1:] == group_N[by_group][:-1])[:_MOST_EXAMPLES]
    examples = tuple(
        (str(dataset.photos[by_group[i]]), str(dataset.photos[by_group[i + 1]])) for i in same
    )
    return DuplicatedRows(
        num_photos=int((in_group_N > 1).sum()),
        num_pairs=int((group_M2[:, 0] == group_M2[:, 1]).sum()),
        num_across=int(across_N.sum()),
        examples=examples,
    )


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Evidence only: what is wrong with the features whatever the labels are."""
    del earlier
    if not case.seconds_left:
        return CheckResult(evidence=("Features: not looked at, for want of time.",))
    found = inspect_features(case.data.dataset)
    return CheckResult(evidence=tuple(_evidence(found)), facts=found)


def _evidence(found: Hygiene) -> list[str]:
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
    lines += _of_duplicates(found.duplicated)
    return lines


def _of_duplicates(found: DuplicatedRows) -> Sequence[str]:
    if not found.num_photos:
        return []
    first, second = found.examples[0]
    return [
        f"Features: {found.num_photos:,} photos have exactly another photo's features, such as "
        f"'{first}' and '{second}'; {found.num_pairs:,} pairs compare two such photos, and "
        f"{found.num_across:,} of the photos share them with another series."
    ]
