"""Stores of many photos: shards, what they share, what is appended; and stores of before."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxrank.data import feature_store, shards, store_files
from jaxrank.data.dataset import align
from jaxrank.data.feature_store import Block, Extraction
from jaxrank.data.merge import merge_stores
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError

COLUMNS = ["x", "y", "z"]


def block(start: int, end: int, dtype: str = "float32", *, made: bool = True) -> Block:
    values = np.arange(3 * start, 3 * end).reshape(-1, 3).astype(dtype)
    hashes = [hashlib.sha256(bytes([i])).hexdigest() for i in range(start, end)]
    extraction = Extraction({"model": "m"}, hashes, {"cnn_model": "m"}) if made else None
    photos = [f"p{i}.jpg" for i in range(start, end)]
    return Block(photos, COLUMNS, values, "source", "", "caveat", extraction)


def same(found: Block, expected: Block) -> bool:
    return (
        found._replace(values=0, sha256="") == expected._replace(values=0, sha256="")  # type: ignore[arg-type]
        and np.array_equal(np.asarray(found.values), expected.values)
        and found.values.dtype == expected.values.dtype
    )


def files(store: Path) -> dict[str, int]:
    """Names and inodes: a file that was written again has another."""
    return {path.name: path.stat().st_ino for path in store.glob("[a-z]*-*")}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MOST_ROWS", 4)


@pytest.mark.parametrize("made", [True, False])
def test_what_is_appended_leaves_full_shards_alone(tmp_path: Path, made: bool) -> None:
    feature_store.write_block(tmp_path, "clip", block(0, 6, made=made))
    before = files(tmp_path)
    feature_store.write_blocks(tmp_path, {}, {"clip": block(6, 13, made=made)})
    after = files(tmp_path)
    assert before.items() <= after.items()  # four and two photos: neither is written again
    opened = feature_store.open_feature_store(tmp_path)["clip"]
    assert same(opened, block(0, 13, made=made))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [s["rows"] for s in manifest["blocks"]["clip"]["shards"]] == [4, 2, 4, 3]


def test_little_by_little_makes_few_shards(tmp_path: Path) -> None:
    feature_store.write_block(tmp_path, "clip", block(0, 1))
    for i in range(1, 11):
        feature_store.write_blocks(tmp_path, {}, {"clip": block(i, i + 1)})
        opened = feature_store.open_feature_store(tmp_path)["clip"]
        assert same(opened, block(0, i + 1))
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        rows = [shard["rows"] for shard in manifest["blocks"]["clip"]["shards"]]
        assert len(rows) <= i / 4 + 3
        assert len(files(tmp_path)) == 3 * len(rows)  # nothing is left behind


def test_blocks_share_names_and_hashes(tmp_path: Path) -> None:
    wide = block(0, 6)._replace(values=np.ones((6, 3), np.float32))
    feature_store.write_blocks(tmp_path, {"clip": block(0, 6), "iqa": wide})
    assert sorted(name.split("-")[0] for name in files(tmp_path)) == [
        *["clip"] * 2, *["contents"] * 2, *["iqa"] * 2, *["photos"] * 2
    ]  # fmt: skip
    # Removing what one block no longer needs leaves what the other does.
    feature_store.write_block(tmp_path, "iqa", block(3, 5))
    assert same(feature_store.open_feature_store(tmp_path)["clip"], block(0, 6))


def test_shards_are_aligned_as_one_array(tmp_path: Path) -> None:
    feature_store.write_blocks(tmp_path, {"clip": block(0, 11), "iqa": block(2, 9)})
    rows = [("1", f"p{a}.jpg", f"p{a - 1}.jpg", 0.7) for a in (9, 8, 3, 5, 1)]
    columns = ["series_id", "image_a", "image_b", "preference"]
    pairs = Preferences(pd.DataFrame(rows, columns=columns))
    found = align(pairs, feature_store.open_feature_store(tmp_path))
    expected = align(pairs, {"clip": block(0, 11), "iqa": block(2, 9)})
    np.testing.assert_array_equal(found.features_ND, expected.features_ND)
    assert found.notes == expected.notes
    assert found.photos.tolist() == expected.photos.tolist()
    assert len(found.photos) == 6


def test_a_merge_into_float16_loses_nothing(tmp_path: Path) -> None:
    feature_store.write_block(tmp_path / "s", "clip", block(0, 6, "float16"))
    new = block(6, 8)
    feature_store.write_block(tmp_path / "t", "clip", new._replace(values=new.values + 0.0001))
    assert merge_stores(tmp_path / "t", tmp_path / "s") == {"clip": 2}
    merged = np.asarray(feature_store.open_feature_store(tmp_path / "s")["clip"].values)
    np.testing.assert_array_equal(merged[6:], new.values + np.float32(0.0001))
    np.testing.assert_array_equal(merged[:6], block(0, 6).values)


def test_a_photo_that_is_there_is_not_appended(tmp_path: Path) -> None:
    feature_store.write_block(tmp_path, "clip", block(0, 6))
    with pytest.raises(UserError, match="is there already"):
        feature_store.write_blocks(tmp_path, {}, {"clip": block(5, 7)})
    assert same(feature_store.open_feature_store(tmp_path)["clip"], block(0, 6))


def test_a_file_is_hashed_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_files, "_MANY_BYTES", 0)
    feature_store.write_block(tmp_path, "clip", block(0, 6))
    digest, hashed = store_files._digest, list[str]()

    def noted(path: Path) -> str:
        hashed.append(path.name)
        return digest(path)

    monkeypatch.setattr(store_files, "_digest", noted)
    feature_store.open_feature_store(tmp_path)
    assert hashed == []
    (tmp_path / store_files.CHECKED).unlink()
    feature_store.open_feature_store(tmp_path)
    assert len(hashed) == 6
    feature_store.open_feature_store(tmp_path)
    assert len(hashed) == 6
    path = next(tmp_path.glob("clip-*.npy"))
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the inode's own time tells
    with pytest.raises(UserError, match=r"clip-.*content is not what the manifest recorded"):
        feature_store.open_feature_store(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1, "files": [], "distinct": 3}',
                                     '{"version": 1, "files": {}, "distinct": []}'])  # fmt: skip
def test_a_damaged_note_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    feature_store.write_block(tmp_path, "clip", block(0, 6))
    (tmp_path / store_files.CHECKED).write_text(content)
    assert same(feature_store.open_feature_store(tmp_path)["clip"], block(0, 6))


@pytest.mark.parametrize("kind", ["photos", "contents"])
@pytest.mark.parametrize("how", ["missing", "cut", "other", "empty"])
def test_damaged_names_and_hashes_are_told_in_one_line(tmp_path: Path, kind: str, how: str) -> None:
    feature_store.write_block(tmp_path, "clip", block(0, 4))
    (path,) = tmp_path.glob(f"{kind}-*")
    if how == "missing":
        path.unlink()
    elif how == "other":
        feature_store.write_block(tmp_path / "more", "clip", block(4, 8))
        next((tmp_path / "more").glob(f"{kind}-*")).replace(path)
    else:
        path.write_bytes(path.read_bytes()[:-9] if how == "cut" else b"")
    with pytest.raises(UserError, match=path.name) as error:
        feature_store.open_feature_store(tmp_path)
    assert "\n" not in str(error.value)
    assert feature_store.describe_store(tmp_path) == {"clip": None}


def old_store(folder: Path, name: str, made: Block) -> None:
    """A block as stores of format 1 had it."""
    digest = hashlib.sha256(json.dumps([made.photos, made.columns]).encode())
    digest.update(f"{made.values.dtype.str}{made.values.shape}".encode())
    digest.update(made.values.data)
    entry: dict[str, Any] = {
        "photos": made.photos,
        "columns": made.columns,
        "dtype": made.values.dtype.name,
        "source": made.source,
        "sha256": digest.hexdigest(),
        "caveat": made.caveat,
    }
    if made.extraction is not None:
        entry["extraction"] = made.extraction._asdict()
    folder.mkdir(exist_ok=True)
    path = folder / "manifest.json"
    blocks = json.loads(path.read_text())["blocks"] if path.exists() else {}
    path.write_text(json.dumps({"format": 1, "blocks": blocks | {name: entry}}))
    np.save(folder / f"{name}-{entry['sha256'][:12]}.npy", made.values)


@pytest.mark.parametrize("num_photos", [3, 6])
def test_a_store_of_before_is_read_and_becomes_one_of_today(
    tmp_path: Path, num_photos: int
) -> None:
    made, plain = block(0, num_photos), block(0, num_photos, "float16", made=False)
    old_store(tmp_path, "cnn", made)
    old_store(tmp_path, "iqa", plain)
    opened = feature_store.open_feature_store(tmp_path)
    assert same(opened["cnn"], made)
    assert same(opened["iqa"], plain)
    described = feature_store.describe_store(tmp_path)["cnn"]
    assert described is not None
    assert described.extraction == made.extraction
    feature_store.write_blocks(tmp_path, {"clip": block(0, 2)}, {"cnn": block(num_photos, 8)})
    assert json.loads((tmp_path / "manifest.json").read_text())["format"] == 2
    opened = feature_store.open_feature_store(tmp_path)
    assert same(opened["cnn"], block(0, 8))
    assert same(opened["iqa"], plain)
    assert same(opened["clip"], block(0, 2))


def test_a_store_of_before_is_upgraded_on_a_disk_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    old_store(tmp_path, "cnn", block(0, 3))
    feature_store.write_block(tmp_path, "iqa", block(0, 3))
    assert same(feature_store.open_feature_store(tmp_path)["cnn"], block(0, 3))
    assert not list(tmp_path.glob(".*.new"))


def test_a_damaged_block_of_before_stays_as_it_is(tmp_path: Path) -> None:
    old_store(tmp_path, "cnn", block(0, 3))
    next(tmp_path.glob("cnn-*.npy")).write_bytes(b"no array")
    with pytest.raises(UserError, match=r"cnn-.*make the block 'cnn' again"):
        feature_store.write_block(tmp_path, "iqa", block(0, 3))
    feature_store.write_block(tmp_path, "cnn", block(0, 3))
    assert same(feature_store.open_feature_store(tmp_path)["cnn"], block(0, 3))
