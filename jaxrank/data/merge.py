"""Merges two feature stores."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxrank.data import feature_store
from jaxrank.data.blocks import photos_identity
from jaxrank.data.feature_store import PHOTOS_CSV, SERIES_CSV, Block
from jaxrank.data.series_ids import canonical_series_id
from jaxrank.data.store_columns import digest_rows, positions
from jaxrank.errors import UserError
from jaxrank.io import atomic, tables


def merge_stores(source: Path | str, store: Path | str) -> dict[str, int]:
    """Adds the blocks of `source` to `store`, and new photos to the blocks that both stores have.

    For photos that both stores have, the rows in `store` are kept.

    Returns:
      The number of new photos by block.

    Raises:
      UserError: a block has different columns or recipes in the two stores, or one name means two
        photos; nothing is written then.
    """
    source, store = Path(source), Path(store)
    coming = feature_store.open_feature_store(source)
    if source.resolve() == store.resolve():
        raise UserError(f"{source}: a store can't be added to itself")
    with feature_store.writing_errors(store), atomic.sole_writer(store):
        here = (
            feature_store.open_feature_store(store)
            if (store / feature_store.MANIFEST).exists()
            else {}
        )
        _check_contents(here, coming, source, store)
        new = {
            name: _new_rows(name, here[name], block, source, store)
            for name, block in coming.items()
            if name in here
        }
        photos = _merged_photos(store / PHOTOS_CSV, source / PHOTOS_CSV)
        series = _merged_series(store / SERIES_CSV, source / SERIES_CSV)
        feature_store.write_blocks(
            store,
            {name: block for name, block in coming.items() if name not in here},
            {name: _rows_of(coming[name], rows) for name, rows in new.items() if len(rows)},
        )
        for path, table in ((store / PHOTOS_CSV, photos), (store / SERIES_CSV, series)):
            if table is not None:
                tables.write_csv(path, *table)
    return {name: len(new.get(name, block.photos)) for name, block in coming.items()}


def _contents(store: Mapping[str, Block]) -> dict[str, set[str]]:
    """SHA-256 of the photos' files by photo name, from all extracted blocks.

    A photo has several hashes if a block was extracted from an older version of its file.
    """
    contents: dict[str, set[str]] = {}
    for block in store.values():
        if block.extraction is not None:
            for photo, sha256 in zip(block.photos, block.extraction.photos_sha256, strict=True):
                contents.setdefault(photo, set()).add(sha256)
    return contents


def _check_contents(
    here: Mapping[str, Block], coming: Mapping[str, Block], source: Path, store: Path
) -> None:
    made = [
        {photos_identity(b): b for b in blocks.values() if b.extraction is not None}
        for blocks in (here, coming)
    ]
    if all(_agree(*both) for both in itertools.product(*(each.values() for each in made))):
        return
    mine, others = _contents(here), _contents(coming)
    for photo in mine.keys() & others.keys():
        if mine[photo] != others[photo]:
            raise UserError(
                f"photo '{photo}' is another file in {source} than in {store}; two photos can't "
                "have one name"
            )


def _agree(first: Block, second: Block) -> bool:
    """Whether the photos that two blocks share have the same file contents in both."""
    assert first.extraction is not None
    assert second.extraction is not None
    place = positions(first.photos, second.photos)
    both = np.flatnonzero(place >= 0)
    mine, others = (
        digest_rows(b.extraction.photos_sha256) for b in (first, second) if b.extraction
    )
    return np.array_equal(mine[place[both]], others[both])


def _new_rows(name: str, here: Block, coming: Block, source: Path, store: Path) -> np.ndarray:
    """Rows of the photos of `coming` that `here` lacks."""
    if list(here.columns) != list(coming.columns):
        raise UserError(f"block '{name}' has other columns in {source} than in {store}")
    recipes = [block.extraction and block.extraction.recipe for block in (here, coming)]
    if recipes[0] != recipes[1]:
        raise UserError(
            f"block '{name}' was extracted with other settings in {source} ('{coming.source}') "
            f"than in {store} ('{here.source}'): make one of them again"
        )
    place = positions(here.photos, coming.photos)
    if here.extraction is None:
        for i in np.flatnonzero(place >= 0):
            if not np.array_equal(coming.values[i], here.values[place[i]]):
                photo = coming.photos[int(i)]
                raise UserError(
                    f"block '{name}': photo '{photo}' has other numbers in {source} than in "
                    f"{store}; two photos can't have one name"
                )
    return np.flatnonzero(place < 0)


def _rows_of(block: Block, rows: np.ndarray) -> Block:
    """The block reduced to some of its rows."""
    made = block.extraction
    if len(rows) == len(block.photos):
        return block
    return block._replace(
        photos=[block.photos[i] for i in rows],
        values=block.values[rows],
        extraction=made and made._replace(photos_sha256=[made.photos_sha256[i] for i in rows]),
    )


# The columns of a table, and its rows.
_Table = tuple[Sequence[str], list[Sequence[str]]]


def _merged_photos(here: Path, coming: Path) -> _Table | None:
    """Merges two tables of photos; a row with status `bad` is replaced by the other table's row."""
    found = [tables.read_csv(path) for path in (here, coming) if path.exists()]
    if not found:
        return None
    columns = max((table.columns for table in found), key=len)
    known = all(table.columns == columns[: len(table.columns)] for table in found)
    if not known or not {"image", "status"} <= {*found[-1].columns}:
        raise UserError(f"{here} and {coming} are not tables of one version of jaxrank")
    status = columns.index("status")
    rows: dict[str, Sequence[str]] = {}
    for table in found:
        for photo, row in zip(table.texts("image"), table.rows, strict=True):
            if photo not in rows or rows[photo][status] == "bad":
                # Tables of older versions have fewer columns.
                rows[photo] = [*row, *[""] * (len(columns) - len(row))]
    return columns, list(rows.values())


def _merged_series(here: Path, coming: Path) -> _Table | None:
    """Merges two series tables into columns and rows `series_id,image`."""
    series_of: dict[str, str] = {}
    members: dict[str, set[str]] = {}
    for path in (here, coming):
        if not path.exists():
            continue
        table = tables.read_csv(path)
        for column in ("series_id", "image"):
            if column not in table.columns:
                need = "a table of series has series_id,image"
                raise tables.missing_column(path, column, need, table.columns)
        of_path: dict[str, set[str]] = {}
        ids = map(canonical_series_id, table.texts("series_id"))
        for series, photo in zip(ids, table.texts("image"), strict=True):
            if series_of.setdefault(photo, series) != series:
                raise UserError(f"{path}: photo '{photo}' is of another series than in {here}")
            of_path.setdefault(series, set()).add(photo)
        for series, photos in of_path.items():
            if not members.setdefault(series, photos) & photos:
                raise UserError(
                    f"{path}: the series '{series}' has other photos than in {here}; rename one"
                )
    if not series_of:
        return None
    return ("series_id", "image"), [(series, photo) for photo, series in series_of.items()]
