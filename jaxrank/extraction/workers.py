"""Photos read and decoded in processes of their own, ahead of who needs them.

A decoder that crashes or never ends takes one process with it and costs one photo.
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
    BadPhoto,
    Facts,
    decode,
    describe,
    prepare_pillow,
)
from jaxrank.extraction.photos import Photo, read_photo
from jaxrank.io.memory import available_bytes

# After so many seconds a photo's decoder is ended.
PATIENCE = 120.0
# Photos waiting for each process.
_AHEAD = 4

# A photo is blamed when so many processes have crashed at it: one alone may have been killed.
_MOST_CRASHES = 3
# So often in a row, without a photo done meanwhile, all processes are started anew.
_MOST_FAILURES = 5
_NO_START = (
    "the processes that decode photos end before they do any: --workers may be too many for this "
    "machine; "
    "a script that calls extract needs 'if __name__ == \"__main__\":' before its work"
)

T = TypeVar("T")
# By block, what becomes of a decoded photo: an array for a network, or numbers already.
Views = Mapping[str, Callable[[Image.Image], np.ndarray]]


class Seen(NamedTuple):
    """What a process makes of a photo.

    Attributes:
      reason: why the photo is bad, or empty.
      sha256: of the file's bytes, 64 hexadecimal digits; empty where they can't be read.
      size: of the file, in bytes.
      facts: of a readable photo.
      inputs: by block, those that are wanted of this photo.
    """

    reason: str
    sha256: str = ""
    size: int = 0
    facts: Facts | None = None
    inputs: Mapping[str, np.ndarray] = {}


class _Process(SpawnProcess):
    """A process that ends without a word where its pool was stopped while it started.

    A pool that is stopped closes its pipes and locks first, and then ends its processes. One that
    comes to opening them in between would print a traceback.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _process_of, (bytes(ForkingPickler.dumps(self.__dict__)),)


def _process_of(state: bytes) -> _Process:
    """What a new process reads first; it is from its parent."""
    process = _Process.__new__(_Process)
    try:
        process.__dict__.update(ForkingPickler.loads(state))
    except (OSError, EOFError):
        raise SystemExit(1) from None
    return process


class _Context(SpawnContext):
    # Not forked: PyTorch and JAX have threads by now, and a copy of a locked lock stays locked.
    Process = _Process


# Of this process: what it makes of a photo.
_work: Callable[[Photo], Any]


def _begin(work: Callable[[Photo], Any], parent: int) -> None:
    """Prepares a process."""
    global _work
    _work = work
    prepare_pillow()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when its parent was killed and can't tell it to."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work_on(photo: Photo) -> Any:
    return _work(photo)


def see(photo: Photo, root: Path, views: Views, known: Mapping[str, frozenset[str]]) -> Seen:
    """Reads a photo and makes of it what the blocks want that don't know its content yet."""
    seen = Seen("")
    try:
        data = read_photo(photo, root)
        seen = Seen("", hashlib.sha256(data).hexdigest(), len(data))
        wanting = [block for block in views if seen.sha256 not in known[block]]
        if not wanting:  # it has been decoded before, and was good
            return seen._replace(facts=describe(data))
        image, facts = decode(data)
        inputs = {block: views[block](image) for block in wanting}
    except BadPhoto as error:
        return seen._replace(reason=str(error))
    except MemoryError:
        return seen._replace(reason="too large for this machine's memory")
    return seen._replace(facts=facts, inputs=inputs)


def default_workers() -> int:
    """A process for each core, but not more than memory has room for if each decodes a photo of
    the largest size."""
    return max(1, int(min(os.cpu_count() or 1, available_bytes() // MOST_BYTES)))


def see_all(
    photos: list[Photo],
    root: Path,
    views: Views,
    known: Mapping[str, frozenset[str]],
    workers: int,
    patience: float = PATIENCE,
) -> Iterator[Seen]:
    """Yields what becomes of each photo, in their order, whichever is ready first."""
    work = partial(see, root=root, views=views, known=known)
    for seen in work_on_all(photos, work, workers, patience):
        yield Seen(str(seen)) if isinstance(seen, BadPhoto) else seen


def work_on_all(
    photos: Sequence[Photo],
    work: Callable[[Photo], T],
    workers: int,
    patience: float = PATIENCE,
) -> Iterator[T | BadPhoto]:
    """Yields what `work` makes of each photo, in their order, whichever is ready first; BadPhoto
    where its process crashes or does not end."""
    coming = iter(photos)
    ahead: deque[Photo] = deque()  # begun, and not yielded yet
    num_seen, failures = 0, 0
    while num_seen < len(photos):
        try:
            for seen in _seen_by_pool(ahead, coming, work, min(workers, len(photos)), patience):
                ahead.popleft()
                num_seen, failures = num_seen + 1, 0
                yield seen
        except BrokenProcessPool:  # such as processes that were killed while they had no work
            failures += 1
            if failures > _MOST_FAILURES:
                raise UserError(_NO_START) from None


def _seen_by_pool(
    ahead: deque[Photo],
    coming: Iterator[Photo],
    work: Callable[[Photo], Any],
    workers: int,
    patience: float,
) -> Iterator[Any]:
    """The same, by processes of their own, until all is done or they break down."""
    with ProcessPool(
        workers, initializer=_begin, initargs=(work, os.getpid()), context=_Context()
    ) as pool:
        try:
            with _no_interrupts():
                _ = pool.active  # starts its threads and processes
            waiting = deque((photo, _schedule(pool, photo, patience)) for photo in ahead)
            while True:
                while len(waiting) < _AHEAD * workers and (photo := next(coming, None)):
                    ahead.append(photo)
                    waiting.append((photo, _schedule(pool, photo, patience)))
                if not waiting:
                    return
                yield _result(pool, *waiting.popleft(), patience)
        finally:  # also where the reader has stopped early
            pool.stop()


def _schedule(pool: ProcessPool, photo: Photo, patience: float) -> ProcessFuture:
    try:
        return pool.schedule(_work_on, args=(photo,), timeout=patience)
    except RuntimeError as error:  # of a pool that has broken down
        raise BrokenProcessPool from error


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Holds Ctrl-C back. Threads and processes that start meanwhile never see it: it is for the
    process that reads their results."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _result(pool: ProcessPool, photo: Photo, future: ProcessFuture, patience: float) -> Any:
    for crashes in range(_MOST_CRASHES):
        try:
            return (_schedule(pool, photo, patience) if crashes else future).result()
        except TimeoutError:
            return BadPhoto(f"its decoder had not ended after {patience:g} seconds")
        except ProcessExpired:
            continue
    return BadPhoto("its decoder crashed")
