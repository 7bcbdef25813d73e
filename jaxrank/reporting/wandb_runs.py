"""Weights & Biases tracker (extra `wandb`): offline runs, which `wandb sync` can upload.

A separate process, `python -m jaxrank.reporting.wandb_runs`, writes the runs. Their files are
complete only after wandb's service has ended, and ending it in this process would end a notebook's
own runs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrank.reporting.trackers import Run

PROJECT = "jaxrank"
# The service starts within seconds. A run takes at most one second, several on a busy machine.
_SECONDS, _SECONDS_PER_RUN = 120.0, 10.0
_SECONDS_BETWEEN_LOOKS = 0.1
# Seconds between the first SIGTERM and SIGKILL.
_SECONDS_TO_END = 10.0


def write(folder: Path, runs: "Sequence[Run]", stop_signal: Callable[[], int | None]) -> None:
    """Writes an offline run for each run, replacing earlier ones of the same identity.

    Raises:
      InterruptedError: a signal ended the writing.
      RuntimeError: the writing process failed.
    """
    for run in runs:
        for earlier in folder.glob(f"offline-run-*-{run.identity}"):
            shutil.rmtree(earlier)
    with tempfile.TemporaryDirectory() as temporary:
        request = Path(temporary, "runs.json")
        request.write_text(json.dumps([run._asdict() for run in runs]))
        words = [sys.executable, "-m", __name__, str(request), str(folder.absolute().parent)]
        with (
            open(Path(temporary, "stderr"), "w+b") as errors,
            subprocess.Popen(
                words,
                env=_environment(temporary),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            ) as child,
        ):
            deadline = time.monotonic() + _SECONDS + _SECONDS_PER_RUN * len(runs)
            stopped = False
            while child.poll() is None:
                stopped = stopped or stop_signal() is not None
                if stopped:
                    deadline = min(deadline, time.monotonic())
                if time.monotonic() > deadline + _SECONDS_TO_END:
                    child.kill()
                elif time.monotonic() >= deadline:
                    child.terminate()
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            # Ctrl-C also reaches the child, which may end before this process looks again.
            if child.returncode and (stopped or stop_signal() is not None):
                raise InterruptedError("stopped by a signal")
            if child.returncode:
                errors.seek(0)
                lines = errors.read().decode(errors="replace").split("\n")
                last_line = next((line for line in reversed(lines) if line.strip()), "")
                raise RuntimeError(f"exit status {child.returncode} {last_line[:200]}".rstrip())
    for run in runs:  # links into the temporary folder, and logs for wandb's developers
        for logs in folder.glob(f"offline-run-*-{run.identity}/logs"):
            shutil.rmtree(logs)


def _environment(temporary: str) -> dict[str, str]:
    """Returns the process's environment without WANDB_* settings and without error reports."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    folders = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
    return kept | dict.fromkeys(folders, temporary) | {"WANDB_ERROR_REPORTING": "false"}


def _main(request: Path, root: str) -> None:
    """Writes the runs of a request file into the folder `wandb` below the root."""
    import wandb

    settings = wandb.Settings(
        mode="offline",
        root_dir=root,
        silent=True,
        console="off",
        symlink=False,
        disable_code=True,
        disable_git=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        x_service_wait=_SECONDS,
    )
    for run in json.loads(request.read_text()):
        _write_run(wandb, settings, run)
    wandb.teardown()  # completes the files


def _write_run(wandb: Any, settings: Any, run: dict[str, Any]) -> None:
    mine = wandb.init(
        project=PROJECT,
        group=run["group"],
        id=run["identity"],
        name=run["name"],
        config=run["hyperparameters"],
        settings=settings,
        reinit="create_new",
    )
    for epoch, values in enumerate(run["epochs"], start=1):
        mine.log({f"epoch/{name}": value for name, value in values.items()}, step=epoch)
    mine.summary.update({f"result/{name}": value for name, value in run["result"].items()})
    mine.finish(exit_code=0 if run["completed"] else 1)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
