"""Files of finished cohorts and experiments, written while the next cohort trains."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from jaxrank.evaluation import trial_results
from jaxrank.evaluation.evaluator import Evaluator, evaluate_cohort
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.planning.cohort import Cohort
from jaxrank.runner import experiment_output, trial_archive
from jaxrank.runner.resume import Workspace
from jaxrank.training import state
from jaxrank.training.checkpointing import Saver

log = logging.getLogger("jaxrank")


def finish_cohort(
    folder: Path,
    ready: Workspace,
    number: int,
    cohort: Cohort,
    fitted: state.FitResult | str,
    evaluator: Evaluator,
    saver: Saver,
    stop_signal: Callable[[], int | None],
) -> list[TrialResult]:
    """Evaluates a trained cohort, or a trial that does not fit in memory, and writes its files;
    after a signal only its results, of which the others can be made."""
    if isinstance(fitted, state.FitResult):
        results = evaluate_cohort(cohort, fitted, evaluator)
    else:
        results = [
            trial_results.out_of_memory(cohort.trials[0], fitted, len(evaluator.dataset.photos))
        ]
    for result in results:
        if not result.metrics.completed:
            log.warning(
                "failed: %s, fold %d, seed %d: %s",
                *(*result.trial.key, result.metrics.error),
            )
    results = trial_results.keep_best_weights(results)
    with saver.finishing(number):
        trial_archive.write_results(folder, number, results, ready.record.data_and_splits)
    ready = ready._replace(finished=ready.finished | {number: results})
    with saver.paused():
        names = {trial.experiment.name for trial in cohort.trials}
        write_experiments(folder, ready, evaluator, names, stop_signal)
    return results


def write_experiments(
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    names: Iterable[str],
    stop_signal: Callable[[], int | None],
) -> None:
    """Writes the folders of those of the experiments whose trials are all done, until a signal
    comes."""
    prepared, done = ready.prepared, ready.results
    for name in names:
        if stop_signal() is not None:
            return
        mine = [trial.key for trial in prepared.trials if trial.experiment.name == name]
        if all(key in done for key in mine):
            experiment_output.write_experiment(
                folder / name,
                [done[key] for key in mine],
                evaluator,
                prepared.data.caveats,
                {} if prepared.start is None else prepared.start.seen,
            )
