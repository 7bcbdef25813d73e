"""Speed of the full catalogue in five folds, on one and several devices, compared with PyTorch.

    python benchmarks/engine.py --before=CHECKOUT            # 40 minutes on two cores
    python benchmarks/engine.py --workers=1,2,4,8 --no_torch

The data are the embedded (simulated) ones. Prints the seconds of an epoch of the whole catalogue
in one fold:

  jaxrank  a `search`, from the start of its first cohort to the end of its last one, divided by
           folds and epochs. Includes loading of compiled programs, evaluation and writing.
  PyTorch  the peers of torch_peers.py on the pairs of one fold. Epochs only, without the first one
           and without setup, evaluation and files. If there are two processes with one thread, each
           trains the whole catalogue, and the time is half of the mean.

Every run is a process of its own, and the runs alternate. Each jaxrank has its own cache of
compiled programs; an extra round before the first fills the caches and is not counted. All numbers
of workers must give the same tables.
"""

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import speed

ROOT = Path(__file__).parents[1]
FOLDS = 5
TORCH_EPOCHS = 2
TORCH = {
    "DataLoader": ["dataset"],
    "DataLoader, fused AdamW": ["dataset", "--fused"],
    "tensors": ["memory"],
    "tensors, fused AdamW": ["memory", "--fused"],
    "tensors, fused, torch.compile": ["memory", "--fused", "--compile"],
}
COHORT_LINE = re.compile(r"^(.{23}) .* ([\d.]+) s \(predicted ([\d.]+) s")


class Run(NamedTuple):
    """Seconds of a search: in total, of its training, and of CPU time over all cores.

    `took_by_predicted` is the time of its cohorts divided by the plan's prediction.
    """

    whole: float
    training: float
    cpu: float
    took_by_predicted: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="1,2", help="numbers of workers, comma separated")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="checkout of an earlier version of jaxrank")
    parser.add_argument("--no_torch", action="store_true")
    given = parser.parse_args()
    print(speed.child("platform")["machine"], flush=True)
    searches = {
        f"jaxrank, {number} workers": (ROOT, [f"--workers={number}", "--final=sharpness"])
        for number in given.workers.split(",")
    }
    if given.before:
        searches["jaxrank before"] = (given.before.resolve(), [])
    seconds: dict[str, list[float]] = {}
    tables: list[pd.DataFrame] = []
    with tempfile.TemporaryDirectory() as folder:
        for place in range(given.rounds + 1):
            for name, (checkout, words) in searches.items():
                workdir = Path(folder, f"{name} {place}")
                run = search(checkout, words, given.epochs, workdir, Path(folder, name))
                print(f"round {place}, {name}: {run}", flush=True)
                if place:
                    seconds.setdefault(name, []).append(run.training / FOLDS / given.epochs)
                if checkout == ROOT:
                    table = pd.read_csv(workdir / "trials.csv").drop(columns="duration_seconds")
                    tables.append(table)
                    pd.testing.assert_frame_equal(tables[0], table, check_exact=True)
            if place and not given.no_torch:
                for name, took in torch_round(Path(folder)).items():
                    seconds.setdefault(name, []).append(took)
    report(seconds)


def search(checkout: Path, words: list[str], epochs: int, workdir: Path, cache: Path) -> Run:
    length = [f"--config.max_epochs={epochs}", f"--config.patience={epochs}"]
    launch = [sys.executable, str(checkout / "launch.py"), "search", "--quiet"]
    what = ["--mode=full", f"--folds={FOLDS}", "--audit=off", f"--workdir={workdir}"]
    command = [*launch, *what, *length, *words]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, env=environment, check=True, cwd=checkout)
    whole, after = time.perf_counter() - begun, os.times()
    starts, ends, predicted = [], [], 0.0
    for line in (workdir / "training.log").read_text().splitlines():
        if found := COHORT_LINE.match(line):
            end = datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
            starts.append(end - float(found[2]))
            ends.append(end)
            predicted += float(found[3])
    took = sum(ends) - sum(starts)
    cpu = after.children_user - before.children_user
    return Run(whole, max(ends) - min(starts), cpu, took / predicted)


def torch_round(folder: Path) -> dict[str, float]:
    """Runs every peer once as one process and once as two."""
    work, seconds = folder / "work.npz", {}
    if not work.exists():
        speed.write_work(work, folds=FOLDS)
    for name, words in TORCH.items():
        for processes in (1, 2):
            label = f"PyTorch, {name}, {processes} x {2 // processes} threads"
            seconds[label] = torch_epoch(words, work, processes)
            print(f"{label}: {seconds[label]:.2f} s", flush=True)
    return seconds


def torch_epoch(words: list[str], work: Path, processes: int) -> float:
    script = str(Path(__file__).with_name("torch_peers.py"))
    command = [sys.executable, script, words[0], str(work), *words[1:], f"--epochs={TORCH_EPOCHS}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(2 // processes)}
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    epochs = []
    for process in running:
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{command} failed")
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        epochs.append(sum(statistics.median(e["epoch_seconds"]) for e in lines[:-1]))
    return statistics.mean(epochs) / processes


def report(seconds: dict[str, list[float]]) -> None:
    ours = list(seconds.values())[sum(name.endswith("workers") for name in seconds) - 1]
    print(
        "\n| an epoch of the catalogue | seconds, median | times the last jaxrank |\n|---|---|---|"
    )
    for name, mine in seconds.items():
        ratios = [value / our for value, our in zip(mine, ours, strict=True)]
        print(
            f"| {name} | {statistics.median(mine):.2f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


if __name__ == "__main__":
    main()
