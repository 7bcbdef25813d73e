"""The feature store, and how its rows meet the pairs.

A store is a folder with one `.npy` array a block and a `manifest.json` with each block's photo
names, column names, dtype, source and content hash. An array's file name carries its hash, and
the manifest is replaced last: whatever stops a write, the store is the old one or the new one.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank import tables
from jaxrank.errors import UserError
from jaxrank.pairs import Pairs

MANIFEST = "manifest.json"
_FORMAT = 1
_KNOWN_ORDER = ("clip", "cnn", "iqa")
_BLOCK_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Block(NamedTuple):
    """One kind of feature: `values[i, j]` is column `columns[j]` of photo `photos[i]`."""

    photos: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    source: str = ""
    sha256: str = ""


# The blocks of a store by name, in the order in which a photo's vector concatenates them.
Features = Mapping[str, Block]


class Dataset(NamedTuple):
    """Pairs and features that belong together; M pairs, N photos, D numbers a photo.

    Attributes:
      table: the pairs that are left, one row each.
      photos: names of the N photos that stand in these pairs.
      features_ND: float32, raw (scaling is fitted later, on training photos).
      block_columns: the column names of each block, in the order of the D columns.
      pair_rows_M2: int32, the rows of `image_a` and `image_b` in `features_ND`.
      preference_M: float32.
      series_M: int32, index into `series_ids`.
      series_ids: sorted array of text.
      notes: sentences about what was left out, for the log.
    """

    table: pd.DataFrame
    photos: np.ndarray
    features_ND: np.ndarray
    block_columns: dict[str, tuple[str, ...]]
    pair_rows_M2: np.ndarray
    preference_M: np.ndarray
    series_M: np.ndarray
    series_ids: np.ndarray
    notes: tuple[str, ...]

    def column_indices(self, blocks: Sequence[str]) -> np.ndarray:
        """The positions in D of the columns of these blocks."""
        owner = [b for b, columns in self.block_columns.items() for _ in columns]
        return np.flatnonzero(np.isin(owner, list(blocks)))


def block_order(names: Sequence[str]) -> list[str]:
    """clip, cnn, iqa, then others by name."""
    known = [name for name in _KNOWN_ORDER if name in names]
    return known + sorted(set(names) - set(known))


def read_block_csv(path: Path | str) -> Block:
    """Reads a block from CSV: first column the photo's name, the others the block's columns.

    Raises:
      UserError: naming the photo, for anything but finite numbers and distinct photos.
    """
    table = tables.read_csv(path)
    if len(table.columns) < 2:
        raise UserError(
            f"{path}: one column only; the first is the photo's name, the others are the features"
        )
    columns = table.columns[1:]
    if "" in columns:
        raise UserError(f"{path}: column {columns.index('') + 2} has no name in the header")
    photos = table.texts(table.columns[0])
    duplicated = pd.Series(photos).duplicated().to_numpy()
    if duplicated.any():
        row = int(np.argmax(duplicated))
        raise UserError(
            f"{table.where(row)}: photo '{photos[row]}' stands twice, first on line "
            f"{table.lines[photos.index(photos[row])]}"
        )
    values = table.numbers(columns)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    overflow = np.argwhere(~np.isfinite(narrow))
    if len(overflow):
        row, column = (int(index) for index in overflow[0])
        raise UserError(
            f"{table.where(row, columns[column])} ('{photos[row]}'): {values[row, column]:g} is "
            "too large for a 32-bit number"
        )
    return Block(photos, columns, narrow, source=Path(path).name)


def write_block(store: Path | str, name: str, block: Block) -> None:
    """Adds a block to a store or replaces it; makes the folder when there is none."""
    store = Path(store)
    if not _BLOCK_NAME.fullmatch(name) or name == "all":
        raise UserError(
            f"--block={name}: a block's name is lower-case letters, digits and _, at most 32, "
            "and not 'all'; the usual ones are clip, cnn and iqa"
        )
    try:
        store.mkdir(parents=True, exist_ok=True)
        blocks = _read_manifest(store) if (store / MANIFEST).exists() else {}
        values = np.ascontiguousarray(block.values)
        digest = _content_hash(block.photos, block.columns, values)
        replaced = blocks.get(name, {}).get("sha256")
        blocks[name] = {
            "photos": list(block.photos),
            "columns": list(block.columns),
            "dtype": values.dtype.name,
            "source": block.source,
            "sha256": digest,
        }
        temporary = store / f".{name}.npy.tmp"
        with open(temporary, "wb") as file:
            np.save(file, values, allow_pickle=False)
        os.replace(temporary, _array_path(store, name, digest))
        manifest = {"format": _FORMAT, "blocks": {b: blocks[b] for b in block_order(list(blocks))}}
        tables.write_text(store / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        if replaced not in (None, digest):
            _array_path(store, name, replaced).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{store}: can't be written ({error.strerror or error})") from None


def open_store(store: Path | str) -> dict[str, Block]:
    """Opens a store; arrays are memory-mapped and checked against the manifest's hashes."""
    store = Path(store)
    if not (store / MANIFEST).is_file():
        raise UserError(
            f"{store}: not a feature store (no {MANIFEST}); make one with "
            f"'launch.py features --from_csv=FILE --block=NAME --features={store}'"
        )
    entries = _read_manifest(store)
    return {name: _open_block(store, name, entries[name]) for name in block_order(list(entries))}


def _open_block(store: Path, name: str, entry: dict) -> Block:
    path = _array_path(store, name, entry["sha256"])
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: can't be read ({error}); make the block '{name}' again") from None
    shape = (len(entry["photos"]), len(entry["columns"]))
    if values.shape != shape or values.dtype.name != entry["dtype"]:
        raise UserError(
            f"{path}: {values.dtype.name} {list(values.shape)}, but the manifest says "
            f"{entry['dtype']} {list(shape)}; make the block '{name}' again"
        )
    if _content_hash(entry["photos"], entry["columns"], values) != entry["sha256"]:
        raise UserError(
            f"{path}: the content is not what the manifest recorded; make the block '{name}' again"
        )
    return Block(entry["photos"], entry["columns"], values, entry["source"], entry["sha256"])


def _array_path(store: Path, name: str, sha256: str) -> Path:
    return store / f"{name}-{sha256[:12]}.npy"


def _read_manifest(store: Path) -> dict[str, dict]:
    path = store / MANIFEST
    broken = f"{path}: not a manifest of this version of jaxrank; make the store again"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    except ValueError:
        raise UserError(broken) from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise UserError(broken)
    blocks = manifest.get("blocks")
    if not isinstance(blocks, dict) or not blocks:
        raise UserError(broken)
    for name, entry in blocks.items():
        fine = (
            isinstance(entry, dict)
            and _BLOCK_NAME.fullmatch(name)
            and _is_text_list(entry.get("photos"))
            and _is_text_list(entry.get("columns"))
            and entry.get("dtype") in ("float16", "float32")
            and isinstance(entry.get("source"), str)
            and isinstance(entry.get("sha256"), str)
            and _HASH.fullmatch(entry["sha256"])
        )
        if not fine:
            raise UserError(f"{path}, block '{name}': not a valid entry; make the block again")
    return blocks


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _content_hash(photos: Sequence[str], columns: Sequence[str], values: np.ndarray) -> str:
    digest = hashlib.sha256(json.dumps([list(photos), list(columns)]).encode())
    digest.update(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def align(pairs: Pairs, features: Features) -> Dataset:
    """Keeps the pairs whose photos have a row in every block, and gathers those rows.

    Every block of the store, whatever an experiment reads: all experiments and rules are then
    compared on the same pairs.
    """
    photos = pd.unique(pd.concat([pairs.table["image_a"], pairs.table["image_b"]]))
    known = np.ones(len(photos), bool)
    block_rows: dict[str, np.ndarray] = {}
    notes = []
    for name, block in features.items():
        rows = pd.Index(block.photos).get_indexer(pd.Index(photos))
        block_rows[name] = rows
        known &= rows >= 0
        if (rows < 0).any():
            notes.append(
                f"{int((rows < 0).sum()):,} of {len(photos):,} photos in the pairs have no row in "
                f"block '{name}'"
            )
    place = pd.Index(photos)
    pair_rows = np.stack(
        [place.get_indexer(pd.Index(pairs.table[c])) for c in ("image_a", "image_b")], axis=1
    )
    kept = known[pair_rows].all(axis=1)
    if not kept.any():
        name = next(iter(features))
        raise UserError(
            "no pair has both photos in the feature store: the pairs name photos such as "
            f"'{photos[0]}', block '{name}' such as '{features[name].photos[0]}'"
        )
    if not kept.all():
        notes.append(
            f"{int((~kept).sum()):,} of {len(kept):,} pairs left out: a photo without features"
        )
    table = pairs.table[kept].reset_index(drop=True)
    used, inverse = np.unique(pair_rows[kept], return_inverse=True)
    features_ND = np.concatenate(
        [
            np.asarray(block.values[block_rows[name][used]], np.float32)
            for name, block in features.items()
        ],
        axis=1,
    )
    bad = np.argwhere(~np.isfinite(features_ND))
    if len(bad):
        raise UserError(
            f"photo '{photos[used[bad[0][0]]]}' has a feature that is not a finite number"
        )
    series_ids, series = np.unique(table["series_id"].to_numpy(str), return_inverse=True)
    return Dataset(
        table=table,
        photos=np.asarray(photos)[used],
        features_ND=features_ND,
        block_columns={name: tuple(block.columns) for name, block in features.items()},
        pair_rows_M2=inverse.reshape(-1, 2).astype(np.int32),
        preference_M=table["preference"].to_numpy(np.float32),
        series_M=series.astype(np.int32),
        series_ids=series_ids,
        notes=(*pairs.notes, *notes),
    )


def fit_scaling(features_ND: np.ndarray, train_photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1/standard deviation per column over the training photos, float32 [D] each.

    A column that does not vary over the training photos gets the factor 0: it says nothing there,
    and dividing by a tiny deviation would blow up what it says elsewhere.
    """
    values = features_ND[train_photos].astype(np.float64)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    inv_std = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    return mean.astype(np.float32), inv_std.astype(np.float32)
