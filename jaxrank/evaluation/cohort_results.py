"""Results of a trained cohort, measured for several trials at once.

Axis letters: P trials of the cohort, N photos, M pairs; X trials measured at once.
"""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from jaxrank.evaluation.evaluator import Evaluator, trial_metrics
from jaxrank.evaluation.trial_results import (
    FAILED,
    HISTORY_METRICS,
    TrialMetrics,
    TrialResult,
    metrics_of,
)
from jaxrank.models import Scorer, narrowed
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.training import state, step

# Most trials, and most numbers [X, M], measured at once: more are no faster and take memory.
_MOST_TRIALS, _MOST_NUMBERS = 16, 2**21


def evaluate_cohort(
    cohort: Cohort, fitted: state.FitResult, evaluator: Evaluator
) -> list[TrialResult]:
    """Measures the trials of a trained cohort."""
    trials = cohort.trials
    metrics = [_unmeasured(trial, p, fitted, evaluator) for p, trial in enumerate(trials)]
    log_ties_P = np.broadcast_to(step.log_ties(fitted.best_params), len(trials))
    for block in _blocks(trials, metrics, len(evaluator.dataset.preference_M)):
        # Padded to a power of two, because JAX compiles the loss for each size.
        filled = [*block, *block[-1:] * (_power_of_two(len(block)) - len(block))]
        measured = trial_metrics(
            [trials[p] for p in filled],
            fitted.scores_PN[filled],
            log_ties_P[filled],
            evaluator.of(trials[block[0]].experiment),
        )
        for p, figures in zip(block, measured, strict=False):
            metrics[p] = dataclasses.replace(metrics[p], measured=figures)
    history_CEP = np.stack([getattr(fitted.history, name) for name in HISTORY_METRICS.values()])
    results = []
    for p, trial in enumerate(trials):
        params = jax.tree.map(lambda leaf, p=p: leaf[p], fitted.best_params)
        own_dims = trial.experiment.mlp_hidden_dims
        if own_dims != cohort.program_key.mlp_hidden_dims:
            params = narrowed(Scorer(own_dims), cohort.input_dim, params)
        weights = state.InitialWeights(params, fitted.scaling_P[p])
        # A trial that has stopped does not run again, so its epochs are the first ones.
        history_EC = history_CEP[:, fitted.history.running[:, p], p].T
        results.append(TrialResult(trial, metrics[p], history_EC, fitted.scores_PN[p], weights))
    return results


def _blocks(
    trials: list[Trial] | tuple[Trial, ...], metrics: list[TrialMetrics], num_pairs: int
) -> Iterator[list[int]]:
    """Yields blocks of completed trials that share fold, loss and kind (control or not)."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for p, trial in enumerate(trials):
        if metrics[p].completed:
            key = trial.fold, trial.experiment.loss, trial.experiment.is_control
            groups.setdefault(key, []).append(p)
    size = min(_MOST_TRIALS, max(1, _power_of_two(_MOST_NUMBERS // num_pairs + 1) // 2))
    for mine in groups.values():
        for start in range(0, len(mine), size):
            yield mine[start : start + size]


def _power_of_two(number: int) -> int:
    """Least power of two that is not below the number."""
    return 1 << (number - 1).bit_length()


def _unmeasured(
    trial: Trial, p: int, fitted: state.FitResult, evaluator: Evaluator
) -> TrialMetrics:
    epochs_run = int(fitted.epochs_run_P[p])
    seconds = fitted.seconds / len(fitted.scaling_P)
    metrics = metrics_of(trial, epochs_run=epochs_run, seconds=seconds)
    if fitted.status_P[p] == state.FAILED:
        error = (
            f"the loss was not a finite number in epoch {epochs_run}; lower "
            f"learning_rate={trial.experiment.learning_rate:g}, or look for huge features"
        )
        return dataclasses.replace(metrics, status=FAILED, error=error)
    unscored = np.flatnonzero(~np.isfinite(fitted.scores_PN[p]))
    if len(unscored):
        error = (
            f"the score of photo '{evaluator.dataset.photos[unscored[0]]}' is not a finite number; "
            "look at its features"
        )
        return dataclasses.replace(metrics, status=FAILED, error=error)
    return dataclasses.replace(metrics, best_epoch=int(fitted.best_epoch_P[p]) + 1)
