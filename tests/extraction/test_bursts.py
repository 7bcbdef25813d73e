"""Which photos are one series."""

from pathlib import Path

import pytest
from photo_files import exif, jpeg, scene
from photo_stores import IQA, SMALL, fill, series

from jaxrank.data import feature_store
from jaxrank.errors import UserError
from jaxrank.extraction.bursts import parse_time
from jaxrank.extraction.photos import list_folder
from jaxrank.extraction.pipeline import extract
from jaxrank.extraction.series_table import Grouping


def timed(folder: Path, name: str, time_: str, camera: str = "A", seed: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(jpeg(scene(seed), exif=exif(1, time_, camera=camera)))


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
    assert found.notes == ["1 photo is in no sub-folder", "1 photo is alone, so in no series"]


def test_folders_that_tables_would_call_the_same_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "photos" / "7", 2)
    fill(tmp_path / "photos" / "007", 2, first=10)
    with pytest.raises(UserError, match="would be one series"):
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
    assert "1 photo that is not in this run left its series" in found.notes


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
        "1 photo has no capture time",
        "3 photos are alone, so in no series",
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


def test_series_of_a_table(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 4)
    (tmp_path / "s.csv").write_text(
        "series_id,image\nx,001.jpg\nx,000.jpg\ny,002.jpg\nz,gone.jpg\n"
    )
    how = Grouping(str(tmp_path / "s.csv"))
    found = extract(list_folder(folder), tmp_path / "store", IQA, grouping=how)
    assert series(tmp_path / "store") == {"x": ["000.jpg", "001.jpg"]}
    assert found.num_series == 1
    assert "1 photo of the table is not in this run, such as 'gone.jpg'" in found.notes
    with pytest.raises(UserError, match=r"neither the file of a table, .* Did you mean 'folder'?"):
        extract(list_folder(folder), tmp_path / "new", IQA, grouping=Grouping("folders"))
    assert not (tmp_path / "new" / feature_store.MANIFEST).exists()  # told before the work
    with pytest.raises(UserError, match=r"neither the file of a table, nor folder or time\.$"):
        extract(list_folder(folder), tmp_path / "new", IQA, grouping=Grouping("x"))


def test_numbers_of_folders_are_as_tables_read_them(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos" / "007", 3)
    by_folder = Grouping("folder")
    extract(list_folder(tmp_path / "photos"), tmp_path / "store", IQA, grouping=by_folder)
    assert list(series(tmp_path / "store")) == ["7"]
    (folder / "001.jpg").unlink()
    extract(list_folder(tmp_path / "photos"), tmp_path / "store", IQA, grouping=by_folder)
    assert series(tmp_path / "store") == {"7": ["007/000.jpg", "007/002.jpg"]}


def test_a_photo_that_turned_bad_leaves_its_series_and_none_stays_alone(tmp_path: Path) -> None:
    a, b = fill(tmp_path / "photos" / "a", 2), fill(tmp_path / "photos" / "b", 2, first=10)
    by_folder = Grouping("folder")
    extract(list_folder(tmp_path / "photos"), tmp_path / "store", IQA, grouping=by_folder)
    (a / "001.jpg").write_bytes(b"")
    (b / "010.jpg").write_bytes(jpeg(scene(99)))
    extract(list_folder(tmp_path / "photos"), tmp_path / "store", IQA, grouping=by_folder)
    assert series(tmp_path / "store") == {"b": ["b/010.jpg", "b/011.jpg"]}


def test_no_series_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    fill(photos / "a", 2)
    listing = list_folder(photos)
    with pytest.raises(
        UserError, match=r"2 photos have no capture time.* the features are written$"
    ):
        extract(listing, tmp_path / "store", IQA, grouping=Grouping("time"))
    extract(listing, tmp_path / "store", IQA, grouping=Grouping("folder"))
    with pytest.raises(UserError, match=r"are written, and .*series.csv is the old one$"):
        extract(listing, tmp_path / "store", IQA, grouping=Grouping("time"))
    assert series(tmp_path / "store") == {"a": ["a/000.jpg", "a/001.jpg"]}
