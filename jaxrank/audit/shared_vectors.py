"""Check for a vector that many photos share in a block.

A failed extraction leaves such a vector: zeros, or a mean in place of missing numbers. Counts,
categories and clipped numbers are naturally shared. So a vector counts only by columns in which the
other photos have many values, and hardly ever this vector's.

Axis letters: N photos, D columns of one block, G groups of equal rows.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxrank.audit.case import TOO_FEW_PHOTOS, UNVERIFIED, WARN, AuditCase, CheckResult, out_of_time
from jaxrank.audit.equal_rows import group_rows, row_chunks, shared_size
from jaxrank.data.dataset import Dataset

# A shared vector is not due to chance in single columns where at least this number of the block's
# columns contradicts chance.
_FEWEST_COLUMNS = 3
# A column contradicts chance where the other photos have at least this number of values. At most
# this share of them may have the vector's value.
_FEWEST_VALUES = 20
_USUAL_SHARE = 0.01
# Vectors examined per block, the most shared first.
_MOST_VECTORS = 10
# With fewer photos, those without the vector may not show the distribution of a column.
_FEWEST_PHOTOS = 40


class SharedVector(NamedTuple):
    """Vector that many photos have in a block.

    Attributes:
      block: name of the block.
      num_photos: number of photos with the vector.
      is_zero: whether all its numbers are zero.
      example: name of such a photo.
    """

    block: str
    num_photos: int
    is_zero: bool
    example: str


class SharedVectors(NamedTuple):
    """Vectors that many photos share, in all blocks.

    Attributes:
      num_photos: number of all photos.
      blocks: blocks examined: those with at least three columns.
      shared: shared vectors, those with the most photos first.
    """

    num_photos: int
    blocks: tuple[str, ...]
    shared: tuple[SharedVector, ...]


def find_shared_vectors(dataset: Dataset) -> SharedVectors:
    """Looks for vectors that many photos have, block by block."""
    shared, looked_at = [], []
    start = 0
    for block, columns in dataset.block_columns.items():
        values_ND = dataset.features_ND[:, start : start + len(columns)]
        start += len(columns)
        if len(columns) < _FEWEST_COLUMNS:
            continue
        looked_at.append(block)
        for rows in _large_groups(values_ND):
            if _contradicting_columns(values_ND, rows) >= _FEWEST_COLUMNS:
                is_zero = not values_ND[rows[0]].any()
                example = str(dataset.photos[rows[0]])
                shared.append(SharedVector(block, len(rows), is_zero, example))
    shared.sort(key=lambda vector: -vector.num_photos)
    return SharedVectors(len(dataset.photos), tuple(looked_at), tuple(shared))


def _large_groups(values_ND: np.ndarray) -> list[np.ndarray]:
    """Photos of each vector that many share, the largest group first."""
    group_N = group_rows(values_ND)
    size_G = np.bincount(group_N)
    largest = np.argsort(-size_G, kind="stable")[:_MOST_VECTORS]
    largest = largest[size_G[largest] >= shared_size(len(group_N))]
    return [np.flatnonzero(group_N == g) for g in largest]


def _contradicting_columns(values_ND: np.ndarray, rows: np.ndarray) -> int:
    """Number of columns where other photos have many values, and hardly ever that of these photos.

    Counting stops at _FEWEST_COLUMNS.
    """
    others = np.delete(np.arange(len(values_ND)), rows)
    if not len(others):
        return 0
    equal_D = np.zeros(values_ND.shape[1], np.int64)
    for some in row_chunks(len(others)):
        equal_D += np.count_nonzero(values_ND[others[some]] == values_ND[rows[0]], axis=0)
    rare_D = equal_D / len(others) <= _USUAL_SHARE
    number = 0
    for d in np.flatnonzero(rare_D):
        number += len(np.unique(values_ND[others, d])) >= _FEWEST_VALUES
        if number == _FEWEST_COLUMNS:
            break
    return number


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Checks for a vector that many photos share in a block."""
    del earlier
    if not case.seconds_left:
        return out_of_time("Shared vectors")
    found = find_shared_vectors(case.data.dataset)
    return dataclasses.replace(_judge(found), evidence=(_evidence(found),), facts=found)


def _judge(found: SharedVectors) -> CheckResult:
    if found.shared:
        most = found.shared[0]
        share = 100 * most.num_photos / found.num_photos
        what = "a vector of zeros" if most.is_zero else "one and the same vector"
        return CheckResult(
            verdict=WARN,
            label="photos that share one vector",
            headline=f"{most.num_photos:,} photos ({share:.0f}%), such as '{most.example}', have "
            f"{what} in block '{most.block}'.",
            advice="See whether the extraction failed for these photos; extract them again, or "
            "leave their rows out of the block.",
        )
    if found.num_photos < _FEWEST_PHOTOS:
        return CheckResult(
            verdict=UNVERIFIED,
            label=TOO_FEW_PHOTOS,
            headline="Too few photos to tell whether a vector that several share is a fault.",
            advice="Look at the features of a few photos by eye.",
        )
    return CheckResult()


def _evidence(found: SharedVectors) -> str:
    if not found.blocks:
        return f"Shared vectors: no block has {_FEWEST_COLUMNS} columns, so none was looked for."
    if not found.shared:
        return "Shared vectors: no vector is shared by many photos of a block."
    listed = "; ".join(
        f"{vector.num_photos:,} photos in block '{vector.block}'"
        f"{' (zeros)' if vector.is_zero else ''}"
        for vector in found.shared
    )
    return f"Shared vectors: one vector is shared by {listed}, of {found.num_photos:,} photos."
