"""Accuracy of baselines and experiments on the real tables, compared with the signed sum.

    python benchmarks/real_table.py ../shared/phototriage --seeds=3     # minutes on two cores

Five folds as in a search, with the defaults, and the same experiments with standardised inputs. The
last lines print the gain of normal scores for each experiment. Accuracy is hits over pairs of all
test folds together, averaged over seeds. Intervals are from a bootstrap over series, each on its
own. The tables may not be copied into the project.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from jaxrank import baselines, statistics, train
from jaxrank.configs import default
from jaxrank.data import importers, preferences, splits
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.devices import memory_limit
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import Evaluator, baseline_metrics, make_evaluator
from jaxrank.experiments.hyperparameters import Experiment, read_experiments, resolve_blocks
from jaxrank.metrics import pair_differences, pair_hits
from jaxrank.planning import planner
from jaxrank.planning.trials import make_trials
from jaxrank.runner.options import MEMORY_FRACTION

FOLDS, DRAWS, STRONG = 5, 2000, 0.7
STANDARD = ", standard inputs"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    pairs = preferences.read_preferences(given.folder / "pairs.csv")
    dataset = align(pairs, {"iqa": importers.read_block_csv(given.folder / "iqa.csv")})
    splits_FM = splits.split_pairs(pairs.table, folds=FOLDS)[:, dataset.kept_M]
    data = SplitDataset(dataset=dataset, splits_FM=splits_FM)
    evaluator = make_evaluator(data)
    rows = {}
    for name, baseline in baselines.fit_baselines(data, range(FOLDS)).items():
        difference_FM = baseline.differences(dataset.pair_rows_M2, FOLDS)
        top1 = float("nan")
        if baseline.scores_FN is not None:
            top1 = baseline_metrics(baseline.scores_FN, evaluator)["test_top1_hit"]
        rows[name] = tested_hits(difference_FM, data), top1
    (iqa_only, linear, _) = read_experiments(default.get_config(), ["iqa_only"], {})
    for experiment in (iqa_only, linear):
        experiment = resolve_blocks(experiment, list(dataset.block_columns))
        rows[experiment.name] = trained(experiment, evaluator, given.seeds)
        standard = dataclasses.replace(experiment, input_scaling="standard")
        rows[experiment.name + STANDARD] = trained(standard, evaluator, given.seeds)
    print_table(rows, dataset)
    for name in (iqa_only.name, linear.name):
        gain_M = rows[name][0] - rows[name + STANDARD][0]
        worth = interval(gain_M, dataset.preference_M != 0.5, dataset, sign="+")
        print(f"{name}, normal scores against standard inputs: {worth}")


def tested_hits(difference_FM: np.ndarray, data: SplitDataset) -> np.ndarray:
    """Hits [M] of each pair in the fold that tests it."""
    hit_FM, _ = pair_hits(difference_FM, data.dataset.preference_M)
    return (hit_FM * (data.splits_FM == splits.TEST)).sum(axis=0, dtype=np.float64)


def trained(
    experiment: Experiment, evaluator: Evaluator, num_seeds: int
) -> tuple[np.ndarray, float]:
    """Hits [M] averaged over seeds, and the top-1 hit rate."""
    data = evaluator.data
    results = []
    trials = make_trials([experiment], range(FOLDS), 0, num_seeds)
    for cohort in planner.make_cohorts(trials, data, memory_limit(MEMORY_FRACTION)):
        results += evaluate_cohort(cohort, train.fit(cohort, data), evaluator)
    hits = []
    for seed in range(num_seeds):
        scores_FN = np.stack([r.scores_N for r in results if r.trial.seed == seed])
        hits.append(tested_hits(pair_differences(scores_FN, data.dataset.pair_rows_M2), data))
    top1 = np.mean([result.metrics.measured["test_top1_hit"] for result in results])
    return np.mean(hits, axis=0), float(top1)


def print_table(rows: dict[str, tuple[np.ndarray, float]], dataset: Dataset) -> None:
    p_M = dataset.preference_M
    directed_M = p_M != 0.5
    strong_M = directed_M & (np.maximum(p_M, 1 - p_M) >= STRONG)
    print("| | all pairs | strong | top-1 | against signed_sum | against sharpness |")
    print("|---|---|---|---|---|---|")
    for name, (hits_M, top1) in rows.items():
        against = [
            interval(hits_M - rows[other][0], directed_M, dataset, sign="+")
            for other in (baselines.SIGNED_SUM, "sharpness")
        ]
        shares = [interval(hits_M, chosen, dataset) for chosen in (directed_M, strong_M)]
        print(f"| {name} |", " | ".join([*shares, f"{100 * top1:.1f}", *against]), "|")


def interval(value_M: np.ndarray, chosen_M: np.ndarray, dataset: Dataset, sign: str = "") -> str:
    """Mean over the chosen pairs in percent, with its 95% interval."""
    num_series = len(dataset.series_ids)
    total_S = np.bincount(dataset.series_M, value_M * chosen_M, num_series)
    weight_S = np.bincount(dataset.series_M, chosen_M, num_series)
    draws = statistics.resamples(num_series, DRAWS, np.random.default_rng(0))
    means = np.concatenate([(drawn @ total_S) / (drawn @ weight_S) for drawn in draws])
    low, high = 100 * np.percentile(means, [2.5, 97.5])
    mean = 100 * total_S.sum() / weight_S.sum()
    return f"{mean:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


if __name__ == "__main__":
    main()
