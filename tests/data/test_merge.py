"""Two feature stores put together."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from photo_files import jpeg, scene
from photo_stores import IQA, SMALL, fill, photo_table, rows, series

from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.data.merge import merge_stores
from jaxrank.errors import UserError
from jaxrank.extraction.photos import list_folder
from jaxrank.extraction.pipeline import extract
from jaxrank.extraction.series_table import Grouping


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
        IQA._replace(values={"iqa": "classic"}),
    )
    (tmp_path / "p3").mkdir()
    (tmp_path / "p3" / "000.jpg").write_bytes(jpeg(scene(99)))
    extract(list_folder(tmp_path / "p3"), tmp_path / "clash", IQA)
    for store, message in (
        ("classic", "block 'iqa' was extracted with other settings"),
        ("clash", "photo '000.jpg' is another file in"),
        ("s1", "a store can't be added to itself"),
    ):
        words = [f"--from_store={tmp_path / store}", f"--features={tmp_path / 's1'}"]
        assert main(["launch.py", "features", *words]) == 2
        assert message in capsys.readouterr().err
    assert len(rows(tmp_path / "s1", "iqa")) == 2


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


def test_a_block_that_lags_behind_is_not_merged(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 2)
    extract(list_folder(folder), tmp_path / "old", SMALL)
    (folder / "001.jpg").write_bytes(jpeg(scene(60)))
    extract(list_folder(folder), tmp_path / "old", IQA)  # its cnn has the old content
    extract(list_folder(folder), tmp_path / "new", SMALL)
    with pytest.raises(UserError, match=r"photo '001.jpg' is another file in"):
        merge_stores(tmp_path / "new", tmp_path / "old")
    # Nor are its rows half of one photo and half of another.
    store = feature_store.open_feature_store(tmp_path / "old")
    with pytest.raises(
        UserError, match=r"'cnn' and 'iqa' were extracted from different files named '001.jpg'"
    ):
        feature_store.refuse_mixed(store)
    feature_store.refuse_mixed({name: store[name] for name in ("iqa",)})
