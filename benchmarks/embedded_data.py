"""What the embedded (simulated) data are like, over seeds: the figures of docs/design.md.

    python benchmarks/embedded_data.py --seeds=3      # about a minute a seed on two cores

For each seed: the sharpness rule, the ceiling, and experiments under two splits, by series and by
pair. The second is wrong on purpose: photos of one series stand on both sides, and a model that
has memorised a photo's hidden appeal is rewarded for it.
"""

import argparse

from jaxrank import baselines, train
from jaxrank.configs import default
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.devices import memory_limit
from jaxrank.evaluation.evaluator import baseline_metrics, evaluate_cohort, make_evaluator
from jaxrank.experiments.hyperparameters import read_experiments, resolve_blocks
from jaxrank.planning import planner
from jaxrank.planning.trials import make_trials
from jaxrank.runner.options import MEMORY_FRACTION

NAMES = ("baseline", "simple_mlp", "tiny_mlp", "clip_only", "iqa_only")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    for seed in range(parser.parse_args().seeds):
        simulated = synthetic.simulate(seed)
        dataset = align(simulated.pairs, simulated.features)
        everything = splits.split_pairs(dataset.table, folds=5)
        evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=everything))
        rules = baselines.heuristic_scores(dataset) | {
            "ceiling": simulated.best_score[dataset.photos].to_numpy()
        }
        print(f"seed {seed}: {len(dataset.table)} pairs, all of them, by rule:", end="")
        for name in ("sharpness", "contrast", "ceiling"):
            accuracy = baseline_metrics(rules[name], evaluator)["test_accuracy"]
            print(f"  {name} {accuracy:.3f}", end="")
        print()
        for split in (splits.SERIES, splits.RANDOM):
            print_accuracies(split, dataset)


def print_accuracies(split: str, dataset: Dataset) -> None:
    experiments = read_experiments(default.get_config(), NAMES, {})
    blocks = list(dataset.block_columns)
    trials = make_trials([resolve_blocks(e, blocks) for e in experiments], [0], 0, 1)
    parts = splits.split_pairs(dataset.table, split)
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    for cohort in planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), memory_limit(MEMORY_FRACTION)
    ):
        fitted = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
        for result in evaluate_cohort(cohort, fitted, evaluator):
            row = result.metrics.as_row()
            print(
                f"  by {split:8} {row['experiment_name']:12} train {row['train_accuracy']:.3f}"
                f"  val {row['val_accuracy']:.3f}  test {row['test_accuracy']:.3f}"
            )


if __name__ == "__main__":
    main()
