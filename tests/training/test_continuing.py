"""Trials that end at a rung and continue in another cohort are what they would have been in one."""

import jax
import numpy as np
import pytest
from small_data import experiment

from jaxrank import train
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.costs import DeviceProfile
from jaxrank.planning.trials import Trial
from jaxrank.training import checkpoint, state
from jaxrank.training.checkpoint import Checkpoint, ContinuedTrials
from jaxrank.training.state import FitResult, Progress, TrainState

# As on a CPU, and as on an accelerator.
PROFILES = [
    DeviceProfile("test", 1e9, 1e9, 1e-9, 1e30, side_by_side=False),
    DeviceProfile("test", 1e9, 1e9, 1e-9, 1e30, side_by_side=True),
]
RUNG = 2
TRIALS = [
    Trial(experiment("a", max_epochs=5, schedule="cosine", dropout=0.3), 0, 0),
    Trial(experiment("b", max_epochs=6, learning_rate=3e-3), 1, 0),
    Trial(experiment("c", max_epochs=6, weight_decay=0.1), 2, 1),
    Trial(experiment("d", max_epochs=2), 0, 0),
]


def fit(
    cohort: Cohort, data: SplitDataset, parts: list[ContinuedTrials] | None = None
) -> FitResult:
    def restore(shapes: TrainState) -> Progress | None:
        return None if parts is None else checkpoint.join(parts, shapes)

    return train.fit(cohort, data, restore=restore)


@pytest.mark.parametrize("profile", PROFILES)
def test_trials_continue_as_if_nothing_had_been(
    profile: DeviceProfile, dataset: Dataset, parts: np.ndarray
) -> None:
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    (whole,) = planner.make_cohorts(TRIALS, data, 2**40, profile)
    expected = fit(whole, data)
    # Two cohorts to the rung, whose trials continue in one, in another order.
    ended = [
        planner.make_cohorts(mine, data, 2**40, profile, RUNG)[0]
        for mine in (TRIALS[:2], TRIALS[2:])
    ]
    at_rung = [fit(cohort, data) for cohort in ended]
    assert [list(found.status_P) for found in at_rung] == [
        [state.RUNNING, state.RUNNING], [state.RUNNING, state.STOPPED],
    ]  # fmt: skip
    assert all(len(found.history.running) == RUNG for found in at_rung)
    sources = [(ended[1], TRIALS[2]), (ended[0], TRIALS[1]), (ended[0], TRIALS[0])]
    (rest,) = planner.continued_cohorts(sources, None, 2**40)
    assert (rest.begins, rest.ends, rest.num_epochs) == (RUNG, None, 4)
    assert rest.trials == (TRIALS[2], TRIALS[1], TRIALS[0])
    packed = [Checkpoint(RUNG, found.packed) for found in at_rung if found.packed is not None]
    found = fit(
        rest,
        data,
        [ContinuedTrials(packed[0], 2, [0, 1], [2, 1]), ContinuedTrials(packed[1], 2, [0], [0])],
    )
    places = [2, 1, 0]
    np.testing.assert_allclose(found.scores_PN, expected.scores_PN[places], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.best_epoch_P, expected.best_epoch_P[places])
    for mine, theirs in zip(found.history, expected.history, strict=True):
        np.testing.assert_allclose(mine, theirs[:, places], rtol=0, atol=1e-6)
    for mine, theirs in zip(
        jax.tree.leaves(found.best_params), jax.tree.leaves(expected.best_params), strict=True
    ):
        np.testing.assert_allclose(mine, theirs[places], rtol=0, atol=1e-6)
    # They differ from each other, and from what they were.
    assert np.abs(np.diff(found.scores_PN, axis=0)).max(axis=1).min() > 1e-2
    assert np.abs(at_rung[1].scores_PN[0] - found.scores_PN[0]).max() > 1e-2


def test_states_of_another_program_are_refused() -> None:
    params, counts = {"w": np.zeros((3, 2), np.float32)}, jax.numpy.zeros(3, np.int32)
    shapes = TrainState(params, params, counts, params, counts, counts, counts, counts)
    part = ContinuedTrials(Checkpoint(1, np.zeros(7, np.uint8)), 3, [0], [0])
    assert checkpoint.join([part], shapes) is None


def test_dispatches_end_at_a_rung(dataset: Dataset, parts: np.ndarray) -> None:
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    fast = DeviceProfile("test", 1e30, 1e30, 1e-30, 1.0, side_by_side=False)
    (whole,) = planner.make_cohorts(TRIALS[:1], data, 2**40, fast)
    lengths = []
    for begins, ends in ((0, 1), (1, 3), (0, 9), (9, 20)):
        long = whole.with_trials([Trial(experiment("a", max_epochs=81), 0, 0)])
        source = long._replace(ends=begins) if begins else None
        if source is None:
            (cohort,) = planner.make_cohorts(long.trials, data, 2**40, fast, ends)
        else:
            (cohort,) = planner.continued_cohorts([(source, long.trials[0])], ends, 2**40)
        lengths.append((cohort.num_epochs, cohort.epochs_per_dispatch))
    assert lengths == [(1, 1), (2, 2), (9, 3), (11, 1)]
