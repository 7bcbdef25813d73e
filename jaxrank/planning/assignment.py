"""Which worker trains which cohort next.

A device compiles each program that it runs, and finds only its own in the cache of an earlier
search. So each program has a home, which follows from the plan and not from who is idle first.
Another worker takes a cohort only where it would be done earlier there, compilation included.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxrank.planning.cohort import Cohort


@dataclasses.dataclass
class _Running:
    """A cohort that is being trained."""

    number: int
    cohort: Cohort
    share: float = 0.0  # of its epochs that are done

    @property
    def seconds_left(self) -> float:
        return (1 - self.share) * self.cohort.training_seconds


class Assignment:
    """Cohorts on workers. Numbers are those of the plan; workers are places in a list."""

    def __init__(
        self,
        memories: Sequence[str | None],
        memory_limit: int,
        cohorts: Mapping[int, Cohort],
        one_copy: bool = True,
    ):
        """Args:
        memories: of each worker, the name of the memory that it trains in; None where the worker is
          not there.
        memory_limit: bytes of each that may be used.
        cohorts: that are to be trained, by number, in the order of the plan.
        one_copy: workers in one memory share what they read.
        """
        self._memories, self._limit, self._one_copy = list(memories), memory_limit, one_copy
        self._running: dict[int, _Running] = {}  # by worker
        self._compiled = _homes(len(memories), cohorts)
        self._resting: set[int] = set()

    @property
    def running(self) -> dict[int, Cohort]:
        """The cohorts that are being trained, by number."""
        return {one.number: one.cohort for one in self._running.values()}

    def next_start(self, waiting: Mapping[int, Cohort]) -> tuple[int, int] | None:
        """An idle worker and the cohort that it should train; None where nothing should start.

        Args:
          waiting: by number, in the order of the plan.
        """
        for worker in self._usable():
            if worker not in self._running:
                number = self._best(worker, waiting)
                if number is not None:
                    return worker, number
        return None

    def begin(self, worker: int, number: int, cohort: Cohort) -> None:
        self._running[worker] = _Running(number, cohort)
        self._compiled[worker].add(cohort.compiled_as)

    def report(self, number: int, share: float) -> None:
        """Notes which share of its epochs a cohort has done."""
        self._running[self._worker_of(number)].share = share

    def end(self, number: int) -> int:
        """Frees the worker of a cohort, and returns it."""
        worker = self._worker_of(number)
        del self._running[worker]
        return worker

    def join(self, worker: int, memory: str) -> None:
        """Notes that a worker is there."""
        self._memories[worker] = memory

    def leave(self, worker: int) -> None:
        """Gives a worker nothing until another joins in its place, which has compiled nothing."""
        self._memories[worker] = None
        self._compiled[worker] = set()
        self._resting.discard(worker)

    def rest(self, worker: int) -> None:
        """Gives a worker nothing more, as long as there are others."""
        self._resting.add(worker)

    def wake(self, worker: int) -> None:
        self._resting.discard(worker)

    def ahead(self, waiting: Mapping[int, Cohort], most: int) -> dict[int, list[int]]:
        """For each worker, the cohorts whose programs it should compile ahead, at most so many."""
        chosen: dict[int, list[int]] = {worker: [] for worker in self._usable()}
        for number, cohort in waiting.items():
            owners = self._owners(cohort) or list(chosen)
            if not owners:
                break
            worker = min(owners, key=lambda one: len(chosen[one]))
            if len(chosen[worker]) < most:
                chosen[worker].append(number)
        return chosen

    def _worker_of(self, number: int) -> int:
        return next(w for w, one in self._running.items() if one.number == number)

    def _usable(self) -> list[int]:
        """All workers but those that rest; all where there are no others."""
        here = [w for w, memory in enumerate(self._memories) if memory is not None]
        return [w for w in here if w not in self._resting] or here

    def _owners(self, cohort: Cohort) -> list[int]:
        """The workers that have compiled a cohort's program, and its home."""
        return [w for w in self._usable() if cohort.compiled_as in self._compiled[w]]

    def _best(self, worker: int, waiting: Mapping[int, Cohort]) -> int | None:
        fitting = {n: cohort for n, cohort in waiting.items() if self._fits(worker, cohort)}
        for number, cohort in fitting.items():
            owners = self._owners(cohort)
            if not owners or worker in owners:
                return number
        for number, cohort in fitting.items():
            if self._ends_earlier_elsewhere(cohort, waiting):
                return number
        return None

    def _fits(self, worker: int, cohort: Cohort) -> bool:
        """Whether a cohort has room beside those that are trained in the same memory; alone it is
        tried in any case."""
        memory = self._memories[worker]
        beside = [one.cohort for w, one in self._running.items() if self._memories[w] == memory]
        together = [*beside, cohort]
        read = sum(one.data_bytes for one in together)
        if self._one_copy:  # cohorts that read the same columns share them
            read = sum({one.columns: one.data_bytes for one in together}.values())
        own = sum(one.memory_bytes - one.data_bytes for one in together)
        return not beside or own + read <= self._limit

    def _ends_earlier_elsewhere(self, cohort: Cohort, waiting: Mapping[int, Cohort]) -> bool:
        """Whether a worker that has not compiled a cohort's program would be done with it before
        those are that have."""
        owners = self._owners(cohort)
        theirs = set().union(*(self._compiled[w] for w in owners))
        left = sum(self._running[w].seconds_left for w in owners if w in self._running)
        left += sum(c.training_seconds for c in waiting.values() if c.compiled_as in theirs)
        return cohort.seconds < left / len(owners)


def _homes(num_workers: int, cohorts: Mapping[int, Cohort]) -> list[set[tuple]]:
    """For each worker the programs that are at home there: each program, in the order of the plan,
    goes to the worker that has the least to do so far."""
    seconds: dict[tuple, float] = {}
    for cohort in cohorts.values():
        program = cohort.compiled_as
        seconds[program] = (
            seconds.get(program, cohort.profile.compile_seconds) + cohort.training_seconds
        )
    homes: list[set[tuple]] = [set() for _ in range(num_workers)]
    busy = [0.0] * num_workers
    for program, needed in seconds.items():
        worker = busy.index(min(busy))
        homes[worker].add(program)
        busy[worker] += needed
    return homes
