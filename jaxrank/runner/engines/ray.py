"""Engine of a cluster: each worker is a Ray actor that holds one device.

The driver plans, owns the search's folder and writes its files. The data that all jobs read go into
Ray's object store once. A job is a call that yields events, so results and checkpoints come back in
the same way, and workers need no file of the search.
"""

import copy
import logging
import time
from collections.abc import Sequence
from types import TracebackType

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from jaxrank.errors import UserError
from jaxrank.planning.cohort import Cohort
from jaxrank.runner.engines.interface import (
    Claim,
    Crashed,
    Event,
    Job,
    Reported,
    SharedData,
    Worker,
    WorkerJoined,
    WorkerLost,
)
from jaxrank.runner.engines.ray_worker import RayWorker, WorkerSpec
from jaxrank.runner.manifest import versions

# Seconds that the first worker may take to start, and then the others. Workers that start later
# join while the search runs.
_FIRST_WORKER, _OTHER_WORKERS = 300, 30
# Minimum seconds between two reports of a worker without a checkpoint (for the progress bar), and
# maximum number of reports of all workers that the driver should read in a second.
_REPORT_EVERY, _MOST_REPORTS = 0.5, 200
# The search gives up on a worker after this many failed starts in a row.
_MOST_STARTS = 3
_LONGEST_REASON = 200

log = logging.getLogger("jaxrank")


class RayCluster:
    """Workers of a Ray cluster; see `interface.Cluster`."""

    def __init__(self, num_workers: int | None, gpus_per_worker: int | None):
        """Args:
        num_workers: number of workers; by default one for each GPU, TPU chip or core.
        gpus_per_worker: GPUs or TPU chips of a worker; by default 1 if there are any, else 0.
        """
        there = ray.cluster_resources()
        kind = "TPU" if there.get("TPU") and not there.get("GPU") else "GPU"
        each = int(there.get(kind, 0) > 0) if gpus_per_worker is None else gpus_per_worker
        number = num_workers or int(there.get(kind if each else "CPU", 0))
        if number < 1 or (each and not there.get(kind)):
            raise UserError(f"the Ray cluster has no {kind if each else 'core'} for a worker")
        self._cores = None if each else 1
        self._report_every = max(_REPORT_EVERY, number / _MOST_REPORTS)
        self._class = ray.remote(RayWorker).options(
            num_cpus=1,
            num_gpus=each if kind == "GPU" else 0,
            resources={"TPU": each} if kind == "TPU" else None,
            max_concurrency=2,
            scheduling_strategy="SPREAD",
        )
        self.actors = [self.new_actor() for _ in range(number)]
        try:
            specs = _specs(self.actors)
            self.spec = specs[0]
            refuse_others(specs, self.spec)
        except BaseException:
            self.close()
            raise
        memory = min(spec.device.memory for spec in specs)
        self.device = self.spec.device._replace(memory=memory)
        self._stored = StoredData()

    def new_actor(self) -> ActorHandle:
        """Starts a worker as soon as the cluster has room for it."""
        return self._class.remote(self._cores, self._report_every)

    def describe(self) -> str:
        nodes = sum(node["Alive"] for node in ray.nodes())
        return f"Ray workers: {len(self.actors)}, machines: {nodes}"

    def engine(self, data: SharedData, claim: Claim) -> "RayEngine":
        return RayEngine(self, self._stored.ref(data), claim)

    def close(self) -> None:
        for actor in self.actors:
            ray.kill(actor)


def _specs(actors: Sequence[ActorHandle]) -> list[WorkerSpec]:
    """Specs of the workers that start in time, at least one."""
    waited_for = [actor.describe.remote() for actor in actors]
    ready, _ = ray.wait(waited_for, num_returns=1, timeout=_FIRST_WORKER)
    if not ready:
        raise UserError(
            f"no Ray worker has started in {_FIRST_WORKER} s: has the cluster an idle core for "
            "it, and the GPU where --gpus_per_worker=1?"
        )
    ready, _ = ray.wait(waited_for, num_returns=len(waited_for), timeout=_OTHER_WORKERS)
    try:
        return ray.get(ready)
    except RayError as error:
        raise UserError(
            f"a Ray worker can't start ({_reason(error, -1)}); all machines of the cluster need "
            "the same jaxrank"
        ) from None


def refuse_others(specs: Sequence[WorkerSpec], first: WorkerSpec) -> None:
    """Raises an error if a worker would give other bits than the first worker or the driver."""
    for spec in specs:
        for difference in (_difference(spec, first), _other_version(spec)):
            if difference:
                raise UserError(f"the workers are not alike: {difference}")


def _difference(spec: WorkerSpec, first: WorkerSpec) -> str:
    if spec.device[:2] == first.device[:2]:
        return ""
    return (
        f"{spec.worker.name} has '{spec.device.kind}' and {first.worker.name} "
        f"'{first.device.kind}', which give other bits"
    )


def _other_version(spec: WorkerSpec) -> str:
    for package, version in versions().items():
        if spec.versions[package] != version:
            there = spec.versions[package]
            return f"{spec.worker.name} has {package} {there}, and the driver {version}"
    return ""


def _reason(error: BaseException, line: int = 0) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[line][:_LONGEST_REASON]


class StoredData:
    """The data of the current search in Ray's object store.

    All rungs and rounds of a search use one object. Machines that have fetched it keep it as long
    as this reference exists.
    """

    def __init__(self) -> None:
        self._last: tuple[SharedData, ray.ObjectRef] | None = None

    def ref(self, data: SharedData) -> ray.ObjectRef:
        """Returns the object of the data, and stores it unless it is the last one.

        Data are the same if they consist of the same objects; the numbers are not compared.
        """
        if self._last is None or not (
            self._last[0].split_data is data.split_data
            and list(self._last[0].folds) == list(data.folds)
            and self._last[0].start is data.start
        ):
            self._last = None  # frees the memory of the last search first
            self._last = data, ray.put(data)
        return self._last[1]


class RayEngine:
    """Engine of a Ray cluster; see `interface.Engine`.

    All workers join while it runs, including the first ones.
    """

    one_copy = False
    compiles_ahead = 0

    def __init__(self, cluster: RayCluster, data: ray.ObjectRef, claim: Claim):
        """Args:
        cluster: cluster of the workers.
        data: the `SharedData` that jobs read.
        claim: see `interface.Claim`; called by `next_event`.
        """
        self.workers: list[Worker | None] = [None] * len(cluster.actors)
        self._cluster, self._claim = cluster, claim
        self._data = data
        self._running: dict[ray.ObjectRefGenerator, tuple[int, int]] = {}  # worker and job
        self._joining: dict[ray.ObjectRef, int] = {}  # worker
        self._starts = [0] * len(cluster.actors)  # failed starts in a row
        self._ready: list[ray.ObjectRef | ray.ObjectRefGenerator] = []  # not read yet
        self._claimed: set[int] = set()  # jobs whose checkpoint was requested
        for place in range(len(cluster.actors)):
            self._join(place)

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for place, _ in self._running.values():
            self._replace(place)

    def start(self, worker: int, job: Job) -> None:
        train = self._cluster.actors[worker].train.options(num_returns="streaming")
        self._running[train.remote(job)] = worker, job.number

    def expect(self, worker: int, jobs: Sequence[Job]) -> None:
        """Does nothing: a worker has one core, which trains, so nothing is compiled ahead."""

    def keep(self, cohorts: Sequence[Cohort]) -> None:
        """Does nothing: a worker keeps the columns of its last job only."""

    def next_event(self, seconds: float) -> Event | None:
        self._require_workers()
        awaited = [*self._joining, *self._running]
        if not awaited:
            time.sleep(seconds)
            return None
        if not self._ready:  # with a thousand workers: read all that are ready
            ray.wait(awaited, num_returns=1, timeout=seconds)
            self._ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
        if not self._ready:
            return None
        one = self._ready.pop()
        return self._joined(one) if one in self._joining else self._event_of(one)

    def stop(self) -> None:
        for place, _ in self._running.values():
            self._cluster.actors[place].stop.remote()

    def _event_of(self, job: ray.ObjectRefGenerator) -> Event:
        place, number = self._running[job]
        try:
            # A copy: a result read in place would occupy the object store to the end.
            event, size = copy.deepcopy(ray.get(next(job)))
        except RayTaskError as error:
            event = Crashed(number, error)
        except (RayError, StopIteration) as error:
            event = WorkerLost(number, _reason(error))
            self._replace(place)
            self._join(place)
        if not isinstance(event, Reported):
            del self._running[job]
            self._claimed.discard(number)
        elif event.checkpoint is not None:
            self._claimed.discard(number)
        elif number not in self._claimed and self._claim(number, size):
            self._claimed.add(number)
            self._cluster.actors[place].want_checkpoint.remote(number)
        return event

    def _replace(self, place: int) -> None:
        ray.kill(self._cluster.actors[place])  # it may be alive, but out of reach
        self._cluster.actors[place] = self._cluster.new_actor()
        self.workers[place] = None
        if not any(self.workers):
            log.warning("no Ray worker is left: waiting until the cluster has room for one")

    def _join(self, place: int) -> None:
        self._joining[self._cluster.actors[place].join.remote(self._data)] = place

    def _joined(self, ref: ray.ObjectRef) -> Event | None:
        place = self._joining.pop(ref)
        try:
            spec = ray.get(ref)
        except RayError as error:
            self._starts[place] += 1
            self._replace(place)
            if self._starts[place] < _MOST_STARTS:
                self._join(place)
            else:
                log.warning("gave up on a Ray worker that can't start: %s", _reason(error, -1))
            return None
        difference = _difference(spec, self._cluster.spec) or _other_version(spec)
        if difference:
            log.warning("a Ray worker is not used: %s", difference)
            return None
        self._starts[place] = 0
        self.workers[place] = spec.worker
        return WorkerJoined(place, spec.worker)

    def _require_workers(self) -> None:
        """Raises an error if no worker trains, is idle or may still join."""
        if not (self._running or self._joining or any(self.workers)):
            raise UserError(
                "no worker of the Ray cluster is left; resume the search with --resume when there "
                "are some"
            )
