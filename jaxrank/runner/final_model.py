"""The final model of a search, `final/`: the selected configuration, trained on all series.

The models of a search's folds have seen a part of the series each, and which of them is the best
is a matter of luck. So the selected configuration is trained once more, with all seeds, on every
series that may be used. Nothing is left to stop its epochs or to measure it: it takes the median of
the folds' best epochs, and its accuracy and calibration are those of the folds' models, on pairs
that these have not seen, with scores made in the same way.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxrank import baselines, train
from jaxrank.audit import checks
from jaxrank.baselines import Baseline
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.evaluation import calibration, ensembles
from jaxrank.evaluation.calibration import Calibration, Part
from jaxrank.evaluation.ensembles import Combination
from jaxrank.evaluation.evaluator import ORDERED_SPLITS, Evaluator
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.trial_results import TrialResult, best_trial, metrics_of, no_history
from jaxrank.experiments.hyperparameters import Experiment, default_experiment
from jaxrank.inference.model_card import Evidence, ModelCard
from jaxrank.inference.saved_model import FINAL, SEEN, Model, save_model
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.runner import trial_archive
from jaxrank.runner.experiment_output import photos_seen
from jaxrank.runner.options import ALL_SERIES
from jaxrank.runner.prepare import Prepared, cohort_limit
from jaxrank.training import state
from jaxrank.training.checkpointing import Saver
from jaxrank.training.state import InitialWeights

# The cohort of the final model among those of a search, which count from 1.
_NUMBER = 0
# Whose scores are computed at a time.
_PHOTOS_AT_ONCE = 1 << 16

log = logging.getLogger("jaxrank")


class Trained(NamedTuple):
    """What a final model computes.

    Attributes:
      experiment: its configuration, or that of a baseline as a linear scorer.
      fold: of one that is a trial's of the search; None where all usable series trained it.
      seeds, epochs: of its members; a baseline has neither.
      members: weights and scaling.
      combination: of their scores.
      scores_N: of all photos.
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


def selected_entry(ranking: Ranking, wanted: str) -> str | None:
    """The entry of the table that becomes the final model: the one that is asked for, else the
    selected experiment, or the strongest baseline where that is at least as good.

    None where nothing of the kind was trained.
    """
    if wanted:
        return wanted
    chosen = ranking.chosen_name
    if chosen is None:
        return None
    label = ranking.yardstick_label
    saved = label not in (baselines.CHANCE, baselines.MIXED) and label in ranking.names
    if saved and ranking.chosen is not None:
        # By the pairs that selected the experiment: of one split test pairs only measure.
        by_test = ranking.chosen.out_of_fold
        mean_X = ranking.by_test.mean if by_test else ranking.entries.validation.mean
        if mean_X[ranking.yardstick] >= mean_X[ranking.chosen.entry]:
            return label
    return chosen


def write_final(
    folder: Path,
    prepared: Prepared,
    results: Sequence[TrialResult],
    fitted_baselines: Mapping[str, Baseline],
    ranking: Ranking,
    evaluator: Evaluator,
    ceiling: Mapping[str, float] | None,
    data_and_splits: str,
    saver: Saver,
) -> list[str]:
    """Trains and writes the final model of a search; returns what is said of it.

    What was trained before a stop, or by an earlier run that has selected the same, is used again.

    Args:
      folder: of the search.
      prepared: the launch.
      results: of its trials.
      fitted_baselines: by name, in the trained folds.
      ranking: of the trials and the baselines.
      evaluator: that they were measured with.
      ceiling: see `report.Report`.
      data_and_splits: see `manifest.Manifest`.
      saver: of the search, without a running cohort.
    """
    name = selected_entry(ranking, prepared.launch["final"])
    if name is None:
        return []
    mine = [r for r in results if r.trial.experiment.name == name and r.metrics.completed]
    if not mine and name not in fitted_baselines:
        return [f"No final model: no trial of {name} was completed."]
    if prepared.launch["split"] == splits.PRETRAIN and prepared.split_data.num_folds > 1:
        return ["No final model: models of --split=pretrain are there to begin from."]
    if mine:
        trained = _final_of_experiment(
            folder, prepared, mine, evaluator, data_and_splits, saver.of(data_and_splits)
        )
        if trained is None:
            return [f"No final model: {name}, trained on all series, gave no finite numbers."]
    else:
        trained = _final_of_baseline(name, prepared)
    parts, source = _held_out(mine, fitted_baselines.get(name), trained, prepared, evaluator)
    calibrated = calibration.calibrate(parts, evaluator, source)
    card = _card(trained, calibrated, folder, prepared, mine, ranking, ceiling)
    dataset = prepared.dataset
    blocks = trained.experiment.blocks
    columns = {block: dataset.block_columns[block] for block in blocks}
    model = Model(card, columns, tuple(trained.members), trained.combination, trained.seen)
    photos = np.flatnonzero(np.isin(dataset.photos, list(trained.seen[SEEN[0]])))
    save_model(folder / FINAL, model, dataset.inputs(blocks, photos))
    return _notes(name, trained, card)


def _usable(prepared: Prepared) -> SplitDataset:
    """All pairs that may train a final model, as the training pairs of one fold."""
    data = prepared.split_data
    return dataclasses.replace(data, splits_FM=np.full_like(data.splits_FM[:1], splits.TRAIN))


def _trains_again(prepared: Prepared) -> bool:
    """Whether the final model is trained on more series than any model of the search."""
    return prepared.split_data.num_folds > 1 or prepared.launch["final_on"] == ALL_SERIES


def _final_of_experiment(
    folder: Path,
    prepared: Prepared,
    mine: Sequence[TrialResult],
    evaluator: Evaluator,
    data_and_splits: str,
    saver: Saver,
) -> Trained | None:
    if not _trains_again(prepared):
        return _best_of_search(mine, prepared, evaluator)
    experiment = mine[0].trial.experiment
    num_epochs = int(np.median([result.metrics.best_epoch for result in mine]) + 0.5)
    seeds = sorted({trial.seed for trial in prepared.trials
                    if trial.experiment.name == experiment.name})  # fmt: skip
    # Nothing stops it early: the last epoch counts.
    without_stop = dataclasses.replace(experiment, patience=0)
    trials = [Trial(without_stop, 0, seed) for seed in seeds]
    usable = _usable(prepared)
    key = hashlib.sha256(json.dumps([data_and_splits, FINAL, num_epochs]).encode()).hexdigest()
    found, _ = trial_archive.read_results(folder, {_NUMBER: trials}, key)
    members = found.get(_NUMBER)
    if members is None:
        log.info(
            "final model: %s on all %s series, %s, seeds %s",
            experiment.name,
            f"{len(prepared.dataset.series_ids):,}",
            _epochs(num_epochs),
            ", ".join(map(str, seeds)),
        )
        members = _train(trials, usable, prepared, num_epochs, saver.of(key))
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
    """The best trial of a search with one split, which has left out no more than is needed."""
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
    limit = cohort_limit(prepared.dataset, prepared.launch["memory_fraction"])
    results: list[TrialResult] = []
    for place, planned in enumerate(planner.make_cohorts(trials, usable, limit, prepared.profile)):
        cohort = planned._replace(
            epochs_per_dispatch=_largest_divisor(num_epochs, planned.epochs_per_dispatch)
        )
        number = _NUMBER - place

        def save(progress: state.Progress, number: int = number) -> None:
            saver.save_if_due(number, progress)

        def restore(shapes: train.TrainState, number: int = number) -> state.Progress | None:
            return saver.restore(number, shapes)

        fitted = train.fit(
            cohort,
            usable,
            start=prepared.initial_weights,
            restore=restore,
            on_dispatch=save,
            num_epochs=num_epochs,
        )
        saver.close()
        results += _members(cohort, fitted, num_epochs)
    for place in range(len(results)):
        saver.drop(_NUMBER - place)
    return results


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


def _final_of_baseline(name: str, prepared: Prepared) -> Trained:
    usable = _usable(prepared) if _trains_again(prepared) else prepared.split_data
    linear = baselines.fit_linear(name, usable, 0)
    dataset = prepared.dataset
    photos = np.unique(dataset.pair_rows_M2[usable.rows(0, splits.TRAIN)])
    scores_N, combination = ensembles.combine(_linear_scores(linear, dataset)[None], photos)
    experiment = dataclasses.replace(
        default_experiment("default"),
        name=name,  # of a column, it need not be a possible name of an experiment
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


def _held_out(
    mine: Sequence[TrialResult],
    baseline: Baseline | None,
    trained: Trained,
    prepared: Prepared,
    evaluator: Evaluator,
) -> tuple[list[Part], str]:
    """Pairs with scores of models that have not seen them, made as the final model makes its own;
    and which these are."""
    data, folds = prepared.split_data, prepared.trained_folds
    held_out = (splits.TEST,) if len(folds) > 1 else ORDERED_SPLITS
    parts = []
    for place, fold in enumerate(folds):
        if baseline is not None:
            assert baseline.scores_FN is not None, f"{baseline.note} gives no photo a score"
            photos = np.unique(prepared.dataset.pair_rows_M2[data.rows(fold, splits.TRAIN)])
            scores_N, _ = ensembles.combine(baseline.scores_FN[place][None], photos)
        elif trained.fold is not None:
            scores_N = trained.scores_N
        elif any(result.trial.fold == fold for result in mine):
            scores_N, _ = ensembles.fold_scores(mine, data, fold)
        else:
            continue  # all of its trials failed
        parts += [
            Part(scores_N, data.rows(fold, split), evaluator.photos[fold, split])
            for split in held_out
        ]
    if len(folds) > 1:
        return parts, f"test pairs of {len(parts)} folds"
    return parts, "validation and test pairs of one split"


def _card(
    trained: Trained,
    calibrated: Calibration,
    folder: Path,
    prepared: Prepared,
    mine: Sequence[TrialResult],
    ranking: Ranking,
    ceiling: Mapping[str, float] | None,
) -> ModelCard:
    table, measured_as = ranking.by_test, trained.experiment.name
    if len(trained.seeds) > 1:  # the final model is the mean of its seeds, too
        means = [name for name in ranking.names if name.startswith(f"{measured_as} (mean of ")]
        measured_as = means[0] if means else measured_as
    x = ranking.names.index(measured_as) if measured_as in ranking.names else None
    facts, folds = prepared.data, prepared.trained_folds
    only_one = trained.fold is not None and len(mine) == 1
    by_whom = "of this model" if only_one else "of models of the same configuration"
    data, dataset = prepared.split_data, prepared.dataset
    pairs = np.arange(len(dataset.preference_M))  # that trained it
    if trained.fold is not None:
        pairs = data.rows(trained.fold, splits.TRAIN)
    where = f"test pairs of {len(folds)} folds" if len(folds) > 1 else "test pairs of one split"
    audit = checks.read_audit(folder)
    best = best_trial(mine) if trained.fold is not None else None
    evidence = Evidence(
        accuracy=float("nan") if x is None else float(table.mean[x]),
        low=float("nan") if x is None else float(table.ci_low[x]),
        high=float("nan") if x is None else float(table.ci_high[x]),
        measured_on=f"{where}, {by_whom}",
        num_pairs=len(pairs),
        num_series=len(np.unique(dataset.series_M[pairs])),
        num_photos=len(np.unique(dataset.pair_rows_M2[pairs])),
        split=f"{prepared.launch['split']}, {len(folds)} folds"
        if len(folds) > 1
        else f"{prepared.launch['split']}, one split",
        baselines={
            other: float(mean)
            for other, mean, is_baseline in zip(
                ranking.names, table.mean, ranking.draws.is_baseline_X, strict=True
            )
            if is_baseline and other != baselines.MIXED
        },
        ceiling=float("nan") if ceiling is None else ceiling["test_accuracy"],
        audit="" if audit is None else f"{audit.verdict}: {audit.headline}",
    )
    recipes = prepared.dataset.recipes
    return ModelCard(
        experiment=trained.experiment,
        fold=trained.fold,
        seeds=trained.seeds,
        epochs=trained.epochs,
        val_accuracy=float("nan") if best is None else best.metrics.measured["val_accuracy"],
        calibration=calibrated,
        evidence=evidence,
        caveats=list(facts.caveats),
        recipes={block: recipes[block] for block in trained.experiment.blocks if block in recipes},
    )


def _epochs(number: int) -> str:
    return f"{number} epoch" if number == 1 else f"{number} epochs"


def _notes(name: str, trained: Trained, card: ModelCard) -> list[str]:
    evidence, found = card.evidence, card.calibration
    if trained.fold is not None:
        how = f"{name} as trained on the training series"
    elif any(trained.epochs):
        seeds = f", {len(trained.seeds)} seeds" if len(trained.seeds) > 1 else ""
        how = f"{name}, trained on all series for {_epochs(trained.epochs[0])}{seeds}"
    else:
        how = f"the baseline {name}, fitted on all series"
    lines = [f"Final model: {how}; {FINAL}/ has it and its card."]
    if trained.fold is None and np.isfinite(evidence.accuracy):
        lines[0] += (
            f" Expect of it what the folds' models of the same configuration got: "
            f"{100 * evidence.accuracy:.1f}% of pairs."
        )
    if not found.holds:
        lines.append(
            f"Its probabilities are worse than chance (log loss {found.log_loss:.3f}, chance "
            f"{calibration.CHANCE_LOG_LOSS:.3f}): 'rank' shows none."
        )
    return lines
