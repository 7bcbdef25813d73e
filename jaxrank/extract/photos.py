"""A photo's file: its name, and its bytes."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from jaxrank.extract.decoding import BadPhoto


class Photo(NamedTuple):
    """A photo's name in all tables, with `/` between folders, and where its file is."""

    name: str
    path: Path


def read_photo(photo: Photo, root: Path) -> bytes:
    """The bytes of a photo's file.

    Raises:
      BadPhoto: it is not a readable file below `root`, or its name can't stand in a table.
    """
    check_name(photo.name)
    try:
        if not photo.path.resolve().is_relative_to(root.resolve()):
            raise BadPhoto("a link that leads out of the folder")
        # A named pipe would block at its opening, so the kind of file is asked before.
        if not stat.S_ISREG(os.stat(photo.path).st_mode):
            raise BadPhoto("not a file")
        return photo.path.read_bytes()
    except OSError as error:
        raise BadPhoto(f"can't be read ({error.strerror or error})") from None
    except (RuntimeError, ValueError):  # links in a circle; a name with a zero byte
        raise BadPhoto("can't be read (its path leads nowhere)") from None


def check_name(name: str) -> None:
    """Raises BadPhoto for a name that would not read back from a table as it was."""
    if name != name.strip() or not name.isprintable():
        raise BadPhoto("its name has control characters, or blanks at an end: rename it")


def shown(name: str) -> str:
    """A name as text that any file can hold."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
