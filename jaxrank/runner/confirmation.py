"""Confirmation: retrains the experiments tied for best and measures them on series set aside.

The search has never seen these series, and one experiment was selected before: its accuracy there
needs no correction. The other experiments are compared with it by simultaneous confidence
intervals.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank import train
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset
from jaxrank.data.preference_tables import counted
from jaxrank.evaluation import comparison, hits, resampling
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import make_evaluator
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.io import tables
from jaxrank.planning import planner
from jaxrank.planning.trials import Trial
from jaxrank.runner import trial_archive
from jaxrank.runner.final_training import checkpoints_of
from jaxrank.runner.prepare import Prepared
from jaxrank.runner.splitting import aside_pairs
from jaxrank.training.checkpointing import Saver

CONFIRMATION_CSV = "confirmation.csv"
# Number of the first cohort of a confirmation; the numbers of further cohorts count down.
_NUMBER = -1_000

log = logging.getLogger("jaxrank")


class Confirmed(NamedTuple):
    """Results on the series that were set aside.

    Attributes:
      table: one row per experiment, the selected experiment first: accuracy with a 95% confidence
        interval, and difference to the selected experiment with simultaneous intervals.
      notes: the same results in one or two sentences.
    """

    table: pd.DataFrame
    notes: list[str]


def tied_names(ranking: Ranking, most: int) -> list[str]:
    """Names of the selected experiment and of others tied for best on test, at most `most`.

    The selected experiment comes first, then the others by falling test accuracy.
    """
    if ranking.chosen is None:
        return []
    tied_X = ranking.is_candidate_X & ranking.by_test.tied_for_best
    order = [x for x in np.argsort(-ranking.by_test.mean, kind="stable") if tied_X[x]]
    names = [ranking.names[x] for x in [ranking.chosen.entry, *order]]
    return list(dict.fromkeys(names))[:most]


def confirm(
    folder: Path,
    prepared: Prepared,
    ranking: Ranking,
    data_and_splits: str,
    saver: Saver,
    most: int,
) -> Confirmed | None:
    """Trains the tied experiments again and measures them on the series that were set aside.

    The folds are the same, the seeds are new. Returns None if nothing was selected.

    Args:
      folder: folder of the search.
      prepared: the prepared launch, whose splits leave series unused.
      ranking: ranking of the search's experiments.
      data_and_splits: see `manifest.Manifest`.
      saver: saver of the search, without a running cohort.
      most: maximum number of experiments to confirm.
    """
    names = tied_names(ranking, most)
    if not names:
        return None
    by_name: dict[str, list[Trial]] = {name: [] for name in names}
    for trial in prepared.trials:
        if trial.experiment.name in by_name:
            by_name[trial.experiment.name].append(trial)
    trials = [_with_new_seed(trial, mine) for mine in by_name.values() for trial in mine]
    key = hashlib.sha256(json.dumps([data_and_splits, CONFIRMATION_CSV]).encode()).hexdigest()
    data = _confirming(prepared.split_data)
    found, _ = trial_archive.read_results(folder, {_NUMBER: trials}, key)
    results = found.get(_NUMBER)
    if results is None:
        log.info("confirming %s with new seeds", ", ".join(names))
        with closing(saver.of(key)) as own:
            results = _train(trials, data, prepared, own)
        with saver.finishing(_NUMBER):
            trial_archive.write_results(folder, _NUMBER, results, key)
    confirmed = _measured(results, data, names)
    tables.write_frame(folder / CONFIRMATION_CSV, confirmed.table)
    return confirmed


def _with_new_seed(trial: Trial, mine: Sequence[Trial]) -> Trial:
    """The trial with a seed beyond the last seed of its experiment in the search."""
    seeds = {one.seed for one in mine}
    return trial._replace(seed=trial.seed + 1 + max(seeds) - min(seeds))


def _confirming(data: SplitDataset) -> SplitDataset:
    """The same folds, with the pairs that no fold uses as their test pairs."""
    splits_FM = np.where(data.splits_FM == splits.TEST, splits.UNUSED, data.splits_FM)
    splits_FM[:, aside_pairs(data)] = splits.TEST
    return dataclasses.replace(data, splits_FM=splits_FM.astype(np.int8))


def _train(
    trials: Sequence[Trial], data: SplitDataset, prepared: Prepared, saver: Saver
) -> list[TrialResult]:
    evaluator = make_evaluator(data)
    limit = prepared.cohort_limit
    results: dict[Any, TrialResult] = {}
    cohorts = planner.make_cohorts(trials, data, limit, prepared.profile, on_one_device=True)
    for place, cohort in enumerate(cohorts):
        number = _NUMBER - place

        save, restore = checkpoints_of(saver, number, len(cohort.trials))
        fitted = train.fit(
            cohort, data, start=prepared.initial_weights, restore=restore, on_dispatch=save
        )
        for result in evaluate_cohort(cohort, fitted, evaluator):
            results[result.trial.key] = result._replace(weights=None)
    saver.wait()
    for place in range(len(cohorts)):
        saver.drop(_NUMBER - place)
    return [results[trial.key] for trial in trials]


def _measured(
    results: Sequence[TrialResult], data: SplitDataset, names: Sequence[str]
) -> Confirmed:
    test = hits.from_results(results, {}, make_evaluator(data), splits.TEST, names)
    draws = resampling.resample(test)
    accuracy, to = draws.accuracy, comparison.against(draws, 0)
    table = pd.DataFrame(
        {
            "experiment_name": names,
            "accuracy": accuracy.mean,
            "ci_low": accuracy.low,
            "ci_high": accuracy.high,
            "diff_to_selected": to.difference,
            "diff_ci_low": to.low,
            "diff_ci_high": to.high,
        }
    )
    first = table.iloc[0]
    if np.isnan(first["accuracy"]):
        return Confirmed(
            table, [f"{names[0]} could not be confirmed: none of its trials completed."]
        )
    notes = [
        f"Confirmed on {draws.num_series:,} series set aside before the search: {names[0]}, "
        f"selected by the search, has accuracy {100 * first['accuracy']:.1f}% (95% CI "
        f"{100 * first['ci_low']:.1f} to {100 * first['ci_high']:.1f}; new seeds, no selection "
        "bias)."
    ]
    if len(names) > 1:
        better = [n for n, low in zip(names, to.low, strict=True) if low > 0]
        worse = [n for n, high in zip(names, to.high, strict=True) if high < 0]
        found = [f"better: {', '.join(better)}"] * bool(better)
        found += [f"worse: {', '.join(worse)}"] * bool(worse)
        notes.append(
            f"Of {counted(len(names) - 1, 'other retrained experiment')}, "
            + ("; ".join(found) if found else f"none is separated from {names[0]}")
            + f" ({CONFIRMATION_CSV})."
        )
    return Confirmed(table, notes)
