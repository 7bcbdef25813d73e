"""Engine of one process: each local device is a worker with its own thread."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

import jax

from jaxrank import devices, machine, train
from jaxrank.planning.cohort import Cohort
from jaxrank.runner.engines.interface import (
    Claim,
    Crashed,
    DeviceFailed,
    Event,
    Finished,
    Job,
    OutOfMemory,
    Reported,
    SharedData,
    Stopped,
    Worker,
)
from jaxrank.training.arrays import CohortInputs, make_inputs
from jaxrank.training.checkpoint import Checkpoint, join, num_bytes, pack, unpack
from jaxrank.training.state import Progress, TrainState

_LONGEST_REASON = 200
_Key = TypeVar("_Key")

log = logging.getLogger("jaxrank")


class _Ended(Exception):
    """Raised in a job that has to end after its dispatch."""

    def __init__(self, checkpoint: Checkpoint | None):
        super().__init__("asked to end")
        self.checkpoint = checkpoint


class LocalEngine:
    """Engine of the devices of this process; see `interface.Engine`.

    The threads run only Python code; compiled programs run in parallel, each on its own device.
    """

    def __init__(self, data: SharedData, claim: Claim, using: Sequence[jax.Device]):
        """Args:
        data: data that jobs read.
        claim: see `interface.Claim`; called in the workers' threads.
        using: devices that train.
        """
        self.workers: Sequence[Worker | None] = [
            Worker(_name(one), "host" if devices.shares_memory() else _name(one)) for one in using
        ]
        self.one_copy = devices.shares_memory()
        self._data, self._claim, self._devices = data, claim, using
        self._inputs = _Inputs(data)
        self._threads = [ThreadPoolExecutor(1, f"worker-{i}") for i in range(len(using))]
        # XLA compiles a program mostly on one core; the cores of workers are for training.
        spare = 0
        if not devices.shares_memory() or len(using) == 1:
            spare = max(1, machine.usable_cores() // 2)
        elif machine.usable_cores() > len(using):
            spare = machine.usable_cores() - len(using)
        self.compiles_ahead = -(-spare // len(using))
        self._ahead = ThreadPoolExecutor(spare, "compile") if spare else None
        self._loads: dict[tuple[int, int], Future[train.CompiledCohort]] = {}  # by worker, number
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop, self._leave = threading.Event(), threading.Event()

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave.set()
        for pool in (*self._threads, *filter(None, [self._ahead])):
            pool.shutdown(cancel_futures=True)

    def start(self, worker: int, job: Job) -> None:
        for other in range(len(self.workers)):
            if other != worker:  # it may have compiled the job's program ahead
                self._loads.pop((other, job.number), None)
        self._threads[worker].submit(self._work, worker, job)

    def expect(self, worker: int, jobs: Sequence[Job]) -> None:
        if self._ahead is None:
            return
        for job in jobs[: self.compiles_ahead]:
            if (worker, job.number) not in self._loads:
                loading = self._ahead.submit(self._load, worker, job.cohort)
                self._loads[worker, job.number] = loading

    def keep(self, cohorts: Sequence[Cohort]) -> None:
        self._inputs.keep(cohorts)

    def next_event(self, seconds: float) -> Event | None:
        with suppress(queue.Empty):
            return self._events.get(timeout=seconds)
        return None

    def stop(self) -> None:
        self._stop.set()

    def _work(self, worker: int, job: Job) -> None:
        try:
            event = self._train(worker, job)
        except _Ended as ended:
            event = Stopped(job.number, ended.checkpoint)
        except jax.errors.JaxRuntimeError as error:
            text = str(error) or "out of memory"
            reason = text.splitlines()[0][:_LONGEST_REASON]
            if "RESOURCE_EXHAUSTED" in text:
                event = OutOfMemory(job.number, reason)
            else:
                name = _name(self._devices[worker])
                log.warning("cohort %d ended on %s: %s", job.number, name, reason, exc_info=True)
                event = DeviceFailed(job.number, name, reason)
        except BaseException as error:  # raised again by the scheduler
            event = Crashed(job.number, error)
        self._events.put(event)

    def _train(self, worker: int, job: Job) -> Event:
        def restore(shapes: TrainState) -> Progress | None:
            if job.checkpoint is not None:
                progress = unpack(job.checkpoint, shapes, len(job.cohort.trials))
                if progress is not None:
                    return progress
                log.warning("cohort %d: its checkpoint does not fit; it begins anew", job.number)
            if not job.parts:
                return None
            progress = join(job.parts, shapes)
            assert progress is not None, "states of another program"
            return progress

        def on_dispatch(progress: Progress) -> None:
            self._end_if_asked(progress)
            claimed = self._claim(job.number, num_bytes(progress))
            checkpoint = pack(progress) if claimed else None
            epochs, running = len(progress.history), progress.num_running
            reported = Reported(job.number, epochs, progress.seconds, running, checkpoint)
            self._events.put(reported)

        compiled = self._loaded(worker, job)
        self._end_if_asked(None)
        fitted = train.fit(
            job.cohort,
            self._data.split_data,
            compiled=compiled,
            restore=restore,
            on_dispatch=on_dispatch,
        )
        return Finished(job.number, fitted)

    def _end_if_asked(self, progress: Progress | None) -> None:
        if self._leave.is_set():
            raise _Ended(None)
        if self._stop.is_set():
            raise _Ended(None if progress is None else pack(progress))

    def _loaded(self, worker: int, job: Job) -> train.CompiledCohort:
        ahead = self._loads.pop((worker, job.number), None)
        if ahead is not None:
            # It may have failed beside another job, which has ended by now.
            with suppress(jax.errors.JaxRuntimeError, MemoryError):
                return ahead.result()
        return self._load(worker, job.cohort)

    def _load(self, worker: int, cohort: Cohort) -> train.CompiledCohort:
        device = self._devices[worker]
        return train.compile_cohort(
            cohort,
            self._data.split_data,
            start=self._data.start,
            inputs=self._inputs.on(device, cohort),
            device=device,
        )


def _name(device: jax.Device) -> str:
    return f"{device.platform}:{device.id}"


class _Inputs:
    """Inputs of jobs, held once on the host and once on each device."""

    def __init__(self, data: SharedData):
        self._data = data
        self._on_host: dict[tuple, Future[CohortInputs]] = {}
        self._on_device: dict[tuple[tuple, jax.Device], Future[CohortInputs]] = {}
        self._lock = threading.Lock()  # of the dicts, not held while inputs are made

    def on(self, device: jax.Device, cohort: Cohort) -> CohortInputs:
        columns = cohort.columns
        here = (columns, device)
        host = self._once(self._on_host, columns, lambda: make_inputs(cohort, *self._data))
        return self._once(self._on_device, here, lambda: host.on(device))

    def _once(
        self, made: dict[_Key, Future[CohortInputs]], key: _Key, make: Callable[[], CohortInputs]
    ) -> CohortInputs:
        """Makes inputs, or waits until another worker has made them."""
        with self._lock:
            future, mine = made.get(key), key not in made
            if future is None:
                future = made[key] = Future()
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                with self._lock:
                    made.pop(key, None)
                future.set_exception(error)
        return future.result()

    def keep(self, cohorts: Sequence[Cohort]) -> None:
        needed = {cohort.columns for cohort in cohorts}
        with self._lock:
            for columns in [*self._on_host]:
                if columns not in needed:
                    del self._on_host[columns]
            for columns, device in [*self._on_device]:
                if columns not in needed:
                    del self._on_device[columns, device]
