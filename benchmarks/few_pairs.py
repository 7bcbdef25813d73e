"""Accuracy of a search without flags on few pairs: the figures of docs/benchmarks.md.

    python benchmarks/few_pairs.py --sets=20     # half an hour on two busy cores

Each set has 16 simulated series of 8 photos, with all 448 pairs. It is searched as `search` does
without flags, and compared with the baseline `ridge`, which is fitted on the training pairs of the
same folds. The sets are independent, so the interval of the mean difference is Student's t. A last
set of 8 series of 4 photos, 48 pairs, gives the steps of every trial.
"""

import argparse
import math

import numpy as np
from scipy import stats

from jaxrank import train
from jaxrank.baselines import RIDGE, fit_baselines
from jaxrank.data import splits, synthetic
from jaxrank.devices import memory_limit
from jaxrank.evaluation import leaderboard
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import make_evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.evaluation.yardstick import competitors
from jaxrank.experiments.few_pairs import FEWEST_STEPS
from jaxrank.planning import planner
from jaxrank.runner.options import MEMORY_FRACTION
from jaxrank.runner.prepare import Prepared, prepare

# Selected on the test pairs of all folds, as a search with folds does: slightly optimistic.
CHOSEN = "the selected experiment"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first set")
    given = parser.parse_args()
    rows = []
    for seed in range(given.first, given.first + given.sets):
        prepared = prepared_set(seed, num_series=16, num_photos=8)
        accuracy, chosen = accuracies(prepared)
        rows.append(accuracy)
        figures = ", ".join(f"{name} {100 * share:.1f}" for name, share in accuracy.items())
        print(f"set {seed}: {figures} ({chosen})", flush=True)
    print(f"\nSIMULATED data, {len(rows)} sets of 448 pairs, {len(prepared.trained_folds)} folds\n")
    print("| entry | test accuracy | against the ridge (95% interval) |\n|---|---|---|")
    for name in rows[0]:
        mine, ridge = (100 * np.array([row[key] for row in rows]) for key in (name, RIDGE))
        half = stats.sem(mine - ridge) * stats.t.ppf(0.975, len(rows) - 1) if rows[1:] else math.nan
        middle = (mine - ridge).mean()
        against = (
            "" if name == RIDGE else f"{middle:+.2f} ({middle - half:.2f} to {middle + half:.2f})"
        )
        print(f"| {name} | {mine.mean():.2f} | {against} |")
    prepared = prepared_set(given.first, num_series=8, num_photos=4)
    few = steps_of(prepared, trained(prepared))
    print(f"\n8 series, 48 pairs: steps of a trial {few} (hardly trained below {FEWEST_STEPS})")


def prepared_set(seed: int, num_series: int, num_photos: int) -> Prepared:
    simulated = synthetic.simulate(seed, num_series, num_photos)
    return prepare(simulated.pairs, simulated.features)


def trained(prepared: Prepared) -> list[TrialResult]:
    """Results of all trials except those of the permutation control."""
    data = prepared.split_data
    trials = [trial for trial in prepared.trials if not trial.experiment.is_control]
    results = []
    for cohort in planner.make_cohorts(trials, data, memory_limit(MEMORY_FRACTION)):
        results += evaluate_cohort(cohort, train.fit(cohort, data), make_evaluator(data))
    by_key = {result.trial.key: result for result in results}
    return [by_key[trial.key] for trial in trials]


def accuracies(prepared: Prepared) -> tuple[dict[str, float], str]:
    """Accuracy of each entry on all test pairs together, and the name of the chosen entry."""
    names = [e.name for e in prepared.experiments if not e.is_control]
    folds, evaluator = prepared.trained_folds, make_evaluator(prepared.split_data)
    beside = competitors(fit_baselines(prepared.split_data, folds), evaluator, folds)
    ranking = leaderboard.rank(trained(prepared), evaluator, names, beside, {})
    means = dict(zip(ranking.names, ranking.draws.mean_X, strict=True))
    assert ranking.chosen_name is not None
    best = {CHOSEN: means[ranking.chosen_name]}
    return best | {name: means[name] for name in [*names, RIDGE]}, ranking.chosen_name


def steps_of(prepared: Prepared, results: list[TrialResult]) -> dict[str, int]:
    """Fewest steps of any trial, by experiment."""
    steps: dict[str, int] = {}
    for result in results:
        name, fold, _ = result.trial.key
        num_pairs = len(prepared.split_data.rows(fold, splits.TRAIN))
        epoch = -(-num_pairs // result.trial.experiment.batch_size)
        steps[name] = min(steps.get(name, 10**9), result.metrics.epochs_run * epoch)
    return steps


if __name__ == "__main__":
    main()
