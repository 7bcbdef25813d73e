"""The feature store: a folder of feature blocks.

A store is a folder with a `manifest.json` and the array files that the manifest names. Each shard
of about a million photos has files of the photos' names, the hashes of their files, and the numbers
of each block. docs/feature_stores.md describes the format.

All array files are written before the manifest is replaced: an interrupted write leaves the old
store or the new one.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxrank.data import old_store, shards
from jaxrank.data.blocks import (
    Block,
    Dtype,
    Extraction,
    Features,
    Recipe,
    are_options,
    block_order,
    check_block,
    check_block_name,
    recipe_of,
    refuse_mixed,
)
from jaxrank.data.store_files import StoreFiles, map_npy
from jaxrank.errors import UserError, program
from jaxrank.io import atomic
from jaxrank.io.documents import read_json

__all__ = [
    "Block",
    "Dtype",
    "Extraction",
    "Features",
    "Recipe",
    "are_options",
    "block_order",
    "check_block",
    "check_block_name",
    "map_npy",
    "recipe_of",
    "refuse_mixed",
]

MANIFEST = "manifest.json"
# Tables that `extract` writes beside the manifest: all photos, and the photos of each series.
PHOTOS_CSV, SERIES_CSV = "photos.csv", "series.csv"
_FORMAT = 2


def write_block(store: Path | str, name: str, block: Block) -> bool:
    """Adds a block to a store or replaces it; creates the folder if it is missing.

    Args:
      store: folder of the store.
      name: name of the block: lower-case letters, digits and _, at most 32, first a letter.
      block: photos, columns and finite values.

    Returns:
      Whether a block of that name was replaced.

    Raises:
      UserError: the name or the block is invalid, or the store can't be written.
    """
    check_block_name(f"--block={name}", name)
    return name in write_blocks(store, {name: block})


def write_blocks(
    store: Path | str, blocks: Mapping[str, Block], appended: Mapping[str, Block] | None = None
) -> set[str]:
    """Adds or replaces blocks, and appends photos to blocks, in one atomic update.

    First all files are written, named by their content. Then the manifest is replaced, and files
    that it no longer names are deleted.

    Args:
      store: the store's folder, created if it is missing.
      blocks: blocks to add or replace, by name.
      appended: rows of new photos, by the name of an existing block. Existing shards are not
        rewritten, except small ones, see `shards.append_entry`.

    Returns:
      The names of the blocks that were replaced.
    """
    store = Path(store)
    checked = {name: check_block(f"block '{name}'", block) for name, block in blocks.items()}
    more = {n: check_block(f"block '{n}'", b) for n, b in (appended or {}).items()}
    with writing_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        files = StoreFiles(store)
        before = _read_manifest(store) if (store / MANIFEST).exists() else {}
        entries = {
            name: old_store.upgraded(files, name, entry)
            if old_store.is_entry(name, entry)
            else entry
            for name, entry in before.items()
            if name not in blocks
        }
        for name, block in checked.items():
            entries[name] = shards.write_entry(files, name, block)
        for name, block in more.items():
            entries[name] = shards.append_entry(files, name, entries[name], block)
        manifest = {
            "format": _FORMAT,
            "blocks": {b: entries[b] for b in block_order(list(entries))},
        }
        atomic.write_text(store / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for path in _files_of(before) - _files_of(entries):
            (store / path).unlink(missing_ok=True)
        files.save_checked()
    return before.keys() & blocks.keys()


def _files_of(entries: Mapping[str, Any]) -> set[str]:
    """The files that a manifest names."""
    found: set[str] = set()
    for name, entry in entries.items():
        if shards.is_entry(name, entry):
            found |= shards.files_of(name, entry)
        elif old_store.is_entry(name, entry):
            found.add(old_store.array_name(name, entry))
    return found


def files_named(store: Path) -> dict[str, str]:
    """The files that a store's manifest names, with the first digits of their SHA-256.

    The digits are empty for arrays of format 1, whose names hold another hash.
    """
    entries = _read_manifest(store)
    new = {name: entry for name, entry in entries.items() if shards.is_entry(name, entry)}
    known = {path: Path(path).stem.rpartition("-")[2] for path in _files_of(new)}
    return dict.fromkeys(_files_of(entries), "") | known


@contextmanager
def writing_errors(store: Path) -> Iterator[None]:
    """Converts an OSError while writing a store into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{store}: can't be written ({error.strerror or error})") from None


def open_feature_store(store: Path | str, only: Sequence[str] | None = None) -> dict[str, Block]:
    """Opens the blocks of a feature store.

    Arrays are memory-mapped. They are checked against the manifest's hashes, unless this was done
    since they were last written or copied.

    Args:
      store: folder of the store.
      only: names of the blocks to open; names that the store lacks are left out. By default all.

    Returns:
      Blocks by name: clip, cnn and iqa first, then the others.

    Raises:
      UserError: the folder is not a feature store, or one of its files is damaged.
    """
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
        if not (shards.is_entry(name, entry) or old_store.is_entry(name, entry)):
            raise UserError(
                f"{store / MANIFEST}: the entry of block '{name}' is damaged; make that block "
                "again, or the whole store in a new folder"
            )
    files = StoreFiles(store)
    opened = {name: _opened(files, name, entries[name]) for name in block_order(list(entries))}
    files.save_checked_if_large()
    return opened


def _opened(files: StoreFiles, name: str, entry: dict[str, Any]) -> Block:
    if shards.is_entry(name, entry):
        return shards.open_entry(files, name, entry, with_values=True)
    block = old_store.open_entry(files.store, name, entry)
    return check_block(str(files.store / old_store.array_name(name, entry)), block)


def describe_store(store: Path) -> dict[str, Block | None]:
    """Opens the blocks of a store without their values; a damaged block is None.

    A folder without a manifest has no blocks.
    """
    if not (store / MANIFEST).exists():
        return {}
    entries, files = _read_manifest(store), StoreFiles(store)
    return {name: _described(files, name, entries[name]) for name in block_order(list(entries))}


def _described(files: StoreFiles, name: str, entry: Any) -> Block | None:
    if old_store.is_entry(name, entry):
        return old_store.described(entry)
    if not shards.is_entry(name, entry):
        return None
    try:
        return shards.open_entry(files, name, entry, with_values=False)
    except UserError:
        return None


def _read_manifest(store: Path) -> dict[str, Any]:
    """The manifest's entries by block name; callers check the single entries."""
    path = store / MANIFEST
    try:
        manifest = read_json(path)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    except ValueError:
        manifest = None
    blocks = manifest.get("blocks") if isinstance(manifest, dict) else None
    known = isinstance(manifest, dict) and manifest.get("format") in (old_store.FORMAT, _FORMAT)
    if not isinstance(blocks, dict) or not blocks or not known:
        raise UserError(
            f"{path}: not a manifest of this version of jaxrank; make the store in a new folder"
        )
    return blocks
