"""Metrics of trained trials and of baselines, from the scores of all photos.

An evaluation needs only a score for each photo: pair differences, and the accuracy and loss of
every split, follow from it. Axis letters: N photos, M pairs; X scorers measured at once.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxrank import losses
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, permutation_control
from jaxrank.evaluation import ranking
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.experiments.hyperparameters import Experiment
from jaxrank.io.columns import text_column
from jaxrank.metrics import (
    accuracy,
    masked_mean,
    pair_differences,
    pair_hits,
    weighted_accuracy,
)
from jaxrank.planning.trials import Trial
from jaxrank.statistics import clustered_error

if TYPE_CHECKING:
    import pyarrow

# Columns that identify a pair.
PAIR_NAMES = ("series_id", "image_a", "image_b")
# Splits on which the order of a series' photos is measured.
ORDERED_SPLITS = (splits.VALIDATION, splits.TEST)


class Evaluator(NamedTuple):
    """Pairs, splits and ground truth that trials and baselines are measured on; F folds.

    Attributes:
      data: pairs and their splits.
      photos: by fold and split of ORDERED_SPLITS, the photos in its pairs, grouped by series.
      strength_source: origin of the ground-truth strength of photos.
      control: evaluator of the permutation control; None in the control's own evaluator.
      names: PAIR_NAMES and `preference` of each pair, the first columns of all predictions.
    """

    data: SplitDataset
    photos: dict[tuple[int, int], ranking.SeriesPhotos]
    strength_source: str
    control: "Evaluator | None"
    names: "pyarrow.Table"

    @property
    def dataset(self) -> Dataset:
        return self.data.dataset

    @property
    def splits_FM(self) -> np.ndarray:
        """Split of every pair in every fold, int8."""
        return self.data.splits_FM

    def of(self, experiment: Experiment) -> "Evaluator":
        """Evaluator for the trials of an experiment."""
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
    return Evaluator(data, photos, source, control, _pair_names(data.dataset.table))


def _pair_names(table: pd.DataFrame) -> "pyarrow.Table":
    import pyarrow  # imports in a tenth of a second, which other commands need not wait for

    names = {name: text_column(table[name]) for name in PAIR_NAMES}
    return pyarrow.table(names | {"preference": table["preference"].to_numpy(np.float64)})


class ScoredPairs(NamedTuple):
    """Inputs of a metric: one split of one fold, of one scorer or with a leading axis X of several.

    Attributes:
      difference_XM, preference_M: score differences and preferences of the split's pairs.
      scores_XN: scores of all photos; None for a baseline that orders pairs without scoring photos.
      photos: photos of the split by series; None where photos have no scores.
      loss_XM, loss_weight_M: loss of each pair and which pairs count; None where nothing was
        trained with a loss.
    """

    difference_XM: np.ndarray
    preference_M: np.ndarray
    scores_XN: np.ndarray | None = None
    photos: ranking.SeriesPhotos | None = None
    loss_XM: np.ndarray | None = None
    loss_weight_M: np.ndarray | None = None

    @property
    def unknown(self) -> np.ndarray:
        """NaN for each scorer."""
        return np.full(self.difference_XM.shape[:-1], np.nan)[()]


class Metric(NamedTuple):
    """Metric of scored pairs; its columns are `SPLIT_NAME`, such as `val_accuracy`.

    Attributes:
      splits: splits on which it is measured.
      measure: function that returns its value for each scorer; NaN where it cannot be measured.
      title: title of its column on the screen, which shows test pairs, so a titled metric must be
        measured on the test split; empty if not shown.
      is_share: whether it is shown as a percentage, else with two decimals.
    """

    name: str
    splits: tuple[int, ...]
    measure: Callable[[ScoredPairs], np.ndarray]
    title: str = ""
    is_share: bool = True

    @property
    def columns(self) -> list[str]:
        return [f"{splits.SPLIT_NAMES[split]}_{self.name}" for split in self.splits]


def _loss(scored: ScoredPairs) -> np.ndarray:
    if scored.loss_XM is None or scored.loss_weight_M is None:
        return scored.unknown
    return masked_mean(scored.loss_XM, scored.loss_weight_M)


def _of_series(measure: Callable[[np.ndarray, ranking.SeriesPhotos], np.ndarray]) -> Any:
    """Turns a metric of whole series into a metric of scored pairs."""

    def measured(scored: ScoredPairs) -> np.ndarray:
        if scored.scores_XN is None or scored.photos is None:
            return scored.unknown
        return measure(scored.scores_XN, scored.photos)

    return measured


# To add a metric, add a function and a row here: every table gets its columns.
METRICS = (
    Metric(
        "accuracy",
        splits.MEASURED,
        lambda scored: accuracy(scored.difference_XM, scored.preference_M),
    ),
    Metric("loss", splits.MEASURED, _loss),
    Metric("top1_hit", ORDERED_SPLITS, _of_series(ranking.top1_hit), "top-1"),
    Metric("kendall_tau", ORDERED_SPLITS, _of_series(ranking.kendall_tau), "tau", is_share=False),
    Metric(
        "weighted_accuracy",
        ORDERED_SPLITS,
        lambda scored: weighted_accuracy(scored.difference_XM, scored.preference_M),
        "weighted",
    ),
)


def _measure(
    difference_XM: np.ndarray,
    evaluator: Evaluator,
    fold: int,
    scores_XN: np.ndarray | None = None,
    losses: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Measures all metrics of a fold for each scorer, by column.

    Args:
      losses: loss of each pair, [X, M], and which pairs count, [M].
    """

    def scored_pairs(split: int) -> ScoredPairs:
        rows = evaluator.data.rows(fold, split)
        return ScoredPairs(
            np.take(difference_XM, rows, axis=-1),
            evaluator.dataset.preference_M[rows],
            scores_XN,
            None if scores_XN is None else evaluator.photos.get((fold, split)),
            *(() if losses is None else (np.take(v, rows, axis=-1) for v in losses)),
        )

    scored = {split: scored_pairs(split) for split in splits.MEASURED}
    return {
        column: metric.measure(scored[split])
        for metric in METRICS
        for split, column in zip(metric.splits, metric.columns, strict=True)
    }


def trial_metrics(
    trials: Sequence[Trial], scores_XN: np.ndarray, log_ties_X: np.ndarray, evaluator: Evaluator
) -> list[dict[str, float]]:
    """Metrics, by column, of trained trials of one fold with one loss.

    Args:
      trials: X trials.
      scores_XN, log_ties_X: scores and log tie parameters of the trials.
      evaluator: evaluator of the pairs; for a control, its own.
    """
    difference_XM = pair_differences(scores_XN, evaluator.dataset.pair_rows_M2)
    loss_XM, weight_XM = loss_of_pairs(
        trials[0].experiment.loss,
        difference_XM,
        evaluator.dataset.preference_M,
        np.array([[trial.experiment.margin] for trial in trials]),
        log_ties_X[:, None],
    )
    # Which pairs count depends on the preferences alone.
    losses = loss_XM, np.broadcast_to(weight_XM, loss_XM.shape)[0]
    return _rows(_measure(difference_XM, evaluator, trials[0].fold, scores_XN, losses))


def _rows(measured: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    """Converts metrics by column into one dictionary per scorer."""
    columns = [values_X.tolist() for values_X in measured.values()]
    return [dict(zip(measured, row, strict=True)) for row in zip(*columns, strict=True)]


def loss_of_pairs(
    loss: str, difference_XM: np.ndarray, preference_M: np.ndarray, margin: Any, log_ties: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Computes a loss on the host: the loss of each pair, and which pairs count."""
    numbers = (difference_XM, preference_M, np.float32(margin), np.float32(log_ties))
    return jax.device_get(losses.LOSSES[loss](*map(jnp.asarray, numbers)))


def scores_metrics(
    scores_XN: np.ndarray, evaluator: Evaluator, fold: int
) -> list[dict[str, float]]:
    """Metrics, in one fold, of scores that were not trained with a loss."""
    difference_XM = pair_differences(scores_XN, evaluator.dataset.pair_rows_M2)
    return _rows(_measure(difference_XM, evaluator, fold, scores_XN))


def position_metrics(evaluator: Evaluator, folds: Sequence[int]) -> dict[str, float]:
    """Metrics of the baseline that always prefers photo a.

    It detects a table whose pairs are not in random order.
    """
    always_a_M = np.ones(len(evaluator.dataset.preference_M), np.float32)
    per_fold = [_measure(always_a_M, evaluator, fold) for fold in folds]
    return pd.DataFrame(per_fold).mean().to_dict()


def baseline_metrics(
    scores: np.ndarray, evaluator: Evaluator, folds: Sequence[int] | None = None
) -> dict[str, float]:
    """Metrics of a baseline, averaged over folds.

    Args:
      scores: [N], or [F, N] where each fold has its own.
      evaluator: evaluator of the pairs.
      folds: F folds, by default all.
    """
    chosen = range(len(evaluator.splits_FM)) if folds is None else folds
    scores_FN = np.broadcast_to(scores, (len(chosen), len(evaluator.dataset.photos)))
    difference_FM = pair_differences(scores_FN, evaluator.dataset.pair_rows_M2)
    per_fold = [
        _measure(difference_M, evaluator, fold, scores_N)
        for difference_M, fold, scores_N in zip(difference_FM, chosen, scores_FN, strict=True)
    ]
    return pd.DataFrame(per_fold).mean().to_dict()


def control_z(results: Sequence[TrialResult], evaluator: Evaluator) -> tuple[float, float]:
    """Test accuracy of the permutation control, and its z against one half (in standard errors)."""
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
