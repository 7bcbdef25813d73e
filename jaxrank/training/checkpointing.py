"""What a search keeps on disk while it runs: checkpoints of the running cohorts, within a time
budget, and the results of the finished ones.

In the search's folder `checkpoints/`: `7/` holds the last two checkpoints of cohort 7 (Orbax),
named by their epochs, as long as it runs; `7.npz` holds its results when it has finished.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orbax.checkpoint as ocp

from jaxrank.io import atomic, seal
from jaxrank.training.checkpoint import Checkpoint

Result = TypeVar("Result")

FOLDER = "checkpoints"
# What a save is expected to take until one has been timed: seconds, and the bytes that it writes.
_FIRST_GUESS = (0.5, 25_000_000)

_PACKED = "packed"

log = logging.getLogger("jaxrank")


class Saver:
    """Saves what a search must not lose, and keeps account of the time that it takes.

    One thread calls Orbax, for all cohorts: its operations share one counter in a process, and of
    two at once one would wait for signals that the other was sent, and fail after five minutes.
    A save counts from its beginning to its end, although training continues meanwhile: on a CPU
    the two share the cores.
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
        self._saves: list[float] = []  # seconds of each checkpoint
        self._results: list[float] = []  # and of each cohort's results
        self._last_save = _FIRST_GUESS  # seconds and bytes
        self._managers: dict[int, ocp.CheckpointManager] = {}  # by cohort; the thread's own
        self._sealed: tuple[int, int] = (0, 0)  # cohort and epoch of the save under way
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._claimed: int | None = None  # the cohort whose checkpoint is on its way to the disk
        self._lock = threading.Lock()  # of `_claimed`
        self._pending: Future[None] | None = None

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

    def restore(self, number: int) -> Checkpoint | None:
        """The newest readable checkpoint of a cohort; None where there is none."""
        if not (self._folder / str(number)).exists():
            return None
        return self._in_thread(self._restore, number)

    def claim(self, number: int, size: int) -> bool:
        """Whether the time budget has room for a checkpoint of so many bytes of this cohort, which
        `begin_save` must get then; no other claim is granted before it is on disk."""
        with self._lock:
            if self._claimed is not None:
                return False
            seconds, last_size = self._last_save
            expected = seconds * max(1.0, size / last_size)
            room = self._budget * (time.perf_counter() - self._start) - self.spent
            if expected <= room:
                self._claimed = number
            return expected <= room

    def disclaim(self, number: int) -> None:
        """Gives back what a cohort has claimed that failed meanwhile."""
        with self._lock:
            under_way = self._pending is not None and not self._pending.done()
            if self._claimed == number and not under_way:
                self._claimed = None

    def begin_save(self, number: int, checkpoint: Checkpoint) -> None:
        """Has a checkpoint that was claimed written by the saver's thread; what went wrong with the
        one before is raised here."""
        self.wait()
        self._pending = self._thread.submit(self._save_claimed, number, checkpoint)

    def save(self, number: int, checkpoint: Checkpoint) -> None:
        """Saves a cohort now, whatever the budget says, and waits until it is on disk."""
        self.wait()
        self._in_thread(self._save, number, checkpoint)

    def wait(self) -> None:
        """Waits until what was begun is on disk; raises what went wrong."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def check(self) -> None:
        """Raises what went wrong with a save that has ended: a full disk is an error now."""
        if self._pending is not None and self._pending.done():
            self.wait()

    @contextmanager
    def finishing(self, number: int) -> Iterator[None]:
        """Counts the time in which the results of a finished cohort are written, and removes its
        checkpoints then."""
        start = time.perf_counter()
        yield
        self._results.append(time.perf_counter() - start)
        self.drop(number)

    def drop(self, number: int) -> None:
        """Removes the checkpoints of a finished cohort."""
        self._in_thread(self._drop, number)
        self.disclaim(number)

    def close(self) -> None:
        """Ends the thread; the checkpoints stay."""
        with suppress(OSError):  # raised when it happened, or nobody needs that save any more
            self.wait()
        with suppress(RuntimeError):  # closed before
            self._in_thread(self._close_managers)
        self._thread.shutdown()

    def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return self._thread.submit(function, *arguments).result()

    def _restore(self, number: int) -> Checkpoint | None:
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
            shape = manager.item_metadata(epoch)[_PACKED].shape
            target = {_PACKED: np.empty(shape, np.uint8)}
            saved = manager.restore(epoch, args=ocp.args.StandardRestore(target))
            return Checkpoint(epoch, np.asarray(saved[_PACKED]))
        return None

    def _save_claimed(self, number: int, checkpoint: Checkpoint) -> None:
        try:
            self._save(number, checkpoint)
        finally:
            self._claimed = None

    def _save(self, number: int, checkpoint: Checkpoint) -> None:
        epoch, packed = checkpoint
        start = time.perf_counter()
        with atomic.disk_errors(self._folder):
            manager = self._open(number)
            if epoch in manager.all_steps():
                return
            self._sealed = number, epoch
            manager.save(epoch, args=ocp.args.StandardSave({_PACKED: packed}), force=True)
            manager.wait_until_finished()
        seconds = time.perf_counter() - start
        self._saves.append(seconds)
        self._last_save = seconds, packed.nbytes

    def _open(self, number: int) -> ocp.CheckpointManager:
        if number not in self._managers:
            atomic.make_folder(self._folder)
            atomic.refuse_link(self._folder / str(number))
            self._managers[number] = ocp.CheckpointManager(
                self._folder / str(number),
                item_handlers=ocp.StandardCheckpointHandler(),  # which knows an array's size
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=2,
                    cleanup_tmp_directories=True,  # of a writer that was killed
                    async_options=ocp.options.AsyncOptions(post_finalization_callback=self._seal),
                ),
            )
        return self._managers[number]

    def _close(self, number: int) -> None:
        manager = self._managers.pop(number, None)
        if manager is not None:
            with suppress(OSError), atomic.disk_errors(self._folder):
                manager.close()

    def _close_managers(self) -> None:
        for number in list(self._managers):
            self._close(number)

    def _drop(self, number: int) -> None:
        self._close(number)
        atomic.refuse_link(self._folder)
        shutil.rmtree(self._folder / str(number), ignore_errors=True)

    def _name(self, number: int, epoch: int) -> dict[str, Any]:
        """What a checkpoint is of: it may have been moved from another cohort or search."""
        return {"search": self._search, "cohort": number, "epoch": epoch}

    def _seal(self) -> None:
        """Called by Orbax when a checkpoint is complete but for its final name."""
        number, epoch = self._sealed
        (temporary,) = (self._folder / str(number)).glob(f"{epoch}.*")
        seal.write_seal(temporary, _checksums(temporary), **self._name(number, epoch))


def _checksums(checkpoint: Path) -> dict[str, int]:
    """Of every file but Orbax's own notes, which change later."""
    return seal.checksums(checkpoint, "*/**/*")


def _is_sealed(checkpoint: Path, name: dict[str, Any]) -> bool:
    """Whether a checkpoint is of what it should be, and as it was when it was complete."""
    try:
        return not seal.damage(checkpoint, _checksums(checkpoint), **name)
    except OSError:
        return False
