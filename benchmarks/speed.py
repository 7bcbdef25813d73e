"""Speed of jaxrank, compared with PyTorch and the machine's limits: `make bench`.

    python benchmarks/speed.py --rounds=3             # all parts, 35 minutes on two cores
    python benchmarks/speed.py --rounds=1 --only=epoch

Every measurement runs in a process of its own, and the peers alternate, so that a busy minute of
the machine affects all of them. The data are the embedded (simulated) ones, of the real set's size.
The work is the full catalogue without the references. Nothing else should run meanwhile: PyTorch's
threads suffer most from other processes, which would favour jaxrank in the ratios.

  epoch    an epoch of the full catalogue, validation included: PyTorch with Dataset, DataLoader and
           a series batch sampler (a) and with tensors in memory (b), jaxrank one trial at a
           time (d) and in cohorts (e); compared with the roofline of this machine.
  shapes   eight trials of equal shape: PyTorch with torch.func and vmap (c) and jaxrank.
  start    from launch to the first dispatch and its end, with an empty and a full cache.
  search   'search --mode=full' of 30 epochs without early stopping, to the last file, compared
           with as many epochs of (a) and (b).
"""

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

EPOCHS = 3  # timed, after one untimed epoch
SEARCH_EPOCHS = 30
PEERS = {
    "a  PyTorch, DataLoader": ["torch", "dataset"],
    "a' the same, fused AdamW": ["torch", "dataset", "--fused"],
    "b  PyTorch, tensors in memory": ["torch", "memory"],
    "b' the same, fused AdamW": ["torch", "memory", "--fused"],
    "d  jaxrank, one trial at a time": ["jaxrank", "alone"],
    "e  jaxrank": ["jaxrank", "together"],
}
SHAPES = ("simple_mlp", "baseline")
SIDE_BY_SIDE = 8


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        CHILDREN[sys.argv[2]](*sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["epoch", "shapes", "start", "search"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = {"epoch": epoch, "shapes": shapes, "start": start, "search": search}
        print(machine())
        for name, part in parts.items():
            if given.only in (None, name):
                part(Path(folder), given.rounds)


def machine() -> str:
    import jax

    versions = f"Python {platform.python_version()}, jax {jax.__version__}"
    devices = ", ".join(sorted({d.device_kind for d in jax.local_devices()}))
    return f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {devices}, {versions}"


def epoch(folder: Path, rounds: int) -> None:
    work = folder / "work.npz"
    write_work(work)
    seconds: dict[str, list[float]] = {name: [] for name in PEERS}
    last: dict[str, dict[str, Any]] = {}
    limits = []
    for _ in range(rounds):
        limits.append(child("peaks"))
        for name, (kind, *words) in PEERS.items():
            last[name] = run_torch(words, work) if kind == "torch" else child("epochs", *words)
            seconds[name].append(sum(last[name]["epochs"].values()))
    ours = seconds["e  jaxrank"]
    print("\nan epoch of the full catalogue: seconds (median of rounds), times jaxrank's")
    for name, values in seconds.items():
        ratios = [value / our for value, our in zip(values, ours, strict=True)]
        rss = last[name]["max_rss_bytes"] / 2**30
        print(
            f"  {name:34} {statistics.median(values):7.2f} s  {statistics.median(ratios):5.2f} x  "
            f"({min(ratios):.2f} to {max(ratios):.2f})  peak memory {rss:.2f} GiB"
        )
    mine = last["e  jaxrank"]
    flops, traffic = mine["flops"], mine["optimizer_bytes"]
    peak = statistics.median(limit["flops"] for limit in limits)
    print(
        f"jaxrank: {flops / 1e9:,.0f} GFLOP of matrix products (at "
        f"{flops / 1e9 / statistics.median(ours):,.0f} GFLOP/s), {traffic / 1e9:,.1f} GB of "
        f"weights, gradients and moments; {mine['cohorts']} cohorts, loaded and compiled one "
        f"after the other in {mine['load']:.1f} s"
    )
    for where in ("memory", "cache"):
        limit = [flops / each["flops"] + traffic / each[where] for each in limits]
        ratios = [our / bound for our, bound in zip(ours, limit, strict=True)]
        speed = statistics.median(each[where] for each in limits)
        print(
            f"roofline at {peak / 1e9:,.0f} GFLOP/s and {speed / 1e9:,.0f} GB/s of {where}: "
            f"{statistics.median(limit):.2f} s; jaxrank takes {statistics.median(ratios):.2f} "
            f"times that ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def shapes(folder: Path, rounds: int, options: Sequence[str] = ()) -> None:
    print(f"\n{SIDE_BY_SIDE} trials of equal shape, seconds a trial and epoch (median of rounds)")
    work = folder / "shapes.npz"
    write_work(work, SHAPES)
    words = ["vmap", "--fused", f"--trials={SIDE_BY_SIDE}", *options]
    pairs = [(run_torch(words, work), child("epochs", "shapes")) for _ in range(rounds)]
    for name in SHAPES:
        theirs, ours = ([run["epochs"][name] / SIDE_BY_SIDE for run in side]
                        for side in zip(*pairs, strict=True))  # fmt: skip
        ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
        print(
            f"  {name:12} c  torch.func, vmap, fused AdamW {statistics.median(theirs):.3f} s   "
            f"e  jaxrank {statistics.median(ours):.3f} s   {statistics.median(ratios):.2f} x "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


def start(folder: Path, rounds: int) -> None:
    print("\nfrom launch to the first dispatch of 'search --mode=full', seconds")
    for cache in ("empty", "full"):
        runs = []
        for number in range(rounds):
            cached = folder / f"cache{number}"
            runs.append(
                child(
                    "start", str(folder / f"start_{cache}{number}"), str(cached), str(time.time())
                )
            )
        for end in ("begins", "ends"):
            seconds = [run[end] for run in runs]
            print(
                f"  cache {cache:5} {end:6} {statistics.median(seconds):5.1f} s (up to "
                f"{max(seconds):.1f})"
            )


def search(folder: Path, rounds: int) -> None:
    print(f"\n'search --mode=full' of {SEARCH_EPOCHS} epochs, from launch to its end, cache full")
    work = folder / "work.npz"
    write_work(work)
    # Fills the cache: the same plan, so the same programs, but stopped early.
    one_search(folder / "warm", folder / "cache", patience=1)
    for number in range(min(rounds, 2)):
        ours = one_search(folder / f"search{number}", folder / "cache", patience=SEARCH_EPOCHS)
        theirs = {
            name: run_torch(words, work, epochs=SEARCH_EPOCHS, warmup=0)["total"]
            for name, (kind, *words) in PEERS.items()
            if kind == "torch" and "--fused" not in words
        }
        print(f"  jaxrank {ours['seconds']:6.1f} s, {ours['compilations']} programs compiled")
        for name, seconds in theirs.items():
            print(f"  {name:34} {seconds:6.1f} s  {seconds / ours['seconds']:.2f} x")
        print("  " + "\n  ".join(ours["log"]))


def one_search(workdir: Path, cache: Path, patience: int) -> dict[str, Any]:
    return child("search", str(workdir), str(cache), str(patience), str(time.time()))


def run_torch(
    words: list[str], work: Path, epochs: int = EPOCHS, warmup: int = 1
) -> dict[str, Any]:
    script = Path(__file__).with_name("torch_peers.py")
    options = [f"--epochs={epochs}", f"--warmup={warmup}", f"--launched={time.time()}"]
    lines = output([sys.executable, str(script), words[0], str(work), *words[1:], *options])
    *experiments, process = lines
    return {
        "epochs": {e["name"]: statistics.median(e["epoch_seconds"]) for e in experiments},
        "total": process["total_seconds"],
        "max_rss_bytes": process["max_rss_bytes"],
    }


def child(*words: str) -> dict[str, Any]:
    return output([sys.executable, __file__, "--child", *words])[-1]


def output(command: list[str]) -> list[dict[str, Any]]:
    """Runs a command and returns the lines of its output that are JSON."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def the_data() -> tuple[Any, Any]:
    from jaxrank.data import splits, synthetic
    from jaxrank.data.dataset import align

    simulated = synthetic.simulate()
    dataset = align(simulated.pairs, simulated.features)
    return dataset, splits.split_pairs(dataset.table)


def catalogue(dataset: Any, names: tuple[str, ...] = ()) -> list[Any]:
    from jaxrank.configs import REFERENCES, default
    from jaxrank.experiments.hyperparameters import read_experiments, resolve_blocks

    config = default.get_config()
    wanted = read_experiments(config, list(names or config.experiments), {})
    return [
        resolve_blocks(e, list(dataset.block_columns)) for e in wanted if e.name not in REFERENCES
    ]


def write_work(path: Path, names: tuple[str, ...] = (), folds: int = 0) -> None:
    """Writes the input of torch_peers.py; if there are several folds, of the first one."""
    import numpy as np

    from jaxrank.data import splits

    dataset, parts = the_data()
    if folds:
        parts = splits.split_pairs(dataset.table, folds=folds)
    same = ("name", "dropout", "batch_size", "learning_rate", "weight_decay", "margin")
    experiments = [
        {key: getattr(e, key) for key in same}
        | {"columns": dataset.column_indices(e.blocks).tolist(), "hidden_dims": e.mlp_hidden_dims}
        for e in catalogue(dataset, names)
    ]
    np.savez(
        path,
        features_ND=dataset.features_ND,
        pairs_M2=dataset.pair_rows_M2,
        preference_M=dataset.preference_M,
        series_M=dataset.series_M,
        split_M=parts[0],
        experiments=np.array(json.dumps(experiments)),
    )


def measure_epochs(how: str) -> None:
    """Prints the seconds of an epoch of each cohort in `train.fit`, with sampling and validation.

    The median over dispatches is divided by the epochs of a dispatch.
    """
    import dataclasses

    from jaxrank import train
    from jaxrank.data.dataset import SplitDataset
    from jaxrank.planning import costs, planner
    from jaxrank.planning.trials import make_trials

    dataset, parts = the_data()
    experiments = catalogue(dataset, SHAPES if how == "shapes" else ())
    trials = make_trials(experiments, [0], 0, SIDE_BY_SIDE if how == "shapes" else 1)
    groups = [[trial] for trial in trials] if how == "alone" else [trials]
    cohorts = [
        c
        for group in groups
        for c in planner.make_cohorts(group, SplitDataset(dataset=dataset, splits_FM=parts), 2**62)
    ]
    result: dict[str, Any] = {"epochs": {}, "load": 0.0, "flops": 0.0, "optimizer_bytes": 0.0}
    for cohort in cohorts:
        dispatches = (1 + EPOCHS) * cohort.epochs_per_dispatch
        lasting = [
            trial._replace(
                experiment=dataclasses.replace(
                    trial.experiment, max_epochs=dispatches, patience=dispatches
                )
            )
            for trial in cohort.trials
        ]
        cohort = cohort.with_trials(lasting)
        begun = time.perf_counter()
        compiled = train.compile_cohort(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
        result["load"] += time.perf_counter() - begun
        times = dispatch_times(cohort, dataset, parts, compiled)
        name = cohort.trials[0].experiment.name
        seconds = statistics.median(times) / cohort.epochs_per_dispatch
        result["epochs"][name] = result["epochs"].get(name, 0.0) + seconds
        # Counts the trials' own widths: the operations that padding adds are not useful work.
        for trial in cohort.trials:
            dims = trial.experiment.mlp_hidden_dims
            work = cohort._replace(
                trials=(trial,),
                program_key=dataclasses.replace(cohort.program_key, mlp_hidden_dims=dims),
            ).epoch_work
            result["flops"] += work.flops
            weights = costs.num_weights(cohort.input_dim, dims)
            # Weights and both moments read and written, the gradient written and read.
            result["optimizer_bytes"] += 4 * 8 * weights * cohort.num_batches
    result["cohorts"] = len(cohorts)
    result["max_rss_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(result))


def dispatch_times(cohort: Any, dataset: Any, parts: Any, compiled: Any) -> list[float]:
    """Seconds of each dispatch of a cohort except the first."""
    from jaxrank import train
    from jaxrank.data.dataset import SplitDataset

    stamps: list[float] = []

    def note(progress: Any) -> None:
        stamps.append(time.perf_counter())

    train.fit(
        cohort, SplitDataset(dataset=dataset, splits_FM=parts), compiled=compiled, on_dispatch=note
    )
    return [after - before for before, after in itertools.pairwise(stamps)]


def measure_peaks() -> None:
    """Prints the peak rates of matrix products and of memory traffic: FLOP/s and bytes/s.

    The products are the fastest of JAX's, PyTorch's and NumPy's.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import torch

    def best(function: Any, *arguments: Any) -> float:
        seconds = []
        for _ in range(20):
            begun = time.perf_counter()
            result = jax.block_until_ready(function(*arguments))
            seconds.append(time.perf_counter() - begun)
            if len(arguments) == 2 and arguments[0].ndim == 1:
                arguments = (result, arguments[1])  # donated
        return min(seconds[1:])

    size = 2048
    square = jnp.ones((size, size))
    product = jax.jit(lambda x, y: jnp.matmul(x, y, precision="highest"))  # as jaxrank's are
    others = [
        (torch.matmul, torch.ones(size, size)),
        (np.matmul, np.ones((size, size), np.float32)),
    ]
    seconds = [best(multiply, matrix, matrix) for multiply, matrix in others]
    result = {"flops": 2 * size**3 / min(best(product, square, square), *seconds)}
    for where, megabytes in (("cache", 4), ("memory", 512)):
        length = megabytes * 2**20 // 4
        x, y = jnp.ones(length), jnp.ones(length)
        axpy = jax.jit(lambda x, y: 0.5 * x + y, donate_argnums=0)
        result[where] = 3 * 4 * length / best(axpy, x, y)
    print(json.dumps(result))


def measure_start(workdir: str, cache: str, launched: str) -> None:
    """Ends a search after its first dispatch, and prints the seconds since its launch."""
    os.environ["XDG_CACHE_HOME"] = cache
    from jaxrank import cli, train
    from jaxrank.training import checkpointing

    class Enough(Exception):
        pass

    begun: list[float] = []
    ended: list[float] = []
    begin = train._begun

    def ready(*arguments: Any) -> Any:
        progress = begin(*arguments)
        begun.append(time.time())  # the dispatch follows
        return progress

    def stop(*_: Any) -> None:
        ended.append(time.time())  # before the wait for background work
        raise Enough

    try:
        with (
            mock.patch.object(train, "_begun", ready),
            mock.patch.object(checkpointing.Saver, "claim", stop),
        ):
            cli.main(["launch.py", "search", "--mode=full", f"--workdir={workdir}"])
    except Enough:
        times = {"begins": begun[0] - float(launched), "ends": ended[0] - float(launched)}
        print(json.dumps(times), flush=True)


def measure_search(workdir: str, cache: str, patience: str, launched: str) -> None:
    os.environ["XDG_CACHE_HOME"] = cache
    import jax

    from jaxrank import cli

    compiled: list[str] = []
    jax.monitoring.register_event_listener(
        lambda event, **_: compiled.append(event) if event.endswith("cache_misses") else None
    )
    length = [f"--config.max_epochs={SEARCH_EPOCHS}", f"--config.patience={patience}"]
    cli.main(["launch.py", "search", "--mode=full", f"--workdir={workdir}", *length])
    seconds = time.time() - float(launched)
    log = (Path(workdir) / "training.log").read_text(encoding="utf-8").splitlines()
    log = [line[24:] for line in log if "cohort" in line or "saving" in line]
    print(json.dumps({"seconds": seconds, "log": log, "compilations": len(compiled)}), flush=True)


def print_platform() -> None:
    """Prints the platform, in a child process so that the parent takes no memory of the device."""
    from jaxrank import devices

    print(json.dumps({"platform": devices.platform(), "machine": machine()}))


CHILDREN: dict[str, Any] = {
    "epochs": measure_epochs,
    "peaks": measure_peaks,
    "platform": print_platform,
    "start": measure_start,
    "search": measure_search,
}

if __name__ == "__main__":
    main()
