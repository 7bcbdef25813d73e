"""Does a sampler, a loss or a learning aid help? The tables of docs/benchmarks.md.

    python benchmarks/does_it_help.py samplers --seeds=10     # some minutes on two cores
    python benchmarks/does_it_help.py losses --seeds=10
    python benchmarks/does_it_help.py aids --seeds=10

For each seed a new simulated data set, split into five folds, and one experiment with every change.
The data sets are independent, so the intervals are Student's over their differences to the
experiment as it is; inside a data set all share folds, seeds and, where shapes allow, first weights
and batches. A reader who looks for the best of many rows should widen them.
"""

import argparse
import dataclasses
from typing import Any

import jax
import numpy as np
from scipy import stats

from jaxrank import train
from jaxrank.configs import default
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.devices import memory_limit
from jaxrank.evaluation import trial_results
from jaxrank.evaluation.evaluator import Evaluator, evaluate_cohort, make_evaluator
from jaxrank.experiments.hyperparameters import Experiment, read_experiments, resolve_blocks
from jaxrank.inference.saved_model import Model, ModelCard
from jaxrank.planning import planner
from jaxrank.planning.trials import make_trials
from jaxrank.runner.options import MEMORY_FRACTION
from jaxrank.sampling import SAMPLERS

FOLDS = 5
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
    given = parser.parse_args()
    changes = GROUPS[given.group]
    per_seed = []
    for seed in range(given.seeds):
        per_seed.append(means_of_changes(given.experiment, seed, changes))
        print(f"seed {seed}:", *(f"{row[0]:.4f}" for row in per_seed[-1]), flush=True)
    values = np.array(per_seed)  # [seeds, changes, metrics]
    print(f"\nSIMULATED data, {given.seeds} sets of {FOLDS} folds, {given.experiment}\n")
    print("| |", " | ".join(f"{name} | against it" for name in METRICS.values()), "|")
    print("|---|" + "---|" * 2 * len(METRICS))
    for place, name in enumerate(changes):
        cells = []
        for metric in range(len(METRICS)):
            mine = 100 * values[:, place, metric]
            difference = mine - 100 * values[:, 0, metric]
            half = stats.sem(difference) * stats.t.ppf(0.975, len(difference) - 1)
            against = f"{difference.mean():+.2f} \u00b1 {half:.2f}" if place else ""
            cells += [f"{mine.mean():.2f}", against]
        print(f"| {name} |", " | ".join(cells), "|")


def means_of_changes(name: str, seed: int, changes: dict[str, dict[str, Any]]) -> np.ndarray:
    """The means over folds, [changes, metrics], on the data of a seed."""
    simulated = synthetic.simulate(seed)
    dataset = align(simulated.pairs, simulated.features)
    parts = splits.split_pairs(dataset.table, folds=FOLDS, split_seed=seed)
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    (experiment, *_) = read_experiments(default.get_config(), [name], {})
    experiment = resolve_blocks(experiment, list(dataset.block_columns))
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
) -> list[trial_results.TrialResult]:
    if start is not None:
        experiment = dataclasses.replace(experiment, init_from=start.digest)
    trials = make_trials([experiment], folds, seed, 1)
    data = evaluator.data
    (cohort,) = planner.make_cohorts(trials, data, memory_limit(MEMORY_FRACTION))
    fitted = train.fit(cohort, data, start=None if start is None else start.weights)
    return evaluate_cohort(cohort, fitted, evaluator)


def pretrained(
    experiment: Experiment, fold: int, seed: int, dataset: Dataset, parts: np.ndarray
) -> Model:
    """A model of a fold's training series only."""
    trials = make_trials([experiment], [fold], seed, 1)
    (cohort,) = planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), memory_limit(MEMORY_FRACTION)
    )
    fitted = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    return Model(
        ModelCard(
            experiment=experiment, fold=fold, seed=seed, best_epoch=1, val_accuracy=0.5, slope=1.0
        ),
        {name: dataset.block_columns[name] for name in experiment.blocks},
        jax.tree.map(lambda leaf: leaf[0], fitted.best_params),
        fitted.scaling_P[0],
        {},
    )


if __name__ == "__main__":
    main()
