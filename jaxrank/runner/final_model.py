"""The final model of a search, `final/`: the selected configuration, trained on all series.

The models of a search's folds have seen a part of the series each, and which of them is the best
is a matter of chance. So the selected configuration is trained once more, with all seeds, on every
series that may be used. Nothing is left to stop its epochs or to measure it: it takes the median of
the folds' best epochs, and its accuracy and calibration are those of the folds' models, on pairs
that these have not seen, with scores made in the same way.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxrank import baselines
from jaxrank.baselines import Baseline
from jaxrank.data import splits
from jaxrank.evaluation import calibration, ensembles, selection
from jaxrank.evaluation.calibration import Part
from jaxrank.evaluation.evaluator import ORDERED_SPLITS, Evaluator
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.inference.saved_model import FINAL, SEEN, Model, save_model
from jaxrank.runner.final_card import final_card, final_notes
from jaxrank.runner.final_training import Trained, fit_baseline, train_experiment, which_series
from jaxrank.runner.prepare import Prepared
from jaxrank.training.checkpointing import Saver


def selected_entry(ranking: Ranking, wanted: str) -> str | None:
    """The entry of the table that becomes the final model: the one that is asked for, else the
    selected experiment, or the strongest baseline where that is at least as good.

    None where nothing of the kind was trained.
    """
    if wanted:
        return wanted
    chosen = ranking.chosen
    if chosen is None:
        return None
    # By the pairs that selected the experiment: of one split test pairs only measure.
    mean_X = ranking.by_test.mean if chosen.out_of_fold else ranking.entries.validation.mean
    return _or_baseline(ranking, chosen.entry, ranking.yardstick_label, mean_X)


def _or_baseline(ranking: Ranking, entry: int, baseline: str, accuracy_X: np.ndarray) -> str:
    """The name of an experiment, or of the strongest baseline where that is at least as good."""
    saved = baseline not in (baselines.CHANCE, baselines.MIXED) and baseline in ranking.names
    better = saved and accuracy_X[ranking.names.index(baseline)] >= accuracy_X[entry]
    return baseline if better else ranking.names[entry]


def selected_without_fold(ranking: Ranking, prepared: Prepared) -> list[str]:
    """What `selected_entry` would select in a search that has not seen the test series of a fold,
    for each trained fold.

    The calibration rests on these: on the pairs that selected it, the best of several entries is
    too good, and so sure of itself that with 17 series its slope was 1.4 times too high.
    """
    data = prepared.split_data
    left_out_FS = np.zeros((len(prepared.trained_folds), len(data.dataset.series_ids)), bool)
    for place, fold in enumerate(prepared.trained_folds):
        left_out_FS[place, data.dataset.series_M[data.rows(fold, splits.TEST)]] = True
    assert ranking.chosen is not None
    chosen_F, accuracy_FX = selection.chosen_without(left_out_FS, ranking.selecting, ranking.chosen)
    return [
        _or_baseline(ranking, int(entry), baseline, accuracy_X)
        for entry, baseline, accuracy_X in zip(
            chosen_F, ranking.strongest_without_F, accuracy_FX, strict=True
        )
    ]


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
        trained = train_experiment(folder, prepared, mine, evaluator, data_and_splits, saver)
        if trained is None:
            return [f"No final model: {name}, trained on all series, gave no finite numbers."]
    else:
        trained = fit_baseline(name, prepared)
    names = [name] * len(prepared.trained_folds)
    if not prepared.launch["final"] and len(names) > 1:
        names = selected_without_fold(ranking, prepared)
    parts, source = _held_out(names, results, fitted_baselines, trained, prepared, evaluator)
    calibrated = calibration.calibrate(parts, evaluator, source)
    card = final_card(trained, calibrated, folder, prepared, mine, ranking, ceiling)
    dataset = prepared.dataset
    blocks = trained.experiment.blocks
    columns = {block: dataset.block_columns[block] for block in blocks}
    model = Model(card, columns, tuple(trained.members), trained.combination, trained.seen)
    photos = np.flatnonzero(np.isin(dataset.photos, list(trained.seen[SEEN[0]])))
    save_model(folder / FINAL, model, dataset.inputs(blocks, photos))
    return final_notes(name, trained, card, which_series(prepared))


def _held_out(
    names: Sequence[str],
    results: Sequence[TrialResult],
    fitted_baselines: Mapping[str, Baseline],
    trained: Trained,
    prepared: Prepared,
    evaluator: Evaluator,
) -> tuple[list[Part], str]:
    """Pairs with scores of models that have not seen them, made as the final model makes its own;
    and which these are.

    Args:
      names: the entry of each trained fold.
    """
    data, folds = prepared.split_data, prepared.trained_folds
    held_out = (splits.TEST,) if len(folds) > 1 else ORDERED_SPLITS
    parts = []
    for place, (fold, name) in enumerate(zip(folds, names, strict=True)):
        mine = [r for r in results if r.trial.experiment.name == name and r.trial.fold == fold]
        if name in fitted_baselines:
            scores_FN = fitted_baselines[name].scores_FN
            assert scores_FN is not None, f"{name} gives no photo a score"
            photos = ensembles.training_photos(data, fold)
            scores_N, _ = ensembles.combine(scores_FN[place][None], photos)
        elif trained.fold is not None:
            scores_N = trained.scores_N
        elif any(result.metrics.completed for result in mine):
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
