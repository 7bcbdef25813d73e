"""Metrics of trained trials and of baselines, from the scores of all photos.

A score for each photo is all that an evaluation needs: differences of pairs, accuracy and loss of
every split follow from it. Axis letters: P trials, N photos, M pairs.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxrank import losses
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, permutation_control
from jaxrank.evaluation import ranking
from jaxrank.evaluation.trial_results import (
    FAILED,
    HISTORY_METRICS,
    TrialMetrics,
    TrialResult,
    metrics_of,
)
from jaxrank.experiments.hyperparameters import Experiment
from jaxrank.metrics import (
    accuracy,
    masked_mean,
    pair_differences,
    pair_hits,
    weighted_accuracy,
)
from jaxrank.models import Scorer, narrowed
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.statistics import clustered_error
from jaxrank.training import state, step

# Splits on which the order of a series' photos is measured.
ORDERED_SPLITS = (splits.VALIDATION, splits.TEST)


class Evaluator(NamedTuple):
    """What every trial and rule is measured with; F folds.

    Attributes:
      data: the pairs and their splits.
      photos: of each fold and split of ORDERED_SPLITS, the photos in its pairs, by series.
      strength_source: where the ground-truth strength of photos comes from.
      control: the same of renumbered pairs; None in a control's own.
    """

    data: SplitDataset
    photos: dict[tuple[int, int], ranking.SeriesPhotos]
    strength_source: str
    control: "Evaluator | None"

    @property
    def dataset(self) -> Dataset:
        return self.data.dataset

    @property
    def splits_FM(self) -> np.ndarray:
        """int8, the split of every pair in every fold."""
        return self.data.splits_FM

    def of(self, experiment: Experiment) -> "Evaluator":
        """The one for an experiment's trials."""
        return self.control if experiment.is_control and self.control is not None else self


def make_evaluator(data: SplitDataset) -> Evaluator:
    moved = dataclasses.replace(data, dataset=permutation_control(data.dataset))
    return _make_evaluator(data, _make_evaluator(moved, None))


def _make_evaluator(data: SplitDataset, control: Evaluator | None) -> Evaluator:
    strength_N, source = ranking.ground_truth_strength(data.dataset)
    photos = {
        (fold, split): ranking.series_photos(data.dataset, strength_N, data.rows(fold, split))
        for fold in range(data.num_folds)
        for split in ORDERED_SPLITS
    }
    return Evaluator(data, photos, source, control)


class ScoredPairs(NamedTuple):
    """What a metric sees of one split of one fold.

    Attributes:
      difference_M, preference_M: of the pairs of the split.
      scores_N: of all photos; None for a baseline that orders pairs without scoring photos.
      photos: the photos of the split by series; None where photos have no scores.
      loss_M, loss_weight_M: of a trained trial, the loss of each pair and which pairs count.
    """

    difference_M: np.ndarray
    preference_M: np.ndarray
    scores_N: np.ndarray | None = None
    photos: ranking.SeriesPhotos | None = None
    loss_M: np.ndarray | None = None
    loss_weight_M: np.ndarray | None = None


class Metric(NamedTuple):
    """A metric of scored pairs; its columns are `SPLIT_NAME`, such as `val_accuracy`.

    Attributes:
      splits: on which it is measured.
      measure: NaN where it can't be measured.
      title: of its column on the screen, which shows test pairs, so it must be measured on those;
        empty: not shown.
      is_share: shown as a percentage, else with two decimals.
    """

    name: str
    splits: tuple[int, ...]
    measure: Callable[[ScoredPairs], float]
    title: str = ""
    is_share: bool = True

    @property
    def columns(self) -> list[str]:
        return [f"{splits.SPLIT_NAMES[split]}_{self.name}" for split in self.splits]


def _loss(scored: ScoredPairs) -> float:
    if scored.loss_M is None or scored.loss_weight_M is None:
        return float("nan")
    return masked_mean(scored.loss_M, scored.loss_weight_M)


def _of_series(measure: Callable[[np.ndarray, ranking.SeriesPhotos], float]) -> Any:
    """A metric of whole series as one of scored pairs."""

    def measured(scored: ScoredPairs) -> float:
        if scored.scores_N is None or scored.photos is None:
            return float("nan")
        return measure(scored.scores_N, scored.photos)

    return measured


# A new metric is a function and a row here: every table has its columns then.
METRICS = (
    Metric(
        "accuracy",
        splits.MEASURED,
        lambda scored: accuracy(scored.difference_M, scored.preference_M),
    ),
    Metric("loss", splits.MEASURED, _loss),
    Metric("top1_hit", ORDERED_SPLITS, _of_series(ranking.top1_hit), "top-1"),
    Metric("kendall_tau", ORDERED_SPLITS, _of_series(ranking.kendall_tau), "tau", is_share=False),
    Metric(
        "weighted_accuracy",
        ORDERED_SPLITS,
        lambda scored: weighted_accuracy(scored.difference_M, scored.preference_M),
        "weighted",
    ),
)


def _measure(
    difference_M: np.ndarray,
    evaluator: Evaluator,
    fold: int,
    scores_N: np.ndarray | None = None,
    losses_M: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, float]:
    """All metrics of a fold, by column."""
    found = {}
    for metric in METRICS:
        for split, column in zip(metric.splits, metric.columns, strict=True):
            mine = evaluator.splits_FM[fold] == split
            found[column] = metric.measure(
                ScoredPairs(
                    difference_M[mine],
                    evaluator.dataset.preference_M[mine],
                    scores_N,
                    None if scores_N is None else evaluator.photos.get((fold, split)),
                    *(() if losses_M is None else (values_M[mine] for values_M in losses_M)),
                )
            )
    return found


def trial_metrics(
    trial: Trial, scores_N: np.ndarray, log_ties: Any, evaluator: Evaluator
) -> dict[str, float]:
    """The metrics of a trained trial, by column, from its scores [N]."""
    difference_M = pair_differences(scores_N, evaluator.dataset.pair_rows_M2)
    losses_M = loss_of_pairs(
        trial.experiment.loss,
        difference_M,
        evaluator.dataset.preference_M,
        trial.experiment.margin,
        log_ties,
    )
    return _measure(difference_M, evaluator, trial.fold, scores_N, losses_M)


def loss_of_pairs(
    loss: str, difference_M: np.ndarray, preference_M: np.ndarray, margin: float, log_ties: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A loss on the host: of each pair, and which pairs count."""
    numbers = map(jnp.asarray, (difference_M, preference_M, np.float32(margin), log_ties))
    return jax.device_get(losses.LOSSES[loss](*numbers))


def position_metrics(evaluator: Evaluator, folds: Sequence[int]) -> dict[str, float]:
    """The baseline by which photo a is always the better: it finds a table that is not in random
    order."""
    always_a_M = np.ones(len(evaluator.dataset.preference_M), np.float32)
    per_fold = [_measure(always_a_M, evaluator, fold) for fold in folds]
    return pd.DataFrame(per_fold).mean().to_dict()


def baseline_metrics(
    scores: np.ndarray, evaluator: Evaluator, folds: Sequence[int] | None = None
) -> dict[str, float]:
    """The metrics of a baseline, means over folds.

    Args:
      scores: [N], or [F, N] where each fold has its own.
      evaluator: the pairs.
      folds: F of them, by default all.
    """
    chosen = range(len(evaluator.splits_FM)) if folds is None else folds
    scores_FN = np.broadcast_to(scores, (len(chosen), len(evaluator.dataset.photos)))
    difference_FM = pair_differences(scores_FN, evaluator.dataset.pair_rows_M2)
    per_fold = [
        _measure(difference_M, evaluator, fold, scores_N)
        for difference_M, fold, scores_N in zip(difference_FM, chosen, scores_FN, strict=True)
    ]
    return pd.DataFrame(per_fold).mean().to_dict()


def evaluate_cohort(
    cohort: Cohort, fitted: state.FitResult, evaluator: Evaluator
) -> list[TrialResult]:
    """The results of a trained cohort's trials."""
    results = []
    for p, trial in enumerate(cohort.trials):
        ran = fitted.history.running[:, p]
        history = pd.DataFrame(
            {"fold": trial.fold, "seed": trial.seed, "epoch": np.flatnonzero(ran) + 1}
            | {
                column: getattr(fitted.history, metric)[ran, p]
                for column, metric in HISTORY_METRICS.items()
            }
        )
        params = jax.tree.map(lambda leaf, p=p: leaf[p], fitted.best_params)
        metrics = _metrics_of(
            trial, p, fitted, len(cohort.trials), step.log_ties(params), evaluator
        )
        own_dims = trial.experiment.mlp_hidden_dims
        if own_dims != cohort.program_key.mlp_hidden_dims:
            params = narrowed(Scorer(own_dims), cohort.input_dim, params)
        weights = state.InitialWeights(params, fitted.scaling_P[p])
        results.append(TrialResult(trial, metrics, history, fitted.scores_PN[p], weights))
    return results


def _metrics_of(
    trial: Trial,
    p: int,
    fitted: state.FitResult,
    num_trials: int,
    log_ties: Any,
    evaluator: Evaluator,
) -> TrialMetrics:
    epochs_run = int(fitted.epochs_run_P[p])
    metrics = metrics_of(trial, epochs_run=epochs_run, seconds=fitted.seconds / num_trials)
    unscored = np.flatnonzero(~np.isfinite(fitted.scores_PN[p]))
    if fitted.status_P[p] == state.FAILED:
        error = (
            f"the loss was not a finite number in epoch {epochs_run}; lower "
            f"learning_rate={trial.experiment.learning_rate:g}, or look for huge features"
        )
    elif len(unscored):
        error = (
            f"the score of photo '{evaluator.dataset.photos[unscored[0]]}' is not a finite number; "
            "look at its features"
        )
    else:
        own = evaluator.of(trial.experiment)
        return dataclasses.replace(
            metrics,
            best_epoch=int(fitted.best_epoch_P[p]) + 1,
            measured=trial_metrics(trial, fitted.scores_PN[p], log_ties, own),
        )
    return dataclasses.replace(metrics, status=FAILED, error=error)


def control_z(results: Sequence[TrialResult], evaluator: Evaluator) -> tuple[float, float]:
    """Test accuracy of the control's trials, and by how many standard errors it is off one half."""
    control = evaluator.control
    assert control is not None, "the evaluator of a control has no control of its own"
    hits_M, weight_M = _tested(results, control)
    share = float(hits_M.sum() / weight_M.sum()) if weight_M.any() else float("nan")
    error, _, _ = clustered_error(hits_M, weight_M, control.dataset.series_M)
    if error == 0 and share != 0.5:  # all of them right, or wrong
        return share, float(np.copysign(np.inf, share - 0.5))
    return share, (share - 0.5) / error if error > 0 else float("nan")


def _tested(results: Sequence[TrialResult], evaluator: Evaluator) -> tuple[np.ndarray, np.ndarray]:
    """Hits and weights [M] of the test pairs, summed over completed trials."""
    dataset, splits_FM = evaluator.dataset, evaluator.splits_FM
    hits_M, weight_M = np.zeros((2, len(dataset.preference_M)))
    for result in results:
        if result.metrics.completed:
            difference = pair_differences(result.scores_N, dataset.pair_rows_M2)
            hit, directed = pair_hits(difference, dataset.preference_M)
            tested = directed * (splits_FM[result.trial.fold] == splits.TEST)
            hits_M += hit * tested
            weight_M += tested
    return hits_M, weight_M


def predictions(results: Sequence[TrialResult], evaluator: Evaluator) -> pd.DataFrame:
    """The rows of `predictions.csv`: validation and test pairs of every completed trial."""
    dataset, splits_FM = evaluator.dataset, evaluator.splits_FM
    frames = []
    for result in results:
        trial, scores_N = result.trial, result.scores_N
        split_M = splits_FM[trial.fold]
        chosen = np.flatnonzero(np.isin(split_M, ORDERED_SPLITS))
        rows_a, rows_b = dataset.pair_rows_M2[chosen].T
        hit, weight = pair_hits(scores_N[rows_a] - scores_N[rows_b], dataset.preference_M[chosen])
        frame = dataset.table.loc[chosen, ["series_id", "image_a", "image_b", "preference"]]
        frames.append(
            frame.assign(
                score_a=scores_N[rows_a],
                score_b=scores_N[rows_b],
                correct=np.where(weight > 0, hit, np.nan),
                split=np.array(splits.SPLIT_NAMES)[split_M[chosen]],
                fold=trial.fold,
                seed=trial.seed,
            )
        )
    return pd.concat(frames, ignore_index=True)
