"""Checksums of a folder's files: few formats notice a flipped bit, and Orbax's does not."""

import json
import zlib
from pathlib import Path
from typing import Any

from jaxrank.io import atomic
from jaxrank.io.documents import read_json

CHECKSUMS = "checksums.json"
_AT_ONCE = 1 << 20


def checksums(folder: Path, pattern: str = "**/*") -> dict[str, int]:
    """CRC-32 of every file that the pattern finds, by its path in the folder; but for the seal."""
    return {
        path.relative_to(folder).as_posix(): _checksum(path)
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path != folder / CHECKSUMS
    }


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while piece := file.read(_AT_ONCE):
            found = zlib.crc32(piece, found)
    return found


def write_seal(folder: Path, files: dict[str, int], **facts: Any) -> None:
    """Notes the checksums of a complete folder, and what else must not change."""
    atomic.write_text(folder / CHECKSUMS, json.dumps({**facts, "files": files}))


def damage(
    folder: Path, files: dict[str, int], *, may_have_more: bool = False, **facts: Any
) -> str:
    """What is not as it was when the folder was sealed, in a few words; empty where all is.

    Args:
      folder: that was sealed.
      files: `checksums` of it, as it is now.
      may_have_more: whether files may have been added.
      facts: that were sealed, too.
    """
    try:
        noted = read_json(folder / CHECKSUMS)
    except FileNotFoundError:
        return f"{CHECKSUMS} is missing"
    except (OSError, ValueError):
        return f"{CHECKSUMS} is damaged"
    if not isinstance(noted, dict) or noted != {**facts, "files": noted.get("files")}:
        return f"{CHECKSUMS} is damaged"
    sealed = noted["files"]
    if not isinstance(sealed, dict) or not sealed:
        return f"{CHECKSUMS} is damaged"
    for name in sorted(sealed.keys() | files.keys()):
        if name not in files:
            return f"the file {name} is missing"
        if name not in sealed:
            if may_have_more:
                continue
            return f"the file {name} was added"
        if files[name] != sealed[name]:
            return f"the file {name} has changed"
    return ""
