"""Trains the cohorts of a launch that wait: the next ones load meanwhile, files of the last are
written."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import jax
from rich.console import Console

from jaxrank import train
from jaxrank.errors import Stopped, UserError
from jaxrank.evaluation import trial_results
from jaxrank.evaluation.evaluator import Evaluator, evaluate_cohort
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.io.memory import available_bytes
from jaxrank.planning import host_memory
from jaxrank.planning.cohort import Cohort
from jaxrank.reporting.progress import progress_bar
from jaxrank.runner import experiment_output, trial_archive
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
        _write_experiments(folder, ready, evaluator, names, stop_signal)
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
            _finish_cohort,
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


def _finish_cohort(
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
        _write_experiments(folder, ready, evaluator, names, stop_signal)
    return results


def _fit(
    number: int,
    cohort: Cohort,
    prepared: Prepared,
    loader: Prefetcher,
    restore: Callable[[train.TrainState], state.Progress | None],
    on_dispatch: Callable[[state.Progress], None],
) -> state.FitResult | str:
    """The trained cohort, or what was said when it did not fit in the device's memory.

    Raises:
      UserError: the host's memory does not suffice.
    """
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
    except MemoryError:  # NumPy's: smaller cohorts would need as much
        raise UserError(
            f"the memory of this machine, not that of the device, does not suffice for cohort "
            f"{number}: {host_memory.describe(prepared.host_memory)}, and "
            f"{available_bytes() / 2**20:,.0f} MiB are free now; end other programs, store the "
            "features as float16, or leave blocks out"
        ) from None
    except jax.errors.JaxRuntimeError as error:
        text = str(error)
        if "RESOURCE_EXHAUSTED" not in text:
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


def _write_experiments(
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
