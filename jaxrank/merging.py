"""Two feature stores put together."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from jaxrank import features, tables
from jaxrank.errors import UserError
from jaxrank.features import Block, Extraction

# Tables of a store, by what a row is known by; see `extract`.
_TABLES = {"photos.csv": "image", "series.csv": "image"}


def merge_stores(source: Path | str, store: Path | str) -> dict[str, int]:
    """Adds the blocks of one store to another, and the photos of blocks that both have.

    Returns:
      By block, how many photos are new.

    Raises:
      UserError: a block was made otherwise there, or a photo of both has other numbers; nothing is
        written then.
    """
    source, store = Path(source), Path(store)
    coming = features.open_store(source)
    here = features.open_store(store) if (store / features.MANIFEST).exists() else {}
    merged = {
        name: _merged(name, here[name], block, source, store) if name in here else block
        for name, block in coming.items()
    }
    merged_tables = {name: _merged_table(name, source, store) for name in _TABLES}
    for name, block in merged.items():
        features.write_block(store, name, block)
    with features.writing_errors(store):
        for name, table in merged_tables.items():
            if table is not None:
                tables.write_csv(store / name, list(table.columns), table.to_numpy().tolist())
    known: Mapping[str, Block] = here
    return {
        name: len(block.photos) - (len(known[name].photos) if name in known else 0)
        for name, block in merged.items()
    }


def _merged(name: str, here: Block, coming: Block, source: Path, store: Path) -> Block:
    if list(here.columns) != list(coming.columns):
        raise UserError(f"block '{name}' has other columns in {source} than in {store}")
    recipes = [block.extraction and block.extraction.recipe for block in (here, coming)]
    if recipes[0] != recipes[1]:
        raise UserError(
            f"block '{name}' was made otherwise in {source} ('{coming.source}') than in {store} "
            f"('{here.source}'): make one of them again"
        )
    row = {photo: i for i, photo in enumerate(here.photos)}
    new = [i for i, photo in enumerate(coming.photos) if photo not in row]
    for i, photo in enumerate(coming.photos):
        if photo in row and not np.array_equal(coming.values[i], here.values[row[photo]]):
            raise UserError(
                f"block '{name}': photo '{photo}' has other numbers in {source} than in {store}; "
                "two photos can't have one name"
            )
    photos = [*here.photos, *(coming.photos[i] for i in new)]
    values = np.concatenate([np.asarray(here.values), np.asarray(coming.values)[new]])
    extraction = None
    if here.extraction is not None and coming.extraction is not None:
        contents = coming.extraction.photos_sha256
        extraction = Extraction(
            here.extraction.recipe,
            [*here.extraction.photos_sha256, *(contents[i] for i in new)],
        )
    return Block(photos, here.columns, values, here.source, "", here.caveat, extraction)


def _merged_table(name: str, source: Path, store: Path) -> pd.DataFrame | None:
    """The rows of both, none where neither has the table; a photo of both has one row."""
    found = [_frame(folder / name) for folder in (store, source) if os.path.isfile(folder / name)]
    if not found:
        return None
    if name == "series.csv" and len(found) == 2:
        here, coming = (set(table["series_id"]) for table in found)
        shared = found[0].merge(found[1], on=["series_id", "image"])
        twice = (here & coming) - set(shared["series_id"])
        if twice:
            raise UserError(
                f"both stores have a series '{min(twice)}', of different photos: rename one in its "
                f"{name}"
            )
    merged = pd.concat(found, ignore_index=True)
    return merged.drop_duplicates(_TABLES[name], ignore_index=True).fillna("")


def _frame(path: Path) -> pd.DataFrame:
    table = tables.read_csv(path)
    return pd.DataFrame(table.rows, columns=table.columns)
