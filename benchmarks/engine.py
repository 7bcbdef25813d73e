"""A search on one device and on several, in turns, on the embedded (simulated) data.

    python benchmarks/engine.py --workers=1,2 --epochs=3 --rounds=3

Every search runs in a process of its own. Each number of workers has its own cache of compiled
programs, so the first round compiles and the others do not. `training` is from the first line of
the log that names the workers to the end of the last cohort. The tables must be the same.
"""

import argparse
import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ROOT = Path(__file__).parents[1]


class Run(NamedTuple):
    """Seconds of a search."""

    whole: float
    training: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="1,2", help="numbers of workers, comma separated")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--experiments", help="names, comma separated (default: the catalogue)")
    options = parser.parse_args()
    which = f"--experiments={options.experiments}" if options.experiments else "--mode=full"
    words = [which, f"--folds={options.folds}", f"--config.max_epochs={options.epochs}",
             f"--config.patience={options.epochs}", "--audit=off", "--final=sharpness"]  # fmt: skip
    runs: dict[int, list[Run]] = {int(number): [] for number in options.workers.split(",")}
    tables: list[pd.DataFrame] = []
    with tempfile.TemporaryDirectory() as folder:
        for place in range(options.rounds):
            for number, mine in runs.items():
                workdir = Path(folder) / f"{number}-{place}"
                mine.append(search(number, words, workdir, Path(folder) / f"cache-{number}"))
                tables.append(pd.read_csv(workdir / "trials.csv").drop(columns="duration_seconds"))
                print(f"round {place}, {number} workers: {mine[-1]}", flush=True)
                pd.testing.assert_frame_equal(tables[0], tables[-1], check_exact=True)
    first = next(iter(runs.values()))
    for number, mine in runs.items():
        warm = mine[1:] or mine
        ratios = [one.training / other.training for one, other in zip(first, mine, strict=True)]
        print(
            f"{number} workers: compiling {mine[0].training:.1f} s of training; compiled "
            f"{statistics.median(run.training for run in warm):.1f} s of training, "
            f"{statistics.median(run.whole for run in warm):.1f} s in all, "
            f"{statistics.median(run.cpu for run in warm):.1f} CPU seconds; first / this "
            + ", ".join(f"{ratio:.2f}" for ratio in ratios)
        )


def search(workers: int, words: list[str], workdir: Path, cache: Path) -> Run:
    command = [sys.executable, str(ROOT / "launch.py"), "search", "--quiet", *words]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    before, begun = os.times(), time.perf_counter()
    subprocess.run(
        [*command, f"--workers={workers}", f"--workdir={workdir}"], env=environment, check=True
    )
    whole, after = time.perf_counter() - begun, os.times()
    log = (workdir / "training.log").read_text().splitlines()
    (start,) = (when(line) for line in log if line.endswith((" worker", " workers")))
    end = max(when(line) for line in log if " s (predicted " in line)
    cpu = after.children_user - before.children_user
    return Run(whole, (end - start).total_seconds(), cpu)


def when(line: str) -> datetime.datetime:
    return datetime.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")


if __name__ == "__main__":
    main()
