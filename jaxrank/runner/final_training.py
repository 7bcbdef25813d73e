"""Trains a final model: a configuration or a baseline, on every usable series."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxrank import baselines, train
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.data.preference_tables import counted
from jaxrank.evaluation import ensembles
from jaxrank.evaluation.ensembles import Combination
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.trial_results import TrialResult, best_trial, metrics_of, no_history
from jaxrank.experiments.hyperparameters import Experiment, default_experiment
from jaxrank.inference.saved_model import FINAL
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.runner import trial_archive
from jaxrank.runner.experiment_output import photos_seen
from jaxrank.runner.options import ALL_SERIES
from jaxrank.runner.prepare import Prepared
from jaxrank.runner.splitting import aside_pairs
from jaxrank.training import state
from jaxrank.training.checkpoint import num_bytes, pack, unpack
from jaxrank.training.checkpointing import Saver
from jaxrank.training.state import InitialWeights

# Number of the final model's cohort; the cohorts of a search count from 1.
_NUMBER = 0
# Photos whose scores are computed at a time.
_PHOTOS_AT_ONCE = 1 << 16

log = logging.getLogger("jaxrank")


class Trained(NamedTuple):
    """A trained final model.

    Attributes:
      experiment: configuration of the model; for a baseline, that of a linear scorer.
      fold: fold whose training pairs trained the model; None if all usable series trained it.
      seeds, epochs: seed and epochs of each member; zeros for a baseline.
      members: weights and scaling of each member.
      combination: combination of the members' scores.
      scores_N: scores of all photos.
      seen: names of the photos by how they were seen.
    """

    experiment: Experiment
    fold: int | None
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    members: list[InitialWeights]
    combination: Combination
    scores_N: np.ndarray
    seen: dict[str, frozenset[str]]


def usable_pairs(prepared: Prepared) -> SplitDataset:
    """All pairs that may train a final model, as the training pairs of one fold."""
    data = prepared.split_data
    usable_FM = np.full_like(data.splits_FM[:1], splits.TRAIN)
    if _leaves_aside(prepared):
        usable_FM[:, aside_pairs(data)] = splits.UNUSED
    return dataclasses.replace(data, splits_FM=usable_FM)


def _leaves_aside(prepared: Prepared) -> bool:
    """Whether the series set aside for confirmation are left out of the final model's training."""
    launch = prepared.launch
    return launch["confirm_share"] > 0 and launch["final_on"] != ALL_SERIES


def which_series(prepared: Prepared) -> str:
    """Describes the series that train a final model."""
    return "all series but those set aside" if _leaves_aside(prepared) else "all series"


def _trains_again(prepared: Prepared) -> bool:
    """Whether the final model is trained on more series than any model of the search."""
    return prepared.split_data.num_folds > 1 or prepared.launch["final_on"] == ALL_SERIES


def train_experiment(
    folder: Path,
    prepared: Prepared,
    mine: Sequence[TrialResult],
    evaluator: Evaluator,
    data_and_splits: str,
    saver: Saver,
) -> Trained | None:
    """Trains the selected experiment on all usable series; None if its scores are not finite.

    With one split and no further series, the best trial of the search is used instead.
    """
    if not _trains_again(prepared):
        return _best_of_search(mine, prepared, evaluator)
    experiment = mine[0].trial.experiment
    num_epochs = int(np.median([result.metrics.best_epoch for result in mine]) + 0.5)
    seeds = sorted({trial.seed for trial in prepared.trials
                    if trial.experiment.name == experiment.name})  # fmt: skip
    # No early stopping: the last epoch counts.
    without_stop = dataclasses.replace(experiment, patience=0)
    trials = [Trial(without_stop, 0, seed) for seed in seeds]
    usable = usable_pairs(prepared)
    rests_on = [data_and_splits, FINAL, num_epochs]
    if _leaves_aside(prepared):
        rests_on.append("series set aside")
    key = hashlib.sha256(json.dumps(rests_on).encode()).hexdigest()
    found, _ = trial_archive.read_results(folder, {_NUMBER: trials}, key)
    members = found.get(_NUMBER)
    if members is None:
        log.info(
            "final model: %s on all %s series, %s, seeds %s",
            experiment.name,
            f"{len(prepared.dataset.series_ids):,}",
            counted(num_epochs, "epoch"),
            ", ".join(map(str, seeds)),
        )
        with closing(saver.of(key)) as own:
            members = _train(trials, usable, prepared, num_epochs, own)
        with saver.finishing(_NUMBER):
            trial_archive.write_results(folder, _NUMBER, members, key)
    members = [result for result in members if np.isfinite(result.scores_N).all()]
    if not members:
        return None
    photos = np.unique(prepared.dataset.pair_rows_M2)
    scores_N, combination = ensembles.combine(np.stack([r.scores_N for r in members]), photos)
    weights = [result.weights for result in members if result.weights is not None]
    begun = prepared.start.seen if prepared.start is not None and experiment.init_from else {}
    return Trained(
        experiment=experiment,
        fold=None,
        seeds=tuple(result.trial.seed for result in members),
        epochs=(num_epochs,) * len(members),
        members=weights,
        combination=combination,
        scores_N=scores_N,
        seen=photos_seen(prepared.dataset, usable.splits_FM[0], begun),
    )


def _best_of_search(
    mine: Sequence[TrialResult], prepared: Prepared, evaluator: Evaluator
) -> Trained:
    """The best trial of a search with one split, which left out no more series than needed."""
    best = best_trial(mine)
    assert best is not None, "no trial was completed"
    assert best.weights is not None, "the best trial's weights were dropped"
    assert best.metrics.best_epoch is not None
    scores_N, combination = ensembles.fold_scores([best], evaluator.data, best.trial.fold)
    experiment = best.trial.experiment
    begun = prepared.start.seen if prepared.start is not None and experiment.init_from else {}
    return Trained(
        experiment=experiment,
        fold=best.trial.fold,
        seeds=(best.trial.seed,),
        epochs=(best.metrics.best_epoch,),
        members=[best.weights],
        combination=combination,
        scores_N=scores_N,
        seen=photos_seen(prepared.dataset, evaluator.splits_FM[best.trial.fold], begun),
    )


def _train(
    trials: Sequence[Trial],
    usable: SplitDataset,
    prepared: Prepared,
    num_epochs: int,
    saver: Saver,
) -> list[TrialResult]:
    """Trains the members of a final model."""
    limit = prepared.cohort_limit
    results: list[TrialResult] = []
    cohorts = planner.make_cohorts(trials, usable, limit, prepared.profile, on_one_device=True)
    for place, planned in enumerate(cohorts):
        cohort = planned._replace(
            epochs_per_dispatch=_largest_divisor(num_epochs, planned.epochs_per_dispatch)
        )
        number = _NUMBER - place

        save, restore = checkpoints_of(saver, number, len(cohort.trials))
        fitted = train.fit(
            cohort,
            usable,
            start=prepared.initial_weights,
            restore=restore,
            on_dispatch=save,
            num_epochs=num_epochs,
        )
        results += _members(cohort, fitted, num_epochs)
    saver.wait()
    for place in range(len(cohorts)):
        saver.drop(_NUMBER - place)
    return results


def checkpoints_of(
    saver: Saver, number: int, num_trials: int
) -> tuple[Callable[[state.Progress], None], Callable[[train.TrainState], state.Progress | None]]:
    """Functions that save and restore a cohort which is trained without the scheduler."""

    def save(progress: state.Progress) -> None:
        saver.check()
        if saver.claim(number, num_bytes(progress)):
            saver.begin_save(number, pack(progress))

    def restore(shapes: train.TrainState) -> state.Progress | None:
        checkpoint = saver.restore(number)
        return None if checkpoint is None else unpack(checkpoint, shapes, num_trials)

    return save, restore


def _largest_divisor(number: int, most: int) -> int:
    return max(d for d in range(1, min(number, most) + 1) if number % d == 0)


def _members(cohort: Cohort, fitted: state.FitResult, num_epochs: int) -> list[TrialResult]:
    results = []
    for p, trial in enumerate(cohort.trials):
        params = jax.tree.map(lambda leaf, p=p: np.asarray(leaf[p]), fitted.best_params)
        metrics = dataclasses.replace(
            metrics_of(trial, epochs_run=num_epochs, seconds=fitted.seconds / len(cohort.trials)),
            best_epoch=num_epochs,
        )
        scores_N = fitted.scores_PN[p]
        weights = InitialWeights(params, fitted.scaling_P[p])
        results.append(TrialResult(trial, metrics, no_history(), scores_N, weights))
    return results


def fit_baseline(name: str, prepared: Prepared) -> Trained:
    """Fits the selected baseline as a linear scorer, on all usable series.

    With one split and no further series, it is fitted on the training pairs of the search instead.
    """
    usable = usable_pairs(prepared) if _trains_again(prepared) else prepared.split_data
    linear = baselines.fit_linear(name, usable, 0)
    dataset = prepared.dataset
    photos = np.unique(dataset.pair_rows_M2[usable.rows(0, splits.TRAIN)])
    scores_N, combination = ensembles.combine(_linear_scores(linear, dataset)[None], photos)
    experiment = dataclasses.replace(
        default_experiment("default"),
        name=name,  # a column's name need not be valid for an experiment
        blocks=linear.blocks,
        mlp_hidden_dims=(),
        input_scaling=linear.input_scaling,
    )
    return Trained(
        experiment=experiment,
        fold=None if _trains_again(prepared) else 0,
        seeds=(0,),
        epochs=(0,),
        members=[InitialWeights({"params": {"kernel_0": linear.weights_D[None]}}, linear.scaling)],
        combination=combination,
        scores_N=scores_N,
        seen=photos_seen(prepared.dataset, usable.splits_FM[0], {}),
    )


def _linear_scores(linear: baselines.LinearBaseline, dataset: Dataset) -> np.ndarray:
    """Scores of all photos, float32 [N]."""
    scores = []
    for start in range(0, len(dataset.photos), _PHOTOS_AT_ONCE):
        photos = np.arange(start, min(start + _PHOTOS_AT_ONCE, len(dataset.photos)))
        raw_ND = np.asfortranarray(dataset.inputs(linear.blocks, photos))
        scores.append(linear.scaling.apply(raw_ND) @ linear.weights_D)
    return np.concatenate(scores)
