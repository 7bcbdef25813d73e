"""Photos: images that are none or too large, files that are no files, processes that end."""

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack import Attack, case, fifo_left_alone, little_memory, sparse
from photo_files import broken_photos, encoded, jpeg, odd_photos, png_header, scene
from photo_stores import IQA, fill, photo_table, rows
from PIL import Image

from jaxrank.extraction import decoding, workers
from jaxrank.extraction.decoding import UnreadablePhoto, decode
from jaxrank.extraction.photos import Photo, list_folder
from jaxrank.extraction.pipeline import extract

WHOLE = odd_photos()
# Kinds of file that the table of broken photos lacks, cut in the middle.
CUT = ["sixteen.png", "lzw.tif", "two_views.mpo", "plain.avif", "plain.heic", "progressive.jpg"]


@pytest.mark.parametrize("name", [*broken_photos(), *CUT])
def test_bytes_that_are_no_photo_are_refused(name: str) -> None:
    broken = broken_photos() | {name: WHOLE[name][: len(WHOLE[name]) // 2] for name in CUT}
    with pytest.raises(UnreadablePhoto) as caught:
        decode(broken[name])
    assert "\n" not in str(caught.value)


BOMBS = [
    case("wide", png_header(2**31 - 1, 1)),
    case("high", png_header(1, 2**31 - 1)),
    case("just above the limit", png_header(15_812, 15_812)),
    case("gif", b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02"),
    case("bmp", b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + b"\xff\xff\xff\x7f" * 2
         + b"\x01\0\x18\0" + bytes(24)),
    case("ppm", b"P6 2147483647 2147483647 255\n"),
    case("tiff", b"II*\0\x08\0\0\0\x02\0" + b"\0\x01\x04\0\x01\0\0\0\xff\xff\xff\x7f"
         + b"\x01\x01\x04\0\x01\0\0\0\xff\xff\xff\x7f" + bytes(4)),
]  # fmt: skip


@pytest.mark.parametrize("data", BOMBS)
def test_a_bomb_takes_no_memory(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", decoding.MOST_PIXELS)
    with little_memory(1 << 28), pytest.raises(UnreadablePhoto):
        decode(data)


@pytest.mark.parametrize(
    "side", [case("20 million pixels", 4500), case("250 million pixels", 15_800, long=True)]
)
def test_16_bits_take_little_more_memory_than_8(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Pillow has it 2 bytes a pixel, and 1 when it is converted; 32-bit numbers would be 4 more,
    several times."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", decoding.MOST_PIXELS)
    deep = Image.fromarray(np.full((side, side), 257 * 100, np.uint16))
    data = encoded(deep, "PNG", compress_level=1)
    deep.close()
    del deep
    with little_memory(4 * side**2 + 40_000_000 + 28 * 4_000_000 * (side > 10_000)):
        monkeypatch.setattr(decoding, "_STRIP_PIXELS", 1_000_000, raising=False)
        image, _ = decode(data)
    assert np.asarray(image).max() == 100


@pytest.mark.parametrize("name", ["a.png", "a.heic", "a.gif", "a.tif", "a.webp"])
def test_a_wrong_end_of_a_name_does_not_matter(name: str) -> None:
    photo = Photo(name, Path(name))
    photo.path.write_bytes(jpeg())
    assert workers.read_and_view(photo, Path(), {}, {}).sha256
    assert np.asarray(decode(photo.path.read_bytes())[0]).shape == (64, 96, 3)


def linked_out(path: Path) -> None:
    outside = path.parents[1] / "secret.jpg"
    outside.write_bytes(jpeg())
    path.symlink_to(outside)


def linked_out_by_a_folder(path: Path) -> None:
    linked_out(path)
    path.unlink()
    path.with_name("folder").symlink_to(path.parents[1])
    path.symlink_to(path.parent / "folder" / "secret.jpg")


SPECIAL: dict[str, Callable[[Path], object]] = {
    "link out": linked_out,
    "link out by a folder": linked_out_by_a_folder,
    "circle": lambda path: path.symlink_to(path),
    "dangling": lambda path: path.symlink_to(path.parent / "nothing.jpg"),
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "3 GB": lambda path: sparse(path, 3 << 30),
    "socket": lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_photo_that_is_no_file_of_the_folder_is_bad(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    SPECIAL[kind](folder / "a.jpg")
    with little_memory():
        seen = workers.read_and_view(Photo("a.jpg", folder / "a.jpg"), folder, {}, {})
    assert seen.reason
    assert not seen.sha256


def test_a_pipe_among_photos_is_not_opened(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 1)
    with fifo_left_alone(folder / "pipe.jpg"):
        listing = list_folder(folder)
        reasons = [workers.read_and_view(p, folder, {}, {}).reason for p in listing.photos]
    assert reasons == ["", "not a file"]


NAMES = ["a\x1b[31m.jpg", "a\n.jpg", " a.jpg", "'a.jpg", "a\u202e.jpg", "a\udcff.jpg", "=1+1.jpg"]


def test_a_folder_of_odd_names_and_swapped_files_is_a_store(tmp_path: Path) -> None:
    """Each good photo has its row, by its content, and each bad name is told."""
    folder = fill(tmp_path / "photos", 3)
    for name in NAMES:
        (folder / name).write_bytes(jpeg(scene(9)))
    (folder / "a\\x1b[31m.jpg").write_bytes(jpeg(scene(8)))  # prints as the first of NAMES does
    extract(list_folder(folder), tmp_path / "store", IQA)
    before = rows(tmp_path / "store", "iqa")
    assert {"000.jpg", "001.jpg", "002.jpg", "a\\x1b[31m.jpg"} <= before.keys()
    table = photo_table(tmp_path / "store")
    assert len(table) == len(NAMES) + 4
    assert all(name.isprintable() for name in table.index)
    (folder / "000.jpg").rename(folder / "kept")
    (folder / "001.jpg").rename(folder / "000.jpg")
    (folder / "kept").rename(folder / "001.jpg")
    extract(list_folder(folder), tmp_path / "store", IQA)
    after = rows(tmp_path / "store", "iqa")
    assert np.array_equal(after["000.jpg"], before["001.jpg"])
    assert np.array_equal(after["001.jpg"], before["000.jpg"])


_begin = workers._begin


def killed_twice(*task: Any) -> None:
    """A process is killed while it starts, as where memory is short: not for ever."""
    kills = Path(os.environ["JAXRANK_TEST_KILLS"])
    with kills.open("a") as file:
        file.write("x")
    if len(kills.read_text()) <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    _begin(*task)


@pytest.mark.long
def test_processes_that_are_killed_while_they_start_are_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = tmp_path / "kills"
    monkeypatch.setenv("JAXRANK_TEST_KILLS", str(kills))
    monkeypatch.setattr(workers, "_begin", killed_twice)
    listing = list_folder(fill(tmp_path / "photos", 2))
    seen = list(workers.process_all(listing.photos, listing.root, {}, {}, 1))
    assert [one.reason for one in seen] == ["", ""]
    assert len(kills.read_text()) > 2


@pytest.mark.parametrize("breakdowns", [2, 5])
def test_a_pool_that_breaks_down_at_its_start_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakdowns: int
) -> None:
    from concurrent.futures.process import BrokenProcessPool

    listing = list_folder(fill(tmp_path / "photos", 2))
    begun = 0

    def see(ahead: list[Photo], coming: Any, *_: Any) -> Any:
        nonlocal begun
        begun += 1
        ahead.extend(coming)
        if begun <= breakdowns:
            raise BrokenProcessPool
        yield from [workers.PhotoResult("") for _ in list(ahead)]

    monkeypatch.setattr(workers, "_results_of_pool", see)
    assert len(list(workers.process_all(listing.photos, tmp_path, {}, {}, 1))) == 2


@pytest.mark.parametrize("photos", ["missing", "photos/000.jpg", "empty", "/dev/null", "x" * 300])
def test_photos_that_are_none_are_refused(attack: Attack, tmp_path: Path, photos: str) -> None:
    fill(tmp_path / "photos", 1)
    (tmp_path / "empty").mkdir()
    words = [f"--photos={tmp_path / photos}", f"--features={tmp_path / 'store'}", "--blocks=iqa"]
    attack.refused("extract", *words)
