"""Nothing is lost: searches that are killed, stopped, extended, retried, or refused."""

import errno
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from small_data import ROOT, make_data

import jaxrank
from jaxrank import baselines, train
from jaxrank.audit import checks
from jaxrank.cli import main
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import Stopped, UserError
from jaxrank.evaluation.evaluator import baseline_metrics, make_evaluator, trial_metrics
from jaxrank.io import atomic
from jaxrank.planning import planner
from jaxrank.runner import manifest, prepare, result_files, resume
from jaxrank.runner.background_audit import Auditor
from jaxrank.training import checkpointing
from jaxrank.training.checkpoint import Checkpoint, pack, unpack
from jaxrank.training.epoch import cohort_epochs
from jaxrank.training.state import Progress, TrainState

LAUNCH = ROOT / "launch.py"
SmallData = tuple[Preferences, dict[str, Block]]
# Every epoch is saved where the budget has room for it, so that kills find something to resume.
OPTIONS = [
    "--experiments=iqa_only",
    "--folds=3",
    "--num_seeds=2",
    "--config.batch_size=16",
    "--config.max_epochs=12",
    "--config.patience=12",
    "--config.learning_rate=3e-3",
]
# The references are the shortest: the longest cohorts are trained first.
SMALL: dict[str, Any] = {
    "experiments": ["tiny_mlp", "iqa_only"],
    "overrides": {
        "max_epochs": 3,
        "batch_size": 32,
        "learning_rate": 3e-3,
        **{
            f"{name}.{key}": value
            for name in ("linear", "shuffled")
            for key, value in {"max_epochs": 3, "batch_size": 64}.items()
        },
    },
    "folds": 3,
}


def tables_of(workdir: Path) -> list[pd.DataFrame]:
    return [
        pd.read_csv(workdir / name).drop(columns="duration_seconds")
        for name in ("summary.csv", "trials.csv")
    ]


def weights_of(workdir: Path) -> dict[str, list[np.ndarray]]:
    models = {path.parent.name: jaxrank.load_model(path) for path in workdir.glob("*/model")}
    return {
        name: [*map(np.asarray, jax.tree.leaves(m.weights.params)), *m.weights.scaling]
        for name, m in models.items()
    }


def assert_same_search(one: Path, other: Path) -> None:
    for first, second in zip(tables_of(one), tables_of(other), strict=True):
        pd.testing.assert_frame_equal(first, second, check_exact=True)
    first_weights, second_weights = weights_of(one), weights_of(other)
    assert first_weights.keys() == second_weights.keys()
    assert first_weights
    for name, leaves in first_weights.items():
        for first, second in zip(leaves, second_weights[name], strict=True):
            np.testing.assert_array_equal(first, second)
    predicted = sorted(one.glob("*/predictions.*"))
    assert predicted
    for path in predicted:
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def launch(*words: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(LAUNCH), "search", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def finish(*words: str) -> str:
    process = launch(*words)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    return out


def test_a_search_killed_at_random_moments_ends_as_if_it_had_not_been(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    """JAXRANK_KILLS says how often; `make test-long` says 100."""
    pairs, store = small_files
    words = [f"--pairs={pairs}", f"--features={store}", *OPTIONS]
    start = time.perf_counter()
    finish(*words, f"--workdir={tmp_path / 'whole'}")
    duration = time.perf_counter() - start
    seed = random.randrange(10**6)
    print(f"random.Random({seed}); the whole search took {duration:.1f} s")
    moments = random.Random(seed)
    killed = tmp_path / "killed"
    again = ["--save_budget=1", "--resume", f"--workdir={killed}"]
    kills = 0
    while kills < int(os.environ.get("JAXRANK_KILLS", "2")):
        # The search as it is typed, over and over: the first time it begins one.
        process = launch(*words, *again)
        try:
            out, _ = process.communicate(timeout=moments.uniform(0, duration))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, out
        assert_same_search(tmp_path / "whole", killed)
        shutil.rmtree(killed)  # it had finished between kills: the next one begins anew
    out = finish(*words, *again)
    assert_same_search(tmp_path / "whole", killed)
    assert not list(killed.rglob("*.tmp"))
    assert not [path for path in (killed / "checkpoints").iterdir() if path.is_dir()]


def stopped_by(number: int, words: list[str], when: Callable[[], bool]) -> tuple[int, str]:
    """Exit status and output of a search that gets a signal at a moment."""
    process = launch(*words)
    deadline = time.monotonic() + 600
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate()
    return process.returncode, out


def test_a_signal_finishes_the_epoch_saves_and_says_how_to_go_on(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs, store = small_files
    workdir = tmp_path / "a folder"
    words = [f"--pairs={pairs}", f"--features={store}", "--experiments=iqa_only"]
    words += ["--config.max_epochs=100000", "--config.patience=100000", "--save_budget=1"]
    checkpoint = workdir / "checkpoints" / "1"
    returned, out = stopped_by(signal.SIGTERM, [*words, f"--workdir={workdir}"], checkpoint.exists)
    assert returned == 143, out
    assert f"resume with: launch.py search --resume '--workdir={workdir}'" in out
    assert "Traceback" not in out
    last = max(int(path.name) for path in checkpoint.iterdir() if path.name.isdigit())
    assert f"stopped after epoch {last} of cohort 1" in out
    returned, out = stopped_by(
        signal.SIGINT, ["--resume", f"--workdir={workdir}"], lambda: has_resumed(workdir)
    )
    assert returned == 130, out
    assert f"cohort 1 resumes after epoch {last}" in out


def has_resumed(workdir: Path) -> bool:
    return "resumes after" in (workdir / "training.log").read_text()


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    """In the middle of what Python cannot interrupt, such as a compiled program."""
    code = (
        "import os, sys, time, threading\n"
        "from jaxrank.runner.signals import signals_caught\n"
        "with signals_caught() as came:\n"
        "    print('ready', flush=True)\n"
        "    while came() is None: time.sleep(0.01)\n"
        "    print('once', flush=True)\n"
        "    import hashlib; hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "once\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert "Ctrl-C now ends at once" in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_there_is_anything_to_save_ends_in_one_line(
    number: int, status: int
) -> None:
    """Also where an exception would be swallowed, as in a callback of the garbage collector."""
    code = (
        "import gc, os\n"
        "from jaxrank.runner.signals import signals_end_at_once\n"
        f"gc.callbacks.append(lambda phase, info: os.kill(os.getpid(), {int(number)}))\n"
        "with signals_end_at_once():\n"
        "    gc.collect()\n"
        "print('swallowed')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert (done.stdout, done.stderr) == ("", "\njaxrank: interrupted\n")


def run_until_signal(code: str, *words: str) -> tuple[int, str]:
    """Exit status and stderr of a command, run after some code, that sends itself SIGTERM."""
    code = f"import os, signal, sys, time\nfrom jaxrank.cli import main\n{code}"
    code += "sys.exit(main(['launch.py', *sys.argv[1:]]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


STOP = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60); os._exit(1)"


def test_a_signal_during_the_report_ends_at_once_and_loses_nothing(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    workdir = tmp_path / "w"
    words = ["search", f"--pairs={small_files[0]}", f"--features={small_files[1]}"]
    words += ["--experiments=iqa_only", "--config.max_epochs=2", f"--workdir={workdir}"]
    code = (
        "from jaxrank.runner import final_report\n"
        "def stop(report):\n"
        f"    {STOP}\n"
        "final_report.write_sections = stop\n"
    )
    status, err = run_until_signal(code, *words)
    assert status == 143
    resume_words = f"'search --resume --workdir={workdir}'"
    assert err == f"\njaxrank: interrupted, nothing is lost; resume with {resume_words}\n"
    saved = state_of(workdir / "checkpoints")
    assert not jaxrank.search(workdir=workdir, resume=True).nothing_to_do
    assert state_of(workdir / "checkpoints") == saved  # nothing was trained again


def test_a_signal_during_the_audit_ends_at_once(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    words = [f"--pairs={small_files[0]}", f"--features={small_files[1]}"]
    code = (
        "from jaxrank.audit import checks\n"
        "def stop(case, earlier):\n"
        f"    {STOP}\n"
        "checks.CHECKS['reference'] = stop\n"
    )
    for command in (["audit"], ["search", "--audit=refuse"]):
        status, err = run_until_signal(code, *command, *words, f"--workdir={tmp_path / 'w'}")
        assert (status, err) == (143, "\njaxrank: interrupted\n")


def test_a_search_goes_on_when_the_reader_of_its_output_has_gone(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    words = [f"--pairs={small_files[0]}", f"--features={small_files[1]}", "--config.max_epochs=1"]
    process = launch(*words, "--experiments=iqa_only", f"--workdir={tmp_path / 'w'}")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("data: ")
    process.stdout.close()
    assert process.wait() == 0
    assert (tmp_path / "w" / "results.json").is_file()


class Killed(BaseException):
    """As good as kill -9, for what runs in this process: nothing of ours catches it."""


def search_killed_after(epochs: int, small_data: SmallData, workdir: Path, **more: Any) -> None:
    """Runs a search that saves every epoch up to a number of them, all cohorts together."""
    count = 0

    def save(self: checkpointing.Saver, number: int, checkpoint: Checkpoint) -> None:
        nonlocal count
        self.save(number, checkpoint)
        count += 1
        if count == epochs:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpointing.Saver, "claim", lambda *_: True)
        patch.setattr(checkpointing.Saver, "begin_save", save)
        with pytest.raises(Killed):
            jaxrank.search(*small_data, workdir=workdir, **(SMALL | more))


@pytest.fixture(scope="module", autouse=True)
def an_epoch_a_dispatch() -> Iterator[None]:
    """So that a search can be killed after each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "_MOST_EPOCHS", 1)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    workdir = tmp_path_factory.mktemp("whole") / "w"
    return jaxrank.search(*small_data, workdir=workdir, **SMALL).workdir


@pytest.fixture(scope="module")
def killed_at_first(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    """Killed after the first epoch of cohort 1."""
    workdir = tmp_path_factory.mktemp("killed_at_first") / "w"
    search_killed_after(1, small_data, workdir)
    return workdir


@pytest.fixture(scope="module")
def killed_at_fifth(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    """Killed after the second epoch of cohort 2."""
    workdir = tmp_path_factory.mktemp("killed_at_fifth") / "w"
    search_killed_after(5, small_data, workdir)
    return workdir


def test_finished_trials_are_not_trained_again_and_the_running_cohort_goes_on(
    whole: Path,
    killed_at_fifth: Path,
    small_data: SmallData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workdir = shutil.copytree(killed_at_fifth, tmp_path / "w")
    trained: list[tuple[str, list[int]]] = []
    fit = train.fit

    def recorded(cohort: Any, *arguments: Any, **options: Any) -> Any:
        progress: list[int] = []
        on_dispatch = options["on_dispatch"]

        def recording(now: Progress) -> None:
            progress.append(len(now.history))
            on_dispatch(now)

        options["on_dispatch"] = recording
        fitted = fit(cohort, *arguments, **options)
        trained.append((cohort.trials[0].experiment.name, progress))
        return fitted

    monkeypatch.setattr(train, "fit", recorded)
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert trained[0] == ("shuffled", [3])
    rest = [(name, epochs[0]) for name, epochs in trained[1:]]
    assert rest == [("iqa_only", 1), ("linear", 1)]
    assert_same_search(whole, workdir)


def test_a_signal_while_files_are_written_leaves_the_rest_to_the_next_run(
    whole: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last cohort has been trained: nothing asks any more but who writes."""
    workdir = tmp_path / "w"
    write = result_files.write_experiment

    def stop(folder: Path, *arguments: Any) -> None:
        if folder.name == "shuffled":
            os.kill(os.getpid(), signal.SIGTERM)
        write(folder, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(result_files, "write_experiment", stop)
        with pytest.raises(Stopped):
            jaxrank.search(*small_data, workdir=workdir, catch_signals=True, **SMALL)
    assert not (workdir / "results.json").exists()
    monkeypatch.setattr(train, "fit", pytest.fail)
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert_same_search(whole, workdir)


def test_a_signal_while_training_waits_for_the_audit_saves_the_cohort(
    whole: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "w"
    with_caveat = Auditor.with_caveat

    def endless(*_: Any, check_cancelled: Callable[[], None], **__: Any) -> Any:
        while True:
            check_cancelled()
            time.sleep(0.01)

    def stop(self: Auditor, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return with_caveat(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checks, "audit", endless)
        patch.setattr(Auditor, "with_caveat", stop)
        with pytest.raises(Stopped):
            jaxrank.search(*small_data, workdir=workdir, catch_signals=True, **SMALL)
    saved = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert saved == {"1.npz", "2.npz", "3.npz", "4.npz"}  # training did not wait for the audit
    assert not list(workdir.glob("*/history.csv"))  # they have the audit's caveat
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert_same_search(whole, workdir)


@pytest.mark.parametrize("damage", ["half", "bit", "renamed", "both"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    whole: Path, killed_at_fifth: Path, small_data: SmallData, tmp_path: Path, damage: str
) -> None:
    workdir = shutil.copytree(killed_at_fifth, tmp_path / "w")
    folder = workdir / "checkpoints" / "2"
    assert {path.name for path in folder.iterdir()} == {"1", "2"}
    # An unfinished save, as a kill leaves it, is not even a candidate.
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    for epoch in ("2", "1") if damage == "both" else ("2",):
        arrays = [p for p in (folder / epoch).rglob("d/*") if p.stat().st_size > 1000]
        assert arrays
        if damage == "renamed":  # the checkpoint of another epoch
            shutil.rmtree(folder / "2")
            shutil.copytree(folder / "1", folder / "2")
            break
        for path in arrays:
            content = bytearray(path.read_bytes())
            if damage == "bit":
                content[len(content) // 2] ^= 1
            else:
                del content[len(content) // 2 :]
            path.write_bytes(content)
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    log = (workdir / "training.log").read_text()
    assert "checkpoint of epoch 2 of cohort 2 is damaged; skipped" in log
    assert ("cohort 2 resumes after epoch 1" in log) == (damage != "both")
    assert_same_search(whole, workdir)


def test_a_damaged_result_is_trained_again(
    whole: Path, killed_at_fifth: Path, small_data: SmallData, tmp_path: Path
) -> None:
    workdir = shutil.copytree(killed_at_fifth, tmp_path / "w")
    path = workdir / "checkpoints" / "1.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert_same_search(whole, workdir)


@pytest.mark.parametrize("of", ["cohort", "search"])
def test_results_of_other_trials_are_trained_again(
    whole: Path, small_data: SmallData, tmp_path: Path, of: str
) -> None:
    """Results of the same names, but of other hyperparameters, or of another cohort."""
    workdir = tmp_path / "w"
    shutil.copytree(whole, workdir)
    (workdir / "summary.csv").unlink()
    other = workdir / "checkpoints" / "2.npz"
    if of == "search":
        changes = {"experiments": ["tiny_mlp"], "overrides": {**SMALL["overrides"], "dropout": 0.5}}
        jaxrank.search(*small_data, workdir=tmp_path / "o", audit="off", **(SMALL | changes))
        other = tmp_path / "o" / "checkpoints" / "1.npz"
    shutil.copy(other, workdir / "checkpoints" / "1.npz")
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert (
        "1.npz can't be read (it has the results of other trials)"
        in (workdir / "training.log").read_text()
    )
    assert_same_search(whole, workdir)


def test_a_checkpoint_of_another_search_is_passed_over(
    whole: Path, killed_at_first: Path, small_data: SmallData, tmp_path: Path
) -> None:
    changes = {"overrides": {**SMALL["overrides"], "dropout": 0.5}}
    search_killed_after(2, small_data, tmp_path / "o", **changes)
    shutil.copytree(killed_at_first, tmp_path / "w")
    place = Path("checkpoints") / "1"
    shutil.rmtree(tmp_path / "w" / place)
    shutil.copytree(tmp_path / "o" / place, tmp_path / "w" / place)
    jaxrank.search(*small_data, workdir=tmp_path / "w", resume=True)
    assert "resumes after" not in (tmp_path / "w" / "training.log").read_text()
    assert_same_search(whole, tmp_path / "w")


def test_a_folder_that_was_half_written_is_written_again(
    whole: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the cohort's results were saved, before its experiment's folder was done."""
    workdir = tmp_path / "w"
    write_text = atomic.write_text

    def killed(path: Path, text: str) -> None:
        if path.name == "test_results.json":
            raise Killed
        write_text(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_text", killed)
        with pytest.raises(Killed):
            jaxrank.search(*small_data, workdir=workdir, **SMALL)
    shutil.rmtree(workdir / "tiny_mlp" / "model")
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert_same_search(whole, workdir)


def state_of(workdir: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and path.name != atomic.LOCK
    }


def test_resuming_a_finished_search_does_nothing(
    whole: Path,
    small_data: SmallData,
    small_files: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = state_of(whole)
    result = jaxrank.search(workdir=whole, resume=True)
    assert result.nothing_to_do
    result = jaxrank.search(*small_data, workdir=whole, resume=True, **SMALL)  # all options again
    assert result.nothing_to_do
    words = [f"--pairs={small_files[0]}", f"--features={small_files[1]}"]  # the same content
    assert main(["launch.py", "search", "--resume", f"--workdir={whole}", *words]) == 0
    out = capsys.readouterr().out
    assert "nothing to do" in out
    assert "iqa_only" in out
    assert state_of(whole) == before
    kinds = {"mlp_hidden_dims": str, "tied_for_best": "boolean"}
    written = pd.read_csv(whole / "summary.csv", dtype=kinds)
    pd.testing.assert_frame_equal(result.summary.replace("", None), written, check_dtype=False)


def test_tables_that_are_gone_are_written_again_without_training(
    whole: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "w"
    shutil.copytree(whole, workdir)
    monkeypatch.setattr(train, "fit", pytest.fail)
    for name in ("results.json", "summary.csv", "trials.csv"):
        (workdir / name).unlink()
        assert not jaxrank.search(*small_data, workdir=workdir, resume=True).nothing_to_do
        assert_same_search(whole, workdir)


def test_every_file_that_is_gone_is_written_again_to_the_same_bits(
    whole: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "w"
    shutil.copytree(whole, workdir)
    monkeypatch.setattr(train, "fit", pytest.fail)
    files = resume.list_files(workdir)
    kinds = {Path(name).name for name in files}
    assert kinds >= {
        "config.json", "environment.json", "splits.csv", "audit.json", "audit.txt", "errors.csv",
        "trials.csv", "summary.csv", "results.json", "leaderboard.txt", "leaderboard.png",
        "reliability.png", "comparisons.csv", "history.csv", "training_curves.png",
        "predictions.csv", "predictions.parquet", "test_results.json", "model.json", "photos.json",
    }  # fmt: skip
    before = {name: (workdir / name).read_bytes() for name in files}
    # One experiment's file: the others' are left alone.
    (workdir / "tiny_mlp" / "predictions.csv").unlink()
    other = (workdir / "iqa_only" / "history.csv").stat().st_mtime_ns
    assert not jaxrank.search(*small_data, workdir=workdir, resume=True).nothing_to_do
    log = (workdir / "training.log").read_text()
    assert "that are missing are written again: tiny_mlp/predictions.csv\n" in log
    assert (workdir / "iqa_only" / "history.csv").stat().st_mtime_ns == other
    assert jaxrank.search(*small_data, workdir=workdir, resume=True).nothing_to_do
    for name in resume.list_files(workdir):
        (workdir / name).unlink()
    jaxrank.search(*small_data, workdir=workdir, resume=True, audit="off")  # it was not off
    assert_same_search(whole, workdir)
    for name in files:  # weights are compared above, their files have other names
        # The seal has the names of the weights' files; the environment has the time.
        if "/params/" not in name and not name.endswith(("checksums.json", "environment.json")):
            assert (workdir / name).read_bytes() == before[name], name


def test_what_can_not_be_made_of_saved_results_is_trained_again(
    whole: Path, small_data: SmallData, tmp_path: Path
) -> None:
    workdir = tmp_path / "w"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "checkpoints")
    shutil.rmtree(workdir / "tiny_mlp")
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert_same_search(whole, workdir)


def test_a_search_whose_checkpoints_were_removed_can_be_extended(
    whole: Path, small_data: SmallData, tmp_path: Path
) -> None:
    """What was removed is trained again; until then the search is as finished as it was."""
    workdir = tmp_path / "w"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "checkpoints")
    assert jaxrank.search(*small_data, workdir=workdir, resume=True).nothing_to_do
    jaxrank.search(*small_data, workdir=workdir, retry_failed=True)
    assert_same_search(whole, workdir)


def test_inputs_may_move(whole: Path, small_data: SmallData, small_files: Any) -> None:
    pairs, store = small_files
    options = SMALL | {"experiments": ["iqa_only"]}
    workdir = pairs.parent / "w"
    jaxrank.search(pairs, store, workdir=workdir, **options)
    moved = pairs.rename(pairs.parent / "moved.csv")
    (workdir / "summary.csv").unlink()
    with pytest.raises(UserError, match=r"pairs\.csv: can't be read"):
        jaxrank.search(workdir=workdir, resume=True)
    jaxrank.search(moved, workdir=workdir, resume=True)
    (workdir / "summary.csv").unlink()
    jaxrank.search(workdir=workdir, resume=True)


def test_without_a_complete_plan_it_starts_afresh(
    whole: Path, small_data: SmallData, tmp_path: Path
) -> None:
    workdir = tmp_path / "w"
    workdir.mkdir()
    (workdir / atomic.LOCK).write_text("")
    (workdir / ".plan.json.tmp").write_text('{"half": ')
    jaxrank.search(*small_data, workdir=workdir, resume=True, **SMALL)
    assert_same_search(whole, workdir)


def test_resume_alone_takes_the_newest_search(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("search_20260101_000000", "search_20260301_000000", "search_20260201_000000"):
        shutil.copytree(whole, resume.OUTPUTS / name)
    (resume.OUTPUTS / "search_20260401_000000").mkdir()  # its plan was never written
    assert jaxrank.search(resume=True).workdir.name == "search_20260301_000000"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiments": ["tiny_mlp"]}, "has an experiment 'iqa_only', which this launch lacks"),
        (
            {"experiments": [*SMALL["experiments"], "low_lr"]},
            r"has no experiment 'low_lr' \(--extend adds it\)",
        ),
        ({"overrides": {"dropout": 0.1}}, "dropout of experiment 'tiny_mlp' is 0.3 there and 0.1"),
        ({"folds": 4}, "another split"),
        ({"split_seed": 1}, "another split"),
        ({"num_seeds": 2}, "has no fold 0 and seed 1 of"),
        ({"seed": 1}, "has fold 0 and seed 0 of '[a-z_]*', which this launch lacks"),
        ({"only_folds": [1]}, "has fold 0 and seed 0 of '[a-z_]*', which this launch lacks"),
        ({"only_folds": [3]}, "there is no fold 3"),
    ],
)
def test_another_launch_is_refused_and_leaves_the_search_as_it_is(
    whole: Path, small_data: SmallData, change: dict[str, Any], message: str
) -> None:
    before = state_of(whole)
    with pytest.raises(UserError, match=message):
        jaxrank.search(*small_data, workdir=whole, resume=True, **change)
    assert state_of(whole) == before


def test_other_data_are_refused(whole: Path, small_data: SmallData) -> None:
    pairs, store = small_data
    table = pairs.table.copy()
    table.loc[0, "preference"] = 1 - table.loc[0, "preference"]
    values = store["iqa"].values.copy()
    values[0, 0] += 1
    other = store | {"iqa": store["iqa"]._replace(values=values)}
    for data in ((table, store), (pairs, other)):
        with pytest.raises(UserError, match="pairs or features are not the same"):
            jaxrank.search(*data, workdir=whole, resume=True)
    with pytest.raises(UserError, match="pairs of this search were in memory"):
        jaxrank.search(workdir=whole, resume=True, num_seeds=2)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("versions", {"jax": "0.9.0"}, r"begun with jax 0.9.0, and this is .*install jax==0.9.0"),
        ("device", "TPU v9", "begun on 'TPU v9', and this is 'cpu: "),
        ("device", "cpu: another", "begun on 'cpu: another', and this is 'cpu: "),
        ("cohorts", None, "cohort 1 is planned differently"),
    ],
)
def test_another_version_device_or_plan_is_refused(
    killed_at_first: Path,
    small_data: SmallData,
    tmp_path: Path,
    field: str,
    value: Any,
    message: str,
) -> None:
    workdir = shutil.copytree(killed_at_first, tmp_path / "w")
    mine = manifest.read_manifest(workdir)
    assert mine is not None
    if field == "cohorts":
        first = mine.cohorts[0]
        value = [first._replace(program=first.program | {"num_batches": 77}), *mine.cohorts[1:]]
    manifest.write_manifest(workdir, mine._replace(**{field: value}))
    with pytest.raises(UserError, match=message):
        jaxrank.search(*small_data, workdir=workdir, resume=True)


def test_a_search_of_before_cpus_had_models_is_resumed(
    killed_at_first: Path, small_data: SmallData, tmp_path: Path
) -> None:
    workdir = shutil.copytree(killed_at_first, tmp_path / "w")
    mine = manifest.read_manifest(workdir)
    assert mine is not None
    assert mine.device.startswith("cpu: ")
    manifest.write_manifest(workdir, mine._replace(device="cpu"))
    assert not jaxrank.search(*small_data, workdir=workdir, resume=True).nothing_to_do


def test_a_record_changed_by_hand_is_refused(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / manifest.PLAN_JSON
    content = json.loads((whole / manifest.PLAN_JSON).read_text())
    content["search"]["device"] = "abacus"
    for text in (json.dumps(content), "", "{", "[]", "[" * 100_000, '{"format": 1}', "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(UserError, match="damaged, changed by hand"):
            jaxrank.search(workdir=tmp_path, resume=True)


def test_one_writer_at_a_time(
    whole: Path, small_data: SmallData, small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs, store = small_files
    workdir = tmp_path / "w"
    words = [f"--pairs={pairs}", f"--features={store}", "--config.max_epochs=2"]
    process = launch(*words, "--experiments=iqa_only", f"--workdir={workdir}")
    while not (workdir / manifest.PLAN_JSON).exists() and process.poll() is None:
        time.sleep(0.02)
    with pytest.raises(UserError, match=f"process {process.pid} on .* is writing there"):
        jaxrank.search(workdir=workdir, resume=True)
    process.kill()
    process.communicate()
    with pytest.raises(UserError, match=r"a search has been begun there; .*search --resume"):
        jaxrank.search(*small_data, workdir=workdir)
    assert not jaxrank.search(workdir=workdir, resume=True).nothing_to_do


def test_an_extension_adds_trials_and_touches_nothing_else(
    whole: Path, small_data: SmallData, tmp_path: Path
) -> None:
    workdir = tmp_path / "w"
    narrow = SMALL | {"experiments": ["iqa_only"], "only_folds": [0, 2]}
    jaxrank.search(*small_data, workdir=workdir, **narrow)
    old = {path.name: path.read_bytes() for path in (workdir / "checkpoints").iterdir()}
    # An experiment, by its name alone, and the fold that was left out; then a seed.
    jaxrank.search(
        *small_data, workdir=workdir, extend=True, experiments=["tiny_mlp"], only_folds=[]
    )
    for name, content in old.items():
        assert (workdir / "checkpoints" / name).read_bytes() == content
    first, second = (frame.sort_values("trial_id", ignore_index=True) for frame in (
        tables_of(workdir)[1], tables_of(whole)[1]))  # fmt: skip
    pd.testing.assert_frame_equal(first, second, rtol=1e-4)
    jaxrank.search(*small_data, workdir=workdir, extend=True, num_seeds=2)
    both = pd.read_csv(workdir / "trials.csv")
    assert len(both) == 4 * 3 * 2
    first_seed = both[both["seed"] == 0].drop(columns="duration_seconds")
    pd.testing.assert_frame_equal(first_seed.sort_values("trial_id", ignore_index=True), first)
    assert jaxrank.search(*small_data, workdir=workdir, extend=True).nothing_to_do


def test_an_extension_by_another_version_is_refused(
    whole: Path, small_data: SmallData, tmp_path: Path
) -> None:
    workdir = tmp_path / "w"
    shutil.copytree(whole, workdir)
    mine = manifest.read_manifest(workdir)
    assert mine is not None
    manifest.write_manifest(workdir, mine._replace(versions=mine.versions | {"flax": "0.1"}))
    with pytest.raises(UserError, match=r"begun with flax 0\.1"):
        jaxrank.search(*small_data, workdir=workdir, extend=True, num_seeds=2)
    assert jaxrank.search(*small_data, workdir=workdir, resume=True, **SMALL).nothing_to_do


def test_rules_are_compared_on_the_folds_that_are_trained(
    small_data: SmallData, tmp_path: Path
) -> None:
    options = SMALL | {"experiments": ["iqa_only"], "only_folds": [1]}
    summary = jaxrank.search(*small_data, workdir=tmp_path / "w", **options).summary
    ready = prepare.prepare(*small_data, **options)
    rows = summary.set_index("experiment_name")
    scores = baselines.heuristic_scores(ready.dataset)["sharpness"]
    evaluator = make_evaluator(ready.split_data)
    fold = [baseline_metrics(scores, evaluator, [k])["test_accuracy"] for k in range(3)]
    assert rows.loc["sharpness", "test_accuracy"] == pytest.approx(fold[1], rel=1e-6)
    assert fold[1] not in (fold[0], fold[2], np.mean(fold))


def test_a_checkpoint_holds_all_that_goes_on_and_is_counted(
    small_data: SmallData, tmp_path: Path
) -> None:
    ready = prepare.prepare(*small_data, **SMALL)
    cohort, saver = ready.cohorts[0], checkpointing.Saver(tmp_path, 1.0)
    tmp_path.joinpath(checkpointing.FOLDER).mkdir()

    def stop(progress: Progress) -> None:
        saver.save(1, pack(progress._replace(seconds=100.0)))
        raise Killed

    def restore(shapes: TrainState) -> Progress | None:
        checkpoint = saver.restore(1)
        assert checkpoint is not None
        return unpack(checkpoint, shapes)

    with pytest.raises(Killed):
        train.fit(cohort, ready.split_data, on_dispatch=stop)
    assert saver.account().startswith("saving took ")
    assert "1 checkpoints, results of 0 cohorts" in saver.account()
    assert 0 < saver.spent < 60
    fitted = train.fit(cohort, ready.split_data, restore=restore)
    whole = train.fit(cohort, ready.split_data)
    assert fitted.seconds > 100 > whole.seconds
    for one, other in zip(
        jax.tree.leaves(fitted._replace(seconds=0)),
        jax.tree.leaves(whole._replace(seconds=0)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    saver.close()


def test_of_equally_good_trials_the_first_of_the_tables_has_its_model_kept(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a retry, whose cohorts could have another order."""
    metrics = trial_metrics
    tied = {"val_accuracy": 0.5}
    monkeypatch.setattr(
        "jaxrank.evaluation.cohort_results.trial_metrics",
        lambda *a: [row | tied for row in metrics(*a)],
    )
    options = SMALL | {"experiments": ["iqa_only"]}
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", out_of_memory)
        jaxrank.search(*small_data, workdir=tmp_path / "w", **options)
        jaxrank.search(*small_data, workdir=tmp_path / "w", extend=True, num_seeds=2)
    jaxrank.search(*small_data, workdir=tmp_path / "w", retry_failed=True)
    model = jaxrank.load_model(tmp_path / "w" / "iqa_only" / "model")
    assert (model.card.fold, model.card.seeds) == (0, (0,))


def out_of_memory(*_: Any, **__: Any) -> Any:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def test_only_a_finished_search_is_extended(
    killed_at_first: Path, small_data: SmallData, tmp_path: Path
) -> None:
    workdir = shutil.copytree(killed_at_first, tmp_path / "w")
    with pytest.raises(UserError, match="finish it with --resume first"):
        jaxrank.search(*small_data, workdir=workdir, extend=True, num_seeds=2)
    with pytest.raises(UserError, match="there is no search to resume"):
        jaxrank.search(*small_data, workdir=tmp_path / "other", extend=True)


def out_of_memory_above(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises what JAX raises on a device that holds no more than so many trials."""
    compiled_epochs: Any = cohort_epochs

    def small_device(static: Any, data: Any, arrays: Any, state: Any, rows: Any) -> Any:
        if len(rows) > limit:
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory allocating 4398046511104 bytes."
            )
        return compiled_epochs(static, data, arrays, state, rows)

    set_epochs(small_device, monkeypatch)


def set_epochs(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains by a function of ours; what is compiled ahead remains."""
    function.lower = cohort_epochs.lower
    monkeypatch.setattr(train, "cohort_epochs", function)


def test_a_cohort_that_does_not_fit_is_halved_until_it_does(
    whole: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "w"
    out_of_memory_above(1, monkeypatch)
    search_killed_after(4, small_data, workdir)  # in the midst of the halves
    halves = state_of(workdir / "checkpoints")
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    done = state_of(workdir / "checkpoints")
    finished = {path: state for path, state in halves.items() if path.endswith(".npz")}
    assert finished
    assert finished.items() <= done.items()  # not trained again
    assert "does not fit in memory and is halved" in (workdir / "training.log").read_text()
    for first, second in zip(tables_of(workdir), tables_of(whole), strict=True):
        pd.testing.assert_frame_equal(first, second, rtol=1e-4)


def test_halves_have_no_free_slots_and_a_single_trial_loses_its_own(small_data: SmallData) -> None:
    ready = prepare.prepare(*small_data, **SMALL)
    record, cohort = manifest.new_manifest(ready), ready.cohorts[0]
    known = {planned.number for planned in record.cohorts}
    for trials, sizes in ((cohort.trials[:3], [1, 2]), (cohort.trials[:1], [1])):
        full = cohort.with_trials(trials)._replace(num_slots=7)
        changed = record.with_halves(record.cohorts[0].number, full)
        added = [planned for planned in changed.cohorts if planned.number not in known]
        assert [len(planned.trials) for planned in added] == sizes
        assert [planned.num_slots for planned in added] == sizes


def test_a_full_host_is_told_at_once_and_halves_nothing(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_host(*_: Any, **__: Any) -> Any:
        raise MemoryError  # NumPy's

    workdir = tmp_path / "w"
    monkeypatch.setattr(train, "fit", full_host)
    with pytest.raises(
        UserError, match=r"not enough host memory.*: host memory less than 1 MiB"
    ) as error:
        jaxrank.search(*small_data, workdir=workdir, **SMALL)
    assert "\n" not in str(error.value)
    assert "halved" not in (workdir / "training.log").read_text()


def test_a_trial_that_does_not_fit_fails_alone_and_can_be_retried(
    whole: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "w"
    fit = train.fit

    def no_room_for_iqa_only(cohort: Any, *arguments: Any, **options: Any) -> Any:
        if cohort.program_key.mlp_hidden_dims == (32,):
            return out_of_memory()
        return fit(cohort, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", no_room_for_iqa_only)
        summary = jaxrank.search(*small_data, workdir=workdir, **SMALL).summary
    rows = summary.set_index("experiment_name")
    assert rows.loc["iqa_only", "status"] == "failed"
    assert "3 of 3 trials failed: does not fit in memory" in rows.loc["iqa_only", "error"]
    expected = tables_of(whole)[0].set_index("experiment_name")
    for name in ("tiny_mlp", "linear"):
        assert rows.loc[name, "val_accuracy"] == expected.loc[name, "val_accuracy"]
    assert not (workdir / "iqa_only" / "model").exists()

    old = (workdir / "tiny_mlp" / "history.csv").stat().st_mtime_ns
    trained: list[tuple[str, int, int]] = []

    def recorded(cohort: Any, *arguments: Any, **options: Any) -> Any:
        trained.extend(trial.key for trial in cohort.trials)
        return fit(cohort, *arguments, **options)

    monkeypatch.setattr(train, "fit", recorded)
    assert jaxrank.search(*small_data, workdir=workdir, resume=True).nothing_to_do
    jaxrank.search(*small_data, workdir=workdir, retry_failed=True)
    assert trained == [("iqa_only", fold, 0) for fold in range(3)]
    assert (workdir / "tiny_mlp" / "history.csv").stat().st_mtime_ns == old
    assert_same_search(whole, workdir)
    assert jaxrank.search(*small_data, workdir=workdir, retry_failed=True).nothing_to_do


def test_an_error_of_ours_in_training_ends_the_search(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("a bug")

    set_epochs(broken, monkeypatch)
    with pytest.raises(ValueError, match="a bug"):
        jaxrank.search(*small_data, workdir=tmp_path / "w", **SMALL)


def search_on_a_full_disk(
    disk: Path, small_data: SmallData, fill: Callable[[], None], empty: Callable[[], None]
) -> str:
    """Fills the disk before the third save; returns the error after checking that nothing is
    lost."""
    workdir = disk / "w"
    count = 0

    def save(self: checkpointing.Saver, number: int, checkpoint: Checkpoint) -> None:
        nonlocal count
        count += 1
        if count == 3:
            fill()
        self.save(number, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpointing.Saver, "claim", lambda *_: True)
        patch.setattr(checkpointing.Saver, "begin_save", save)
        with pytest.raises(UserError) as caught:
            # With several workers the third save may be another cohort's.
            jaxrank.search(*small_data, workdir=workdir, workers=1, **SMALL)
    assert "\n" not in str(caught.value)
    assert f"resume it with --resume --workdir={workdir}" in str(caught.value)
    empty()
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert "cohort 1 resumes after epoch 2" in (workdir / "training.log").read_text()
    tables = tables_of(workdir)
    shutil.rmtree(workdir)
    jaxrank.search(*small_data, workdir=workdir, **SMALL)
    for first, second in zip(tables, tables_of(workdir), strict=True):
        pd.testing.assert_frame_equal(first, second, check_exact=True)
    return str(caught.value)


def on_a_small_file_system(disk: Path) -> None:
    """Runs in a process of its own, see below."""
    filler = disk / "filler"

    def fill() -> None:
        with open(filler, "wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "_MOST_EPOCHS", 1)
        print(search_on_a_full_disk(disk, make_data(), fill, filler.unlink))


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A file system of a few MB, mounted where only this test's process sees it."""
    mount = f"mount -t tmpfs -o size=6m tmpfs {shlex.quote(str(tmp_path))}"
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    allowed = shutil.which("unshare") and not subprocess.run(
        [*own_mounts, mount], capture_output=True, check=False
    ).returncode  # fmt: skip
    if not allowed:
        pytest.skip("this machine does not let a user mount a small file system")
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'tests')!r}, {str(ROOT / 'tests' / 'runner')!r}];"
        "import pathlib, test_resume;"
        f"test_resume.on_a_small_file_system(pathlib.Path({str(tmp_path)!r}))"
    )
    command = f"{mount} && exec {shlex.join([sys.executable, '-W', 'error', '-c', code])}"
    done = subprocess.run(
        [*own_mounts, command], capture_output=True, text=True, cwd=ROOT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No space left on device" in done.stdout


def test_a_disk_that_refuses_large_files_loses_nothing(
    tmp_path: Path, small_data: SmallData
) -> None:
    """Works everywhere: the system refuses files above a size, in the middle of writing them."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    messages = search_on_a_full_disk(
        tmp_path,
        small_data,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1])),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
    )
    assert "File too large" in messages


def test_a_disk_too_full_for_a_model_loses_nothing(
    whole: Path, small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "w"

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match=r"safetensors: can't be written \(No space left on"):
            jaxrank.search(*small_data, workdir=workdir, **SMALL)
    jaxrank.search(*small_data, workdir=workdir, resume=True)
    assert_same_search(whole, workdir)


def test_saving_keeps_to_its_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: epochs of a second, saves of half a second, on a clock that we move."""
    now = 0.0
    monkeypatch.setattr(checkpointing.time, "perf_counter", lambda: now)
    checkpoint = Checkpoint(1, np.zeros(4000, np.uint8))
    spent = {}
    for budget in (0.0, 0.05, 0.5):
        now = 0.0
        saver = checkpointing.Saver(tmp_path, budget)

        def save(number: int, saved: Checkpoint, saver: checkpointing.Saver = saver) -> None:
            nonlocal now
            del number
            now += 0.5
            saver._saves.append(0.5)
            saver._last_save = 0.5, saved.packed.nbytes

        monkeypatch.setattr(saver, "_save", save)
        for _ in range(1000):
            now += 1.0
            if saver.claim(1, checkpoint.packed.nbytes):
                assert not saver.claim(2, checkpoint.packed.nbytes)
                saver.begin_save(1, checkpoint)
                saver.wait()
            assert saver.spent <= budget * now
        spent[budget] = saver.spent / now
        saver.close()
    assert spent[0.0] == 0
    assert 0.045 < spent[0.05] <= 0.05
    assert 0.3 < spent[0.5] <= 0.5  # a save an epoch
