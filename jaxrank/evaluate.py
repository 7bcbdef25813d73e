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
from scipy.optimize import brentq
from scipy.special import expit

from jaxrank import losses, orderings
from jaxrank.configs import REFERENCES
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, permutation_control
from jaxrank.experiments.hyperparameters import Experiment
from jaxrank.models import Scorer, narrowed
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.training import state, step

# The status of a trial in the tables.
COMPLETED, FAILED = "completed", "failed"
CHANCE, POSITION = "chance", "position"
IQA_BLOCK = "iqa"
# The columns of `history.csv`. Those of training are running means over the epoch's batches, with
# dropout, while the parameters moved; `trials.csv` has those of the chosen parameters.
HISTORY_METRICS = {
    "running_train_loss": "train_loss",
    "running_train_accuracy": "train_accuracy",
    "val_loss": "val_loss",
    "val_accuracy": "val_accuracy",
}
# Parts on which the order of a series' photos is measured.
ORDERED_PARTS = (splits.VALIDATION, splits.TEST)
# Log-odds that stand for certainty.
_CERTAIN = 20.0
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


class Yardstick(NamedTuple):
    """What every trial and rule is measured with; F folds.

    Attributes:
      dataset: the pairs.
      parts_FM: int8, the part of every pair in every fold.
      photos: of each fold and part of ORDERED_PARTS, the photos in its pairs, by series.
      worth: where the true order of a series' photos comes from.
      control: the same of renumbered pairs; None in a control's own.
    """

    dataset: Dataset
    parts_FM: np.ndarray
    photos: dict[tuple[int, int], orderings.SeriesPhotos]
    worth: str
    control: "Yardstick | None"

    def of(self, experiment: Experiment) -> "Yardstick":
        """The one for an experiment's trials."""
        return self.control if experiment.renumbered and self.control is not None else self


def make_yardstick(dataset: Dataset, parts_FM: np.ndarray) -> Yardstick:
    control = _make_yardstick(permutation_control(dataset), parts_FM, None)
    return _make_yardstick(dataset, parts_FM, control)


def _make_yardstick(dataset: Dataset, parts_FM: np.ndarray, control: Yardstick | None) -> Yardstick:
    worth_N, source = orderings.true_worth(dataset)
    photos = {
        (fold, part): orderings.series_photos(
            dataset, worth_N, np.flatnonzero(parts_FM[fold] == part)
        )
        for fold in range(len(parts_FM))
        for part in ORDERED_PARTS
    }
    return Yardstick(dataset, parts_FM, photos, source, control)


def trial_results(
    cohort: Cohort, fitted: state.FitResult, yardstick: Yardstick
) -> list[TrialResult]:
    dataset = yardstick.dataset
    results = []
    for p, trial in enumerate(cohort.trials):
        row = _row(trial, int(fitted.epochs_run_P[p]), fitted.seconds / len(cohort.trials))
        unscored = np.flatnonzero(~np.isfinite(fitted.scores_PN[p]))
        if fitted.status_P[p] == state.FAILED:
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
            learned = step.log_ties(jax.tree.map(lambda leaf, p=p: leaf[p], fitted.best_params))
            measure = yardstick.of(trial.experiment)
            row |= _trial_metrics(trial, fitted.scores_PN[p], learned, measure)
        ran = fitted.history.running[:, p]
        history = pd.DataFrame(
            {"fold": trial.fold, "seed": trial.seed, "epoch": np.flatnonzero(ran) + 1}
            | {
                column: getattr(fitted.history, metric)[ran, p]
                for column, metric in HISTORY_METRICS.items()
            }
        )
        params = jax.tree.map(lambda leaf, p=p: leaf[p], fitted.best_params)
        own_dims = trial.experiment.mlp_hidden_dims
        if own_dims != cohort.program_key.hidden_dims:
            params = narrowed(Scorer(own_dims), cohort.input_dim, params)
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


def fit_slope(difference_M: np.ndarray, preference_M: np.ndarray) -> float:
    """The factor that makes score differences log-odds of being preferred, never negative.

    Temperature scaling (Guo et al. 2017): minimises the mean cross-entropy of the logistic of
    slope * difference, which is convex in the slope. Zero where higher scores are not preferred;
    where all pairs are right, the bound at which the larger half of differences are certain.
    """
    difference, preference = difference_M.astype(np.float64), preference_M.astype(np.float64)
    different = difference[difference != 0]
    if not len(different):
        return 0.0
    scale = float(np.median(np.abs(different)))
    scaled = difference / scale

    def gradient(slope: float) -> float:
        return float(np.mean(scaled * (expit(slope * scaled) - preference)))

    if gradient(0.0) >= 0:
        return 0.0
    slope = _CERTAIN if gradient(_CERTAIN) <= 0 else brentq(gradient, 0.0, _CERTAIN)
    return float(slope) / scale


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
    trial: Trial, scores_N: np.ndarray, log_ties: Any, yardstick: Yardstick
) -> dict[str, float]:
    dataset, part_M = yardstick.dataset, yardstick.parts_FM[trial.fold]
    value, weight = loss_of_pairs(
        trial.experiment.loss,
        pair_differences(scores_N, dataset),
        dataset.preference_M,
        trial.experiment.margin,
        log_ties,
    )
    metrics = score_metrics(scores_N, yardstick, trial.fold)
    for part in splits.MEASURED:
        name = splits.PART_NAMES[part]
        metrics[f"{name}_loss"] = mean_of_part(value, weight, part_M, part)
    return metrics


def loss_of_pairs(
    loss: str, difference_M: np.ndarray, preference_M: np.ndarray, margin: float, log_ties: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A loss on the host: of each pair, and which pairs count."""
    numbers = map(jnp.asarray, (difference_M, preference_M, np.float32(margin), log_ties))
    return jax.device_get(losses.LOSSES[loss](*numbers))


def score_metrics(scores_N: np.ndarray, yardstick: Yardstick, fold: int) -> dict[str, float]:
    """Accuracy on each part of a fold, and how well series are ordered, by scores [N]."""
    metrics = _accuracies(pair_differences(scores_N, yardstick.dataset), yardstick, fold)
    for part in ORDERED_PARTS:
        photos = yardstick.photos[fold, part]
        metrics[f"{splits.PART_NAMES[part]}_top1_hit"] = orderings.top1_hit(scores_N, photos)
        metrics[f"{splits.PART_NAMES[part]}_kendall_tau"] = orderings.kendall_tau(scores_N, photos)
    return metrics


def _accuracies(difference_M: np.ndarray, yardstick: Yardstick, fold: int) -> dict[str, float]:
    hit, weight = hits_of(difference_M, yardstick.dataset.preference_M)
    part_M = yardstick.parts_FM[fold]
    return {
        f"{splits.PART_NAMES[part]}_accuracy": mean_of_part(hit, weight, part_M, part)
        for part in splits.MEASURED
    }


def position_metrics(yardstick: Yardstick, folds: Sequence[int]) -> dict[str, float]:
    """The rule that photo a is always the better: it finds a table that is not in random order."""
    always_a_M = np.ones(len(yardstick.dataset.preference_M), np.float32)
    per_fold = [_accuracies(always_a_M, yardstick, fold) for fold in folds]
    return pd.DataFrame(per_fold).mean().to_dict()


def rule_scores(dataset: Dataset) -> dict[str, np.ndarray]:
    """The one-line rules as scores [N]: chance, and each image-quality number as it is."""
    scores = {CHANCE: np.zeros(len(dataset.photos), np.float32)}
    if IQA_BLOCK in dataset.block_columns:
        columns = dataset.block_columns[IQA_BLOCK]
        for name, index in zip(columns, dataset.column_indices([IQA_BLOCK]), strict=True):
            unique = f"{IQA_BLOCK}:{name}" if name in (CHANCE, POSITION, *REFERENCES) else name
            scores[unique] = dataset.features_ND[:, index]
    return scores


def rule_metrics(
    scores_N: np.ndarray, yardstick: Yardstick, folds: Sequence[int] | None = None
) -> dict[str, float]:
    """The metrics of a rule, means over folds, by default over all."""
    chosen = range(len(yardstick.parts_FM)) if folds is None else folds
    per_fold = [score_metrics(scores_N, yardstick, fold) for fold in chosen]
    return pd.DataFrame(per_fold).mean().to_dict()


def control_z(results: Sequence[TrialResult], yardstick: Yardstick) -> tuple[float, float]:
    """Test accuracy of the control's trials, and by how many standard errors it is off one half."""
    control = yardstick.control
    assert control is not None, "the yardstick of a control has no control of its own"
    hits_M, weight_M = _tested(results, control)
    accuracy = float(hits_M.sum() / weight_M.sum()) if weight_M.any() else float("nan")
    error, _, _ = clustered_error(hits_M, weight_M, control.dataset.series_M)
    if error == 0 and accuracy != 0.5:  # all of them right, or wrong
        return accuracy, float(np.copysign(np.inf, accuracy - 0.5))
    return accuracy, (accuracy - 0.5) / error if error > 0 else float("nan")


def _tested(results: Sequence[TrialResult], yardstick: Yardstick) -> tuple[np.ndarray, np.ndarray]:
    """Hits and weights [M] of the test pairs, summed over completed trials."""
    dataset, parts = yardstick.dataset, yardstick.parts_FM
    hits_M, weight_M = np.zeros((2, len(dataset.preference_M)))
    for result in results:
        if result.row["status"] == COMPLETED:
            difference = pair_differences(result.scores_N, dataset)
            hit, directed = hits_of(difference, dataset.preference_M)
            tested = directed * (parts[result.trial.fold] == splits.TEST)
            hits_M += hit * tested
            weight_M += tested
    return hits_M, weight_M


def clustered_error(
    hits_M: np.ndarray, weight_M: np.ndarray, series_M: np.ndarray
) -> tuple[float, int, int]:
    """Standard error of sum(hits) / sum(weight), with its numbers of pairs and series.

    Series are the independent units: the residuals of a series' pairs are summed before they are
    squared (linearised ratio estimator, Cochran 1977, section 3A). NaN below FEWEST_SERIES.
    """
    used = weight_M > 0  # a pair without a direction has half a hit, and no weight
    hits, weight, series = hits_M[used], weight_M[used], series_M[used]
    num_pairs, num_series = len(hits), len(np.unique(series))
    if num_series < FEWEST_SERIES:
        return float("nan"), num_pairs, num_series
    total = float(weight.sum())
    accuracy = float(hits.sum()) / total
    residual = np.bincount(series, weights=hits - weight * accuracy)
    correction = num_series / (num_series - 1)
    return float(np.sqrt(correction * (residual**2).sum())) / total, num_pairs, num_series


def predictions(results: Sequence[TrialResult], yardstick: Yardstick) -> pd.DataFrame:
    """The rows of `predictions.csv`: validation and test pairs of every completed trial."""
    dataset, parts = yardstick.dataset, yardstick.parts_FM
    frames = []
    for result in results:
        trial, scores_N = result.trial, result.scores_N
        part_M = parts[trial.fold]
        chosen = np.flatnonzero(np.isin(part_M, ORDERED_PARTS))
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
