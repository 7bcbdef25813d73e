"""From a folder of photos to a feature store: rows, files, what stays and what is told."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from photo_files import broken_photos, encoded, exif, jpeg, odd_photos, scene
from photo_stores import IQA, SMALL, fill, photo_table, rows

from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.errors import UserError
from jaxrank.extraction import pipeline
from jaxrank.extraction.decoding import UnreadablePhoto, decode
from jaxrank.extraction.extractors import Extractor, Options, make_extractors
from jaxrank.extraction.photos import Photo, list_folder, list_table, read_photo
from jaxrank.extraction.pipeline import extract
from jaxrank.io import tables


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photos each batch of networks and numbers had."""
    batches: list[int] = []

    def count(options: Options) -> dict[str, Extractor]:
        def counting(encode: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], Any]:
            def run(batch: np.ndarray) -> np.ndarray:
                batches.append(len(batch))
                return encode(batch)

            return run

        return {
            block: extractor._replace(encode=counting(extractor.encode))
            for block, extractor in make_extractors(options).items()
        }

    monkeypatch.setattr(pipeline, "make_extractors", count)
    return batches


def test_a_folder_becomes_a_store(tmp_path: Path) -> None:
    photos = fill(tmp_path / "photos" / "day", 5)
    (photos / "notes.txt").write_text("no photo")
    (photos / "000.xmp").write_text("describes 000.jpg")
    (photos / ".hidden.jpg").write_bytes(jpeg())
    found = extract(list_folder(tmp_path / "photos"), tmp_path / "store", SMALL)
    store = feature_store.open_feature_store(tmp_path / "store")
    assert list(store) == ["cnn", "iqa"]
    assert store["iqa"].photos == [f"day/{i:03d}.jpg" for i in range(5)]
    assert store["iqa"].columns == ["sharpness", "exposure", "colorfulness", "contrast"]
    assert store["cnn"].values.shape[0] == 5
    assert store["cnn"].caveat == "random weights"
    assert found.made == {"cnn": 5, "iqa": 5}
    assert found.notes == ["files of other kinds, left out: 1, such as 'day/notes.txt'"]
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
    block = feature_store.open_feature_store(tmp_path / "store")["iqa"]
    assert set(block.photos) == set(found.good)
    assert np.isfinite(block.values).all()


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ("a\x1b.jpg", "a\\x1b.jpg"),  # an escape character, and the text that shows it
        ("a\u0301\x85.jpg", "a\u0301\\x85.jpg"),  # a letter with a combining accent
        (" a.jpg", "a.jpg"),  # a table's cells lose blanks at their ends
    ],
)
def test_a_photo_is_not_mistaken_for_one_whose_name_prints_alike(
    tmp_path: Path, bad: str, good: str
) -> None:
    folder = fill(tmp_path / "photos", 1)
    for name in (bad, good):
        shutil.copy(folder / "000.jpg", folder / name)
    for _ in range(2):  # the second run reads the table of the first
        found = extract(list_folder(folder), tmp_path / "store", IQA)
        assert sorted(found.good) == sorted(["000.jpg", good])
        assert len(found.bad) == 1
        table = tables.read_csv(tmp_path / "store" / "photos.csv")
        assert len(set(table.texts("image"))) == 3
    assert good in rows(tmp_path / "store", "iqa")


def test_odd_photos_go_through_networks(tmp_path: Path, tiny_clip: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in odd_photos().items():
        (folder / name).write_bytes(data)
    options = SMALL._replace(
        blocks=("clip", "cnn"),
        values={**SMALL.values, "clip_model": tiny_clip, "clip_pretrained": "none"},
    )
    found = extract(list_folder(folder), tmp_path / "store", options)
    store = feature_store.open_feature_store(tmp_path / "store")
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
    image, info = decode(encoded(scene(0, 30_000, 1000), "PNG"))
    assert (info.width, info.height) == (30_000, 1000)
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
    with pytest.raises(UserError, match=r"0 of 1 photo can be used; 'empty.jpg': the file is"):
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
    assert third.notes[:2] == [
        "the block 'cnn' had 2 photos that are not in this run; they stay",
        "the block 'cnn' had 1 of these photos with other contents; it was made again",
    ]
    assert np.array_equal(after["renamed.jpg"], before["000.jpg"])
    assert np.array_equal(after["003.jpg"], before["003.jpg"])
    assert not np.array_equal(after["001.jpg"], before["001.jpg"])


def test_what_is_known_keeps_its_facts(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(exif=exif(6, "2024:01:02 03:04:05", camera="X")))
    extract(list_folder(folder), tmp_path / "store", IQA)
    first = photo_table(tmp_path / "store")
    os.utime(folder / "a.jpg", (1e9, 1e9))
    identity = ["file_bytes", "modified"]
    for _ in ("read again", "not read"):
        extract(list_folder(folder), tmp_path / "store", IQA)
        again = photo_table(tmp_path / "store")
        pd.testing.assert_frame_equal(again.drop(columns=identity), first.drop(columns=identity))
        assert again.loc["a.jpg", "modified"] == "1" + 18 * "0"
    assert first.loc["a.jpg", ["width", "height", "taken", "camera"]].tolist() == [
        "64", "96", "2024:01:02 03:04:05", "X",
    ]  # fmt: skip


def test_other_numbers_or_another_network_make_a_block_anew(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 3)
    extract(list_folder(folder), tmp_path / "store", SMALL)
    classic = extract(
        list_folder(folder), tmp_path / "store", IQA._replace(values={"iqa": "classic"})
    )
    assert classic.made == {"iqa": 3}
    learned = tmp_path / "learned"
    extract(list_folder(folder), learned, SMALL)
    first_layer = SMALL._replace(values={**SMALL.values, "cnn_layer": "layer1"})
    manifest = learned / feature_store.MANIFEST
    manifest.write_text(manifest.read_text().replace('"caveat": "random weights",', ""))
    with pytest.raises(UserError, match=r"'cnn' was learned .* \(random weights\)"):
        extract(list_folder(folder), learned, first_layer)
    layer = extract(list_folder(folder), tmp_path / "store", first_layer)
    assert layer.made == {"cnn": 3, "iqa": 3}


def test_blocks_can_be_added_and_old_ones_that_lag_behind_are_told(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 3)
    extract(list_folder(folder), tmp_path / "store", IQA)
    (folder / "001.jpg").write_bytes(jpeg(scene(50)))
    found = extract(list_folder(folder), tmp_path / "store", SMALL._replace(blocks=("cnn",)))
    assert list(feature_store.open_feature_store(tmp_path / "store")) == ["cnn", "iqa"]
    assert found.notes == [
        "the block 'iqa' lacks 1 of these photos, or has old contents of them: extract it again"
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
    assert found.notes == ["the block 'iqa' had 2 photos that are not in this run; they stay"]
    classic = IQA._replace(values={"iqa": "classic"})
    with pytest.raises(UserError, match=r"another recipe .* also of 2 photos that are not in"):
        extract(list_folder(two), tmp_path / "store", classic)
    shutil.copytree(one, tmp_path / "two", dirs_exist_ok=True)
    found = extract(list_folder(two), tmp_path / "store", classic)
    assert found.notes[0].startswith("the block 'iqa' was made with another recipe before")


def test_a_cache_holds_the_photos_that_are_there_and_may_be_made_otherwise(
    tmp_path: Path,
) -> None:
    folder, store = fill(tmp_path / "photos", 3), tmp_path / "store"
    extract(list_folder(folder), store, IQA)
    (folder / "001.jpg").unlink()
    found = extract(list_folder(folder), store, IQA, is_cache=True)
    assert found.made == {"iqa": 0}  # what is here was known
    assert sorted(rows(store, "iqa")) == ["000.jpg", "002.jpg"]
    assert sorted(photo_table(store).index) == ["000.jpg", "002.jpg"]
    (folder / "002.jpg").unlink()
    classic = IQA._replace(values={"iqa": "classic"})
    with pytest.raises(UserError, match="also of 1 photo that is not in this run"):
        extract(list_folder(folder), store, classic)
    extract(list_folder(folder), store, classic, is_cache=True)
    assert list(rows(store, "iqa")) == ["000.jpg"]
    values = np.zeros((1, 1), np.float32)
    feature_store.write_block(store, "iqa", feature_store.Block(["u"], ["x"], values, "a file"))
    extract(list_folder(folder), store, IQA, is_cache=True)
    assert list(rows(store, "iqa")) == ["000.jpg"]


def test_a_block_that_was_not_made_of_photos_is_not_replaced(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 2)
    values = np.arange(2, dtype=np.float32)[:, None]
    feature_store.write_block(
        tmp_path / "store", "iqa", feature_store.Block(["u", "v"], ["x"], values, "f")
    )
    with pytest.raises(UserError, match=r"block 'iqa' was not made of photos \('f'\)"):
        extract(list_folder(folder), tmp_path / "store", IQA)


def test_a_damaged_block_is_made_again_where_all_its_photos_are_here(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 2)
    extract(list_folder(folder), tmp_path / "store", SMALL)
    (path,) = (tmp_path / "store").glob("iqa-*.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    found = extract(list_folder(folder), tmp_path / "store", SMALL._replace(blocks=("cnn",)))
    assert found.made == {"cnn": 0}  # another block's damage is no matter
    few = list_folder(folder)
    with pytest.raises(UserError, match=r"make the block 'iqa' again, also of 1 photo that"):
        extract(few._replace(photos=few.photos[1:]), tmp_path / "store", IQA)
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
    with pytest.raises(UnreadablePhoto, match="leads out"):
        read_photo(Photo("a", tmp_path / "in" / "link" / "out.jpg"), tmp_path / "in")


def test_a_photo_that_cant_be_read_this_time_keeps_its_row(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 3)
    (tmp_path / "list.csv").write_text("image\n" + "".join(f"photos/00{i}.jpg\n" for i in range(3)))
    extract(list_table(tmp_path / "list.csv"), tmp_path / "store", IQA)
    before = rows(tmp_path / "store", "iqa")
    (folder / "001.jpg").unlink()
    (folder / "002.jpg").write_bytes(b"")  # its content is another now, and bad
    found = extract(list_table(tmp_path / "list.csv"), tmp_path / "store", IQA)
    after = rows(tmp_path / "store", "iqa")
    assert set(found.bad) == {"photos/001.jpg", "photos/002.jpg"}
    assert set(after) == {"photos/000.jpg", "photos/001.jpg"}
    assert np.array_equal(after["photos/001.jpg"], before["photos/001.jpg"])
    assert found.notes == ["the block 'iqa' had 1 photo that can't be used this time; it stays"]
    for photo in folder.iterdir():
        photo.unlink()
    with pytest.raises(UserError, match="0 of 3 photos can be used"):
        extract(list_table(tmp_path / "list.csv"), tmp_path / "store", IQA)
    assert set(rows(tmp_path / "store", "iqa")) == set(after)
    assert photo_table(tmp_path / "store").loc["photos/000.jpg", "status"] == "good"


def test_a_damaged_manifest_is_told_before_the_work(tmp_path: Path, counted: list[int]) -> None:
    folder = fill(tmp_path / "photos", 2)
    extract(list_folder(folder), tmp_path / "store", IQA)
    counted.clear()
    (tmp_path / "store" / feature_store.MANIFEST).write_text("{}")
    with pytest.raises(UserError, match="not a manifest of this version"):
        extract(list_folder(folder), tmp_path / "store", IQA)
    assert counted == []


def test_a_photo_whose_numbers_are_not_finite_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "photos", 4)
    sick: list[int] = [2]

    def overflowing(options: Options) -> dict[str, Extractor]:
        def encode(batch: np.ndarray) -> np.ndarray:
            values = np.array(batch)
            values[sick] = np.inf
            return values

        return {
            b: extractor._replace(encode=encode)
            for b, extractor in make_extractors(options).items()
        }

    monkeypatch.setattr(pipeline, "make_extractors", overflowing)
    found = extract(list_folder(folder), tmp_path / "store", IQA)
    assert found.bad == {"002.jpg": "its numbers of block 'iqa' are not finite"}
    assert set(rows(tmp_path / "store", "iqa")) == {"000.jpg", "001.jpg", "003.jpg"}
    assert photo_table(tmp_path / "store").loc["002.jpg", "status"] == "bad"
    sick[:] = range(4)
    with pytest.raises(UserError, match=r"no number is finite; look at the weights"):
        extract(list_folder(folder), tmp_path / "other", IQA)
