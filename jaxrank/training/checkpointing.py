"""Saves the checkpoints of running cohorts within a time budget.

In the search's folder `checkpoints/`, `7/` holds the last two checkpoints of cohort 7 (Orbax),
named by their epochs, while the cohort runs. `7.npz` holds its results once it has finished.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jaxrank.io import atomic, seal
from jaxrank.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    # Imported in the methods of the saver's thread: it takes a fifth of a second, for which the
    # first dispatch should not wait.
    import orbax.checkpoint as ocp

Result = TypeVar("Result")

FOLDER = "checkpoints"
# Expected cost of a save before the first one is timed: seconds, and bytes written.
_FIRST_GUESS = (0.5, 25_000_000)

_PACKED = "packed"

log = logging.getLogger("jaxrank")


class Saver:
    """Saves and restores the checkpoints of a search, and accounts for the time spent on saving.

    One thread calls Orbax for all cohorts, as Orbax's operations share one counter in a process.
    Of two concurrent operations, one would wait for the other's signals and fail after five
    minutes.

    The time of a save counts from beginning to end, although training continues meanwhile: on a
    CPU, saving and training share the cores.
    """

    def __init__(self, folder: Path, budget: float, search: str = ""):
        """Args:
        folder: folder of the search.
        budget: share of the run's time that saving may take. Results count, but only checkpoints
          of running cohorts are limited by it.
        search: identity of the search; checkpoints of other identities are not restored.
        """
        self._folder = (folder / FOLDER).absolute()
        self._budget = budget
        self._search = search
        self._start = time.perf_counter()
        self._saves: list[float] = []  # seconds of each checkpoint
        self._results: list[float] = []  # seconds of each cohort's results
        self._last_save = _FIRST_GUESS  # seconds and bytes
        self._managers: dict[int, ocp.CheckpointManager] = {}  # by cohort; the thread's own
        self._sealed: tuple[int, int] = (0, 0)  # cohort and epoch of the save under way
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._claimed: int | None = None  # cohort whose checkpoint is claimed or being written
        self._lock = threading.Lock()  # of `_claimed`
        self._pending: Future[None] | None = None

    def of(self, search: str) -> "Saver":
        """Returns a saver in the same folder with an account and a search identity of its own."""
        return Saver(self._folder.parent, self._budget, search)

    @property
    def spent(self) -> float:
        """Seconds spent on saving so far."""
        return sum(self._saves) + sum(self._results)

    def account(self) -> str:
        """Sentence about the time spent on saving."""
        share = self.spent / (time.perf_counter() - self._start)
        return (
            f"saving took {self.spent:.1f} s, {100 * share:.1f}% of the time: "
            f"{len(self._saves)} checkpoints, results of {len(self._results)} cohorts"
        )

    def restore(self, number: int) -> Checkpoint | None:
        """Reads the newest undamaged checkpoint of a cohort; None if there is none."""
        if not (self._folder / str(number)).exists():
            return None
        return self._in_thread(self._restore, number)

    def claim(self, number: int, size: int) -> bool:
        """Claims time for a checkpoint of `size` bytes; returns whether the budget has room for it.

        A granted claim must be followed by `begin_save`. No other claim is granted until the
        checkpoint is on disk.
        """
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
        """Releases the claim of a cohort that has ended, unless its save is under way."""
        with self._lock:
            under_way = self._pending is not None and not self._pending.done()
            if self._claimed == number and not under_way:
                self._claimed = None

    def begin_save(self, number: int, checkpoint: Checkpoint) -> None:
        """Starts to write a claimed checkpoint in the saver's thread.

        Waits for the previous save first, and raises its error.
        """
        self.wait()
        self._pending = self._thread.submit(self._save_claimed, number, checkpoint)

    def save(self, number: int, checkpoint: Checkpoint) -> None:
        """Saves a cohort now, regardless of the budget, and waits until it is on disk."""
        self.wait()
        self._in_thread(self._save, number, checkpoint)

    def wait(self) -> None:
        """Waits until the save under way is on disk; raises its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def check(self) -> None:
        """Raises the error of a save that has ended, so that a full disk is reported at once."""
        if self._pending is not None and self._pending.done():
            self.wait()

    @contextmanager
    def finishing(self, number: int) -> Iterator[None]:
        """Times the writing of a finished cohort's results, then removes its checkpoints."""
        start = time.perf_counter()
        yield
        self._results.append(time.perf_counter() - start)
        self.drop(number)

    def drop(self, number: int) -> None:
        """Removes the checkpoints of a finished cohort."""
        self._in_thread(self._drop, number)
        self.disclaim(number)

    def close(self) -> None:
        """Ends the saver's thread; the checkpoints stay on disk."""
        with suppress(OSError):  # raised before, or the save is no longer needed
            self.wait()
        with suppress(RuntimeError):  # already closed
            self._in_thread(self._close_managers)
        self._thread.shutdown()

    def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return self._thread.submit(function, *arguments).result()

    def _restore(self, number: int) -> Checkpoint | None:
        import orbax.checkpoint as ocp

        manager = self._open(number)
        for epoch in sorted(manager.all_steps(), reverse=True):
            if not _is_sealed(self._folder / str(number) / str(epoch), self._name(number, epoch)):
                log.warning(
                    "the checkpoint of epoch %d of cohort %d is damaged; skipped",
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
        import orbax.checkpoint as ocp

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

    def _open(self, number: int) -> "ocp.CheckpointManager":
        import orbax.checkpoint as ocp

        if number not in self._managers:
            atomic.make_folder(self._folder)
            atomic.refuse_link(self._folder / str(number))
            self._managers[number] = ocp.CheckpointManager(
                self._folder / str(number),
                item_handlers=ocp.StandardCheckpointHandler(),  # reads an array's shape
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
        """Identity in a checkpoint's seal: it may have been moved from another cohort or search."""
        return {"search": self._search, "cohort": number, "epoch": epoch}

    def _seal(self) -> None:
        """Seals a checkpoint; called by Orbax when it is complete except for its final name."""
        number, epoch = self._sealed
        (temporary,) = (self._folder / str(number)).glob(f"{epoch}.*")
        seal.write_seal(temporary, _checksums(temporary), **self._name(number, epoch))


def _checksums(checkpoint: Path) -> dict[str, int]:
    """Checksums of every file except Orbax's own metadata, which changes later."""
    return seal.checksums(checkpoint, "*/**/*")


def _is_sealed(checkpoint: Path, name: dict[str, Any]) -> bool:
    """Whether a checkpoint has the expected identity and is undamaged."""
    try:
        return not seal.first_change(checkpoint, _checksums(checkpoint), **name)
    except OSError:
        return False
