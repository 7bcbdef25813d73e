"""Trains the waiting cohorts of a launch on the workers of an engine.

The longest waiting cohorts are trained first; `planning.assignment` chooses their workers. The
cohorts are in plan.json and do not depend on the workers. When memory is short, fewer cohorts train
at a time; only a cohort that still runs out of memory is halved.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from jaxrank.data.preference_tables import counted
from jaxrank.errors import Stopped, UserError
from jaxrank.evaluation import trial_results
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.io.memory import available_bytes
from jaxrank.planning import host_memory
from jaxrank.planning.assignment import Assignment, Programs
from jaxrank.planning.cohort import Cohort
from jaxrank.reporting.progress import progress_bar
from jaxrank.runner import states
from jaxrank.runner.background_audit import Auditor
from jaxrank.runner.engines import interface
from jaxrank.runner.engines.interface import Engine, Event, Job, MakeEngine, SharedData
from jaxrank.runner.finishing import Finisher
from jaxrank.runner.manifest import cohorts_of, write_manifest
from jaxrank.runner.resume import Workspace
from jaxrank.training import compilation_cache
from jaxrank.training.checkpoint import ContinuedTrials
from jaxrank.training.checkpointing import Saver
from jaxrank.training.state import FitResult

# Seconds between two checks for signals, disk errors and the audit.
_ASK_EVERY = 0.1
# A cohort fails after losing this many workers without a checkpoint in between: it probably ends
# its workers itself, such as by the memory that it takes.
_MOST_LOSSES = 5

log = logging.getLogger("jaxrank")


def train_all(
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    auditor: Auditor,
    saver: Saver,
    console: Console | None,
    stop_signal: Callable[[], int | None],
    make_engine: MakeEngine,
    programs: Programs,
) -> Workspace:
    """Trains the waiting cohorts of a launch.

    Writes the results of each finished cohort, and an experiment's folder after its last trial.

    Args:
      folder: folder of the search.
      ready: the prepared launch and its waiting cohorts.
      evaluator: evaluator of the trials.
      auditor: audit of the data, begun once training has begun.
      saver: writes checkpoints.
      console: where a progress bar is shown.
      stop_signal: returns the number of a signal that came, or None.
      make_engine: makes the engine, whose workers train.
      programs: compiled programs that cohorts share.

    Returns:
      `ready` with the results of the cohorts.

    Raises:
      Stopped: a signal came; all work done so far is saved.
    """
    compilation_cache.drop_programs_if_many()  # of earlier searches, and of earlier rounds
    prepared = ready.prepared
    data = SharedData(prepared.split_data, prepared.trained_folds, prepared.initial_weights)
    cohorts = cohorts_of(ready.stage, prepared)
    with (
        progress_bar(list(cohorts.values()), console) as show,
        Finisher(folder, evaluator, saver, stop_signal, ready.finished) as finisher,
        make_engine(data, saver.claim) as engine,
    ):
        memories = [None if worker is None else worker.memory for worker in engine.workers]
        scheduler = _Scheduler(
            folder=folder,
            ready=ready,
            auditor=auditor,
            saver=saver,
            engine=engine,
            finisher=finisher,
            show=show,
            stop_signal=stop_signal,
            assignment=Assignment(
                memories, prepared.cohort_limit, cohorts, engine.one_copy, programs
            ),
            waiting=cohorts,
        )
        return scheduler.run()


class _Failure(NamedTuple):
    """A device that failed while it trained a cohort."""

    worker: int
    name: str
    reason: str


@dataclasses.dataclass(kw_only=True)
class _Scheduler:
    """Assigns the cohorts of a search to workers and handles the events that come back.

    Attributes:
      ready: the plan, with the results so far.
      waiting: cohorts that no worker has, by number, in the order of the plan.
      failures: failed device of each cohort whose device has failed once, by number.
      losses: number of workers that each cohort has lost since its last checkpoint.
      unwritten: names of experiments whose folders may have to be written.
    """

    folder: Path
    ready: Workspace
    auditor: Auditor
    saver: Saver
    engine: Engine
    finisher: Finisher
    show: Callable[[int, Cohort, int, int], None]
    stop_signal: Callable[[], int | None]
    assignment: Assignment
    waiting: dict[int, Cohort]
    failures: dict[int, _Failure] = dataclasses.field(default_factory=dict)
    losses: Counter[int] = dataclasses.field(default_factory=Counter)
    unwritten: set[str] = dataclasses.field(default_factory=set)

    def run(self) -> Workspace:
        if self.ready.finished and not self.ready.open_rung:
            # A stopped run may not have written these folders.
            self.unwritten = {trial.experiment.name for trial in self.ready.prepared.trials}
        while self.waiting or self.assignment.running:
            self._stop_if_asked()
            self._start_jobs()
            event = self.engine.next_event(_ASK_EVERY)
            if event is not None:
                self._handle(event)
            self._check_between_events()
        self._write_folders()
        self.ready = self.ready._replace(finished=self.finisher.wait())
        self._stop_if_asked()
        return self.ready

    def _start_jobs(self) -> None:
        """Gives idle workers cohorts to train, and programs to compile meanwhile."""
        started = False
        while (start := self.assignment.next_start(self.waiting)) is not None:
            worker, number = start
            cohort = self.waiting.pop(number)
            checkpoint = self.saver.restore(number)
            if checkpoint is not None:
                log.info("cohort %d resumes after epoch %d", number, checkpoint.epoch)
            parts: Sequence[ContinuedTrials] = ()
            if cohort.begins and checkpoint is None:
                parts = states.parts_of(self.folder, number, self.ready.record)
            self.assignment.begin(worker, number, cohort)
            self.engine.start(worker, Job(number, cohort, checkpoint, parts))
            started = True
        if started and self.engine.compiles_ahead:
            ahead = self.assignment.to_precompile(self.waiting, self.engine.compiles_ahead)
            for worker, numbers in ahead.items():
                self.engine.expect(worker, [Job(n, self.waiting[n]) for n in numbers])
        if started:
            self.engine.keep([*self.assignment.running.values(), *self.waiting.values()])

    def _check_between_events(self) -> None:
        """Checks between events for errors of other threads and for the audit's result."""
        self.finisher.check()
        self.saver.check()
        self.auditor.log_finding()
        if self.unwritten and self.auditor.is_done():
            self._write_folders()

    def _write_folders(self) -> None:
        """Queues the folders in `unwritten` for writing, once the audit ends or a signal comes.

        The audit's caveat is in all of the folders.
        """
        prepared = self.auditor.with_caveat(self.ready.prepared, self.stop_signal)
        self.ready = self.ready._replace(prepared=prepared)
        names, self.unwritten = self.unwritten, set()
        known = dict.fromkeys(trial.experiment.name for trial in prepared.trials)
        self.finisher.write(self.ready, [name for name in known if name in names])

    def _handle(self, event: Event) -> None:
        if isinstance(event, interface.WorkerJoined):
            self.assignment.join(event.place, event.worker.memory)
            return
        number, cohort = event.number, self.assignment.running[event.number]
        if isinstance(event, interface.Reported):
            self.auditor.begin()
            at_rung = event.epochs == cohort.ends
            self.show(number, cohort, event.epochs, 0 if at_rung else event.num_running)
            self.assignment.report(number, cohort.share_done(event.epochs), event.seconds)
            if event.checkpoint is not None:
                self.saver.begin_save(number, event.checkpoint)
                del self.losses[number]
            return
        worker = self.assignment.end(number)
        if isinstance(event, interface.Crashed):
            if isinstance(event.error, MemoryError):  # the host's: smaller cohorts need as much
                raise self._host_is_full(number) from None
            raise event.error
        if isinstance(event, interface.Finished):
            self._finish(number, cohort, event.fitted)
            failure = self.failures.pop(number, None)
            if failure is not None and failure.worker != worker:
                log.warning(
                    "%s is no longer used: another device trained cohort %d",
                    failure.name,
                    number,
                )
        elif isinstance(event, interface.OutOfMemory):
            self._after_memory(number, cohort, event.reason)
        elif isinstance(event, interface.DeviceFailed):
            self._after_failure(number, cohort, _Failure(worker, event.device, event.reason))
        elif isinstance(event, interface.WorkerLost):
            self.assignment.leave(worker)
            self._after_loss(number, cohort, event.reason)
        elif event.checkpoint is not None:
            self.saver.save(number, event.checkpoint)
            log.info("stopped after epoch %d of cohort %d", event.checkpoint.epoch, number)

    def _finish(self, number: int, cohort: Cohort, trained: FitResult | str) -> None:
        if isinstance(trained, FitResult):
            last = max(one.number for one in self.ready.record.cohorts)
            _log_cohort(number, last, cohort, trained)
        (planned,) = (one for one in self.ready.record.cohorts if one.number == number)
        self.finisher.save(planned, cohort, trained, self.ready.record.data_and_splits)
        if not self.ready.open_rung:  # else some of the trials are trained further
            self.unwritten |= {trial.experiment.name for trial in cohort.trials}

    def _host_is_full(self, number: int) -> UserError:
        return UserError(
            f"not enough host memory for cohort {number} (predicted: "
            f"{host_memory.describe(self.ready.prepared.host_memory)}; free now: "
            f"{available_bytes() / 2**20:,.0f} MiB): end other programs, store the features as "
            "float16, or leave blocks out"
        )

    def _after_memory(self, number: int, cohort: Cohort, reason: str) -> None:
        """Halves a cohort that ran out of memory, also in plan.json; a single trial has failed.

        A single trial in a program of several slots gets a program of its own.
        """
        if cohort.num_slots == 1:
            self._finish(number, cohort, trial_results.NO_MEMORY.format(reason))
            return
        change = "is halved" if len(cohort.trials) > 1 else "loses its free slots"
        log.warning("cohort %d does not fit in memory and %s: %s", number, change, reason)
        self.saver.drop(number)
        record = self.ready.record.with_halves(number, cohort)
        write_manifest(self.folder, record)
        known = {planned.number for planned in self.ready.record.cohorts}
        halves = [planned for planned in record.cohorts if planned.number not in known]
        self.ready = self.ready._replace(record=record)
        self.waiting = cohorts_of(halves, self.ready.prepared) | self.waiting

    def _after_failure(self, number: int, cohort: Cohort, failure: _Failure) -> None:
        """Lets another device train a cohort whose device has failed.

        If the second device fails too, the cohort has failed, and both devices stay in use.
        """
        self.saver.disclaim(number)
        first = self.failures.pop(number, None)
        if first is None:
            self.failures[number] = failure
            self.assignment.pause(failure.worker)
            self.waiting = {number: cohort} | self.waiting
            return
        self.assignment.unpause(first.worker)
        self._finish(number, cohort, trial_results.DEVICE_FAILED.format(failure.reason))

    def _after_loss(self, number: int, cohort: Cohort, reason: str) -> None:
        """Lets the next worker train a cohort from its last checkpoint."""
        self.saver.disclaim(number)
        self.losses[number] += 1
        if self.losses[number] >= _MOST_LOSSES:
            self._finish(number, cohort, trial_results.WORKER_LOST.format(_MOST_LOSSES, reason))
            return
        log.warning("cohort %d lost its worker; another worker resumes it: %s", number, reason)
        self.waiting = {number: cohort} | self.waiting

    def _stop_if_asked(self) -> None:
        """On a signal, stops all workers after their dispatch and saves their checkpoints."""
        if (signal_number := self.stop_signal()) is None:
            return
        self.engine.stop()
        while self.assignment.running:
            event = self.engine.next_event(_ASK_EVERY)
            if event is not None:
                self._handle(event)
        self.finisher.wait()
        self.saver.wait()
        log.info("%s", self.saver.account())
        raise Stopped(self.folder, signal_number)


def _log_cohort(number: int, last: int, cohort: Cohort, fitted: FitResult) -> None:
    running_EP = fitted.history.running
    # One after the other, a trial that has stopped takes no time.
    epochs = len(running_EP) if cohort.profile.side_by_side else running_EP.mean(axis=1).sum()
    log.info(
        "cohort %d of %d (%s): %s, %s of %s of up to %s, %.1f s (predicted %.1f s)",
        number,
        last,
        cohort.label,
        counted(len(cohort.trials), "trial"),
        counted(len(running_EP) - cohort.begins, "epoch"),
        counted(cohort.num_batches, "step"),
        counted(cohort.batch_size, "pair"),
        fitted.seconds,
        epochs * cohort.epoch_seconds,
    )
