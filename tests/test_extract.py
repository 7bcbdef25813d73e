"""From a folder of photos to a feature store, as a user does it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from photo_files import broken_photos, encoded, exif, jpeg, odd_photos, scene

from jaxrank import features, tables
from jaxrank.cli import main
from jaxrank.errors import UserError
from jaxrank.extract import extraction, workers
from jaxrank.extract.decoding import BadPhoto, decode
from jaxrank.extract.extraction import extract
from jaxrank.extract.grouping import parse_time
from jaxrank.extract.listing import list_folder, list_table
from jaxrank.extract.makers import Maker, Options, make_makers
from jaxrank.extract.photos import Photo, read_photo
from jaxrank.extract.series import Grouping
from jaxrank.merging import merge_stores

IQA = Options(blocks=("iqa",))
# A network of 0.5 M parameters with random weights.
SMALL = Options(blocks=("cnn", "iqa"), cnn_model="test_resnet", cnn_weights="none")


def fill(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        (folder / f"{seed:03d}.jpg").write_bytes(jpeg(scene(seed)))
    return folder


def rows(store: Path, block: str) -> dict[str, np.ndarray]:
    found = features.open_store(store)[block]
    return dict(zip(found.photos, np.array(found.values), strict=True))


def photo_table(store: Path) -> pd.DataFrame:
    table = tables.read_csv(store / extraction.PHOTOS)
    return pd.DataFrame(table.rows, columns=table.columns).set_index("image")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photos each batch of networks and numbers had."""
    batches: list[int] = []

    def count(options: Options) -> dict[str, Maker]:
        def counting(encode: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], Any]:
            def run(batch: np.ndarray) -> np.ndarray:
                batches.append(len(batch))
                return encode(batch)

            return run

        return {
            block: maker._replace(encode=counting(maker.encode))
            for block, maker in make_makers(options).items()
        }

    monkeypatch.setattr(extraction, "make_makers", count)
    return batches


def test_a_folder_becomes_a_store(tmp_path: Path) -> None:
    photos = fill(tmp_path / "photos" / "day", 5)
    (photos / "notes.txt").write_text("no photo")
    (photos / ".hidden.jpg").write_bytes(jpeg())
    found = extract(list_folder(tmp_path / "photos"), tmp_path / "store", SMALL)
    store = features.open_store(tmp_path / "store")
    assert list(store) == ["cnn", "iqa"]
    assert store["iqa"].photos == [f"day/{i:03d}.jpg" for i in range(5)]
    assert store["iqa"].columns == ["sharpness", "exposure", "colorfulness", "contrast"]
    assert store["cnn"].values.shape[0] == 5
    assert store["cnn"].caveat == "random weights"
    assert found.made == {"cnn": 5, "iqa": 5}
    assert found.notes == ["1 files are no photos by their names, such as 'day/notes.txt'"]
    assert not (tmp_path / "store" / ".partial").exists()
    assert len({row.tobytes() for row in store["cnn"].values}) == 5


def test_every_broken_and_odd_file_has_its_row_and_none_stops_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    bad, good = broken_photos(), odd_photos()
    for name, data in (bad | good).items():
        (folder / name).write_bytes(data)
    (tmp_path / "outside.jpg").write_bytes(jpeg())
    (folder / "link_out.jpg").symlink_to(tmp_path / "outside.jpg")
    (folder / "link_nowhere.jpg").symlink_to(folder / "nothing.jpg")
    (folder / "link_circle.jpg").symlink_to(folder / "link_circle.jpg")
    (folder / "link_inside.jpg").symlink_to(folder / "grey.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "blank .jpg ").write_bytes(jpeg())
    (folder / "line\nend.jpg").write_bytes(jpeg())
    (folder / "-formula.jpg").write_bytes(jpeg(scene(4)))
    Path(os.fsdecode(os.fsencode(folder) + b"/latin\xe9.jpg")).write_bytes(jpeg())
    (folder / "folder.jpg").mkdir()
    found = extract(list_folder(folder), tmp_path / "store", IQA)
    table = photo_table(tmp_path / "store")
    odd_names = {
        "link_out.jpg",
        "link_nowhere.jpg",
        "link_circle.jpg",
        "pipe.jpg",
        "line\\nend.jpg",
    }
    expected_bad = bad.keys() | odd_names | {"latin\\udce9.jpg"}
    assert set(found.bad) == expected_bad
    assert set(table.index[table["status"] == "bad"]) == expected_bad
    assert (table["reason"][table["status"] == "bad"] != "").all()
    assert set(found.good) == good.keys() | {"link_inside.jpg", "-formula.jpg"}
    assert found.bad["pipe.jpg"] == "not a file"
    assert found.bad["link_out.jpg"] == "a link that leads out of the folder"
    block = features.open_store(tmp_path / "store")["iqa"]
    assert set(block.photos) == set(found.good)
    assert np.isfinite(block.values).all()


def test_odd_photos_go_through_networks(tmp_path: Path, tiny_clip: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in odd_photos().items():
        (folder / name).write_bytes(data)
    options = SMALL._replace(blocks=("clip", "cnn"), clip_model=tiny_clip, clip_pretrained="none")
    found = extract(list_folder(folder), tmp_path / "store", options)
    store = features.open_store(tmp_path / "store")
    assert list(store) == ["clip", "cnn"]
    assert set(store["clip"].photos) == odd_photos().keys() == set(found.good)
    np.testing.assert_allclose(np.linalg.norm(store["clip"].values, axis=1), 1, rtol=1e-5)


def test_a_large_file_is_a_bad_photo(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 1)
    with (folder / "sparse.jpg").open("wb") as file:
        file.truncate(2**41)  # takes no room on the disk
    found = extract(list_folder(folder), tmp_path / "store", IQA)
    assert found.bad == {"sparse.jpg": "more than 2 GB"}


def test_a_long_panorama_is_reduced_further(tmp_path: Path) -> None:
    image, facts = decode(encoded(scene(0, 30_000, 1000), "PNG"))
    assert (facts.width, facts.height) == (30_000, 1000)
    assert image.width * image.height <= 8 * 768**2 * 1.01
    assert image.width / image.height == pytest.approx(30, rel=0.01)


def test_strict_makes_a_bad_photo_an_error(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 2)
    (folder / "empty.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty.jpg: the file is empty \(--strict\)"):
        extract(list_folder(folder), tmp_path / "store", IQA, strict=True)
    words = [f"--photos={folder}", f"--features={tmp_path / 'store'}", "--blocks=iqa", "--strict"]
    assert main(["launch.py", "extract", *words]) == 2


def test_only_bad_photos_are_an_error_and_their_reasons_stay(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "empty.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 1 photos can be used; 'empty.jpg': the file is"):
        extract(list_folder(tmp_path / "photos"), tmp_path / "store", IQA)
    assert photo_table(tmp_path / "store").loc["empty.jpg", "reason"] == "the file is empty"


def test_a_second_run_makes_only_what_is_new_or_changed(tmp_path: Path, counted: list[int]) -> None:
    folder = fill(tmp_path / "photos", 4)
    extract(list_folder(folder), tmp_path / "store", SMALL)
    before = rows(tmp_path / "store", "cnn")
    assert sum(counted) == 8
    counted.clear()
    again = extract(list_folder(folder), tmp_path / "store", SMALL)
    assert counted == []
    assert again.made == {"cnn": 0, "iqa": 0}
    (folder / "001.jpg").write_bytes(jpeg(scene(77)))
    (folder / "new.jpg").write_bytes(jpeg(scene(78)))
    (folder / "002.jpg").unlink()
    (folder / "000.jpg").rename(folder / "renamed.jpg")
    third = extract(list_folder(folder), tmp_path / "store", SMALL)
    assert third.made == {"cnn": 2, "iqa": 2}
    assert sum(counted) == 4
    after = rows(tmp_path / "store", "cnn")
    gone = ["000.jpg", "002.jpg"]  # what a store has stays
    assert sorted(after) == sorted([*gone, "001.jpg", "003.jpg", "new.jpg", "renamed.jpg"])
    assert "also has 2 photos that are not here" in third.notes[0]
    assert np.array_equal(after["renamed.jpg"], before["000.jpg"])
    assert np.array_equal(after["003.jpg"], before["003.jpg"])
    assert not np.array_equal(after["001.jpg"], before["001.jpg"])


def test_what_is_known_keeps_its_facts(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(exif=exif(6, "2024:01:02 03:04:05", camera="X")))
    extract(list_folder(folder), tmp_path / "store", IQA)
    first = photo_table(tmp_path / "store")
    extract(list_folder(folder), tmp_path / "store", IQA)
    pd.testing.assert_frame_equal(photo_table(tmp_path / "store"), first)
    assert first.loc["a.jpg", ["width", "height", "taken", "camera"]].tolist() == [
        "64", "96", "2024:01:02 03:04:05", "X",
    ]  # fmt: skip


def test_other_numbers_or_another_network_make_a_block_anew(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 3)
    extract(list_folder(folder), tmp_path / "store", SMALL)
    classic = extract(list_folder(folder), tmp_path / "store", IQA._replace(iqa="classic"))
    assert classic.made == {"iqa": 3}
    layer = extract(list_folder(folder), tmp_path / "store", SMALL._replace(cnn_layer="layer1"))
    assert layer.made == {"cnn": 3, "iqa": 3}


def test_blocks_can_be_added_and_old_ones_that_lag_behind_are_told(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 3)
    extract(list_folder(folder), tmp_path / "store", IQA)
    (folder / "001.jpg").write_bytes(jpeg(scene(50)))
    found = extract(list_folder(folder), tmp_path / "store", SMALL._replace(blocks=("cnn",)))
    assert list(features.open_store(tmp_path / "store")) == ["cnn", "iqa"]
    assert found.notes == [
        "the block 'iqa' lacks 1 of these photos, or knows them by other contents: extract it again"
    ]


def test_equal_files_are_encoded_once(tmp_path: Path, counted: list[int]) -> None:
    folder = fill(tmp_path / "photos", 2)
    shutil.copy(folder / "000.jpg", folder / "copy.jpg")
    extract(list_folder(folder), tmp_path / "store", IQA)
    assert sum(counted) == 2
    made = rows(tmp_path / "store", "iqa")
    assert np.array_equal(made["copy.jpg"], made["000.jpg"])


def test_vectors_depend_neither_on_workers_nor_on_order_or_neighbours(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 21)
    whole = list_folder(folder)
    extract(whole, tmp_path / "one", SMALL, num_workers=1)
    extract(whole, tmp_path / "three", SMALL, num_workers=3)
    backwards = whole._replace(photos=whole.photos[::-1])
    extract(backwards, tmp_path / "backwards", SMALL)
    few = whole._replace(photos=whole.photos[5:9])
    extract(few, tmp_path / "few", SMALL)
    for block in ("cnn", "iqa"):
        expected = rows(tmp_path / "one", block)
        for other in ("three", "backwards", "few"):
            for name, row in rows(tmp_path / other, block).items():
                np.testing.assert_allclose(
                    row, expected[name], atol=1e-5, err_msg=f"{other} {name}"
                )


def test_photos_of_another_folder_join_a_store_and_take_nothing_away(tmp_path: Path) -> None:
    one, two = fill(tmp_path / "one", 3), fill(tmp_path / "two", 3, first=2)
    extract(list_folder(one), tmp_path / "store", IQA)
    found = extract(list_folder(two), tmp_path / "store", IQA)
    assert sorted(rows(tmp_path / "store", "iqa")) == [f"00{i}.jpg" for i in range(5)]
    assert sorted(photo_table(tmp_path / "store").index) == [f"00{i}.jpg" for i in range(5)]
    assert found.notes == ["the block 'iqa' also has 2 photos that are not here, such as '000.jpg'"]
    classic = IQA._replace(iqa="classic")
    with pytest.raises(UserError, match=r"made otherwise .* also of 2 photos that are not here"):
        extract(list_folder(two), tmp_path / "store", classic)
    shutil.copytree(one, tmp_path / "two", dirs_exist_ok=True)
    found = extract(list_folder(two), tmp_path / "store", classic)
    assert found.notes[0].startswith("the block 'iqa' was made otherwise before")


def test_a_block_that_was_not_made_of_photos_is_not_replaced(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 2)
    values = np.arange(2, dtype=np.float32)[:, None]
    features.write_block(tmp_path / "store", "iqa", features.Block(["u", "v"], ["x"], values, "f"))
    with pytest.raises(UserError, match=r"block 'iqa' was not made of photos \('f'\)"):
        extract(list_folder(folder), tmp_path / "store", IQA)


def test_a_damaged_block_is_made_again_and_another_one_is_told(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 2)
    extract(list_folder(folder), tmp_path / "store", SMALL)
    (path,) = (tmp_path / "store").glob("iqa-*.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    found = extract(list_folder(folder), tmp_path / "store", SMALL._replace(blocks=("cnn",)))
    assert found.made == {"cnn": 0}
    assert "make the block 'iqa' again" in found.notes[0]
    found = extract(list_folder(folder), tmp_path / "store", IQA)
    assert found.made == {"iqa": 2}
    assert "it is made again" in found.notes[0]
    assert path.read_bytes() == whole


def test_a_table_of_photos_that_is_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "photos.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not a table that 'extract' has written"):
        extract(list_folder(fill(tmp_path / "photos", 2)), tmp_path / "store", IQA)
    assert (tmp_path / "store" / "photos.csv").read_text() == "a,b\n1,2\n"


SLOW = """
import sys, time
from jaxrank.extract import extraction, makers
from jaxrank.extract.partial import PartialRows
import jaxrank.extract.partial as partial
partial._EVERY = 0.0
def slow(options):
    made = makers.make_makers(options)
    def slower(maker):
        def encode(batch):
            time.sleep(0.15)
            values = maker.encode(batch)
            return values + 1e-4 * values.mean()  # a photo's neighbours show in its bits
        return maker._replace(encode=encode, batch=4)
    return {block: slower(maker) for block, maker in made.items()}
extraction.make_makers = slow
from jaxrank.extract.listing import list_folder
if __name__ == "__main__":
    options = makers.Options(blocks=("cnn", "iqa"), cnn_model="test_resnet", cnn_weights="none")
    extraction.extract(list_folder(sys.argv[1]), sys.argv[2], options, num_workers=2)
"""


def test_a_run_killed_anywhere_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 30)
    (folder / "005.jpg").write_bytes(b"")  # a bad one does not shift the batches
    script = tmp_path / "slow.py"
    script.write_text(SLOW)

    def start(store: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, script, folder, store])

    assert start(tmp_path / "whole").wait() == 0
    killed = tmp_path / "killed"
    saved = []
    for _ in range(3):
        process = start(killed)
        before = len(list(killed.glob(".partial/cnn-*/*.npz")))
        until = time.monotonic() + 60
        while len(list(killed.glob(".partial/cnn-*/*.npz"))) <= before:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved.append(len(list(killed.glob(".partial/cnn-*/*.npz"))))
    assert not (killed / features.MANIFEST).exists()  # else it was not killed in the middle
    assert saved == sorted(set(saved))
    assert start(killed).wait() == 0
    for block in ("cnn", "iqa"):
        expected, found = (
            features.open_store(store)[block] for store in (tmp_path / "whole", killed)
        )
        assert expected.photos == found.photos
        assert np.array_equal(expected.values, found.values)
        assert expected.sha256 == found.sha256
    assert not (killed / ".partial").exists()


def test_a_run_that_ends_between_two_blocks_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "photos", 5)
    extract(list_folder(folder), tmp_path / "whole", SMALL)
    write = features.write_block
    written: list[str] = []

    def killed_at_the_second(store: Path, name: str, block: features.Block) -> bool:
        if written:
            raise SystemExit
        written.append(name)
        return write(store, name, block)

    with monkeypatch.context() as patched:
        patched.setattr(features, "write_block", killed_at_the_second)
        with pytest.raises(SystemExit):
            extract(list_folder(folder), tmp_path / "killed", SMALL)
    assert list(features.open_store(tmp_path / "killed")) == ["cnn"]
    found = extract(list_folder(folder), tmp_path / "killed", SMALL)
    assert found.made == {"cnn": 0, "iqa": 5}
    for block in ("cnn", "iqa"):
        stores = [features.open_store(tmp_path / name)[block] for name in ("whole", "killed")]
        assert stores[0].sha256 == stores[1].sha256


def test_damaged_partial_rows_are_made_again(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 3)
    extract(list_folder(folder), tmp_path / "whole", IQA)
    (maker,) = make_makers(IQA).values()
    sha256 = list(extract(list_folder(folder), tmp_path / "whole", IQA).good.values())

    def partial_rows() -> extraction.PartialRows:
        return extraction.PartialRows(tmp_path / "store", "iqa", maker.recipe, 4)

    wrong = np.ones((1, 4), np.float32)  # rows that show where they were believed
    for damage in (None, "cut", "nan", "narrow", "float64", "scalar", "other"):
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        there = partial_rows()
        there.add(sha256[:1], wrong)
        there.save()
        (path,) = (tmp_path / "store").glob(".partial/iqa-*/*.npz")
        name = np.array([list(bytes.fromhex(sha256[0]))], np.uint8)
        if damage is None:
            assert len(partial_rows().rows) == 1
            continue
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-30])
        elif damage == "other":
            path.with_name("copy of 000000.npz").write_bytes(b"")
            path.unlink()
        else:
            values = {
                "nan": wrong * np.nan,
                "narrow": wrong[:, :3],
                "float64": wrong.astype(np.float64),
                "scalar": np.array(1, np.float32),
            }[damage]
            np.savez(path, sha256=name, values=values)
        extract(list_folder(folder), tmp_path / "store", IQA)
        for photo, row in rows(tmp_path / "whole", "iqa").items():
            assert np.array_equal(rows(tmp_path / "store", "iqa")[photo], row), damage


def crash(image: object) -> np.ndarray:
    if image.size == (50, 40):  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGSEGV)
    return np.zeros(2, np.float32)


def hang(image: object) -> np.ndarray:
    if image.size == (50, 40):  # type: ignore[attr-defined]
        time.sleep(600)
    return np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("view", "reason"),
    [(crash, "its decoder crashed"), (hang, "its decoder had not ended after 3 seconds")],
)
def test_a_decoder_that_crashes_or_hangs_costs_one_photo(
    tmp_path: Path, view: Callable[[object], np.ndarray], reason: str
) -> None:
    folder = fill(tmp_path / "photos", 12)
    (folder / "004.jpg").write_bytes(jpeg(scene(4, 50, 40)))
    listing = list_folder(folder)
    seen = list(
        workers.see_all(listing.photos, folder, {"b": view}, {"b": frozenset()}, 2, patience=3)
    )
    assert [s.reason for s in seen] == [reason if i == 4 else "" for i in range(12)]


def test_decoding_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 30)
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    process = subprocess.Popen([sys.executable, script, folder, tmp_path / "store"])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.parent.is_dir():
        process.kill()
        pytest.skip("this system does not list a process's children")
    until = time.monotonic() + 60
    while not list((tmp_path / "store").glob(".partial/cnn-*/*.npz")):
        assert time.monotonic() < until
        time.sleep(0.01)
    born = [int(pid) for pid in children.read_text().split()]
    process.kill()
    process.wait()
    assert born
    until = time.monotonic() + 20
    while any(_runs(pid) for pid in born):
        assert time.monotonic() < until
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 40)
    script = tmp_path / "slow.py"
    script.write_text(
        SLOW.split("from jaxrank.extract.listing")[0]
        + "from jaxrank.cli import main\n"
        + "if __name__ == '__main__':\n    sys.exit(main(sys.argv))\n"
    )
    words = [
        f"--photos={folder}", f"--features={tmp_path / 'store'}", "--blocks=cnn,iqa",
        "--cnn_model=test_resnet", "--cnn_weights=none",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, script, "extract", *words], stderr=subprocess.PIPE, start_new_session=True
    )
    until = time.monotonic() + 60
    while not list((tmp_path / "store").glob(".partial/cnn-*/*.npz")):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode() == "jaxrank: stopped; the same command goes on from here\n"
    found = extract(list_folder(folder), tmp_path / "store", SMALL)
    assert len(found.good) == 40


# Tables of photos.


def test_a_table_names_photos_and_their_files(tmp_path: Path) -> None:
    fill(tmp_path / "photos", 2)
    (tmp_path / "list.csv").write_text("image,path\nsecond,photos/001.jpg\nfirst,photos/000.jpg\n")
    found = extract(list_table(tmp_path / "list.csv"), tmp_path / "store", IQA)
    assert list(found.good) == ["second", "first"]
    (tmp_path / "names.csv").write_text("image\nphotos/000.jpg\nphotos/none.jpg\n")
    found = extract(list_table(tmp_path / "names.csv"), tmp_path / "other", IQA)
    assert list(found.good) == ["photos/000.jpg"]
    assert found.bad == {"photos/none.jpg": "can't be read (No such file or directory)"}


@pytest.mark.parametrize("path", ["../outside.jpg", "/etc/passwd", "a/../../outside.jpg"])
def test_a_tables_paths_do_not_lead_out_of_its_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "list.csv").write_text(f"image,path\na,{path}\n")
    with pytest.raises(UserError, match=r"line 2: .* leads out of the folder of list.csv"):
        list_table(tmp_path / "list.csv")


def test_a_tables_links_do_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.jpg").write_bytes(jpeg())
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(BadPhoto, match="leads out"):
        read_photo(Photo("a", tmp_path / "in" / "link" / "out.jpg"), tmp_path / "in")


# Series.


def timed(folder: Path, name: str, time_: str, camera: str = "A", seed: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(jpeg(scene(seed), exif=exif(1, time_, camera=camera)))


def series(store: Path) -> dict[str, list[str]]:
    table = tables.read_csv(store / "series.csv")
    frame = pd.DataFrame(table.rows, columns=table.columns)
    return {str(name): list(group["image"]) for name, group in frame.groupby("series_id")}


def test_sub_folders_are_series(tmp_path: Path) -> None:
    fill(tmp_path / "photos" / "a", 2)
    fill(tmp_path / "photos" / "b" / "c", 3, first=10)
    fill(tmp_path / "photos" / "alone", 1, first=20)
    fill(tmp_path / "photos", 1, first=30)
    found = extract(
        list_folder(tmp_path / "photos"), tmp_path / "store", IQA, grouping=Grouping("folder")
    )
    assert found.num_series == 2
    assert series(tmp_path / "store") == {
        "a": ["a/000.jpg", "a/001.jpg"],
        "b/c": ["b/c/010.jpg", "b/c/011.jpg", "b/c/012.jpg"],
    }
    assert found.notes == ["1 photos lie in no sub-folder", "1 photos stand alone, in no series"]


def test_folders_that_tables_would_call_the_same_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "photos" / "7", 2)
    fill(tmp_path / "photos" / "007", 2, first=10)
    with pytest.raises(UserError, match="'007' and '7' would be one series"):
        extract(
            list_folder(tmp_path / "photos"), tmp_path / "store", IQA, grouping=Grouping("folder")
        )
    assert not (tmp_path / "store").exists()  # told before the work


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024:01:02 03:04:05", "2024-01-02 03:04:05"),
        ("2024:01:02 03:04:05.25", "2024-01-02 03:04:05.250000"),
        ("2024:01:02 03:04:05.123456789", "2024-01-02 03:04:05.123456"),
        ("2024:01:02 03:04:05.000Z", "2024-01-02 03:04:05"),
        ("2024:01:02 03:04:05.-5", "2024-01-02 03:04:05"),
        ("9999:12:31 23:59:59.99999999", "9999-12-31 23:59:59.999999"),
        ("0000:00:00 00:00:00", "None"),
        ("yesterday", "None"),
        ("", "None"),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert str(parse_time(text)) == expected


def test_series_of_other_photos_stay(tmp_path: Path) -> None:
    fill(tmp_path / "one" / "a", 2)
    fill(tmp_path / "one" / "b", 3, first=10)
    fill(tmp_path / "two" / "c", 2, first=20)
    by_folder = Grouping("folder")
    for photos in ("one", "two"):
        extract(list_folder(tmp_path / photos), tmp_path / "store", IQA, grouping=by_folder)
    assert set(series(tmp_path / "store")) == {"a", "b", "c"}
    (tmp_path / "one" / "b" / "011.jpg").unlink()
    found = extract(list_folder(tmp_path / "one"), tmp_path / "store", IQA, grouping=by_folder)
    assert series(tmp_path / "store")["b"] == ["b/010.jpg", "b/012.jpg"]
    assert "1 photos that are not here left their series" in found.notes


def test_bursts_are_series_by_time_and_camera(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    timed(folder, "a.jpg", "2024:01:01 10:00:00")
    timed(folder, "b.jpg", "2024:01:01 10:00:08", seed=1)
    timed(folder, "c.jpg", "2024:01:01 10:00:16", seed=2)
    timed(folder, "d.jpg", "2024:01:01 10:00:17", camera="B", seed=3)
    timed(folder, "e.jpg", "2024:01:01 10:01:00", seed=4)
    timed(folder, "f.jpg", "2024:01:01 10:01:11", seed=5)
    timed(folder, "g.jpg", "0000:00:00 00:00:00", seed=6)
    listing = list_folder(folder)
    found = extract(listing, tmp_path / "store", IQA, grouping=Grouping("time"))
    assert series(tmp_path / "store") == {"a.jpg": ["a.jpg", "b.jpg", "c.jpg"]}
    assert found.notes == [
        "series by time alone",
        "1 photos don't say when they were taken",
        "3 photos stand alone, in no series",
    ]
    longer = Grouping("time", gap_seconds=11.0)
    extract(listing, tmp_path / "store", IQA, grouping=longer)
    assert series(tmp_path / "store")["e.jpg"] == ["e.jpg", "f.jpg"]


def test_a_burst_ends_where_photos_are_not_alike(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for i, seed in enumerate((0, 0, 9, 9)):
        timed(folder, f"{i}.jpg", f"2024:01:01 10:00:0{i}", seed=seed)
    how = Grouping("time", min_similarity=0.9999)
    found = extract(list_folder(folder), tmp_path / "store", SMALL, grouping=how)
    assert series(tmp_path / "store") == {"0.jpg": ["0.jpg", "1.jpg"], "2.jpg": ["2.jpg", "3.jpg"]}
    assert found.notes[0] == "series by time, and by a cosine of at least 0.9999 of the block cnn"
    with pytest.raises(UserError, match="needs the block clip or cnn"):
        extract(list_folder(folder), tmp_path / "plain", IQA, grouping=how)
    assert not (tmp_path / "plain").exists()  # told before the work


def test_series_of_a_table_and_rank_reads_them(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 4)
    (tmp_path / "s.csv").write_text(
        "series_id,image\nx,001.jpg\nx,000.jpg\ny,002.jpg\nz,gone.jpg\n"
    )
    how = Grouping(str(tmp_path / "s.csv"))
    found = extract(list_folder(folder), tmp_path / "store", IQA, grouping=how)
    assert series(tmp_path / "store") == {"x": ["000.jpg", "001.jpg"]}
    assert found.num_series == 1
    with pytest.raises(UserError, match="can't be read"):
        extract(list_folder(folder), tmp_path / "new", IQA, grouping=Grouping("none.csv"))
    assert not (tmp_path / "new" / features.MANIFEST).exists()  # told before the work


# Stores put together.


def test_two_stores_are_merged(tmp_path: Path) -> None:
    one, two = fill(tmp_path / "p1" / "a", 3), fill(tmp_path / "p2" / "b", 2, first=10)
    shutil.copy(one / "000.jpg", two / "twin.jpg")
    for photos, store, options in (("p1", "s1", IQA), ("p2", "s2", SMALL)):
        extract(
            list_folder(tmp_path / photos), tmp_path / store, options, grouping=Grouping("folder")
        )
    expected = rows(tmp_path / "s1", "iqa") | rows(tmp_path / "s2", "iqa")
    words = [f"--from_store={tmp_path / 's2'}", f"--features={tmp_path / 's1'}"]
    assert main(["launch.py", "features", *words]) == 0
    merged = rows(tmp_path / "s1", "iqa")
    assert merged.keys() == expected.keys()
    assert all(np.array_equal(merged[name], expected[name]) for name in expected)
    assert len(rows(tmp_path / "s1", "cnn")) == 3
    assert set(series(tmp_path / "s1")) == {"a", "b"}
    assert len(photo_table(tmp_path / "s1")) == 6
    again = extract(list_folder(tmp_path / "p1"), tmp_path / "s1", IQA)
    assert again.made == {"iqa": 0}
    assert len(rows(tmp_path / "s1", "iqa")) == len(photo_table(tmp_path / "s1")) == 6


def test_stores_with_photos_in_common_are_merged(tmp_path: Path) -> None:
    """Rows of a network differ in their last bits with the batch: what is here stays."""
    folder = fill(tmp_path / "photos", 9)
    whole = list_folder(folder)
    extract(whole._replace(photos=whole.photos[:6]), tmp_path / "s1", SMALL)
    extract(whole._replace(photos=whole.photos[4:]), tmp_path / "s2", SMALL)
    before = rows(tmp_path / "s1", "cnn")
    assert merge_stores(tmp_path / "s2", tmp_path / "s1") == {"cnn": 3, "iqa": 3}
    after = rows(tmp_path / "s1", "cnn")
    assert len(after) == 9
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_a_photo_that_is_bad_in_one_store_is_good_after_merging(tmp_path: Path) -> None:
    for name, data in (("one", b""), ("two", jpeg())):
        fill(tmp_path / name, 1, first=5)
        (tmp_path / name / "x.jpg").write_bytes(data)
        extract(list_folder(tmp_path / name), tmp_path / f"s-{name}", IQA)
    merge_stores(tmp_path / "s-two", tmp_path / "s-one")
    assert photo_table(tmp_path / "s-one").loc["x.jpg", "status"] == "good"
    assert "x.jpg" in rows(tmp_path / "s-one", "iqa")


def test_stores_that_do_not_fit_are_not_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(list_folder(fill(tmp_path / "p1", 2)), tmp_path / "s1", IQA)
    extract(
        list_folder(fill(tmp_path / "p2", 2, first=10)),
        tmp_path / "classic",
        IQA._replace(iqa="classic"),
    )
    (tmp_path / "p3").mkdir()
    (tmp_path / "p3" / "000.jpg").write_bytes(jpeg(scene(99)))
    extract(list_folder(tmp_path / "p3"), tmp_path / "clash", IQA)
    for store, message in (
        ("classic", "block 'iqa' was made otherwise"),
        ("clash", "photo '000.jpg' is another file in"),
        ("s1", "a store can't be added to itself"),
    ):
        words = [f"--from_store={tmp_path / store}", f"--features={tmp_path / 's1'}"]
        assert main(["launch.py", "features", *words]) == 2
        assert message in capsys.readouterr().err
    assert len(rows(tmp_path / "s1", "iqa")) == 2


# The command.


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path / "photos" / "s", 3)
    (folder / "bad.jpg").write_bytes(b"")
    words = [
        f"--photos={tmp_path / 'photos'}", f"--features={tmp_path / 'store'}",
        "--blocks=iqa,cnn", "--cnn_model=test_resnet", "--cnn_weights=none", "--series=folder",
    ]  # fmt: skip
    assert main(["launch.py", "extract", *words]) == 0
    out = capsys.readouterr().out
    assert "4 photos in" in out
    assert "block 'cnn': 3 new rows, 0 known; test_resnet, random weights" in out
    assert "1 photos can't be used:\n  s/bad.jpg: the file is empty" in out
    assert "1 series of at least two photos" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give one of --photos and --photos_csv"),
        ("--photos=a --photos_csv=b", "give one of --photos and --photos_csv"),
        ("--photos=none", "--features is missing"),
        ("--photos=none --features=s", "--photos=none: there is no such folder"),
        ("--photos= --features=s", "--photos is empty"),
        ("--photos=a --features=s --blocks=iqa,clop", "'clop' unknown. Did you mean 'clip'?"),
        (
            "--photos=a --features=s --blocks=iqa --clip_model=x",
            "--clip_model needs the block 'clip'",
        ),
        ("--photos=a --features=s --gap_seconds=3", "--gap_seconds goes with --series=time"),
        ("--photos=a --features=s --series=time --gap_seconds=0", "is not above 0"),
        ("--photos=a --features=s --series=time --min_similarity=2", "is not between -1 and 1"),
        ("--photos=a --features=s --iqa=clasic", "value should be one of"),
        ("--photos=a --features=s --workers=0", "workers"),
        ("--photos_csv=none.csv --features=s", "none.csv: can't be read"),
    ],
)
def test_mistakes_of_the_command(
    words: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["launch.py", "extract", *words.split()]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert captured.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--from_store=s", "--features is missing"),
        ("--from_store=s --features=t --block=iqa", "--block does not go with --from_store"),
        ("--from_store=s --features=t --dtype=float16", "--dtype does not go with --from_store"),
        ("--from_store=s --features=t", "s: not a feature store"),
    ],
)
def test_mistakes_of_merging(
    words: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["launch.py", "features", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_random_weights_stand_wherever_results_appear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    lines = ["series_id,image_a,image_b,preference"]
    for s in range(24):
        for i in range(2):
            (photos / str(s)).mkdir(parents=True, exist_ok=True)
            (photos / str(s) / f"{i}.png").write_bytes(encoded(scene(10 * s + i, 24, 16), "PNG"))
        lines.append(f"{s},{s}/0.png,{s}/1.png,{0.8 if s % 2 else 0.3}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    store = tmp_path / "store"
    extract(list_folder(photos), store, SMALL, grouping=Grouping("folder"))
    work = tmp_path / "work"
    words = [f"--pairs={tmp_path / 'pairs.csv'}", f"--features={store}", f"--workdir={work}"]
    assert (
        main(["launch.py", "search", "--experiments=tiny_mlp", "--config.max_epochs=1", *words])
        == 0
    )
    assert "block cnn: random weights" in capsys.readouterr().out
    assert "block cnn: random weights" in (work / "summary.csv").read_text()
    model = work / "tiny_mlp" / "model"
    ranked = [f"--model={model}", f"--features={store}", f"--workdir={tmp_path / 'r'}"]
    assert main(["launch.py", "rank", *ranked]) == 0
    assert "block cnn: random weights" in capsys.readouterr().out
    manifest = json.loads((store / features.MANIFEST).read_text())
    assert manifest["blocks"]["cnn"]["caveat"] == "random weights"
    audited = [f"--pairs={tmp_path / 'pairs.csv'}", f"--features={store}"]
    main(["launch.py", "audit", *audited, f"--workdir={tmp_path / 'a'}"])
    assert "block cnn: random weights" in capsys.readouterr().out
    # Features that another layer made have the same columns' names; the model knows better.
    other = SMALL._replace(iqa="classic")
    extract(list_folder(photos), tmp_path / "other", other)
    ranked[1] = f"--features={tmp_path / 'other'}"
    assert main(["launch.py", "rank", *ranked[:2], f"--workdir={tmp_path / 'o'}"]) == 2
    assert "block 'iqa' (image-quality numbers (classic)" in capsys.readouterr().err
