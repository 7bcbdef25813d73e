"""Files that are written as a whole or not at all, and the lock that keeps a second writer out."""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from jaxrank.errors import UserError

# Locked by a folder's only writer; the other file says who that is.
LOCK, WRITER = ".lock", ".writer"
# What the text of an error holds when a disk is at fault.
_DISK_ERRORS = ("No space left on device", "File too large", "Read-only file system",
                "Permission denied", "Disk quota exceeded", "Input/output error")  # fmt: skip


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file that takes the place of `path` when the block ends without an error.

    Whatever stops the writer, also the power, `path` is the old file or the new one.
    """
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    # Exclusively: whatever is put there meanwhile, such as a link to another file, is an error.
    exclusive = mode.replace("w", "x")
    with open(temporary, exclusive, encoding=None if "b" in mode else "utf-8") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `path` when the block ends without an error.

    Folders can't be exchanged in one step: a writer killed in between leaves none, never half.
    """
    temporary = temporary_path(path)
    remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        for written in filter(Path.is_file, temporary.rglob("*")):
            with open(written, "rb") as file:
                os.fsync(file.fileno())
        remove(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Makes an empty file to write to by its name, and removes it where it is not renamed."""
    path.unlink(missing_ok=True)
    open(path, "xb").close()  # exclusively: never through a link
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def temporary_path(path: Path) -> Path:
    """The name under which a file or folder is written before it is renamed."""
    return path.with_name(f".{path.name}.tmp")


def remove(path: Path) -> None:
    """Removes a file, a folder with all that it holds, or a link but not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder inside one of ours, where it is not there yet.

    Raises:
      OSError: a link has its name: files would be written wherever it leads.
    """
    path.mkdir(exist_ok=True)
    refuse_link(path)


def refuse_link(path: Path) -> None:
    """Raises OSError where a link has the name of a file or folder that will be written to."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "a link has its name; remove the link", str(path))


def open_to_append(path: Path) -> TextIOWrapper:
    """Opens a text file to append to, never through a link."""
    refuse_link(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return open(os.open(path, flags, 0o666), "a", encoding="utf-8")


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Makes an OSError of what Orbax and TensorStore raise for a disk that can't be written."""
    try:
        yield
    except Exception as error:
        reason = next((known for known in _DISK_ERRORS if known in str(error)), None)
        if reason is None:
            raise
        raise OSError(errno.EIO, reason, str(folder)) from error


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Makes the folder and holds its lock, which the system releases when the process ends.

    Raises:
      UserError: a living process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refuse_link(folder / LOCK)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        try:
            holder = (folder / WRITER).read_text(encoding="utf-8", errors="replace")[:200]
        except OSError:  # it has the lock, and has not written its name yet
            holder = "another process"
        raise UserError(
            f"{folder}: {holder} is writing there; wait until it has ended, or name another folder"
        ) from None
    try:
        write_text(folder / WRITER, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        (folder / WRITER).unlink(missing_ok=True)
        lock.release()


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Makes the folder; turns an OSError of writing to it into a UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({error.strerror or error})") from None
