"""What a search keeps on disk while it runs: checkpoints of the running cohort, within a time
budget, and the results of the finished ones.

In the search's folder `checkpoints/`: `7/` holds the last two checkpoints of cohort 7 (Orbax),
named by their epochs, as long as it runs; `7.npz` holds its results when it has finished.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxrank.io import atomic, seal
from jaxrank.training.state import EpochMetrics, Progress, TrainState

FOLDER = "checkpoints"
# What a save is expected to take until one has been timed: seconds, and the bytes that it writes.
_FIRST_GUESS = (0.5, 25_000_000)

_PACKED = "packed"

log = logging.getLogger("jaxrank")


class Saver:
    """Saves what a search must not lose, and keeps account of the time that it takes.

    A save of a running cohort counts from its beginning to the end of its asynchronous part,
    although training continues meanwhile: on a CPU the two share the cores.
    """

    def __init__(self, folder: Path, budget: float, search: str = ""):
        """Args:
        folder: of the search.
        budget: the share of the run's time that saves of running cohorts may take.
        search: tells its checkpoints from those of other searches.
        """
        self._folder = (folder / FOLDER).absolute()
        self._budget = budget
        self._search = search
        self._start = time.perf_counter()
        self._saves: list[float] = []  # seconds of each checkpoint; Orbax's thread appends
        self._results: list[float] = []  # and of each cohort's results
        self._last_save = _FIRST_GUESS  # seconds and bytes
        self._manager: ocp.CheckpointManager | None = None
        self._in_flight = (0.0, 0, 0, 0)  # start, bytes, cohort and epoch of the save under way
        self._orbax = threading.RLock()  # held by whoever calls Orbax

    def of(self, search: str) -> "Saver":
        """One in the same folder for what rests on something else, and is saved by itself."""
        return Saver(self._folder.parent, self._budget, search)

    @property
    def spent(self) -> float:
        """Seconds."""
        return sum(self._saves) + sum(self._results)

    def account(self) -> str:
        """What saving has cost, in a sentence."""
        share = self.spent / (time.perf_counter() - self._start)
        return (
            f"saving took {self.spent:.1f} s, {100 * share:.1f}% of the time: "
            f"{len(self._saves)} checkpoints, results of {len(self._results)} cohorts"
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Another thread may call Orbax inside: nothing is saved meanwhile.

        Its operations share one counter in a process. Of two at once, one waits for signals that
        the other was sent, and fails after five minutes.
        """
        with self._orbax:
            self._wait()
            yield

    def restore(self, number: int, shapes: TrainState) -> Progress | None:
        """The newest readable checkpoint of a cohort; None where there is none."""
        if not (self._folder / str(number)).exists():
            return None
        with self._orbax:
            return self._restore(number, shapes)

    def _restore(self, number: int, shapes: TrainState) -> Progress | None:
        manager = self._open(number)
        for epoch in sorted(manager.all_steps(), reverse=True):
            if not _is_sealed(self._folder / str(number) / str(epoch), self._name(number, epoch)):
                log.warning(
                    "the checkpoint of epoch %d of cohort %d is damaged and passed over",
                    epoch,
                    number,
                )
                manager.delete(epoch)
                continue
            layout = _layout(shapes, epoch)
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(layout))
            target = {_PACKED: np.empty(size, np.uint8)}
            saved = manager.restore(epoch, args=ocp.args.StandardRestore(target))
            state, history, seconds, on_device = _unpack(saved[_PACKED], layout)
            log.info("cohort %d resumes after epoch %d", number, epoch)
            places = np.flatnonzero(on_device)
            all_there = len(places) == len(on_device)
            return Progress(
                # A copy on the device: the state's memory is used again by the next dispatch.
                jax.tree.map(lambda leaf, at=places: jnp.array(leaf[at]), state),
                places,
                None if all_there else jax.tree.map(np.array, state),
                [EpochMetrics(*(leaf[e] for leaf in history)) for e in range(epoch)],
                float(seconds[0]),
            )
        return None

    def save_if_due(self, number: int, progress: Progress) -> None:
        """Saves a running cohort where the time budget has room for it."""
        if not self._orbax.acquire(blocking=False):
            return
        try:
            if self._manager is not None:
                if self._manager.is_saving_in_progress():
                    return
                self._wait()  # it has ended: this raises if it failed
            seconds, size = self._last_save
            expected = seconds * max(1.0, num_bytes(progress) / size)
            room = self._budget * (time.perf_counter() - self._start) - self.spent
            if expected <= room:
                self.begin_save(number, progress)
        finally:
            self._orbax.release()

    def save(self, number: int, progress: Progress) -> None:
        """Saves a running cohort now and waits until it is on disk."""
        with self._orbax:
            self._wait()
            if len(progress.history) not in self._open(number).all_steps():
                self.begin_save(number, progress)
                self._wait()

    @contextmanager
    def finishing(self, number: int) -> Iterator[None]:
        """Counts the time in which the results of a finished cohort are written, and removes its
        checkpoints then.

        Another cohort may be running: its checkpoints are not touched.
        """
        start = time.perf_counter()
        yield
        self._results.append(time.perf_counter() - start)
        self.drop(number)

    def drop(self, number: int) -> None:
        """Removes the checkpoints of a finished cohort."""
        atomic.refuse_link(self._folder)
        shutil.rmtree(self._folder / str(number), ignore_errors=True)

    def close(self) -> None:
        """Releases the running cohort and keeps its checkpoints."""
        with self._orbax:
            if self._manager is not None:
                # An error was raised when it happened, or nobody needs that save any more.
                with suppress(OSError), atomic.disk_errors(self._folder):
                    self._manager.close()
                self._manager = None

    def _open(self, number: int) -> ocp.CheckpointManager:
        if self._manager is None:
            atomic.make_folder(self._folder)
            atomic.refuse_link(self._folder / str(number))
            self._manager = ocp.CheckpointManager(
                self._folder / str(number),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=2,
                    cleanup_tmp_directories=True,  # of a writer that was killed
                    async_options=ocp.options.AsyncOptions(
                        post_finalization_callback=self._end_save
                    ),
                ),
            )
        return self._manager

    def begin_save(self, number: int, progress: Progress) -> None:
        """Copies the state and returns; Orbax's threads write it."""
        epoch = len(progress.history)
        self._in_flight = time.perf_counter(), num_bytes(progress), number, epoch
        history = jax.tree.map(lambda *leaves: np.stack(leaves), *progress.history)
        on_device = np.zeros(len(history.running[0]), bool)
        on_device[progress.places_Q] = True
        seconds = np.array([progress.seconds])
        saved = {_PACKED: _pack((progress.whole_state(), history, seconds, on_device))}
        with atomic.disk_errors(self._folder):
            self._open(number).save(epoch, args=ocp.args.StandardSave(saved), force=True)

    def _name(self, number: int, epoch: int) -> dict[str, Any]:
        """What a checkpoint is of: it may have been moved from another cohort or search."""
        return {"search": self._search, "cohort": number, "epoch": epoch}

    def _wait(self) -> None:
        if self._manager is not None:
            with atomic.disk_errors(self._folder):
                self._manager.wait_until_finished()

    def _end_save(self) -> None:
        """Called by Orbax when a checkpoint is complete but for its final name."""
        start, size, number, epoch = self._in_flight
        (temporary,) = (self._folder / str(number)).glob(f"{epoch}.*")
        seal.write_seal(temporary, _checksums(temporary), **self._name(number, epoch))
        seconds = time.perf_counter() - start
        self._saves.append(seconds)
        self._last_save = seconds, size


def num_bytes(progress: Progress) -> int:
    """Of the state that a checkpoint holds."""
    state = progress.state if progress.left is None else progress.left
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


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


def _pack(tree: Any) -> np.ndarray:
    """All leaves as one vector of bytes, a copy: the next epoch uses the state's memory again.

    One array, because several that can't be written at once, on a full disk, make TensorStore's
    threads print a traceback for each.
    """
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(-1).view(np.uint8) for leaf in leaves])


def _unpack(packed: np.ndarray, layout: Any) -> Any:
    leaves, structure = jax.tree.flatten(layout)
    parts = np.split(packed, np.cumsum([leaf.nbytes for leaf in leaves])[:-1])
    return jax.tree.unflatten(
        structure,
        [
            part.view(leaf.dtype).reshape(leaf.shape)
            for part, leaf in zip(parts, leaves, strict=True)
        ],
    )


def _checksums(checkpoint: Path) -> dict[str, int]:
    """Of every file but Orbax's own notes, which change later."""
    return seal.checksums(checkpoint, "*/**/*")


def _is_sealed(checkpoint: Path, name: dict[str, Any]) -> bool:
    """Whether a checkpoint is of what it should be, and as it was when it was complete."""
    try:
        return not seal.damage(checkpoint, _checksums(checkpoint), **name)
    except OSError:
        return False
