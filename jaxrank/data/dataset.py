"""Datasets: pairs aligned with features by photo name, content hash, permutation control."""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data.feature_store import Features, Recipe, recipe_of, refuse_mixed
from jaxrank.data.preferences import Preferences
from jaxrank.data.store_columns import Names, positions
from jaxrank.errors import UserError
from jaxrank.io import memory

# Columns of a pair table with the ranks that people gave the photos of a series.
RANK_COLUMNS = ("rank_a", "rank_b")
# Column of a vote table: the number of votes of a pair.
VOTES_COLUMN = "votes"
_ROWS_AT_ONCE = 1 << 14
_FEW_PHOTOS = 1 << 8


class Dataset(NamedTuple):
    """Aligned pairs and features: M pairs, N photos, D numbers per photo.

    Attributes:
      table: the M kept pairs, one row each.
      kept_M: rows of the kept pairs in the original pair table.
      photos: names of the N photos of the kept pairs.
      features_ND: raw features (scaling is fitted later, on training photos); float32, or float16
        if all blocks are float16.
      block_columns: the column names of each block, in the order of the D columns.
      pair_rows_M2: int32, the rows of `image_a` and `image_b` in `features_ND`.
      preference_M: float32, the share that prefers `image_a`.
      series_M: int32, index into `series_ids`.
      series_ids: sorted array of text.
      notes: sentences for the log, such as counts of omitted pairs.
      recipes: recipes of the blocks that were extracted from photos, by block name.
    """

    table: pd.DataFrame
    kept_M: np.ndarray
    photos: np.ndarray
    features_ND: np.ndarray
    block_columns: dict[str, tuple[str, ...]]
    pair_rows_M2: np.ndarray
    preference_M: np.ndarray
    series_M: np.ndarray
    series_ids: np.ndarray
    notes: tuple[str, ...]
    recipes: Mapping[str, Recipe] = {}

    def column_indices(self, blocks: Sequence[str]) -> np.ndarray:
        """Positions of the blocks' columns among the D columns."""
        owner = [b for b, columns in self.block_columns.items() for _ in columns]
        return np.flatnonzero(np.isin(owner, list(blocks)))

    def series_of_photos(self) -> np.ndarray:
        """The series of each photo, int64 [N], an index into `series_ids`."""
        series_N = np.zeros(len(self.photos), np.int64)
        series_N[self.pair_rows_M2] = self.series_M[:, None]
        return series_N

    def inputs(self, blocks: Sequence[str], photos: np.ndarray | None = None) -> np.ndarray:
        """The columns of some blocks, float32 [N, D], for all photos or for the rows `photos`."""
        rows = slice(None) if photos is None else photos
        runs = self._runs(blocks)
        pieces = [self.features_ND[rows, start:end].astype(np.float32) for start, end, _ in runs]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def are_stored(self, blocks: Sequence[str], l2_blocks: Sequence[str] = ()) -> bool:
        """Whether the columns of these blocks are `features_ND`."""
        return not l2_blocks and set(blocks) == set(self.block_columns)

    def stored_inputs(self, blocks: Sequence[str], l2_blocks: Sequence[str] = ()) -> np.ndarray:
        """The columns of some blocks, aligned for JAX.

        Args:
          blocks: names of the blocks.
          l2_blocks: blocks whose vectors are scaled to length 1.

        Returns:
          float32 [N, D]; float16 if the features are float16 and `l2_blocks` is empty. All columns
          as they are stored are `features_ND` itself, others a copy.
        """
        if self.are_stored(blocks, l2_blocks):
            return self.features_ND
        runs = self._runs(blocks)
        num_columns = sum(end - start for start, end, _ in runs)
        dtype = np.float32 if l2_blocks else self.features_ND.dtype
        inputs_ND = memory.empty_rows(len(self.photos), num_columns, dtype)
        for rows in _row_slices(len(self.photos)):
            column = 0
            for start, end, block in runs:
                piece = self.features_ND[rows, start:end]
                if block in l2_blocks:
                    # Fortran order fixes the order in which norms are summed, and so their bits.
                    piece = _of_length_one(np.asfortranarray(piece, np.float32))
                inputs_ND[rows, column : column + end - start] = piece
                column += end - start
        return inputs_ND

    def _runs(self, blocks: Sequence[str]) -> list[tuple[int, int, str]]:
        """First column, end column and name of each block in `blocks`, in feature order."""
        runs, start = [], 0
        for name, columns in self.block_columns.items():
            if name in blocks:
                runs.append((start, start + len(columns), name))
            start += len(columns)
        return runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitDataset:
    """A dataset and the split of its pairs in every fold.

    Attributes:
      dataset: the M pairs with their features.
      splits_FM: int8, the split of every pair in every fold, from `splits.split_pairs`.
    """

    dataset: Dataset
    splits_FM: np.ndarray

    @property
    def num_folds(self) -> int:
        return len(self.splits_FM)

    def rows(self, fold: int, split: int) -> np.ndarray:
        """Indices of the pairs in one split of a fold, int [up to M]."""
        return np.flatnonzero(self.splits_FM[fold] == split)


def l2_normalised(
    inputs_ND: np.ndarray, block_columns: Mapping[str, Sequence[str]], l2_blocks: Sequence[str]
) -> np.ndarray:
    """Divides each photo's vector of the `l2_blocks` by its length; zero vectors stay zero.

    Args:
      inputs_ND: the columns of the blocks, side by side.
      block_columns: the column names of each block, in that order.
      l2_blocks: names of the blocks to normalise.
    """
    if not l2_blocks:
        return inputs_ND
    pieces, start = [], 0
    for name, columns in block_columns.items():
        piece = inputs_ND[:, start : start + len(columns)]
        start += len(columns)
        pieces.append(_of_length_one(piece) if name in l2_blocks else piece)
    return np.concatenate(pieces, axis=1)


def _of_length_one(rows_ND: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return np.divide(rows_ND, length, out=np.zeros_like(rows_ND), where=length > 0)


def _row_slices(num_rows: int) -> list[slice]:
    """Near-equal slices of rows.

    No slice has only one row, unless there is only one: NumPy would sum its columns in another
    order.
    """
    bounds = np.linspace(0, num_rows, -(-num_rows // _ROWS_AT_ONCE) + 1).astype(int).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(bounds)]


def align(pairs: Preferences, features: Features) -> Dataset:
    """Keeps the pairs whose photos have a row in every block, and gathers those rows.

    A photo needs a row in every block, also in blocks that no experiment reads. So all experiments
    and baselines are compared on the same pairs.
    """
    if not features:
        raise UserError("the features hold no block")
    refuse_mixed(features)
    photos = pd.unique(pd.concat([pairs.table["image_a"], pairs.table["image_b"]]))
    block_rows = _block_rows(features, photos)
    known = np.all([rows >= 0 for rows in block_rows.values()], axis=0)
    place = pd.Index(photos)
    pair_rows = np.stack(
        [place.get_indexer(pd.Index(pairs.table[c])) for c in ("image_a", "image_b")], axis=1
    )
    kept = known[pair_rows].all(axis=1)
    if not kept.any():
        name = next(iter(features))
        raise UserError(
            "no pair has both photos in the features: the pairs name photos such as "
            f"'{photos[0]}', block '{name}' such as '{features[name].photos[0]}'"
        )
    table = pairs.table[kept].reset_index(drop=True)
    used, inverse = np.unique(pair_rows[kept], return_inverse=True)
    features_ND = _gathered(features, {name: rows[used] for name, rows in block_rows.items()})
    series, series_ids = pd.factorize(table["series_id"], sort=True)
    return Dataset(
        table=table,
        kept_M=np.flatnonzero(kept),
        photos=np.asarray(photos)[used],
        features_ND=features_ND,
        block_columns={name: tuple(block.columns) for name, block in features.items()},
        pair_rows_M2=inverse.reshape(-1, 2).astype(np.int32),
        preference_M=table["preference"].to_numpy(np.float32),
        series_M=series.astype(np.int32),
        series_ids=np.asarray(series_ids, object),
        notes=(
            *pairs.notes,
            *_missing_notes(photos, block_rows, kept),
            *_constant_notes(features, features_ND),
        ),
        recipes={n: r for n, b in features.items() if (r := recipe_of(b)) is not None},
    )


def _block_rows(features: Features, photos: Any) -> dict[str, np.ndarray]:
    """Rows of the photos in each block, -1 where a block lacks a photo.

    Blocks of one store often share their photo names, which are then looked up only once.
    """
    found: dict[object, np.ndarray] = {}
    rows = {}
    for name, block in features.items():
        same = block.photos.key if isinstance(block.photos, Names) else id(block.photos)
        if same not in found:
            found[same] = positions(block.photos, photos)
        rows[name] = found[same]
    return rows


def _gathered(features: Features, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Copies rows of each block side by side, float32 [N, D]; float16 if all blocks are float16.

    Raises:
      UserError: the features take more than the free memory.
    """
    num_photos = len(next(iter(rows.values())))
    num_columns = sum(len(block.columns) for block in features.values())
    dtype = np.result_type(*(block.values.dtype for block in features.values()))
    needed, free = num_photos * num_columns * dtype.itemsize, memory.available_bytes()
    if needed > free:
        raise UserError(
            f"the features of {num_photos:,} photos x {num_columns:,} columns take "
            f"{needed / 2**30:,.1f} GiB of this machine's memory, of which {free / 2**30:,.1f} GiB "
            "are free; leave blocks out, or store them as float16 (features --dtype=float16)"
        )
    features_ND = memory.empty_rows(num_photos, num_columns, dtype)
    column = 0
    for name, block in features.items():
        end = column + len(block.columns)
        for some in _row_slices(num_photos):
            features_ND[some, column:end] = block.values[rows[name][some]]
        column = end
    return features_ND


def _missing_notes(
    photos: np.ndarray, block_rows: Mapping[str, np.ndarray], kept: np.ndarray
) -> list[str]:
    """Notes on photos without a row in some block, and on the pairs omitted for that reason."""
    notes = [
        f"{int((rows < 0).sum()):,} of {len(photos):,} photos in the pairs have no row in block "
        f"'{name}', such as '{photos[rows < 0][0]}'"
        for name, rows in block_rows.items()
        if (rows < 0).any()
    ]
    if not kept.all():
        notes.append(
            f"{int((~kept).sum()):,} of {len(kept):,} pairs left out: a photo without features"
        )
    return notes


def _constant_notes(features: Features, features_ND: np.ndarray) -> list[str]:
    """A note on columns that never vary, if there are any."""
    first_D = features_ND[0]
    constant = np.arange(features_ND.shape[1])
    # Nearly every column varies among the first photos already; slices bound the copies.
    for rows in (slice(_FEW_PHOTOS), *_row_slices(len(features_ND))):
        if len(constant):
            values, first = features_ND[rows, constant], first_D[constant]
            constant = constant[(values.min(axis=0) == first) & (values.max(axis=0) == first)]
    if not len(constant):
        return []
    columns = [f"'{c}' of block '{name}'" for name, b in features.items() for c in b.columns]
    return [
        f"{len(constant):,} of {len(columns):,} columns never vary and are ignored, the first is "
        f"{columns[constant[0]]}"
    ]


def permuted_rows(group_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random permutation of the photos inside each group, as rows, int64 [N]."""
    order_N = np.empty(len(group_N), np.int64)
    order_N[np.argsort(group_N, kind="stable")] = np.lexsort((rng.random(len(group_N)), group_N))
    return order_N


def permutation_control(dataset: Dataset) -> Dataset:
    """Permutes the photos of each series at random in the pairs.

    Preferences are then unrelated to the photos. With a split by series there is nothing to learn,
    and the expected accuracy of a scorer is one half. The same data give the same permutation.
    """
    place_N = permuted_rows(dataset.series_of_photos(), np.random.default_rng(0))
    rows_M2 = place_N[dataset.pair_rows_M2].astype(np.int32)
    images = dict(zip(("image_a", "image_b"), dataset.photos[rows_M2].T, strict=True))
    return dataset._replace(table=dataset.table.assign(**images), pair_rows_M2=rows_M2)


def vote_numbers(table: pd.DataFrame) -> np.ndarray | None:
    """The number of votes of each pair, float64 [M]; None if the table has no votes.

    In a table without votes, a column `votes` is text like all further columns.
    """
    if VOTES_COLUMN not in table or not pd.api.types.is_numeric_dtype(table[VOTES_COLUMN]):
        return None
    return table[VOTES_COLUMN].to_numpy(np.float64)


def content_hash(dataset: Dataset) -> str:
    """SHA-256 of the data, independent of file names: shows whether the data changed."""
    digest = hashlib.sha256(repr(dataset.block_columns).encode())
    for names in (dataset.series_ids, dataset.photos):
        digest.update("\n".join(names).encode())
    with ThreadPoolExecutor(1, "hash") as thread:  # which hashes while this one converts
        hashing = thread.submit(digest.update, b"")
        for rows in _row_slices(len(dataset.photos)):  # float16 is hashed as float32
            values = np.ascontiguousarray(dataset.features_ND[rows], np.float32)
            hashing.result()
            hashing = thread.submit(digest.update, values.data)
        hashing.result()
    for array in (dataset.pair_rows_M2, dataset.preference_M, dataset.series_M):
        digest.update(np.ascontiguousarray(array).data)
    for column in RANK_COLUMNS:  # metrics depend on the ranks
        if column in dataset.table.columns:
            digest.update("\n".join([column, *map(str, dataset.table[column])]).encode())
    votes_M = vote_numbers(dataset.table)
    if votes_M is not None:
        digest.update(votes_M.data)
    return digest.hexdigest()
