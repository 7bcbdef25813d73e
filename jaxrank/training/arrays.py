"""Arrays of a cohort: the arguments of its compiled program, prepared on the host.

Axis letters as in train.py: P trials, S steps, B pairs of a batch, C validation chunks.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrank import losses, sampling
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, permutation_control
from jaxrank.experiments.hyperparameters import (
    COHORT,
    HYPERPARAMETERS,
    SWITCH,
    TRACED,
    Experiment,
    with_effect,
)
from jaxrank.io import memory
from jaxrank.models import Scorer
from jaxrank.planning.cohort import Cohort, ProgramKey
from jaxrank.planning.trials import Trial
from jaxrank.scaling import Scaling, fit_scaling, normal_score_columns
from jaxrank.training.state import Array, InitialWeights

# Alignment in bytes that XLA needs to read a host array without a copy.
_ALIGNMENT = 64


class DeviceData(NamedTuple):
    """Arrays that all trials share.

    Attributes:
      features_ND: raw features, float32, or float16 from a float16 store. Columns that have normal
        scores are not read; no columns if all have normal scores.
      normal_scores: float32 [folds * N, J], one fold after the other: a fold is a row offset.
    """

    features_ND: Array
    pairs_M2: Array  # int32, rows of features_ND; every pair twice, see `make_inputs`
    preference_M: Array  # float32
    normal_scores: Array


class TrialArrays(NamedTuple):
    """Arrays of one trial, in which the trials of a compiled program differ.

    Attributes:
      hyperparameters: traced hyperparameters by name; a word is its index among its choices.
      log_ties: initial value of `log_ties`, for a loss that learns it.
      first_photo: first row of the trial's fold in `DeviceData.normal_scores`.
      val_rows_CB: int32, validation pairs as rows of pairs_M2; EMPTY in unused places.
    """

    key: Array
    hyperparameters: dict[str, Array]
    log_ties: Array
    mean_D: Array
    inv_std_D: Array
    first_photo: Array
    val_rows_CB: Array


class ProgramSpec(NamedTuple):
    """Static arguments of a cohort's program.

    Attributes:
      key: hyperparameters that are compiled in; for noise and mixup, only whether they are used.
      skip_empty: whether the program skips steps without pairs, as some trial has fewer pairs or
        batches than the cohort has steps. The check costs a tenth of the time.
      side_by_side: see `costs.DeviceProfile`.
      column_runs: see `Cohort`.
    """

    key: ProgramKey
    skip_empty: bool = False
    side_by_side: bool = True
    column_runs: tuple[tuple[bool, int], ...] = ()

    @property
    def exact_model(self) -> Scorer:
        """Model at the highest precision, for saved models and scores."""
        return Scorer(self.key.mlp_hidden_dims, self.key.activation, self.key.use_layernorm)

    @property
    def model(self) -> Scorer:
        """Model at the experiment's precision, for training and its validation."""
        return self.exact_model.clone(precision=self.key.precision)


def make_program_spec(cohort: Cohort) -> ProgramSpec:
    # Cohorts that differ in their data or batches, but not in shapes, share a program.
    blank = {name: type(getattr(cohort.program_key, name))() for name in with_effect(COHORT)}
    key = dataclasses.replace(cohort.program_key, **blank)
    return ProgramSpec(key, cohort.skip_empty, cohort.profile.side_by_side, cohort.column_runs)


class CohortInputs(NamedTuple):
    """Arrays and scaling that all cohorts of the same columns share.

    Attributes:
      data: shared arrays, on the host or on a device.
      scaling: scaling of each fold, fitted on the fold's training photos.
    """

    data: DeviceData
    scaling: dict[int, Scaling]

    def on(self, device: jax.Device | None) -> "CohortInputs":
        """Puts the arrays on a device, by default the one that JAX chooses.

        CPU devices read the host's arrays without a copy.
        """
        return self._replace(data=jax.device_put(self.data, device, may_alias=True))


def make_inputs(
    cohort: Cohort,
    data: SplitDataset,
    folds: Iterable[int],
    start: InitialWeights | None = None,
) -> CohortInputs:
    """Makes the inputs of a cohort on the host: its columns, and their scaling in these folds.

    A cohort that begins from `start` takes the scaling of `start`, so that its trials begin as
    the same function.

    The pairs come twice: as they are, then with the permuted photos of the permutation control.
    A program thus reads the control's pairs by row numbers, like those of a fold.
    """
    dataset = data.dataset
    inputs_ND = dataset.stored_inputs(cohort.program_key.blocks, cohort.program_key.l2_blocks)
    key = cohort.program_key
    columns_J = normal_score_columns(dataset.block_columns, key.blocks, key.input_scaling)
    scaling = {}
    for fold in folds:
        if cohort.program_key.init_from:
            assert start is not None, "init_from is set, but no model was given"
            scaling[fold] = start.scaling
        else:
            photos = np.unique(dataset.pair_rows_M2[data.rows(fold, splits.TRAIN)])
            scaling[fold] = fit_scaling(inputs_ND, photos, columns_J)
    num_photos = len(inputs_ND)
    scores = memory.empty_rows(len(scaling) * num_photos, len(columns_J), np.float32)
    for place, fold in enumerate(scaling):
        first = place * num_photos
        scores[first : first + num_photos] = scaling[fold].normal_scores(inputs_ND)
    pairs = np.concatenate([dataset.pair_rows_M2, permutation_control(dataset).pair_rows_M2])
    if len(columns_J) == inputs_ND.shape[1]:
        inputs_ND = np.empty((num_photos, 0), inputs_ND.dtype)  # not a view of the columns
    on_host: Any = map(_aligned, (inputs_ND, pairs, np.tile(dataset.preference_M, 2), scores))
    return CohortInputs(DeviceData(*on_host), scaling)


def _aligned(array: np.ndarray) -> np.ndarray:
    """Returns the array such that XLA can read it in place; copies it only if needed."""
    dtype = array.dtype
    if dtype != np.float16:  # from a float16 store
        dtype = {"i": np.dtype(np.int32), "f": np.dtype(np.float32)}[dtype.kind]
    in_place = array.ctypes.data % _ALIGNMENT == 0 and array.flags.c_contiguous
    if in_place and array.dtype == dtype:
        return array
    size = array.size * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    aligned = memory[start : start + size].view(dtype).reshape(array.shape)
    aligned[...] = array
    return aligned


def first_row(trial: Trial, dataset: Dataset) -> int:
    """First row of a trial's pairs in `DeviceData.pairs_M2`."""
    return len(dataset.preference_M) if trial.experiment.is_control else 0


def make_trial_arrays(
    cohort: Cohort,
    data: SplitDataset,
    scaling: Mapping[int, Scaling],
    device: jax.Device | None = None,
) -> TrialArrays:
    """Makes the arrays of the cohort's trials; every leaf has a leading axis P.

    Args:
      cohort: the trials.
      data: pairs of the trials.
      scaling: scaling of each fold, from `make_inputs`.
      device: device that trains the trials; by default JAX's own choice.
    """
    dataset = data.dataset
    folds = sorted({trial.fold for trial in cohort.trials})
    val_rows, log_ties = {}, {}
    for fold in folds:
        train = data.rows(fold, splits.TRAIN)
        log_ties[fold] = losses.log_ties_at_chance(dataset.preference_M[train])
        val_rows[fold] = data.rows(fold, splits.VALIDATION)

    def padded(rows: np.ndarray) -> np.ndarray:
        full = np.full(cohort.val_shape, sampling.EMPTY, np.int32)
        full.flat[: len(rows)] = rows
        return full

    trials = cohort.trials
    experiments = [trial.experiment for trial in trials]
    key_data = np.array(
        [np.frombuffer(bytes.fromhex(t.identity)[:8], ">u4") for t in trials], np.uint32
    )

    names = with_effect(TRACED, SWITCH)
    first_photos = [len(dataset.photos) * list(scaling).index(t.fold) for t in trials]
    val_rows_PCB = [padded(val_rows[t.fold] + first_row(t, dataset)) for t in trials]
    on_host: dict[str, Any] = {
        "key": key_data,
        "hyperparameters": {name: _traced(name, experiments) for name in names},
        "log_ties": np.array([log_ties[t.fold] for t in trials], np.float32),
        "mean_D": np.array([scaling[t.fold].mean_D for t in trials], np.float32),
        "inv_std_D": np.array([scaling[t.fold].inv_std_D for t in trials], np.float32),
        "first_photo": np.array(first_photos, np.int32),
        "val_rows_CB": np.array(val_rows_PCB, np.int32),
    }
    arrays = TrialArrays(**jax.device_put(on_host, device))
    return arrays._replace(key=jax.random.wrap_key_data(arrays.key, impl="threefry2x32"))


def _traced(name: str, experiments: Sequence[Experiment]) -> np.ndarray:
    """Values of a traced hyperparameter, [P]: float32, or int32 for whole numbers and words."""
    values = [getattr(e, name) for e in experiments]
    choices = list(HYPERPARAMETERS[name].choices)
    if choices:
        return np.array([choices.index(value) for value in values], np.int32)
    kind = np.float32 if isinstance(values[0], float) else np.int32
    with np.errstate(over="ignore"):  # a learning rate of 1e39 becomes infinite, and is used
        return np.array(values).astype(kind)


def cohort_rows(cohort: Cohort, data: SplitDataset, epoch: int) -> np.ndarray:
    """Draws the batches of one epoch, int32 [P, S, B], as rows of `DeviceData.pairs_M2`.

    The order depends on fold and seed, not on the experiment. Trials that differ only in
    hyperparameters see the same batches (common random numbers).
    """
    dataset = data.dataset
    drawn: dict[tuple[int, int], np.ndarray] = {}
    for fold, seed in {(trial.fold, trial.seed) for trial in cohort.trials}:
        train = data.rows(fold, splits.TRAIN)
        places = sampling.epoch_rows(
            dataset.series_M[train],
            cohort.program_key.sampler,
            cohort.num_batches,
            cohort.batch_size,
            (seed, fold),
            epoch,
        )
        drawn[fold, seed] = np.where(places == sampling.EMPTY, sampling.EMPTY, train[places])

    def rows_of(fold: int, seed: int, first: int) -> np.ndarray:
        rows_SB = drawn[fold, seed]
        rows_SB = np.where(rows_SB == sampling.EMPTY, rows_SB, rows_SB + first)
        return rows_SB.astype(np.int32)

    wanted = [(trial.fold, trial.seed, first_row(trial, dataset)) for trial in cohort.trials]
    rows = {which: rows_of(*which) for which in dict.fromkeys(wanted)}
    return np.stack([rows[which] for which in wanted])
