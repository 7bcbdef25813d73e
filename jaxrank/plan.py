"""From experiments to trials, and from trials to cohorts that one program trains side by side.

A plan is a pure function of the experiments, the data's shape and the memory limit, so that a
resumed search makes the same one.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxrank import models, sampling, splits
from jaxrank.datasets import Dataset
from jaxrank.errors import UserError
from jaxrank.experiments import Experiment

# Pairs (validation) or photos (final scores) that a trial holds in memory at a time outside of
# its training batches.
SCORING_CHUNK = 512

# A trial within its search: experiment name, fold, seed.
TrialKey: TypeAlias = tuple[str, int, int]


class Trial(NamedTuple):
    """One model trained once."""

    experiment: Experiment
    fold: int
    seed: int

    @property
    def key(self) -> TrialKey:
        return self.experiment.name, self.fold, self.seed

    @property
    def identity(self) -> str:
        """What keys all of its random numbers: never a place in an array."""
        return hashlib.sha256("\n".join(map(str, self.key)).encode()).hexdigest()


class Cohort(NamedTuple):
    """Trials that share every static shape.

    Attributes:
      trials: P of them.
      hidden_dims, blocks, loss, sampler: static choices of every trial.
      num_batches: S, the steps of an epoch.
      batch_size: B, the pairs of the largest batch.
      val_shape: chunks and width of the validation rows.
      skip_empty: some fold has fewer training pairs than the cohort has steps.
      input_dim: D.
      parameters: weights and biases of one trial.
      memory_bytes: predicted, for all trials.
    """

    trials: tuple[Trial, ...]
    hidden_dims: tuple[int, ...]
    blocks: tuple[str, ...]
    loss: str
    sampler: str
    num_batches: int
    batch_size: int
    val_shape: tuple[int, int]
    skip_empty: bool
    input_dim: int
    parameters: int
    memory_bytes: int

    @property
    def program(self) -> dict[str, Any]:
        """What its compiled program depends on, besides the number of trials."""
        apart = ("trials", "memory_bytes")
        return {key: value for key, value in self._asdict().items() if key not in apart}

    def with_trials(self, trials: Sequence[Trial]) -> "Cohort":
        """The cohort of other trials of the same program."""
        each = self.memory_bytes // len(self.trials)
        return self._replace(trials=tuple(trials), memory_bytes=each * len(trials))


def make_trials(
    experiments: Sequence[Experiment], folds: Sequence[int], seeds: Sequence[int]
) -> list[Trial]:
    return [Trial(e, fold, seed) for e in experiments for fold in folds for seed in seeds]


def make_cohorts(
    trials: Sequence[Trial], dataset: Dataset, parts: np.ndarray, memory_limit: int
) -> list[Cohort]:
    """Groups trials by their static shapes, in order of first appearance, and cuts a group that
    would not fit in memory into near-equal cohorts.

    Args:
      trials: whose blocks all stand in the dataset.
      dataset: the aligned pairs.
      parts: int8 [F, series], from `splits.split_series`.
      memory_limit: bytes that one cohort may take.

    Raises:
      UserError: one trial alone is over the limit.
    """
    groups: dict[tuple, list[Trial]] = {}
    for trial in trials:
        e = trial.experiment
        key = (e.mlp_hidden_dims, e.blocks, e.loss, e.sampler, e.batch_size)
        groups.setdefault(key, []).append(trial)
    train_series = [
        dataset.series_M[fold_rows(parts, fold, dataset.series_M, splits.TRAIN)]
        for fold in range(len(parts))
    ]
    # Shapes are taken over all folds, also those whose trials stand in another cohort: a trial's
    # batches must not depend on its neighbours.
    most = max(
        len(fold_rows(parts, fold, dataset.series_M, splits.VALIDATION))
        for fold in range(len(parts))
    )
    val_chunks = -(-most // SCORING_CHUNK)
    val_width = -(-most // val_chunks)
    cohorts = []
    for (hidden_dims, blocks, loss, sampler, batch_size), members in groups.items():
        num_batches = max(
            sampling.min_batches(series, sampler, batch_size) for series in train_series
        )
        width = max(-(-len(series) // num_batches) for series in train_series)
        input_dim = len(dataset.column_indices(blocks))
        each = trial_bytes(input_dim, hidden_dims, max(width, val_width))
        if each > memory_limit:
            raise UserError(
                f"experiment '{members[0].experiment.name}': one trial needs "
                f"{each / 2**30:,.1f} GiB, but {memory_limit / 2**30:,.1f} GiB may be used; make "
                "mlp_hidden_dims or batch_size smaller"
            )
        # Ceil divisions: the fewest cohorts that fit, of near-equal size.
        num_cohorts = -(-len(members) // (memory_limit // each))
        for chunk in np.array_split(np.arange(len(members)), num_cohorts):
            cohorts.append(
                Cohort(
                    trials=tuple(members[i] for i in chunk),
                    hidden_dims=hidden_dims,
                    blocks=blocks,
                    loss=loss,
                    sampler=sampler,
                    num_batches=num_batches,
                    batch_size=width,
                    val_shape=(val_chunks, val_width),
                    skip_empty=min(map(len, train_series)) < num_batches,
                    input_dim=input_dim,
                    parameters=models.num_parameters(input_dim, hidden_dims),
                    memory_bytes=each * len(chunk),
                )
            )
    return cohorts


def fold_rows(parts: np.ndarray, fold: int, series_M: np.ndarray, part: int) -> np.ndarray:
    """The pairs of one part (TRAIN, VALIDATION or TEST) of a fold, as rows of the dataset."""
    return np.flatnonzero(parts[fold][series_M] == part)


def trial_bytes(input_dim: int, hidden_dims: tuple[int, ...], num_pairs: int) -> int:
    """Predicted memory of one trial: weights, gradients, two Adam moments and the best copy, and
    the inputs and activations of `num_pairs` pairs, the larger of a training and a validation
    batch."""
    activations = 2 * num_pairs * (input_dim + sum(hidden_dims))
    return 4 * (5 * models.num_parameters(input_dim, hidden_dims) + activations)
