"""Marks in the photos' own XMP, kept between runs: a second run reads no photo again."""

from pathlib import Path
from typing import Any

from jaxrank.culling.sidecars import SUFFIX, read_marks
from jaxrank.culling.xmp import Marks
from jaxrank.io import documents


class KeptMarks:
    """Reads marks of files; those of a photo of the same size and time of change are kept.

    Sidecars are small, and are always read.
    """

    def __init__(self, file: Path | None):
        """Args:
        file: JSON file of the kept marks; a damaged one is ignored. None keeps nothing.
        """
        self._file = file
        self._old: dict[str, Any] = {}
        self._now: dict[str, Any] = {}
        if file is not None:
            try:
                found = documents.read_json(file)
                self._old = found if isinstance(found, dict) else {}
            except (OSError, ValueError):
                pass

    def read(self, path: Path, name: str) -> Marks:
        """Marks in a file.

        Args:
          path: path of the file.
          name: its name in the folder of photos.

        Raises:
          BadXmp: see `read_marks`.
        """
        if path.suffix.lower() == SUFFIX:
            return read_marks(path)
        status = path.stat()
        identity = [status.st_size, status.st_mtime_ns]
        marks = _marks_of(self._old.get(name), identity)
        if marks is None:
            marks = read_marks(path)
        self._now[name] = [*identity, *marks[:3], dict(marks.where)]
        return marks

    def save(self) -> None:
        """Writes the file if anything differs."""
        if self._file is not None and self._now != self._old:
            documents.write_json(self._file, self._now)


def _marks_of(row: Any, identity: list[int]) -> Marks | None:
    """Marks of a row of the file; None for another state of the photo, or a row of another form."""
    if not isinstance(row, list) or len(row) != 6 or row[:2] != identity:
        return None
    rating, label, pick, where = row[2:]
    sound = rating is None or (isinstance(rating, int) and -1 <= rating <= 5)
    sound = sound and isinstance(label, str) and pick in (None, "pick", "reject")
    sound = sound and isinstance(where, dict) and all(isinstance(v, str) for v in where.values())
    needed = {"rating": rating is not None, "label": bool(label), "pick": pick is not None}
    if not sound or {*where} != {name for name, there in needed.items() if there}:
        return None
    return Marks(rating, label, pick, where)
