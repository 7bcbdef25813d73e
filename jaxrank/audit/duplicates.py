"""Check for photos that appear under several names.

Copies have exactly equal features. Coarse numbers, such as counts, are also equal by chance: then
half of the columns are equal for far more pairs of photos than all columns are. For copies, both
halves are equal as often as the whole.

Axis letters: N photos, D columns, G groups of equal rows.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxrank.audit.case import UNVERIFIED, WARN, AuditCase, CheckResult, out_of_time
from jaxrank.audit.equal_rows import group_rows, row_chunks, shared_size
from jaxrank.data.dataset import Dataset

# Duplicates are a fault from this share of the photos, and from this number of photos, on: in the
# real data, the share is 0.05%.
_DUPLICATED_SHARE = 0.01
_FEWEST_DUPLICATED = 5
# Equal rows are due to chance where, in every halving of the columns, one half is equal this many
# times as often as all columns.
_CHANCE_RATIO = 2.0
_NUM_HALVINGS = 4
_MOST_EXAMPLES = 5


class Duplicates(NamedTuple):
    """Photos whose features are all equal to another photo's.

    Photos with a vector that many photos share are left out: `shared_vectors` judges them.

    Attributes:
      num_photos: number of all photos.
      num_duplicated: number of duplicated photos, each copy counted.
      num_pairs: number of pairs that compare two photos of equal features, which no scorer can
        separate.
      num_across: number of photos whose features equal those of a photo of another series.
      chance_ratio: number of photo pairs that are equal in half of the columns, divided by the
        number that is equal in all columns. The half with more equal pairs counts, in the halving
        where it has fewest. Infinite with fewer than two columns that vary; NaN with too few
        duplicates to judge.
      examples: names of two photos with equal features.
    """

    num_photos: int
    num_duplicated: int
    num_pairs: int
    num_across: int
    chance_ratio: float
    examples: tuple[tuple[str, str], ...]


def find_duplicates(dataset: Dataset) -> Duplicates:
    """Counts photos of equal features, inside and across series."""
    group_N = group_rows(dataset.features_ND)
    size_N = np.bincount(group_N)[group_N]
    duplicated_N = (size_N > 1) & (size_N < shared_size(len(group_N)))
    series_N = dataset.series_of_photos()
    # A group is across series where its photos have more than one series.
    group_series = np.unique(np.stack([group_N, series_N]), axis=1)[0]
    across_N = duplicated_N & (np.bincount(group_series)[group_N] > 1)
    rows_a, rows_b = dataset.pair_rows_M2.T
    same_M = (group_N[rows_a] == group_N[rows_b]) & duplicated_N[rows_a]
    by_group = np.flatnonzero(duplicated_N)
    by_group = by_group[np.argsort(group_N[by_group], kind="stable")]
    same = np.flatnonzero(group_N[by_group][1:] == group_N[by_group][:-1])[:_MOST_EXAMPLES]
    num_duplicated = int(duplicated_N.sum())
    many = num_duplicated >= max(_FEWEST_DUPLICATED, _DUPLICATED_SHARE * len(group_N))
    return Duplicates(
        num_photos=len(group_N),
        num_duplicated=num_duplicated,
        num_pairs=int(same_M.sum()),
        num_across=int(across_N.sum()),
        chance_ratio=_chance_ratio(dataset.features_ND, size_N) if many else np.nan,
        examples=tuple(
            (str(dataset.photos[by_group[i]]), str(dataset.photos[by_group[i + 1]])) for i in same
        ),
    )


def _chance_ratio(features_ND: np.ndarray, size_N: np.ndarray) -> float:
    photos = np.flatnonzero(size_N < shared_size(len(size_N)))
    varies_D = np.zeros(features_ND.shape[1], bool)
    for some in row_chunks(len(photos)):
        varies_D |= (features_ND[photos[some]] != features_ND[photos[0]]).any(axis=0)
    varying = np.flatnonzero(varies_D)
    if len(varying) < 2:
        return np.inf
    num_equal = _equal_pairs(features_ND, photos, varying)
    rng = np.random.default_rng(0)
    halvings = (np.array_split(rng.permutation(varying), 2) for _ in range(_NUM_HALVINGS))
    more = (max(_equal_pairs(features_ND, photos, half) for half in halves) for halves in halvings)
    return min(more) / num_equal


def _equal_pairs(features_ND: np.ndarray, photos: np.ndarray, columns: np.ndarray) -> int:
    """Number of pairs of some photos whose rows are equal in some columns."""
    size_G = np.bincount(group_rows(features_ND, photos, columns))
    return int((size_G * (size_G - 1) // 2).sum())


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Checks for photos that appear under several names."""
    del earlier
    if not case.seconds_left:
        return out_of_time("Duplicates")
    found = find_duplicates(case.data.dataset)
    return dataclasses.replace(_judge(found), evidence=(_evidence(found),), facts=found)


def _judge(found: Duplicates) -> CheckResult:
    if np.isnan(found.chance_ratio):
        return CheckResult()
    share = 100 * found.num_duplicated / found.num_photos
    if found.chance_ratio >= _CHANCE_RATIO:
        return CheckResult(
            verdict=UNVERIFIED,
            label="features too coarse to find duplicates",
            headline=f"{found.num_duplicated:,} photos ({share:.0f}%) have exactly another photo's "
            "features, but these are so coarse that it may be chance.",
            advice="See whether some of these photos are the same, or add finer features.",
        )
    return CheckResult(
        verdict=WARN,
        label="duplicated photos",
        headline=f"{found.num_duplicated:,} photos ({share:.0f}%) have exactly another photo's "
        f"features, {found.num_across:,} of them those of a photo of another series: the same "
        "photos appear under several names.",
        advice="Give every photo one name and one series: a copy in another series puts a photo "
        "on both sides of a split.",
    )


def _evidence(found: Duplicates) -> str:
    if not found.num_duplicated:
        return "Duplicates: no photo has exactly another photo's features."
    first, second = found.examples[0]
    chance = ""
    if np.isfinite(found.chance_ratio):
        chance = (
            f"; half of the columns are equal {found.chance_ratio:.1f} times as often as all "
            f"(chance from {_CHANCE_RATIO:g} on)"
        )
    return (
        f"Duplicates: {found.num_duplicated:,} of {found.num_photos:,} photos have exactly another "
        f"photo's features, such as '{first}' and '{second}'; {found.num_pairs:,} pairs compare "
        f"two such photos, and {found.num_across:,} of the photos share them with another "
        f"series{chance}."
    )
