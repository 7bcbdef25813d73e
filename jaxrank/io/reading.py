"""Checks of files before they are opened: their kind, and their size against the free memory.

Opening a named pipe waits for its other end, perhaps forever, and reading a file that is larger
than the memory ends the program.
"""

import errno
import os
import stat
from pathlib import Path

from jaxrank.io.memory import available_bytes

# Bytes of memory per byte of a file. Text becomes Python lists: 12 to 14 were measured for tables
# of pairs and of features, 6 for a document.
TEXT, ARRAY = 15.0, 2.0
_AT_ONCE = 1 << 20

_KINDS = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a named pipe, not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


def check_file(path: Path, expansion: float = 0.0) -> None:
    """Checks the kind and the size of a file without opening it.

    Args:
      path: path of the file, or of a link to the file.
      expansion: bytes of memory that reading takes per byte of the file; 0 if it is only mapped.

    Raises:
      OSError: the path is missing, not a file, or too large for the free memory; `strerror` has
        the reason.
    """
    _check(path, _look_at(path), expansion)


def read_whole(path: Path, expansion: float, *, pipes: bool = False) -> bytes:
    """Reads the bytes of a file after the checks of `check_file`.

    With `pipes` the path may also be a pipe, such as the shell's `<(command)`.
    """
    status = _look_at(path)
    if not (pipes and stat.S_ISFIFO(status.st_mode)):
        _check(path, status, expansion)
        return path.read_bytes()
    most, pieces, size = available_bytes() / expansion, [], 0
    with path.open("rb") as file:
        while piece := file.read(_AT_ONCE):
            pieces.append(piece)
            size += len(piece)
            _check_size(path, size, most)
    return b"".join(pieces)


def _look_at(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except ValueError:  # a zero byte, or a lone surrogate
        raise OSError(errno.EINVAL, "no file can have such a name", str(path)) from None


def _check(path: Path, status: os.stat_result, expansion: float) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "it is not a file")
        raise OSError(errno.EINVAL, kind, str(path))
    if expansion:
        _check_size(path, status.st_size, available_bytes() / expansion)


def _check_size(path: Path, size: int, most: float) -> None:
    if size > most:
        reason = (
            f"{size / 1e6:,.0f} MB; the free memory has room for a file of {most / 1e6:,.0f} MB"
        )
        raise OSError(errno.EFBIG, reason, str(path))
