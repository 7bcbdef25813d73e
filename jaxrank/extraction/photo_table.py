"""The table `photos.csv`: what became of each photo, and by what its file is known again."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrank.errors import UserError
from jaxrank.extraction.photos import Photo
from jaxrank.io import tables

# The file's size and time of change, by which a later run knows that it is the same.
IDENTITY = ("file_bytes", "modified")
COLUMNS = ("image", "status", "reason", "sha256", "bytes", "width", "height", "taken", "camera",
           *IDENTITY)  # fmt: skip
# Seconds. A file that was changed so shortly before it was read may change again within the same
# tick of the file system's clock: it is read the next time, too.
_TICK = 2.0


def read_photo_table(path: Path) -> dict[str, Sequence[Any]]:
    """The rows of a table of photos by their names; none where there is no table."""
    if not path.exists():
        return {}
    table = tables.read_csv(path)
    before = COLUMNS[: -len(IDENTITY)]  # of tables without identities
    if tuple(table.columns) not in (COLUMNS, before):
        raise UserError(f"{path}: not a table that 'extract' has written; move it away")
    missing = [""] * (len(COLUMNS) - len(table.columns))
    rows = ([*row, *missing] for row in table.rows)
    return dict(zip(table.texts("image"), rows, strict=True))


def file_identity(photo: Photo) -> tuple[str, str]:
    """Size and time of change of a photo's file; empty where these would not show a change."""
    try:
        status = os.stat(photo.path)
    except (OSError, ValueError):
        return "", ""
    if status.st_mtime_ns > time.time_ns() - 1e9 * _TICK:
        return "", ""
    return str(status.st_size), str(status.st_mtime_ns)
