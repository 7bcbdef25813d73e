"""Worker process on a machine of a cluster: holds one device and trains one job at a time."""

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import ray

from jaxrank import devices
from jaxrank.devices import DeviceSpec
from jaxrank.runner.engines.interface import Crashed, Event, Job, Reported, SharedData, Worker
from jaxrank.runner.engines.local import LocalEngine
from jaxrank.runner.manifest import versions
from jaxrank.training import compilation_cache, jax_settings

# Seconds between two checks for an event.
_ASK_EVERY = 1.0


class WorkerSpec(NamedTuple):
    """Description of a worker: its device, versions by package, its name and memory."""

    device: DeviceSpec
    versions: dict[str, str]
    worker: Worker


class RayWorker:
    """Class of a Ray actor: the local engine with one device.

    Ray calls `train` in one thread and the other methods in another.
    """

    def __init__(self, cores: int | None, report_every: float):
        """Args:
        cores: number of cores that may compute; None sets no limit.
        report_every: minimum seconds between two reports without a checkpoint.
        """
        if cores is not None:  # XLA would start a thread for each core of the machine
            os.environ["PJRT_NPROC"] = str(cores)
        jax_settings.choose_deterministic_kernels()
        compilation_cache.keep_compiled_programs()
        self._report_every = report_every
        self._engine: LocalEngine | None = None
        self._wanted: int | None = None  # the job whose checkpoint is wanted
        self._size = 0

    def describe(self) -> WorkerSpec:
        """Returns the description of this worker."""
        jax_settings.require_usable_jax()
        address, node = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
        name = f"{address} {devices.platform()} (process {os.getpid()})"
        memory = node if devices.shares_memory() else name
        return WorkerSpec(devices.spec(), versions(), Worker(name, memory))

    def join(self, data: SharedData) -> WorkerSpec:
        """Begins a search, or a further round or rung of it; returns the worker's description."""
        if self._engine is not None:
            self._engine.__exit__(None, None, None)
        self._engine = LocalEngine(data, self._claim, devices.workers(1))
        return self.describe()

    def train(self, job: Job) -> Iterator[tuple[Event, int]]:
        """Trains a job; yields its events, each with the bytes of the job's state.

        Only the last event is not a `Reported`.
        """
        assert self._engine is not None, "the worker has joined no search"
        self._engine.keep([job.cohort])  # drops the columns of other cohorts
        self._engine.start(0, job)
        reported = 0.0
        while True:
            event = self._engine.next_event(_ASK_EVERY)
            if isinstance(event, Crashed):
                raise event.error  # Ray adds the traceback
            if isinstance(event, Reported) and event.checkpoint is None:
                now = time.monotonic()
                if now - reported < self._report_every:
                    continue
                reported = now
            if event is not None:
                yield event, self._size
                if not isinstance(event, Reported):
                    return

    def want_checkpoint(self, number: int) -> None:
        """Requests a checkpoint in the next report of a job."""
        self._wanted = number

    def stop(self) -> None:
        """Ends the job after its dispatch."""
        if self._engine is not None:
            self._engine.stop()

    def _claim(self, number: int, size: int) -> bool:
        self._size = size
        wanted, self._wanted = self._wanted == number, None
        return wanted
