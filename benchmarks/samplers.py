"""Does it matter which sampler batches the pairs? The table of docs/benchmarks.md.

    python benchmarks/samplers.py --seeds=10      # about a minute a seed on two cores

For each seed a new simulated data set, five folds, and one experiment by every sampler. The data
sets are independent, so the interval is Student's over their differences to `random`; inside a data
set all samplers share folds, seeds and first weights.
"""

import argparse
import dataclasses

import numpy as np
from scipy import stats

from jaxrank import datasets, evaluate, plan, simulation, splits, train
from jaxrank.configs import default
from jaxrank.experiments import read_experiments, resolve_blocks
from jaxrank.prepare import memory_limit
from jaxrank.sampling import SAMPLERS

METRICS = ("test_accuracy", "test_top1_hit", "test_kendall_tau", "best_epoch")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--experiment", default="tiny_mlp")
    given = parser.parse_args()
    per_seed = []
    for seed in range(given.seeds):
        per_seed.append(means_of_samplers(given.experiment, seed))
        print(seed, per_seed[-1].round(4).tolist(), flush=True)
    values = np.array(per_seed)  # [seeds, samplers, metrics]
    print(f"{given.experiment}, {given.seeds} simulated data sets, five folds each: SIMULATED")
    for place, sampler in enumerate(SAMPLERS):
        print(f"{sampler:13}", end="")
        for metric, name in enumerate(METRICS):
            mine = values[:, place, metric]
            difference = mine - values[:, list(SAMPLERS).index("random"), metric]
            half = stats.sem(difference) * stats.t.ppf(0.975, len(difference) - 1)
            print(f"  {name} {mine.mean():.4f} ({difference.mean():+.4f} +- {half:.4f})", end="")
        print()


def means_of_samplers(name: str, seed: int) -> np.ndarray:
    """The means over folds, [samplers, metrics], on the data of a seed."""
    simulated = simulation.simulate(seed)
    dataset = datasets.align(simulated.pairs, simulated.features)
    parts = splits.split_pairs(dataset.table, folds=5, split_seed=seed)
    yardstick = evaluate.make_yardstick(dataset, parts)
    (experiment, _) = read_experiments(default.get_config(), [name], {})
    experiment = resolve_blocks(experiment, list(dataset.block_columns))
    rows = []
    for sampler in SAMPLERS:
        trials = plan.make_trials(
            [dataclasses.replace(experiment, sampler=sampler)], range(5), seed, 1
        )
        (cohort,) = plan.make_cohorts(trials, dataset, parts, memory_limit())
        fitted = train.fit(cohort, dataset, parts)
        results = evaluate.trial_results(cohort, fitted, yardstick)
        rows.append(np.mean([[r.row[metric] for metric in METRICS] for r in results], axis=0))
    return np.array(rows)


if __name__ == "__main__":
    main()
