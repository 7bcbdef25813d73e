"""`series.csv` of a store: which photos are one series."""

from collections.abc import Callable, Mapping, Sequence
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
# Blocks whose vectors show whether photos are alike, the better one first.
_SHOW_LIKENESS = ("clip", "cnn")


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


def check_grouping(how: Grouping, store: Path, names: Sequence[str], made: Sequence[str]) -> None:
    """Raises UserError for what would fail after all photos were looked at.

    Args:
      names: of all photos, good or bad.
      made: blocks that will be made.
    """
    if how.by == "folder":
        grouping.by_folder(names)
    elif how.by != "time":
        grouping.by_table(_read_table(how.by), names)
    elif how.min_similarity is not None and not {*_SHOW_LIKENESS} & {*made, *_vectors(store)}:
        raise UserError("--min_similarity needs the block clip or cnn: add it to --blocks")


def _read_table(path: str) -> dict[str, str]:
    """From photo to series."""
    from jaxrank.applying import read_series  # imports JAX

    table = read_series(path)
    return dict(zip(table["image"], table["series_id"], strict=True))


def write_series(
    store: Path, how: Grouping, taken: Sequence[Taken], contents: Mapping[str, str]
) -> Grouped:
    """Groups photos, and writes those in series of two and more to the store's `series.csv`; what
    it says of other photos stays.

    Args:
      taken: the photos, with camera and time.
      contents: SHA-256 of their files by name.
    """
    names = [photo.name for photo in taken]
    if how.by == "folder":
        grouped = grouping.by_folder(names)
    elif how.by == "time":
        are_similar, note = _similarity(store, how.min_similarity, contents)
        grouped = grouping.by_time(taken, how.gap_seconds, are_similar)
        grouped = grouped._replace(notes=[note, *grouped.notes])
    else:
        grouped = grouping.by_table(_read_table(how.by), names)
    if not grouped.series:
        raise UserError(
            f"--series={how.by}: no two photos are of one series "
            f"({'; '.join(grouped.notes) or 'each stands alone'}); the features are written"
        )
    old = _read_table(str(store / SERIES)) if (store / SERIES).exists() else {}
    others = {name: series for name, series in old.items() if name not in contents}
    kept = {name: series for name, series in others.items() if series not in grouped.series}
    if len(kept) < len(others):
        note = f"{len(others) - len(kept):,} photos that are not here left their series"
        grouped = grouped._replace(notes=[*grouped.notes, note])
    rows = [(series, name) for name, series in kept.items()]
    rows += [(series, name) for series, members in grouped.series.items() for name in members]
    tables.write_csv(store / SERIES, ("series_id", "image"), rows)
    return grouped


def _vectors(store: Path) -> list[str]:
    """The blocks of a store that can show whether photos are alike."""
    if not (store / features.MANIFEST).exists():
        return []
    blocks = features.open_store(store, _SHOW_LIKENESS)
    return [name for name in _SHOW_LIKENESS if name in blocks and blocks[name].extraction]


def _similarity(
    store: Path, least: float | None, contents: Mapping[str, str]
) -> tuple[Callable[[str, str], bool], str]:
    """Whether two photos are alike, and a note that says by what."""
    name = next(iter(_vectors(store)), None)
    block = None if name is None else features.open_store(store, [name])[name]
    learned_clip = block is not None and name == "clip" and not block.caveat
    if block is None or block.extraction is None or (least is None and not learned_clip):
        return lambda a, b: True, "series by time alone"
    limit = _SIMILAR if least is None else least
    # Of photos as they are now: others are judged by their time alone.
    row = {
        photo: i
        for i, (photo, sha256) in enumerate(
            zip(block.photos, block.extraction.photos_sha256, strict=True)
        )
        if contents.get(photo) == sha256
    }
    vectors = np.asarray(block.values, np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def are_similar(a: str, b: str) -> bool:
        return a not in row or b not in row or bool(vectors[row[a]] @ vectors[row[b]] >= limit)

    return are_similar, f"series by time, and by a cosine of at least {limit:g} of the block {name}"
