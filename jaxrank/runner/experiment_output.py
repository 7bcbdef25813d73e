"""Writes an experiment's folder: history, curves, predictions, the best model, test results."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data import splits
from jaxrank.data.dataset import Dataset
from jaxrank.evaluation.calibration import Calibration, fit_pick_slope, fit_slope, keep_set
from jaxrank.evaluation.ensembles import SINGLE
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.hits import pooled_accuracy
from jaxrank.evaluation.predictions import mean_table, schema, trial_tables
from jaxrank.evaluation.trial_results import KEYS, TrialResult, best_trial, history_frame
from jaxrank.inference.model_card import Evidence, ModelCard
from jaxrank.inference.saved_model import SEEN, Model, chosen_rows, save_model
from jaxrank.io import atomic, columns, documents
from jaxrank.io.tables import write_frame
from jaxrank.metrics import pair_differences
from jaxrank.reporting.figures import draw_curves
from jaxrank.runner.options import ALL, NONE

TEST_RESULTS_JSON, CURVES_PNG = "test_results.json", "training_curves.png"


class Wanted(NamedTuple):
    """Optional files of an experiment's folder, besides its history, its results and its model.

    Attributes:
      predictions: see `SearchOptions`.
      curves: whether the learning curves are drawn.
    """

    predictions: str
    curves: bool


def write_experiment(
    folder: Path,
    results: Sequence[TrialResult],
    evaluator: Evaluator,
    caveats: Sequence[str],
    seen_before: Mapping[str, Iterable[str]],
    wanted: Wanted,
) -> None:
    """Writes an experiment's folder: history, curves, predictions, the best model, test results.

    `test_results.json` lists every trial with its result and is written last. If it is up to date,
    so are the other files, and nothing is written again.

    Args:
      folder: folder of the experiment.
      results: results of all its trials.
      evaluator: evaluator that the trials were measured with.
      caveats: what a reader of any result must know.
      seen_before: photos that the initial model has seen, by how it saw them.
      wanted: optional files to write.
    """
    experiment = results[0].trial.experiment
    shown = ("fold", "seed", "status", "error", "test_accuracy", "test_loss")
    rows = pd.DataFrame([result.metrics.as_row() for result in results]).reindex(columns=shown)
    test_results = documents.strict_json(
        {
            "experiment_name": experiment.name,
            "caveats": list(caveats),
            "test_accuracy": pooled_accuracy(results, evaluator, splits.TEST, experiment.name),
            "test_loss": rows["test_loss"].mean(),
            "trials": rows.to_dict("records"),
            "written": wanted._asdict(),
        }
    )
    last = folder / TEST_RESULTS_JSON
    if last.is_file() and last.read_text(encoding="utf-8", errors="replace") == test_results:
        return
    atomic.make_folder(folder)
    write_frame(folder / "history.csv", history_frame(results))
    (folder / CURVES_PNG).unlink(missing_ok=True)  # it may show other trials
    if wanted.curves:
        write_curves(folder, results, caveats)
    best = best_trial(results)
    if best is not None:
        _write_predictions(folder, results, evaluator.of(experiment), wanted.predictions)
        if not experiment.is_control:  # nobody should rank photos by a control
            seen = seen_before if experiment.init_from else {}
            _save_best(folder / "model", best, evaluator, caveats, seen)
    atomic.write_text(last, test_results)


def write_curves(folder: Path, results: Sequence[TrialResult], caveats: Sequence[str]) -> None:
    """Draws the learning curves of an experiment's trials."""
    title = "\n".join([results[0].trial.experiment.name, *caveats])
    draw_curves(folder / CURVES_PNG, title, history_frame(results))


def _write_predictions(
    folder: Path, results: Sequence[TrialResult], evaluator: Evaluator, predictions: str
) -> None:
    if predictions == ALL:
        write_trial_predictions(folder / "predictions.parquet", results, evaluator)
    if predictions != NONE:
        columns.write_csv(folder / "predictions.csv", mean_table(results, evaluator))


def write_trial_predictions(
    path: Path, results: Sequence[TrialResult], evaluator: Evaluator
) -> None:
    """Writes the predictions of all completed trials to a Parquet file, one part at a time."""
    with columns.parquet_writer(path, schema(), KEYS) as writer:
        for table in trial_tables(results, evaluator):
            writer.write_table(table)


def _save_best(
    folder: Path,
    best: TrialResult,
    evaluator: Evaluator,
    caveats: Sequence[str],
    seen_before: Mapping[str, Iterable[str]],
) -> None:
    assert best.weights is not None, "the best trial's weights were dropped"
    experiment = best.trial.experiment
    dataset, split_M = evaluator.dataset, evaluator.splits_FM[best.trial.fold]
    assert best.metrics.best_epoch is not None
    trained = split_M == splits.TRAIN
    photos = np.unique(dataset.pair_rows_M2[trained])
    card = ModelCard(
        experiment=experiment,
        fold=best.trial.fold,
        seeds=(best.trial.seed,),
        epochs=(best.metrics.best_epoch,),
        val_accuracy=best.metrics.measured["val_accuracy"],
        calibration=_calibrated(best, evaluator),
        evidence=Evidence(
            num_pairs=int(trained.sum()),
            num_series=len(np.unique(dataset.series_M[trained])),
            num_photos=len(photos),
        ),
        caveats=list(caveats),
        recipes={name: r for name, r in dataset.recipes.items() if name in experiment.blocks},
    )
    block_columns = {name: dataset.block_columns[name] for name in experiment.blocks}
    seen = photos_seen(dataset, split_M, seen_before)
    model = Model(card, block_columns, (best.weights,), SINGLE, seen)
    save_model(folder, model, dataset.inputs(experiment.blocks, chosen_rows(photos)))


def _calibrated(best: TrialResult, evaluator: Evaluator) -> Calibration:
    """Calibrates a trial's model on its validation pairs alone.

    The calibration of the final model has more pairs, and takes longer.
    """
    dataset, fold = evaluator.dataset, best.trial.fold
    pairs, photos = evaluator.data.rows(fold, splits.VALIDATION), evaluator.photos
    scored = [(best.scores_N, photos[fold, splits.VALIDATION])]
    gap, size, num_series = keep_set(scored)
    return Calibration(
        slope=fit_slope(
            pair_differences(best.scores_N, dataset.pair_rows_M2[pairs]),
            dataset.preference_M[pairs],
        ),
        pick_slope=fit_pick_slope(scored),
        num_pairs=len(pairs),
        num_series=len(np.unique(dataset.series_M[pairs])),
        keep_gap=gap,
        keep_size=size,
        keep_series=num_series,
        source=f"validation pairs of fold {fold}",
    )


def photos_seen(
    dataset: Dataset, split_M: np.ndarray, seen_before: Mapping[str, Iterable[str]]
) -> dict[str, frozenset[str]]:
    """Names of the photos that trained a model, and of the photos that selected its epoch."""
    seen = {}
    for how, split in zip(SEEN, (splits.TRAIN, splits.VALIDATION), strict=True):
        photos = dataset.photos[np.unique(dataset.pair_rows_M2[split_M == split])]
        seen[how] = frozenset(photos.tolist()) | frozenset(seen_before.get(how, ()))
    return seen
