"""The contract of every answer to hostile input, and how the hostile suite attacks."""

import contextlib
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.data.feature_store import Block
from jaxrank.errors import UserError
from jaxrank.io import atomic

# Files that are larger are compared by their size: some are sparse.
_MOST_COMPARED = 10_000_000
ESCAPES = {
    "escape": "\x1b[31m",
    "title": "\x1b]0;owned\x07",
    "csi of 8 bits": "\x9b31m",
    "bell": "\x07",
    "backspace": "\x08",
    "right to left": "\u202e",
}


def case(name: str, *values: Any, long: bool = False) -> Any:
    """A parameterised case with a name; a long one is for `make test-long`."""
    return pytest.param(*values, id=name, marks=[pytest.mark.long] if long else [])


class Inputs(NamedTuple):
    """A pair table and a feature store with the block iqa of the same photos, in one folder."""

    folder: Path
    pairs: Path
    store: Path
    workdir: Path

    @property
    def words(self) -> list[str]:
        return [f"--pairs={self.pairs}", f"--features={self.store}"]


def good_frame(num_series: int = 12) -> pd.DataFrame:
    """Series of three photos, all pairs, as text."""
    rows = [
        (str(s), f"s{s}-{i}.jpg", f"s{s}-{j}.jpg", f"0.{(3 * s + i + j) % 9 + 1}")
        for s in range(num_series)
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    return pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])


def good_block(frame: pd.DataFrame, columns: tuple[str, ...] = ("sharpness", "contrast")) -> Block:
    photos = sorted({*frame["image_a"], *frame["image_b"]})
    values = np.random.default_rng(0).standard_normal((len(photos), len(columns)))
    return Block(photos, list(columns), values.astype(np.float32))


def make_inputs(folder: Path, frame: pd.DataFrame | None = None) -> Inputs:
    frame = good_frame() if frame is None else frame
    folder.mkdir(exist_ok=True)
    made = Inputs(folder, folder / "pairs.csv", folder / "store", folder / "w")
    frame.to_csv(made.pairs, index=False)
    feature_store.write_block(made.store, "iqa", good_block(frame))
    return made


class Answer(NamedTuple):
    status: int
    out: str
    err: str


class Attack:
    """Runs commands in this process and checks what holds for each: no traceback, no escape
    sequence on a stream, no file written outside the folder of the results."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]):
        self.folder = folder
        self._capture = capture

    def run(self, *words: str, writes: Path | None = None) -> Answer:
        before = files_of(self.folder, writes)
        self._capture.readouterr()
        status = main(["jaxrank", *words])
        answer = Answer(status, *self._capture.readouterr())
        check_streams(answer.out, answer.err)
        after = files_of(self.folder, writes)
        changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
        assert not changed, changed
        assert not list(self.folder.rglob(".*.tmp"))
        return answer

    def refused(self, *words: str, names: str = "", writes: Path | None = None) -> str:
        """The one line of a refusal; `names` is the file or flag that it must name."""
        answer = self.run(*words, writes=writes)
        check_refusal(answer, names)
        return answer.err

    def works(self, *words: str, writes: Path | None = None) -> str:
        answer = self.run(*words, writes=writes)
        assert answer.status == 0, answer.err
        return answer.out

    def answers(self, *words: str, names: str = "", writes: Path | None = None) -> Answer:
        """A result or a refusal, whichever."""
        answer = self.run(*words, writes=writes)
        if answer.status:
            check_refusal(answer, names)
        return answer


def check_streams(*texts: str) -> None:
    for text in texts:
        assert "Traceback" not in text, text
        assert is_clean(text), repr(text)


def is_clean(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)


def check_refusal(answer: Answer, names: str) -> None:
    assert answer.status == 2, answer
    assert answer.err.startswith("jaxrank: "), answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.endswith("\n"), answer.err
    assert names in answer.err, answer.err


def files_of(folder: Path, writes: Path | None = None) -> dict[str, object]:
    """What is in a folder and below, without locks and what is below `writes`."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if writes is not None and path.is_relative_to(writes):
            continue
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and path.name != atomic.LOCK:
            small = status.st_size <= _MOST_COMPARED
            found[str(path)] = path.read_bytes() if small else status.st_size
        elif not stat.S_ISDIR(status.st_mode) and path.name != atomic.LOCK:
            found[str(path)] = stat.S_IFMT(status.st_mode)
    return found


def result_or_refusal(read: Callable[[], Any]) -> Any:
    """What a reader returns, or None where it refuses."""
    try:
        return read()
    except UserError:
        return None


def refuses(read: Callable[[], object], names: str = "") -> None:
    with pytest.raises(UserError) as caught:
        read()
    assert names in str(caught.value)
    assert "\n" not in str(caught.value).strip()


class Hung(BaseException):
    """What the watchdog raises; not an Exception, which someone may catch."""


# In a process of its own: a library may wait for a pipe while it keeps Python's lock.
_RELEASE = """
import os, stat, sys, time
time.sleep(0.5)
while True:
    try:
        writer = os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
        if stat.S_ISFIFO(os.fstat(writer).st_mode):  # not what was written in its place
            print("released", flush=True)
        os.close(writer)
    except OSError:  # nobody reads
        time.sleep(0.02)
"""


@contextlib.contextmanager
def fifo_left_alone(path: Path) -> Iterator[None]:
    """Puts a named pipe at `path`. Whoever opens it waits for a writer that never comes: the block
    fails then, instead of hanging. A reader that only looks at the pipe has gone by then."""
    os.mkfifo(path)
    words = [sys.executable, "-S", "-E", "-c", _RELEASE, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
        finally:
            process.kill()
            released, _ = process.communicate()
    assert not released, f"{path}: a named pipe was opened, and would hang"


@contextlib.contextmanager
def fed_fifo(path: Path, data: bytes) -> Iterator[None]:
    """A named pipe at `path` with a writer, as a shell's <(...) is."""
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive(), "nobody read the pipe"


@contextlib.contextmanager
def little_memory(extra: int = 1 << 30) -> Iterator[None]:
    """Lets this process have so many bytes more than now: a sparse file of 8 GB can't be read, and
    does not take this machine's memory either."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def sparse(path: Path, size: int = 8 << 30, head: bytes = b"") -> None:
    """A file that says that it has so many bytes, and has hardly any."""
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)


def flip(path: Path, place: float) -> None:
    """Flips one bit, at this share of the file."""
    data = bytearray(path.read_bytes())
    data[min(len(data) - 1, int(place * len(data)))] ^= 1
    path.write_bytes(data)
