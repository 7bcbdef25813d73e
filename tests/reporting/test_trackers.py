"""Trackers: what they were given is read back; none is given a trial twice, or stops a search."""

import importlib
import importlib.util
import json
import logging
import shutil
import struct
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import jaxrank
from jaxrank.cli import main
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.evaluation.trial_results import HISTORY_METRICS
from jaxrank.reporting import trackers, wandb_runs
from jaxrank.reporting.trackers import Run, record_runs

SmallData = tuple[Preferences, dict[str, Block]]
INSTALLED = [name for name in trackers.TRACKERS if importlib.util.find_spec(name)]
OPTIONS: dict[str, Any] = {
    "space": {"learning_rate": "1e-4..1e-1:log"},
    "strategy": "random",
    "num_experiments": 2,
    "round_size": 1,
    "overrides": {"max_epochs": 2, "batch_size": 32, "mlp_hidden_dims": "8,4"},
    "audit": "off",
}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    folder = tmp_path_factory.mktemp("trackers") / "w"
    jaxrank.search(*small_data, workdir=folder, track=",".join(INSTALLED), **OPTIONS)
    return folder


def trials_of(folder: Path) -> list[dict[str, Any]]:
    return pd.read_csv(folder / "trials.csv").to_dict("records")


def history_of(folder: Path, trial: dict[str, Any]) -> pd.DataFrame:
    history = pd.read_csv(folder / trial["experiment_name"] / "history.csv")
    mine = (history["fold"] == trial["fold"]) & (history["seed"] == trial["seed"])
    return history[mine].reset_index(drop=True)


def learning_rates(folder: Path) -> dict[str, float]:
    experiments = json.loads((folder / "plan.json").read_text())["search"]["experiments"]
    return {e["name"]: e["learning_rate"] for e in experiments}


def files_of(folder: Path) -> dict[str, int]:
    """The files of trackers, with their times of change."""
    paths = [path for path in (folder / trackers.FOLDER).rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in paths}


def test_tensorboard_has_every_trial(tracked: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    folder = tracked / trackers.FOLDER / "tensorboard"
    trials = trials_of(tracked)
    assert len(trials) > 2
    assert len(list(folder.rglob("*tfevents*"))) == len(trials)
    for trial in trials:
        name = f"{trial['experiment_name']}/fold{trial['fold']}-seed{trial['seed']}"
        events = EventAccumulator(str(folder / name)).Reload()
        history = history_of(tracked, trial)
        assert len(history) == trial["epochs_run"]
        for column in HISTORY_METRICS:
            scalars = events.Scalars(f"epoch/{column}")
            assert [s.step for s in scalars] == history["epoch"].tolist()
            assert [s.value for s in scalars] == pytest.approx(history[column].tolist(), rel=1e-6)
        (accuracy,) = events.Scalars("result/test_accuracy")
        assert accuracy.value == pytest.approx(trial["test_accuracy"], rel=1e-6)
        assert accuracy.step == trial["best_epoch"]
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        begin = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
        rate = learning_rates(tracked)[trial["experiment_name"]]
        assert begin.hparams["learning_rate"].number_value == pytest.approx(rate)
        assert begin.hparams["seed"].number_value == trial["seed"]
        if trial["experiment_name"].startswith("e0"):
            assert begin.hparams["mlp_hidden_dims"].string_value == "8,4"
        content = events.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
        end = plugin_data_pb2.HParamsPluginData.FromString(content).session_end_info
        assert end.status == api_pb2.STATUS_SUCCESS


def wandb_records(path: Path) -> list[Any]:
    """The records of an offline run: a log in LevelDB's format, of blocks of 32 KiB."""
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data, place, records, parts = path.read_bytes(), 7, [], b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(messages.Record.FromString(parts))
            parts = b""
    assert place == len(data)
    return records


def wandb_content(folder: Path) -> dict[str, Any]:
    """What an offline run has."""
    (path,) = folder.glob("*.wandb")
    found: dict[str, Any] = {"history": [], "config": {}, "summary": {}}
    for record in wandb_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"id": record.run.run_id, "name": record.run.display_name}
            found["project"], found["group"] = record.run.project, record.run.run_group
            updates = record.run.config.update
            found["config"] |= {u.key: json.loads(u.value_json) for u in updates if u.key}
        elif kind == "history":
            items = record.history.item
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            found["history"].append(row)
        elif kind == "summary":
            for item in record.summary.update:
                key = item.key or "/".join(item.nested_key)
                found["summary"][key] = json.loads(item.value_json)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


def test_wandb_has_every_trial(tracked: Path) -> None:
    pytest.importorskip("wandb", reason="needs pip install 'jaxrank[wandb]'")
    folders = sorted((tracked / trackers.FOLDER / "wandb").glob("offline-run-*"))
    runs = {run["name"]: run for run in map(wandb_content, folders)}
    trials = trials_of(tracked)
    assert len(folders) == len(runs) == len(trials)
    assert not any(path.is_symlink() for path in (tracked / trackers.FOLDER).rglob("*"))
    for trial in trials:
        run = runs[f"{trial['experiment_name']}/fold{trial['fold']}-seed{trial['seed']}"]
        assert (run["project"], run["group"], run["exit"]) == ("jaxrank", tracked.name, 0)
        history = history_of(tracked, trial)
        assert [row["_step"] for row in run["history"]] == history["epoch"].tolist()
        for column in HISTORY_METRICS:
            values = [row[f"epoch/{column}"] for row in run["history"]]
            assert values == pytest.approx(history[column].tolist(), rel=1e-6)
        assert run["summary"]["result/test_accuracy"] == pytest.approx(trial["test_accuracy"])
        assert run["summary"]["result/trial_id"] == trial["trial_id"]
        rate = learning_rates(tracked)[trial["experiment_name"]]
        assert run["config"]["learning_rate"] == pytest.approx(rate)
        assert run["config"]["seed"] == trial["seed"]


def test_a_trial_is_written_once(tracked: Path, tmp_path: Path, small_data: SmallData) -> None:
    """In a search that is extended, also where a tracker's index is lost."""
    folder = tmp_path / "w"
    shutil.copytree(tracked, folder)
    (folder / trackers.FOLDER / "tensorboard" / ".written.json").write_text("damaged")
    before = files_of(folder)
    jaxrank.search(*small_data, workdir=folder, extend=True, num_experiments=3)
    after = files_of(folder)
    number = len(trials_of(folder))
    if "wandb" in INSTALLED:
        old = {name: changed for name, changed in before.items() if name.endswith(".wandb")}
        new = {name: changed for name, changed in after.items() if name.endswith(".wandb")}
        assert old.items() < new.items()
        assert len(new) == len(old) + 1 == number
    # Without the index all are written again, each in the place of the earlier one.
    events = {name for name in after if "tfevents" in name}
    assert len(events) == number
    assert not events & before.keys()

    # What a tracker has is no part of the search: nothing is to be done where it was removed.
    shutil.rmtree(folder / trackers.FOLDER)
    assert jaxrank.search(*small_data, workdir=folder, resume=True).nothing_to_do


def make_run(**changes: Any) -> Run:
    result: dict[str, float | str] = {"test_accuracy": 0.5, "duration_seconds": 1.0}
    run = Run(
        "0123456789abcdef", "e/fold0-seed0", "w", {"seed": 0}, [{"val_loss": 1}], True, result
    )
    return run._replace(**changes)


def test_a_run_that_changed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a failed trial that was trained again; the time that it took is no change."""
    written: list[Run] = []
    monkeypatch.setitem(trackers.TRACKERS, "made", lambda folder, runs, stop: written.extend(runs))
    first = make_run(completed=False)
    slower = first._replace(result={**first.result, "duration_seconds": 2.0})
    changed = make_run()
    for run in (first, slower, changed, changed):
        record_runs(tmp_path, ["made"], [run], lambda: None)
    assert written == [first, changed]


def test_a_signal_leaves_runs_for_the_next_time(tmp_path: Path) -> None:
    asked: list[None] = []

    def stop_signal() -> int | None:
        asked.append(None)
        return 15 if len(asked) == 3 else None

    runs = [make_run(), make_run(identity="f" * 16, name="f/fold0-seed0")]
    pytest.importorskip("tensorboard")
    record_runs(tmp_path, ["tensorboard"], runs, stop_signal)
    folder = tmp_path / trackers.FOLDER / "tensorboard"
    assert {path.name for path in folder.iterdir()} == {"e"}
    record_runs(tmp_path, ["tensorboard"], runs, lambda: None)
    assert len(list(folder.rglob("*tfevents*"))) == 2


def test_a_signal_ends_the_process_that_writes(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError, match="stopped by a signal"):
        wandb_runs.write(tmp_path, [make_run()], lambda: 2)


def test_a_stop_is_no_failure_of_a_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stopped(*args: Any) -> None:
        raise InterruptedError("stopped by a signal")

    monkeypatch.setitem(trackers.TRACKERS, "made", stopped)
    with caplog.at_level(logging.WARNING, "jaxrank"):
        record_runs(tmp_path, ["made"], [make_run()], lambda: None)
    assert caplog.messages == []
    assert not (tmp_path / trackers.FOLDER / "made" / ".written.json").exists()


def test_a_tracker_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setitem(trackers.TRACKERS, "made", fails)
    with caplog.at_level(logging.WARNING, "jaxrank"):
        record_runs(tmp_path, ["made"], [make_run()], lambda: None)
    assert caplog.messages == ["--track=made: not written (ValueError: no such thing)"]
    assert not (tmp_path / trackers.FOLDER / "made" / ".written.json").exists()


def test_what_is_missing_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "wandb" else find_spec(name, *rest),
    )
    folder = tmp_path / "w"
    assert main(["jaxrank", "search", f"--workdir={folder}", "--track=wandb"]) == 2
    message = capsys.readouterr().err.strip()
    assert message.endswith("--track=wandb needs a package: pip install 'jaxrank[wandb]'")
    assert "\n" not in message
    assert not folder.exists()
    with pytest.raises(UserError, match=r"--track=wndb: unknown\. Did you mean 'wandb'\?"):
        trackers.chosen_trackers("wndb")
    assert trackers.chosen_trackers("") == []
