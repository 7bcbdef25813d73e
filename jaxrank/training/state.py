"""State and results of training: train state, metrics, progress, fit result.

Axis letters: P trials of the cohort, or slots of its program, Q of them on the device, E epochs, N
photos.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrank.scaling import Scaling

Array = jax.Array
# Parameters of a Scorer, as Flax structures them, and of a loss that has any.
Params = Any

RUNNING, STOPPED, FAILED = 0, 1, 2


class TrainState(NamedTuple):
    """State that training updates.

    `epoch` counts the epochs up to the stop; `stale` counts those since the best epoch. `status`
    is RUNNING, STOPPED or FAILED. `best_*` belong to the first epoch of highest validation
    accuracy; without early stopping, to the last epoch.
    """

    params: Params
    opt_state: optax.OptState
    epoch: Array
    best_params: Params
    best_score: Array
    best_epoch: Array
    stale: Array
    status: Array


class EpochMetrics(NamedTuple):
    """Metrics of one epoch.

    Training metrics are taken over the epoch's batches, with dropout and while the parameters
    change. Validation metrics are taken at the end of the epoch, without dropout.
    """

    train_loss: Array
    train_accuracy: Array
    val_loss: Array
    val_accuracy: Array
    running: Array  # bool: the trial had not stopped before this epoch


class InitialWeights(NamedTuple):
    """Parameters and scaling of a trained model, from which training begins."""

    params: Params
    scaling: Scaling


class Progress(NamedTuple):
    """Progress of a cohort in training: all that is needed to resume; P slots, E epochs done.

    Attributes:
      state: state of the slots on the device; every leaf has a leading axis Q. The next dispatch
        reuses its memory.
      places_Q: indices of the slots on the device among the P slots.
      left: states of all P slots on the host, each as of when its trial left the device; None if
        no trial has left.
      history: EpochMetrics of arrays [P] for each epoch, on the host.
      seconds: wall time so far, compilation included.
      num_trials: number of trials; the slots after them are free and have stopped.
    """

    state: TrainState
    places_Q: np.ndarray
    left: TrainState | None
    history: list[EpochMetrics]
    seconds: float
    num_trials: int

    @property
    def num_running(self) -> int:
        """Number of trials that are still running."""
        return int((np.asarray(self.state.status) == RUNNING).sum())

    def whole_state(self) -> TrainState:
        """Returns the state of all P slots; updates `left` if trials have left the device."""
        if self.left is None:
            return self.state

        def put_back(whole: np.ndarray, leaf: jax.Array) -> None:
            whole[self.places_Q] = leaf

        jax.tree.map(put_back, self.left, self.state)
        return self.left


class FitResult(NamedTuple):
    """Result of a trained cohort, on the host; P trials, E epochs, N photos.

    Attributes:
      best_params: parameters of the best epoch; every leaf has a leading axis P.
      scaling_P: scaling of each trial.
      scores_PN: scores of all photos with `best_params`; NaN for a failed trial.
      status_P: STOPPED or FAILED; RUNNING for a trial that may continue beyond a rung.
      epochs_run_P: int, number of epochs.
      best_epoch_P: int, index of the best epoch, from 0 (files count from 1).
      history: EpochMetrics of arrays [E, P].
      seconds: wall time, compilation included.
      packed: packed state of a cohort that ends at a rung, see `checkpoint.Checkpoint`; else None.
    """

    best_params: Params
    scaling_P: list[Scaling]
    scores_PN: np.ndarray
    status_P: np.ndarray
    epochs_run_P: np.ndarray
    best_epoch_P: np.ndarray
    history: EpochMetrics
    seconds: float
    packed: np.ndarray | None = None
