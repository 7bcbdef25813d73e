"""Photos in, a feature store out: one pass over the photos for all blocks."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jaxrank import features, files, tables
from jaxrank.errors import UserError
from jaxrank.extract import partial, workers
from jaxrank.extract.decoding import Facts
from jaxrank.extract.grouping import Taken
from jaxrank.extract.listing import Listing
from jaxrank.extract.makers import Maker, Options, make_makers
from jaxrank.extract.partial import PartialRows
from jaxrank.extract.photos import shown
from jaxrank.extract.series import Grouping, check_grouping, write_series
from jaxrank.features import Block, Extraction

PHOTOS = "photos.csv"
_COLUMNS = ("image", "status", "reason", "sha256", "bytes", "width", "height", "taken", "camera")


class Extracted(NamedTuple):
    """What came of an extraction.

    Attributes:
      good: SHA-256 of the files of the photos that could be read, by their names.
      bad: why the others could not, by their names.
      made: by block, how many rows are new.
      sources: by block, what it was made by.
      num_series: how many series were written, or None where none were asked for.
      seconds: that it took, without the loading of networks.
      notes: what else became of the photos.
    """

    good: dict[str, str]
    bad: dict[str, str]
    made: dict[str, int]
    sources: dict[str, str]
    num_series: int | None
    seconds: float
    notes: list[str]


def extract(
    listing: Listing,
    store: Path | str,
    options: Options = Options(),  # noqa: B008, it is immutable
    *,
    grouping: Grouping | None = None,
    num_workers: int | None = None,
    strict: bool = False,
    console: Console | None = None,
) -> Extracted:
    """Makes blocks of a feature store from photos; rows that are known already are kept.

    A run that was stopped, however, goes on where it was when it is started again.

    Args:
      listing: the photos, see `listing`.
      store: the store's folder. Its blocks will hold these photos and no others.
      grouping: how to make series; they are written to `series.csv` there.
      num_workers: processes that decode; by default one a core.
      strict: a bad photo is an error.
      console: shows a progress bar.

    Raises:
      UserError: a network can't be had, no photo is good, or a bad photo where `strict`.
    """
    store = Path(store)
    _refuse_other_photos(store, listing)
    if grouping is not None:
        check_grouping(grouping)
    makers = make_makers(options)
    with features.writing_errors(store), files.sole_writer(store):
        begun = time.monotonic()
        seen = _Pass(listing, store, makers)
        seen.run(num_workers or os.cpu_count() or 1, strict, console)
        made = seen.write_blocks()
        seconds = time.monotonic() - begun
        notes = [*listing.notes, *_stale_notes(store, seen.good, makers)]
        num_series = None
        if grouping is not None:
            grouped = write_series(store, grouping, seen.taken)
            num_series, notes = len(grouped.series), notes + grouped.notes
    sources = {block: maker.source for block, maker in makers.items()}
    return Extracted(seen.good, seen.bad, made, sources, num_series, seconds, notes)


class _Pass:
    """One look at all photos: rows of `photos.csv`, rows of all blocks."""

    def __init__(self, listing: Listing, store: Path, makers: Mapping[str, Maker]):
        self._listing, self._store, self._makers = listing, store, makers
        self._kept = {block: _kept_rows(store, block, maker) for block, maker in makers.items()}
        self._new = {b: PartialRows(store, b, maker.recipe) for b, maker in makers.items()}
        self._waiting: dict[str, dict[str, np.ndarray]] = {block: {} for block in makers}
        self._rows: list[tuple[Any, ...]] = []
        self.good: dict[str, str] = {}
        self.bad: dict[str, str] = {}
        self.taken: list[Taken] = []  # of the good photos

    def run(self, num_workers: int, strict: bool, console: Console | None) -> None:
        photos = self._listing.photos
        views = {block: maker.view for block, maker in self._makers.items()}
        known = {b: frozenset(self._kept[b].keys() | self._new[b].rows) for b in self._makers}
        coming = workers.see_all(photos, self._listing.root, views, known, num_workers)
        try:
            for photo, seen in zip(
                photos, _with_progress(coming, len(photos), console), strict=True
            ):
                if seen.reason and strict:
                    raise UserError(f"{shown(str(photo.path))}: {seen.reason} (--strict)")
                self._take(shown(photo.name), seen)
            for block in self._makers:
                self._encode(block)
        finally:  # what is done is done, also where Ctrl-C came
            for rows in self._new.values():
                rows.save()

    def _take(self, name: str, seen: workers.Seen) -> None:
        status = "good" if seen.facts else "bad"
        facts = seen.facts or (None,) * len(Facts._fields)
        self._rows.append((name, status, seen.reason, seen.sha256, seen.size, *facts))
        if not seen.facts:
            self.bad[name] = seen.reason
            return
        self.taken.append(Taken(name, seen.facts.camera, seen.facts.taken))
        self.good[name] = seen.sha256
        for block, view in seen.inputs.items():
            if seen.sha256 not in self._new[block].rows:  # else a copy of another photo
                self._waiting[block][seen.sha256] = view
                if len(self._waiting[block]) == self._makers[block].batch:
                    self._encode(block)

    def _encode(self, block: str) -> None:
        waiting, self._waiting[block] = self._waiting[block], {}
        if waiting:
            values = self._makers[block].encode(np.stack(list(waiting.values())))
            self._new[block].add(list(waiting), values)

    def write_blocks(self) -> dict[str, int]:
        """Writes `photos.csv` and the blocks; returns how many rows of each are new."""
        tables.write_csv(self._store / PHOTOS, _COLUMNS, self._rows)
        if not self.good:
            name, reason = next(iter(self.bad.items()))
            raise UserError(
                f"{self._listing.root}: none of {len(self._rows):,} photos can be used; '{name}': "
                f"{reason}"
            )
        names, contents = list(self.good), list(self.good.values())
        for block, maker in self._makers.items():
            rows = self._kept[block] | self._new[block].rows
            values = np.stack([rows[sha256] for sha256 in contents])
            extraction = Extraction(dict(maker.recipe), contents)
            made = Block(
                names,
                list(maker.columns),
                values,
                maker.source,
                caveat=maker.caveat,
                extraction=extraction,
            )
            features.write_block(self._store, block, made)
            partial.remove(self._store, block)
        return {block: len(set(contents) - self._kept[block].keys()) for block in self._makers}


def _kept_rows(store: Path, block: str, maker: Maker) -> dict[str, np.ndarray]:
    """Rows of the store's block by content, where they were made in the same way."""
    if not (store / features.MANIFEST).exists():
        return {}
    old = features.open_store(store).get(block)
    if old is None or old.extraction is None or old.extraction.recipe != maker.recipe:
        return {}
    # In memory: the file goes when the block is replaced.
    return dict(zip(old.extraction.photos_sha256, np.array(old.values), strict=True))


def _with_progress(
    coming: Iterator[workers.Seen], total: int, console: Console | None
) -> Iterable[workers.Seen]:
    bar = Progress(
        TextColumn("photos"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=console is None or not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=total, speed="")
        for seen in coming:
            yield seen
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, speed=f"{speed:.1f} photos/s" if speed else "")


def _refuse_other_photos(store: Path, listing: Listing) -> None:
    """A store's blocks hold the photos of one folder: those of another would replace them."""
    if not (store / PHOTOS).exists():
        return
    known = set(tables.read_csv(store / PHOTOS).texts("image"))
    if known.isdisjoint(shown(photo.name) for photo in listing.photos):
        raise UserError(
            f"{store} holds features of other photos, such as '{min(known)}', which these would "
            f"replace; name another --features, and put the two together with 'launch.py features "
            f"--from_store=ONE --features=OTHER'"
        )


def _stale_notes(store: Path, good: Mapping[str, str], makers: Mapping[str, Maker]) -> list[str]:
    """What is said of blocks that this run did not make, of photos that have changed since."""
    notes = []
    for name, block in features.open_store(store).items():
        if name in makers or block.extraction is None:
            continue
        then = dict(zip(block.photos, block.extraction.photos_sha256, strict=True))
        changed = sum(then.get(photo) != sha256 for photo, sha256 in good.items())
        if changed:
            notes.append(
                f"the block '{name}' lacks {changed:,} of these photos, or knows them by other "
                f"contents: extract it again"
            )
    return notes
