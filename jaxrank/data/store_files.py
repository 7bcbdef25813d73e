"""The files of a store: written once, named by their content, and never changed.

`photos-HASH.arrow` has the names of a shard's photos, `contents-HASH.npy` the SHA-256 of their
files, `BLOCK-HASH.npy` the numbers of a block. HASH is the first digits of the file's own SHA-256,
so blocks of the same photos share the first two files.

A large file is hashed and checked once: CHECKED records the valid files by size, times and inode.
A file that was changed or copied since is checked again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrank.errors import UserError
from jaxrank.io import atomic, reading, tables
from jaxrank.io.documents import read_json

if TYPE_CHECKING:
    import pyarrow

CHECKED = ".checked.json"
PHOTOS, CONTENTS = "photos", "contents"
_VERSION = 1
# Fewer bytes are hashed fast enough each time: reading a store should rarely write to it.
_MANY_BYTES = 64 << 20
_ROWS_AT_ONCE = 1 << 14


def file_name(kind: str, sha256: str) -> str:
    """The name of a file of PHOTOS, CONTENTS or a block's numbers."""
    return f"{kind}-{sha256[:12]}.{'arrow' if kind == PHOTOS else 'npy'}"


class StoreFiles:
    """Reads and writes the files of one store.

    Its methods raise a one-line UserError for a file that differs from the written one, and OSError
    for a disk that can't be written.
    """

    def __init__(self, store: Path):
        self.store = store
        self._files, self._distinct = _read_checked(store / CHECKED)
        self._changed = False
        self._num_hashed = 0
        self._open: dict[str, Any] = {}

    def names(self, sha256: str, num_rows: int, advice: str) -> "pyarrow.Array":
        """The names in a file of PHOTOS."""
        import pyarrow

        path = self.store / file_name(PHOTOS, sha256)
        if path.name in self._open:
            return self._open[path.name]
        try:
            reading.check_file(path)
            sound = self._is_known(path, sha256)
            with pyarrow.memory_map(str(path)) as source:
                table = pyarrow.ipc.open_file(source).read_all()
            names = table.column("name").combine_chunks()
            if not sound:
                table.validate(full=True)
        except Exception as error:  # damaged bytes raise many exception types
            raise UserError(f"{path}: can't be read ({tables.reason(error)}){advice}") from None
        if names.type != pyarrow.large_string() or names.null_count or len(names) != num_rows:
            raise UserError(f"{path}: not the names of {num_rows:,} photos{advice}")
        if not sound:
            if b"\0" in (names.buffers()[2] or b""):
                raise UserError(f"{path}: a name is not text{advice}")
            self._check_content(path, sha256, advice)
        self._open[path.name] = names
        return names

    def contents(self, sha256: str, num_rows: int, advice: str) -> np.ndarray:
        """The hashes in a file of CONTENTS, uint8 [photos, 32]."""
        return self._array(CONTENTS, sha256, (num_rows, 32), np.dtype(np.uint8), advice)

    def values(
        self, block: str, sha256: str, shape: tuple[int, int], dtype: str, advice: str
    ) -> np.ndarray:
        """The numbers of a block's shard, memory-mapped and checked to be finite."""
        return self._array(block, sha256, shape, np.dtype(dtype), advice)

    def _array(
        self, kind: str, sha256: str, shape: tuple[int, int], dtype: np.dtype, advice: str
    ) -> np.ndarray:
        path = self.store / file_name(kind, sha256)
        if path.name not in self._open:
            values = map_npy(path, advice)
            if values.shape != shape or values.dtype != dtype:
                raise UserError(
                    f"{path}: {values.dtype.name} {list(values.shape)}, but the manifest records "
                    f"{dtype.name} {list(shape)}{advice}"
                )
            if not self._is_known(path, sha256):
                self._check_content(path, sha256, advice, values)
            self._open[path.name] = values
        found: np.ndarray = self._open[path.name]
        return found

    def _check_content(
        self, path: Path, sha256: str, advice: str, values: np.ndarray | None = None
    ) -> None:
        self._num_hashed += path.stat().st_size
        if _digest(path) != sha256:
            raise UserError(f"{path}: the content is not what the manifest recorded{advice}")
        if values is not None and values.dtype.kind == "f":
            for start in range(0, len(values), _ROWS_AT_ONCE):
                if not np.isfinite(values[start : start + _ROWS_AT_ONCE]).all():
                    raise UserError(f"{path}: a number is not finite{advice}")
        self._note(path, sha256)

    def check_distinct(self, shards: Sequence[str], names: "pyarrow.ChunkedArray") -> None:
        """Raises UserError if a name is repeated in these files of PHOTOS."""
        import pyarrow.compute

        key = list(shards)
        if key not in self._distinct:
            if pyarrow.compute.count_distinct(names).as_py() != len(names):
                raise UserError(f"{self.store}: a photo's name appears twice; make the store again")
            self.note_distinct(shards)

    def note_distinct(self, shards: Sequence[str]) -> None:
        """Records that no name is repeated in these files of PHOTOS."""
        if list(shards) not in self._distinct:
            self._distinct.append(list(shards))
            self._changed = True

    def write_names(self, names: Sequence[str]) -> str:
        """Writes a file of PHOTOS; returns its SHA-256."""
        import pyarrow

        table = pyarrow.table({"name": pyarrow.array(names, pyarrow.large_string())})
        with atomic.partial_file(self.store / f".{PHOTOS}.new") as path:
            with (
                pyarrow.OSFile(str(path), "wb") as sink,
                pyarrow.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table, max_chunksize=max(len(names), 1))
            return self._keep(PHOTOS, path)

    def write_array(self, kind: str, rows: Any) -> str:
        """Writes numbers or hashes in pieces; returns the file's SHA-256."""
        with atomic.partial_file(self.store / f".{kind}.new") as path:
            array = np.lib.format.open_memmap(path, "w+", dtype=rows.dtype, shape=rows.shape)
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                array[start : start + _ROWS_AT_ONCE] = rows[start : start + _ROWS_AT_ONCE]
            array.flush()
            del array
            return self._keep(kind, path)

    def adopt(self, kind: str, path: Path) -> str:
        """Links or copies a valid file of an older format; returns the file's SHA-256."""
        sha256 = _digest(path)
        target = self.store / file_name(kind, sha256)
        if not target.exists():
            try:
                os.link(path, target)
            except OSError:  # no hard links, such as on exFAT
                with atomic.partial_file(self.store / f".{kind}.new") as copy:
                    shutil.copyfile(path, copy)
                    return self._keep(kind, copy)
        self._note(target, sha256)
        return sha256

    def _keep(self, kind: str, path: Path) -> str:
        """Renames a finished file by its content; returns its SHA-256."""
        atomic.sync(path)
        sha256 = _digest(path)
        target = self.store / file_name(kind, sha256)
        os.replace(path, target)
        self._note(target, sha256)
        self._open.pop(target.name, None)
        return sha256

    def _is_known(self, path: Path, sha256: str) -> bool:
        return self._files.get(path.name) == [sha256, *_identity(path)]

    def _note(self, path: Path, sha256: str) -> None:
        self._files[path.name] = [sha256, *_identity(path)]
        self._changed = True

    def save_checked_if_large(self) -> None:
        """Records the valid files if checking them again would take long."""
        if self._num_hashed >= _MANY_BYTES:
            self.save_checked()

    def save_checked(self) -> None:
        """Records the valid files; if that fails, all files are checked again the next time."""
        if not self._changed:
            return
        with suppress(OSError):
            there = {name: entry for name, entry in self._files.items()
                     if (self.store / name).exists()}  # fmt: skip
            content = {"version": _VERSION, "files": there, "distinct": self._distinct[-16:]}
            atomic.write_text(self.store / CHECKED, json.dumps(content) + "\n")
            self._changed = False


def map_npy(path: Path, advice: str) -> np.ndarray:
    """Memory-maps the array of a .npy file."""
    try:
        reading.check_file(path)
        # Not np.load: it would also open archives. This reads the .npy format and no pickle.
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # damaged bytes raise many exception types
        raise UserError(f"{path}: can't be read ({tables.reason(error)}){advice}") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(path: Path) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read_checked(path: Path) -> tuple[dict[str, list], list[list[str]]]:
    """Reads the records of CHECKED; empty if the file is missing or damaged."""
    with suppress(OSError, ValueError):
        found = read_json(path)
        if isinstance(found, dict) and found.get("version") == _VERSION:
            files, distinct = found.get("files"), found.get("distinct")
            if isinstance(files, dict) and isinstance(distinct, list):
                return files, distinct
    return {}, []
