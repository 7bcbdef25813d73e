"""Trials that end at a rung and continue in another cohort are what they would have been in one."""

import jax
import numpy as np
import pytest
from small_data import compiled, experiment

from jaxrank import train
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.costs import DeviceProfile
from jaxrank.planning.trials import Trial
from jaxrank.training import arrays, checkpoint, state
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

    # Scaled in all folds, as an engine does: the normal scores of a fold are part of the shapes.
    inputs = arrays.make_inputs(cohort, data, range(data.num_folds)).on(jax.devices()[0])
    compiled_cohort = train.compile_cohort(cohort, data, inputs=inputs)
    return train.fit(cohort, data, compiled=compiled_cohort, restore=restore)


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
    rest = planner.continued_cohorts(sources, None, 2**40)
    assert all((one.begins, one.ends) == (RUNG, None) for one in rest)
    places = [2, 1, 0]
    assert [trial for one in rest for trial in one.trials] == [TRIALS[place] for place in places]
    programs = compiled()
    fitted = [fit(one, data, parts_of(one, ended, at_rung)) for one in rest]
    if profile.side_by_side:
        assert len(rest) == 1
    else:  # the program has two slots, and one of them is free at the end
        assert [(len(one.trials), one.num_slots) for one in rest] == [(2, 2), (1, 2)]
        assert compiled() == programs
    scores_PN = np.concatenate([found.scores_PN for found in fitted])
    np.testing.assert_allclose(scores_PN, expected.scores_PN[places], rtol=0, atol=1e-6)
    best_epoch_P = np.concatenate([found.best_epoch_P for found in fitted])
    np.testing.assert_array_equal(best_epoch_P, expected.best_epoch_P[places])
    first = 0
    for found in fitted:
        mine = places[first : (first := first + len(found.scores_PN))]
        assert len(found.history.running[0]) == len(mine)
        for own, theirs in zip(found.history, expected.history, strict=True):
            num_epochs = len(own)  # a trial may stop before the others
            np.testing.assert_allclose(own, theirs[:num_epochs, mine], rtol=0, atol=1e-6)
        for own, theirs in zip(
            jax.tree.leaves(found.best_params), jax.tree.leaves(expected.best_params), strict=True
        ):
            np.testing.assert_allclose(own, theirs[mine], rtol=0, atol=1e-6)
    # They differ from each other, and from what they were.
    assert np.abs(np.diff(scores_PN, axis=0)).max(axis=1).min() > 1e-2
    assert np.abs(at_rung[1].scores_PN[0] - scores_PN[0]).max() > 1e-2


def parts_of(
    cohort: Cohort, ended: list[Cohort], at_rung: list[FitResult]
) -> list[ContinuedTrials]:
    """Where the trials of a continuing cohort come from."""
    found = []
    for source, fitted in zip(ended, at_rung, strict=True):
        here = [place for place, trial in enumerate(cohort.trials) if trial in source.trials]
        if here:
            assert fitted.packed is not None
            there = [source.trials.index(cohort.trials[place]) for place in here]
            packed = Checkpoint(RUNG, fitted.packed)
            found.append(ContinuedTrials(packed, len(source.trials), there, here))
    return found


def test_free_slots_change_no_bit(dataset: Dataset, parts: np.ndarray) -> None:
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    (whole,) = planner.make_cohorts(TRIALS[:2], data, 2**40, PROFILES[0])
    assert whole.num_slots == 2
    wider = whole._replace(num_slots=5)
    assert wider.memory_bytes == whole.memory_bytes + 3 * whole.trial_bytes
    expected, found = fit(whole, data), fit(wider, data)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if np.ndim(mine):  # all but the seconds
            np.testing.assert_array_equal(mine, theirs)
    assert np.isfinite(found.scores_PN).all()
    # Nor do they take room in a checkpoint.
    saved: dict[int, list[Checkpoint]] = {2: [], 5: []}
    for cohort in (whole, wider):

        def save(progress: Progress, cohort: Cohort = cohort) -> None:
            saved[cohort.num_slots].append(checkpoint.pack(progress))

        train.fit(cohort._replace(epochs_per_dispatch=1), data, on_dispatch=save)
    assert saved[5][0].epoch == 1
    assert saved[5][0].packed.nbytes == saved[2][0].packed.nbytes
    resumed = train.fit(
        wider, data, restore=lambda shapes: checkpoint.unpack(saved[5][0], shapes, 2)
    )
    np.testing.assert_array_equal(resumed.scores_PN, expected.scores_PN)
    np.testing.assert_array_equal(resumed.history.val_loss, expected.history.val_loss)


def test_a_later_round_shares_the_programs_of_an_earlier_one(
    dataset: Dataset, parts: np.ndarray
) -> None:
    """One after the other, cohorts are cut to the slots that there are."""
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    one_kind = [Trial(experiment(f"e{n}", learning_rate=1e-3 * n), 0, 0) for n in range(1, 9)]
    (first,) = planner.make_cohorts(one_kind[:3], data, 2**40, PROFILES[0])
    more = planner.make_cohorts(one_kind[3:], data, 2**40, PROFILES[0], known=[first])
    assert [(len(one.trials), one.num_slots) for one in more] == [(3, 3), (2, 3)]
    assert {one.compiled_as for one in more} == {first.compiled_as}
    (alone,) = planner.make_cohorts(one_kind[3:], data, 2**40, PROFILES[0])
    assert (len(alone.trials), alone.num_slots) == (5, 5)
    # Too little memory for the slots: a program of its own.
    room = alone.data_bytes + alone.shared_bytes + 2 * alone.trial_bytes
    short = planner.make_cohorts(one_kind[3:], data, room, PROFILES[0], known=[first])
    assert [(len(one.trials), one.num_slots) for one in short] == [(2, 2), (2, 2), (1, 2)]
    # A program for one trial is not worth five cohorts.
    (single,) = planner.make_cohorts(one_kind[:1], data, 2**40, PROFILES[0])
    (own,) = planner.make_cohorts(one_kind[3:], data, 2**40, PROFILES[0], known=[single])
    assert (len(own.trials), own.num_slots) == (5, 5)
    # Nor can a program be shared whose dispatches do not end at the rung.
    long = first._replace(epochs_per_dispatch=2)
    (early,) = planner.make_cohorts(
        one_kind[3:5], data, 2**40, PROFILES[0], ends=1, known=[long, first]
    )
    assert (early.num_slots, early.epochs_per_dispatch) == (2, 1)
    # Side by side, another number of trials is another program anyway.
    (beside,) = planner.make_cohorts(one_kind[:3], data, 2**40, PROFILES[1])
    (wide,) = planner.make_cohorts(one_kind[3:], data, 2**40, PROFILES[1], known=[beside])
    assert wide.num_slots == len(wide.trials) == 5


def test_side_by_side_survivors_of_all_sizes_continue_together(
    dataset: Dataset, parts: np.ndarray
) -> None:
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    trials = [Trial(experiment(f"e{n}", learning_rate=1e-3 * n), 0, 0) for n in range(1, 6)]
    sources = [
        (planner.make_cohorts(mine, data, 2**40, PROFILES[1], RUNG)[0], mine[0])
        for mine in (trials[:3], trials[3:])
    ]
    assert [source.num_slots for source, _ in sources] == [3, 2]
    (rest,) = planner.continued_cohorts(sources, None, 2**40)
    assert (len(rest.trials), rest.num_slots) == (2, 2)


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
