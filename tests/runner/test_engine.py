"""Searches on several devices: the same bits on any number of them, devices that fail, one copy of
the features."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pandas as pd
import pytest
from searches import (
    NUM_TRIALS,
    OPTIONS,
    SLOW,
    SmallData,
    assert_same_search,
    search_on_one,
    words_of_search,
)
from small_data import ROOT

import jaxrank
from jaxrank import devices, train
from jaxrank.errors import UserError
from jaxrank.runner import scheduler
from jaxrank.runner import search as search_module
from jaxrank.runner.engines.interface import Job, WorkerJoined, WorkerLost
from jaxrank.runner.engines.local import LocalEngine
from jaxrank.training import jax_settings
from jaxrank.training.checkpointing import Saver


@pytest.fixture(scope="module")
def on_one(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    """A search on one device."""
    return search_on_one(tmp_path_factory.mktemp("one") / "w", small_data)


@pytest.mark.parametrize(
    ("first", "then", "by"),
    [
        (2, 1, signal.SIGTERM),
        pytest.param(4, 2, signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(8, 1, signal.SIGKILL, marks=pytest.mark.long),
        pytest.param(1, 4, signal.SIGKILL, marks=pytest.mark.long),
        pytest.param(2, 8, signal.SIGKILL, marks=pytest.mark.long),
    ],
)
def test_a_search_on_any_number_of_workers_has_the_same_bits(
    on_one: Path,
    small_files: tuple[Path, Path],
    tmp_path: Path,
    first: int,
    then: int,
    by: signal.Signals,
) -> None:
    """Begun on some devices, stopped or killed in the middle, and resumed on others."""
    pairs, store = small_files
    workdir = tmp_path / "w"
    words = words_of_search(pairs, store, tmp_path)
    command = [sys.executable, str(ROOT / "launch.py"), "search", f"--workdir={workdir}"]
    stop = (
        "import itertools, os, sys, threading\n"
        "from jaxrank import train\n"
        "from jaxrank.runner.finishing import Finisher\n"
        "save, fit = Finisher._save, train.fit\n"
        "saved, calls = threading.Event(), itertools.count()\n"
        "def stopping(self, number, *arguments):\n"
        "    save(self, number, *arguments)\n"
        f"    os.kill(os.getpid(), {int(by)})\n"
        "    saved.set()\n"
        "def waiting(*arguments, **keywords):\n"  # a busy machine may save after all are trained
        f"    if next(calls) >= {first}:\n"
        "        assert saved.wait(600)\n"
        "    return fit(*arguments, **keywords)\n"
        "Finisher._save, train.fit = stopping, waiting\n"
        "from jaxrank.cli import main\n"
        "sys.exit(main(['jaxrank', 'search', *sys.argv[1:]]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    begun = subprocess.run(
        [sys.executable, "-c", stop, f"--workdir={workdir}", f"--workers={first}", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if by == signal.SIGKILL:
        assert begun.returncode == -signal.SIGKILL, begun.stdout + begun.stderr
    else:
        assert begun.returncode == 128 + signal.SIGTERM, begun.stdout + begun.stderr
        assert f"{first} workers" in begun.stdout
    num_done = len(list((workdir / "checkpoints").glob("*.npz")))
    assert 0 < num_done < NUM_TRIALS
    resumed = subprocess.run(
        [*command, "--resume", f"--workers={then}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"{then} worker" in resumed.stdout
    assert_same_search(on_one, workdir)


SHARED = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
from small_data import TRIALS, cohorts_of, inputs_of, make_data
from jaxrank.data import splits
from jaxrank.data.dataset import align
dataset = align(*make_data())
parts = splits.split_pairs(dataset.table, folds=3)
inputs = inputs_of(cohorts_of(TRIALS, dataset, parts)[0], dataset, parts)
for device in jax.local_devices():
    for leaf, own in zip(inputs.on(device).data, inputs.data):
        assert leaf.devices() == {device}
        assert leaf.size == 0 or leaf.unsafe_buffer_pointer() == own.ctypes.data
"""


def test_the_devices_of_a_cpu_share_one_copy_of_the_features() -> None:
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    subprocess.run(
        [sys.executable, "-c", SHARED],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        timeout=600,
    )


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers, on one device."""
    monkeypatch.setattr(devices, "workers", lambda most=None: [jax.local_devices()[0]] * 2)


def fails_on_its_first(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has the device fail the first times that the trial of fold 1 of iqa_only is trained; returns
    the list of all trainings."""
    fit, trained = train.fit, list[str]()

    def failing(cohort: Any, *arguments: Any, **options: Any) -> Any:
        key = cohort.trials[0].key
        trained.append(f"{key[0]} {key[1]}")
        if key[:2] == ("iqa_only", 1) and trained.count("iqa_only 1") <= number:
            raise jax.errors.JaxRuntimeError("INTERNAL: the device is lost")
        return fit(cohort, *arguments, **options)

    monkeypatch.setattr(train, "fit", failing)
    return trained


def test_a_lost_device_costs_its_cohort_only_which_another_trains(
    on_one: Path,
    small_data: SmallData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    two_workers: None,
) -> None:
    trained = fails_on_its_first(1, monkeypatch)
    workdir = tmp_path / "w"
    jaxrank.search(*small_data, workdir=workdir, device_profile=vars(SLOW), **OPTIONS)
    assert trained.count("iqa_only 1") == 2
    assert len(trained) == NUM_TRIALS + 1 + trained.count("final")
    log = (workdir / "training.log").read_text()
    assert "INTERNAL: the device is lost" in log
    assert "is no longer used" in log
    assert_same_search(on_one, workdir)


def test_a_cohort_on_which_two_devices_fail_has_failed_with_the_reason(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_workers: None
) -> None:
    trained = fails_on_its_first(99, monkeypatch)
    workdir = tmp_path / "w"
    options = OPTIONS | {"device_profile": vars(SLOW)}
    trials = jaxrank.search(*small_data, workdir=workdir, **options).trials
    assert trained.count("iqa_only 1") == 2
    failed = trials[trials["status"] == "failed"]
    assert failed[["experiment_name", "fold"]].to_numpy().tolist() == [["iqa_only", 1]]
    assert "device failed twice (INTERNAL: the device is lost)" in failed["error"].iloc[0]
    monkeypatch.undo()
    again = jaxrank.search(*small_data, workdir=workdir, retry_failed=True).trials
    assert (again["status"] == "completed").all()


def test_more_workers_than_devices_are_reported(
    on_one: Path, small_data: SmallData, tmp_path: Path
) -> None:
    from jaxrank.runner.description import describe_workers

    assert describe_workers(None) == "1 worker"
    assert describe_workers(3).startswith("1 worker, not 3: JAX has no more devices")
    with pytest.raises(UserError, match="--workers=0: at least 1"):
        jaxrank.search(*small_data, workdir=tmp_path / "w", workers=0, **OPTIONS)


def test_several_jax_processes_are_refused_in_one_line(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax_settings.jax, "process_count", lambda: 4)
    with pytest.raises(UserError, match=r"4 processes .*--engine=ray") as refusal:
        jaxrank.search(*small_data, workdir=tmp_path / "w", **OPTIONS)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "w").exists()


def loses_its_worker(number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has the worker be lost, and come back, the first times that cohort 2 is started; returns the
    list of all starts."""
    starts: list[int] = []

    class Losing(LocalEngine):
        def start(self, worker: int, job: Job) -> None:
            starts.append(job.number)
            if job.number != 2 or starts.count(2) > number:
                super().start(worker, job)
                return
            self._events.put(WorkerLost(2, "its machine is gone"))
            there = self.workers[worker]
            assert there is not None
            self._events.put(WorkerJoined(worker, there))

    monkeypatch.setattr(search_module, "LocalEngine", Losing)
    return starts


def test_the_job_of_a_lost_worker_goes_to_another(
    on_one: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = loses_its_worker(4, monkeypatch)
    workdir = tmp_path / "w"
    jaxrank.search(*small_data, workdir=workdir, device_profile=vars(SLOW), **OPTIONS)
    assert starts.count(2) == 5
    assert len(starts) == NUM_TRIALS + 4
    assert_same_search(on_one, workdir)


def test_a_cohort_whose_worker_is_lost_again_and_again_has_failed_with_the_reason(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loses_its_worker(99, monkeypatch)
    options = OPTIONS | {"device_profile": vars(SLOW)}
    trials = jaxrank.search(*small_data, workdir=tmp_path / "w", **options).trials
    failed = trials[trials["status"] == "failed"]
    assert failed["error"].tolist() == [
        "its worker was lost 5 times (its machine is gone); --retry_failed trains it again"
    ]


# All trials of a shape at once, as on a GPU, and fewer as soon as some have stopped.
TOGETHER = dataclasses.replace(
    SLOW, flops_per_second=1e9, bytes_per_second=1e9, compile_seconds=1e-9, side_by_side=True
)
STOPPING = OPTIONS | {"overrides": OPTIONS["overrides"] | {"max_epochs": 12, "patience": 2}}


def test_a_search_side_by_side_is_compacted_resumed_and_extended(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compacted: list[int] = []
    compact = train._compact

    def counted(progress: Any, keep: Any) -> Any:
        compacted.append(len(keep))
        return compact(progress, keep)

    monkeypatch.setattr(train, "_compact", counted)
    options = STOPPING | {"device_profile": vars(TOGETHER)}
    whole = tmp_path / "whole"
    first = jaxrank.search(*small_data, workdir=whole, **options)
    assert compacted
    assert len(list((whole / "checkpoints").glob("*.npz"))) < NUM_TRIALS

    class Enough(Exception):
        pass

    handle = scheduler._Scheduler._handle

    def dying(self: Any, event: Any) -> None:
        handle(self, event)
        if getattr(event, "checkpoint", None) is not None:
            self.saver.wait()
            raise Enough

    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(scheduler._Scheduler, "_handle", dying)
        patch.setattr(Saver, "claim", lambda self, number, size: True)  # however fast it is
        with pytest.raises(Enough):
            jaxrank.search(*small_data, workdir=cut, **options)
    jaxrank.search(*small_data, workdir=cut, resume=True)
    assert_same_search(whole, cut)
    assert "resumes after epoch" in (cut / "training.log").read_text()

    wider = jaxrank.search(*small_data, workdir=cut, resume=True, extend=True, num_seeds=2)
    kept = wider.trials[wider.trials["seed"] == 0].reset_index(drop=True)
    columns = ["experiment_name", "fold", "val_accuracy", "test_accuracy", "epochs_run"]
    pd.testing.assert_frame_equal(kept[columns], first.trials[columns])
    assert len(wider.trials) == 2 * len(first.trials)


def test_trials_without_memory_side_by_side_are_tried_again(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = train.fit

    def no_memory(*arguments: Any, **keywords: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(train, "fit", no_memory)
    options = OPTIONS | {"device_profile": vars(TOGETHER), "final": "sharpness"}
    failed = jaxrank.search(*small_data, workdir=tmp_path / "w", **options)
    assert set(failed.trials["status"]) == {"failed"}
    monkeypatch.setattr(train, "fit", fit)
    again = jaxrank.search(*small_data, workdir=tmp_path / "w", resume=True, retry_failed=True)
    assert set(again.trials["status"]) == {"completed"}
