"""No writer follows a link: files outside of a folder stay as they are."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from photo_stores import IQA, fill
from small_data import make_data

import jaxrank
from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.errors import UserError
from jaxrank.extraction.photos import list_folder
from jaxrank.extraction.pipeline import extract
from jaxrank.io import atomic
from jaxrank.planning import costs
from jaxrank.reporting import progress
from jaxrank.runner import device_profile, resume

SMALL: dict[str, Any] = {
    "experiments": ["tiny_mlp"],
    "overrides": {"max_epochs": 2, "batch_size": 32, "mlp_hidden_dims": "4"},
}
MINE = "a file of the user's, outside\n"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A file that no test may change."""
    path = tmp_path / "outside.txt"
    path.write_text(MINE)
    yield path
    assert path.read_text() == MINE
    assert not path.is_symlink()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search. When it began, a link had the name under which its plan is written first;
    it led to the file `theirs` beside the folder."""
    workdir = tmp_path_factory.mktemp("searched") / "w"
    workdir.mkdir()
    theirs = workdir.with_name("theirs")
    theirs.write_text(MINE)
    atomic.temporary_path(workdir / resume.PLAN_JSON).symlink_to(theirs)
    jaxrank.search(*make_data(), workdir=workdir, **SMALL)
    return workdir


@pytest.fixture
def workdir(searched: Path, tmp_path: Path) -> Path:
    """A copy of the finished search."""
    return shutil.copytree(searched, tmp_path / "w")


def plant(folder: Path, outside: Path) -> list[Path]:
    """Beside every file below the folder, a link by the name under which it is written first."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != atomic.LOCK]
    for path in found:
        atomic.temporary_path(path).symlink_to(outside)
    return found


def test_a_link_by_the_name_of_a_temporary_file_is_not_followed(
    outside: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    atomic.temporary_path(path).symlink_to(outside)
    atomic.write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_link_that_appears_at_the_last_moment_is_an_error(
    outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"

    def exchange(path: Path, missing_ok: bool) -> None:
        path.symlink_to(outside)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", exchange)
        with pytest.raises(FileExistsError):
            atomic.write_text(path, "new")
    assert not path.exists()


def test_a_link_in_the_place_of_a_file_is_replaced(outside: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.symlink_to(outside)
    atomic.write_text(path, "new")
    assert not path.is_symlink()
    assert path.read_text() == "new"


@pytest.mark.parametrize("name", ["model", ".model.tmp"])
def test_a_folder_does_not_go_where_a_link_leads(name: str, outside: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = elsewhere / "kept.txt"
    kept.write_text(MINE)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / name).symlink_to(elsewhere)
    with atomic.atomic_folder(tmp_path / "inside" / "model") as new:
        (new / "weights").write_text("w")
    assert (tmp_path / "inside" / "model" / "weights").read_text() == "w"
    assert [path.name for path in elsewhere.iterdir()] == ["kept.txt"]


def test_no_file_of_a_search_goes_where_a_link_leads(outside: Path, workdir: Path) -> None:
    written = plant(workdir, outside)
    for path in written:  # so that each is written again
        if path.name in ("summary.csv", "test_results.json", "audit.json") or path.suffix == ".npz":
            path.unlink()
    jaxrank.search(*make_data(), workdir=workdir, resume=True)
    again = {path.name for path in written if not atomic.temporary_path(path).is_symlink()}
    assert {"plan.json", "config.json", "summary.csv", "results.json", "audit.json"} <= again
    assert {"leaderboard.png", "predictions.csv", "splits.csv", "1.npz"} <= again
    for path in written:
        assert not path.is_symlink()


@pytest.mark.parametrize("name", ["training.log", "tiny_mlp", "checkpoints", ".lock"])
def test_a_link_in_a_search_is_refused_in_one_line(
    name: str, outside: Path, workdir: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (workdir / "summary.csv").unlink()
    path = workdir / name
    target = elsewhere if path.is_dir() else outside
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)
    with pytest.raises(UserError, match=rf"{name}: can't be written \(a link has its name"):
        jaxrank.search(*make_data(), workdir=workdir, resume=True)
    assert not list(elsewhere.iterdir())


def test_a_log_is_not_appended_to_through_a_link(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "training.log").symlink_to(outside)
    with pytest.raises(OSError, match="link"), progress.logging_to(tmp_path / "training.log", None):
        pass


def test_a_new_search_does_not_write_its_plan_through_a_link(searched: Path) -> None:
    assert searched.with_name("theirs").read_text() == MINE
    assert (searched / resume.PLAN_JSON).is_file()
    assert not (searched / resume.PLAN_JSON).is_symlink()


def test_no_file_of_a_store_goes_where_a_link_leads(outside: Path, tmp_path: Path) -> None:
    _, blocks = make_data()
    store = tmp_path / "store"
    feature_store.write_block(store, "iqa", blocks["iqa"])
    written = plant(store, outside)
    assert len(written) == 4
    feature_store.write_block(store, "iqa", blocks["iqa"])
    left = [path.name for path in store.iterdir() if path.is_symlink()]
    # Arrays are named by their content: those that are there are not written again.
    assert not [name for name in left if name.startswith(".manifest.")]


def test_no_file_of_an_extraction_goes_where_a_link_leads(outside: Path, tmp_path: Path) -> None:
    photos, store = fill(tmp_path / "photos" / "day", 3), tmp_path / "store"
    words = ["jaxrank", "extract", f"--photos={tmp_path / 'photos'}", f"--features={store}"]
    words += ["--blocks=iqa", "--series=folder"]
    assert main(words) == 0
    written = plant(store, outside)
    assert {"photos.csv", "series.csv", "manifest.json"} <= {path.name for path in written}
    for extra in fill(tmp_path / "more", 5).glob("00[34].jpg"):
        extra.rename(photos / extra.name)
    assert main(words) == 0
    left = [path.name for path in store.iterdir() if path.is_symlink()]
    # Those of the old content's arrays, which are not written again.
    assert not [name for name in left if name.startswith((".photos.", ".series.", ".manifest."))]


def test_rows_of_a_running_extraction_do_not_go_where_a_link_leads(
    outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".partial").symlink_to(elsewhere)
    fill(tmp_path / "photos", 3)
    with pytest.raises(UserError, match="a link has its name"):
        extract(list_folder(tmp_path / "photos"), tmp_path / "store", IQA)
    assert not list(elsewhere.iterdir())


def test_rates_do_not_go_where_a_link_leads(outside: Path, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    atomic.temporary_path(path).symlink_to(outside)
    device_profile.write_device_profile(path, costs.built_in_profile())
    assert (
        costs.DeviceProfile(**device_profile.read_device_profile(path)) == costs.built_in_profile()
    )
