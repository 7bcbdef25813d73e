"""A search with rungs: what continues is as it would be without, and a kill changes nothing."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_data import ROOT

import jaxrank
from jaxrank.data import feature_store
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.evaluation import successive_halving
from jaxrank.reporting.summary import DROPPED_AT
from jaxrank.runner import null_search, rungs, search
from jaxrank.runner.prepare import prepare

SmallData = tuple[Preferences, dict[str, Block]]
SMALL: dict[str, Any] = {
    "space": {"learning_rate": [1e-5, 1e-3, 3e-3, 1e-2, 2e-2, 3e-2, 0.05, 0.1]},
    "overrides": {"mlp_hidden_dims": "8", "max_epochs": 8, "batch_size": 32, "patience": 5},
    "folds": 3,
    "audit": "off",
}
RUNGS: dict[str, Any] = {"rungs": [1, 3]}
NUM_EXPERIMENTS, NUM_FOLDS = 8, 3
CLOCK = "duration_seconds"


class Killed(Exception):
    pass


def plan_of(folder: Path) -> dict[str, Any]:
    plan = json.loads((folder / "plan.json").read_text())["search"]
    plan["rounds"] = [{**planned, "seconds": 0} for planned in plan["rounds"]]
    return plan


def tables_of(folder: Path) -> list[pd.DataFrame]:
    return [
        pd.read_csv(folder / name).drop(columns=CLOCK) for name in ("summary.csv", "trials.csv")
    ]


def assert_same(one: Path, other: Path) -> None:
    for name in ("rounds", "rungs", "cohorts"):
        assert plan_of(one)[name] == plan_of(other)[name]
    for mine, theirs in zip(tables_of(one), tables_of(other), strict=True):
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    folder = tmp_path_factory.mktemp("rungs") / "cut"
    jaxrank.search(*small_data, workdir=folder, **SMALL | RUNGS)
    return folder


def test_each_rung_keeps_what_its_budget_allows(cut: Path) -> None:
    first, second = plan_of(cut)["rungs"]
    reasons = ("survivors", "worse", "by_budget", "failed")
    assert [(one["epoch"], one["next_epoch"]) for one in (first, second)] == [(1, 3), (3, 8)]
    assert sum(len(first[reason]) for reason in reasons) == NUM_EXPERIMENTS
    assert 1 <= len(first["survivors"]) <= 3  # a third, rounded up
    entered = [name for reason in reasons for name in second[reason]]
    assert sorted(entered) == sorted(first["survivors"])
    assert 1 <= len(second["survivors"]) <= 2  # three eighths
    trials = pd.read_csv(cut / "trials.csv")
    assert len(trials) == (NUM_EXPERIMENTS + 2) * NUM_FOLDS  # the references' too
    epochs = trials.groupby("experiment_name")["epochs_run"].max()
    assert (epochs[first["worse"] + first["by_budget"]] == 1).all()
    assert (epochs[second["worse"] + second["by_budget"]] <= 3).all()
    assert (epochs[[*second["survivors"], "linear", "shuffled"]] > 3).all()


def test_what_needs_no_further_epochs_is_not_dropped_by_budget(
    tmp_path: Path, small_data: SmallData
) -> None:
    folder = tmp_path / "w"
    overrides = {key: value for key, value in SMALL["overrides"].items() if key != "max_epochs"}
    space = {"learning_rate": [1e-2, 2e-2, 3e-2], "max_epochs": [3, 8]}
    options = SMALL | {"space": space, "overrides": overrides, "rungs": [3]}
    jaxrank.search(*small_data, workdir=folder, **options)
    (rung,) = plan_of(folder)["rungs"]
    assert {"e0001", "e0003", "e0005"} <= set(rung["finished"])
    assert not set(rung["finished"]) & set(rung["by_budget"])
    running = {"e0002", "e0004", "e0006"} - set(rung["finished"])
    assert len(running & set(rung["survivors"])) <= -(-3 * len(running) // 8)
    summary = pd.read_csv(folder / "summary.csv").set_index("experiment_name")
    alive = [name for name in rung["finished"] if name in rung["survivors"]]
    assert alive
    assert summary.loc[alive, DROPPED_AT].isna().all()


def test_twins_have_the_same_scores_and_not_only_the_same_hits(
    tmp_path: Path, small_data: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout does nothing without hidden layers; the lowest rates order all pairs alike."""
    seen: list[successive_halving.RungHits] = []
    decide = successive_halving.decide

    def note(rung: successive_halving.RungHits) -> successive_halving.Decision:
        seen.append(rung)
        return decide(rung)

    monkeypatch.setattr(successive_halving, "decide", note)
    space = {"learning_rate": [1e-7, 2e-7, 0.1], "dropout": [0.1, 0.4]}
    options = SMALL | {"space": space, "rungs": [1]}
    options["overrides"] = SMALL["overrides"] | {"mlp_hidden_dims": "", "max_epochs": 2}
    jaxrank.search(*small_data, workdir=tmp_path / "w", **options)
    (rung,) = seen
    summary = pd.read_csv(tmp_path / "w" / "summary.csv").set_index("experiment_name")
    rates = summary.loc[[*rung.hits.names], "learning_rate"].to_numpy()
    alike_XX = rung.twins_X[:, None] == rung.twins_X
    np.testing.assert_array_equal(alike_XX, rates[:, None] == rates)
    lowest = rung.hits.hits_XFKS[rates < 1e-3]
    np.testing.assert_array_equal(lowest, np.broadcast_to(lowest[0], lowest.shape))


def test_the_table_says_why_each_one_ended(cut: Path) -> None:
    summary = pd.read_csv(cut / "summary.csv").set_index("experiment_name")
    for one in plan_of(cut)["rungs"]:
        words = {"worse": "worse", "by_budget": "dropped by budget"}
        for reason, word in words.items():
            for name in one[reason]:
                assert summary.loc[name, "outcome"] == f"{word} at epoch {one['epoch']}"
                assert summary.loc[name, DROPPED_AT] == one["epoch"]
                assert not summary.loc[name, "tied_for_best"]
    (selected,) = summary.index[summary["outcome"] == "selected"]
    assert selected in [*plan_of(cut)["rungs"][-1]["survivors"], "linear"]
    assert summary[DROPPED_AT].isna()[selected]
    notes = json.loads((cut / "results.json").read_text())["conclusions"]["selected"]
    assert notes["num_candidates"] == NUM_EXPERIMENTS + 1  # dropped ones included
    assert notes["expected"] <= notes["test"]
    assert not list((cut / "checkpoints").glob("*.state.npz"))


def test_what_continues_is_what_it_would_be_without_rungs(
    cut: Path, tmp_path: Path, small_data: SmallData
) -> None:
    jaxrank.search(*small_data, workdir=tmp_path / "whole", **SMALL)
    keys = ["experiment_name", "fold", "seed"]
    one, other = (
        pd.read_csv(folder / "trials.csv").set_index(keys).drop(columns=CLOCK)
        for folder in (cut, tmp_path / "whole")
    )
    survivors = plan_of(cut)["rungs"][-1]["survivors"]
    numbers = one.select_dtypes("number").columns
    np.testing.assert_allclose(
        one.loc[survivors, numbers], other.loc[survivors, numbers], rtol=0, atol=1e-6
    )
    for name in survivors:
        mine, whole = (pd.read_csv(f / name / "history.csv") for f in (cut, tmp_path / "whole"))
        pd.testing.assert_frame_equal(mine, whole, check_exact=False, rtol=0, atol=1e-6)
    dropped = plan_of(cut)["rungs"][0]["by_budget"] + plan_of(cut)["rungs"][0]["worse"]
    assert (one.loc[dropped, "epochs_run"] < other.loc[dropped, "epochs_run"]).all()


def test_a_kill_between_rungs_changes_nothing(
    cut: Path, tmp_path: Path, small_data: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before a rung is decided, with a state that is damaged then, and after that."""
    folder = tmp_path / "killed"
    train_all, following = search.train_all, rungs.following
    calls: list[str] = []

    def counted(name: str, function: Any, *arguments: Any) -> Any:
        calls.append(name)
        if len(calls) in (2, 5):
            raise Killed
        return function(*arguments)

    monkeypatch.setattr(search, "train_all", partial(counted, "train", train_all))
    monkeypatch.setattr(rungs, "following", partial(counted, "decide", following))
    with pytest.raises(Killed):
        jaxrank.search(*small_data, workdir=folder, **SMALL | RUNGS)
    assert not plan_of(folder)["rungs"]
    damaged = sorted((folder / "checkpoints").glob("*.state.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(Killed):
        jaxrank.search(*small_data, workdir=folder, resume=True)
    assert calls == ["train", "decide", "train", "decide", "train"]
    assert (
        f"the state of cohort {damaged.name[0]} can't be read"
        in (folder / "training.log").read_text()
    )
    assert len(plan_of(folder)["rungs"]) == 1
    jaxrank.search(*small_data, workdir=folder, resume=True, **SMALL | RUNGS)
    assert_same(folder, cut)


def test_a_damaged_last_stage_is_trained_again_from_the_first(
    cut: Path, tmp_path: Path, small_data: SmallData
) -> None:
    """The states that it would begin from were removed when its round had ended."""
    folder = tmp_path / "damaged"
    shutil.copytree(cut, folder)
    for cohort in plan_of(folder)["cohorts"]:
        if cohort["begins"] == 3:
            (folder / "checkpoints" / f"{cohort['number']}.npz").write_bytes(b"")
    (folder / "summary.csv").unlink()
    jaxrank.search(*small_data, workdir=folder, resume=True)
    assert_same(folder, cut)


def test_a_search_keeps_its_rungs(cut: Path, small_data: SmallData) -> None:
    assert jaxrank.search(*small_data, workdir=cut, resume=True, rungs="1,3").nothing_to_do
    for options, message in (
        ({"resume": True, "rungs": [1]}, "with other --rungs"),
        ({"resume": True, "rungs": "3,1"}, "--rungs=3,1: give increasing"),
        ({"retry_failed": True}, "--retry_failed: a search with --rungs"),
        ({"extend": True, "num_seeds": 2}, "--extend: a search with --rungs can't get more"),
    ):
        with pytest.raises(UserError, match=message):
            jaxrank.search(*small_data, workdir=cut, **options)


def test_a_null_search_is_beside_the_search(tmp_path: Path, small_data: SmallData) -> None:
    folder = tmp_path / "w"
    small = SMALL | {"space": {"learning_rate": [1e-3, 3e-2, 0.1]}}
    result = jaxrank.search(*small_data, workdir=folder, **small, rungs=[1], null_search=True)
    (note,) = (note for note in result.notes if note.startswith("Null search: of 4 experiments"))
    assert f"({null_search.FOLDER}/)" in note
    facts = json.loads((folder / "results.json").read_text())["conclusions"]
    assert 0.4 < facts["null_search"]["expected"] < 0.6
    assert facts["selected"]["expected"] > 0.65
    one, other = plan_of(folder), plan_of(folder / null_search.FOLDER)
    assert one["data"] != other["data"]
    for name in ("folds", "versions"):
        assert one[name] == other[name]
    assert [planned["values"] for planned in one["rounds"]] == [
        planned["values"] for planned in other["rounds"]
    ]
    assert not other["launch"]["null_search"]
    # It is not part of what is missed.
    assert not any(null_search.FOLDER in name for name in one["files"])
    assert jaxrank.search(*small_data, workdir=folder, resume=True).nothing_to_do


@pytest.mark.parametrize("split", ["random", "pretrain"])
def test_a_null_search_needs_whole_series(split: str, small_data: SmallData) -> None:
    message = f"--null_search needs whole series, and --split={split} cuts them"
    with pytest.raises(UserError, match=message):
        prepare(*small_data, null_search=True, split=split)


@pytest.mark.long
def test_ten_kills_of_an_adaptive_search_with_rungs_change_nothing(
    tmp_path: Path, small_data: SmallData
) -> None:
    pairs, store = small_data
    pairs.table.to_csv(tmp_path / "pairs.csv", index=False)
    for name, block in store.items():
        feature_store.write_block(tmp_path / "store", name, block)
    words = [
        sys.executable, str(ROOT / "launch.py"), "search", f"--pairs={tmp_path / 'pairs.csv'}",
        f"--features={tmp_path / 'store'}", "--space.learning_rate=1e-4..1e-1:log",
        "--space.weight_decay=0..0.1", "--strategy=tpe", "--num_experiments=24", "--round_size=12",
        "--rungs=1,3", "--folds=3", "--config.max_epochs=9", "--config.batch_size=32",
        "--config.mlp_hidden_dims=8", "--audit=off", "--workers=1", "--save_budget=1",
    ]  # fmt: skip

    def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
        command = [*words, f"--workdir={folder}", *more]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    begun = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    seconds = time.monotonic() - begun
    rng = random.Random(0)
    kills, searches = 0, 0
    while kills < 10:
        killed = tmp_path / f"killed_{searches}"
        process = start(killed, "--resume")
        try:
            # A quarter of the way takes imports and data.
            ended = process.wait(seconds * rng.uniform(0.25, 0.9))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert ended == 0
        assert_same(killed, tmp_path / "whole")
        searches += 1
    assert start(killed, "--resume").wait() == 0
    assert len(plan_of(killed)["rounds"]) == 2
    assert len(plan_of(killed)["rungs"]) >= 3
    assert_same(killed, tmp_path / "whole")
