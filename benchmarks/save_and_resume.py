"""What a save costs and what resuming costs, on the embedded (simulated) data; see docs/design.md.

    python benchmarks/save_and_resume.py

Every search runs in a process of its own and is ended after three epochs: once from the
beginning, once resumed from its checkpoint.
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
    """Searches until the first cohort has done three epochs more, saves, and prints the times."""
    from jaxrank.runner import search
    from jaxrank.training import checkpointing, state

    measured: dict[str, Any] = {"epochs": [], "restoring": 0.0}
    restore = checkpointing.Saver.restore

    def timed_restore(self: checkpointing.Saver, *arguments: Any) -> Any:
        start = time.perf_counter()
        progress = restore(self, *arguments)
        measured["restoring"] = time.perf_counter() - start
        return progress

    def after_epoch(self: checkpointing.Saver, number: int, progress: state.Progress) -> None:
        measured["epochs"].append(time.time() - launched)
        if len(measured["epochs"]) == EPOCHS:
            measured["bytes"] = checkpointing.num_bytes(progress)
            start = time.perf_counter()
            self.begin_save(number, progress)
            measured["blocking"] = time.perf_counter() - start
            self.close()
            measured["total"] = time.perf_counter() - start
            raise KeyboardInterrupt

    try:
        with (
            mock.patch.object(checkpointing.Saver, "restore", timed_restore),
            mock.patch.object(checkpointing.Saver, "save_if_due", after_epoch),
        ):
            search.search(workdir=workdir, resume=True, **options)
    except KeyboardInterrupt:
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
