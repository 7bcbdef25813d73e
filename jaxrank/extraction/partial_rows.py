"""Rows of an unfinished run, saved to disk so that a killed run resumes.

They are in the store's folder `.partial`. A complete store does not need them.
"""

import errno
import shutil
import time
import zlib
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxrank.data.feature_store import Extraction, writing_errors
from jaxrank.data.store_columns import digest_rows
from jaxrank.errors import UserError
from jaxrank.io import atomic, reading

FOLDER = ".partial"
# Seconds between two writes of rows.
_EVERY = 5.0
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class PartialRows(Mapping[str, np.ndarray]):
    """Rows of one block, by the SHA-256 of the photo's file.

    Only whole batches are added, in the order of the photos. A killed run therefore leaves its
    first batches, and the next run makes exactly the missing ones. Batches hold the same photos, so
    their rows have the same bits.

    Saved rows are read from the disk. One file at a time is mapped: a mapped file costs a file
    descriptor, of which a process may have no more than 1,024.
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
        self._saved: dict[str, tuple[Path, int]] = {}  # file and row
        self._unsaved: dict[str, np.ndarray] = {}
        self._mapped: tuple[Path, np.ndarray] | None = None  # the file that was read last
        self._saved_at = time.monotonic()
        self._next = 0
        for path in sorted(self._folder.glob(f"{'[0-9]' * 6}.npy")):
            self._next = int(path.stem) + 1
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            reading.check_file(path)
            saved = np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # damaged bytes raise many kinds of error
            if isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS:
                raise UserError(
                    f"{path}: can't be read ({error.strerror}); raise the limit 'ulimit -n'"
                ) from None
            return  # the rows are made again
        if saved.dtype != self._record or saved.ndim != 1:
            return
        values = saved["values"].view(np.ndarray)
        if np.array_equal(_checksums(saved["sha256"], values), saved["crc"]):
            contents = (bytes(name).hex() for name in saved["sha256"])
            self._saved |= {sha256: (path, row) for row, sha256 in enumerate(contents)}

    def __getitem__(self, sha256: str) -> np.ndarray:
        if sha256 in self._unsaved:
            return self._unsaved[sha256]
        path, row = self._saved[sha256]
        if self._mapped is None or self._mapped[0] != path:
            self._mapped = None  # gives its file descriptor back first
            self._mapped = path, np.lib.format.open_memmap(path, mode="r")["values"]
        return self._mapped[1][row].view(np.ndarray)

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._unsaved or sha256 in self._saved

    def __iter__(self) -> Iterator[str]:
        return iter(self._saved.keys() | self._unsaved.keys())

    def __len__(self) -> int:
        return len(self._saved.keys() | self._unsaved.keys())

    def add(self, sha256: list[str], values: np.ndarray) -> None:
        """Adds a batch's rows, and saves all unsaved rows if the last save is long enough ago."""
        self._unsaved |= dict(zip(sha256, values, strict=True))
        if time.monotonic() - self._saved_at >= _EVERY:
            self.save()

    def save(self) -> None:
        if self._unsaved:
            unsaved = np.empty(len(self._unsaved), self._record)
            unsaved["sha256"] = digest_rows(list(self._unsaved))
            unsaved["values"] = list(self._unsaved.values())
            unsaved["crc"] = _checksums(unsaved["sha256"], unsaved["values"])
            with writing_errors(self._store):
                self._store.mkdir(parents=True, exist_ok=True)
                atomic.make_folder(self._folder.parent)
                atomic.make_folder(self._folder)
                path = self._folder / f"{self._next:06d}.npy"
                with atomic.atomic_file(path, "wb") as file:
                    np.save(file, unsaved, allow_pickle=False)
            self._next += 1
            self._read(path)  # rows on the disk replace those in memory
            self._unsaved = {
                sha256: row for sha256, row in self._unsaved.items() if sha256 not in self._saved
            }
        self._saved_at = time.monotonic()

    def end(self, contents: Container[str]) -> None:
        """Removes the rows from the disk if a complete block has all of them."""
        self._mapped = None
        if all(sha256 in contents for sha256 in self):
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # other blocks are incomplete, or there is no folder
                self._folder.parent.rmdir()


def _checksums(names: np.ndarray, values: np.ndarray) -> np.ndarray:
    """CRC-32 of each row and its photo's hash, uint32 [rows]."""
    pairs = zip(names, values, strict=True)
    found = [zlib.crc32(row.tobytes(), zlib.crc32(name.tobytes())) for name, row in pairs]
    return np.array(found, np.uint32)
