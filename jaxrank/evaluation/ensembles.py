"""The mean of several seeds' scores, as an entry of its own beside the experiment.

Axis letters: N photos.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset
from jaxrank.evaluation.evaluator import Evaluator, baseline_metrics
from jaxrank.evaluation.trial_results import TrialResult, metrics_of
from jaxrank.planning.trials import Trial


class Combination(NamedTuple):
    """How the scores of K members become one: each is standardised, their mean is standardised.

    Attributes:
      member_mean_K, member_deviation_K: of each member's scores.
      mean, deviation: of the mean of the standardised scores.
    """

    member_mean_K: np.ndarray
    member_deviation_K: np.ndarray
    mean: float
    deviation: float


def ensemble_results(results: Sequence[TrialResult], evaluator: Evaluator) -> list[TrialResult]:
    """Of every experiment with several seeds, a result a fold: the mean of the standardised scores
    of its completed trials there. The permutation control has none.

    An ensemble has one seed, the experiment's first, and a loss of NaN: its scores have no scale.
    """
    by_experiment: dict[str, list[TrialResult]] = {}
    for result in results:
        if result.metrics.completed and not result.trial.experiment.is_control:
            by_experiment.setdefault(result.trial.experiment.name, []).append(result)
    found = []
    for name, mine in by_experiment.items():
        seeds = sorted({result.trial.seed for result in mine})
        if len(seeds) < 2:
            continue
        experiment = dataclasses.replace(
            mine[0].trial.experiment, name=f"{name} (mean of {len(seeds)} seeds)"
        )
        for fold in sorted({result.trial.fold for result in mine}):
            trial = Trial(experiment, fold, seeds[0])
            found.append(_of_fold(trial, mine, evaluator))
    return found


def _of_fold(trial: Trial, results: Sequence[TrialResult], evaluator: Evaluator) -> TrialResult:
    scores_N, _ = fold_scores(results, evaluator.data, trial.fold)
    metrics = dataclasses.replace(
        metrics_of(trial, epochs_run=0, seconds=0.0),
        measured=baseline_metrics(scores_N, evaluator, [trial.fold]),
    )
    ensemble_of = results[0].trial.experiment.name
    return TrialResult(trial, metrics, pd.DataFrame(), scores_N, None, ensemble_of)


def fold_scores(
    results: Sequence[TrialResult], data: SplitDataset, fold: int
) -> tuple[np.ndarray, Combination]:
    """The combined scores [N] of the completed trials of a fold, standardised over the photos of
    its training pairs."""
    scores_KN = [r.scores_N for r in results if r.trial.fold == fold and r.metrics.completed]
    photos = np.unique(data.dataset.pair_rows_M2[data.rows(fold, splits.TRAIN)])
    return combine(np.stack(scores_KN), photos)


def combine(scores_KN: np.ndarray, photos: np.ndarray) -> tuple[np.ndarray, Combination]:
    """The mean of K members' standardised scores, standardised again, [N]; and by which numbers.

    Args:
      scores_KN: of each member.
      photos: those over which mean and deviation are taken. Equal scores become zero.
    """
    chosen_KN = scores_KN[:, photos].astype(np.float64)
    member_mean_K, member_deviation_K = chosen_KN.mean(axis=1), _deviations(chosen_KN)
    mean_N = _standardised(scores_KN.T, member_mean_K, member_deviation_K).mean(axis=1)
    chosen = mean_N[photos]
    mean, deviation = chosen.mean(), _deviations(chosen[None])[0]
    combination = Combination(member_mean_K, member_deviation_K, float(mean), float(deviation))
    return _standardised(mean_N, mean, deviation), combination


def _standardised(values: np.ndarray, mean: Any, deviation: Any) -> np.ndarray:
    return np.asarray((values - mean) / deviation)


def _deviations(values_KN: np.ndarray) -> np.ndarray:
    """Standard deviations [K]; huge for equal values, which become zero."""
    deviation_K = values_KN.std(axis=1)
    rounding_K = 1e-7 * np.abs(values_KN).max(axis=1, initial=0.0)
    return np.where(deviation_K > rounding_K, deviation_K, np.finfo(np.float32).max)
