"""Check for photos of different series that look like copies of each other.

A copy that was saved again has nearly the same features. Its nearest photo of another series is
then much nearer than the nearest photo of a third series. Let r be the ratio of the two distances.
Where photos spread over d dimensions, at any density, a ratio below r has probability r^d by chance
(Facco et al. 2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
information"). A photo that shares its number in a column with many others, for example where the
column is clipped, has one dimension less.

Axis letters: N photos, K inputs, B photos of one block of distances.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from jaxrank import statistics
from jaxrank.audit.case import TOO_FEW_PHOTOS, UNVERIFIED, WARN, AuditCase, CheckResult, out_of_time
from jaxrank.audit.equal_rows import shared_size
from jaxrank.audit.projection import MOST_COMPONENTS
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset

# A photo is a near duplicate if its ratio is this unlikely, and below one half.
_CHANCE = 1e-3
_LARGEST_RATIO = 0.5
# The dimension is estimated from the ratios nearest to one, which copies do not have.
_QUANTILE = 0.75
# Near duplicates are a fault from this share of the photos, and from this number of photos, on.
_NEAR_SHARE = 0.01
_FEWEST_NEAR = 5
_FEWEST_PHOTOS = 50
_PHOTOS_AT_ONCE = 512
_MOST_PHOTOS = 20_000
_MOST_EXAMPLES = 5


class NearDuplicates(NamedTuple):
    """Photos that are much nearer to a photo of one other series than to all further series.

    Exactly equal photos are not counted: `duplicates` judges them.

    Attributes:
      num_photos: number of photos examined.
      num_near: number of near duplicates among them.
      num_across_splits: number of near duplicates whose near photo is on the other side of a split,
        training or held-out, in some fold.
      dimension: d.
      largest_ratio: ratio of the two distances below which a photo with all dimensions is near.
      num_inputs: K, the number of inputs of the distances.
      examples: photo, near photo and ratio; the nearest first.
    """

    num_photos: int
    num_near: int
    num_across_splits: int
    dimension: float
    largest_ratio: float
    num_inputs: int
    examples: tuple[tuple[str, str, float], ...]


def find_near_duplicates(
    data: SplitDataset, inputs_NK: np.ndarray, should_continue: Callable[[], bool] = lambda: True
) -> NearDuplicates | None:
    """Looks for the nearest photos of other series.

    Args:
      data: pairs and their splits.
      inputs_NK: inputs of the distances, float32.
      should_continue: called before each block of distances; False ends the search.

    Returns:
      The near duplicates. None with fewer than _FEWEST_PHOTOS photos, fewer than three series or no
      inputs, or where `should_continue` returned False.
    """
    dataset = data.dataset
    series_N = dataset.series_of_photos()
    if len(series_N) < _FEWEST_PHOTOS or series_N.max() < 2 or not inputs_NK.shape[1]:
        return None
    photos, inputs_NK = _sample(inputs_NK)
    series_N = series_N[photos]
    found = _two_series(inputs_NK, series_N, should_continue)
    if found is None:
        return None
    nearest_N, ratio_N = found
    dimension = _dimension(ratio_N)
    features_ND = dataset.features_ND[photos]
    dimension_N = np.minimum(dimension, _free_columns(features_ND))
    with np.errstate(divide="ignore"):  # without a dimension no ratio is small
        limit_N = np.minimum(_LARGEST_RATIO, _CHANCE ** (1 / dimension_N))
    near = np.flatnonzero(ratio_N < limit_N)
    near = near[[(features_ND[i] != features_ND[nearest_N[i]]).any() for i in near]]
    near = near[np.argsort(ratio_N[near], kind="stable")]
    partner = photos[nearest_N[near]]
    return NearDuplicates(
        num_photos=len(photos),
        num_near=len(near),
        num_across_splits=int(_across_splits(data, photos[near], partner).sum()),
        dimension=dimension,
        largest_ratio=float(limit_N.max()),
        num_inputs=inputs_NK.shape[1],
        examples=tuple(
            (str(dataset.photos[photos[i]]), str(dataset.photos[j]), float(ratio_N[i]))
            for i, j in zip(near[:_MOST_EXAMPLES], partner, strict=False)
        ),
    )


def _sample(inputs_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples photos, and returns their rows and inputs."""
    photos = np.arange(len(inputs_NK))
    if len(photos) > _MOST_PHOTOS:
        photos = np.sort(np.random.default_rng(0).choice(photos, _MOST_PHOTOS, replace=False))
    return photos, inputs_NK[photos]


def _two_series(
    inputs_NK: np.ndarray, series_N: np.ndarray, should_continue: Callable[[], bool]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Finds the nearest photo of another series, and the ratio of two distances, for each photo.

    The ratio is of the distance to this photo and the distance to the nearest photo of a third
    series; NaN where both are zero.
    """
    square_N = np.einsum("nk,nk->n", inputs_NK, inputs_NK)
    nearest_N = np.zeros(len(inputs_NK), np.int64)
    ratio_N = np.full(len(inputs_NK), np.nan)
    for start in range(0, len(inputs_NK), _PHOTOS_AT_ONCE):
        if not should_continue():
            return None
        block = slice(start, start + _PHOTOS_AT_ONCE)
        rows_B = np.arange(len(inputs_NK))[block]
        distance_BN = square_N - 2 * inputs_NK[block] @ inputs_NK.T
        distance_BN[series_N[block, None] == series_N] = np.inf
        first_B = distance_BN.argmin(axis=1)
        distance_BN[series_N[first_B, None] == series_N] = np.inf
        third_B = distance_BN.argmin(axis=1)
        # Distances come from differences: for copies, the squares cancel to rounding errors.
        near_B, far_B = (
            np.linalg.norm(inputs_NK[rows_B] - inputs_NK[other_B], axis=1)
            for other_B in (first_B, third_B)
        )
        nearest_N[block] = first_B
        ratio_N[block] = statistics.ratio(near_B, far_B)
    return nearest_N, ratio_N


def _dimension(ratio_N: np.ndarray) -> float:
    """Dimension d for which the ratio's quantile is that of r^d."""
    known_N = ratio_N[~np.isnan(ratio_N)]
    # With rounding, or a tie, the second distance may be slightly shorter.
    quantile = float(np.quantile(known_N, _QUANTILE)) if len(known_N) else 1.0
    return float(np.log(_QUANTILE) / np.log(np.clip(quantile, 1e-6, 1 - 1e-6)))


def _free_columns(features_ND: np.ndarray) -> np.ndarray:
    """Number of columns in which each photo has a number that few others have, [N].

    With many columns all count, because some columns do not change the limit.
    """
    num_photos, width = features_ND.shape
    free_N = np.full(num_photos, width)
    if width <= MOST_COMPONENTS:
        for column_N in features_ND.T:
            _, place_N, count = np.unique(column_N, return_inverse=True, return_counts=True)
            free_N -= count[place_N] >= shared_size(num_photos)
    return free_N


def _across_splits(data: SplitDataset, photos: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Flags photos that train in a fold where the other is held out, or the reverse."""
    across = np.zeros(len(photos), bool)
    for split_M in data.splits_FM:
        trains_N, held_out_N = (
            _in_pairs(data.dataset, np.isin(split_M, chosen))
            for chosen in ((splits.TRAIN,), (splits.VALIDATION, splits.TEST))
        )
        across |= trains_N[photos] & held_out_N[others]
        across |= held_out_N[photos] & trains_N[others]
    return across


def _in_pairs(dataset: Dataset, chosen_M: np.ndarray) -> np.ndarray:
    """Flags the photos in the chosen pairs, [N]."""
    in_pairs_N = np.zeros(len(dataset.photos), bool)
    in_pairs_N[dataset.pair_rows_M2[chosen_M]] = True
    return in_pairs_N


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Checks for photos of different series that look like copies of each other."""
    del earlier

    def should_continue() -> bool:
        case.check_cancelled()
        return case.seconds_left > 0

    if not should_continue():
        return out_of_time("Near duplicates")
    with threadpool_limits(limits=1):
        found = find_near_duplicates(case.data, case.inputs_NK, should_continue)
    if found is not None:
        return dataclasses.replace(_judge(found), evidence=(_evidence(found),), facts=found)
    if not case.seconds_left:
        return out_of_time("Near duplicates")
    return CheckResult(
        verdict=UNVERIFIED,
        label=TOO_FEW_PHOTOS,
        headline="Too few photos or series to tell whether some are near duplicates.",
        advice="See whether two series show the same scene.",
        evidence=(f"Near duplicates: not looked for with fewer than {_FEWEST_PHOTOS} photos.",),
        facts=NearDuplicates(len(case.data.dataset.photos), 0, 0, np.nan, np.nan, 0, ()),
    )


def _judge(found: NearDuplicates) -> CheckResult:
    if found.num_near < max(_FEWEST_NEAR, _NEAR_SHARE * found.num_photos):
        return CheckResult()
    share = 100 * found.num_near / found.num_photos
    return CheckResult(
        verdict=WARN,
        label="near duplicates in different series",
        headline=f"{found.num_near:,} photos ({share:.0f}%) are nearly the same as a photo of "
        f"another series, {found.num_across_splits:,} of them across training and held-out pairs.",
        advice="Put all photos of a scene into one series, and leave out copies.",
    )


def _evidence(found: NearDuplicates) -> str:
    such_as = ""
    if found.examples:
        photo, near, _ = found.examples[0]
        such_as = (
            f", such as '{photo}' and '{near}'; {found.num_across_splits:,} across training and "
            "held-out pairs"
        )
    return (
        f"Near duplicates: {found.num_near:,} of {found.num_photos:,} photos are less than "
        f"{found.largest_ratio:.2g} times as far from a photo of another series as from all "
        f"further series{such_as} (by {found.num_inputs} columns or principal components)."
    )
