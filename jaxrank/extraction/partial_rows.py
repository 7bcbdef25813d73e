"""Rows that are done before a run has ended: kept on disk, so that a killed run resumes.

A store that is complete needs none of them; they lie in its folder `.partial` meanwhile.
"""

import shutil
import time
from collections.abc import Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxrank.data.feature_store import Extraction, writing_errors
from jaxrank.io import atomic, reading

FOLDER = ".partial"
# So often rows are written, in seconds.
_EVERY = 5.0


class PartialRows:
    """The rows of one block by the SHA-256 of their photo's file.

    Only whole batches are added, in the order of the photos. What a killed run leaves is therefore
    the beginning of what it would have done, and the next run's batches are those that were
    missing: the same photos side by side, so the same bits.
    """

    def __init__(self, store: Path, block: str, recipe: Mapping[str, Any], width: int):
        key = Extraction(recipe, []).key
        self._store, self._width = store, width
        self._folder = store / FOLDER / f"{block}-{key[:16]}"
        with writing_errors(store):
            atomic.refuse_link(self._folder.parent)
            atomic.refuse_link(self._folder)
        self.rows: dict[str, np.ndarray] = {}
        self._unsaved: list[str] = []
        self._saved_at = time.monotonic()
        self._next = 0
        for path in sorted(self._folder.glob(f"{'[0-9]' * 6}.npz")):
            self._next = int(path.stem) + 1
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            reading.check_file(path, reading.ARRAY)
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                names, values = file["sha256"], file["values"]
        except Exception:  # damaged bytes raise many kinds; these photos are done again
            return
        sound = (
            names.dtype == np.uint8
            and values.dtype == np.float32
            and names.shape[1:] == (32,)
            and values.shape == (len(names), self._width)
            and np.isfinite(values).all()
        )
        if sound:
            contents = (bytes(name).hex() for name in names)
            self.rows |= dict(zip(contents, values, strict=True))

    def add(self, sha256: list[str], values: np.ndarray) -> None:
        """Adds a batch's rows, and writes what has been added where it is time to."""
        self.rows |= dict(zip(sha256, values, strict=True))
        self._unsaved += sha256
        if time.monotonic() - self._saved_at >= _EVERY:
            self.save()

    def save(self) -> None:
        if self._unsaved:
            names = np.array([list(bytes.fromhex(name)) for name in self._unsaved], np.uint8)
            values = np.stack([self.rows[name] for name in self._unsaved])
            with writing_errors(self._store):
                self._store.mkdir(parents=True, exist_ok=True)
                atomic.make_folder(self._folder.parent)
                atomic.make_folder(self._folder)
                with atomic.atomic_file(self._folder / f"{self._next:06d}.npz", "wb") as file:
                    np.savez(file, sha256=names, values=values)
            self._next += 1
            self._unsaved = []
        self._saved_at = time.monotonic()

    def end(self, contents: Container[str]) -> None:
        """Removes the rows from the disk where a complete block has all of them."""
        if all(sha256 in contents for sha256 in self.rows):
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # other blocks are not complete, or nothing was there
                self._folder.parent.rmdir()
