"""What a search of many experiments writes, and which predictions and curves anyone asks for."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxrank
from jaxrank import train
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import Stopped, UserError
from jaxrank.runner import result_files, resume
from jaxrank.runner.options import CURVES, PREDICTIONS

SmallData = tuple[Preferences, dict[str, Block]]
# Five experiments, the references included.
OPTIONS: dict[str, Any] = {
    "experiments": ["iqa_only", "tiny_mlp", "clip_only"],
    "overrides": {"max_epochs": 2},
    "folds": 3,
    "audit": "off",
}
NAMES = ["iqa_only", "tiny_mlp", "clip_only", "linear", "shuffled"]
KEYS = ["experiment_name", "fold", "seed"]


@pytest.fixture(scope="module", autouse=True)
def few_folders() -> Iterator[None]:
    """Four experiments are many, and one is the best."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_files, "MOST_FOLDERS", 4)
        patch.setattr(result_files, "MOST_CURVES", 1)
        yield


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Any:
    workdir = tmp_path_factory.mktemp("many") / "w"
    return jaxrank.search(*small_data, workdir=workdir, **OPTIONS)


def copy_of(many: Any, tmp_path: Path) -> Path:
    shutil.copytree(many.workdir, tmp_path / "w")
    return tmp_path / "w"


def predictions_of(workdir: Path) -> pd.DataFrame:
    files = sorted((workdir / "predictions").iterdir())
    return pd.concat(map(pd.read_parquet, files), ignore_index=True)


def files_of(workdir: Path) -> dict[str, bytes]:
    """But for what has the time in it."""
    return {
        name: (workdir / name).read_bytes()
        for name in resume.list_files(workdir)
        if Path(name).name != "environment.json"
    }


def test_many_experiments_share_their_files(many: Any) -> None:
    best = "Best of 4 candidates (the reference linear is one): "
    (chosen,) = (n for n in NAMES if any(line.startswith(f"{best}{n},")
                                         for line in many.notes))  # fmt: skip
    folders = {path.name for path in many.workdir.iterdir() if path.is_dir()}
    assert folders == {"checkpoints", "final", "predictions", chosen}
    assert {path.name for path in (many.workdir / chosen).iterdir()} == {
        "history.csv", "training_curves.png", "test_results.json", "predictions.csv",
        "predictions.parquet", "model",
    }  # fmt: skip
    numbers = {path.stem for path in (many.workdir / "checkpoints").glob("[1-9]*.npz")}
    assert {path.stem for path in (many.workdir / "predictions").iterdir()} == numbers
    assert len(numbers) > 2


def test_the_shared_files_hold_every_trial(many: Any) -> None:
    trials = many.trials.set_index(KEYS)
    frame = predictions_of(many.workdir)
    shares = frame.groupby([*KEYS, "split"], observed=True)["correct"].mean().unstack()
    assert len(shares) == len(trials) == 5 * 3
    np.testing.assert_allclose(shares["test"], trials["test_accuracy"].loc[shares.index])
    np.testing.assert_allclose(shares["val"], trials["val_accuracy"].loc[shares.index])
    assert shares["test"].nunique() > 5
    history = pd.read_parquet(many.workdir / "history.parquet")
    best = history.groupby(KEYS, observed=True)["val_accuracy"].max()
    assert len(history) == trials["epochs_run"].sum()
    np.testing.assert_allclose(best, trials["val_accuracy"].loc[best.index], atol=1e-6)


def test_a_search_with_folders_has_the_same_tables_and_predictions(
    many: Any, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_files, "MOST_FOLDERS", 5)
    found = jaxrank.search(*small_data, workdir=tmp_path / "w", **OPTIONS)
    for name in ("summary", "trials"):
        one, other = (getattr(r, name).drop(columns="duration_seconds") for r in (found, many))
        pd.testing.assert_frame_equal(one, other)
    shared = predictions_of(many.workdir).astype({"experiment_name": str})
    for name in NAMES:
        own = pd.read_parquet(found.workdir / name / "predictions.parquet")
        mine = shared[shared["experiment_name"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(own.astype(mine.dtypes.to_dict()), mine)
    # Of four experiments with curves only one is the best.
    assert len(list(found.workdir.glob("*/training_curves.png"))) == 1
    assert not (found.workdir / "predictions").exists()


def test_files_that_are_gone_are_written_again_to_the_same_bits(
    many: Any, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = copy_of(many, tmp_path)
    monkeypatch.setattr(train, "fit", pytest.fail)
    before = files_of(workdir)
    gone = [n for n in before if n.endswith((".parquet", ".png", "test_results.json"))]
    assert {"history.parquet", "predictions/1.parquet"} < set(gone)
    for name in gone:
        (workdir / name).unlink()
    assert not jaxrank.search(*small_data, workdir=workdir, resume=True).nothing_to_do
    after = files_of(workdir)
    assert after.keys() == before.keys()
    for name, content in before.items():
        assert after[name] == content, name
    assert jaxrank.search(*small_data, workdir=workdir, resume=True).nothing_to_do


def test_stopped_between_results_and_predictions_it_ends_in_the_same_bits(
    many: Any, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "w"
    with monkeypatch.context() as patch:

        def stop(*_: Any) -> None:
            raise Stopped(workdir, 15)

        patch.setattr(result_files, "write_trial_predictions", stop)
        with pytest.raises(Stopped):
            jaxrank.search(*small_data, workdir=workdir, **OPTIONS)
    assert list((workdir / "checkpoints").glob("*.npz"))
    assert not list((workdir / "predictions").iterdir())
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    pd.testing.assert_frame_equal(predictions_of(workdir), predictions_of(many.workdir))
    one, other = (pd.read_csv(w / "summary.csv") for w in (workdir, many.workdir))
    pd.testing.assert_frame_equal(
        one.drop(columns="duration_seconds"), other.drop(columns="duration_seconds")
    )


def test_an_extended_search_has_the_predictions_of_the_new_trials_too(
    many: Any, small_data: SmallData, tmp_path: Path
) -> None:
    workdir = copy_of(many, tmp_path)
    old = predictions_of(workdir)
    jaxrank.search(*small_data, workdir=workdir, extend=True, num_seeds=2)
    new = predictions_of(workdir)
    assert len(new) == 2 * len(old)
    assert set(new["seed"]) == {0, 1}
    mean = pd.read_csv(next(workdir.glob("*/predictions.csv")))
    assert set(mean["trials"]) == {2}


def test_nobody_has_to_take_predictions_and_curves(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_files, "MOST_FOLDERS", 5)
    options = OPTIONS | {"experiments": ["iqa_only"], "curves": "none"}
    found = jaxrank.search(*small_data, workdir=tmp_path / "w", predictions="none", **options)
    folder = found.workdir / "iqa_only"
    least = {"history.csv", "test_results.json", "model"}
    assert {path.name for path in folder.iterdir()} == least
    # They come later where somebody asks for them; nothing is trained again.
    monkeypatch.setattr(train, "fit", pytest.fail)
    again: dict[str, Any] = {"workdir": found.workdir, "resume": True}
    jaxrank.search(*small_data, predictions="mean", **again)
    assert {path.name for path in folder.iterdir()} == least | {"predictions.csv"}
    jaxrank.search(*small_data, predictions="all", curves="all", **again)
    assert {path.name for path in folder.iterdir()} == least | {
        "predictions.csv", "predictions.parquet", "training_curves.png"
    }  # fmt: skip


@pytest.mark.parametrize(("option", "words"), [("predictions", PREDICTIONS), ("curves", CURVES)])
def test_a_word_that_is_none_of_them_is_an_error(
    small_data: SmallData, tmp_path: Path, option: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match=f"--{option}=best1: unknown"):
        jaxrank.search(*small_data, workdir=tmp_path / "w", **OPTIONS | {option: "best1"})
    assert len(set(words)) == 3
