"""Assignment of cohorts to workers.

A device compiles each program that it runs, and finds only its own programs in the cache of an
earlier search. So each program has a home worker, which follows from the plan and not from which
worker is idle first. Another worker takes a cohort only if the cohort would be done earlier there,
compilation included.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxrank.planning.cohort import Cohort, resident_bytes


@dataclasses.dataclass
class _Running:
    """A cohort that is being trained, with the number of its program."""

    number: int
    cohort: Cohort
    program: int
    seconds: float
    share: float = 0.0  # share of its epochs that are done
    first_report: tuple[float, float] | None = None  # share and seconds


class _Cached(NamedTuple):
    """Number of a cohort's program, and its `training_seconds`.

    Cached, because an idle worker of a cluster looks through thousands of cohorts.
    """

    program: int
    seconds: float


class _Waiting(NamedTuple):
    """A waiting cohort: its place in the queue, its number, its `training_seconds`."""

    place: int
    number: int
    seconds: float


class _WaitingProgram(NamedTuple):
    """A program and its waiting cohorts, in the order of the queue."""

    program: int
    cohorts: list[_Waiting]


class Programs:
    """The programs of a search and the workers that have compiled them.

    They are kept from rung to rung and from round to round.

    Attributes:
      numbers: number of each program, by `Cohort.compiled_as`.
      workers: by number, the program's home, and the workers that have compiled it.
      slowness: by number, the training time as a multiple of the predicted one, as last observed.
    """

    def __init__(self) -> None:
        self.numbers: dict[tuple, int] = {}
        self.workers: dict[int, set[int]] = {}
        self.slowness: dict[int, float] = {}


class Assignment:
    """Assigns cohorts, numbered as in the plan, to workers, which are indices of a list."""

    def __init__(
        self,
        memories: Sequence[str | None],
        memory_limit: int,
        cohorts: Mapping[int, Cohort],
        one_copy: bool = True,
        programs: Programs | None = None,
    ):
        """Args:
        memories: name of the memory that each worker trains in; None for an absent worker.
        memory_limit: bytes of each memory that may be used.
        cohorts: cohorts to train, by number, in the order of the plan.
        one_copy: whether workers in one memory share the inputs that they read.
        programs: programs that the workers have compiled before; updated.
        """
        self._memories, self._limit, self._one_copy = list(memories), memory_limit, one_copy
        self._running: dict[int, _Running] = {}  # by worker
        self._programs = Programs() if programs is None else programs
        self._cached: dict[int, _Cached] = {}  # by number of the cohort
        self._find_homes(cohorts)
        self._paused: set[int] = set()

    @property
    def running(self) -> dict[int, Cohort]:
        """Cohorts that are being trained, by number."""
        return {one.number: one.cohort for one in self._running.values()}

    def next_start(self, waiting: Mapping[int, Cohort]) -> tuple[int, int] | None:
        """Returns an idle worker and the cohort it should train; None if nothing should start.

        Args:
          waiting: waiting cohorts by number, in the order of the plan.
        """
        usable = self._usable()
        idle = [worker for worker in usable if worker not in self._running]
        programs = self._by_program(waiting) if idle else []
        for worker in idle:
            number = self._best(worker, waiting, programs, set(usable))
            if number is not None:
                return worker, number
        return None

    def begin(self, worker: int, number: int, cohort: Cohort) -> None:
        known = self._look_up(number, cohort)
        self._running[worker] = _Running(number, cohort, known.program, known.seconds)
        self._programs.workers.setdefault(known.program, set()).add(worker)

    def report(self, number: int, share: float, seconds: float) -> None:
        """Records the share of its epochs that a cohort has done, after `seconds` of training.

        The time to the first report is not observed: it may include a start, or earlier rungs.
        """
        one = self._running[self._worker_of(number)]
        one.share = share
        if one.first_report is None:
            one.first_report = share, seconds
            return
        first_share, first_seconds = one.first_report
        predicted = (share - first_share) * one.seconds
        self._programs.slowness[one.program] = (seconds - first_seconds) / predicted

    def end(self, number: int) -> int:
        """Frees the worker of a cohort, and returns the worker."""
        worker = self._worker_of(number)
        del self._running[worker]
        return worker

    def join(self, worker: int, memory: str) -> None:
        """Records that a worker has joined."""
        self._memories[worker] = memory

    def leave(self, worker: int) -> None:
        """Removes a worker until another joins in its place, which has compiled nothing."""
        self._memories[worker] = None
        self._paused.discard(worker)
        for owners in self._programs.workers.values():
            owners.discard(worker)

    def pause(self, worker: int) -> None:
        """Gives a worker no more cohorts, as long as there are other workers."""
        self._paused.add(worker)

    def unpause(self, worker: int) -> None:
        self._paused.discard(worker)

    def to_precompile(self, waiting: Mapping[int, Cohort], most: int) -> dict[int, list[int]]:
        """For each worker, at most `most` cohorts whose programs it should compile ahead."""
        usable = self._usable()
        chosen: dict[int, list[int]] = {worker: [] for worker in usable}
        for number, cohort in waiting.items():
            program = self._look_up(number, cohort).program
            owners = sorted(self._owners(program, set(usable))) or usable
            if not owners:
                break
            worker = min(owners, key=lambda one: len(chosen[one]))
            if len(chosen[worker]) < most:
                chosen[worker].append(number)
        return chosen

    def _worker_of(self, number: int) -> int:
        return next(w for w, one in self._running.items() if one.number == number)

    def _usable(self) -> list[int]:
        """Present workers that are not paused; all present workers if all are paused."""
        here = [w for w, memory in enumerate(self._memories) if memory is not None]
        return [w for w in here if w not in self._paused] or here

    def _look_up(self, number: int, cohort: Cohort) -> _Cached:
        if number not in self._cached:
            numbers = self._programs.numbers
            program = numbers.setdefault(cohort.compiled_as, len(numbers))
            self._cached[number] = _Cached(program, cohort.training_seconds)
        return self._cached[number]

    def _owners(self, program: int, usable: set[int]) -> set[int]:
        """Usable workers that have compiled a program, or are its home."""
        return usable & self._programs.workers.get(program, set())

    def _by_program(self, waiting: Mapping[int, Cohort]) -> list[_WaitingProgram]:
        """Waiting cohorts grouped by program, by the place of each program's first cohort.

        Programs are few, and a cluster may have a thousand idle workers and many more cohorts.
        """
        found: dict[int, _WaitingProgram] = {}
        for place, (number, cohort) in enumerate(waiting.items()):
            known = self._look_up(number, cohort)
            group = found.setdefault(known.program, _WaitingProgram(known.program, []))
            group.cohorts.append(_Waiting(place, number, known.seconds))
        return list(found.values())

    def _best(
        self,
        worker: int,
        waiting: Mapping[int, Cohort],
        programs: Sequence[_WaitingProgram],
        usable: set[int],
    ) -> int | None:
        memory = self._memories[worker]
        beside = [one.cohort for w, one in self._running.items() if self._memories[w] == memory]
        elsewhere: list[tuple[_WaitingProgram, set[int]]] = []  # programs with other owners
        firsts = [waiting[group.cohorts[0].number] for group in programs]
        for group in programs:
            first = group.cohorts[0].number
            # All cohorts of a program take the same memory.
            if self._fit([*beside, waiting[first]], firsts):
                owners = self._owners(group.program, usable)
                if not owners or worker in owners:
                    return first
                elsewhere.append((group, owners))
        earlier: list[_Waiting] = []  # would be done earlier here
        for group, owners in elsewhere:
            compiling = waiting[group.cohorts[0].number].profile.compile_seconds
            at_most = self._seconds_left(owners, programs) - compiling
            at_most /= self._programs.slowness.get(group.program, 1.0)
            earlier += next(([one] for one in group.cohorts if one.seconds < at_most), [])
        return min(earlier).number if earlier else None

    def _fit(self, together: Sequence[Cohort], waiting: Sequence[Cohort]) -> bool:
        """Whether cohorts fit together in one memory, with the data of those that wait.

        A single cohort is always tried.
        """
        if len(together) == 1:
            return True
        read = sum(one.data_bytes for one in together)
        if self._one_copy:
            read = resident_bytes([*together, *waiting])
        own = sum(one.memory_bytes - one.data_bytes for one in together)
        return own + read <= self._limit

    def _seconds_left(self, owners: set[int], programs: Sequence[_WaitingProgram]) -> float:
        """Work of a program's owners, running and waiting, for each of them."""

        def observed(program: int, seconds: float) -> float:
            return self._programs.slowness.get(program, 1.0) * seconds

        left = 0.0
        for one in (self._running[w] for w in owners if w in self._running):
            left += observed(one.program, (1 - one.share) * one.seconds)
        for group in programs:
            if self._programs.workers.get(group.program, set()) & owners:
                left += observed(group.program, sum(one.seconds for one in group.cohorts))
        return left / len(owners)

    def _find_homes(self, cohorts: Mapping[int, Cohort]) -> None:
        """Gives each new program a home: in the order of the plan, the worker with least work."""
        seconds: dict[int, float] = {}
        for number, cohort in cohorts.items():
            known = self._look_up(number, cohort)
            is_new = known.program not in self._programs.workers
            before = seconds.get(known.program, is_new * cohort.profile.compile_seconds)
            seconds[known.program] = before + known.seconds
        busy = [0.0] * len(self._memories)
        # Programs that have a home first, so that others go where there is less to do.
        for program in sorted(seconds, key=lambda one: one not in self._programs.workers):
            homes = self._programs.workers.get(program) or {busy.index(min(busy))}
            self._programs.workers[program] = homes
            for worker in homes:
                busy[worker] += seconds[program] / len(homes)
