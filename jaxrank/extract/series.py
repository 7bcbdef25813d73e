"""`series.csv` of a store: which photos are one series."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrank import features, tables
from jaxrank.errors import UserError
from jaxrank.extract import grouping
from jaxrank.extract.grouping import Grouped, Taken

SERIES = "series.csv"
# The least cosine of two CLIP vectors of one scene, where none is given.
_SIMILAR = 0.75


class Grouping(NamedTuple):
    """How series are made.

    Attributes:
      by: `folder`, `time`, or the path of a table that `rank` reads.
      gap_seconds: by time, the longest pause inside a series.
      min_similarity: by time, the least cosine between a photo's vector and the one's before it,
        of the block clip, or cnn where there is no clip.
    """

    by: str
    gap_seconds: float = 10.0
    min_similarity: float | None = None


def check_grouping(how: Grouping) -> None:
    """Raises UserError for a table that can't be read: before all photos are looked at."""
    if how.by not in ("folder", "time"):
        _read_table(how.by)


def _read_table(path: str) -> dict[str, str]:
    """From photo to series."""
    from jaxrank.applying import read_series  # imports JAX

    table = read_series(path)
    return dict(zip(table["image"], table["series_id"], strict=True))


def write_series(store: Path, how: Grouping, taken: Sequence[Taken]) -> Grouped:
    """Groups photos, and writes those in series of two and more to the store's `series.csv`."""
    names = [photo.name for photo in taken]
    if how.by == "folder":
        grouped = grouping.by_folder(names)
    elif how.by == "time":
        are_similar, note = _similarity(store, how.min_similarity)
        grouped = grouping.by_time(taken, how.gap_seconds, are_similar)
        grouped = grouped._replace(notes=[note, *grouped.notes])
    else:
        grouped = grouping.by_table(_read_table(how.by), names)
    if not grouped.series:
        raise UserError(
            f"--series={how.by}: no two photos are of one series "
            f"({'; '.join(grouped.notes) or 'each stands alone'}); the features are written"
        )
    rows = [(series, name) for series, members in grouped.series.items() for name in members]
    tables.write_csv(store / SERIES, ("series_id", "image"), rows)
    return grouped


def _similarity(store: Path, least: float | None) -> tuple[Callable[[str, str], bool], str]:
    """Whether two photos are alike, and a note that says by what."""
    blocks = features.open_store(store)
    name = next((name for name in ("clip", "cnn") if name in blocks), None)
    if least is not None and name is None:
        raise UserError("--min_similarity needs the block clip or cnn: add it to --blocks")
    learned_clip = name == "clip" and not blocks["clip"].caveat
    if name is None or (least is None and not learned_clip):
        return lambda a, b: True, "series by time alone"
    limit = _SIMILAR if least is None else least
    block = blocks[name]
    row = {photo: i for i, photo in enumerate(block.photos)}
    vectors = np.asarray(block.values, np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def are_similar(a: str, b: str) -> bool:
        # A photo that the block lacks is judged by its time alone.
        return a not in row or b not in row or bool(vectors[row[a]] @ vectors[row[b]] >= limit)

    return are_similar, f"series by time, and by a cosine of at least {limit:g} of the block {name}"
