"""Interface of the scheduler and an engine: jobs go to workers, events come back.

Jobs and events can be sent to another process, because their arrays are NumPy's. An engine gets the
data that all jobs read once. It needs no file of the search: the scheduler owns the folder,
restores checkpoints and writes them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeAlias

from jaxrank.data.dataset import SplitDataset
from jaxrank.devices import DeviceSpec
from jaxrank.planning.cohort import Cohort
from jaxrank.training.checkpoint import Checkpoint, ContinuedTrials
from jaxrank.training.state import FitResult, InitialWeights

# From the number of a job and the bytes of its state: whether its next report should include a
# checkpoint. May be called in any thread of the scheduler's process.
Claim: TypeAlias = Callable[[int, int], bool]


class SharedData(NamedTuple):
    """Data that all jobs read.

    Attributes:
      split_data: the pairs and their splits.
      folds: folds that are trained.
      start: initial weights of the trials whose experiment has `init_from`.
    """

    split_data: SplitDataset
    folds: Sequence[int]
    start: InitialWeights | None


class Job(NamedTuple):
    """A cohort that one worker trains.

    Attributes:
      number: number of the cohort in plan.json.
      checkpoint: checkpoint at which an earlier run, or another worker, has stopped.
      parts: without a checkpoint, the states of the trials at the rung where the cohort begins.
    """

    number: int
    cohort: Cohort
    checkpoint: Checkpoint | None = None
    parts: Sequence[ContinuedTrials] = ()


class Worker(NamedTuple):
    """A worker and its device.

    Attributes:
      name: name of the worker for the log.
      memory: name of the memory that the worker trains in, which it may share with others.
    """

    name: str
    memory: str


class Reported(NamedTuple):
    """Progress of a job after a dispatch, and its checkpoint if one was claimed."""

    number: int
    epochs: int
    seconds: float  # of training so far, earlier rungs and launches included
    num_running: int
    checkpoint: Checkpoint | None


class Finished(NamedTuple):
    """A job is done."""

    number: int
    fitted: FitResult


class Stopped(NamedTuple):
    """A job was stopped; it has no checkpoint if it had not begun."""

    number: int
    checkpoint: Checkpoint | None


class OutOfMemory(NamedTuple):
    """A job did not fit in memory."""

    number: int
    reason: str


class DeviceFailed(NamedTuple):
    """A job ended because its device, or a program on it, failed: not a bug in jaxrank."""

    number: int
    device: str  # for the log
    reason: str


class WorkerLost(NamedTuple):
    """A job ended because its worker is gone, such as with its machine.

    Until `WorkerJoined`, the worker can't be given a job.
    """

    number: int
    reason: str


class WorkerJoined(NamedTuple):
    """A worker is available, for the first time or again."""

    place: int  # index among the engine's workers
    worker: Worker


class Crashed(NamedTuple):
    """A job ended because of a bug in jaxrank; the scheduler raises the error."""

    number: int
    error: BaseException


# The last event of a job; each job has exactly one.
Ended: TypeAlias = Finished | Stopped | OutOfMemory | DeviceFailed | WorkerLost | Crashed
Event: TypeAlias = Reported | Ended | WorkerJoined


class Engine(Protocol):
    """Workers that train jobs.

    Each started job ends with one event of `Ended`. Leaving the context ends all jobs without
    further events.

    Attributes:
      workers: the workers, at least one; None for a worker that will join.
      one_copy: whether workers that train in the same memory share one copy of the features.
      compiles_ahead: number of jobs whose programs a worker compiles while it trains another.
    """

    one_copy: bool
    compiles_ahead: int

    @property
    def workers(self) -> Sequence[Worker | None]: ...

    def start(self, worker: int, job: Job) -> None:
        """Starts a job on an idle worker."""

    def expect(self, worker: int, jobs: Sequence[Job]) -> None:
        """Announces the jobs that a worker may get next, at most `compiles_ahead`."""

    def keep(self, cohorts: Sequence[Cohort]) -> None:
        """Announces the unfinished cohorts; data that only other cohorts read may be dropped."""

    def next_event(self, seconds: float) -> Event | None:
        """Returns the next event; None if none comes in this time."""

    def stop(self) -> None:
        """Ends every job after its dispatch, with `Stopped`."""


# Makes the engine whose workers train on the given data.
MakeEngine: TypeAlias = Callable[[SharedData, Claim], AbstractContextManager[Engine]]


class Cluster(Protocol):
    """Other machines that train, in place of the devices of this process.

    Attributes:
      device: kind and memory of each worker's device.
    """

    device: DeviceSpec

    def describe(self) -> str:
        """Describes the number of workers in one line."""

    def engine(self, data: SharedData, claim: Claim) -> AbstractContextManager[Engine]:
        """Engine of the cluster's workers, for one search."""
