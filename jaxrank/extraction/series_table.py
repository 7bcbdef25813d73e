"""Table `series.csv` of a feature store: grouping of photos into series."""

import os
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrank.data import feature_store
from jaxrank.data.feature_store import SERIES_CSV, Block
from jaxrank.errors import UserError, suggestion
from jaxrank.extraction import bursts
from jaxrank.extraction.bursts import CaptureTime, Grouped
from jaxrank.io import tables

# Default of the least cosine between two CLIP vectors of one scene.
_SIMILAR = 0.75
# Blocks whose vectors measure the likeness of photos, the better block first.
_SHOW_LIKENESS = ("clip", "cnn")


class Grouping(NamedTuple):
    """Options of grouping photos into series.

    Attributes:
      by: `folder`, `time`, or the path of a table that `rank` reads.
      gap_seconds: longest pause within a series, for `time`.
      min_similarity: least cosine between the vectors of consecutive photos, for `time`. Vectors
        are of the block clip, or of cnn if there is no clip.
    """

    by: str
    gap_seconds: float = 10.0
    min_similarity: float | None = None


def check_grouping(how: Grouping, store: Path, names: Sequence[str], made: Sequence[str]) -> None:
    """Raises UserError for a grouping that would fail only after all photos were read.

    Args:
      how: options of the grouping.
      store: folder of the feature store.
      names: names of all photos, readable or not.
      made: names of the blocks that this run makes.
    """
    if how.by == "folder":
        bursts.by_folder(names)
    elif how.by != "time":
        bursts.by_table(_read_table(how.by), names)
    elif how.min_similarity is not None and not (
        {*_SHOW_LIKENESS} & {*made} or _block_of_likeness(store)
    ):
        raise UserError("--min_similarity needs the block clip or cnn: add it to --blocks")


def _read_table(path: str) -> dict[str, str]:
    """Reads the series of each photo from a table."""
    from jaxrank.data.series import read_series  # imports JAX

    if not os.path.exists(path):
        raise UserError(
            f"--series={path}: neither the file of a table, nor folder or time."
            f"{suggestion(path, ('folder', 'time'))}"
        )
    table = read_series(path)
    return dict(zip(table["image"], table["series_id"], strict=True))


def write_series(
    store: Path,
    how: Grouping,
    taken: Sequence[CaptureTime],
    contents: Mapping[str, str],
    bad: Container[str],
) -> Grouped:
    """Groups photos, and writes series of at least two photos to the store's `series.csv`.

    Rows of other photos stay, unless their series is made again or keeps only one photo.

    Args:
      store: folder of the feature store.
      how: options of the grouping.
      taken: photos with camera and capture time.
      contents: SHA-256 of the photos' files, by name.
      bad: names of unreadable photos, which are in no series.

    Raises:
      UserError: no two photos are of one series.
    """
    names = [photo.name for photo in taken]
    if how.by == "folder":
        grouped = bursts.by_folder(names)
    elif how.by == "time":
        are_similar, note = _similarity(store, how.min_similarity, contents)
        grouped = bursts.by_time(taken, how.gap_seconds, are_similar)
        grouped = grouped._replace(notes=[note, *grouped.notes])
    else:
        grouped = bursts.by_table(_read_table(how.by), names)
    if not grouped.series:
        stays = f", and {store / SERIES_CSV} is the old one" * (store / SERIES_CSV).exists()
        raise UserError(
            f"--series={how.by}: no two photos are of one series "
            f"({'; '.join(grouped.notes) or 'each is alone'}); the features are written{stays}"
        )
    old = _read_table(str(store / SERIES_CSV)) if (store / SERIES_CSV).exists() else {}
    others = {n: s for n, s in old.items() if n not in contents and n not in bad}
    sizes = Counter(others.values())
    kept = {n: s for n, s in others.items() if s not in grouped.series and sizes[s] > 1}
    if len(kept) < len(others):
        left = bursts.photos_that(
            len(others) - len(kept),
            "that is not in this run left its series",
            "that are not in this run left their series",
        )
        grouped = grouped._replace(notes=[*grouped.notes, left])
    rows = [(series, name) for name, series in kept.items()]
    rows += [(series, name) for series, members in grouped.series.items() for name in members]
    tables.write_csv(store / SERIES_CSV, ("series_id", "image"), rows)
    return grouped


def _block_of_likeness(store: Path) -> tuple[str, Block] | None:
    """Name and block of a store that measures the likeness of photos; None without such a block."""
    described = feature_store.describe_store(store)
    for name in _SHOW_LIKENESS:
        found = described.get(name)
        if found is not None and found.extraction is not None:
            with suppress(UserError):  # a damaged block is skipped
                return name, feature_store.open_feature_store(store, [name])[name]
    return None


def _similarity(
    store: Path, least: float | None, contents: Mapping[str, str]
) -> tuple[Callable[[str, str], bool], str]:
    """Function that returns whether two photos are alike, and a note on its criterion."""
    found = _block_of_likeness(store)
    if found is None:
        return lambda a, b: True, "series by time alone"
    name, block = found
    # Cosines of random weights, and of features of ImageNet's classes, have no known scale.
    has_scale = name == "clip" and not block.caveat
    if block.extraction is None or (least is None and not has_scale):
        return lambda a, b: True, "series by time alone"
    limit = _SIMILAR if least is None else least
    # Rows of the photos' current contents; all other photos are grouped by time alone.
    known = zip(block.photos, block.extraction.photos_sha256, strict=True)
    row = {photo: i for i, (photo, sha256) in enumerate(known) if contents.get(photo) == sha256}

    def are_similar(a: str, b: str) -> bool:
        if a not in row or b not in row:
            return True
        first, second = (np.asarray(block.values[row[photo]], np.float64) for photo in (a, b))
        length = np.linalg.norm(first) * np.linalg.norm(second)
        return bool(first @ second >= limit * length)

    note = f"series by time, and by a cosine of at least {limit:g} of the block {name}"
    return are_similar, note
