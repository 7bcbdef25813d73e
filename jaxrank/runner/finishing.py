"""Evaluates trained cohorts and writes their files, in a separate thread."""

import importlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from jaxrank.evaluation import trial_results
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.planning.cohort import Cohort
from jaxrank.runner import states, trial_archive
from jaxrank.runner.manifest import PlannedCohort
from jaxrank.runner.result_files import write_experiments
from jaxrank.runner.resume import Workspace
from jaxrank.training.checkpointing import Saver
from jaxrank.training.state import FitResult

_FOR_REPORT = ("matplotlib.figure", "scipy.optimize", "sklearn.metrics", "sklearn.model_selection")

log = logging.getLogger("jaxrank")


class Finisher:
    """Evaluates trained cohorts, and writes the folders of experiments from the results.

    Leaving the context waits until all queued work is done.
    """

    def __init__(
        self,
        folder: Path,
        evaluator: Evaluator,
        saver: Saver,
        stop_signal: Callable[[], int | None],
        finished: dict[int, list[TrialResult]],
    ):
        """Args:
        folder: folder of the search.
        evaluator, saver, stop_signal: evaluator, saver and signal check of the search.
        finished: results of the cohorts that were trained before, by number.
        """
        self._folder, self._evaluator, self._saver = folder, evaluator, saver
        self._stop_signal = stop_signal
        self._finished = dict(finished)  # changed in the thread only
        self._thread = ThreadPoolExecutor(1, "finish")
        self._pending: list[Future[None]] = []

    def __enter__(self) -> "Finisher":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()

    def save(
        self, planned: PlannedCohort, cohort: Cohort, trained: FitResult | str, data: str
    ) -> None:
        """Queues the evaluation of a cohort; its results are saved and, at a rung, its state.

        Args:
          planned, cohort: the cohort that was trained.
          trained: result of the training, or the reason why all trials of the cohort failed.
          data: hash of the pairs, features and splits.
        """
        self._begin(self._save, planned, cohort, trained, data)

    def write(self, ready: Workspace, names: Iterable[str]) -> None:
        """Queues the writing of the folders of those experiments whose trials are all done.

        A signal prevents the writing: the folders can be made from the results at any time.

        Args:
          ready: the current plan, with the caveats of all results.
          names: names of the experiments.
        """
        self._begin(self._write, ready, list(names))

    def check(self) -> None:
        """Raises the errors of work that has ended, so that a full disk is reported at once."""
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()

    def wait(self) -> dict[int, list[TrialResult]]:
        """Waits until all is written; returns the results of all finished cohorts, by number."""
        while self._pending:
            self._pending.pop(0).result()
        return self._finished

    def _begin(self, function: Callable[..., None], *arguments: object) -> None:
        self._pending.append(self._thread.submit(function, *arguments))

    def _save(
        self, planned: PlannedCohort, cohort: Cohort, trained: FitResult | str, data: str
    ) -> None:
        number = planned.number
        if isinstance(trained, FitResult):
            results = evaluate_cohort(cohort, trained, self._evaluator)
        else:
            num_photos = len(self._evaluator.dataset.photos)
            results = [trial_results.failed(t, trained, num_photos) for t in cohort.trials]
        for result in results:
            if not result.metrics.completed:
                log.warning(
                    "failed: %s, fold %d, seed %d: %s",
                    *(*result.trial.key, result.metrics.error),
                )
        results = trial_results.keep_best_weights(results)
        with self._saver.finishing(number):
            if isinstance(trained, FitResult) and planned.ends is not None:
                states.write_state(self._folder, planned, trained, data)
            trial_archive.write_results(self._folder, number, results, data)
        self._finished[number] = results
        _import_for_report()

    def _write(self, ready: Workspace, names: Iterable[str]) -> None:
        ready = ready._replace(finished=dict(self._finished))
        write_experiments(self._folder, ready, self._evaluator, names, self._stop_signal)


def _import_for_report() -> None:
    """Imports what a report needs: a second, which costs nothing while other cohorts train."""
    for name in _FOR_REPORT:
        importlib.import_module(name)
