"""Trains a cohort: compiles it, runs it a dispatch at a time, compacts it as its trials stop.

Axis letters: P slots of the cohort's program, Q of them on the device, E epochs of a dispatch, N
photos. Free slots hold copies of the last trial that never run.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrank.data.dataset import SplitDataset
from jaxrank.planning.cohort import Cohort
from jaxrank.training.arrays import (
    CohortInputs,
    ProgramSpec,
    TrialArrays,
    cohort_rows,
    make_inputs,
    make_program_spec,
    make_trial_arrays,
)
from jaxrank.training.checkpoint import pack
from jaxrank.training.epoch import (
    cohort_epochs,
    cohort_scores,
    init_cohort,
    initial_params,
    start_cohort,
    take,
)
from jaxrank.training.state import (
    FAILED,
    RUNNING,
    STOPPED,
    EpochMetrics,
    FitResult,
    InitialWeights,
    Progress,
    TrainState,
)

# Tracing is Python: of two threads that trace at the same time, both end late. One after the other,
# the first already trains while the second traces. Programs that have been traced take no time.
_TRACING = threading.Lock()
_TRACED: set[int] = set()  # hashes of `Cohort.compiled_as`


class CompiledCohort(NamedTuple):
    """A cohort on the device, ready to train.

    Attributes:
      static, arrays, inputs: arguments of the cohort's programs.
      init: returns the state before the first epoch.
      device: device that trains the cohort.
    """

    static: ProgramSpec
    arrays: TrialArrays
    inputs: CohortInputs
    init: Callable[[], TrainState]
    device: jax.Device


def compile_cohort(
    cohort: Cohort,
    data: SplitDataset,
    *,
    start: InitialWeights | None = None,
    inputs: CohortInputs | None = None,
    device: jax.Device | None = None,
) -> CompiledCohort:
    """Puts a cohort on the device and compiles its programs.

    Args:
      cohort: cohort from `planner.make_cohorts`.
      data: aligned pairs; test rows are never read.
      start: initial weights of trials whose experiment has `init_from`.
      inputs: inputs of the cohort's columns on the device, from `make_inputs`; made by default.
      device: device that trains the cohort; by default JAX's own choice.

    Returns:
      The argument `compiled` of `fit`.
    """
    cohort = cohort.filled()
    static = make_program_spec(cohort)
    if device is None:
        device = next(iter(jnp.zeros(()).devices()))
    if inputs is None:
        inputs = make_inputs(cohort, data, sorted({trial.fold for trial in cohort.trials}), start)
        inputs = inputs.on(device)
    arrays = make_trial_arrays(cohort, data, inputs.scaling, device)
    if cohort.program_key.init_from:
        assert start is not None
        begin, arguments = start_cohort, (static, arrays, initial_params(start, static.key.loss))
    else:
        widths = [trial.experiment.mlp_hidden_dims for trial in cohort.trials]
        begin, arguments = init_cohort, (static, arrays, tuple(widths) if cohort.padded else None)
    compiled = CompiledCohort(static, arrays, inputs, partial(begin, *arguments), device)
    key = hash(cohort.compiled_as)
    with nullcontext() if key in _TRACED else _TRACING:
        # A cohort that continues from a rung has its first state from there.
        first = [] if cohort.begins else [begin.lower(*arguments)]
        rest = _traced(cohort, compiled)
    _TRACED.add(key)
    for program in (*first, *rest):
        program.compile()
    return compiled


def _traced(cohort: Cohort, compiled: CompiledCohort) -> list[jax.stages.Lowered]:
    """Traces the programs that train and score the cohort; later calls find them compiled."""
    static, arrays, inputs, init, device = compiled
    # On this device, as `fit` passes it: for arrays without a device JAX compiles another program,
    # and would compile a second one when `fit` calls it.
    here = jax.sharding.SingleDeviceSharding(device)
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        jax.eval_shape(init),
    )
    shape = (
        len(cohort.trials),
        cohort.epochs_per_dispatch,
        cohort.num_batches,
        cohort.batch_size,
    )
    rows = jax.ShapeDtypeStruct(shape, jnp.int32)
    wanted = jax.ShapeDtypeStruct((len(cohort.trials),), jnp.bool_)
    return [
        cohort_epochs.lower(static, inputs.data, arrays, state, rows),
        cohort_scores.lower(static, inputs.data, arrays, state.best_params, wanted),
    ]


def fit(
    cohort: Cohort,
    data: SplitDataset,
    *,
    compiled: CompiledCohort | None = None,
    start: InitialWeights | None = None,
    restore: Callable[[TrainState], Progress | None] = lambda shapes: None,
    on_dispatch: Callable[[Progress], None] = lambda progress: None,
    num_epochs: int | None = None,
) -> FitResult:
    """Trains a cohort until all its trials have stopped, or to its rung.

    Args:
      cohort, data, start: see `compile_cohort`.
      compiled: result of `compile_cohort`; by default `compile_cohort` is called.
      restore: given the shapes of the state, returns the progress of an earlier run on the host,
        or None.
      on_dispatch: called after every dispatch; an exception that it raises ends the training.
      num_epochs: largest number of epochs, a multiple of the cohort's epochs of a dispatch; by
        default the cohort's rung. Learning rates follow the schedule to `max_epochs` regardless.

    Returns:
      The result on the host. A trial whose numbers are not finite has the status FAILED.
    """
    begun = time.perf_counter()
    if compiled is None:
        compiled = compile_cohort(cohort, data, start=start)
    num_trials = len(cohort.trials)
    cohort = cohort.filled()
    progress = restore(jax.eval_shape(compiled.init))
    if progress is None:
        progress = _begun(compiled, num_trials)
    else:  # a copy: the next dispatch reuses the state's memory
        on_device = jax.device_put(progress.state, compiled.device, may_alias=False)
        progress = progress._replace(state=on_device)
    begun -= progress.seconds
    num_epochs = cohort.ends if num_epochs is None else num_epochs
    for after in _dispatches(cohort, data, compiled, progress, begun, num_epochs):
        progress = after
        on_dispatch(progress)
    return _finished(cohort, compiled, progress, begun)


def _begun(compiled: CompiledCohort, num_trials: int) -> Progress:
    """Progress before the first epoch; slots without a trial have stopped."""
    state = compiled.init()
    status_Q: Any = np.array(state.status)
    status_Q[num_trials:] = STOPPED
    state = jax.device_put(state._replace(status=status_Q), compiled.device)
    return Progress(state, np.arange(len(status_Q)), None, [], 0.0, num_trials)


def _dispatches(
    cohort: Cohort,
    data: SplitDataset,
    compiled: CompiledCohort,
    progress: Progress,
    begun: float,
    num_epochs: int | None,
) -> Iterator[Progress]:
    """Runs dispatches until no trial runs or all epochs are done; yields each one's progress."""
    num_slots = len(cohort.trials)

    def on_device(places_Q: np.ndarray) -> tuple[Cohort, TrialArrays]:
        if len(places_Q) == num_slots:
            return cohort, compiled.arrays
        smaller = cohort.with_trials([cohort.trials[p] for p in places_Q])
        return smaller, make_trial_arrays(smaller, data, compiled.inputs.scaling, compiled.device)

    def rows_of(trained: Cohort, epoch: int) -> np.ndarray:
        epochs = range(epoch, epoch + cohort.epochs_per_dispatch)
        return np.stack([cohort_rows(trained, data, e) for e in epochs], axis=1)

    trained, arrays = on_device(progress.places_Q)
    rows = rows_of(trained, len(progress.history))
    while progress.num_running and len(progress.history) != num_epochs:
        keep = _worth_keeping(trained, progress, num_epochs)
        if len(keep) < len(trained.trials):
            progress, rows = _compact(progress, keep), rows[keep]
            trained, arrays = on_device(progress.places_Q)
        state, metrics = cohort_epochs(
            compiled.static, compiled.inputs.data, arrays, progress.state, rows
        )
        # Sampling for the next dispatch runs while the device works on this one.
        rows = rows_of(trained, len(progress.history) + cohort.epochs_per_dispatch)
        # The device waits here until the host has read a few numbers. In return, no dispatch runs
        # for a cohort that has stopped.
        epochs = _of_all(jax.device_get(metrics), progress.places_Q, num_slots)
        progress = progress._replace(
            state=state,
            history=[*progress.history, *epochs],
            seconds=time.perf_counter() - begun,
        )
        yield progress


def _finished(
    cohort: Cohort, compiled: CompiledCohort, progress: Progress, begun: float
) -> FitResult:
    """Scores all photos with the best parameters, and fetches the result from the device."""
    state, num_trials = progress.whole_state(), progress.num_trials
    wanted_P = np.arange(len(cohort.trials)) < num_trials
    scores = cohort_scores(
        compiled.static, compiled.inputs.data, compiled.arrays, state.best_params, wanted_P
    )
    scores_PN = np.array(scores[:num_trials])
    status_P = np.asarray(state.status)[:num_trials]
    scores_PN[status_P == FAILED] = np.nan
    return FitResult(
        best_params=jax.tree.map(lambda leaf: leaf[:num_trials], jax.device_get(state.best_params)),
        scaling_P=[compiled.inputs.scaling[trial.fold] for trial in cohort.trials[:num_trials]],
        scores_PN=scores_PN,
        status_P=status_P,
        epochs_run_P=np.asarray(state.epoch)[:num_trials],
        best_epoch_P=np.asarray(state.best_epoch)[:num_trials],
        history=jax.tree.map(lambda *leaves: np.stack(leaves)[:, :num_trials], *progress.history),
        seconds=time.perf_counter() - begun,
        packed=None if cohort.ends is None else pack(progress).packed,
    )


def _of_all(metrics: EpochMetrics, places_Q: np.ndarray, num_slots: int) -> Iterable[EpochMetrics]:
    """Splits metrics [Q, E] into one EpochMetrics [P] per epoch.

    Epochs in which no trial was running are left out. Trials that are not on the device have NaN.
    """
    for e in range(metrics.running.shape[1]):
        if not metrics.running[:, e].any():
            return
        blank: Any = [np.full(num_slots, np.nan, np.float32) for _ in metrics[:-1]]
        epoch = EpochMetrics._make([*blank, np.zeros(num_slots, bool)])
        for of_all, leaf in zip(epoch, metrics, strict=True):
            of_all[places_Q] = leaf[:, e]
        yield epoch


def _worth_keeping(trained: Cohort, progress: Progress, num_epochs: int | None) -> np.ndarray:
    """Indices in the state of the trials that should stay on the device.

    These are the running trials, and stopped trials to fill up the size that the plan asks for.
    """
    status, stale, epoch = (np.asarray(getattr(progress.state, name))
                            for name in ("status", "stale", "epoch"))  # fmt: skip
    running = np.flatnonzero(status == RUNNING)
    # Least number of epochs left: until a trial has been stale for its patience, or its last epoch.
    limits = [(trained.trials[q].experiment.patience, trained.trials[q].experiment.max_epochs)
              for q in running]  # fmt: skip
    needs = [
        min(patience - stale[q], most - epoch[q]) if patience else most - epoch[q]
        for q, (patience, most) in zip(running, limits, strict=True)
    ]
    left = int(max(needs))
    if num_epochs is not None:
        left = min(left, num_epochs - len(progress.history))
    size = trained.compacted_size(len(running), left)
    stopped = np.flatnonzero(status != RUNNING)
    return np.sort(np.concatenate([running, stopped[: size - len(running)]]))


def _compact(progress: Progress, keep: np.ndarray) -> Progress:
    """Takes all trials except those at `keep` off the device."""
    left = progress.whole_state()
    if progress.left is None:  # copies: the next dispatch reuses the device's memory
        left = jax.tree.map(np.array, left)
    return progress._replace(
        state=take(progress.state, jnp.asarray(keep)), places_Q=progress.places_Q[keep], left=left
    )
