"""A photo's file: its name, and its bytes."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from jaxrank.extract.decoding import BadPhoto

# No photo's file is larger; it is read into memory as a whole.
_MOST_BYTES = 2 * 10**9


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
        status = os.stat(photo.path)
        if not stat.S_ISREG(status.st_mode):
            raise BadPhoto("not a file")
        if status.st_size > _MOST_BYTES:
            raise BadPhoto(f"more than {_MOST_BYTES // 10**9} GB")
        return photo.path.read_bytes()
    except OSError as error:
        raise BadPhoto(f"can't be read ({error.strerror or error})") from None
    except (RuntimeError, ValueError):  # links in a circle; a name with a zero byte
        raise BadPhoto("can't be read (its path leads nowhere)") from None


def check_name(name: str) -> None:
    """Raises BadPhoto for a name that would not read back from a table as it was."""
    if name != name.strip() or not name.isprintable() or name.startswith("'"):
        raise BadPhoto(
            "its name has control characters, or blanks at an end, or begins with an apostrophe: "
            "rename it"
        )


def shown(name: str) -> str:
    """A name as text that any file can hold and any terminal can show."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
