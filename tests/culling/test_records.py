"""Photos of a folder: which files are one photo, what is read of them, what is kept."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from photo_files import broken_photos, encoded, exif, jpeg, scene

from jaxrank.culling import records
from jaxrank.culling.grouping import group_photos
from jaxrank.culling.records import list_photos, read_capture_and_thumbnail, read_records
from jaxrank.errors import UserError
from jaxrank.extraction.decoding import UnreadablePhoto
from jaxrank.extraction.photos import Photo


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Photos are read without other processes; returns the names of those that were."""
    names: list[str] = []

    def work_on_all(photos: list[Photo], work: Any, workers: int) -> Any:
        names.extend(photo.name for photo in photos)
        return map(work, photos)

    monkeypatch.setattr(records.workers, "work_on_all", work_on_all)
    return names


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def timed(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        tags = exif(1, f"2024:01:01 10:00:{i:02d}", camera="A")
        (folder / f"{i:03d}.jpg").write_bytes(jpeg(scene(0), exif=tags))
    return folder


def test_files_of_one_stem_are_one_photo(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.CR2", "a.jpg", "b.HEIC", "b.JPG", "b.dng", "c.heic", "c.arw", "d.nef", "e.png",
        "e.jpg", "f.jpeg", "f.jpg", "f.raf", "G.JPG", "g.cr3", "x/a.jpg", "notes.txt", ".h.jpg",
    )  # fmt: skip
    found = {files.photo.name: files.others for files in list_photos(tmp_path)}
    assert found == {
        "a.jpg": ("a.CR2",),
        "b.JPG": ("b.HEIC", "b.dng"),
        "c.heic": ("c.arw",),
        "d.nef": (),
        "e.jpg": (),
        "e.png": (),
        "f.jpeg": ("f.raf",),
        "f.jpg": (),
        "G.JPG": ("g.cr3",),
        "x/a.jpg": (),
    }


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(UserError, match="no photo there"):
        list_photos(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        list_photos(tmp_path / "missing")


def test_photos_are_read_by_processes_of_their_own(tmp_path: Path) -> None:
    folder = timed(tmp_path / "photos", 3)
    (folder / "bad.jpg").write_bytes(b"this is no photo")
    found = read_records(folder, num_workers=1)
    assert [record.name for record in found.records] == ["000.jpg", "001.jpg", "002.jpg"]
    assert found.unread == {"bad.jpg": "not an image in a known format"}
    assert [group.kind for group in group_photos(found.records)] == ["burst"]


def test_a_second_run_reads_only_new_photos(tmp_path: Path, in_this_process: list[str]) -> None:
    folder, cache = timed(tmp_path / "photos", 4), tmp_path / "store" / "records.json"
    first = read_records(folder, cache)
    assert (len(in_this_process), first.num_new) == (4, 4)
    in_this_process.clear()
    written = cache.stat().st_mtime_ns
    assert read_records(folder, cache) == first._replace(num_new=0)
    assert in_this_process == []
    assert cache.stat().st_mtime_ns == written  # nor is it written again
    (folder / "001.jpg").write_bytes(jpeg(scene(5)))
    os.utime(folder / "002.jpg", ns=(1, 1))
    (folder / "003.jpg").unlink()
    (folder / "004.jpg").write_bytes(jpeg(scene(6)))
    found = read_records(folder, cache)
    assert in_this_process == ["001.jpg", "002.jpg", "004.jpg"]
    assert found.records[1] != first.records[1]
    assert found.records[2].thumbnail == first.records[2].thumbnail
    assert len(json.loads(cache.read_text())["photos"]) == 4


def test_a_companion_that_joins_later_is_known(tmp_path: Path, in_this_process: list[str]) -> None:
    folder, cache = timed(tmp_path / "photos", 1), tmp_path / "records.json"
    read_records(folder, cache)
    touch(folder, "000.cr2")
    assert read_records(folder, cache).records[0].files == ("000.jpg", "000.cr2")
    assert in_this_process == ["000.jpg"]


def test_an_interrupted_run_keeps_what_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = timed(tmp_path / "photos", 5), tmp_path / "records.json"

    def work_on_all(photos: list[Photo], work: Any, workers: int) -> Any:
        yield from map(work, photos[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(records.workers, "work_on_all", work_on_all)
    with pytest.raises(KeyboardInterrupt):
        read_records(folder, cache)
    monkeypatch.setattr(records.workers, "work_on_all", lambda photos, work, n: map(work, photos))
    assert read_records(folder, cache).num_new == 2


def damage(text: str, how: str) -> str:
    document = json.loads(text)
    photo = document["photos"][0]
    if how in photo:
        photo[how] = {"width": 10**9, "pixels": "?", "size": "1", "name": 7}.get(how)
    elif how in photo["capture"]:
        photo["capture"][how] = {"time": "noon", "drive": "fast", "manual": 1}.get(how)
    elif how == "small thumbnail":
        photo |= {"width": 2, "height": 1, "pixels": "AAA="}
    elif how == "another field":
        photo["capture"]["speed"] = 1.0
    elif how == "a field less":
        del photo["capture"]["iso"]
    elif how == "another version":
        document["version"] = 2
    elif how == "no list":
        document["photos"] = 7
    elif how == "no photos of its own":
        document["photos"][0] = [1, 2]
    return {"cut": text[:300], "empty": "", "nested": "[" * 100_000}.get(how, json.dumps(document))


KILLED = """
import os, signal, sys
from pathlib import Path
from jaxrank.culling import records

def work_on_all(photos, work, workers):
    for number, photo in enumerate(photos):
        if number == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        yield work(photo)

records._STEP = 4
records.workers.work_on_all = work_on_all
records.read_records(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_run_that_is_killed_goes_on_from_its_last_step(
    tmp_path: Path, in_this_process: list[str]
) -> None:
    folder, cache = timed(tmp_path / "photos", 13), tmp_path / "w" / "photos.json"
    done = subprocess.run([sys.executable, "-c", KILLED, folder, cache], check=False)
    assert done.returncode == -signal.SIGKILL
    found = read_records(folder, cache)
    assert in_this_process == [f"{i:03d}.jpg" for i in range(8, 13)]  # two steps of four are kept
    assert (found.num_new, len(found.records)) == (5, 13)
    assert found.records == read_records(folder).records


@pytest.mark.parametrize(
    "how",
    ["cut", "empty", "nested", "width", "pixels", "size", "name", "modified", "time", "drive",
     "manual", "small thumbnail", "another field", "a field less", "another version", "no list",
     "no photos of its own"],
)  # fmt: skip
def test_a_damaged_cache_is_read_again(
    tmp_path: Path, in_this_process: list[str], how: str
) -> None:
    folder, cache = timed(tmp_path / "photos", 2), tmp_path / "records.json"
    first = read_records(folder, cache)
    text = cache.read_text()
    damaged = damage(text, how)
    assert damaged != text
    cache.write_text(damaged)
    in_this_process.clear()
    assert read_records(folder, cache).records == first.records
    assert "000.jpg" in in_this_process
    assert read_records(folder, cache).num_new == 0


def test_infinite_numbers_in_a_cache_are_damage(tmp_path: Path, in_this_process: list[str]) -> None:
    folder, cache = timed(tmp_path / "photos", 1), tmp_path / "records.json"
    time = read_records(folder, cache).records[0].capture.time
    cache.write_text(cache.read_text().replace(str(time), "Infinity"))
    assert read_records(folder, cache).num_new == 1


def test_broken_photos_are_listed_with_their_reasons(
    tmp_path: Path, in_this_process: list[str]
) -> None:
    for name, data in broken_photos().items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "pipe.jpg").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "a\x1b[31m.jpg").write_bytes(jpeg())
    (tmp_path / "nowhere.jpg").symlink_to("missing")
    (tmp_path / "good.png").write_bytes(encoded(scene(), "PNG"))
    found = read_records(tmp_path)
    assert [record.name for record in found.records] == ["good.png"]
    assert set(found.unread) == {
        *broken_photos(), "pipe.jpg", "nowhere.jpg", "a\\x1b[31m.jpg",
    }  # fmt: skip
    assert all(found.unread.values())


def test_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside.jpg").write_bytes(jpeg())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").symlink_to(tmp_path / "outside.jpg")
    seen = read_capture_and_thumbnail(
        Photo("a.jpg", tmp_path / "photos" / "a.jpg"), tmp_path / "photos"
    )
    assert isinstance(seen, UnreadablePhoto)
    assert "leads out of the folder" in str(seen)
