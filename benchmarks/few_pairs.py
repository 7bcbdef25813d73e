"""Do few pairs train as well as many, with no flags? The figures of docs/benchmarks.md.

    python benchmarks/few_pairs.py --sets=20     # half an hour on two busy cores

For each set 16 simulated series of 8 photos, all 448 pairs: the search that `search` runs without
flags, and a ridge regression on all blocks, fitted on the training pairs of the same folds, whose
penalty is chosen by inner folds of whole series. The sets are independent, so the interval of the
mean difference is Student's. Then 8 series of 4 photos, 48 pairs: the steps of every trial.
"""

import argparse
import math

import numpy as np
from scipy import stats

from jaxrank import train
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import SplitDataset, fit_scaling
from jaxrank.devices import memory_limit
from jaxrank.evaluation import leaderboard
from jaxrank.evaluation.evaluator import evaluate_cohort, make_evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.experiments.few_pairs import FEWEST_STEPS
from jaxrank.metrics import pair_hits
from jaxrank.planning import planner
from jaxrank.runner.options import MEMORY_FRACTION
from jaxrank.runner.prepare import Prepared, prepare

INNER_FOLDS = 5
# Times the mean squared length of the inputs: from nearly none to nothing but the mean difference.
PENALTIES = np.geomspace(1e-3, 1e3, 13)
CHOSEN, HIGHEST, RIDGE = "chosen by validation", "highest on test", "ridge"


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
    """The results of all trials but those of the permutation control."""
    data = prepared.split_data
    trials = [trial for trial in prepared.trials if not trial.experiment.is_control]
    results = []
    for cohort in planner.make_cohorts(trials, data, memory_limit(MEMORY_FRACTION)):
        results += evaluate_cohort(cohort, train.fit(cohort, data), make_evaluator(data))
    by_key = {result.trial.key: result for result in results}
    return [by_key[trial.key] for trial in trials]


def accuracies(prepared: Prepared) -> tuple[dict[str, float], str]:
    """Test accuracies of all test pairs together by entry, and the name of the chosen one."""
    names = [e.name for e in prepared.experiments if not e.is_control]
    ranking = leaderboard.rank(trained(prepared), make_evaluator(prepared.split_data), names)
    means = dict(zip(ranking.test.names, ranking.by_test.mean, strict=True))
    assert ranking.chosen_name is not None
    best = {CHOSEN: means[ranking.chosen_name], HIGHEST: max(means[name] for name in names)}
    found = best | {name: means[name] for name in names}
    return found | {RIDGE: ridge_accuracy(prepared.split_data)}, ranking.chosen_name


def ridge_accuracy(data: SplitDataset) -> float:
    dataset = data.dataset
    hits = count = 0.0
    for fold in range(data.num_folds):
        train_rows, test_rows = data.rows(fold, splits.TRAIN), data.rows(fold, splits.TEST)
        photos = np.unique(dataset.pair_rows_M2[train_rows])
        mean_D, inv_std_D = fit_scaling(dataset.features_ND, photos)
        inputs_ND = (dataset.features_ND - mean_D) * inv_std_D
        rows_a, rows_b = dataset.pair_rows_M2.T
        difference_MD = inputs_ND[rows_a] - inputs_ND[rows_b]
        scores = ridge_scores(
            difference_MD[train_rows],
            dataset.preference_M[train_rows] - 0.5,
            dataset.series_M[train_rows],
            difference_MD[test_rows],
        )
        hit_M, weight_M = pair_hits(scores, dataset.preference_M[test_rows])
        hits, count = hits + float(hit_M @ weight_M), count + float(weight_M.sum())
    return hits / count


def ridge_scores(
    difference_MD: np.ndarray, target_M: np.ndarray, series_M: np.ndarray, asked_LD: np.ndarray
) -> np.ndarray:
    """Score differences of the pairs asked for, with the penalty that is right on most pairs of the
    inner folds."""
    kernel_MM = difference_MD @ difference_MD.T
    scale = np.trace(kernel_MM) / len(target_M)

    def weights(rows: np.ndarray, penalty: float) -> np.ndarray:
        inner = kernel_MM[np.ix_(rows, rows)] + penalty * scale * np.eye(len(rows))
        return np.asarray(np.linalg.solve(inner, target_M[rows]))

    inner_M = np.unique(series_M, return_inverse=True)[1] % INNER_FOLDS
    right = []
    for penalty in PENALTIES:
        found_M = np.zeros(len(target_M))
        for fold in range(INNER_FOLDS):
            fitted, held_out = np.flatnonzero(inner_M != fold), np.flatnonzero(inner_M == fold)
            found_M[held_out] = kernel_MM[np.ix_(held_out, fitted)] @ weights(fitted, penalty)
        hit_M, weight_M = pair_hits(found_M, target_M + 0.5)
        right.append(float(hit_M @ weight_M))
    best = PENALTIES[int(np.argmax(right))]
    everything = np.arange(len(target_M))
    return np.asarray(asked_LD @ (difference_MD.T @ weights(everything, best)))


def steps_of(prepared: Prepared, results: list[TrialResult]) -> dict[str, int]:
    """The fewest steps of an experiment's trials."""
    steps: dict[str, int] = {}
    for result in results:
        name, fold, _ = result.trial.key
        num_pairs = len(prepared.split_data.rows(fold, splits.TRAIN))
        epoch = -(-num_pairs // result.trial.experiment.batch_size)
        steps[name] = min(steps.get(name, 10**9), result.metrics.epochs_run * epoch)
    return steps


if __name__ == "__main__":
    main()
