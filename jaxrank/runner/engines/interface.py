"""What the scheduler and an engine say to each other.

A job goes to a worker, and events come back. All of it can be sent to another process: arrays are
NumPy's. An engine gets the data, which all jobs read, once, and needs no file of the search: the
scheduler holds the folder, restores checkpoints and writes them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeAlias

from jaxrank.data.dataset import SplitDataset
from jaxrank.devices import DeviceSpec
from jaxrank.planning.cohort import Cohort
from jaxrank.training.checkpoint import Checkpoint, Part
from jaxrank.training.state import FitResult, InitialWeights

# Given the number of a job and the bytes of its state, whether its next report should bring a
# checkpoint. May be called in any thread of the scheduler's process.
Claim: TypeAlias = Callable[[int, int], bool]


class SharedData(NamedTuple):
    """What all jobs read.

    Attributes:
      split_data: the pairs.
      folds: that are trained.
      start: what trials begin from whose experiment has `init_from`.
    """

    split_data: SplitDataset
    folds: Sequence[int]
    start: InitialWeights | None


class Job(NamedTuple):
    """A cohort that one worker trains.

    Attributes:
      number: of the cohort in plan.json.
      checkpoint: where an earlier run, or another worker, has stopped.
      parts: without that, the states of its trials at the rung where it begins.
    """

    number: int
    cohort: Cohort
    checkpoint: Checkpoint | None = None
    parts: Sequence[Part] = ()


class Worker(NamedTuple):
    """A device.

    Attributes:
      name: for the log.
      memory: names the memory that it trains in, which it may share with others.
    """

    name: str
    memory: str


class Reported(NamedTuple):
    """After a dispatch: how far a job is, and its checkpoint where one was claimed."""

    number: int
    epochs: int
    num_running: int
    checkpoint: Checkpoint | None


class Finished(NamedTuple):
    """A job is done."""

    number: int
    fitted: FitResult


class Stopped(NamedTuple):
    """A job was stopped, after so many epochs; without a checkpoint where it had not begun."""

    number: int
    checkpoint: Checkpoint | None


class OutOfMemory(NamedTuple):
    """A job did not fit in memory."""

    number: int
    reason: str


class DeviceFailed(NamedTuple):
    """A job ended because its device did, or a program on it: not by a mistake of jaxrank's."""

    number: int
    device: str  # for the log
    reason: str


class WorkerLost(NamedTuple):
    """A job ended because its worker is gone, such as with its machine. Until `WorkerJoined` the
    worker can't be given a job."""

    number: int
    reason: str


class WorkerJoined(NamedTuple):
    """A worker is there, for the first time or again."""

    place: int  # among the engine's workers
    worker: Worker


class Crashed(NamedTuple):
    """A job ended by a mistake of jaxrank's, which the scheduler raises."""

    number: int
    error: BaseException


# What the one last event of a job is.
Ended: TypeAlias = Finished | Stopped | OutOfMemory | DeviceFailed | WorkerLost | Crashed
Event: TypeAlias = Reported | Ended | WorkerJoined


class Engine(Protocol):
    """Workers, and what they train.

    Each job that was started ends in one event of `Ended`. Leaving its context ends all
    jobs without another word.

    Attributes:
      workers: at least one; None for those that will join.
      one_copy: workers that train in the same memory share one copy of the features.
      compiles_ahead: jobs whose programs a worker compiles while it trains another.
    """

    one_copy: bool
    compiles_ahead: int

    @property
    def workers(self) -> Sequence[Worker | None]: ...

    def start(self, worker: int, job: Job) -> None:
        """Has an idle worker train a job."""

    def expect(self, worker: int, jobs: Sequence[Job]) -> None:
        """Says which jobs a worker may get next, at most `compiles_ahead`."""

    def keep(self, cohorts: Sequence[Cohort]) -> None:
        """Says which cohorts are not done; what only others read may be dropped."""

    def next_event(self, seconds: float) -> Event | None:
        """The next event; None where none comes in this time."""

    def stop(self) -> None:
        """Has every job end after its dispatch, with `Stopped`."""


# Starts workers that train on these data.
MakeEngine: TypeAlias = Callable[[SharedData, Claim], AbstractContextManager[Engine]]


class Cluster(Protocol):
    """Other machines that train, in place of the devices of this process.

    Attributes:
      device: of each worker.
    """

    device: DeviceSpec

    def describe(self) -> str:
        """How many workers there are, in a line."""

    def engine(self, data: SharedData, claim: Claim) -> AbstractContextManager[Engine]:
        """The workers, for one search."""
