"""Pairs and features that belong together: aligned by photo name, hashed."""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data.feature_store import Features, Recipe, recipe_of, refuse_mixed
from jaxrank.data.preferences import Preferences
from jaxrank.data.store_columns import Names, places
from jaxrank.errors import UserError
from jaxrank.io import memory

# Columns of a pair table that say in which order people put the photos of a series.
RANK_COLUMNS = ("rank_a", "rank_b")
# Of a table of votes: how many a pair has.
VOTES_COLUMN = "votes"
_ROWS_AT_ONCE = 1 << 14


class Dataset(NamedTuple):
    """Pairs and features that belong together; M pairs, N photos, D numbers a photo.

    Attributes:
      table: the pairs that are left, one row each.
      kept_M: which rows of the pair table these were.
      photos: names of the N photos that stand in these pairs.
      features_ND: raw (scaling is fitted later, on training photos); float32, or float16 where
        all blocks are.
      block_columns: the column names of each block, in the order of the D columns.
      pair_rows_M2: int32, the rows of `image_a` and `image_b` in `features_ND`.
      preference_M: float32.
      series_M: int32, index into `series_ids`.
      series_ids: sorted array of text.
      notes: sentences about what was left out, for the log.
      recipes: of blocks that were made of photos, how.
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
        """The positions in D of the columns of these blocks."""
        owner = [b for b, columns in self.block_columns.items() for _ in columns]
        return np.flatnonzero(np.isin(owner, list(blocks)))

    def series_of_photos(self) -> np.ndarray:
        """The series of each photo, int64 [N], an index into `series_ids`."""
        series_N = np.zeros(len(self.photos), np.int64)
        series_N[self.pair_rows_M2] = self.series_M[:, None]
        return series_N

    def inputs(self, blocks: Sequence[str], photos: np.ndarray | None = None) -> np.ndarray:
        """The columns of these blocks, float32 [N, D]; of some photos or of all."""
        rows = slice(None) if photos is None else photos
        runs = self._runs(blocks)
        pieces = [self.features_ND[rows, start:end].astype(np.float32) for start, end, _ in runs]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def stored_inputs(self, blocks: Sequence[str], l2_blocks: Sequence[str] = ()) -> np.ndarray:
        """The columns of these blocks in an array of their own, aligned for JAX; vectors of
        `l2_blocks` have length 1.

        Returns:
          float32 [N, D]; float16 where the features are and no length is changed.
        """
        runs = self._runs(blocks)
        num_columns = sum(end - start for start, end, _ in runs)
        dtype = np.float32 if l2_blocks else self.features_ND.dtype
        inputs_ND = memory.empty_rows(len(self.photos), num_columns, dtype)
        for rows in _row_slices(len(self.photos)):
            column = 0
            for start, end, block in runs:
                piece = self.features_ND[rows, start:end]
                if block in l2_blocks:
                    # Column by column, in which order lengths have always been summed.
                    piece = _of_length_one(np.asfortranarray(piece, np.float32))
                inputs_ND[rows, column : column + end - start] = piece
                column += end - start
        return inputs_ND

    def _runs(self, blocks: Sequence[str]) -> list[tuple[int, int, str]]:
        """First column, end and name of these blocks, in the order of the features."""
        runs, start = [], 0
        for name, columns in self.block_columns.items():
            if name in blocks:
                runs.append((start, start + len(columns), name))
            start += len(columns)
        return runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitDataset:
    """Pairs, and which of them train, validate and test.

    Attributes:
      dataset: the M pairs.
      splits_FM: int8, the split of every pair in every fold, from `splits.split_pairs`.
    """

    dataset: Dataset
    splits_FM: np.ndarray

    @property
    def num_folds(self) -> int:
        return len(self.splits_FM)

    def rows(self, fold: int, split: int) -> np.ndarray:
        """The pairs of one split of a fold, int [up to M]."""
        return np.flatnonzero(self.splits_FM[fold] == split)


def l2_normalised(
    inputs_ND: np.ndarray, block_columns: Mapping[str, Sequence[str]], l2_blocks: Sequence[str]
) -> np.ndarray:
    """Inputs in which each photo's vector of some blocks is divided by its length (zero stays).

    Args:
      inputs_ND: the columns of the blocks, side by side.
      block_columns: the column names of each block, in that order.
      l2_blocks: which of the blocks.
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
    """Near-equal slices of rows, none of a single one beside others: NumPy would sum its columns
    in another order."""
    bounds = np.linspace(0, num_rows, -(-num_rows // _ROWS_AT_ONCE) + 1).astype(int).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(bounds)]


def align(pairs: Preferences, features: Features) -> Dataset:
    """Keeps the pairs whose photos have a row in every block, and gathers those rows.

    Every block of the store, whatever an experiment reads: all experiments and baselines are then
    compared on the same pairs.
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
            "no pair has both photos in the feature store: the pairs name photos such as "
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
    """Where these photos stand in each block, -1 where they do not. Blocks of one store often have
    their names in common, which are then looked up once."""
    found: dict[object, np.ndarray] = {}
    rows = {}
    for name, block in features.items():
        same = block.photos.key if isinstance(block.photos, Names) else id(block.photos)
        if same not in found:
            found[same] = places(block.photos, photos)
        rows[name] = found[same]
    return rows


def _gathered(features: Features, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows of each block side by side, float32 [N, D]; float16 where all blocks are.

    Raises:
      UserError: they take more than the free memory.
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
    """Photos without a row in some block, and the pairs that are left out for it."""
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
    """Columns that never vary."""
    constant = np.flatnonzero(features_ND.min(axis=0) == features_ND.max(axis=0))
    if not len(constant):
        return []
    columns = [f"'{c}' of block '{name}'" for name, b in features.items() for c in b.columns]
    return [
        f"{len(constant):,} of {len(columns):,} columns never vary and are ignored, the first is "
        f"{columns[constant[0]]}"
    ]


def permuted_rows(group_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each photo the row of a random photo of its group, so that each row is used once."""
    order_N = np.empty(len(group_N), np.int64)
    order_N[np.argsort(group_N, kind="stable")] = np.lexsort((rng.random(len(group_N)), group_N))
    return order_N


def permutation_control(dataset: Dataset) -> Dataset:
    """The pairs with the photos of each series in each other's places, drawn at random.

    What people said then belongs to no photo: in a split by series there is nothing to learn, and
    a scorer is right half of the time. Always the same for the same data.
    """
    place_N = permuted_rows(dataset.series_of_photos(), np.random.default_rng(0))
    rows_M2 = place_N[dataset.pair_rows_M2].astype(np.int32)
    images = dict(zip(("image_a", "image_b"), dataset.photos[rows_M2].T, strict=True))
    return dataset._replace(table=dataset.table.assign(**images), pair_rows_M2=rows_M2)


def vote_numbers(table: pd.DataFrame) -> np.ndarray | None:
    """The number of votes of each pair, float64 [M]; None for preferences that are no votes.

    A column of that name in a table without votes is text, like all its further columns.
    """
    if VOTES_COLUMN not in table or not pd.api.types.is_numeric_dtype(table[VOTES_COLUMN]):
        return None
    return table[VOTES_COLUMN].to_numpy(np.float64)


def content_hash(dataset: Dataset) -> str:
    """SHA-256 of the data, whatever their files are called: it shows whether data changed."""
    digest = hashlib.sha256(repr(dataset.block_columns).encode())
    for names in (dataset.series_ids, dataset.photos):
        digest.update("\n".join(names).encode())
    for rows in _row_slices(len(dataset.photos)):  # of float16 numbers, the same in 32 bits
        digest.update(np.ascontiguousarray(dataset.features_ND[rows], np.float32).data)
    for array in (dataset.pair_rows_M2, dataset.preference_M, dataset.series_M):
        digest.update(np.ascontiguousarray(array).data)
    for column in RANK_COLUMNS:  # metrics depend on them
        if column in dataset.table.columns:
            digest.update("\n".join([column, *map(str, dataset.table[column])]).encode())
    votes_M = vote_numbers(dataset.table)
    if votes_M is not None:
        digest.update(votes_M.data)
    return digest.hexdigest()
