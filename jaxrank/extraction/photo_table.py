"""Table `photos.csv`: the status of each photo, and the identity of its file."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrank.errors import UserError
from jaxrank.extraction.photos import Photo
from jaxrank.io import tables

# Size and modification time of the file, by which a later run recognises an unchanged file.
IDENTITY = ("file_bytes", "modified")
COLUMNS = ("image", "status", "reason", "sha256", "bytes", "width", "height", "taken", "camera",
           *IDENTITY)  # fmt: skip
# Seconds. A file that was modified this shortly before it was read may change again within the same
# tick of the file system's clock, so the next run reads it again.
_TICK = 2.0


def read_photo_table(path: Path) -> dict[str, Sequence[Any]]:
    """Reads the rows of a table of photos, by name; empty if there is no table.

    Raises:
      UserError: the file is not a table that `extract` has written.
    """
    if not path.exists():
        return {}
    table = tables.read_csv(path)
    before = COLUMNS[: -len(IDENTITY)]  # columns of tables without identities
    if tuple(table.columns) not in (COLUMNS, before):
        raise UserError(f"{path}: not a table that 'extract' has written; move it away")
    missing = [""] * (len(COLUMNS) - len(table.columns))
    rows = ([*row, *missing] for row in table.rows)
    return dict(zip(table.texts("image"), rows, strict=True))


def file_identity(photo: Photo) -> tuple[str, str]:
    """Size and modification time of a photo's file; empty if they would not reveal a change."""
    try:
        status = os.stat(photo.path)
    except (OSError, ValueError):
        return "", ""
    if status.st_mtime_ns > time.time_ns() - 1e9 * _TICK:
        return "", ""
    return str(status.st_size), str(status.st_mtime_ns)
