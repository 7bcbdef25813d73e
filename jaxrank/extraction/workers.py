"""Reads and decodes photos in worker processes, ahead of their consumer.

A decoder that crashes or never ends costs one process and one photo.
"""

import hashlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pebble import ProcessExpired, ProcessFuture, ProcessPool
from PIL import Image

from jaxrank.errors import UserError
from jaxrank.extraction.decoding import (
    MOST_BYTES,
    PhotoInfo,
    UnreadablePhoto,
    decode,
    describe,
    prepare_pillow,
)
from jaxrank.extraction.photos import Photo, read_photo
from jaxrank.io.memory import available_bytes
from jaxrank.machine import usable_cores

# Seconds after which a photo's decoder is stopped.
TIMEOUT_SECONDS = 120.0
# Photos scheduled ahead, per process.
_AHEAD = 4

# Crashes after which a photo counts as unreadable; a single one may be a process that was killed.
_MOST_CRASHES = 3
# Most restarts of all processes in a row, without a finished photo in between.
_MOST_FAILURES = 5
_NO_START = (
    "the processes that decode photos end before they decode a photo: --workers may be too many "
    "for this machine; a script that calls extract needs 'if __name__ == \"__main__\":' before "
    "its work"
)

T = TypeVar("T")
# Function of a decoded photo, by block; it returns a network's input, or the block's numbers.
Views = Mapping[str, Callable[[Image.Image], np.ndarray]]


class PhotoResult(NamedTuple):
    """Result of reading a photo in a worker process.

    Attributes:
      reason: reason why the photo can't be used, or empty.
      sha256: SHA-256 of the file's bytes, 64 hexadecimal digits; empty for an unreadable file.
      size: size of the file, in bytes.
      info: size, capture time and camera of a readable photo, else None.
      inputs: result of each block's view, for blocks that lack this photo's content.
    """

    reason: str
    sha256: str = ""
    size: int = 0
    info: PhotoInfo | None = None
    inputs: Mapping[str, np.ndarray] = {}


class _Process(SpawnProcess):
    """Process that exits silently if its pool is stopped while the process starts.

    A pool that is stopped closes its pipes and locks before it ends its processes. A process that
    opens them in between would print a traceback.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _process_of, (bytes(ForkingPickler.dumps(self.__dict__)),)


def _process_of(state: bytes) -> _Process:
    """Restores a process in the new process, from the state that its parent has pickled."""
    process = _Process.__new__(_Process)
    try:
        process.__dict__.update(ForkingPickler.loads(state))
    except (OSError, EOFError):
        raise SystemExit(1) from None
    return process


class _Context(SpawnContext):
    # Spawned, since PyTorch and JAX have threads by now: a fork would copy locked locks, which stay
    # locked.
    Process = _Process


# Function that this worker process applies to each photo.
_work: Callable[[Photo], Any]


def _begin(work: Callable[[Photo], Any], parent: int) -> None:
    """Initialises a worker process."""
    global _work
    _work = work
    prepare_pillow()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when its parent was killed, and so can't stop it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work_on(photo: Photo) -> Any:
    return _work(photo)


def read_and_view(
    photo: Photo, root: Path, views: Views, known: Mapping[str, frozenset[str]]
) -> PhotoResult:
    """Reads a photo, and applies the views of the blocks that lack its content."""
    result = PhotoResult("")
    try:
        data = read_photo(photo, root)
        result = PhotoResult("", hashlib.sha256(data).hexdigest(), len(data))
        wanting = [block for block in views if result.sha256 not in known[block]]
        if not wanting:  # decoded before, and readable
            return result._replace(info=describe(data))
        image, info = decode(data)
        inputs = {block: views[block](image) for block in wanting}
    except UnreadablePhoto as error:
        return result._replace(reason=str(error))
    except MemoryError:
        return result._replace(reason="too large for this machine's memory")
    return result._replace(info=info, inputs=inputs)


def default_workers() -> int:
    """Number of processes: one per core, or fewer if memory is short.

    Memory must suffice if each process decodes a photo of the largest size.
    """
    return max(1, int(min(usable_cores(), available_bytes() // MOST_BYTES)))


def process_all(
    photos: list[Photo],
    root: Path,
    views: Views,
    known: Mapping[str, frozenset[str]],
    workers: int,
    timeout: float = TIMEOUT_SECONDS,
) -> Iterator[PhotoResult]:
    """Yields the result for each photo, in the order of `photos`; see `work_on_all`."""
    work = partial(read_and_view, root=root, views=views, known=known)
    for result in work_on_all(photos, work, workers, timeout):
        yield PhotoResult(str(result)) if isinstance(result, UnreadablePhoto) else result


def work_on_all(
    photos: Sequence[Photo],
    work: Callable[[Photo], T],
    workers: int,
    timeout: float = TIMEOUT_SECONDS,
) -> Iterator[T | UnreadablePhoto]:
    """Yields `work` of each photo, in the order of `photos`, from processes that run in parallel.

    The result is UnreadablePhoto if a photo's process crashes or does not end.

    Args:
      photos: photos to work on.
      work: function of a photo; it is pickled for the processes.
      workers: number of processes.
      timeout: seconds after which the work on a photo is stopped.

    Raises:
      UserError: the processes end before they do any work.
    """
    coming = iter(photos)
    ahead: deque[Photo] = deque()  # scheduled, and not yielded yet
    num_done, failures = 0, 0
    while num_done < len(photos):
        try:
            for result in _results_of_pool(ahead, coming, work, min(workers, len(photos)), timeout):
                ahead.popleft()
                num_done, failures = num_done + 1, 0
                yield result
        except BrokenProcessPool:  # such as processes that were killed while idle
            failures += 1
            if failures > _MOST_FAILURES:
                raise UserError(_NO_START) from None


def _results_of_pool(
    ahead: deque[Photo],
    coming: Iterator[Photo],
    work: Callable[[Photo], Any],
    workers: int,
    timeout: float,
) -> Iterator[Any]:
    """Yields the results of one pool of processes, until all photos are done or the pool breaks."""
    with ProcessPool(
        workers, initializer=_begin, initargs=(work, os.getpid()), context=_Context()
    ) as pool:
        try:
            with _no_interrupts():
                _ = pool.active  # starts its threads and processes
            waiting = deque((photo, _schedule(pool, photo, timeout)) for photo in ahead)
            while True:
                while len(waiting) < _AHEAD * workers and (photo := next(coming, None)):
                    ahead.append(photo)
                    waiting.append((photo, _schedule(pool, photo, timeout)))
                if not waiting:
                    return
                yield _result(pool, *waiting.popleft(), timeout)
        finally:  # also if the consumer stops early
            pool.stop()


def _schedule(pool: ProcessPool, photo: Photo, timeout: float) -> ProcessFuture:
    try:
        return pool.schedule(_work_on, args=(photo,), timeout=timeout)
    except RuntimeError as error:  # the pool is broken
        raise BrokenProcessPool from error


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Blocks Ctrl-C in this thread, and in threads and processes that start meanwhile.

    These threads and processes never receive it: it is for the process that reads their results.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _result(pool: ProcessPool, photo: Photo, future: ProcessFuture, timeout: float) -> Any:
    for crashes in range(_MOST_CRASHES):
        try:
            return (_schedule(pool, photo, timeout) if crashes else future).result()
        except TimeoutError:
            return UnreadablePhoto(f"its decoder had not ended after {timeout:g} seconds")
        except ProcessExpired:
            continue
    return UnreadablePhoto("its decoder crashed")
