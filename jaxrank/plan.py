"""From experiments to trials, and from trials to cohorts that one program trains side by side.

A plan is a pure function of the experiments, the data's shape, the memory limit and the rates of
the machine (costs.py), which are built in or read from a file: never of the hour.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxrank import costs, losses, models, sampling, splits
from jaxrank.costs import Rates, Work, built_in_rates
from jaxrank.datasets import Dataset
from jaxrank.errors import UserError
from jaxrank.experiments import Experiment

# Pairs (validation) or photos (final scores) that a trial holds in memory at a time outside of
# its training batches.
SCORING_CHUNK = 512

# A dispatch is long enough for its overhead not to matter, and short enough for a progress bar, a
# Ctrl-C, and a cohort that stops in the middle of it.
_DISPATCH_SECONDS = 0.1
_MOST_EPOCHS = 8

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
      choices: of every trial, but that `hidden_dims` may be wider than a trial's own.
      num_batches: S, the steps of an epoch.
      batch_size: B, the pairs of the largest batch.
      val_shape: chunks and width of the validation rows.
      skip_empty: some fold has fewer training pairs, or batches, than the cohort has steps.
      input_dim: D.
      epochs_per_dispatch: E, the epochs that the device runs before the host looks.
      shared_bytes: predicted memory of what all trials read.
      trial_bytes: and of each trial.
      rates: that its costs are predicted with.
    """

    trials: tuple[Trial, ...]
    choices: Choices
    num_batches: int
    batch_size: int
    val_shape: tuple[int, int]
    skip_empty: bool
    input_dim: int
    epochs_per_dispatch: int
    shared_bytes: int
    trial_bytes: int
    rates: Rates

    @property
    def program(self) -> dict[str, Any]:
        """What its compiled program depends on, besides the number of trials."""
        apart = ("trials", "choices", "shared_bytes", "trial_bytes", "rates")
        shapes = {key: value for key, value in self._asdict().items() if key not in apart}
        return {"choices": self.choices._asdict()} | shapes

    @property
    def memory_bytes(self) -> int:
        """Predicted."""
        return self.shared_bytes + len(self.trials) * self.trial_bytes

    @property
    def max_epochs(self) -> int:
        return max(trial.experiment.max_epochs for trial in self.trials)

    @property
    def padded(self) -> list[str]:
        """The experiments whose hidden layers are padded to those of the cohort."""
        wide = self.choices.hidden_dims
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
            self.choices.hidden_dims,
            self.choices.optimizer,
            len(self.trials),
            self.num_batches,
            self.batch_size,
            chunks * width,
        )

    @property
    def epoch_seconds(self) -> float:
        """Predicted."""
        return self.rates.seconds(self.epoch_work)

    @property
    def seconds(self) -> float:
        """Predicted, if no trial stops early and nothing is compiled yet."""
        return self.rates.compile_seconds + self.max_epochs * self.epoch_seconds

    def compacted_size(self, num_running: int, epochs_left: int) -> int:
        """How many trials to go on with when so many still run: a power of two, or as many as now.

        Fewer only where that pays: where what the running trials will surely need, `epochs_left`,
        takes longer with the stopped ones than without them by more than a compilation. Powers of
        two, so that a cohort compiles at most log2(P) times.
        """
        smaller = 1 << max(num_running - 1, 0).bit_length()
        if smaller >= len(self.trials):
            return len(self.trials)
        saved = self.epoch_seconds - self.with_trials(self.trials[:smaller]).epoch_seconds
        pays = epochs_left * saved > self.rates.compile_seconds
        return smaller if pays else len(self.trials)

    def with_trials(self, trials: Sequence[Trial]) -> "Cohort":
        """The cohort of other trials of the same program."""
        return self._replace(trials=tuple(trials))


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


class Folds(NamedTuple):
    """What shapes depend on: taken over all folds, also those whose trials stand in another
    cohort, since a trial's batches must not depend on its neighbours.

    Attributes:
      train_series: of each fold, the series of its training pairs.
      most_val: validation pairs of the fold that has most.
    """

    train_series: list[np.ndarray]
    most_val: int


def measure_folds(dataset: Dataset, parts: np.ndarray) -> Folds:
    folds = range(len(parts))
    return Folds(
        [dataset.series_M[fold_rows(parts, f, splits.TRAIN)] for f in folds],
        max(len(fold_rows(parts, f, splits.VALIDATION)) for f in folds),
    )


def make_cohort(
    trials: Sequence[Trial],
    dataset: Dataset,
    folds: Folds,
    rates: Rates,
    hidden_dims: tuple[int, ...],
    epochs_per_dispatch: int | None = None,
) -> Cohort:
    """The cohort of trials whose choices differ in nothing but hidden sizes.

    Args:
      trials: at least one.
      dataset, folds: their pairs.
      rates: that its costs are predicted with.
      hidden_dims: at least as wide as each trial's.
      epochs_per_dispatch: by default so many that a dispatch takes _DISPATCH_SECONDS.
    """
    common = choices(trials[0].experiment)
    num_batches = max(
        sampling.min_batches(series, common.sampler, common.batch_size)
        for series in folds.train_series
    )
    if common.sampler == SERIES_AWARE:  # as wide as its full batches
        width = min(common.batch_size, max(len(np.unique(s)) for s in folds.train_series))
    else:  # near-equal batches
        width = max(-(-len(series) // num_batches) for series in folds.train_series)
    val_chunks = -(-folds.most_val // SCORING_CHUNK)
    val_width = -(-folds.most_val // val_chunks)
    input_dim = len(dataset.column_indices(common.blocks))
    cohort = Cohort(
        trials=tuple(trials),
        choices=common,
        num_batches=num_batches,
        batch_size=width,
        val_shape=(val_chunks, val_width),
        skip_empty=common.sampler == SERIES_AWARE
        or min(map(len, folds.train_series)) < num_batches,
        input_dim=input_dim,
        epochs_per_dispatch=1,
        shared_bytes=4 * (len(dataset.photos) * input_dim + 3 * len(dataset.preference_M)),
        trial_bytes=0,
        rates=rates,
    )
    return _shaped(cohort, trials, hidden_dims, epochs_per_dispatch)


def _shaped(
    cohort: Cohort,
    trials: Sequence[Trial],
    hidden_dims: tuple[int, ...],
    epochs_per_dispatch: int | None = None,
) -> Cohort:
    """The cohort of other trials, with other hidden sizes."""
    common = cohort.choices._replace(hidden_dims=hidden_dims)
    num_pairs = max(cohort.batch_size, cohort.val_shape[1])
    each = trial_bytes(cohort.input_dim, common, num_pairs)
    shaped = cohort._replace(trials=tuple(trials), choices=common, trial_bytes=each)
    if epochs_per_dispatch is None:
        most = min(_MOST_EPOCHS, shaped.max_epochs)
        epochs_per_dispatch = max(1, min(most, int(_DISPATCH_SECONDS / shaped.epoch_seconds)))
    return shaped._replace(epochs_per_dispatch=epochs_per_dispatch)


def make_cohorts(
    trials: Sequence[Trial],
    dataset: Dataset,
    parts: np.ndarray,
    memory_limit: int,
    rates: Rates | None = None,
) -> list[Cohort]:
    """Groups trials by their static shapes, in order of first appearance; pads narrow groups into
    wider ones where that pays; and cuts a group that would not fit in memory into near-equal
    cohorts.

    Args:
      trials: whose blocks all stand in the dataset.
      dataset: the aligned pairs.
      parts: int8 [F, M], from `splits.split_pairs`.
      memory_limit: bytes that one cohort may take.
      rates: of the machine; by default those that are built in.

    Raises:
      UserError: one trial alone is over the limit.
    """
    rates = built_in_rates() if rates is None else rates
    folds = measure_folds(dataset, parts)
    groups: dict[Choices, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(choices(trial.experiment), []).append(trial)
    wholes = [
        make_cohort(members, dataset, folds, rates, common.hidden_dims)
        for common, members in groups.items()
    ]
    cohorts = []
    for whole in _padded_together(wholes, trials, memory_limit):
        room = memory_limit - whole.shared_bytes
        if whole.trial_bytes > room:
            needed = whole.shared_bytes + whole.trial_bytes
            raise UserError(
                f"experiment '{whole.trials[0].experiment.name}': one trial needs "
                f"{needed / 2**30:,.1f} GiB, but {memory_limit / 2**30:,.1f} GiB may be used; make "
                "mlp_hidden_dims or batch_size smaller, or --memory_fraction larger"
            )
        # Ceil divisions: the fewest cohorts that fit, of near-equal size.
        num_cohorts = -(-len(whole.trials) // (room // whole.trial_bytes))
        for chunk in np.array_split(np.arange(len(whole.trials)), num_cohorts):
            cohorts.append(whole.with_trials([whole.trials[i] for i in chunk]))
    return cohorts


def _padded_together(
    wholes: Sequence[Cohort], trials: Sequence[Trial], memory_limit: int
) -> list[Cohort]:
    """Merges cohorts that differ in nothing but their hidden sizes, the narrower padded to the
    wider, as long as fewer compilations and steps save more than wider layers cost.

    Padding is exact: a unit whose weights are all zero gives zero, gets no gradient, and stays so.
    """
    place = {trial.key: i for i, trial in enumerate(trials)}
    families: dict[tuple[Choices, int], list[Cohort]] = {}
    for cohort in wholes:
        dims = cohort.choices.hidden_dims
        family = cohort.choices._replace(hidden_dims=()), len(dims)
        families.setdefault(family, []).append(cohort)
    merged = []
    for members in families.values():
        # From wide to narrow, each with the narrowest so far: others would cost more.
        members.sort(key=lambda cohort: cohort.trial_bytes, reverse=True)
        wide = members[0]
        for narrow in members[1:]:
            dims = tuple(map(max, wide.choices.hidden_dims, narrow.choices.hidden_dims))
            both = sorted([*wide.trials, *narrow.trials], key=lambda trial: place[trial.key])
            together = _shaped(wide, both, dims)
            pays = together.seconds < wide.seconds + narrow.seconds
            if pays and together.memory_bytes <= memory_limit:
                wide = together
            else:
                merged.append(wide)
                wide = narrow
        merged.append(wide)
    return sorted(merged, key=lambda cohort: place[cohort.trials[0].key])


def fold_rows(parts: np.ndarray, fold: int, part: int) -> np.ndarray:
    """The pairs of one part (TRAIN, VALIDATION or TEST) of a fold, as rows of the dataset."""
    return np.flatnonzero(parts[fold] == part)


def num_parameters(input_dim: int, experiment: Experiment) -> int:
    """What one trial learns: weights, biases, and what its loss does."""
    weights = models.num_parameters(input_dim, experiment.mlp_hidden_dims)
    return weights + (experiment.loss in losses.LEARN_TIES)


def trial_bytes(input_dim: int, common: Choices, num_pairs: int) -> int:
    """Predicted memory of one trial: weights, gradients, the optimiser's moments and the best
    copy, and the inputs and activations of `num_pairs` pairs, the larger of a training and a
    validation batch; inputs once more for noise, and for mixup."""
    copies = 5 if common.optimizer == "adamw" else 4
    inputs = input_dim * (1 + common.has_noise + common.has_mixup)
    activations = 2 * num_pairs * (inputs + sum(common.hidden_dims))
    return 4 * (copies * models.num_parameters(input_dim, common.hidden_dims) + activations)
