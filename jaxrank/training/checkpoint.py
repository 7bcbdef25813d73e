"""A running cohort as bytes: what is saved of it, and what an engine sends.

One vector of bytes and not a tree of arrays, because several arrays that can't be written at once,
on a full disk, make TensorStore's threads print a traceback for each.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrank.training.state import EpochMetrics, Progress, TrainState


class Checkpoint(NamedTuple):
    """A running cohort at the end of an epoch.

    Attributes:
      epoch: epochs that it has done.
      packed: uint8, the state of all trials, the history, the seconds and which trials are on the
        device.
    """

    epoch: int
    packed: np.ndarray


def num_bytes(progress: Progress) -> int:
    """Of the state that a checkpoint holds."""
    state = progress.state if progress.left is None else progress.left
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def pack(progress: Progress) -> Checkpoint:
    """A copy: the next dispatch uses the state's memory again."""
    history = jax.tree.map(lambda *leaves: np.stack(leaves), *progress.history)
    on_device = np.zeros(len(history.running[0]), bool)
    on_device[progress.places_Q] = True
    seconds = np.array([progress.seconds])
    tree = (progress.whole_state(), history, seconds, on_device)
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(tree)]
    packed = np.concatenate([leaf.reshape(-1).view(np.uint8) for leaf in leaves])
    return Checkpoint(len(progress.history), packed)


def unpack(checkpoint: Checkpoint, shapes: TrainState) -> Progress | None:
    """The progress, on the host; None where the bytes are not of a state of these shapes."""
    layout = _layout(shapes, checkpoint.epoch)
    leaves, structure = jax.tree.flatten(layout)
    ends = np.cumsum([leaf.nbytes for leaf in leaves])
    if checkpoint.packed.nbytes != ends[-1]:
        return None
    parts = np.split(checkpoint.packed, ends[:-1])
    state, history, seconds, on_device = jax.tree.unflatten(
        structure,
        [
            part.view(leaf.dtype).reshape(leaf.shape)
            for part, leaf in zip(parts, leaves, strict=True)
        ],
    )
    places_Q = np.flatnonzero(on_device)
    all_there = len(places_Q) == len(on_device)
    return Progress(
        state if all_there else jax.tree.map(lambda leaf: leaf[places_Q], state),
        places_Q,
        None if all_there else jax.tree.map(np.array, state),
        [EpochMetrics(*(leaf[e] for leaf in history)) for e in range(checkpoint.epoch)],
        float(seconds[0]),
    )


def _layout(shapes: TrainState, epochs: int) -> tuple[TrainState, Any, np.ndarray, np.ndarray]:
    """Arrays of the shapes and types that a checkpoint holds: state, history, seconds, and which
    trials are on the device."""
    num_trials = shapes.status.shape[0]
    history: Any = [
        np.empty((epochs, num_trials), bool if name == "running" else np.float32)
        for name in EpochMetrics._fields
    ]
    state = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    return state, EpochMetrics(*history), np.empty(1), np.empty(num_trials, bool)
