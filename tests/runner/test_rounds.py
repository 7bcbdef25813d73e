"""A search with a space: rounds that a kill does not change, extended, and ended by the clock."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import jaxrank
from jaxrank.cli import main
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.runner import optuna_study, rounds, search

SmallData = tuple[Preferences, dict[str, Block]]
# Hyperparameters that are not compiled in: all rounds share a program.
TRACED = {"learning_rate": "1e-4..1e-1:log", "weight_decay": "0..0.1"}
SMALL: dict[str, Any] = {
    "space": TRACED,
    "overrides": {"max_epochs": 2, "batch_size": 32, "mlp_hidden_dims": "8"},
    "audit": "off",
}
ROUNDS: dict[str, Any] = SMALL | {"strategy": "tpe", "num_experiments": 13, "round_size": 11}


class Killed(Exception):
    pass


def killed_at(
    number: int, function: Callable[..., Any], calls: list[str], name: str
) -> Callable[..., Any]:
    """A function that notes its calls, and is killed where it makes the call of this number."""

    def call(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            raise Killed
        return function(*arguments)

    return call


def plan_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "plan.json").read_text())["search"]


def rounds_of(folder: Path) -> list[dict[str, Any]]:
    return [{**planned, "seconds": 0} for planned in plan_of(folder)["rounds"]]


def tables_of(folder: Path) -> list[pd.DataFrame]:
    names = ("summary.csv", "trials.csv")
    return [pd.read_csv(folder / name).drop(columns="duration_seconds") for name in names]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    folder = tmp_path_factory.mktemp("rounds") / "whole"
    jaxrank.search(*small_data, workdir=folder, **ROUNDS)
    return folder


def test_each_round_follows_from_the_results_of_the_others(whole: Path) -> None:
    planned = plan_of(whole)["rounds"]
    assert [len(one["names"]) for one in planned] == [11, 2]
    assert [one["ended"] for one in planned] == ["", rounds.ENOUGH]
    trials = pd.read_csv(whole / "trials.csv")
    means = trials.groupby("experiment_name")["val_accuracy"].mean()
    for one in planned:
        assert one["versions"].keys() == {"optuna"}
        assert one["seconds"] > 0
        for name, accuracy in zip(one["names"], one["accuracies"], strict=True):
            assert accuracy == pytest.approx(means[name], abs=1e-6)
    experiments = {e["name"]: e for e in plan_of(whole)["experiments"]}
    for one in planned:
        for name, values in zip(one["names"], one["values"], strict=True):
            assert values.items() <= experiments[name].items()
    assert "e0013" in experiments
    assert "e0014" not in experiments


def test_a_killed_search_proposes_the_same(
    whole: Path, tmp_path: Path, small_data: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when a round was trained and the next one not planned, and when that was planned and
    not trained."""
    folder = tmp_path / "killed"
    calls: list[str] = []
    monkeypatch.setattr(search, "train_all", killed_at(5, search.train_all, calls, "train"))
    monkeypatch.setattr(rounds, "following", killed_at(2, rounds.following, calls, "follow"))
    with pytest.raises(Killed):
        jaxrank.search(*small_data, workdir=folder, **ROUNDS)
    assert [one["accuracies"] is None for one in plan_of(folder)["rounds"]] == [True]
    with pytest.raises(Killed):
        jaxrank.search(*small_data, workdir=folder, resume=True)
    assert [one["accuracies"] is None for one in plan_of(folder)["rounds"]] == [False, True]
    assert calls == ["train", "follow", "train", "follow", "train"]
    # What was typed before may be typed again.
    jaxrank.search(*small_data, workdir=folder, resume=True, **ROUNDS)
    assert rounds_of(folder) == rounds_of(whole)
    assert plan_of(folder)["cohorts"] == plan_of(whole)["cohorts"]
    for one, other in zip(tables_of(folder), tables_of(whole), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_search_killed_in_its_second_round_plans_the_third_as_if_it_had_not_been(
    tmp_path: Path, small_data: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed search reads the plan of all rounds at once, and must not plan them together."""
    options = SMALL | {"strategy": "random", "round_size": 2, "num_experiments": 6}
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    jaxrank.search(*small_data, workdir=whole, **options)
    monkeypatch.setattr(search, "train_all", killed_at(2, search.train_all, [], "train"))
    with pytest.raises(Killed):
        jaxrank.search(*small_data, workdir=folder, **options)
    jaxrank.search(*small_data, workdir=folder, resume=True)
    assert len(plan_of(whole)["rounds"]) == 3
    assert plan_of(folder)["cohorts"] == plan_of(whole)["cohorts"]


def test_values_that_no_experiment_has_are_named(tmp_path: Path, small_data: SmallData) -> None:
    options = SMALL | {
        "space": {"mlp_hidden_dims": "4|8|", "dropout": "0,0.1"},
        "overrides": {"max_epochs": 1, "batch_size": 32},
        "strategy": "random",
        "num_experiments": 2,
    }
    jaxrank.search(*small_data, workdir=tmp_path, **options)
    ((values, _),) = [one["values"] for one in rounds_of(tmp_path)]
    widths = [f"mlp_hidden_dims={v or 'none'}" for v in ("4", "8", "")
              if v != values["mlp_hidden_dims"]]  # fmt: skip
    ended = f"no further round: num_experiments; not tried: {', '.join(widths)}"
    assert ended in (tmp_path / "training.log").read_text()


def test_a_search_is_extended_by_further_rounds(tmp_path: Path, small_data: SmallData) -> None:
    folder = tmp_path / "w"
    options = SMALL | {"strategy": "random"}
    jaxrank.search(*small_data, workdir=folder, num_experiments=2, **options)
    (first,) = rounds_of(folder)
    for wrong, message in (
        ({"space": {"dropout": "0..0.5"}}, "another --space"),
        ({"strategy": "sobol"}, "another --strategy"),
        ({"num_experiments": 3}, r"another --num_experiments \(--extend changes it\)"),
    ):
        with pytest.raises(UserError, match=message):
            jaxrank.search(*small_data, workdir=folder, resume=True, **wrong)
    again = jaxrank.search(*small_data, workdir=folder, extend=True)
    assert again.nothing_to_do
    result = jaxrank.search(*small_data, workdir=folder, extend=True, num_experiments=3)
    before, after = rounds_of(folder)
    assert before == {**first, "ended": ""}
    assert after["names"] == ["e0003"]
    assert after["ended"] == rounds.ENOUGH
    assert {"e0001", "e0002", "e0003"} <= set(result.summary["experiment_name"])


def test_a_space_may_be_given_again_as_tuples_and_in_another_order(
    tmp_path: Path, small_data: SmallData
) -> None:
    folder = tmp_path / "w"
    space = {"learning_rate": (1e-3, 1e-2), "weight_decay": (0.0, 0.1)}
    jaxrank.search(*small_data, workdir=folder, **SMALL | {"space": space, "num_experiments": 1})
    turned: dict[str, Any] = {"space": dict(reversed(space.items())), "num_experiments": 2}
    jaxrank.search(*small_data, workdir=folder, extend=True, **turned)
    first, second = rounds_of(folder)
    assert first["values"] == [{"learning_rate": 1e-3, "weight_decay": 0.0}]
    assert second["values"] == [{"learning_rate": 1e-3, "weight_decay": 0.1}]


def test_a_further_round_follows_from_all_results_so_far(
    tmp_path: Path, small_data: SmallData
) -> None:
    folder = tmp_path / "w"
    jaxrank.search(*small_data, workdir=folder, **SMALL, num_experiments=2)
    jaxrank.search(*small_data, workdir=folder, extend=True, num_seeds=2)
    jaxrank.search(*small_data, workdir=folder, extend=True, num_experiments=3)
    trials = pd.read_csv(folder / "trials.csv")
    assert len(trials) == 2 * 5
    means = trials.groupby("experiment_name")["val_accuracy"].mean()
    first, _ = rounds_of(folder)
    assert first["accuracies"] == pytest.approx(means[first["names"]].tolist(), abs=1e-6)


def test_the_clock_ends_a_search_between_rounds(
    tmp_path: Path, small_data: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "w"
    jaxrank.search(
        *small_data, workdir=folder, **SMALL, strategy="random", round_size=2, time_budget=1e-3
    )
    (only,) = rounds_of(folder)
    assert len(only["names"]) == 2
    assert only["ended"] == rounds.OUT_OF_TIME

    def asked(*args: Any) -> None:
        raise AssertionError("a finished search proposes nothing")

    monkeypatch.setattr(rounds, "_propose", asked)
    assert jaxrank.search(*small_data, workdir=folder, resume=True).nothing_to_do


def test_a_round_of_skipped_experiments_takes_no_time(
    tmp_path: Path, small_data: SmallData
) -> None:
    options = SMALL | {"space": {"blocks": ["clip", "none"]}, "round_size": 1}
    jaxrank.search(*small_data, workdir=tmp_path / "w", **options)
    first, second = plan_of(tmp_path / "w")["rounds"]
    assert second["accuracies"] == [None]
    assert first["seconds"] > second["seconds"] == 0


def test_without_trackers_no_runs_are_made(
    tmp_path: Path, small_data: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*args: Any) -> None:
        raise AssertionError("runs of no tracker")

    monkeypatch.setattr(search, "make_runs", made)
    jaxrank.search(*small_data, workdir=tmp_path / "w", **SMALL, num_experiments=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "random"}, "--strategy needs a --space"),
        ({"num_experiments": 3}, "--num_experiments needs a --space"),
        ({"space": TRACED, "experiments": ["tiny_mlp"]}, "--space and --experiments are both"),
        ({"space": TRACED, "mode": "full"}, "--space and --mode are both given"),
        ({"space": TRACED, "overrides": {"weight_decay": 0.1}}, "--space.weight_decay and --conf"),
        (
            {"space": {"sampler": "random,distinct"}, "overrides": {"use_series_sampler": True}},
            "--space.sampler=random,distinct: use_series_sampler=true means sampler=balanced",
        ),
        (
            {"space": {"blocks": "all|clip,iqa"}, "overrides": {"use_clip": False}},
            "--space.blocks=.*use_clip=false takes a block out",
        ),
        ({"space": TRACED, "time_budget": 0.0}, "--time_budget=0 is not above 0"),
        ({"space": TRACED, "num_experiments": 0}, "--num_experiments=0: give a number from 1"),
        ({"space": {}}, "--space has no hyperparameter"),
        (
            {"space": TRACED, "optuna_journal": "nowhere/optuna.log"},
            "--optuna_journal=nowhere/optuna.log: not a file in an existing folder",
        ),
        ({"space": {"max_epochs": "1..9"}, "strategy": "grid"}, "--space.max_epochs is a range"),
        (
            {"space": {"dropout": "0..0.5:500", "margin": "1..2:500"}},
            "--space has more than 100,000 combinations; give its lists fewer values",
        ),
        (
            {"space": TRACED, "num_experiments": 60_000, "round_size": 2, "num_seeds": 2},
            "--space with --num_seeds=2: 120,004 trials .* a smaller --num_experiments",
        ),
        (
            {"space": {"mlp_hidden_dims": "8|99999,99999"}, "round_size": 1},
            r"'largest_of_space_2': one trial needs .* GiB \(mlp_hidden_dims=99999,99999, batch",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: dict[str, Any], message: str, small_data: SmallData, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        jaxrank.search(*small_data, workdir=tmp_path / "w", **options)
    assert not (tmp_path / "w").exists()


def test_a_journal_needs_optuna(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="Optuna is not installed: pip install"):
        jaxrank.search(*small_data, workdir=tmp_path / "w", **SMALL, optuna_journal=tmp_path / "j")
    assert not (tmp_path / "w").exists()


def test_a_journal_that_can_not_be_written_ends_no_search(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, journal = tmp_path / "w", tmp_path / "optuna.log"

    def full(*args: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(optuna_study, "write_journal", full)
        options = SMALL | {"num_experiments": 2, "optuna_journal": journal}
        jaxrank.search(*small_data, workdir=folder, **options)
    line = f"--optuna_journal={journal}: not written (the disk is full)"
    assert line in (folder / "training.log").read_text()
    # A finished search writes another one.
    other = tmp_path / "other.log"
    jaxrank.search(*small_data, workdir=folder, resume=True, optuna_journal=other)
    assert other.exists()
    assert not journal.exists()
    assert plan_of(folder)["launch"]["optuna_journal"] == str(other)
    assert jaxrank.search(*small_data, workdir=folder, resume=True).nothing_to_do


def test_flags_and_a_file_make_a_space(
    small_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, store = small_files
    file = tmp_path / "space.py"
    file.write_text("def get_space():\n    return {'dropout': [0, 0.3], 'margin': '1,2'}\n")
    words = ["search", f"--pairs={pairs}", f"--features={store}", f"--space={file}"]
    words += ["--space.margin=0.5,1,2", "--dry_run"]
    assert main(["jaxrank", *words]) == 0
    out = capsys.readouterr().out
    assert "8 trials in" in out  # 2 x 3 and the references
    assert main(["jaxrank", *words, "--space.droput=0,1"]) == 2
    assert (
        "--space.droput: not a hyperparameter of a space. Did you mean" in capsys.readouterr().err
    )
    assert main(["jaxrank", *words, "--mode=full"]) == 2
    assert "--space and --mode are both given" in capsys.readouterr().err
    assert main(["jaxrank", *words, "--config.dropout=0.1"]) == 2
    assert "--space.dropout and --config.dropout are both given" in capsys.readouterr().err
    file.write_text("def get_space():\n    return {}\n")
    assert main(["jaxrank", *words[:-2], "--dry_run"]) == 2
    assert "--space has no hyperparameter" in capsys.readouterr().err
