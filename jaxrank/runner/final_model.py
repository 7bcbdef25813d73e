"""The final model of a search, `final/`: the selected configuration, trained on all series.

Each model of a search's folds has seen only a part of the series, and which model is the best is a
matter of chance. So the selected configuration is trained once more, with all seeds, on every
usable series. No pairs are left for early stopping or for measuring the final model. It trains for
the median of the folds' best epochs. Its accuracy is that of the folds' models on held-out pairs.
Its calibration uses these pairs, too; see `selected_without_fold`.
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
from jaxrank.inference.saved_model import FINAL, SEEN, Model, chosen_rows, save_model
from jaxrank.metrics import pair_differences
from jaxrank.runner.final_card import final_card, final_notes
from jaxrank.runner.final_training import fit_baseline, train_experiment, which_series
from jaxrank.runner.prepare import Prepared
from jaxrank.training.checkpointing import Saver


def selected_entry(ranking: Ranking, wanted: str) -> str | None:
    """Name of the table's entry that becomes the final model.

    This is the wanted entry if there is one, else the selected experiment, or the strongest
    baseline if that is at least as good. None if no experiment was selected.
    """
    if wanted:
        return wanted
    chosen = ranking.chosen
    if chosen is None:
        return None
    # On the pairs that selected the experiment: with one split, test pairs only measure.
    mean_X = ranking.by_test.mean if chosen.out_of_fold else ranking.entries.validation.mean
    return _or_baseline(ranking, chosen.entry, ranking.yardstick_label, mean_X)


def _or_baseline(ranking: Ranking, entry: int, baseline: str, accuracy_X: np.ndarray) -> str:
    """Name of an experiment, or of the strongest baseline if that is at least as good."""
    saved = baseline not in (baselines.CHANCE, baselines.MIXED) and baseline in ranking.names
    better = saved and accuracy_X[ranking.names.index(baseline)] >= accuracy_X[entry]
    return baseline if better else ranking.names[entry]


def selected_without_fold(ranking: Ranking, prepared: Prepared) -> list[str]:
    """Entry that `selected_entry` would select without the test series of each trained fold.

    The calibration uses these entries. On the pairs that selected it, the best of several entries
    is too good and too confident: with 17 series its slope was 1.4 times too high.
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
    """Trains and writes the final model of a search; returns notes on it.

    Training is not repeated if it was done before a stop, or by an earlier run with the same
    selection.

    Args:
      folder: folder of the search.
      prepared: the prepared launch.
      results: results of the search's trials.
      fitted_baselines: baselines by name, fitted in the trained folds.
      ranking: ranking of the experiments and the baselines.
      evaluator: evaluator that trials and baselines were measured with.
      ceiling: see `report.Report`.
      data_and_splits: see `manifest.Manifest`.
      saver: saver of the search, without a running cohort.
    """
    name = selected_entry(ranking, prepared.launch["final"])
    if name is None:
        return []
    mine = [r for r in results if r.trial.experiment.name == name and r.metrics.completed]
    if not mine and name not in fitted_baselines:
        return [f"No final model: no trial of {name} was completed."]
    if prepared.launch["split"] == splits.PRETRAIN and prepared.split_data.num_folds > 1:
        return ["No final model: --split=pretrain only trains initial models."]
    if mine:
        trained = train_experiment(folder, prepared, mine, evaluator, data_and_splits, saver)
        if trained is None:
            return [f"No final model: {name}, trained on all series, gave no finite numbers."]
    else:
        trained = fit_baseline(name, prepared)
    scores_of = _OutOfFold(results, fitted_baselines, prepared, evaluator)
    if len(prepared.trained_folds) > 1:
        wanted = bool(prepared.launch["final"])
        names = [name] * len(prepared.trained_folds)
        names = names if wanted else selected_without_fold(ranking, prepared)
        parts = scores_of.on_one_scale(names, name)
        source = f"test pairs of {len(parts)} folds"
    else:
        parts = scores_of.fold(name, 0, ORDERED_SPLITS)
        if trained.fold is not None:  # the final model is this one trial
            parts = [part._replace(scores_N=trained.scores_N) for part in parts]
        source = "validation and test pairs of one split"
    calibrated = calibration.calibrate(parts, evaluator, source)
    card = final_card(trained, calibrated, folder, prepared, mine, ranking, ceiling)
    dataset = prepared.dataset
    blocks = trained.experiment.blocks
    columns = {block: dataset.block_columns[block] for block in blocks}
    model = Model(card, columns, tuple(trained.members), trained.combination, trained.seen)
    # A lookup for each name: np.isin would sort the names, which takes a second for 10,000 photos.
    seen = trained.seen[SEEN[0]]
    photos = np.flatnonzero([name in seen for name in dataset.photos.tolist()])
    save_model(folder / FINAL, model, dataset.inputs(blocks, chosen_rows(photos)))
    return final_notes(name, trained, card, which_series(prepared))


class _OutOfFold:
    """Held-out pairs, scored by models that have not seen them.

    The scores are computed in the same way as those of the final model.
    """

    def __init__(
        self,
        results: Sequence[TrialResult],
        fitted_baselines: Mapping[str, Baseline],
        prepared: Prepared,
        evaluator: Evaluator,
    ):
        """Args: see `write_final`."""
        self._results, self._baselines = results, fitted_baselines
        self._prepared, self._evaluator = prepared, evaluator

    def on_one_scale(self, names: Sequence[str], final: str) -> list[Part]:
        """Test pairs of each trained fold, scored by one entry per fold.

        Scores are in standard deviations over photos of the training pairs. In these units the
        differences within held-out series are up to three times larger for a heuristic than for a
        network. So the scores of an entry other than the final entry are rescaled: its typical
        difference, over all folds, becomes that of the final entry. The scale does not depend on
        preferences.
        """
        places = range(len(names))
        test = (splits.TEST,)
        parts = {n: [self.fold(n, place, test) for place in places] for n in {*names, final}}
        typical = {name: self._typical_difference(parts[name]) for name in parts}
        found = []
        for place, name in enumerate(names):
            stretch = np.float32(typical[final] / typical[name] if typical[name] else 1.0)
            found += [p._replace(scores_N=p.scores_N * stretch) for p in parts[name][place]]
        return found

    def fold(self, name: str, place: int, held_out: Sequence[int]) -> list[Part]:
        """Pairs of some splits of a trained fold, scored by an entry.

        The list is empty if all of the entry's trials in this fold have failed.
        """
        data, fold = self._prepared.split_data, self._prepared.trained_folds[place]
        mine = [r for r in self._results if r.trial.experiment.name == name]
        if name in self._baselines:
            scores_FN = self._baselines[name].scores_FN
            assert scores_FN is not None, f"{name} gives no photo a score"
            photos = ensembles.training_photos(data, fold)
            scores_N, _ = ensembles.combine(scores_FN[place][None], photos)
        elif any(r.metrics.completed and r.trial.fold == fold for r in mine):
            scores_N, _ = ensembles.fold_scores(mine, data, fold)
        else:
            return []
        photos_of = self._evaluator.photos
        return [Part(scores_N, data.rows(fold, s), photos_of[fold, s]) for s in held_out]

    def _typical_difference(self, by_fold: Sequence[Sequence[Part]]) -> float:
        """Root mean square of an entry's score differences in the test pairs."""
        rows_M2 = self._prepared.dataset.pair_rows_M2
        differences = [
            pair_differences(part.scores_N, rows_M2[part.pairs]).astype(np.float64)
            for parts in by_fold
            for part in parts
        ]
        squares = np.square(np.concatenate([np.zeros(0), *differences]))
        return float(np.sqrt(squares.mean())) if len(squares) else 0.0
