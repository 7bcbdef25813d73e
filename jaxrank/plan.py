"""From experiments to trials, and from trials to cohorts that one program trains side by side.

A plan is a pure function of the experiments, the data's shape and the memory limit, so that a
resumed search makes the same one.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxrank import losses, models, sampling, splits
from jaxrank.datasets import Dataset
from jaxrank.errors import UserError
from jaxrank.experiments import Experiment

# Pairs (validation) or photos (final scores) that a trial holds in memory at a time outside of
# its training batches.
SCORING_CHUNK = 512

# The sampler whose batches are not of near-equal size.
SERIES_AWARE = "series_aware"

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


class Choices(NamedTuple):
    """What must be equal for trials to share a program and its data."""

    blocks: tuple[str, ...]
    l2_blocks: tuple[str, ...]
    hidden_dims: tuple[int, ...]
    activation: str
    use_layernorm: bool
    batch_size: int
    optimizer: str
    loss: str
    sampler: str
    has_noise: bool
    has_mixup: bool
    init_from: str


def choices(e: Experiment) -> Choices:
    return Choices(
        blocks=e.blocks,
        l2_blocks=e.l2_blocks,
        hidden_dims=e.mlp_hidden_dims,
        activation=e.activation,
        use_layernorm=e.use_layernorm,
        batch_size=e.batch_size,
        optimizer=e.optimizer,
        loss=e.loss,
        sampler=e.sampler,
        # As they will be used: 1e-50 is zero in 32 bits.
        has_noise=bool(np.float32(e.feature_noise) > 0),
        has_mixup=bool(np.float32(e.mixup) > 0),
        init_from=e.init_from,
    )


class Cohort(NamedTuple):
    """Trials that share every static shape.

    Attributes:
      trials: P of them.
      choices: of every trial.
      num_batches: S, the steps of an epoch.
      batch_size: B, the pairs of the largest batch.
      val_shape: chunks and width of the validation rows.
      skip_empty: some fold has fewer training pairs, or batches, than the cohort has steps.
      input_dim: D.
      parameters: weights and biases of one trial.
      memory_bytes: predicted, for all trials.
    """

    trials: tuple[Trial, ...]
    choices: Choices
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
        apart = ("trials", "choices", "memory_bytes")
        shapes = {key: value for key, value in self._asdict().items() if key not in apart}
        return {"choices": self.choices._asdict()} | shapes

    def with_trials(self, trials: Sequence[Trial]) -> "Cohort":
        """The cohort of other trials of the same program."""
        each = self.memory_bytes // len(self.trials)
        return self._replace(trials=tuple(trials), memory_bytes=each * len(trials))


def make_trials(
    experiments: Sequence[Experiment], folds: Sequence[int], seed: int, num_seeds: int
) -> list[Trial]:
    """`num_seeds` trials of each experiment and fold; seeds count from the experiment's own, or
    from `seed` where it has none."""
    return [
        Trial(e, fold, (seed if e.seed < 0 else e.seed) + place)
        for e in experiments
        for fold in folds
        for place in range(num_seeds)
    ]


def make_cohorts(
    trials: Sequence[Trial], dataset: Dataset, parts: np.ndarray, memory_limit: int
) -> list[Cohort]:
    """Groups trials by their static shapes, in order of first appearance, and cuts a group that
    would not fit in memory into near-equal cohorts.

    Args:
      trials: whose blocks all stand in the dataset.
      dataset: the aligned pairs.
      parts: int8 [F, M], from `splits.split_pairs`.
      memory_limit: bytes that one cohort may take.

    Raises:
      UserError: one trial alone is over the limit.
    """
    groups: dict[Choices, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(choices(trial.experiment), []).append(trial)
    # Shapes are taken over all folds, also those whose trials stand in another cohort: a trial's
    # batches must not depend on its neighbours.
    folds = range(len(parts))
    train_series = [dataset.series_M[fold_rows(parts, f, splits.TRAIN)] for f in folds]
    most = max(len(fold_rows(parts, f, splits.VALIDATION)) for f in folds)
    val_chunks = -(-most // SCORING_CHUNK)
    val_width = -(-most // val_chunks)
    cohorts = []
    for common, members in groups.items():
        num_batches = max(
            sampling.min_batches(series, common.sampler, common.batch_size)
            for series in train_series
        )
        if common.sampler == SERIES_AWARE:  # as wide as its full batches
            width = min(common.batch_size, max(len(np.unique(s)) for s in train_series))
        else:  # near-equal batches
            width = max(-(-len(series) // num_batches) for series in train_series)
        input_dim = len(dataset.column_indices(common.blocks))
        each = trial_bytes(input_dim, common, max(width, val_width))
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
                    choices=common,
                    num_batches=num_batches,
                    batch_size=width,
                    val_shape=(val_chunks, val_width),
                    skip_empty=common.sampler == SERIES_AWARE
                    or min(map(len, train_series)) < num_batches,
                    input_dim=input_dim,
                    parameters=num_parameters(input_dim, common),
                    memory_bytes=each * len(chunk),
                )
            )
    return cohorts


def fold_rows(parts: np.ndarray, fold: int, part: int) -> np.ndarray:
    """The pairs of one part (TRAIN, VALIDATION or TEST) of a fold, as rows of the dataset."""
    return np.flatnonzero(parts[fold] == part)


def num_parameters(input_dim: int, common: Choices) -> int:
    """What one trial learns: weights, biases, and what its loss does."""
    weights = models.num_parameters(input_dim, common.hidden_dims)
    return weights + (common.loss in losses.LEARN_TIES)


def trial_bytes(input_dim: int, common: Choices, num_pairs: int) -> int:
    """Predicted memory of one trial: weights, gradients, the optimiser's moments and the best
    copy, and the inputs and activations of `num_pairs` pairs, the larger of a training and a
    validation batch; inputs once more for noise, and for mixup."""
    copies = 5 if common.optimizer == "adamw" else 4
    inputs = input_dim * (1 + common.has_noise + common.has_mixup)
    activations = 2 * num_pairs * (inputs + sum(common.hidden_dims))
    return 4 * (copies * num_parameters(input_dim, common) + activations)
