"""Reports a search's trials: comparisons, tables, figures, notes and the final model."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from jaxrank import baselines
from jaxrank.baselines import Baseline
from jaxrank.data import splits
from jaxrank.evaluation import leaderboard, yardstick
from jaxrank.evaluation.ensembles import ensemble_results
from jaxrank.evaluation.evaluator import (
    ORDERED_SPLITS,
    Evaluator,
    baseline_metrics,
    position_metrics,
)
from jaxrank.evaluation.hits import baseline_accuracy
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.io import documents, tables
from jaxrank.metrics import pair_differences
from jaxrank.planning.cohort import num_parameters
from jaxrank.reporting.agreement import with_probability_note
from jaxrank.reporting.leaderboard import with_intervals
from jaxrank.reporting.report import Report
from jaxrank.reporting.sections import write_sections
from jaxrank.reporting.summary import (
    RESULTS_JSON,
    SUMMARY_CSV,
    TRIAL_COLUMNS,
    TRIALS_CSV,
    summarise,
)
from jaxrank.runner import null_search, rungs
from jaxrank.runner.confirmation import confirm
from jaxrank.runner.description import describe
from jaxrank.runner.final_model import write_final
from jaxrank.runner.prepare import Prepared
from jaxrank.runner.result_files import begin_best
from jaxrank.runner.resume import Workspace
from jaxrank.runner.search_result import SearchResult
from jaxrank.training.checkpointing import Saver


def report_search(
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    saver: Saver,
    permuted: SearchResult | None,
) -> SearchResult:
    """Compares the trained experiments, and writes tables, figures, notes and the final model.

    Args:
      folder: folder of the search.
      ready: the search, with results of all trials.
      evaluator: evaluator that the trials were measured with.
      saver: saver of the search, without a running cohort.
      permuted: result of the same search on permuted preferences, if there is one.
    """
    pool = ThreadPoolExecutor(1, "report")
    try:
        return _report(folder, ready, evaluator, saver, permuted, pool)
    finally:
        pool.shutdown(cancel_futures=True)  # after an error, something may be queued


def _report(
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    saver: Saver,
    permuted: SearchResult | None,
    pool: Executor,
) -> SearchResult:
    """Reports; `pool` solves equations and draws while this thread runs Python and compiles."""
    prepared = ready.prepared
    fitting = pool.submit(baselines.fit_baselines, prepared.split_data, prepared.trained_folds)
    by_key = ready.results
    results = [by_key[trial.key] for trial in prepared.trials]
    trials = pd.DataFrame([r.metrics.as_row() for r in results]).reindex(columns=TRIAL_COLUMNS)
    names = [
        e.name for e in prepared.experiments if e.name not in prepared.skipped and not e.is_control
    ]
    parameters = {
        trial.experiment.name: num_parameters(cohort.input_dim, trial.experiment)
        for cohort in prepared.cohorts
        for trial in cohort.trials
    }
    endings = rungs.endings(ready.record)
    ensembles = ensemble_results(
        [r for r in results if r.trial.experiment.name not in endings], evaluator
    )
    names += dict.fromkeys(result.trial.experiment.name for result in ensembles)
    beside = fitting.result()
    competitors = yardstick.competitors(beside, evaluator, prepared.trained_folds)
    at_rungs = rungs.rung_hits(ready.record, prepared, ready.finished, evaluator, names)
    ranking = leaderboard.rank(
        [*results, *ensembles], evaluator, names, competitors, parameters, at_rungs, endings
    )
    summary = with_intervals(
        _summarise(prepared, trials, parameters, evaluator, ensembles, beside), ranking
    )
    ceiling = _ceiling(prepared, evaluator)
    caveats = prepared.data.caveats
    best = _by_validation(summary, prepared, ranking)
    writing = begin_best(pool.submit, folder, ready, evaluator, best)
    section = write_sections(
        Report(
            folder=folder,
            results=results,
            evaluator=evaluator,
            ranking=ranking,
            summary=summary,
            data=prepared.data.sha256,
            can_use_folds=_can_use_folds(prepared),
            caveats=caveats,
            ceiling=ceiling,
        )
    )
    summary = with_probability_note(summary, section.facts)
    _raise_errors(writing)
    final_notes = write_final(
        folder,
        prepared,
        results,
        beside,
        ranking,
        evaluator,
        ceiling,
        ready.record.data_and_splits,
        saver,
    )
    _raise_errors(writing)
    confirmed = None
    if prepared.launch["confirm_share"]:
        confirmed = confirm(
            folder,
            prepared,
            ranking,
            ready.record.data_and_splits,
            saver,
            prepared.launch["confirm"],
        )
    for written in writing:
        written.result()
    facts = dict(section.facts)
    notes = [*section.notes, *(confirmed.notes if confirmed else [])]
    if permuted is not None:
        more, facts["null_search"] = null_search.notes_of(permuted)
        notes += more
    if confirmed is not None:
        facts["confirmed"] = confirmed.table.to_dict("records")
    notes += final_notes
    data_notes = describe(prepared)
    experiments = [dataclasses.asdict(e) for e in prepared.experiments]
    tables.write_frame(folder / TRIALS_CSV, trials)
    tables.write_frame(folder / SUMMARY_CSV, summary)
    documents.write_json(
        folder / RESULTS_JSON,
        {
            "data": dataclasses.asdict(prepared.data),
            "data_notes": data_notes,
            "notes": notes,
            "conclusions": facts,
            "experiments": experiments,
            "summary": summary.to_dict("records"),
            "trials": trials.to_dict("records"),
        },
    )
    return SearchResult(folder, summary, trials, notes, data_notes, caveats, experiments)


def _raise_errors(begun: Sequence[Future[None]]) -> None:
    """Raises the error of work that has failed, such as on a full disk, before more is begun."""
    for one in begun:
        if one.done():
            one.result()


def _can_use_folds(prepared: Prepared) -> bool:
    """Whether the search has one split that --folds could replace."""
    given = prepared.launch
    single = prepared.split_data.num_folds == 1 and given["split"] != splits.OFFICIAL
    return single and not given["init_from"]  # whose model has the folds of its own search


def _by_validation(summary: pd.DataFrame, prepared: Prepared, ranking: Ranking) -> list[str]:
    """Names of the trained experiments: the selected one, then by falling validation accuracy."""
    trained = {trial.experiment.name for trial in prepared.trials}
    names = [name for name in summary["experiment_name"] if name in trained]
    chosen = ranking.chosen_name
    return names if chosen is None else [chosen, *(name for name in names if name != chosen)]


def _ceiling(prepared: Prepared, evaluator: Evaluator) -> dict[str, float] | None:
    """Pooled accuracies of the best possible scorer, for simulated data only."""
    if prepared.ceiling_scores_N is None:
        return None
    difference_M = pair_differences(prepared.ceiling_scores_N, prepared.dataset.pair_rows_M2)
    return {
        f"{splits.SPLIT_NAMES[split]}_accuracy": baseline_accuracy(
            difference_M, evaluator, split, prepared.trained_folds
        )
        for split in ORDERED_SPLITS
    }


def _summarise(
    prepared: Prepared,
    trials: pd.DataFrame,
    parameters: Mapping[str, int],
    evaluator: Evaluator,
    ensembles: Sequence[TrialResult],
    beside: Mapping[str, Baseline],
) -> pd.DataFrame:
    """Table for `summary.csv`: means over trials, without the confidence intervals."""
    folds = prepared.trained_folds
    measured: dict[str, dict[str, Any]] = {
        name: {"notes": baseline.note}
        | (
            position_metrics(evaluator, folds)
            if baseline.scores_FN is None
            else baseline_metrics(baseline.scores_FN, evaluator, folds)
        )
        for name, baseline in beside.items()
    }
    return summarise(
        prepared.experiments,
        prepared.skipped,
        trials,
        parameters,
        measured,
        prepared.data.caveats,
        ensembles,
    )
