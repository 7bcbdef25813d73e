"""What training changes, and what it leaves: states, metrics, progress, results.

Axis letters: P trials of the cohort, Q of them on the device, E epochs, N photos.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrank.scaling import Scaling

Array = jax.Array
# Of a Scorer, as Flax has them, and of a loss that learns something.
Params = Any

RUNNING, STOPPED, FAILED = 0, 1, 2


class TrainState(NamedTuple):
    """What training changes. `epoch` counts the epochs up to the stop; `status` is RUNNING,
    STOPPED or FAILED; `best_*` belong to the first epoch of highest validation accuracy."""

    params: Params
    opt_state: optax.OptState
    epoch: Array
    best_params: Params
    best_score: Array
    best_epoch: Array
    stale: Array
    status: Array


class EpochMetrics(NamedTuple):
    """Of the epoch just run: the training numbers are those of its batches, with dropout and
    while the parameters moved; the validation numbers are taken at its end, without dropout."""

    train_loss: Array
    train_accuracy: Array
    val_loss: Array
    val_accuracy: Array
    running: Array  # bool: the trial had not stopped before this epoch


class InitialWeights(NamedTuple):
    """A trained model's parameters and scaling, for training that begins from them."""

    params: Params
    scaling: Scaling


class Progress(NamedTuple):
    """A cohort in training: all that is needed to resume; P trials, E epochs done.

    Attributes:
      state: of the trials on the device; every leaf has a leading axis Q. Its memory is used again
        by the next dispatch.
      places_Q: which of the P trials these are.
      left: on the host, the states of all trials as they were when they left the device; None
        where none has.
      history: EpochMetrics of arrays [P], one an epoch, on the host.
      seconds: wall time until here, compilation included.
    """

    state: TrainState
    places_Q: np.ndarray
    left: TrainState | None
    history: list[EpochMetrics]
    seconds: float

    @property
    def num_running(self) -> int:
        """Trials that have not stopped."""
        return int((np.asarray(self.state.status) == RUNNING).sum())

    def whole_state(self) -> TrainState:
        """The state of all P trials; `left` is brought up to date for it."""
        if self.left is None:
            return self.state

        def put_back(whole: np.ndarray, leaf: jax.Array) -> None:
            whole[self.places_Q] = leaf

        jax.tree.map(put_back, self.left, self.state)
        return self.left


class FitResult(NamedTuple):
    """A trained cohort on the host; P trials, E epochs, N photos.

    Attributes:
      best_params: of the chosen epoch; every leaf has a leading axis P.
      scaling_P: of each trial.
      scores_PN: of all photos, by the chosen parameters; NaN for a failed trial.
      status_P: STOPPED or FAILED; RUNNING of a trial that may continue beyond a rung.
      epochs_run_P, best_epoch_P: int; epochs count from 0.
      history: EpochMetrics of arrays [E, P].
      seconds: wall time, compilation included.
      packed: of a cohort that ends at a rung, its state; see `checkpoint.Checkpoint`.
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
