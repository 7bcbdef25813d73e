"""Pairs and features behind URLs are those of the same bytes on this machine."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.data.feature_store import Block
from jaxrank.data.inputs import load_inputs, read_features
from jaxrank.data.remote_inputs import local_features, local_table
from jaxrank.errors import UserError
from jaxrank.runner.prepare import prepare

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path / "cache" / "jaxrank" / "remote"


@pytest.fixture
def bucket(small_files: tuple[Path, Path], cache: Path) -> Iterator[Any]:
    """The small data in fsspec's memory, as memory://bucket/pairs.csv and memory://bucket/store."""
    system = fsspec.filesystem("memory")
    pairs, store = small_files
    system.put(str(pairs), "/bucket/pairs.csv")
    system.put(str(store), "/bucket/store", recursive=True)
    yield system
    system.rm("/bucket", recursive=True)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are copied out of the memory."""
    from fsspec.implementations.memory import MemoryFileSystem

    names: list[str] = []
    get_file = MemoryFileSystem.get_file

    def counted(self: Any, path: str, *rest: Any, **options: Any) -> None:
        names.append(path.rpartition("/")[2])
        get_file(self, path, *rest, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", counted)
    return names


def arrays_of(store: Path) -> set[str]:
    return {path.name for path in store.glob("*-*.*")}


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_search_of_urls_is_that_of_the_same_bytes(
    scheme: str, bucket: Any, small_files: tuple[Path, Path]
) -> None:
    pairs, store = small_files
    urls = ["memory://bucket/pairs.csv", "memory://bucket/store/"]
    if scheme == "file":
        urls = [f"file://{pairs}", f"file://{store}"]
    options: dict[str, Any] = {"mode": "quick"}
    there, here = prepare(*urls, **options), prepare(pairs, store, **options)
    assert there.data.sha256 == here.data.sha256
    assert np.array_equal(there.split_data.splits_FM, here.split_data.splits_FM)
    assert [there.launch["pairs"], there.launch["features"]] == urls


def test_files_of_a_store_are_copied_once(
    bucket: Any, copied: list[str], small_files: tuple[Path, Path], cache: Path
) -> None:
    url, (_, store) = "memory://bucket/store", small_files
    blocks = read_features(url)
    assert sorted(copied) == sorted([feature_store.MANIFEST, *arrays_of(store)])
    (folder,) = cache.iterdir()
    for name, block in feature_store.open_feature_store(store).items():
        assert np.array_equal(blocks[name].values, block.values)
        assert list(blocks[name].photos) == list(block.photos)
    copied.clear()
    read_features(url)
    assert copied == [feature_store.MANIFEST]

    # A block is replaced: its new file is copied, and its old one removed.
    name, block = next(iter(feature_store.open_feature_store(store).items()))
    before = arrays_of(store)
    changed = block._replace(values=np.asarray(block.values) * 2)
    feature_store.write_block(store, name, changed)
    bucket.rm("/bucket/store", recursive=True)
    bucket.put(str(store), "/bucket/store", recursive=True)
    copied.clear()
    assert np.array_equal(read_features(url)[name].values, changed.values)
    assert set(copied) == {feature_store.MANIFEST, *(arrays_of(store) - before)}
    assert arrays_of(folder) == arrays_of(store)


def test_series_beside_a_store_are_read(
    bucket: Any, tmp_path: Path, small_files: tuple[Path, Path]
) -> None:
    series = local_features("memory://bucket/store")
    assert not Path(series, feature_store.SERIES_CSV).exists()
    (tmp_path / "series.csv").write_text("series_id,image\ns,p.jpg\n")
    bucket.put(str(tmp_path / "series.csv"), "/bucket/store/series.csv")
    assert local_features("memory://bucket/store") == series
    assert Path(series, feature_store.SERIES_CSV).read_text().endswith("s,p.jpg\n")
    bucket.rm("/bucket/store/series.csv")
    local_features("memory://bucket/store")
    assert not Path(series, feature_store.SERIES_CSV).exists()


def test_other_bytes_are_not_kept(bucket: Any, small_files: tuple[Path, Path], cache: Path) -> None:
    victim = sorted(path.name for path in small_files[1].glob("*.npy"))[0]
    good = bucket.cat_file(f"/bucket/store/{victim}")
    bucket.pipe_file(f"/bucket/store/{victim}", good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{victim}: the content is not what the manifest rec"):
        read_features("memory://bucket/store")
    (folder,) = cache.iterdir()
    assert victim not in arrays_of(folder)
    bucket.pipe_file(f"/bucket/store/{victim}", good)
    read_features("memory://bucket/store")


def test_a_file_that_came_in_part_is_refused(
    bucket: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(path: str, target: str) -> None:
        Path(target).write_bytes(bucket.cat_file(path)[:-3])

    monkeypatch.setattr(bucket, "get_file", cut)
    with pytest.raises(UserError, match=r"pairs\.csv: [0-9,]+ of [0-9,]+ bytes came"):
        local_table("memory://bucket/pairs.csv")
    (folder,) = cache.iterdir()
    assert not list(folder.glob("*pairs*"))


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b"])
def test_a_manifest_leads_nowhere_else(
    name: str, bucket: Any, tmp_path: Path, copied: list[str]
) -> None:
    """Names of blocks become names of files."""
    manifest = json.loads(bucket.cat_file("/bucket/store/manifest.json"))
    entry = next(iter(manifest["blocks"].values()))
    manifest["blocks"][name] = entry
    bucket.pipe_file("/bucket/store/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(UserError, match=f"the entry of block '{name}' is damaged"):
        read_features("memory://bucket/store")
    assert not any("evil" in path for path in copied)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/none.csv", r"memory://bucket/none\.csv: can't be read \(no such file\)"),
        ("memory://bucket/store", r"can't be read \(ValueError: it is not a file\)"),
        ("nothing://bucket/x.csv", "Protocol not known: nothing"),
        ("memory://", "name a file"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    url: str,
    message: str,
    bucket: Any,
    small_files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [f"--pairs={url}", f"--features={small_files[1]}", f"--workdir={tmp_path / 'w'}"]
    assert main(["jaxrank", "audit", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    with pytest.raises(UserError, match=message):
        local_table(url)
    assert line.startswith("jaxrank: ")


def test_without_fsspec_local_paths_are_read(
    cache: Path,
    small_files: tuple[Path, Path],
    small_data: tuple[Any, dict[str, Block]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UserError, match=r"URLs need fsspec: pip install 'jaxrank\[remote\]'"):
        read_features("s3://bucket/store")
    assert load_inputs(*small_files, {}).pairs.table.equals(small_data[0].table)
