"""Ensembles: the mean of several seeds' scores, as an entry beside its experiment.

Axis letters: N photos, K members, X ensembles measured at once.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset
from jaxrank.evaluation.evaluator import Evaluator, scores_metrics
from jaxrank.evaluation.trial_results import TrialResult, metrics_of, no_history
from jaxrank.planning.trials import Trial

# Ensembles measured at once.
_AT_ONCE = 16


class Combination(NamedTuple):
    """Parameters that combine the scores of K members into a single score.

    The combined score is

        (mean_k((s_k - member_mean_k) / member_deviation_k) - mean) / deviation.

    Attributes:
      member_mean_K, member_deviation_K: float64 mean and standard deviation of each member's
        scores.
      mean, deviation: mean and standard deviation of the members' mean.
    """

    member_mean_K: np.ndarray
    member_deviation_K: np.ndarray
    mean: float
    deviation: float

    def mean_of_members(self, scores_KN: np.ndarray) -> np.ndarray:
        """Mean of the standardised scores, float64 [N]."""
        centred_KN = scores_KN.astype(np.float64) - self.member_mean_K[:, None]
        return (centred_KN / self.member_deviation_K[:, None]).mean(axis=0)

    def apply(self, scores_KN: np.ndarray) -> np.ndarray:
        """Combined scores, float32 [N]."""
        return ((self.mean_of_members(scores_KN) - self.mean) / self.deviation).astype(np.float32)


# Combination of a single member: its score unchanged.
SINGLE = Combination(np.zeros(1), np.ones(1), 0.0, 1.0)


def ensemble_results(results: Sequence[TrialResult], evaluator: Evaluator) -> list[TrialResult]:
    """Returns a result per fold for the ensemble of every experiment with several seeds.

    An ensemble's scores are the mean of the standardised scores of its completed trials in the
    fold. It has one seed, the experiment's first, and a loss of NaN, because its scores have no
    scale. The permutation control has no ensemble.
    """
    by_experiment: dict[str, list[TrialResult]] = {}
    for result in results:
        if result.metrics.completed and not result.trial.experiment.is_control:
            by_experiment.setdefault(result.trial.experiment.name, []).append(result)
    found: dict[tuple[str | None, int], TrialResult] = {}
    for fold in sorted({result.trial.fold for result in results}):
        combined = _of_fold(by_experiment, fold, evaluator)
        found |= {(result.ensemble_of, fold): result for result in combined}
    return [
        found[name, fold]
        for name in by_experiment
        for fold in sorted({fold for of, fold in found if of == name})
    ]


def _of_fold(
    by_experiment: Mapping[str, Sequence[TrialResult]], fold: int, evaluator: Evaluator
) -> Iterator[TrialResult]:
    """Yields the ensembles of one fold, measured in blocks."""
    photos = training_photos(evaluator.data, fold)
    waiting = []
    for name, mine in by_experiment.items():
        seeds = sorted({result.trial.seed for result in mine})
        here = [result.scores_N for result in mine if result.trial.fold == fold]
        if len(seeds) > 1 and here:
            experiment = dataclasses.replace(
                mine[0].trial.experiment, name=f"{name} (mean of {len(seeds)} seeds)"
            )
            scores_N, _ = combine(np.stack(here), photos)
            waiting.append((Trial(experiment, fold, seeds[0]), name, scores_N))
    for start in range(0, len(waiting), _AT_ONCE):
        block = waiting[start : start + _AT_ONCE]
        scores_XN = np.stack([scores_N for _, _, scores_N in block])
        for (trial, name, scores_N), measured in zip(
            block, scores_metrics(scores_XN, evaluator, fold), strict=True
        ):
            metrics = dataclasses.replace(
                metrics_of(trial, epochs_run=0, seconds=0.0), measured=measured
            )
            yield TrialResult(trial, metrics, no_history(), scores_N, None, name)


def training_photos(data: SplitDataset, fold: int) -> np.ndarray:
    """Photos of a fold's training pairs."""
    return np.unique(data.dataset.pair_rows_M2[data.rows(fold, splits.TRAIN)])


def fold_scores(
    results: Sequence[TrialResult], data: SplitDataset, fold: int
) -> tuple[np.ndarray, Combination]:
    """Combines the scores of a fold's completed trials, standardised over its training photos.

    Returns:
      The combined scores [N], and their combination.
    """
    scores_KN = [r.scores_N for r in results if r.trial.fold == fold and r.metrics.completed]
    return combine(np.stack(scores_KN), training_photos(data, fold))


def combine(scores_KN: np.ndarray, photos: np.ndarray) -> tuple[np.ndarray, Combination]:
    """Averages the standardised scores of K members, and standardises the mean again.

    Args:
      scores_KN: scores of each member.
      photos: photos over which means and deviations are taken. Equal scores become zero.

    Returns:
      The combined scores [N], and their combination.
    """
    mean_K, deviation_K, standard_KN = _standardised(scores_KN[:, photos].astype(np.float64))
    mean, deviation, _ = _standardised(standard_KN.mean(axis=0)[None])
    combination = Combination(mean_K, deviation_K, float(mean[0]), float(deviation[0]))
    return combination.apply(scores_KN), combination


def _standardised(values_KN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means [K], standard deviations [K] and the standardised values, for which it takes the memory
    of the values. The deviation of equal values is huge, so that they become zero.
    """
    largest_K, least_K = values_KN.max(axis=1, initial=0.0), values_KN.min(axis=1, initial=0.0)
    rounding_K = 1e-7 * np.maximum(largest_K, -least_K)
    mean_K = values_KN.mean(axis=1)
    values_KN -= mean_K[:, None]
    # As NumPy's std, which would compute the means and differences once more.
    deviation_K = np.sqrt(np.square(values_KN).mean(axis=1))
    deviation_K = np.where(deviation_K > rounding_K, deviation_K, np.finfo(np.float32).max)
    values_KN /= deviation_K[:, None]
    return mean_K, deviation_K, values_KN
