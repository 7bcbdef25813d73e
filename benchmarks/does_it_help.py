"""Effect of samplers, losses and learning aids on accuracy: the tables of docs/benchmarks.md.

    python benchmarks/does_it_help.py samplers --seeds=10     # some minutes on two cores
    python benchmarks/does_it_help.py losses --seeds=10
    python benchmarks/does_it_help.py aids --seeds=10
    python benchmarks/does_it_help.py losses --experiment=iqa_only --pairs=FILE --features=STORE

One experiment is trained with every change. On one data set, all changes share folds, seeds and,
where shapes allow, initial weights and batches.

- Without `--pairs`: for each seed a new simulated data set, split into five folds. The data sets
  are independent, so the intervals are Student's t intervals of the differences to the unchanged
  experiment, over data sets.
- With `--pairs` and `--features`, which take the same values as those of `launch.py search`: one
  data set, five folds, `--seeds` trainings in each fold. The difference of a test pair to the
  unchanged experiment is a mean over the seeds. The interval is from 4,000 resamples of the series.

The intervals are not corrected for a choice of the best of many rows.
"""

import argparse
import dataclasses
from typing import Any

import jax
import numpy as np
from scipy import stats

from jaxrank import metrics, train
from jaxrank.configs import REFERENCES, default
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.data.inputs import load_inputs
from jaxrank.devices import memory_limit
from jaxrank.evaluation import trial_results
from jaxrank.evaluation.calibration import Calibration
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.ensembles import SINGLE
from jaxrank.evaluation.evaluator import Evaluator, make_evaluator
from jaxrank.experiments.hyperparameters import Experiment, read_experiments, resolve_blocks
from jaxrank.inference.model_card import ModelCard
from jaxrank.inference.saved_model import Model
from jaxrank.planning import planner
from jaxrank.planning.trials import make_trials
from jaxrank.runner.options import MEMORY_FRACTION
from jaxrank.sampling import SAMPLERS
from jaxrank.statistics import resamples
from jaxrank.training.state import InitialWeights

FOLDS = 5
DRAWS = 4000  # of the bootstrap over series
METRICS = {"test_accuracy": "test accuracy", "test_top1_hit": "top-1", "test_kendall_tau": "tau"}
PLAIN = "as it is"
PRETRAINED = "pretrained on a random split"
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "samplers": {PLAIN: {}}
    | {sampler: {"sampler": sampler} for sampler in SAMPLERS if sampler != "random"},
    "losses": {
        PLAIN: {},
        "loss=logistic": {"loss": "logistic"},
        "loss=davidson": {"loss": "davidson"},
        "label_smoothing=0.2": {"label_smoothing": 0.2},
    },
    "aids": {
        PLAIN: {},
        "feature_noise=0.5": {"feature_noise": 0.5},
        "mixup=0.2": {"mixup": 0.2},
        "schedule=cosine, warmup_epochs=1": {"schedule": "cosine", "warmup_epochs": 1.0},
        "optimizer=sgd, learning_rate=0.02": {"optimizer": "sgd", "learning_rate": 0.02},
        "activation=gelu": {"activation": "gelu"},
        "use_layernorm=true": {"use_layernorm": True},
        "l2_blocks=clip,cnn": {"l2_blocks": ("clip", "cnn")},
        PRETRAINED: {},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--experiment", default="tiny_mlp")
    parser.add_argument("--pairs", help="real preferences; without them simulated data")
    parser.add_argument("--features", help="of these photos: a file or a feature store")
    given = parser.parse_args()
    changes = GROUPS[given.group]
    if given.pairs is not None or given.features is not None:
        print_one_data_set(given.pairs, given.features, given.experiment, given.seeds, changes)
        return
    print_simulated(given.experiment, given.seeds, changes)


def print_one_data_set(
    pairs: str, features: str, name: str, seeds: int, changes: dict[str, dict[str, Any]]
) -> None:
    inputs = load_inputs(pairs, features, {})
    dataset = align(inputs.pairs, inputs.features)
    parts = splits.split_pairs(dataset.table, folds=FOLDS)
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    experiment = find_experiment(name, dataset)
    series = f"{len(dataset.series_ids):,} series"
    print(f"{len(dataset.table):,} pairs of {series}, {FOLDS} folds, {seeds} seeds, {name}\n")
    print("| | test accuracy | against it |\n|---|---|---|")
    plain_M = None
    for label, change in changes.items():
        blocks = change.get("l2_blocks", ())
        if label == PRETRAINED or not set(blocks) <= set(experiment.blocks):
            continue  # needs a model for each fold and seed; or names a missing block
        changed = dataclasses.replace(experiment, **change)
        results = fit(changed, range(FOLDS), 0, evaluator, num_seeds=seeds)
        hits_M, weight_M = mean_hits(results, dataset, parts)
        against = ""
        if plain_M is None:
            plain_M = hits_M
        else:
            low, high = interval(hits_M - plain_M, weight_M, dataset.series_M)
            mean = 100 * np.average(hits_M - plain_M, weights=weight_M)
            against = f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
        print(f"| {label} | {100 * np.average(hits_M, weights=weight_M):.2f} | {against} |")


def mean_hits(
    results: list[trial_results.TrialResult], dataset: Dataset, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean hit of each pair over the seeds of the fold that tests it, and its weight; both [M].

    The weight is 0 if the preference is one half.
    """
    total_M, count_M = np.zeros(len(dataset.table)), np.zeros(len(dataset.table))
    for result in results:
        difference_M = metrics.pair_differences(result.scores_N, dataset.pair_rows_M2)
        hits_M, weight_M = metrics.pair_hits(difference_M, dataset.preference_M)
        tested_M = parts[result.trial.fold] == splits.TEST
        total_M += hits_M * tested_M
        count_M += tested_M
    return total_M / count_M, weight_M


def interval(gain_M: np.ndarray, weight_M: np.ndarray, series_M: np.ndarray) -> tuple:
    """95% percentile interval of the weighted mean, in points, over resampled series."""
    gain_S, weight_S = np.bincount(series_M, gain_M * weight_M), np.bincount(series_M, weight_M)
    rng = np.random.default_rng(0)
    means = [
        (drawn_BS @ gain_S) / (drawn_BS @ weight_S)
        for drawn_BS in resamples(len(gain_S), DRAWS, rng)
    ]
    return tuple(100 * np.quantile(np.concatenate(means), [0.025, 0.975]))


def print_simulated(name: str, seeds: int, changes: dict[str, dict[str, Any]]) -> None:
    per_seed = []
    for seed in range(seeds):
        per_seed.append(means_of_changes(name, seed, changes))
        print(f"seed {seed}:", *(f"{row[0]:.4f}" for row in per_seed[-1]), flush=True)
    values = np.array(per_seed)  # [seeds, changes, metrics]
    print(f"\nSIMULATED data, {seeds} sets of {FOLDS} folds, {name}\n")
    print("| |", " | ".join(f"{title} | against it" for title in METRICS.values()), "|")
    print("|---|" + "---|" * 2 * len(METRICS))
    for place, label in enumerate(changes):
        cells = []
        for metric in range(len(METRICS)):
            mine = 100 * values[:, place, metric]
            difference = mine - 100 * values[:, 0, metric]
            half = stats.sem(difference) * stats.t.ppf(0.975, len(difference) - 1)
            against = f"{difference.mean():+.2f} \u00b1 {half:.2f}" if place else ""
            cells += [f"{mine.mean():.2f}", against]
        print(f"| {label} |", " | ".join(cells), "|")


def find_experiment(name: str, dataset: Dataset) -> Experiment:
    named = [] if name in REFERENCES else [name]
    experiments = read_experiments(default.get_config(), named, {})
    (experiment,) = [e for e in experiments if e.name == name]
    return resolve_blocks(experiment, list(dataset.block_columns))


def means_of_changes(name: str, seed: int, changes: dict[str, dict[str, Any]]) -> np.ndarray:
    """Means over folds, [changes, metrics], on the data of a seed."""
    simulated = synthetic.simulate(seed)
    dataset = align(simulated.pairs, simulated.features)
    parts = splits.split_pairs(dataset.table, folds=FOLDS, split_seed=seed)
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    experiment = find_experiment(name, dataset)
    rows = []
    for label, change in changes.items():
        changed = dataclasses.replace(experiment, **change)
        if label == PRETRAINED:
            before = splits.split_pairs(dataset.table, "pretrain", folds=FOLDS, split_seed=seed)
            results = [
                result
                for fold in range(FOLDS)
                for result in fit(
                    changed,
                    [fold],
                    seed,
                    evaluator,
                    pretrained(changed, fold, seed, dataset, before),
                )
            ]
        else:
            results = fit(changed, range(FOLDS), seed, evaluator)
        rows.append(
            np.mean([[r.metrics.as_row()[metric] for metric in METRICS] for r in results], axis=0)
        )
    return np.array(rows)


def fit(
    experiment: Experiment,
    folds: Any,
    seed: int,
    evaluator: Evaluator,
    start: Model | None = None,
    num_seeds: int = 1,
) -> list[trial_results.TrialResult]:
    if start is not None:
        experiment = dataclasses.replace(experiment, init_from=start.digest)
    trials = make_trials([experiment], folds, seed, num_seeds)
    data = evaluator.data
    results = []
    for cohort in planner.make_cohorts(trials, data, memory_limit(MEMORY_FRACTION)):
        fitted = train.fit(cohort, data, start=None if start is None else start.weights)
        results += evaluate_cohort(cohort, fitted, evaluator)
    return results


def pretrained(
    experiment: Experiment, fold: int, seed: int, dataset: Dataset, parts: np.ndarray
) -> Model:
    """A model trained on a fold's training series only."""
    trials = make_trials([experiment], [fold], seed, 1)
    (cohort,) = planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), memory_limit(MEMORY_FRACTION)
    )
    fitted = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    return Model(
        ModelCard(
            experiment=experiment,
            fold=fold,
            seeds=(seed,),
            epochs=(1,),
            val_accuracy=0.5,
            calibration=Calibration(slope=1.0),
        ),
        {name: dataset.block_columns[name] for name in experiment.blocks},
        (
            InitialWeights(
                jax.tree.map(lambda leaf: leaf[0], fitted.best_params), fitted.scaling_P[0]
            ),
        ),
        SINGLE,
        {},
    )


if __name__ == "__main__":
    main()
