"""A second extraction: what has not changed is not read."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import jpeg, scene
from photo_stores import IQA, fill, photo_table, rows, series

from jaxrank.extraction import workers
from jaxrank.extraction.photos import list_folder
from jaxrank.extraction.pipeline import Extracted, extract
from jaxrank.extraction.series_table import Grouping


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos that were taken an hour ago."""
    photos = fill(tmp_path / "photos" / "a", 3)
    for path in photos.iterdir():
        os.utime(path, (time.time() - 3600,) * 2)
    return photos.parent


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photos that were read, for a test to look at and clear."""
    names: list[str] = []

    def noted(
        photos: Any, root: Path, views: Any, known: Any, _: int
    ) -> Iterator[workers.PhotoResult]:
        for photo in photos:
            names.append(photo.name)
            yield workers.read_and_view(photo, root, views, known)

    monkeypatch.setattr(workers, "process_all", noted)
    return names


def run(folder: Path, **options: Any) -> Extracted:
    return extract(list_folder(folder), folder.parent / "store", IQA, **options)


def test_what_has_not_changed_is_not_read(folder: Path, read: list[str]) -> None:
    grouping = Grouping("folder")
    first = run(folder, grouping=grouping)
    store = folder.parent / "store"
    first_series = series(store)
    before = {path.name: (path.read_bytes(), path.stat().st_ino) for path in store.glob("*[!k]")}
    assert len(read) == 3
    read.clear()
    again = run(folder, grouping=grouping)
    assert read == []
    assert (again.good, again.bad, again.made) == (first.good, {}, {"iqa": 0})
    assert series(store) == first_series
    arrays = {p.name: (p.read_bytes(), p.stat().st_ino) for p in store.glob("*-*")}
    assert arrays.items() <= before.items()
    assert (store / "photos.csv").read_bytes() == before["photos.csv"][0]
    run(folder, verify=True)
    assert len(read) == 3


def test_what_has_changed_is_read(folder: Path, read: list[str]) -> None:
    run(folder)
    store = folder.parent / "store"
    before = rows(store, "iqa")
    read.clear()
    os.utime(folder / "a" / "000.jpg", (1e9, 1e9))  # touched, with the same content
    (folder / "a" / "001.jpg").write_bytes(jpeg(scene(7)))
    os.utime(folder / "a" / "001.jpg", (1e9, 1e9))
    (folder / "a" / "new.jpg").write_bytes(jpeg(scene(8)))
    again = run(folder)
    assert read == ["a/000.jpg", "a/001.jpg", "a/new.jpg"]
    assert again.made == {"iqa": 2}
    after = rows(store, "iqa")
    assert np.array_equal(after["a/000.jpg"], before["a/000.jpg"])
    assert not np.array_equal(after["a/001.jpg"], before["a/001.jpg"])
    assert len(after) == 4
    # The new one may have changed again within the clock's tick; the others are known now.
    read.clear()
    run(folder)
    assert read == ["a/new.jpg"]


def test_new_photos_leave_the_arrays_alone(folder: Path, read: list[str]) -> None:
    run(folder)
    store = folder.parent / "store"
    arrays = {path.name: path.stat().st_ino for path in store.glob("*-*")}
    (folder / "new.jpg").write_bytes(jpeg(scene(8)))
    run(folder)
    assert arrays.items() <= {path.name: path.stat().st_ino for path in store.glob("*-*")}.items()
    assert set(rows(store, "iqa")) == {"a/000.jpg", "a/001.jpg", "a/002.jpg", "new.jpg"}


def test_a_bad_photo_and_one_without_rows_are_read_again(folder: Path, read: list[str]) -> None:
    bad = folder / "bad.jpg"
    bad.write_bytes(b"")
    os.utime(bad, (1e9, 1e9))
    run(folder)
    read.clear()
    run(folder)
    assert read == ["bad.jpg"]
    for path in (folder.parent / "store").glob("*"):
        if path.suffix in (".npy", ".arrow", ".json"):
            path.unlink()
    read.clear()
    run(folder)
    assert len(read) == 4


def test_a_table_of_before_has_no_times_and_all_is_read(folder: Path, read: list[str]) -> None:
    run(folder)
    path = folder.parent / "store" / "photos.csv"
    lines = path.read_text().splitlines()
    path.write_text("".join(line.rsplit(",", 2)[0] + "\n" for line in lines))
    read.clear()
    assert run(folder).made == {"iqa": 0}
    assert len(read) == 3
    assert "modified" in photo_table(folder.parent / "store")
    # The store was copied with its photos: names, sizes and times are the same there.
    shutil.copytree(folder.parent, folder.parent / "copy")
    read.clear()
    run(folder.parent / "copy" / "photos")
    assert read == []
