"""Overhead of a cohort on Ray and on the local engine, and a simulation of up to 1,000 workers.

    python benchmarks/ray_overhead.py --cohorts=40

Both engines train the same cohorts on one worker, in the same run. Overhead is the time from
sending a cohort to receiving its result, minus the training itself. The simulation names the first
bottleneck. It takes the plan of a large search and the seconds of its cohorts from the cost model,
and the driver's costs from the measurements: the thread that hands cohorts out and reads events,
the thread that evaluates and writes, and the network. See docs/machines.md.
"""

import argparse
import dataclasses
import heapq
import pickle
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxrank.configs import default
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import make_evaluator
from jaxrank.experiments.hyperparameters import choose_names, read_experiments, resolve_blocks
from jaxrank.planning import planner
from jaxrank.planning.assignment import Assignment
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.costs import DeviceProfile, num_weights
from jaxrank.planning.trials import make_trials
from jaxrank.runner import trial_archive
from jaxrank.runner.engines.cluster import ray_cluster
from jaxrank.runner.engines.interface import Engine, Finished, Job, SharedData, WorkerJoined
from jaxrank.runner.engines.local import LocalEngine

# SLOW makes a cohort of every trial; CORE is the plan's profile of a CPU core.
SLOW = DeviceProfile("benchmark", 1e5, 1e6, 1e-1, 1.0, side_by_side=False)
CORE = DeviceProfile("a core", 83e9, 64e9, 23e-6, 2.2, side_by_side=False)
FOLDS = 5
ENOUGH = 2**40
NETWORK = 1.25e9  # bytes per second of the driver's network, 10 Gbit/s
COHORTS_EACH = 5  # cohorts that a worker trains in the simulation


class Costs(NamedTuple):
    """Seconds of the driver: to read a result, and to evaluate and write the result of a trial."""

    event: float
    evaluation: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=40)
    parser.add_argument("--workers", default="1,10,100,1000", help="of the simulation")
    options = parser.parse_args()
    with ray_cluster(workers=1) as cluster:  # before JAX
        simulated = synthetic.simulate()
        dataset = align(simulated.pairs, simulated.features)
        parts = splits.split_pairs(dataset.table, folds=FOLDS)
        data = SharedData(SplitDataset(dataset=dataset, splits_FM=parts), range(FOLDS), None)
        cohorts = small_cohorts(data.split_data, options.cohorts)
        import jax

        with LocalEngine(data, lambda number, size: False, jax.local_devices()[:1]) as local:
            mine, _ = run(local, cohorts)
        begun = time.perf_counter()
        with cluster.engine(data, lambda number, size: False) as engine:
            while not isinstance(engine.next_event(1.0), WorkerJoined):
                pass
            joined = time.perf_counter() - begun
            theirs, results = run(engine, cohorts)
    print(f"data: {len(pickle.dumps(data)) / 2**20:.1f} MiB, with the worker in {joined:.2f} s")
    for name, seconds in (("local", mine), ("ray", theirs)):
        low, median, high = (1e3 * q for q in statistics.quantiles(seconds, n=4))
        print(f"{name}: overhead of a cohort {median:.1f} ms (quartiles {low:.1f} to {high:.1f})")
    costs = measure_driver(data.split_data, cohorts, results)
    print(
        f"driver: reading a result {1e3 * costs.event:.2f} ms, evaluating and writing "
        f"{1e3 * costs.evaluation:.1f} ms"
    )
    plan = large_plan(data.split_data, COHORTS_EACH * max(map(int, options.workers.split(","))))
    print("| workers | cohorts | cohorts a second | workers busy | busiest part of the driver |")
    print("|---|---|---|---|---|")
    for number in map(int, options.workers.split(",")):
        chosen = dict(list(plan.items())[: COHORTS_EACH * number])
        print(simulate(chosen, len(dataset.photos), number, costs))


def small_cohorts(data: SplitDataset, number: int) -> dict[int, Cohort]:
    """Cohorts of one short trial each, which share a program."""
    (base, *_) = read_experiments(default.get_config(), ["iqa_only"], {})
    short = dataclasses.replace(base, max_epochs=2, patience=0)
    trials = make_trials([short], [0], 0, number)
    return dict(enumerate(planner.make_cohorts(trials, data, ENOUGH, SLOW), 1))


def run(engine: Engine, cohorts: Mapping[int, Cohort]) -> tuple[list[float], dict[int, Finished]]:
    """Trains cohorts one after the other; returns overheads and results.

    The overhead of the first cohort is left out, because it compiles.
    """
    seconds, results = [], {}
    for number, cohort in cohorts.items():
        begun = time.perf_counter()
        engine.start(0, Job(number, cohort))
        while not isinstance(event := engine.next_event(1.0), Finished):
            pass
        seconds.append(time.perf_counter() - begun - event.fitted.seconds)
        results[number] = event
    return seconds[1:], results


def measure_driver(
    data: SplitDataset, cohorts: Mapping[int, Cohort], results: Mapping[int, Finished]
) -> Costs:
    evaluator = make_evaluator(data)
    evaluation, copies = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, event in results.items():
            begun = time.perf_counter()
            packed = pickle.dumps(event)
            pickle.loads(packed)
            copies.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            found = evaluate_cohort(cohorts[number], event.fitted, evaluator)
            trial_archive.write_results(Path(folder), number, found, "benchmark")
            evaluation.append(time.perf_counter() - begun)
    return Costs(statistics.median(copies), statistics.median(evaluation[1:]))


def large_plan(data: SplitDataset, number: int) -> dict[int, Cohort]:
    """At least `number` cohorts of a search of the full catalogue with many seeds."""
    config = default.get_config()
    blocks = list(data.dataset.block_columns)
    names = choose_names(config, "full", ())
    experiments = [resolve_blocks(e, blocks) for e in read_experiments(config, names, {})]
    seeds = 1
    while True:
        trials = make_trials(experiments, range(FOLDS), 0, seeds)
        begun = time.thread_time()
        cohorts = planner.make_cohorts(trials, data, ENOUGH, CORE)
        seconds = time.thread_time() - begun
        if len(cohorts) >= number:
            print(f"plan: {len(trials):,} trials in {len(cohorts):,} cohorts, {seconds:.1f} s")
            return dict(enumerate(cohorts, 1))
        seeds = max(seeds + 1, seeds * number // len(cohorts) + 1)


def simulate(cohorts: Mapping[int, Cohort], num_photos: int, num_workers: int, costs: Costs) -> str:
    """Simulates a search on `num_workers` machines of one core; returns a row of the table.

    Training takes the seconds of the cost model. Each part of the driver handles one task at a
    time.
    """
    assignment = Assignment([f"machine {w}" for w in range(num_workers)], ENOUGH, cohorts)
    waiting, running = dict(cohorts), list[tuple[float, int]]()
    compiled: set[tuple[int, tuple]] = set()
    free: dict[str, float] = defaultdict(float)  # when each part of the driver is done
    busy: dict[str, float] = defaultdict(float)  # its seconds of work
    now, trained = 0.0, 0.0

    def work(part: str, seconds: float) -> float:
        """Occupies a part of the driver; returns the time at which the part is done."""
        busy[part] += seconds
        free[part] = max(now, free[part]) + seconds
        return free[part]

    while waiting or running:
        while True:
            begun = time.thread_time()
            start = assignment.next_start(waiting)
            done = work("handing cohorts out", time.thread_time() - begun)
            if start is None:
                break
            worker, number = start
            cohort = waiting.pop(number)
            assignment.begin(worker, number, cohort)
            program = worker, cohort.compiled_as
            seconds = cohort.training_seconds if program in compiled else cohort.seconds
            compiled.add(program)
            trained += seconds
            heapq.heappush(running, (done + seconds, number))
        now, number = heapq.heappop(running)
        cohort = cohorts[number]
        weights = num_weights(cohort.input_dim, cohort.program_key.mlp_hidden_dims)
        now = work("network", 4 * len(cohort.trials) * (weights + num_photos) / NETWORK)
        now = work("handing cohorts out", costs.event)
        work("evaluating and writing", costs.evaluation * len(cohort.trials))
        assignment.end(number)
    end = max(now, *free.values())
    name, seconds = max(busy.items(), key=lambda item: item[1])
    return (
        f"| {num_workers:,} | {len(cohorts):,} | {len(cohorts) / end:.2f} | "
        f"{100 * trained / num_workers / end:.0f}% | {name}, {100 * seconds / end:.0f}% busy |"
    )


if __name__ == "__main__":
    main()
