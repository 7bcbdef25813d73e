"""Stores of format 1: one array per block, and all names and hashes as JSON in the manifest.

Such stores are read unchanged. Writing a block to such a store upgrades it to the current format.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrank.data import shards
from jaxrank.data.blocks import Block, Extraction, are_options, is_block_name, is_text_list
from jaxrank.data.store_files import StoreFiles, map_npy
from jaxrank.errors import UserError

FORMAT = 1
_HASH = re.compile(r"[0-9a-f]{64}")


def array_name(name: str, entry: dict[str, Any]) -> str:
    """Name of the file of a block's numbers."""
    return f"{name}-{entry['sha256'][:12]}.npy"


def is_entry(name: str, entry: Any) -> bool:
    """Whether a manifest's entry has format 1."""
    return (
        isinstance(entry, dict)
        and is_block_name(name)
        and "shards" not in entry
        and is_text_list(entry.get("photos"))
        and is_text_list(entry.get("columns"))
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
        and is_text_list(made.get("photos_sha256"))
        and len(made["photos_sha256"]) == len(entry["photos"])
        and all(map(_HASH.fullmatch, made["photos_sha256"]))
        and are_options(made.get("options", {}))
    )


def open_entry(store: Path, name: str, entry: dict[str, Any]) -> Block:
    """Opens the block of an entry; its array is memory-mapped and checked against its hash."""
    path = store / array_name(name, entry)
    values = map_npy(path, f"; make the block '{name}' again")
    shape = (len(entry["photos"]), len(entry["columns"]))
    if values.shape != shape or values.dtype.name != entry["dtype"]:
        raise UserError(
            f"{path}: {values.dtype.name} {list(values.shape)}, but the manifest records "
            f"{entry['dtype']} {list(shape)}; make the block '{name}' again"
        )
    if _content_hash(entry["photos"], entry["columns"], values) != entry["sha256"]:
        raise UserError(
            f"{path}: the content is not what the manifest recorded; make the block '{name}' again"
        )
    return described(entry)._replace(values=values)


def described(entry: dict[str, Any]) -> Block:
    """The block of an entry, without its numbers."""
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


def upgraded(files: StoreFiles, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Converts an entry to the current format.

    The array file gets a hard link. It is copied if the disk has no hard links or if it has to be
    cut into shards.
    """
    block = open_entry(files.store, name, entry)
    if len(block.photos) > shards.MOST_ROWS:
        return shards.write_entry(files, name, block)
    values = files.adopt(name, files.store / array_name(name, entry))
    return shards.write_entry(files, name, block, values=values)


def _content_hash(photos: Sequence[str], columns: Sequence[str], values: np.ndarray) -> str:
    digest = hashlib.sha256(json.dumps([list(photos), list(columns)]).encode())
    digest.update(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
