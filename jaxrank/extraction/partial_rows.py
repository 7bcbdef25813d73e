"""Rows that are done before a run has ended: kept on disk, so that a killed run resumes.

A store that is complete needs none of them; they lie in its folder `.partial` meanwhile.
"""

import shutil
import time
import zlib
from collections.abc import Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxrank.data.feature_store import Extraction, writing_errors
from jaxrank.data.store_columns import digest_rows
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
        self._store = store
        self._record = np.dtype(
            [("crc", np.uint32), ("sha256", np.uint8, 32), ("values", np.float32, width)]
        )
        self._folder = store / FOLDER / f"{block}-{key[:16]}"
        with writing_errors(store):
            atomic.refuse_link(self._folder.parent)
            atomic.refuse_link(self._folder)
        self.rows: dict[str, np.ndarray] = {}
        self._unsaved: list[str] = []
        self._saved_at = time.monotonic()
        self._next = 0
        for path in sorted(self._folder.glob(f"{'[0-9]' * 6}.npy")):
            self._next = int(path.stem) + 1
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            reading.check_file(path)
            saved = np.lib.format.open_memmap(path, mode="r")
        except Exception:  # damaged bytes raise many kinds; these photos are done again
            return
        if saved.dtype != self._record or saved.ndim != 1:
            return
        values = saved["values"].view(np.ndarray)  # stays mapped: rows take no memory
        if np.array_equal(_checksums(saved["sha256"], values), saved["crc"]):
            contents = (bytes(name).hex() for name in saved["sha256"])
            self.rows |= dict(zip(contents, values, strict=True))

    def add(self, sha256: list[str], values: np.ndarray) -> None:
        """Adds a batch's rows, and writes what has been added where it is time to."""
        self.rows |= dict(zip(sha256, values, strict=True))
        self._unsaved += sha256
        if time.monotonic() - self._saved_at >= _EVERY:
            self.save()

    def save(self) -> None:
        if self._unsaved:
            unsaved = np.empty(len(self._unsaved), self._record)
            unsaved["sha256"] = digest_rows(self._unsaved)
            for place, name in enumerate(self._unsaved):
                unsaved["values"][place] = self.rows[name]
            unsaved["crc"] = _checksums(unsaved["sha256"], unsaved["values"])
            with writing_errors(self._store):
                self._store.mkdir(parents=True, exist_ok=True)
                atomic.make_folder(self._folder.parent)
                atomic.make_folder(self._folder)
                path = self._folder / f"{self._next:06d}.npy"
                with atomic.atomic_file(path, "wb") as file:
                    np.save(file, unsaved, allow_pickle=False)
            self._next += 1
            self._unsaved = []
            self._read(path)  # in place of what is in memory
        self._saved_at = time.monotonic()

    def end(self, contents: Container[str]) -> None:
        """Removes the rows from the disk where a complete block has all of them."""
        if all(sha256 in contents for sha256 in self.rows):
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # other blocks are not complete, or nothing was there
                self._folder.parent.rmdir()


def _checksums(names: np.ndarray, values: np.ndarray) -> np.ndarray:
    """CRC-32 of each row and its photo's hash, uint32 [rows]."""
    pairs = zip(names, values, strict=True)
    found = [zlib.crc32(row.tobytes(), zlib.crc32(name.tobytes())) for name, row in pairs]
    return np.array(found, np.uint32)
