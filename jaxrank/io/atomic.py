"""Atomic writes of files and folders, and the lock that excludes a second writer."""

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

# LOCK is locked by a folder's only writer; WRITER holds the name of that process.
LOCK, WRITER = ".lock", ".writer"
# Texts in the messages of disk errors.
_DISK_ERRORS = ("No space left on device", "File too large", "Read-only file system",
                "Permission denied", "Disk quota exceeded", "Input/output error")  # fmt: skip


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file that replaces `path` when the block ends without an error.

    If the writer is interrupted, even by a power failure, `path` is the old file or the new one.
    """
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    # Exclusively: a file that appears there meanwhile, such as a link to another one, is an error.
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
    """Yields an empty folder that replaces `path` when the block ends without an error.

    Folders can't be exchanged in one step: a writer killed in between leaves no folder, but never
    half of one.
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
    """Creates an empty file, yields its path, and removes the file if it was not renamed."""
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
    """Removes a file, a folder with its content, or a link but not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Creates a folder inside one of jaxrank's folders, if it is missing.

    Raises:
      OSError: the path is a link: files would be written to the link's target.
    """
    path.mkdir(exist_ok=True)
    refuse_link(path)


def refuse_link(path: Path) -> None:
    """Raises OSError if the path of a file or folder to write to is a link."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "a link has its name; remove the link", str(path))


def open_to_append(path: Path) -> TextIOWrapper:
    """Opens a text file to append to, never through a link."""
    refuse_link(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return open(os.open(path, flags, 0o666), "a", encoding="utf-8")


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Converts errors of Orbax and TensorStore for a disk that can't be written into OSError."""
    try:
        yield
    except Exception as error:
        reason = next((known for known in _DISK_ERRORS if known in str(error)), None)
        if reason is None:
            raise
        raise OSError(errno.EIO, reason, str(folder)) from error


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Creates the folder and holds its lock, which the system releases when the process ends.

    Raises:
      UserError: a running process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refuse_link(folder / LOCK)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        try:
            holder = (folder / WRITER).read_text(encoding="utf-8", errors="replace")[:200]
        except OSError:  # the holder has not written its name yet
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
    """Creates the folder; converts an OSError while writing to the folder into a UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({error.strerror or error})") from None
