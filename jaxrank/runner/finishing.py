"""Evaluates trained cohorts and writes their files, in a thread of its own."""

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

log = logging.getLogger("jaxrank")


class Finisher:
    """Makes results of trained cohorts, and of results the folders of experiments. Leaving its
    context waits for what was begun."""

    def __init__(
        self,
        folder: Path,
        evaluator: Evaluator,
        saver: Saver,
        stop_signal: Callable[[], int | None],
        finished: dict[int, list[TrialResult]],
    ):
        """Args:
        folder: of the search.
        evaluator, saver, stop_signal: of the search.
        finished: the results of cohorts that were trained before, by number.
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
        """Has a cohort evaluated and its results saved, and at a rung its state.

        Args:
          planned, cohort: that was trained.
          trained: or the reason why its only trial, or all of them, failed.
          data: a hash of the pairs, features and splits.
        """
        self._begin(self._save, planned, cohort, trained, data)

    def write(self, ready: Workspace, names: Iterable[str]) -> None:
        """Has the folders written of those of the experiments whose trials are all done, unless a
        signal has come: of results they can be made at any time.

        Args:
          ready: the plan as it is now, with the caveats of all results.
          names: of the experiments.
        """
        self._begin(self._write, ready, list(names))

    def check(self) -> None:
        """Raises what went wrong with what has ended: a full disk is an error now."""
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()

    def wait(self) -> dict[int, list[TrialResult]]:
        """The results of all cohorts that are done, when all is written."""
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

    def _write(self, ready: Workspace, names: Iterable[str]) -> None:
        ready = ready._replace(finished=dict(self._finished))
        write_experiments(self._folder, ready, self._evaluator, names, self._stop_signal)
