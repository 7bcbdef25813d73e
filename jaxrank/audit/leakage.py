"""Check for leaks between the training pairs and the held-out pairs.

Axis letters: F folds, M pairs, N photos, S series, K inputs.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from jaxrank import statistics
from jaxrank.audit.case import TOO_FEW_PAIRS, UNVERIFIED, WARN, AuditCase, CheckResult, out_of_time
from jaxrank.audit.permutation_test import MOST_PAIRS
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, permuted_rows

# Standard errors above one half from which permuted photos are predicted too well.
LEAK_Z = 3.3
_MOST_EXAMPLES = 5
_MOST_PHOTOS = 20_000  # on each side of a split


class SharedSeries(NamedTuple):
    """Series on more than one side of a split.

    Attributes:
      num_series: number of series with pairs in two of training, validation and test, in at least
        one fold.
      tested_share: share of all test pairs, over all folds, whose series also trains.
      examples: series ids.
    """

    num_series: int
    tested_share: float
    examples: tuple[str, ...]


class PermutedAccuracy(NamedTuple):
    """Accuracy on held-out pairs that cannot be predicted without a leak.

    Photos are permuted at random inside their series, so that labels and features are unrelated.
    The predicted winner of a validation or test pair is the photo whose nearest training photo won
    more of its training pairs. Only a photo on both sides of the split makes such predictions
    accurate.

    Attributes:
      num_pairs, num_series: number of held-out pairs with a direction, over all folds, and of their
        series; about MOST_PAIRS pairs at most.
      accuracy: share of these pairs predicted right; NaN without such pairs.
      standard_error: standard error over series; NaN with fewer than `statistics.FEWEST_SERIES`
        series.
      z: (accuracy - 1/2) / standard_error.
      leaks: z > LEAK_Z.
    """

    num_pairs: int
    num_series: int
    accuracy: float
    standard_error: float
    z: float
    leaks: bool


class Leaks(NamedTuple):
    shared: SharedSeries
    behaviour: PermutedAccuracy


def find_leaks(data: SplitDataset, inputs_NK: np.ndarray, *, seed: int = 0) -> Leaks:
    """Looks for leaks in a split: by the ids of series, and by the accuracy of permuted photos.

    Args:
      data: pairs and their splits.
      inputs_NK: inputs of distances, `AuditCase.inputs_NK`.
      seed: seed of the permutation.
    """
    # One thread, for the reason in `permutation_test.run_permutation_test`.
    with threadpool_limits(limits=1):
        return Leaks(shared_series(data), behaviour(data, inputs_NK, np.random.default_rng(seed)))


def shared_series(data: SplitDataset) -> SharedSeries:
    """Finds series on two sides of the split, by their ids."""
    dataset, splits_FM = data.dataset, data.splits_FM
    shared_S = np.zeros(len(dataset.series_ids), bool)
    num_tested = num_trained = 0
    for split_M in splits_FM:
        in_pairs_SP = np.zeros((len(dataset.series_ids), len(splits.SPLIT_NAMES)), bool)
        in_pairs_SP[dataset.series_M, split_M] = True
        shared_S |= in_pairs_SP[:, list(splits.MEASURED)].sum(axis=1) > 1
        tested = dataset.series_M[split_M == splits.TEST]
        num_tested += len(tested)
        num_trained += int(in_pairs_SP[tested, splits.TRAIN].sum())
    examples = tuple(map(str, dataset.series_ids[shared_S][:_MOST_EXAMPLES]))
    return SharedSeries(int(shared_S.sum()), num_trained / max(num_tested, 1), examples)


def behaviour(
    data: SplitDataset, inputs_NK: np.ndarray, rng: np.random.Generator
) -> PermutedAccuracy:
    """Predicts held-out pairs of permuted photos from the record of the nearest training photo.

    Args:
      data: pairs and their splits.
      inputs_NK: inputs of distances.
      rng: random numbers of the permutation.
    """
    dataset, splits_FM = data.dataset, data.splits_FM
    permuted_N = permuted_rows(dataset.series_of_photos(), rng)
    held_out_FM = np.isin(splits_FM, (splits.VALIDATION, splits.TEST))
    held_out_FM &= dataset.preference_M != 0.5
    held_out_FM &= rng.random(held_out_FM.shape) < MOST_PAIRS / max(int(held_out_FM.sum()), 1)
    hits_M, weight_M = np.zeros((2, len(dataset.preference_M)))
    for split_M, held_out_M in zip(splits_FM, held_out_FM, strict=True):
        rows_M2 = dataset.pair_rows_M2[held_out_M]
        record_N = _records(dataset, split_M == splits.TRAIN)
        known = _at_most(np.flatnonzero(~np.isnan(record_N)), rng)
        if len(rows_M2) and len(known) and inputs_NK.shape[1]:
            photos, place_M2 = np.unique(rows_M2, return_inverse=True)
            rows_NK, known_NK = inputs_NK[permuted_N[photos]], inputs_NK[permuted_N[known]]
            nearest = known[_nearest(rows_NK, known_NK)]
            won_a, won_b = record_N[nearest[place_M2.reshape(-1, 2)]].T
            preferred = np.sign(dataset.preference_M[held_out_M] - 0.5)
            hits_M[held_out_M] += 0.5 + 0.5 * np.sign(won_a - won_b) * preferred
            weight_M[held_out_M] += 1
    if not weight_M.any():
        return PermutedAccuracy(0, 0, np.nan, np.nan, np.nan, False)
    accuracy = float(hits_M.sum() / weight_M.sum())
    error, num_pairs, num_series = statistics.clustered_error(hits_M, weight_M, dataset.series_M)
    if error == 0:  # every series is predicted as well as every other
        z = 0.0 if accuracy == 0.5 else float(np.copysign(np.inf, accuracy - 0.5))
    else:
        z = (accuracy - 0.5) / error
    return PermutedAccuracy(num_pairs, num_series, accuracy, error, z, bool(z > LEAK_Z))


def _at_most(photos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Samples photos, so that a large set takes no longer than _MOST_PHOTOS photos."""
    if len(photos) <= _MOST_PHOTOS:
        return photos
    return np.sort(rng.choice(photos, _MOST_PHOTOS, replace=False))


def _records(dataset: Dataset, trains_M: np.ndarray) -> np.ndarray:
    """Mean preference for each photo in training pairs, [N]; NaN for other photos."""
    rows_a, rows_b = dataset.pair_rows_M2[trains_M].T
    preference = dataset.preference_M[trains_M].astype(np.float64)
    num_photos = len(dataset.photos)
    won_N = np.bincount(rows_a, preference, num_photos)
    won_N += np.bincount(rows_b, 1 - preference, num_photos)
    count_N = np.bincount(np.concatenate([rows_a, rows_b]), minlength=num_photos)
    return np.divide(won_N, count_N, out=np.full(num_photos, np.nan), where=count_N > 0)


def _nearest(rows_NK: np.ndarray, among_NK: np.ndarray) -> np.ndarray:
    """Index of the nearest row, among some others, of each row."""
    # This import takes as long as everything else here.
    from sklearn.metrics import pairwise_distances_argmin

    return np.asarray(pairwise_distances_argmin(rows_NK, among_NK))


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Checks for leaks between the training pairs and the held-out pairs."""
    del earlier
    if not case.seconds_left:
        return out_of_time("Leaks")
    found = find_leaks(case.data, case.inputs_NK)
    judged = CheckResult()
    if found.behaviour.leaks:
        judged = CheckResult(
            verdict=WARN,
            label="the split leaks",
            headline="The split leaks: held-out pairs of permuted photos are predicted from "
            f"their nearest training photos ({100 * found.behaviour.accuracy:.1f}%, "
            f"{_in_words(found.behaviour.z)}).",
            advice="Split by series (--split=series), and put all photos of a scene into one "
            "series.",
        )
    elif found.shared.num_series:
        judged = CheckResult(
            verdict=WARN,
            label="series on two sides of the split",
            headline=f"{_num_shared(found.shared)} on two sides of the split: results on held-out "
            "pairs do not generalise to new series.",
            advice="Split by series (--split=series), unless this is meant.",
        )
    elif np.isnan(found.behaviour.z):
        judged = CheckResult(
            verdict=UNVERIFIED,
            label=TOO_FEW_PAIRS,
            headline="Too few held-out pairs to tell whether the split leaks.",
            advice="See whether two series show the same scene.",
        )
    return dataclasses.replace(judged, evidence=tuple(_evidence(found)), facts=found)


def _num_shared(shared: SharedSeries) -> str:
    return f"{shared.num_series:,} series {'is' if shared.num_series == 1 else 'are'}"


def _in_words(z: float) -> str:
    return f"z = {z:+.1f}" if np.isfinite(z) else "z beyond any limit, all series equal"


def _evidence(leaking: Leaks) -> list[str]:
    shared, seen = leaking.shared, leaking.behaviour
    lines = []
    if shared.num_series:
        lines.append(
            f"Leaks: {_num_shared(shared)} on two sides of the split, such as "
            f"{shared.examples[0]}; {100 * shared.tested_share:.0f}% of the test pairs are of "
            "series that train."
        )
    else:
        lines.append("Leaks: no series is on two sides of the split.")
    if seen.num_pairs and not np.isnan(seen.z):
        lines.append(
            f"Leaks: with permuted photos, the nearest training photo predicts "
            f"{100 * seen.accuracy:.1f}% ± {196 * seen.standard_error:.1f} of {seen.num_pairs:,} "
            f"held-out pairs ({_in_words(seen.z)}; a leak above {LEAK_Z})."
        )
    return lines
