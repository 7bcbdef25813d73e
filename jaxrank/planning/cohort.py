"""Cohorts: trials that one compiled program trains, with their predicted cost and memory."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxrank import losses, models
from jaxrank.experiments.hyperparameters import (
    COHORT,
    LABEL,
    PROGRAM,
    SWITCH,
    TRACED,
    Experiment,
    with_effect,
)
from jaxrank.planning import costs
from jaxrank.planning.costs import DeviceProfile, Work
from jaxrank.planning.trials import Trial

# Pairs (validation), or half the photos (final scores), that a trial holds in memory at a time
# outside of its training batches.
SCORING_CHUNK = 512
_NAMED = 4  # experiments that a log line names


# Fields that must be equal for trials to share a program and its data; the others are blank.
ProgramKey: TypeAlias = Experiment


def program_key(e: Experiment) -> ProgramKey:
    """The experiment without its labels and the numbers that a program takes as data.

    Noise and mixup are reduced to whether they are used, in 32 bits: 1e-50 is zero.
    """
    blank = {name: type(getattr(e, name))() for name in with_effect(TRACED, LABEL, SWITCH)}
    switched = {name: float(np.float32(getattr(e, name)) > 0) for name in with_effect(SWITCH)}
    return dataclasses.replace(e, **blank | switched)


class Cohort(NamedTuple):
    """Trials that share every static shape.

    Attributes:
      trials: the trials.
      program_key: key of every trial, except that `mlp_hidden_dims` may be wider than a trial's.
      num_batches: S, the steps of an epoch.
      batch_size: B, the pairs of the largest batch.
      val_shape: number and width of the chunks of validation rows.
      skip_empty: whether some fold may have fewer training pairs or batches than there are steps.
      input_dim: D, the number of features.
      epochs_per_dispatch: E, the epochs that the device runs before the host reads metrics.
      stored_bytes: size of `Dataset.features_ND` if the cohort reads it as it is stored, else 0.
      made_bytes: memory of the other arrays that all trials read.
      profile: device profile that the costs are predicted with.
      column_runs: runs of adjacent columns, from left to right: whether they have normal scores,
        and their number; empty if no column has normal scores.
      num_slots: P, the trials that the compiled program has room for. Where trials run one after
        the other, free slots cost next to nothing, and cohorts of fewer trials share
        the program.
      begins: epochs that the trials have done in earlier cohorts.
      ends: rung, the epoch after which the cohort ends; None if it trains until all trials have
        stopped.
    """

    trials: tuple[Trial, ...]
    program_key: ProgramKey
    num_batches: int
    batch_size: int
    val_shape: tuple[int, int]
    skip_empty: bool
    input_dim: int
    epochs_per_dispatch: int
    stored_bytes: int
    made_bytes: int
    profile: DeviceProfile
    num_slots: int
    column_runs: tuple[tuple[bool, int], ...] = ()
    begins: int = 0
    ends: int | None = None

    @property
    def label(self) -> str:
        """Names of the cohort's experiments; only the first ones if there are many."""
        names = list(dict.fromkeys(trial.experiment.name for trial in self.trials))
        more = len(names) - _NAMED
        return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")

    @property
    def program(self) -> dict[str, Any]:
        """Fields that the compiled program depends on, besides the number of trials."""
        apart = ("trials", "program_key", "stored_bytes", "made_bytes", "profile", "begins", "ends")
        shapes = {key: value for key, value in self._asdict().items() if key not in apart}
        names = with_effect(PROGRAM, COHORT, SWITCH)
        return {"program_key": {name: getattr(self.program_key, name) for name in names}} | shapes

    @property
    def columns(self) -> tuple:
        """Feature blocks that the cohort reads, and their scaling."""
        key = self.program_key
        return key.blocks, key.l2_blocks, key.input_scaling, key.init_from

    @property
    def compiled_as(self) -> tuple:
        """Key that is equal for cohorts that share their compiled programs."""
        return self.without_trials(begins=0, ends=None)

    @property
    def _state_bytes(self) -> int:
        return costs.state_bytes(
            self.input_dim, self.program_key.mlp_hidden_dims, self.program_key.optimizer
        )

    @property
    def _working_bytes(self) -> int:
        """Memory of a trial in training or validation, besides its state."""
        return costs.working_bytes(
            self.input_dim,
            self.program_key.mlp_hidden_dims,
            self.batch_size,
            self.val_shape[1],
            # Columns with normal scores are put beside the gathered rows of the others, which stay.
            num_inputs=1
            + (len(self.column_runs) > 1)
            + round(4 * self.program_key.feature_noise + self.program_key.mixup),
            num_val_inputs=1 + (len(self.column_runs) > 1),
        )

    @property
    def data_bytes(self) -> int:
        """Memory of the device that is taken by the arrays which all trials read.

        A CPU, where trials run one after the other, reads the stored features in place. They are
        not counted: the host holds them anyway.
        """
        return self.made_bytes + self.profile.side_by_side * self.stored_bytes

    @property
    def shared_bytes(self) -> int:
        """Predicted memory that does not grow with the number of trials, besides the data."""
        if self.profile.side_by_side:
            return 0
        # Trials run one at a time, each on a copy of its state.
        copied = self._state_bytes if self.num_slots > 1 else 0
        return copied + self._working_bytes

    @property
    def trial_bytes(self) -> int:
        """Predicted memory of each trial."""
        return self._state_bytes + self.profile.side_by_side * self._working_bytes

    @property
    def memory_bytes(self) -> int:
        """Predicted memory of the cohort and its data on the device; see `data_bytes`."""
        return self.data_bytes + self.shared_bytes + self.num_slots * self.trial_bytes

    @property
    def max_epochs(self) -> int:
        return max(trial.experiment.max_epochs for trial in self.trials)

    @property
    def num_epochs(self) -> int:
        """Epochs that the cohort trains, if no trial stops early."""
        last = self.max_epochs if self.ends is None else min(self.ends, self.max_epochs)
        return last - self.begins

    def share_done(self, epoch: int) -> float:
        """Share of the cohort's epochs that are done after `epoch` epochs."""
        return (epoch - self.begins) / self.num_epochs

    @property
    def padded(self) -> list[str]:
        """Names of the experiments whose hidden layers are padded to those of the cohort."""
        wide = self.program_key.mlp_hidden_dims
        return list(
            dict.fromkeys(
                trial.experiment.name
                for trial in self.trials
                if trial.experiment.mlp_hidden_dims != wide
            )
        )

    @property
    def epoch_work(self) -> Work:
        chunks, width = self.val_shape
        return costs.epoch_work(
            self.input_dim,
            self.program_key.mlp_hidden_dims,
            self.program_key.optimizer,
            len(self.trials),
            self.num_batches,
            self.batch_size,
            chunks * width,
            self.profile.side_by_side,
        )

    @property
    def epoch_seconds(self) -> float:
        """Predicted seconds of an epoch."""
        return self.profile.seconds(self.epoch_work)

    @property
    def training_seconds(self) -> float:
        """Predicted seconds of training without compilation, if no trial stops early."""
        return self.num_epochs * self.epoch_seconds

    @property
    def seconds(self) -> float:
        """Predicted seconds of training and compilation, if no trial stops early."""
        return self.profile.compile_seconds + self.training_seconds

    def compacted_size(self, num_running: int, epochs_left: int) -> int:
        """Number of trials to keep when `num_running` still run: a power of two, or all.

        `epochs_left` epochs are certain to be needed. Fewer trials are kept only if this saves
        more than a compilation over these epochs. Sizes are powers of two, so that a cohort
        compiles at most log2(P) times.
        """
        smaller = 1 << max(num_running - 1, 0).bit_length()
        # If trials run one after the other, stopped trials are skipped anyway.
        if smaller >= len(self.trials) or not self.profile.side_by_side:
            return len(self.trials)
        saved = self.epoch_seconds - self.with_trials(self.trials[:smaller]).epoch_seconds
        pays = epochs_left * saved > self.profile.compile_seconds
        return smaller if pays else len(self.trials)

    def with_trials(self, trials: Sequence[Trial]) -> "Cohort":
        """The same cohort with other trials, and no free slot."""
        return self._replace(trials=tuple(trials), num_slots=len(trials))

    def without_trials(self, **changes: Any) -> "Cohort":
        """What cohorts of other trials may have in common with this one."""
        return self._replace(trials=(), stored_bytes=0, made_bytes=0, **changes)

    def filled(self) -> "Cohort":
        """The same cohort with its free slots filled by copies of the last trial."""
        free = self.num_slots - len(self.trials)
        return self.with_trials([*self.trials, *self.trials[-1:] * free])


def resident_bytes(cohorts: Iterable[Cohort]) -> int:
    """Predicted memory of all arrays that cohorts read on a device.

    Cohorts of the same columns share them, and they are kept as long as such a cohort waits.
    """
    return sum({cohort.columns: cohort.data_bytes for cohort in cohorts}.values())


def num_parameters(input_dim: int, experiment: Experiment) -> int:
    """Number of parameters that one trial learns: weights, biases, and those of its loss."""
    weights = models.num_parameters(input_dim, experiment.mlp_hidden_dims)
    return weights + (experiment.loss in losses.LEARN_TIES)
