"""Metrics of trained trials and of one-line rules, from the scores of all photos.

A score for each photo is all that an evaluation needs: differences of pairs, accuracy and loss of
every part follow from it. Axis letters: P trials, N photos, M pairs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxrank import losses, splits, train
from jaxrank.datasets import Dataset
from jaxrank.experiments import LINEAR
from jaxrank.plan import Cohort, Trial

# The status of a trial in the tables.
COMPLETED, FAILED = "completed", "failed"
CHANCE = "chance"
IQA_BLOCK = "iqa"
# The columns of `history.csv`. Those of training are running means over the epoch's batches, with
# dropout, while the parameters moved; `trials.csv` has those of the chosen parameters.
HISTORY_METRICS = {
    "running_train_loss": "train_loss",
    "running_train_accuracy": "train_accuracy",
    "val_loss": "val_loss",
    "val_accuracy": "val_accuracy",
}
# A standard error from fewer clusters would be more noise than news.
FEWEST_SERIES = 10


def pair_differences(scores_XN: np.ndarray, dataset: Dataset) -> np.ndarray:
    """score_a - score_b of every pair, [..., M]."""
    rows_a, rows_b = dataset.pair_rows_M2.T
    return scores_XN[..., rows_a] - scores_XN[..., rows_b]


def hits_of(difference: np.ndarray, preference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`losses.hits` on the host: hits, and which pairs have a direction."""
    return jax.device_get(losses.hits(jnp.asarray(difference), jnp.asarray(preference)))


def mean_of_part(value_M: np.ndarray, weight_M: np.ndarray, part_M: np.ndarray, part: int) -> float:
    """Mean over the pairs of one part that have weight; NaN where there are none."""
    chosen = (part_M == part) & (weight_M > 0)
    return float(value_M[chosen].mean()) if chosen.any() else float("nan")


class TrialResult(NamedTuple):
    """What is kept of a trained trial.

    Attributes:
      row: of `trials.csv`; epochs count from 1.
      history: of `history.csv`, a row an epoch.
      scores_N: of all photos; NaN for a failed trial.
      weights: params, mean and inv_std; None where another trial's are kept.
    """

    trial: Trial
    row: dict[str, Any]
    history: pd.DataFrame
    scores_N: np.ndarray
    weights: tuple[Any, np.ndarray, np.ndarray] | None


def trial_results(
    cohort: Cohort, fitted: train.Fitted, dataset: Dataset, parts: np.ndarray
) -> list[TrialResult]:
    results = []
    for p, trial in enumerate(cohort.trials):
        row = _row(trial, int(fitted.epochs_run_P[p]), fitted.seconds / len(cohort.trials))
        unscored = np.flatnonzero(~np.isfinite(fitted.scores_PN[p]))
        if fitted.status_P[p] == train.FAILED:
            row["status"] = FAILED
            row["error"] = (
                f"the loss was not a finite number in epoch {row['epochs_run']}; lower "
                f"learning_rate={trial.experiment.learning_rate:g}, or look for huge features"
            )
        elif len(unscored):
            row["status"] = FAILED
            row["error"] = (
                f"the score of photo '{dataset.photos[unscored[0]]}' is not a finite number; "
                "look at its features"
            )
        else:
            row["best_epoch"] = int(fitted.best_epoch_P[p]) + 1
            row |= _trial_metrics(trial, fitted.scores_PN[p], dataset, parts)
        ran = fitted.history.running[:, p]
        history = pd.DataFrame(
            {"fold": trial.fold, "seed": trial.seed, "epoch": np.flatnonzero(ran) + 1}
            | {
                column: getattr(fitted.history, metric)[ran, p]
                for column, metric in HISTORY_METRICS.items()
            }
        )
        params = jax.tree.map(lambda leaf, p=p: leaf[p], fitted.best_params)
        weights = (params, fitted.mean_PD[p], fitted.inv_std_PD[p])
        results.append(TrialResult(trial, row, history, fitted.scores_PN[p], weights))
    return results


def _row(trial: Trial, epochs_run: int, seconds: float) -> dict[str, Any]:
    """The row of `trials.csv` but for its metrics."""
    return {
        "experiment_name": trial.experiment.name,
        "fold": trial.fold,
        "seed": trial.seed,
        "status": COMPLETED,
        "error": "",
        "epochs_run": epochs_run,
        "duration_seconds": seconds,
        "trial_id": trial.identity,
    }


def out_of_memory(trial: Trial, reason: str, dataset: Dataset) -> TrialResult:
    """The result of a trial that does not fit in memory even alone."""
    row = _row(trial, epochs_run=0, seconds=0.0) | {
        "status": FAILED,
        "error": f"does not fit in memory ({reason}); make mlp_hidden_dims or batch_size smaller, "
        "or use --retry_failed where more memory is free",
    }
    history = pd.DataFrame(
        {column: np.zeros(0, int) for column in ("fold", "seed", "epoch")}
        | {column: np.zeros(0, np.float32) for column in HISTORY_METRICS}
    )
    scores_N = np.full(len(dataset.photos), np.nan, np.float32)
    return TrialResult(trial, row, history, scores_N, None)


def best_trial(results: Sequence[TrialResult]) -> TrialResult | None:
    """The completed trial of highest validation accuracy, of equal ones the first."""
    completed = [result for result in results if result.row["status"] == COMPLETED]
    return max(completed, key=lambda result: result.row["val_accuracy"], default=None)


def keep_best_weights(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Lets go of all weights but those of each experiment's best trial, which are copied out of
    their cohort's."""
    by_experiment: dict[str, list[TrialResult]] = {}
    for result in results:
        by_experiment.setdefault(result.trial.experiment.name, []).append(result)
    best = [best_trial(mine) for mine in by_experiment.values()]
    return [
        result._replace(
            weights=jax.tree.map(np.copy, result.weights)
            if any(result is one for one in best)
            else None
        )
        for result in results
    ]


def _trial_metrics(
    trial: Trial, scores_N: np.ndarray, dataset: Dataset, parts: np.ndarray
) -> dict[str, float]:
    difference = pair_differences(scores_N, dataset)
    part_M = parts[trial.fold][dataset.series_M]
    loss = losses.LOSSES[trial.experiment.loss]
    margin = np.float32(trial.experiment.margin)
    value, weight = jax.device_get(
        loss(jnp.asarray(difference), jnp.asarray(dataset.preference_M), jnp.asarray(margin))
    )
    metrics = _accuracies(difference, dataset, part_M)
    for part, name in enumerate(splits.PART_NAMES):
        metrics[f"{name}_loss"] = mean_of_part(value, weight, part_M, part)
    return metrics


def _accuracies(difference_M: np.ndarray, dataset: Dataset, part_M: np.ndarray) -> dict[str, float]:
    hit, weight = hits_of(difference_M, dataset.preference_M)
    return {
        f"{name}_accuracy": mean_of_part(hit, weight, part_M, part)
        for part, name in enumerate(splits.PART_NAMES)
    }


def rule_scores(dataset: Dataset) -> dict[str, np.ndarray]:
    """The one-line rules as scores [N]: chance, and each image-quality number as it is."""
    scores = {CHANCE: np.zeros(len(dataset.photos), np.float32)}
    if IQA_BLOCK in dataset.block_columns:
        columns = dataset.block_columns[IQA_BLOCK]
        for name, index in zip(columns, dataset.column_indices([IQA_BLOCK]), strict=True):
            unique = f"{IQA_BLOCK}:{name}" if name in (CHANCE, LINEAR) else name
            scores[unique] = dataset.features_ND[:, index]
    return scores


def rule_accuracies(scores_N: np.ndarray, dataset: Dataset, parts: np.ndarray) -> dict[str, float]:
    """Accuracy of a rule on each part, the mean over folds."""
    difference = pair_differences(scores_N, dataset)
    per_fold = [_accuracies(difference, dataset, fold[dataset.series_M]) for fold in parts]
    return pd.DataFrame(per_fold).mean().to_dict()


def standard_error_of_test(
    results: Sequence[TrialResult], dataset: Dataset, parts: np.ndarray
) -> tuple[float, int, int]:
    """Standard error of an experiment's test accuracy, with its numbers of pairs and series.

    Series are the independent units: the residuals of a series' pairs are summed before they are
    squared (linearised ratio estimator, Cochran 1977, section 3A). It covers the draw of test
    series, not retraining, and not the choice among experiments. NaN below FEWEST_SERIES.
    """
    hits_M, weight_M = np.zeros((2, len(dataset.preference_M)))
    for result in results:
        if result.row["status"] == COMPLETED:
            difference = pair_differences(result.scores_N, dataset)
            hit, directed = hits_of(difference, dataset.preference_M)
            tested = directed * (parts[result.trial.fold][dataset.series_M] == splits.TEST)
            hits_M += hit * tested
            weight_M += tested
    accuracy = hits_M.sum() / weight_M.sum()
    residual = np.bincount(dataset.series_M, weights=hits_M - weight_M * accuracy)
    tested = weight_M > 0
    num_series = len(np.unique(dataset.series_M[tested]))
    if num_series < FEWEST_SERIES:
        return float("nan"), int(tested.sum()), num_series
    correction = num_series / (num_series - 1)
    error = float(np.sqrt(correction * (residual**2).sum()) / weight_M.sum())
    return error, int(tested.sum()), num_series


def predictions(
    results: Sequence[TrialResult], dataset: Dataset, parts: np.ndarray
) -> pd.DataFrame:
    """The rows of `predictions.csv`: validation and test pairs of every completed trial."""
    frames = []
    for result in results:
        trial, scores_N = result.trial, result.scores_N
        part_M = parts[trial.fold][dataset.series_M]
        chosen = np.flatnonzero(part_M != splits.TRAIN)
        rows_a, rows_b = dataset.pair_rows_M2[chosen].T
        hit, weight = hits_of(scores_N[rows_a] - scores_N[rows_b], dataset.preference_M[chosen])
        frame = dataset.table.loc[chosen, ["series_id", "image_a", "image_b", "preference"]]
        frames.append(
            frame.assign(
                score_a=scores_N[rows_a],
                score_b=scores_N[rows_b],
                correct=np.where(weight > 0, hit, np.nan),
                split=np.array(splits.PART_NAMES)[part_M[chosen]],
                fold=trial.fold,
                seed=trial.seed,
            )
        )
    return pd.concat(frames, ignore_index=True)
