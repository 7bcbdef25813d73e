"""Accuracies on the embedded (simulated) data, over seeds: the figures of docs/design.md.

    python benchmarks/embedded_data.py --seeds=10 --folds=5      # some minutes a seed on two cores

For each seed: the heuristic baselines, the ceiling, and experiments under two splits, by series (in
`--folds` of five folds) and by pair. The split by pair is wrong on purpose: photos of one series
are on both sides, which rewards a model that has memorised a photo's hidden appeal.

At the end: the gain of each experiment over `linear` with the split by series, as the mean over
seeds, whose data are independent, and Student's t interval.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy import stats

from jaxrank import baselines, train
from jaxrank.configs import default
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.devices import memory_limit
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import baseline_metrics, make_evaluator
from jaxrank.experiments.hyperparameters import read_experiments, resolve_blocks
from jaxrank.planning import planner
from jaxrank.planning.trials import make_trials
from jaxrank.runner.options import MEMORY_FRACTION

NAMES = ("baseline", "simple_mlp", "tiny_mlp", "clip_only", "iqa_only")
FOLDS = 5
PARTS = ("train", "val", "test")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many of the {FOLDS}")
    parser.add_argument("--experiments", default=",".join(NAMES))
    parser.add_argument("--splits", default=f"{splits.SERIES},{splits.RANDOM}")
    given = parser.parse_args()
    names, gains = given.experiments.split(","), []
    for seed in range(given.seeds):
        dataset = print_baselines(seed)
        for split in given.splits.split(","):
            folds = given.folds if split == splits.SERIES else 1
            accuracy = print_accuracies(split, dataset, names, folds)
            if split == splits.SERIES:
                gains.append([accuracy[name] - accuracy["linear"] for name in names])
    for name, gain in zip(names, np.transpose(gains), strict=True):
        half = stats.sem(gain) * stats.t.ppf(0.975, len(gain) - 1)
        print(f"{name}: {100 * gain.mean():+.2f} \u00b1 {100 * half:.2f} points against linear")


def print_baselines(seed: int) -> Dataset:
    simulated = synthetic.simulate(seed)
    dataset = align(simulated.pairs, simulated.features)
    everything = splits.split_pairs(dataset.table, folds=FOLDS)
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=everything))
    scores_of = baselines.heuristic_scores(dataset) | {
        "ceiling": simulated.best_score[dataset.photos].to_numpy()
    }
    print(f"seed {seed}: {len(dataset.table)} pairs; all pairs, by baseline:", end="")
    for name in ("sharpness", "exposure", "colorfulness", "contrast", "ceiling"):
        accuracy = baseline_metrics(scores_of[name], evaluator)["test_accuracy"]
        print(f"  {name} {accuracy:.3f}", end="")
    print(flush=True)
    return dataset


def print_accuracies(
    split: str, dataset: Dataset, names: Sequence[str], folds: int
) -> dict[str, float]:
    """Prints and returns the test accuracy of each experiment, averaged over folds."""
    experiments = read_experiments(default.get_config(), names, {})
    blocks = list(dataset.block_columns)
    wanted = [resolve_blocks(e, blocks) for e in experiments if e.name != "shuffled"]
    trials = make_trials(wanted, range(folds), 0, 1)
    parts = splits.split_pairs(dataset.table, split, folds=FOLDS * (split == splits.SERIES))
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    evaluator = make_evaluator(data)
    rows = defaultdict(list)
    for cohort in planner.make_cohorts(trials, data, memory_limit(MEMORY_FRACTION)):
        for result in evaluate_cohort(cohort, train.fit(cohort, data), evaluator):
            rows[result.trial.experiment.name].append(result.metrics.as_row())
    for name, mine in rows.items():
        shown = [np.mean([row[f"{part}_accuracy"] for row in mine]) for part in PARTS]
        print(
            f"  by {split:8} {name:12}",
            *(f" {part} {mean:.3f}" for part, mean in zip(PARTS, shown, strict=True)),
            flush=True,
        )
    return {name: float(np.mean([row["test_accuracy"] for row in m])) for name, m in rows.items()}


if __name__ == "__main__":
    main()
