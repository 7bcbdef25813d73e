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
      num_slots, num_trials: slots and trials of the ended cohort.
      places: indices of the continuing trials in the ended cohort.
      new_places: indices of the continuing trials in the other cohort.
    """

    checkpoint: Checkpoint
    num_slots: int
    num_trials: int
    places: list[int]
    new_places: list[int]


def num_bytes(progress: Progress) -> int:
    """Size in bytes of the state that a checkpoint holds."""
    state = progress.state if progress.left is None else progress.left
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def pack(progress: Progress) -> Checkpoint:
    """Packs a copy of the progress, since the next dispatch reuses the state's memory."""
    history = jax.tree.map(lambda *leaves: np.stack(leaves), *progress.history)
    on_device = np.zeros(len(history.running[0]), bool)
    on_device[progress.places_Q] = True
    seconds = np.array([progress.seconds])
    tree = (progress.whole_state(), history, seconds, on_device)
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(tree)]
    packed = np.concatenate([leaf.reshape(-1).view(np.uint8) for leaf in leaves])
    return Checkpoint(len(progress.history), packed)


def unpack(checkpoint: Checkpoint, shapes: TrainState) -> Progress | None:
    """Unpacks the progress on the host; None if the bytes are not a state of these shapes."""
    arrays = _read(checkpoint.packed, _layout(shapes, checkpoint.epoch))
    if arrays is None:
        return None
    state, history, seconds, on_device = arrays
    places_Q = np.flatnonzero(on_device)
    all_there = len(places_Q) == len(on_device)
    return Progress(
        state if all_there else jax.tree.map(lambda leaf: leaf[places_Q], state),
        places_Q,
        None if all_there else jax.tree.map(np.array, state),
        _by_epoch(history),
        float(seconds[0]),
    )


def join(parts: Sequence[ContinuedTrials], shapes: TrainState) -> Progress | None:
    """Joins the progress of trials that other cohorts have trained to one epoch, on the host.

    Each trial adds its share of its cohort's seconds. Slots without a trial are zero and have
    stopped. Returns None if the bytes are not the state of such trials.
    """
    epoch = parts[0].checkpoint.epoch
    num_slots = shapes.status.shape[0]
    state, history, _, _ = jax.tree.map(np.zeros_like, _layout(shapes, epoch))
    state.status[:] = STOPPED
    seconds = 0.0
    for part in parts:
        layout = _layout(_with_slots(shapes, part.num_slots), part.checkpoint.epoch)
        arrays = _read(part.checkpoint.packed, layout)
        if arrays is None or part.checkpoint.epoch != epoch:
            return None
        for whole, leaf in zip(jax.tree.leaves(state), jax.tree.leaves(arrays[0]), strict=True):
            whole[part.new_places] = leaf[part.places]
        for whole, leaf in zip(history, arrays[1], strict=True):
            whole[:, part.new_places] = leaf[:, part.places]
        seconds += float(arrays[2][0]) * len(part.places) / part.num_trials
    return Progress(state, np.arange(num_slots), None, _by_epoch(history), seconds)


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
