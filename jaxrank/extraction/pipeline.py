"""Extracts a feature store from photos, in one pass over the photos for all blocks."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
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

from jaxrank.data import feature_store
from jaxrank.data.feature_store import PHOTOS_CSV, Block, Extraction
from jaxrank.data.preference_tables import counted
from jaxrank.data.store_columns import ComputedRows, positions
from jaxrank.errors import UserError
from jaxrank.extraction import workers
from jaxrank.extraction.bursts import CaptureTime, photos_that
from jaxrank.extraction.decoding import PhotoInfo
from jaxrank.extraction.extractors import Extractor, Options, make_extractors
from jaxrank.extraction.partial_rows import PartialRows
from jaxrank.extraction.photo_table import COLUMNS, IDENTITY, file_identity, read_photo_table
from jaxrank.extraction.photos import Listing, shown, table_names
from jaxrank.extraction.series_table import Grouping, check_grouping, write_series
from jaxrank.io import atomic, tables


class Extracted(NamedTuple):
    """Result of an extraction.

    Attributes:
      good: SHA-256 of the file of each readable photo, by name.
      bad: reason why each other photo could not be used, by name.
      made: number of good photos whose rows are new, by block.
      sources: recipe in a few words, by block.
      num_series: number of series that were written, or None without a grouping.
      seconds: duration in seconds, without the loading of networks.
      notes: further notes on the photos and the blocks.
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
    is_cache: bool = False,
    verify: bool = False,
    console: Console | None = None,
) -> Extracted:
    """Makes blocks of a feature store from photos; existing rows are kept.

    A stopped run resumes when it is started again. A photo that has all its rows is not read if the
    size and the modification time of its file are unchanged.

    Args:
      listing: photos to extract; see `photos`.
      store: folder of the store; its rows of other photos stay.
      options: blocks to extract, and their options.
      grouping: how to group photos into the series of the store's `series.csv`; None for no series.
      num_workers: number of processes that decode; by default one per core, or fewer if memory is
        short.
      strict: whether an unreadable photo is an error.
      is_cache: whether the store is for these photos only. If so, rows of other photos are removed,
        and blocks of other recipes are made again, whatever their source.
      verify: whether to read and hash all photos, whatever their size and modification time.
      console: console that shows a progress bar.

    Raises:
      UserError: a network is not available, no photo is readable, or `strict` and some photo is not
        readable. Or the store is no cache, and one of its blocks would lose rows that these photos
        can't replace.
    """
    store = Path(store)
    if grouping is not None:
        check_grouping(grouping, store, table_names(listing.photos), options.blocks)
    extractors = make_extractors(options)
    with ExitStack() as stack:
        with feature_store.writing_errors(store):
            stack.enter_context(atomic.sole_writer(store))
        this_pass = _Pass(listing, store, extractors, is_cache=is_cache)
        begun = time.monotonic()
        this_pass.run(num_workers or workers.default_workers(), strict, verify, console)
        with feature_store.writing_errors(store):
            made = this_pass.write_blocks()
        seconds = time.monotonic() - begun
        notes = [*listing.notes, *this_pass.notes, *_stale_notes(store, this_pass.good, extractors)]
        num_series = None
        if grouping is not None:
            with feature_store.writing_errors(store):
                taken = [photo for photo in this_pass.taken if photo.name in this_pass.good]
                grouped = write_series(store, grouping, taken, this_pass.good, this_pass.bad)
            num_series, notes = len(grouped.series), notes + grouped.notes
    sources = {block: extractor.source for block, extractor in extractors.items()}
    return Extracted(this_pass.good, this_pass.bad, made, sources, num_series, seconds, notes)


class _Pass:
    """One pass over all photos: makes the rows of `photos.csv` and of all blocks."""

    def __init__(
        self,
        listing: Listing,
        store: Path,
        extractors: Mapping[str, Extractor],
        *,
        is_cache: bool,
    ):
        self._listing, self._store, self._makers = listing, store, extractors
        self._names, self._is_cache = table_names(listing.photos), is_cache
        self.notes: list[str] = []
        old_rows = read_photo_table(store / PHOTOS_CSV)
        wanted = set(self._names)
        self._old_rows = {
            name: row for name, row in old_rows.items() if name in wanted or not is_cache
        }
        described = feature_store.describe_store(store)
        # Existing blocks of the same recipes; their rows of other photos stay.
        self._old = {
            b: self._old_block(b, extractor, described) for b, extractor in extractors.items()
        }
        # Row in the existing block, by block and content of the photo.
        self._kept: dict[str, dict[str, int]] = {
            block: {}
            if old is None or old.extraction is None
            else dict(zip(old.extraction.photos_sha256, range(len(old.photos)), strict=True))
            for block, old in self._old.items()
        }
        self._new = {
            block: PartialRows(store, block, extractor.recipe, len(extractor.columns))
            for block, extractor in extractors.items()
        }
        self._waiting: dict[str, dict[str, np.ndarray]] = {block: {} for block in extractors}
        self._rows: dict[str, tuple[Any, ...]] = {}
        self.good: dict[str, str] = {}
        self.bad: dict[str, str] = {}
        self.taken: list[CaptureTime] = []

    def _old_block(
        self, name: str, extractor: Extractor, described: Mapping[str, Block | None]
    ) -> Block | None:
        """Returns the store's block if it has the same recipe and is not damaged.

        Raises:
          UserError: the block can't be kept, and its replacement would lose rows or learned
            features of a store that is no cache.
        """
        old = described.get(name)
        if old is None:
            if name in described:
                self.notes.append(f"the manifest's entry of block '{name}' was damaged")
            return None
        if old.extraction is None and not self._is_cache:
            raise UserError(
                f"{self._store}: its block '{name}' was not made of photos ('{old.source}') and "
                "would be replaced; name another --features"
            )
        others = 0 if self._is_cache else int((positions(self._names, old.photos) < 0).sum())
        absent = photos_that(others, "that is", "that are")
        also = f"also of {absent} not in this run; name another --features"
        differs = old.extraction is None or old.extraction.recipe != extractor.recipe
        if differs or list(old.columns) != list(extractor.columns):
            if others:
                raise UserError(
                    f"{self._store}: its block '{name}' was made with another recipe "
                    f"('{old.source}'), {also}"
                )
            if extractor.caveat and not old.caveat and not self._is_cache:
                raise UserError(
                    f"{self._store}: its block '{name}' was learned ('{old.source}') and would be "
                    f"replaced ({extractor.caveat}); name another --features"
                )
            self.notes.append(
                f"the block '{name}' was made with another recipe before: '{old.source}'"
            )
            return None
        try:
            return feature_store.open_feature_store(self._store, [name])[name]
        except UserError as error:
            if others:
                raise UserError(f"{error}, {also}") from None
            self.notes.append(f"{error}: it is made again")
            return None

    def run(self, num_workers: int, strict: bool, verify: bool, console: Console | None) -> None:
        identities = [file_identity(photo) for photo in self._listing.photos]
        unchanged = [
            not verify and self._is_unchanged(name, identity)
            for name, identity in zip(self._names, identities, strict=True)
        ]
        photos = [p for p, same in zip(self._listing.photos, unchanged, strict=True) if not same]
        views = {block: extractor.view for block, extractor in self._makers.items()}
        known = {b: frozenset(self._kept[b].keys() | self._new[b].keys()) for b in self._makers}
        coming = workers.process_all(photos, self._listing.root, views, known, num_workers)
        try:
            shown_results = iter(_with_progress(coming, len(photos), console))
            for photo, name, same, identity in zip(
                self._listing.photos, self._names, unchanged, identities, strict=True
            ):
                if same:
                    self._take_again(name)
                    continue
                result = next(shown_results)
                if result.reason and strict:
                    raise UserError(f"{shown(str(photo.path))}: {result.reason} (--strict)")
                self._take(name, result, identity)
            for _ in shown_results:  # ends the processes and the progress bar
                raise AssertionError("more photos were read than asked for")
            for block in self._makers:
                self._encode(block)
        finally:  # saves finished rows, also after Ctrl-C
            for rows in self._new.values():
                rows.save()

    def _is_unchanged(self, name: str, identity: tuple[str, str]) -> bool:
        """Whether a photo's file is unchanged since all its rows were made."""
        row = self._old_rows.get(name)
        if row is None or not all(identity) or tuple(row[-len(IDENTITY) :]) != identity:
            return False
        sha256 = row[COLUMNS.index("sha256")]
        known = (sha256 in self._kept[b] or sha256 in self._new[b] for b in self._makers)
        return row[COLUMNS.index("status")] == "good" and all(known)

    def _take_again(self, name: str) -> None:
        """Takes an unchanged photo without reading it."""
        row = self._old_rows[name]
        cell = dict(zip(COLUMNS, row, strict=True))
        self._rows[name] = tuple(row)
        self.good[name] = cell["sha256"]
        self.taken.append(CaptureTime(name, tables.unquoted(cell["camera"]), cell["taken"]))

    def _take(self, name: str, result: workers.PhotoResult, identity: tuple[str, str]) -> None:
        info = result.info or (None,) * len(PhotoInfo._fields)
        self._rows[name] = (name, "good", "", result.sha256, result.size, *info, *identity)
        if not result.info:
            self._turn_bad(name, result.reason)
            return
        self.taken.append(CaptureTime(name, result.info.camera, result.info.taken))
        self.good[name] = result.sha256
        for block, view in result.inputs.items():
            if result.sha256 not in self._new[block]:  # else a copy of another photo
                self._waiting[block][result.sha256] = view
                if len(self._waiting[block]) == self._makers[block].batch:
                    self._encode(block)

    def _turn_bad(self, name: str, reason: str) -> None:
        self.good.pop(name, None)
        self.bad[name] = reason
        self._rows[name] = (name, "bad", reason, *self._rows[name][3:])

    def _encode(self, block: str) -> None:
        waiting, self._waiting[block] = self._waiting[block], {}
        if not waiting:
            return
        extractor, contents = self._makers[block], np.array(list(waiting))
        values = extractor.encode(np.stack(list(waiting.values())))
        finite = np.isfinite(values).all(axis=1)
        if not finite.any():
            raise UserError(
                f"block '{block}' ({extractor.source}): no number is finite; look at the weights"
            )
        self._new[block].add(contents[finite].tolist(), values[finite])
        for content in contents[~finite].tolist():  # such as an overflow in half precision
            for name in [name for name, sha256 in self.good.items() if sha256 == content]:
                self._turn_bad(name, f"its numbers of block '{block}' are not finite")

    def write_blocks(self) -> dict[str, int]:
        """Writes `photos.csv` and the blocks; returns the number of new photos by block."""
        if self.good or not self._old_rows:
            rows = self._old_rows | self._rows
            tables.write_csv(self._store / PHOTOS_CSV, COLUMNS, rows.values())
        if not self.good:
            name, reason = next(iter(self.bad.items()))
            raise UserError(
                f"{self._listing.root}: 0 of {counted(len(self._rows), 'photo')} can be used; "
                f"'{name}': {reason}"
            )
        contents = {block: self._others(block) | self.good for block in self._makers}
        whole, appended = {}, {}
        for block, of_photo in contents.items():
            new = self._only_new(block, of_photo)
            if new is None:
                whole[block] = self._made(block, of_photo)
            elif new:
                appended[block] = self._made(block, new)
        if whole or appended:
            feature_store.write_blocks(self._store, whole, appended)
        for block, of_photo in contents.items():
            self._new[block].end(self._kept[block].keys() | of_photo.values())
        kept = self._kept
        return {b: sum(c not in kept[b] for c in self.good.values()) for b in self._makers}

    def _only_new(self, block: str, contents: Mapping[str, str]) -> dict[str, str] | None:
        """Contents, by photo, that the existing block lacks; None if it must be rewritten.

        A block must be rewritten if its options or caveat differ, or if one of its photos has
        changed or is gone.
        """
        old, extractor = self._old[block], self._makers[block]
        if old is None or old.extraction is None:
            return None
        if (
            dict(old.extraction.options) != dict(extractor.options)
            or old.caveat != extractor.caveat
        ):
            return None
        before = dict(zip(old.photos, old.extraction.photos_sha256, strict=True))
        if any(contents.get(name) != sha256 for name, sha256 in before.items()):
            return None
        return {name: sha256 for name, sha256 in contents.items() if name not in before}

    def _made(self, block: str, contents: Mapping[str, str]) -> Block:
        """Block of these photos, whose rows are read only when they are written."""
        extractor, old = self._makers[block], self._old[block]
        kept, new, sha256 = self._kept[block], self._new[block], list(contents.values())

        def row(place: int) -> np.ndarray:
            found = new.get(sha256[place])
            if found is None:
                assert old is not None
                found = old.values[kept[sha256[place]]]
            return found

        return Block(
            list(contents),
            list(extractor.columns),
            ComputedRows(len(sha256), len(extractor.columns), row),  # type: ignore[arg-type]
            extractor.source,
            caveat=extractor.caveat,
            extraction=Extraction(dict(extractor.recipe), sha256, dict(extractor.options)),
        )

    def _others(self, block: str) -> dict[str, str]:
        """Contents, by photo, of the block's photos that are absent or unusable in this run."""
        old = self._old[block]
        if old is None or old.extraction is None:
            return {}
        before = dict(zip(old.photos, old.extraction.photos_sha256, strict=True))
        place = COLUMNS.index("sha256")
        gone = {n: c for n, c in before.items() if n not in self.good and n not in self.bad}
        absent = {} if self._is_cache else gone
        # A photo that can't be used keeps its row, unless its content has changed.
        unread = {
            name: content
            for name, content in before.items()
            if name in self.bad and self._rows[name][place] in ("", content)
        }
        changed = sum(before.get(name, content) != content for name, content in self.good.items())
        for number, one, many in (
            (
                len(absent),
                "photo that is not in this run; it stays",
                "photos that are not in this run; they stay",
            ),
            (
                len(unread),
                "photo that can't be used this time; it stays",
                "photos that can't be used this time; they stay",
            ),
            (
                changed,
                "of these photos with other contents; it was made again",
                "of these photos with other contents; they were made again",
            ),
        ):
            if number:
                what = one if number == 1 else many
                self.notes.append(f"the block '{block}' had {number:,} {what}")
        return absent | unread


def _with_progress(
    coming: Iterator[workers.PhotoResult], total: int, console: Console | None
) -> Iterable[workers.PhotoResult]:
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
        for result in coming:
            yield result
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, speed=f"{speed:.1f} photos/s" if speed else "")


def _stale_notes(
    store: Path, good: Mapping[str, str], extractors: Mapping[str, Extractor]
) -> list[str]:
    """Notes on blocks that this run did not make, and whose photos have changed since."""
    notes = []
    for name, block in feature_store.describe_store(store).items():
        if name in extractors or block is None or block.extraction is None:
            continue
        then = dict(zip(block.photos, block.extraction.photos_sha256, strict=True))
        changed = sum(then.get(photo) != sha256 for photo, sha256 in good.items())
        if changed:
            notes.append(
                f"the block '{name}' lacks {changed:,} of these photos, or has old contents of "
                "them: extract it again"
            )
    return notes
