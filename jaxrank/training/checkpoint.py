"""Checkpoints of running cohorts as bytes, to be saved or sent by an engine.

A checkpoint is one vector of bytes and not a tree of arrays: on a full disk, TensorStore's threads
would print a traceback for each array.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxrank.training.state import STOPPED, EpochMetrics, Progress, TrainState


class Checkpoint(NamedTuple):
    """State of a running cohort at the end of an epoch.

    Attributes:
      epoch: number of epochs done.
      packed: uint8, the state of all trials, the history, the seconds and which trials are on the
        device.
    """

    epoch: int
    packed: np.ndarray


class ContinuedTrials(NamedTuple):
    """Trials of a cohort that has ended at a rung, to be trained further in another cohort.

    Attributes:
      checkpoint: checkpoint of the ended cohort.
      num_trials: number of trials in the ended cohort.
      places: indices of the continuing trials in the ended cohort.
      new_places: indices of the continuing trials in the other cohort.
    """

    checkpoint: Checkpoint
    num_trials: int
    places: list[int]
    new_places: list[int]


def num_bytes(progress: Progress) -> int:
    """Size in bytes of the state that a checkpoint holds."""
    state = progress.state if progress.left is None else progress.left
    return sum(leaf.nbytes // len(leaf) for leaf in jax.tree.leaves(state)) * progress.num_trials


def pack(progress: Progress) -> Checkpoint:
    """Packs a copy of the trials' progress, since the next dispatch reuses the state's memory."""
    trials = slice(progress.num_trials)
    on_device = np.zeros(len(progress.history[0].running), bool)
    on_device[progress.places_Q] = True
    history = jax.tree.map(lambda *leaves: np.stack(leaves)[:, trials], *progress.history)
    state = jax.tree.map(lambda leaf: np.asarray(leaf)[trials], progress.whole_state())
    tree = (state, history, np.array([progress.seconds]), on_device[trials])
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(tree)]
    packed = np.concatenate([leaf.reshape(-1).view(np.uint8) for leaf in leaves])
    return Checkpoint(len(progress.history), packed)


def unpack(
    checkpoint: Checkpoint, shapes: TrainState, num_trials: int | None = None
) -> Progress | None:
    """Unpacks the progress of a cohort's trials on the host.

    Args:
      checkpoint: checkpoint of the trials.
      shapes: shapes of the state of all slots.
      num_trials: number of trials; by default that of the slots.

    Returns:
      The progress; None if the bytes are not the state of such trials.
    """
    num_trials = shapes.status.shape[0] if num_trials is None else num_trials
    layout = _layout(_with_slots(shapes, num_trials), checkpoint.epoch)
    arrays = _read(checkpoint.packed, layout)
    if arrays is None:
        return None
    state, history, seconds, on_device = arrays
    if on_device.all():
        return _all_there(state, history, float(seconds[0]), shapes)
    places_Q = np.flatnonzero(on_device)
    return Progress(
        jax.tree.map(lambda leaf: leaf[places_Q], state),
        places_Q,
        jax.tree.map(np.array, state),
        _by_epoch(history),
        float(seconds[0]),
        num_trials,
    )


def join(parts: Sequence[ContinuedTrials], shapes: TrainState) -> Progress | None:
    """Joins the progress of trials that other cohorts have trained to one epoch, on the host.

    Each trial adds its share of its cohort's seconds. Returns None if the bytes are not the state
    of such trials.
    """
    epoch = parts[0].checkpoint.epoch
    num_trials = sum(len(part.places) for part in parts)
    state, history, _, _ = _layout(_with_slots(shapes, num_trials), epoch)
    seconds = 0.0
    for part in parts:
        layout = _layout(_with_slots(shapes, part.num_trials), part.checkpoint.epoch)
        arrays = _read(part.checkpoint.packed, layout)
        if arrays is None or part.checkpoint.epoch != epoch:
            return None
        for whole, leaf in zip(jax.tree.leaves(state), jax.tree.leaves(arrays[0]), strict=True):
            whole[part.new_places] = leaf[part.places]
        for whole, leaf in zip(history, arrays[1], strict=True):
            whole[:, part.new_places] = leaf[:, part.places]
        seconds += float(arrays[2][0]) * len(part.places) / part.num_trials
    return _all_there(state, history, seconds, shapes)


def _all_there(
    state: TrainState, history: EpochMetrics, seconds: float, shapes: TrainState
) -> Progress:
    """Progress with all trials on the device; free slots are zero and have stopped."""
    num_trials, num_slots = len(state.status), shapes.status.shape[0]
    if num_trials < num_slots:
        free = num_slots - num_trials
        state = jax.tree.map(lambda leaf: np.pad(leaf, _behind(free, axis=0, leaf=leaf)), state)
        np.asarray(state.status)[num_trials:] = STOPPED
        history = jax.tree.map(lambda leaf: np.pad(leaf, _behind(free, 1, leaf)), history)
    places_Q = np.arange(num_slots)
    return Progress(state, places_Q, None, _by_epoch(history), seconds, num_trials)


def _behind(free: int, axis: int, leaf: np.ndarray) -> list[tuple[int, int]]:
    """Widths for `np.pad` that add free slots behind the others."""
    return [(0, free * (place == axis)) for place in range(leaf.ndim)]


_Arrays: TypeAlias = tuple[TrainState, EpochMetrics, np.ndarray, np.ndarray]


def _read(packed: np.ndarray, layout: _Arrays) -> _Arrays | None:
    leaves, structure = jax.tree.flatten(layout)
    ends = np.cumsum([leaf.nbytes for leaf in leaves])
    if packed.nbytes != ends[-1]:
        return None
    parts = np.split(packed, ends[:-1])
    found: _Arrays = jax.tree.unflatten(
        structure,
        [
            part.view(leaf.dtype).reshape(leaf.shape)
            for part, leaf in zip(parts, leaves, strict=True)
        ],
    )
    return found


def _with_slots(shapes: TrainState, number: int) -> TrainState:
    """Shapes of the state of a cohort with `number` slots."""

    def with_slots(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((number, *leaf.shape[1:]), leaf.dtype)

    found: TrainState = jax.tree.map(with_slots, shapes)
    return found


def _by_epoch(history: EpochMetrics) -> list[EpochMetrics]:
    return [EpochMetrics(*(leaf[e] for leaf in history)) for e in range(len(history.running))]


def _layout(shapes: TrainState, epochs: int) -> _Arrays:
    """Arrays with the shapes and types of a checkpoint's contents.

    They are the state, the history, the seconds, and which trials are on the device.
    """
    num_slots = shapes.status.shape[0]
    history: Any = [
        np.empty((epochs, num_slots), bool if name == "running" else np.float32)
        for name in EpochMetrics._fields
    ]
    state = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    return state, EpochMetrics(*history), np.empty(1), np.empty(num_slots, bool)
