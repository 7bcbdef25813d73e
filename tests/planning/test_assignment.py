"""Which worker trains what: longest first, few compilations, and no more than fits in memory."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from small_data import experiment

from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.planning import planner
from jaxrank.planning.assignment import Assignment
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.costs import DeviceProfile
from jaxrank.planning.trials import Trial

# A device on which every trial of these tests is worth a cohort of its own.
SLOW = DeviceProfile("test", 1e6, 1e7, 1e-1, 2.0, side_by_side=False)
ENOUGH = 2**40


@pytest.fixture(scope="module")
def cohorts(dataset: Dataset, parts: np.ndarray) -> dict[int, Cohort]:
    """Two programs: three cohorts of a wide one, then two of a narrow one."""
    trials = [Trial(experiment("wide", mlp_hidden_dims=(64, 8)), fold, 0) for fold in range(3)]
    trials += [Trial(experiment("narrow", mlp_hidden_dims=(4,)), fold, 0) for fold in range(2)]
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    made = planner.make_cohorts(trials, data, ENOUGH, SLOW)
    return dict(enumerate(made, 1))


def names(cohorts: Sequence[Cohort]) -> list[str]:
    return [cohort.label for cohort in cohorts]


def started(assignment: Assignment, waiting: dict[int, Cohort]) -> list[tuple[int, int]]:
    """Starts what may start, and takes it out of `waiting`."""
    starts = []
    while (start := assignment.next_start(waiting)) is not None:
        worker, number = start
        assignment.begin(worker, number, waiting.pop(number))
        starts.append(start)
    return starts


def test_the_plan_has_the_longest_first(cohorts: dict[int, Cohort]) -> None:
    assert names(list(cohorts.values())) == ["wide"] * 3 + ["narrow"] * 2
    seconds = [cohort.seconds for cohort in cohorts.values()]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 2 * SLOW.compile_seconds


def test_each_program_begins_on_a_worker_of_its_own(cohorts: dict[int, Cohort]) -> None:
    assignment, waiting = Assignment(["host"] * 2, ENOUGH, cohorts), dict(cohorts)
    assert started(assignment, waiting) == [(0, 1), (1, 4)]
    assignment.end(4)
    assert started(assignment, waiting) == [(1, 5)]  # compiled there, and not the longer one


def test_another_worker_helps_only_where_that_saves_more_than_it_compiles(
    cohorts: dict[int, Cohort],
) -> None:
    wide = {number: cohorts[number] for number in (1, 2, 3)}
    waiting = dict(wide)
    assert started(Assignment(["host"] * 2, ENOUGH, wide), waiting) == [(0, 1), (1, 2)]
    slow = dataclasses.replace(SLOW, compile_seconds=1e6)
    waiting = {number: cohort._replace(profile=slow) for number, cohort in wide.items()}
    assignment = Assignment(["host"] * 2, ENOUGH, waiting)
    assert started(assignment, waiting) == [(0, 1)]
    # Short trainings: less is left of them than a compilation takes.
    waiting = {1: cohorts[1], 2: cohorts[2]}
    short = SLOW.compile_seconds / cohorts[1].training_seconds / 3
    waiting = {n: c._replace(profile=scaled(c.profile, short)) for n, c in waiting.items()}
    assignment = Assignment(["host"] * 2, ENOUGH, waiting)
    assert started(assignment, waiting) == [(0, 1)]


def test_another_worker_helps_where_a_program_turns_out_to_be_slow(
    cohorts: dict[int, Cohort],
) -> None:
    short = SLOW.compile_seconds / cohorts[1].training_seconds / 3
    of_all = {n: cohorts[n]._replace(profile=scaled(SLOW, short)) for n in (1, 2)}
    predicted = of_all[1].training_seconds
    for slowness, helps in ((1.0, False), (9.0, True)):
        assignment, waiting = Assignment(["host"] * 2, ENOUGH, of_all), dict(of_all)
        assert started(assignment, waiting) == [(0, 1)]
        for share in (0.1, 0.2):
            # A cohort that continues from a rung has the seconds before it, too.
            before = 100 * predicted
            assignment.report(1, share, before + slowness * share * predicted)
        assert started(assignment, waiting) == ([(1, 2)] if helps else [])


def scaled(profile: DeviceProfile, share: float) -> DeviceProfile:
    """One that trains in this share of the time, and compiles as before."""
    return dataclasses.replace(
        profile,
        flops_per_second=profile.flops_per_second / share,
        bytes_per_second=profile.bytes_per_second / share,
        step_seconds=profile.step_seconds * share,
    )


def test_short_memory_means_fewer_workers(cohorts: dict[int, Cohort]) -> None:
    """What cohorts read of the features counts once."""
    one = cohorts[1].memory_bytes
    two = 2 * one - cohorts[1].data_bytes
    waiting = {number: cohorts[number] for number in (1, 2, 3)}
    for limit, number in ((two, 2), (two - 1, 1), (1, 1)):
        assert len(started(Assignment(["host"] * 3, limit, waiting), dict(waiting))) == number
    # What waiting cohorts read stays in memory, too.
    other = cohorts[3].program_key
    other = dataclasses.replace(other, input_scaling="standard")
    waiting = {1: cohorts[1], 2: cohorts[2], 3: cohorts[3]._replace(program_key=other)}
    for limit, number in ((two + cohorts[3].data_bytes, 2), (two, 1)):
        begun = started(Assignment(["host"] * 2, limit, waiting), dict(waiting))
        assert len(begun) == number
    # Processes on one machine have a copy each.
    waiting = {number: cohorts[number] for number in (1, 2, 3)}
    apart = Assignment(["host"] * 3, two, waiting, one_copy=False)
    assert len(started(apart, dict(waiting))) == 1
    # Devices with a memory of their own do not count what the others hold.
    own = Assignment(["gpu:0", "gpu:1", "gpu:2"], one, waiting)
    assert len(started(own, dict(waiting))) == 3


def test_a_worker_that_rests_gets_nothing_while_there_are_others(
    cohorts: dict[int, Cohort],
) -> None:
    assignment = Assignment(["host"] * 2, ENOUGH, cohorts)
    assignment.pause(0)
    assert started(assignment, dict(cohorts)) == [(1, 1)]  # whose home rests
    alone = Assignment(["host"], ENOUGH, cohorts)
    alone.pause(0)
    assert started(alone, dict(cohorts)) == [(0, 1)]


def test_programs_are_compiled_ahead_where_they_will_run(cohorts: dict[int, Cohort]) -> None:
    assignment, waiting = Assignment(["host"] * 2, ENOUGH, cohorts), dict(cohorts)
    started(assignment, waiting)
    assert assignment.to_precompile(waiting, 1) == {0: [2], 1: [5]}


def test_a_program_of_short_trainings_has_one_home_whoever_is_idle_first(
    cohorts: dict[int, Cohort],
) -> None:
    """So that a search that is run again finds all of its programs in the cache."""
    short = {n: c._replace(profile=scaled(c.profile, 1e-3)) for n, c in cohorts.items()}
    assignment, waiting = Assignment(["host"] * 2, ENOUGH, short), dict(short)
    assert started(assignment, waiting) == [(0, 1), (1, 4)]
    for number in (4, 5):  # the second worker is done, and waits
        assignment.end(number)
        assert started(assignment, waiting) == ([(1, 5)] if number == 4 else [])
    assignment.end(1)
    assert started(assignment, waiting) == [(0, 2)]


def test_a_worker_gets_nothing_before_it_has_joined_or_after_it_has_left(
    cohorts: dict[int, Cohort],
) -> None:
    assignment, waiting = Assignment([None, None], ENOUGH, cohorts), dict(cohorts)
    assert started(assignment, waiting) == []
    assert assignment.to_precompile(waiting, 1) == {}
    assignment.join(1, "host")
    assert started(assignment, waiting) == [(1, 1)]
    assignment.end(1)
    assignment.leave(1)
    assert started(assignment, waiting) == []
    # Another process in its place has compiled nothing: it may begin with any program.
    assignment.join(1, "other host")
    assert started(assignment, {4: cohorts[4]}) == [(1, 4)]
