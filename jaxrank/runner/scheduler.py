"""Trains the cohorts of a launch that wait: the next ones load meanwhile, files of the last are
written."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import jax
from rich.console import Console

from jaxrank import train
from jaxrank.errors import Stopped
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.planning.cohort import Cohort
from jaxrank.reporting.progress import progress_bar
from jaxrank.runner import finishing
from jaxrank.runner.background_audit import Auditor
from jaxrank.runner.manifest import PlannedCohort, cohort_of, write_manifest
from jaxrank.runner.prefetch import Prefetcher
from jaxrank.runner.prepare import Prepared
from jaxrank.runner.resume import Workspace
from jaxrank.training import state
from jaxrank.training.checkpointing import Saver

_OUT_OF_MEMORY = (jax.errors.JaxRuntimeError, MemoryError)

log = logging.getLogger("jaxrank")


def train_all(
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    auditor: Auditor,
    saver: Saver,
    console: Console | None,
    stop_signal: Callable[[], int | None],
) -> Workspace:
    """Trains the waiting cohorts; returns the plan with their results.

    While one trains, the next ones are compiled, and the files of the last one are written. An
    experiment's folder is written when its last trial is done.

    Raises:
      Stopped: a signal came; all that was done is saved.
    """
    if ready.finished:  # a stopped run may not have written their folders
        ready = ready._replace(prepared=auditor.beside(ready.prepared, stop_signal))
        names = dict.fromkeys(trial.experiment.name for trial in ready.prepared.trials)
        finishing.write_experiments(folder, ready, evaluator, names, stop_signal)
    with (
        progress_bar(ready.waiting_cohorts, console) as show,
        Prefetcher(ready.prepared) as prefetcher,
        ThreadPoolExecutor(1, thread_name_prefix="finish") as finisher,
    ):
        scheduler = _Scheduler(
            folder=folder,
            ready=ready,
            evaluator=evaluator,
            auditor=auditor,
            saver=saver,
            prefetcher=prefetcher,
            finisher=finisher,
            show=show,
            stop_signal=stop_signal,
        )
        return scheduler.run()


@dataclasses.dataclass(kw_only=True)
class _Scheduler:
    """The cohorts of a search, one after the other.

    Attributes:
      ready: the plan, with the results so far.
      finishing: number and results of the cohort whose files are being written.
    """

    folder: Path
    ready: Workspace
    evaluator: Evaluator
    auditor: Auditor
    saver: Saver
    prefetcher: Prefetcher
    finisher: ThreadPoolExecutor
    show: Callable[[Cohort, state.Progress], None]
    stop_signal: Callable[[], int | None]
    finishing: tuple[int, Future[list[TrialResult]]] | None = None

    def run(self) -> Workspace:
        prepared, waiting = self.ready.prepared, self.ready.waiting
        while waiting:
            self._stop_if_asked()
            number, cohort = waiting[0].number, cohort_of(waiting[0], prepared)
            self.prefetcher.begin(waiting)
            fitted = _fit(
                number,
                cohort,
                prepared,
                self.prefetcher,
                functools.partial(self.saver.restore, number),
                functools.partial(self._after_dispatch, number, cohort),
            )
            self.saver.close()
            if isinstance(fitted, str) and len(cohort.trials) > 1:
                log.warning("cohort %d does not fit in memory and is halved: %s", number, fitted)
                waiting = [*self._halve(number, cohort), *waiting[1:]]
                continue
            self._finish(number, cohort, fitted)
            waiting = waiting[1:]
        self._collect()
        self._stop_if_asked()
        return self.ready

    def _stop_if_asked(self) -> None:
        if (signal_number := self.stop_signal()) is not None:
            self._collect()
            raise Stopped(self.folder, signal_number)

    def _after_dispatch(self, number: int, cohort: Cohort, progress: state.Progress) -> None:
        self.show(cohort, progress)
        self.auditor.begin()
        self.auditor.tell()
        if self.finishing is not None and self.finishing[1].done():
            # A full disk is an error now, not when this cohort has ended.
            self.finishing[1].result()
        if self.stop_signal() is not None:
            self.saver.save(number, progress)
            log.info("stopped after epoch %d of cohort %d", len(progress.history), number)
            log.info("%s", self.saver.account())
            self._stop_if_asked()
        self.saver.save_if_due(number, progress)

    def _halve(self, number: int, cohort: Cohort) -> list[PlannedCohort]:
        """Cuts a cohort in two, in the plan and on disk; returns the halves."""
        self.saver.drop(number)
        known = {planned.number for planned in self.ready.record.cohorts}
        self.ready = self.ready._replace(record=self.ready.record.with_halves(number, cohort))
        write_manifest(self.folder, self.ready.record)
        return [c for c in self.ready.record.cohorts if c.number not in known]

    def _finish(self, number: int, cohort: Cohort, fitted: state.FitResult | str) -> None:
        """Has the results of a cohort written, while the next one trains."""
        # Its caveat comes before anything that is written of a cohort.
        prepared = self.auditor.beside(self.ready.prepared, self.stop_signal)
        self.ready = self.ready._replace(prepared=prepared)
        if isinstance(fitted, state.FitResult):
            last = max(planned.number for planned in self.ready.record.cohorts)
            _log_cohort(number, last, cohort, fitted)
        self._collect()
        future = self.finisher.submit(
            finishing.finish_cohort,
            self.folder,
            self.ready,
            number,
            cohort,
            fitted,
            self.evaluator,
            self.saver,
            self.stop_signal,
        )
        self.finishing = number, future

    def _collect(self) -> None:
        """Waits for the results of the cohort whose files are being written."""
        if self.finishing is not None:
            number, future = self.finishing
            self.ready = self.ready._replace(
                finished=self.ready.finished | {number: future.result()}
            )


def _fit(
    number: int,
    cohort: Cohort,
    prepared: Prepared,
    loader: Prefetcher,
    restore: Callable[[train.TrainState], state.Progress | None],
    on_dispatch: Callable[[state.Progress], None],
) -> state.FitResult | str:
    """The trained cohort, or what was said when it did not fit in memory."""
    loaded = None
    with suppress(*_OUT_OF_MEMORY):  # beside the cohort that trained then; now it is gone
        loaded = loader.loaded(number)
    try:
        return train.fit(
            cohort,
            prepared.split_data,
            loaded=loader.load(cohort) if loaded is None else loaded,
            restore=restore,
            on_dispatch=on_dispatch,
        )
    except _OUT_OF_MEMORY as error:
        text = str(error) or "out of memory"
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in text:
            raise
        return text.splitlines()[0][:200]


def _log_cohort(number: int, last: int, cohort: Cohort, fitted: state.FitResult) -> None:
    log.info(
        "cohort %d of %d (%s): %d trials, %d epochs of %d steps of up to %d pairs, %.1f s "
        "(predicted %.1f s)",
        number,
        last,
        cohort.label,
        len(cohort.trials),
        len(fitted.history.running),
        cohort.num_batches,
        cohort.batch_size,
        fitted.seconds,
        len(fitted.history.running) * cohort.epoch_seconds,
    )
