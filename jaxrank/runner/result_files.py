"""Files of finished cohorts and experiments, written while other cohorts train.

A search of up to MOST_FOLDERS experiments has a folder for each. A larger search has the data of
all trials in a few files, PREDICTIONS and HISTORY, and folders for the best experiments only.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.trial_results import KEYS, TrialResult, history_frame
from jaxrank.io import atomic, columns
from jaxrank.runner.experiment_output import (
    CURVES_PNG,
    Wanted,
    write_curves,
    write_experiment,
    write_trial_predictions,
)
from jaxrank.runner.options import ALL, BEST, NONE
from jaxrank.runner.prepare import Prepared
from jaxrank.runner.resume import Workspace

# With more experiments than this, only the best have folders.
MOST_FOLDERS = 50
# Experiments whose curves are drawn by default.
MOST_CURVES = 20
# In a search without folders: one file per cohort, 7.parquet; every epoch of every trial.
PREDICTIONS, HISTORY = "predictions", "history.parquet"


def write_experiments(
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    names: Iterable[str],
    stop_signal: Callable[[], int | None],
) -> None:
    """Writes the files of complete results that are not written yet, until a signal comes.

    These are the folders of those experiments whose trials are all done, or, in a search without
    folders, the predictions of cohorts.
    """
    prepared = ready.prepared
    if ready.open_rung:  # experiments that continue have no final results yet
        return
    if not _has_folders(prepared):
        _write_predictions(folder, ready, evaluator, stop_signal)
        return
    done = _complete(ready)
    for name in names:
        if stop_signal() is not None:
            return
        if name in done:
            _write_experiment(folder, done[name], evaluator, prepared, _draws_at_once(prepared))


def begin_best(
    begin: Callable[..., Future[None]],
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    by_validation: Sequence[str],
) -> list[Future[None]]:
    """Begins to write the files that need all trials to be done.

    These are the curves of the best experiments. In a search without folders for all, they are also
    the folders of the best experiments and the history of all trials.

    Args:
      begin: queues a function with its arguments, such as the `submit` of a pool of one thread.
      folder: folder of the search.
      ready: the search, with all trials done.
      evaluator: evaluator that the trials were measured with.
      by_validation: names of experiments, the best first.

    Returns:
      What was queued.
    """
    prepared, done = ready.prepared, _complete(ready)
    curves = prepared.launch["curves"]
    best = by_validation if curves == ALL else by_validation[:MOST_CURVES]
    if _has_folders(prepared):
        if _draws_at_once(prepared) or curves != BEST:
            return []
        return [
            begin(write_curves, folder / name, done[name], prepared.data.caveats)
            for name in best
            if not (folder / name / CURVES_PNG).is_file()
        ]
    queued = [
        begin(_write_predictions, folder, ready, evaluator, lambda: None),
        begin(_write_history, folder / HISTORY, [r for mine in done.values() for r in mine]),
    ]
    for name, mine in done.items():
        # An earlier run with fewer trials may have had another best: its folder is kept up to date.
        if name in best or (folder / name).is_dir():
            drawn = curves != NONE and name in best
            queued.append(begin(_write_experiment, folder, mine, evaluator, prepared, drawn))
    return queued


def _has_folders(prepared: Prepared) -> bool:
    """Whether each experiment has a folder."""
    return len(prepared.experiments) - len(prepared.skipped) <= MOST_FOLDERS


def _draws_at_once(prepared: Prepared) -> bool:
    """Whether the curves of all experiments are drawn, so that none has to wait for a ranking."""
    few = len(prepared.experiments) - len(prepared.skipped) <= MOST_CURVES
    return prepared.launch["curves"] == ALL or (few and prepared.launch["curves"] == BEST)


def _complete(ready: Workspace) -> dict[str, list[TrialResult]]:
    """Results of each experiment whose trials are all done, in the order of the tables."""
    done = ready.results
    by_name: dict[str, list[TrialResult | None]] = {}
    for trial in ready.prepared.trials:
        by_name.setdefault(trial.experiment.name, []).append(done.get(trial.key))
    complete = {}
    for name, mine in by_name.items():
        known = [result for result in mine if result is not None]
        if len(known) == len(mine):
            complete[name] = known
    return complete


def _write_experiment(
    folder: Path,
    results: Sequence[TrialResult],
    evaluator: Evaluator,
    prepared: Prepared,
    curves: bool,
) -> None:
    write_experiment(
        folder / results[0].trial.experiment.name,
        results,
        evaluator,
        prepared.data.caveats,
        {} if prepared.start is None else prepared.start.seen,
        Wanted(prepared.launch["predictions"], curves),
    )


def _write_predictions(
    folder: Path, ready: Workspace, evaluator: Evaluator, stop_signal: Callable[[], int | None]
) -> None:
    """Writes the predictions of finished cohorts that have none yet."""
    if ready.prepared.launch["predictions"] != ALL:
        return
    atomic.make_folder(folder / PREDICTIONS)
    last = ready.results
    for number, results in sorted(ready.finished.items()):
        # A trial that has continued beyond a rung is in a later cohort.
        results = [r for r in results if last.get(r.trial.key) is r]
        path = folder / PREDICTIONS / f"{number}.parquet"
        if stop_signal() is not None:
            return
        if not results:
            continue
        if path.is_symlink() or not path.is_file():
            write_trial_predictions(path, results, evaluator)


def _write_history(path: Path, results: Sequence[TrialResult]) -> None:
    import pyarrow  # takes a tenth of a second, which other commands should not spend

    names = [r.trial.experiment.name for r in results for _ in range(len(r.history_EC))]
    table = pyarrow.Table.from_pandas(history_frame(results), preserve_index=False)
    named = pyarrow.array(names, pyarrow.string()).dictionary_encode()
    table = table.add_column(0, KEYS[0], named)
    with columns.parquet_writer(path, table.schema, KEYS) as writer:
        writer.write_table(table)
