"""Checksums of a folder's files: few formats detect a flipped bit, and Orbax's does not."""

import json
import zlib
from pathlib import Path
from typing import Any

from jaxrank.io import atomic
from jaxrank.io.documents import read_json

CHECKSUMS = "checksums.json"
_AT_ONCE = 1 << 20


def checksums(folder: Path, pattern: str = "**/*") -> dict[str, int]:
    """CRC-32 of every file that matches the pattern, except the seal, by path in the folder."""
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
    """Writes the checksums of a complete folder, and other facts that must not change."""
    atomic.write_text(folder / CHECKSUMS, json.dumps({**facts, "files": files}))


def first_change(
    folder: Path, files: dict[str, int], *, may_have_more: bool = False, **facts: Any
) -> str:
    """Describes the first change since the folder was sealed; returns "" if nothing changed.

    Args:
      folder: the sealed folder.
      files: the current `checksums` of the folder.
      may_have_more: whether files may have been added.
      facts: facts that were passed to `write_seal`.
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
