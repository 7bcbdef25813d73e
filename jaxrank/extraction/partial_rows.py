"""Rows of an unfinished run, saved to disk so that a killed run resumes.

They are in the store's folder `.partial`. A complete store does not need them.
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
# Seconds between two writes of rows.
_EVERY = 5.0


class PartialRows:
    """Rows of one block, by the SHA-256 of the photo's file.

    Only whole batches are added, in the order of the photos. A killed run therefore leaves its
    first batches, and the next run makes exactly the missing ones. Batches hold the same photos, so
    their rows have the same bits.
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
        except Exception:  # damaged bytes raise many kinds of error; the rows are made again
            return
        if saved.dtype != self._record or saved.ndim != 1:
            return
        values = saved["values"].view(np.ndarray)  # stays mapped: rows take no memory
        if np.array_equal(_checksums(saved["sha256"], values), saved["crc"]):
            contents = (bytes(name).hex() for name in saved["sha256"])
            self.rows |= dict(zip(contents, values, strict=True))

    def add(self, sha256: list[str], values: np.ndarray) -> None:
        """Adds a batch's rows, and saves all unsaved rows if the last save is long enough ago."""
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
            self._read(path)  # mapped rows replace those in memory
        self._saved_at = time.monotonic()

    def end(self, contents: Container[str]) -> None:
        """Removes the rows from the disk if a complete block has all of them."""
        if all(sha256 in contents for sha256 in self.rows):
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # other blocks are incomplete, or there is no folder
                self._folder.parent.rmdir()


def _checksums(names: np.ndarray, values: np.ndarray) -> np.ndarray:
    """CRC-32 of each row and its photo's hash, uint32 [rows]."""
    pairs = zip(names, values, strict=True)
    found = [zlib.crc32(row.tobytes(), zlib.crc32(name.tobytes())) for name, row in pairs]
    return np.array(found, np.uint32)
