"""The mean of several seeds' scores, as an entry of its own beside the experiment.

Axis letters: N photos.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset
from jaxrank.evaluation.evaluator import Evaluator, baseline_metrics
from jaxrank.evaluation.trial_results import TrialResult, metrics_of
from jaxrank.planning.trials import Trial


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
    scores = [
        standardised(result.scores_N, evaluator.data, trial.fold)
        for result in results
        if result.trial.fold == trial.fold
    ]
    scores_N = np.mean(scores, axis=0)
    metrics = dataclasses.replace(
        metrics_of(trial, epochs_run=0, seconds=0.0),
        measured=baseline_metrics(scores_N, evaluator, [trial.fold]),
    )
    ensemble_of = results[0].trial.experiment.name
    return TrialResult(trial, metrics, pd.DataFrame(), scores_N, None, ensemble_of)


def standardised(scores_N: np.ndarray, data: SplitDataset, fold: int) -> np.ndarray:
    """Scores of mean 0 and variance 1 over the photos of the fold's training pairs; all zero where
    these are equal."""
    pairs = data.rows(fold, splits.TRAIN)
    trained = scores_N[np.unique(data.dataset.pair_rows_M2[pairs])].astype(np.float64)
    deviation = trained.std()
    centred_N = scores_N - trained.mean()
    return centred_N / deviation if deviation > 0 else np.zeros_like(centred_N)
