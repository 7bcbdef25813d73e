"""Embeddings in a file and ratings in a table, as a new user has them: every command takes them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from small_data import make_data

import jaxrank
from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.errors import UserError
from jaxrank.runner.manifest import new_manifest
from jaxrank.runner.prepare import prepare
from jaxrank.runner.resume_checks import resumed_options


class Files(NamedTuple):
    """Embeddings as parquet and npz, ratings without series, and the series."""

    parquet: Path
    npz: Path
    ratings: Path
    series: Path
    frame: pd.DataFrame


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    clip = make_data(40)[1]["clip"]
    photos = list(clip.photos)
    frame = pd.DataFrame(np.asarray(clip.values), index=photos).rename(columns="c{}".format)
    pd.DataFrame({"image": photos, "embedding": list(clip.values)}).to_parquet(folder / "e.parquet")
    np.savez(folder / "e.npz", names=np.array(photos), clip=clip.values)
    rated = pd.DataFrame({"image": photos, "rating": clip.values[:, 0].round()})
    rated.to_csv(folder / "ratings.csv", index=False)
    series = pd.DataFrame({"series_id": [p.split("-")[0] for p in photos], "image": photos})
    series.to_csv(folder / "series.csv", index=False)
    return Files(
        folder / "e.parquet", folder / "e.npz", folder / "ratings.csv", folder / "series.csv", frame
    )


def test_search_says_what_became_of_ratings(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", f"--pairs={files.ratings}", f"--series={files.series}", "--dry_run"]
    for features, blocks in ((files.parquet, "features (6)"), (files.npz, "clip (6)")):
        assert main(["launch.py", *words, f"--features={features}"]) == 0
        out = capsys.readouterr().out
        assert f"blocks {blocks}" in out
        assert f"series_id is from {files.series}\n" in out
        assert "ratings in 40 series read as" in out
        assert "equal ratings make no pair" in out


def test_features_writes_blocks_of_parquet_and_npz(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    words = [f"--from_parquet={files.parquet}", "--block=cnn", "--dtype=float16"]
    assert main(["launch.py", "features", f"--features={store}", *words]) == 0
    assert main(["launch.py", "features", f"--features={store}", f"--from_npz={files.npz}"]) == 0
    number = len(files.frame)
    assert capsys.readouterr().out == (
        f"{store}: new block 'cnn' of {number} photos and 6 columns (cnn_0, cnn_1, cnn_2, cnn_3, "
        f"...) in float16\n{store}: new block 'clip' of {number} photos and 6 columns (clip_0, "
        "clip_1, clip_2, clip_3, ...) in float32\n"
    )
    opened = feature_store.open_feature_store(store)
    np.testing.assert_array_equal(opened["clip"].values, files.frame)
    np.testing.assert_array_equal(opened["cnn"].values, files.frame.astype(np.float16))


def test_a_search_is_the_same_from_any_form_of_the_same_data(files: Files, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    block = feature_store.Block(list(files.frame.index), list(files.frame), files.frame.to_numpy())
    feature_store.write_block(tmp_path / "store", "clip", block)
    (tmp_path / "store" / "series.csv").write_bytes(files.series.read_bytes())
    ratings, series = pd.read_csv(files.ratings), pd.read_csv(files.series)
    beside = prepare(files.ratings, tmp_path / "store", experiments=["clip_only"])
    by_path = prepare(
        ratings, {"clip": files.frame}, series=files.series, experiments=["clip_only"]
    )
    in_memory = prepare(
        files.ratings, {"clip": files.frame}, series=series, experiments=["clip_only"]
    )
    read = jaxrank.read_preferences(files.ratings, series=series)
    before = prepare(read, {"clip": block}, experiments=["clip_only"])
    assert len({p.data.sha256 for p in (beside, by_path, in_memory, before)}) == 1
    assert [p.launch["series"] for p in (beside, by_path, in_memory, before)] == [
        None, str(files.series), "in memory", None,
    ]  # fmt: skip
    with pytest.raises(UserError, match="series of this search were in memory"):
        resumed_options(new_manifest(in_memory), {"features": {"clip": files.frame}}, extend=False)


def test_an_audit_takes_the_same_forms_and_says_what_became_of_the_ratings(files: Files) -> None:
    reading = {"series": files.series}
    found = [
        jaxrank.audit_data(files.ratings, features, reading=reading, max_seconds=1)
        for features in (files.frame, {"features": files.frame})
    ]
    pages = [[line for line in a.page().splitlines() if "Pairs:" in line] for a in found]
    assert pages[0] == pages[1]
    assert f"- Pairs: series_id is from {files.series}." in pages[0]
    assert any("the higher rating wins" in line for line in pages[0])
    assert not found[0].failed


def test_the_reference_of_an_audit_has_series_of_its_own(files: Files, tmp_path: Path) -> None:
    whole = pd.read_csv(files.ratings).merge(pd.read_csv(files.series))
    whole.to_csv(tmp_path / "whole.csv", index=False)
    found = jaxrank.audit_data(
        files.ratings, files.frame, tmp_path / "whole.csv", {"series": files.series}, 1
    )
    assert "reference" in found.page()
