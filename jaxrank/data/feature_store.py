"""The feature store.

A store is a folder with one `.npy` array a block and a `manifest.json` with each block's photo
names, column names, dtype, source and content hash. An array's file name carries its hash, and
the manifest is replaced last: whatever stops a write, the store is the old one or the new one.
"""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from jaxrank.errors import UserError, program
from jaxrank.io import atomic, reading, tables
from jaxrank.io.documents import read_json

MANIFEST = "manifest.json"
# Tables that `extract` writes beside it: all photos, and which of them are one series.
PHOTOS_CSV, SERIES_CSV = "photos.csv", "series.csv"
_FORMAT = 1
_KNOWN_ORDER = ("clip", "cnn", "iqa")
_BLOCK_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_OPTION = re.compile(r"[a-z][a-z0-9_]{0,31}")
_HASH = re.compile(r"[0-9a-f]{64}")
# How far, as a share of a column's deviation, its numbers may move when they are stored.
_MOST_ROUNDING = 0.07

# The numbers of a store.
Dtype: TypeAlias = Literal["float16", "float32"]


class Extraction(NamedTuple):
    """How a block was made of photos. Rows of equal recipe and content are equal up to rounding: a
    network's last bits depend on what stood beside a photo.

    Attributes:
      recipe: what decided its rows.
      photos_sha256: of the photos' files, in their order.
      options: the flags of `extract` that ask for the recipe, by name; stores of before there were
        options have none.
    """

    recipe: Mapping[str, Any]
    photos_sha256: Sequence[str]
    options: Mapping[str, str] = {}

    @property
    def key(self) -> str:
        """The recipe, as a hash."""
        return _recipe_key(self.recipe)


class Recipe(NamedTuple):
    """How a block was made, whatever the photos.

    Attributes:
      source: in a few words.
      recipe, options: see `Extraction`.
    """

    source: str
    recipe: Mapping[str, Any]
    options: Mapping[str, str] = {}

    @property
    def key(self) -> str:
        """The recipe, as a hash."""
        return _recipe_key(self.recipe)

    def flags(self, block: str) -> str:
        """The flags of `extract` that make this block so, for a shell; empty where unknown."""
        if not self.options:
            return ""
        words = [f"--{name}={shlex.quote(value)}" for name, value in self.options.items()]
        return " ".join([f"--blocks={block}", *words])


def _recipe_key(recipe: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


class Block(NamedTuple):
    """One kind of feature: `values[i, j]` is column `columns[j]` of photo `photos[i]`.

    Attributes:
      source: where it comes from, in a few words.
      sha256: of its content, in a store.
      caveat: what a reader of any result must know, or empty.
      extraction: how it was made of photos, where it was.
    """

    photos: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    source: str = ""
    sha256: str = ""
    caveat: str = ""
    extraction: Extraction | None = None


def recipe_of(block: Block) -> Recipe | None:
    """How the block was made of photos; None where it was not."""
    made = block.extraction
    return None if made is None else Recipe(block.source, made.recipe, made.options)


# The blocks of a store by name, in the order in which a photo's vector concatenates them.
Features = Mapping[str, Block]


def refuse_mixed(features: Features) -> None:
    """Raises UserError where two blocks were made of different files of one photo's name: its row
    would be half of one photo and half of another."""
    content: dict[str, str] = {}
    first: dict[str, str] = {}
    for name, block in features.items():
        if block.extraction is None:
            continue
        for photo, sha256 in zip(block.photos, block.extraction.photos_sha256, strict=True):
            if content.setdefault(photo, sha256) != sha256:
                raise UserError(
                    f"the blocks '{first[photo]}' and '{name}' know different files as '{photo}': "
                    "extract both again, of the photos as they are now"
                )
            first.setdefault(photo, name)


def block_order(names: Sequence[str]) -> list[str]:
    """clip, cnn, iqa, then others by name."""
    known = [name for name in _KNOWN_ORDER if name in names]
    return known + sorted(set(names) - set(known))


def check_block_name(where: str, name: object) -> None:
    """Raises UserError for what can't be the name of a block."""
    if not isinstance(name, str) or not _BLOCK_NAME.fullmatch(name) or name == "all":
        shown = "" if f"{name}" in where else f" '{name}'"
        raise UserError(
            f"{where}{shown}: a block's name is lower-case letters, digits and _, at most 32, "
            "and not 'all'; the usual ones are clip, cnn and iqa"
        )


def check_block(where: str, block: Block, dtype: Dtype | None = None) -> Block:
    """The block with numbers of a type, by default float32 (but float16 stays float16).

    Raises:
      UserError: what is wrong, also where numbers of that type would lose a column.
    """
    photos, columns = list(block.photos), list(block.columns)
    for names, what in ((photos, "photo"), (columns, "column")):
        if not names:
            raise UserError(f"{where}: there is no {what}")
        if not all(isinstance(name, str) for name in names):
            raise UserError(f"{where}: the {what} names must be text")
        if not tables.is_text("".join(names)):  # all at once, which is fast
            no_text = next(name for name in names if not tables.is_text(name))
            raise UserError(f"{where}: {what} {no_text[:80]!a} is not text")
        twice = pd.Index(names).duplicated()
        if twice.any():
            raise UserError(f"{where}: {what} '{names[int(np.argmax(twice))]}' stands twice")
    raw = np.asarray(block.values)
    if raw.dtype.kind not in "fiub":
        raise UserError(f"{where}: the values are of type {raw.dtype}, not numbers")
    if raw.shape != (len(photos), len(columns)):
        raise UserError(
            f"{where}: the values have shape {list(raw.shape)}, but there are {len(photos)} "
            f"photos and {len(columns)} columns"
        )
    is_half = raw.dtype.kind == "f" and raw.dtype.itemsize == 2
    stored = np.dtype(dtype or ("float16" if is_half else "float32"))
    if raw.dtype == stored:
        values = block.values  # as it is: a memory-mapped array stays one
    else:
        with np.errstate(over="ignore"):
            values = raw.astype(stored)
    bits = 8 * stored.itemsize
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = (int(index) for index in bad[0])
        raise UserError(
            f"{where}, photo '{photos[row]}', column '{columns[column]}': {raw[row, column]} is "
            f"not a finite {bits}-bit number"
        )
    if raw.dtype != stored:
        _check_rounding(where, columns, raw, values)
    return block._replace(photos=photos, columns=columns, values=values)


def _check_rounding(where: str, columns: list[str], raw: np.ndarray, stored: np.ndarray) -> None:
    """A column that varies by less than stored numbers can tell apart would be lost silently."""
    for start in range(0, len(columns), 64):  # not all at once: 64-bit copies of a large block
        wide = raw[:, start : start + 64].astype(np.float64)
        error = np.sqrt(np.mean((stored[:, start : start + 64] - wide) ** 2, axis=0))
        rounded = error > _MOST_ROUNDING * wide.std(axis=0)
        # A column that never varies loses nothing.
        lost = np.flatnonzero(rounded & (wide.min(axis=0) < wide.max(axis=0)))
        if len(lost):
            raise UserError(
                f"{where}, column '{columns[start + lost[0]]}': its values differ by less than "
                f"{8 * stored.itemsize}-bit numbers can tell apart; subtract a constant, or scale "
                "it"
            )


def write_block(store: Path | str, name: str, block: Block) -> bool:
    """Adds a block to a store or replaces it; makes the folder when there is none.

    Returns:
      Whether a block of that name was replaced.
    """
    store = Path(store)
    check_block_name(f"--block={name}", name)
    block = check_block(f"block '{name}'", block)
    values = np.ascontiguousarray(block.values)
    digest = _content_hash(block.photos, block.columns, values)
    with writing_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        blocks = _read_manifest(store) if (store / MANIFEST).exists() else {}
        replaced: Any = blocks.get(name)
        old_digest = replaced["sha256"] if _is_entry(name, replaced) else digest
        blocks[name] = {
            "photos": list(block.photos),
            "columns": list(block.columns),
            "dtype": values.dtype.name,
            "source": block.source,
            "sha256": digest,
        }
        if block.caveat:
            blocks[name]["caveat"] = block.caveat
        if block.extraction is not None:
            blocks[name]["extraction"] = block.extraction._asdict()
        path = _array_path(store, name, digest)
        with atomic.atomic_file(path, "wb") as file:
            np.save(file, values, allow_pickle=False)
        manifest = {"format": _FORMAT, "blocks": {b: blocks[b] for b in block_order(list(blocks))}}
        atomic.write_text(store / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        if old_digest != digest:
            _array_path(store, name, old_digest).unlink(missing_ok=True)
    return replaced is not None


@contextmanager
def writing_errors(store: Path) -> Iterator[None]:
    """Turns an OSError of writing a store into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{store}: can't be written ({error.strerror or error})") from None


def open_feature_store(store: Path | str, only: Sequence[str] | None = None) -> dict[str, Block]:
    """Opens a store, or some of its blocks, those that it has; arrays are memory-mapped and checked
    against the manifest's hashes."""
    store = Path(store)
    if not os.path.isfile(store / MANIFEST):  # Path.is_file raises for some names
        raise UserError(
            f"{store}: not a feature store (no {MANIFEST}); make one with "
            f"'{program()} features --from_csv=FILE --block=NAME --features={store}', or of photos "
            f"with '{program()} extract --photos=FOLDER --features={store}'"
        )
    entries = _read_manifest(store)
    if only is not None:
        entries = {name: entry for name, entry in entries.items() if name in only}
    for name, entry in entries.items():
        if not _is_entry(name, entry):
            raise UserError(
                f"{store / MANIFEST}: the entry of block '{name}' is damaged; make that block "
                "again, or the whole store in a new folder"
            )
    return {name: _open_block(store, name, entries[name]) for name in block_order(list(entries))}


def _open_block(store: Path, name: str, entry: dict[str, Any]) -> Block:
    path = _array_path(store, name, entry["sha256"])
    values = map_npy(path, f"; make the block '{name}' again")
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
    return check_block(str(path), _described(entry)._replace(values=values))


def _described(entry: dict[str, Any]) -> Block:
    """What a manifest says of a block, without its values."""
    made = entry.get("extraction")
    return Block(
        entry["photos"],
        entry["columns"],
        np.empty((0, 0)),
        entry["source"],
        entry["sha256"],
        entry.get("caveat", ""),
        None
        if made is None
        else Extraction(made["recipe"], made["photos_sha256"], made.get("options", {})),
    )


def describe_store(store: Path) -> dict[str, Block | None]:
    """What the manifest says of each block, without their values; None where that is damaged. A
    folder without a manifest has no block."""
    if not (store / MANIFEST).exists():
        return {}
    entries = _read_manifest(store)
    return {
        name: _described(entries[name]) if _is_entry(name, entries[name]) else None
        for name in block_order(list(entries))
    }


def map_npy(path: Path, advice: str) -> np.ndarray:
    try:
        reading.check_file(path)
        # Not np.load: it would also open archives. This reads the .npy format and no pickle.
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy's header parser raises many kinds for damaged bytes
        raise UserError(f"{path}: can't be read ({tables.reason(error)}){advice}") from None


def _array_path(store: Path, name: str, sha256: str) -> Path:
    return store / f"{name}-{sha256[:12]}.npy"


def _read_manifest(store: Path) -> dict[str, Any]:
    """The entries by block; those of single blocks are checked where they are used."""
    path = store / MANIFEST
    try:
        manifest = read_json(path)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    except ValueError:
        manifest = None
    blocks = manifest.get("blocks") if isinstance(manifest, dict) else None
    if not isinstance(blocks, dict) or not blocks or manifest.get("format") != _FORMAT:
        raise UserError(
            f"{path}: not a manifest of this version of jaxrank; make the store in a new folder"
        )
    return blocks


def _is_entry(name: str, entry: Any) -> bool:
    """Whether a manifest's entry is what `write_block` writes."""
    return (
        isinstance(entry, dict)
        and _BLOCK_NAME.fullmatch(name) is not None
        and _is_text_list(entry.get("photos"))
        and _is_text_list(entry.get("columns"))
        and entry.get("dtype") in ("float16", "float32")
        and isinstance(entry.get("source"), str)
        and isinstance(entry.get("sha256"), str)
        and _HASH.fullmatch(entry["sha256"]) is not None
        and isinstance(entry.get("caveat", ""), str)
        and ("extraction" not in entry or _is_extraction(entry))
    )


def _is_extraction(entry: dict[str, Any]) -> bool:
    made = entry["extraction"]
    return (
        isinstance(made, dict)
        and isinstance(made.get("recipe"), dict)
        and _is_text_list(made.get("photos_sha256"))
        and len(made["photos_sha256"]) == len(entry["photos"])
        and all(map(_HASH.fullmatch, made["photos_sha256"]))
        and are_options(made.get("options", {}))
    )


def are_options(value: object) -> bool:
    """Whether these can be `Extraction.options`."""
    return isinstance(value, dict) and all(
        _OPTION.fullmatch(name) and isinstance(text, str) and tables.is_text(text)
        for name, text in value.items()
    )


def _is_text_list(value: object) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in "".join(value))  # UTF-8 has none


def _content_hash(photos: Sequence[str], columns: Sequence[str], values: np.ndarray) -> str:
    digest = hashlib.sha256(json.dumps([list(photos), list(columns)]).encode())
    digest.update(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
