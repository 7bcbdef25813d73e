"""A block in a store: an entry of the manifest, and the shards that the entry names.

A shard is a run of at most MOST_ROWS photos: a file of names and a file of numbers. If the block
was extracted from photos, a third file holds the hashes of the photos' files.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxrank.data.blocks import Block, Extraction, are_options, is_block_name, is_text_list
from jaxrank.data.store_columns import Digests, Names, digest_rows, joined, overlap
from jaxrank.data.store_files import CONTENTS, PHOTOS, StoreFiles, file_name
from jaxrank.errors import UserError

MOST_ROWS = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")
_KEYS = {"columns", "dtype", "source", "shards", "sha256"}


def is_entry(name: str, entry: Any) -> bool:
    """Whether a manifest's entry has the form that `write_entry` returns."""
    return (
        is_block_name(name)
        and isinstance(entry, dict)
        and _KEYS <= entry.keys() <= _KEYS | {"caveat", "extraction"}
        and is_text_list(entry["columns"])
        and entry["dtype"] in ("float16", "float32")
        and isinstance(entry["source"], str)
        and isinstance(entry.get("caveat", ""), str)
        and ("extraction" not in entry or _is_extraction(entry["extraction"]))
        and isinstance(entry["shards"], list)
        and bool(entry["shards"])
        and all(_is_shard(shard, "extraction" in entry) for shard in entry["shards"])
        and entry["sha256"] == _block_hash(entry)
    )


def _is_extraction(made: Any) -> bool:
    return (
        isinstance(made, dict)
        and made.keys() == {"recipe", "options"}
        and isinstance(made["recipe"], dict)
        and are_options(made["options"])
    )


def _is_shard(shard: Any, has_contents: bool) -> bool:
    kinds = {PHOTOS, "values"} | ({CONTENTS} if has_contents else set())
    return (
        isinstance(shard, dict)
        and shard.keys() == kinds | {"rows"}
        and type(shard["rows"]) is int
        and shard["rows"] > 0
        and all(isinstance(shard[k], str) and _HASH.fullmatch(shard[k]) for k in kinds)
    )


def _block_hash(entry: Mapping[str, Any]) -> str:
    """SHA-256 of a block's content, computed from the hashes of its files."""
    content = [entry["columns"], entry["dtype"], entry["shards"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def files_of(name: str, entry: Mapping[str, Any]) -> set[str]:
    """The names of an entry's files."""
    return {
        file_name(name if kind == "values" else kind, sha256)
        for shard in entry["shards"]
        for kind, sha256 in shard.items()
        if kind != "rows"
    }


def open_entry(
    files: StoreFiles, name: str, entry: Mapping[str, Any], *, with_values: bool
) -> Block:
    """Opens the block of an entry; with its numbers, memory-mapped and checked, or without."""
    import pyarrow

    shards, width = entry["shards"], len(entry["columns"])
    advice = f"; make the block '{name}' again"
    parts = [files.names(s[PHOTOS], s["rows"], advice) for s in shards]
    names = pyarrow.chunked_array(parts)
    key = tuple(s[PHOTOS] for s in shards)
    files.check_distinct(key, names)
    extraction = None
    if "extraction" in entry:
        hashes = [files.contents(s[CONTENTS], s["rows"], advice) for s in shards]
        contents = Digests(hashes, tuple(s[CONTENTS] for s in shards))
        made = entry["extraction"]
        extraction = Extraction(made["recipe"], contents, made["options"])
    values: Any = np.empty((0, 0))
    if with_values:
        arrays = [
            files.values(name, s["values"], (s["rows"], width), entry["dtype"], advice)
            for s in shards
        ]
        values = joined(arrays)
    return Block(
        Names(names, key),
        entry["columns"],
        values,
        entry["source"],
        entry["sha256"],
        entry.get("caveat", ""),
        extraction,
    )


def write_entry(
    files: StoreFiles, name: str, block: Block, *, values: str | None = None
) -> dict[str, Any]:
    """Writes the shards of a block; returns its entry.

    Args:
      files: files of the store.
      name: name of the block.
      block: block to write.
      values: hash of an existing file with all numbers of the block.
    """
    entry: dict[str, Any] = {
        "columns": list(block.columns),
        "dtype": block.values.dtype.name,
        "source": block.source,
        "shards": [
            _write_shard(files, name, block, start, end, values)
            for start, end in _runs(len(block.photos))
        ],
    }
    files.note_distinct([shard[PHOTOS] for shard in entry["shards"]])  # see `check_block`
    if block.caveat:
        entry["caveat"] = block.caveat
    if block.extraction is not None:
        made = block.extraction
        entry["extraction"] = {"recipe": dict(made.recipe), "options": dict(made.options)}
    return entry | {"sha256": _block_hash(entry)}


def _runs(num_rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_rows, MOST_ROWS):
        yield start, min(start + MOST_ROWS, num_rows)


def _write_shard(
    files: StoreFiles, name: str, block: Block, start: int, end: int, values: str | None
) -> dict[str, Any]:
    photos = block.photos
    some = (
        photos.arrow.slice(start, end - start) if isinstance(photos, Names) else photos[start:end]
    )
    shard: dict[str, Any] = {"rows": end - start, PHOTOS: files.write_names(some)}
    if block.extraction is not None:
        rows = digest_rows(block.extraction.photos_sha256)[start:end]
        shard[CONTENTS] = files.write_array(CONTENTS, rows)
    shard["values"] = values or files.write_array(name, block.values[start:end])
    return shard


def append_entry(files: StoreFiles, name: str, entry: dict[str, Any], new: Block) -> dict[str, Any]:
    """Appends the photos of another block with the same columns; returns the new entry.

    The last shards are rewritten if they are no larger than the added rows and fit into one shard
    with them. So there are few shards, even after many small additions.
    """
    here = open_entry(files, name, entry, with_values=True)
    assert isinstance(here.photos, Names)
    if overlap(here.photos, new.photos):
        raise UserError(f"block '{name}': a photo to append is there already")
    kept, tail = list(entry["shards"]), len(new.photos)
    if here.values.dtype == np.float16 and new.values.dtype != np.float16:
        kept, tail = [], MOST_ROWS  # float16 would lose digits of the new rows: all become float32
    while kept and kept[-1]["rows"] <= tail and kept[-1]["rows"] + tail <= MOST_ROWS:
        tail += kept.pop()["rows"]
    first = sum(shard["rows"] for shard in kept)
    again = _joined(here, first, new)
    written = write_entry(files, name, again)
    changed = entry | written | {"shards": kept + written["shards"]}
    files.note_distinct([shard[PHOTOS] for shard in changed["shards"]])
    return changed | {"sha256": _block_hash(changed)}


def _joined(here: Block, first: int, new: Block) -> Block:
    """The rows of a block from `first` on, followed by the rows of another block."""
    values: Any = new.values
    if first < len(here.photos) or values.dtype != here.values.dtype:
        values = np.concatenate([here.values[first:], values[:]])
    photos = [*here.photos[first:], *new.photos]
    extraction = here.extraction
    if extraction is not None:
        assert new.extraction is not None
        contents = [*extraction.photos_sha256[first:], *new.extraction.photos_sha256]
        options = extraction.options or new.extraction.options  # older stores have none
        extraction = extraction._replace(photos_sha256=contents, options=options)
    return here._replace(photos=photos, values=values, extraction=extraction)
