"""Cost of a search besides its training, by number of trials; see docs/benchmarks.md.

    python benchmarks/growth.py                            # half an hour on two busy cores
    python benchmarks/growth.py --trials=20,100 --experiments=

Simulated data: 4,300 series with the four image-quality numbers, on which a tiny network trains
three epochs, in five folds with two seeds each. A second table has one split, one seed and one
epoch of many experiments. Each search runs in a process of its own, without the audit, and reads
its data from files, with the devices, the memory and the cache of compiled programs of the command.
Each search runs twice: "first" are its seconds with an empty cache, the other figures are those of
the second run. The training time counts the seconds in which at least one cohort was trained.
"""

import argparse
import functools
import json
import os
import pkgutil
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

FOLDS, SEEDS, EPOCHS = 5, 2, 3
# Timed functions: module and function, by the name of the column.
TIMED = {
    "training": ("jaxrank.train", "fit"),
    "finishing": ("jaxrank.runner.finishing", "Finisher._save"),
    "report": ("jaxrank.runner.search", "report_search"),
}
COLUMNS = "first wall cpu training finishing report peak_MB files MB".split()


def main() -> None:
    if sys.argv[1:2] == ["--data"]:
        write_data(Path(sys.argv[2]))
        return
    if sys.argv[1:2] == ["--child"]:
        run(Path(sys.argv[2]), Path(sys.argv[3]), **json.loads(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", default="20,100,1000,5000")
    parser.add_argument("--experiments", default="100,1000")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--data", folder], check=True)
        measure(given, Path(folder))


def measure(given: argparse.Namespace, data: Path) -> None:
    kinds: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
        ("trials", given.trials, FOLDS * SEEDS, {"folds": FOLDS, "num_seeds": SEEDS}),
        ("experiments of one epoch", given.experiments, 1, {"overrides": {"max_epochs": 1}}),
    )
    for title, numbers, each, options in kinds:
        print(f"\n| {title} | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}", flush=True)
        for number in map(int, filter(None, numbers.split(","))):
            asked = {"num_experiments": number // each, **options}
            with tempfile.TemporaryDirectory() as cache:
                first = child(data, cache, asked)["wall"]
                found = child(data, cache, asked) | {"first": first}
            cells = [f"{found[column]:,.1f}".removesuffix(".0") for column in COLUMNS]
            print(f"| {number:,} | {' | '.join(cells)} |", flush=True)


def write_data(folder: Path) -> None:
    """Simulates, in a process of its own, the data of all searches."""
    from jaxrank.data import feature_store, synthetic

    simulated = synthetic.simulate(0, 4_300)
    simulated.pairs.table.to_csv(folder / "pairs.csv", index=False)
    feature_store.write_block(folder / "store", "iqa", simulated.features["iqa"])


def child(data: Path, cache: str, options: dict[str, Any]) -> dict[str, Any]:
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", str(data), folder, json.dumps(options)]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        return json.loads(done.stdout) | {"files": len(files), "MB": size}


def run(data: Path, folder: Path, num_experiments: int, **options: Any) -> None:
    """Runs a search and prints its times as JSON."""
    from ml_collections import ConfigDict

    from jaxrank import devices, search
    from jaxrank.configs import default
    from jaxrank.io import memory
    from jaxrank.training import compilation_cache

    devices.split_cpu_into_devices()
    compilation_cache.keep_compiled_programs()
    memory.give_back_freed_arrays()
    config = default.get_config()
    shared = {"mlp_hidden_dims": "8", "batch_size": 256, "blocks": "iqa"}
    names = [f"e{number:04d}" for number in range(num_experiments)]
    for place, name in enumerate(names):
        config.experiments[name] = ConfigDict(shared | {"learning_rate": 1e-3 * 1.002**place})
    config.max_epochs = EPOCHS
    spans: dict[str, list[tuple[float, float]]] = {name: [] for name in TIMED}
    start, cpu = time.perf_counter(), time.process_time()
    with patched(spans):
        search(
            data / "pairs.csv",
            data / "store",
            workdir=folder / "search",
            config=config,
            experiments=names,
            audit="off",
            **options,
        )
    seconds = {name: covered(mine) for name, mine in spans.items()}
    seconds |= {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps(seconds | {"peak_MB": peak}))


def patched(spans: dict[str, list[tuple[float, float]]]) -> ExitStack:
    """Records when each timed function begins and ends."""
    lock, stack = threading.Lock(), ExitStack()

    def timed(function: Callable[..., Any], mine: list[tuple[float, float]]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                with lock:
                    mine.append((start, time.perf_counter()))

        return call

    for name, (module, function) in TIMED.items():
        original = pkgutil.resolve_name(f"{module}:{function}")
        stack.enter_context(mock.patch(f"{module}.{function}", timed(original, spans[name])))
    return stack


def covered(spans: list[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans was running."""
    seconds, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds


if __name__ == "__main__":
    main()
