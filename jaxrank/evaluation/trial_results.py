"""Results of a trained trial: its metrics, history, scores and weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxrank.planning.trials import Trial
from jaxrank.training.state import InitialWeights

# Status of a trial in the tables.
COMPLETED, FAILED = "completed", "failed"
# Columns that identify a trial.
KEYS = ("experiment_name", "fold", "seed")
# Columns of `history.csv`. Training columns are running means over the epoch's batches, with
# dropout, while the parameters changed; `trials.csv` has the metrics of the chosen parameters.
HISTORY_METRICS = {
    "running_train_loss": "train_loss",
    "running_train_accuracy": "train_accuracy",
    "val_loss": "val_loss",
    "val_accuracy": "val_accuracy",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialMetrics:
    """Metrics of a trial, a row of `trials.csv`.

    Attributes:
      best_epoch: epoch of the chosen parameters, counted from 1; None for a failed trial.
      duration_seconds: equal share of its cohort's duration.
      measured: metrics by column, see `evaluator.METRICS`; empty for a failed trial.
    """

    experiment_name: str
    fold: int
    seed: int
    status: str
    error: str
    epochs_run: int
    best_epoch: int | None
    duration_seconds: float
    trial_id: str
    measured: Mapping[str, float]

    @property
    def completed(self) -> bool:
        return self.status == COMPLETED

    def as_row(self) -> dict[str, Any]:
        """Values by column of `trials.csv`."""
        row = dataclasses.asdict(self)
        return row | row.pop("measured")


def metrics_of(trial: Trial, *, epochs_run: int, seconds: float) -> TrialMetrics:
    """Metrics of a completed trial, before anything is measured."""
    return TrialMetrics(
        experiment_name=trial.experiment.name,
        fold=trial.fold,
        seed=trial.seed,
        status=COMPLETED,
        error="",
        epochs_run=epochs_run,
        best_epoch=None,
        duration_seconds=seconds,
        trial_id=trial.identity,
        measured={},
    )


# Errors of a trial without results, with the device's message.
NO_MEMORY = (
    "does not fit in memory ({}); make mlp_hidden_dims or batch_size smaller, or use "
    "--retry_failed where more memory is free"
)
DEVICE_FAILED = "its device failed twice ({}); --retry_failed trains it again"
WORKER_LOST = "its worker was lost {} times ({}); --retry_failed trains it again"


class TrialResult(NamedTuple):
    """Results of a trained trial.

    Attributes:
      metrics: row of `trials.csv`.
      history_EC: float32, history of its epochs from the first, by the columns of HISTORY_METRICS.
      scores_N: scores of all photos; NaN for a failed trial.
      weights: parameters and scaling; None where those of another trial are kept.
      ensemble_of: for the mean of several seeds' scores, the experiment's name; see `ensembles`.
    """

    trial: Trial
    metrics: TrialMetrics
    history_EC: np.ndarray
    scores_N: np.ndarray
    weights: InitialWeights | None
    ensemble_of: str = ""


def no_history() -> np.ndarray:
    """History of a trial without recorded epochs."""
    return np.zeros((0, len(HISTORY_METRICS)), np.float32)


def history_frame(results: Sequence[TrialResult]) -> pd.DataFrame:
    """Rows of `history.csv`: every epoch of every trial; epochs count from 1."""
    epochs_P = [len(result.history_EC) for result in results]
    keys = {
        name: np.repeat(np.array([getattr(result.trial, name) for result in results]), epochs_P)
        for name in ("fold", "seed")
    }
    epoch = np.concatenate([np.arange(1, number + 1) for number in epochs_P])
    history_EC = np.concatenate([result.history_EC for result in results])
    return pd.DataFrame(
        keys | {"epoch": epoch} | dict(zip(HISTORY_METRICS, history_EC.T, strict=True))
    )


def failed(trial: Trial, error: str, num_photos: int) -> TrialResult:
    """Result of a trial that could not be trained."""
    metrics = dataclasses.replace(
        metrics_of(trial, epochs_run=0, seconds=0.0), status=FAILED, error=error
    )
    return TrialResult(trial, metrics, no_history(), np.full(num_photos, np.nan, np.float32), None)


def best_trial(results: Sequence[TrialResult]) -> TrialResult | None:
    """Completed trial of highest validation accuracy; of equally accurate trials the first."""
    completed = [result for result in results if result.metrics.completed]
    return max(completed, key=lambda r: r.metrics.measured["val_accuracy"], default=None)


def keep_best_weights(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Drops all weights except those of each experiment's best trial.

    The kept weights are copied out of their cohort's arrays.
    """
    by_experiment: dict[str, list[TrialResult]] = {}
    for result in results:
        by_experiment.setdefault(result.trial.experiment.name, []).append(result)
    best = [best_trial(mine) for mine in by_experiment.values()]
    return [
        result._replace(
            weights=jax.tree.map(np.copy, result.weights)
            if any(result is one for one in best)
            else None
        )
        for result in results
    ]
