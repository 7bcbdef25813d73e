"""Time to save a checkpoint and to resume, on the embedded (simulated) data; see docs/design.md.

    python benchmarks/save_and_resume.py

Every search runs in a process of its own and is ended after three epochs: once from the beginning,
and once resumed from its checkpoint.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

CASES: dict[str, dict[str, Any]] = {
    "baseline, 1 trial": {"experiments": ["baseline"]},
    "simple_mlp, 10 trials": {"experiments": ["simple_mlp"], "folds": 5, "num_seeds": 2},
    "baseline, 10 trials": {"experiments": ["baseline"], "folds": 5, "num_seeds": 2},
}
EPOCHS = 3


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        run(float(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
        return
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, options in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            fresh, resumed = (child(Path(folder) / "w", options) for _ in range(2))
        epoch = fresh["epochs"][-1] - fresh["epochs"][-2]
        print(
            f"{name}: {fresh['bytes'] / 2**20:.0f} MiB of state, {epoch:.2f} s an epoch; "
            f"a save takes {fresh['blocking']:.2f} s of the training loop and {fresh['total']:.2f} "
            f"s until it is on disk, restoring {resumed['restoring']:.2f} s; from launch to the "
            f"first step {fresh['epochs'][0] - epoch:.1f} s, resumed "
            f"{resumed['epochs'][0] - epoch:.1f} s"
        )


def child(workdir: Path, options: dict[str, Any]) -> dict[str, Any]:
    words = [__file__, "--child", str(time.time()), str(workdir), json.dumps(options)]
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def run(launched: float, workdir: Path, options: dict[str, Any]) -> None:
    """Searches until the first cohort has done three more epochs, saves, and prints the times."""
    from jaxrank.runner import search
    from jaxrank.runner.engines import local
    from jaxrank.training import checkpoint, checkpointing, state

    measured: dict[str, Any] = {"epochs": [], "restoring": 0.0}
    restore = checkpointing.Saver.restore

    def timed_restore(self: checkpointing.Saver, *arguments: Any) -> Any:
        start = time.perf_counter()
        progress = restore(self, *arguments)
        measured["restoring"] = time.perf_counter() - start
        return progress

    def timed_pack(progress: state.Progress) -> checkpoint.Checkpoint:
        start = time.perf_counter()
        packed = checkpoint.pack(progress)
        measured["blocking"] = time.perf_counter() - start
        return packed

    def claim(self: checkpointing.Saver, number: int, size: int) -> bool:
        measured["epochs"].append(time.time() - launched)
        measured["bytes"] = size
        return len(measured["epochs"]) == EPOCHS

    def save(self: checkpointing.Saver, number: int, saved: checkpoint.Checkpoint) -> None:
        start = time.perf_counter()
        self.save(number, saved)
        measured["total"] = measured["blocking"] + time.perf_counter() - start
        raise KeyboardInterrupt

    try:
        with (
            mock.patch.object(local, "pack", timed_pack),
            mock.patch.object(checkpointing.Saver, "restore", timed_restore),
            mock.patch.object(checkpointing.Saver, "claim", claim),
            mock.patch.object(checkpointing.Saver, "begin_save", save),
        ):
            search.search(workdir=workdir, resume=True, **options)
    except KeyboardInterrupt:
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
