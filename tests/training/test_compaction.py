"""Dispatches of several epochs, and cohorts that get smaller as their trials stop: nothing that
comes out depends on either."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_data import ALWAYS_PAYS, EVERYTHING, NEVER_PAYS, compiled, experiment

from jaxrank import train
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.costs import DeviceProfile
from jaxrank.planning.trials import Trial
from jaxrank.training import checkpointing, state
from jaxrank.training.checkpoint import pack, unpack

# Eight trials of which one stops after two epochs, then others; two run to the end.
LAST_EPOCHS = (2, 9, 3, 3, 4, 6, 12, 12)


def cohort_of_eight(
    dataset: Dataset, parts: np.ndarray, profile: DeviceProfile, **changes: Any
) -> Cohort:
    trials = [
        Trial(experiment(f"e{i}", max_epochs=most, patience=99, **changes), i % 3, i)
        for i, most in enumerate(LAST_EPOCHS)
    ]
    (cohort,) = planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**40, profile
    )
    return cohort._replace(epochs_per_dispatch=1)


def assert_fitted_equal(one: state.FitResult, other: state.FitResult, tolerance: float) -> None:
    """Equal in all that is kept of a trial: not the metrics of epochs after its end."""
    ran = one.history.running
    np.testing.assert_array_equal(ran, other.history.running)
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        first, second = getattr(one.history, name)[ran], getattr(other.history, name)[ran]
        np.testing.assert_allclose(first, second, rtol=0, atol=10 * tolerance)
    for first, second in zip(
        *(jax.tree.leaves(fit._replace(history=one.history, seconds=0.0)) for fit in (one, other)),
        strict=True,
    ):
        np.testing.assert_allclose(first, second, rtol=0, atol=tolerance)


def test_survivors_do_not_notice_that_others_have_left(dataset: Dataset, parts: np.ndarray) -> None:
    sizes = []
    # Hidden sizes of no other test, for the count of compilations.
    smaller = cohort_of_eight(dataset, parts, ALWAYS_PAYS, mlp_hidden_dims=(9, 7))
    before = compiled()
    compacted = train.fit(
        smaller,
        SplitDataset(dataset=dataset, splits_FM=parts),
        on_dispatch=lambda p: sizes.append(len(p.places_Q)),
    )
    assert sizes == [8] * 4 + [4] * 5 + [2] * 3
    assert compiled() - before <= 1 + np.log2(8)
    as_it_was = cohort_of_eight(dataset, parts, NEVER_PAYS, mlp_hidden_dims=(9, 7))
    whole = train.fit(as_it_was, SplitDataset(dataset=dataset, splits_FM=parts))
    assert_fitted_equal(compacted, whole, 1e-6)
    assert whole.epochs_run_P.tolist() == list(LAST_EPOCHS)
    assert np.abs(whole.scores_PN[0] - whole.scores_PN[6]).max() > 0.01


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_one_after_the_other_is_side_by_side(
    dataset: Dataset, parts: np.ndarray, changes: dict[str, Any]
) -> None:
    side_by_side = cohort_of_eight(dataset, parts, NEVER_PAYS, **changes)
    profile = dataclasses.replace(ALWAYS_PAYS, side_by_side=False)
    states = []
    one_by_one = train.fit(
        cohort_of_eight(dataset, parts, profile, **changes),
        SplitDataset(dataset=dataset, splits_FM=parts),
        on_dispatch=lambda p: states.append(jax.device_get(p.state)),
    )
    assert_fitted_equal(
        one_by_one, train.fit(side_by_side, SplitDataset(dataset=dataset, splits_FM=parts)), 2e-6
    )
    # Those that have stopped stay on the device, and are left out there.
    for place, most in enumerate(LAST_EPOCHS):
        stopped = jax.tree.map(lambda leaf, p=place: leaf[p], states[most - 1])
        last = jax.tree.map(lambda leaf, p=place: leaf[p], states[-1])
        jax.tree.map(np.testing.assert_array_equal, stopped, last)


def test_compaction_needs_a_saving_that_is_sure(dataset: Dataset, parts: np.ndarray) -> None:
    cohort = cohort_of_eight(dataset, parts, ALWAYS_PAYS)
    assert [cohort.compacted_size(n, 5) for n in (8, 5, 4, 3, 2, 1)] == [8, 8, 4, 4, 2, 1]
    assert cohort.compacted_size(1, 0) == 8
    half = cohort.epoch_seconds - cohort.with_trials(cohort.trials[:4]).epoch_seconds
    for epochs_left, size in ((9, 8), (11, 4)):
        dear = cohort._replace(
            profile=DeviceProfile(**{**vars(cohort.profile), "compile_seconds": 10 * half})
        )
        assert dear.compacted_size(4, epochs_left) == size


def test_a_dispatch_of_several_epochs_is_those_epochs(dataset: Dataset, parts: np.ndarray) -> None:
    """Also where the last trial stops in the middle of it."""
    trials = [
        Trial(experiment("e", learning_rate=1e-2, patience=2, max_epochs=25), fold, 0)
        for fold in range(3)
    ]
    (cohort,) = planner.make_cohorts(trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**40)
    one = train.fit(
        cohort._replace(epochs_per_dispatch=1), SplitDataset(dataset=dataset, splits_FM=parts)
    )
    assert len(one.history.running) % 4
    four = train.fit(
        cohort._replace(epochs_per_dispatch=4), SplitDataset(dataset=dataset, splits_FM=parts)
    )
    assert_fitted_equal(one, four, 0)


class Killed(Exception):
    pass


@pytest.mark.parametrize("dispatches", [4, 5, 10])
def test_a_compacted_cohort_goes_on_from_its_checkpoint_in_the_same_bits(
    dataset: Dataset, parts: np.ndarray, tmp_path: Path, dispatches: int
) -> None:
    """Killed before it is compacted, after it, and after the second time."""
    cohort = cohort_of_eight(dataset, parts, ALWAYS_PAYS)
    saver = checkpointing.Saver(tmp_path, 0.0)
    tmp_path.joinpath(checkpointing.FOLDER).mkdir()

    places: list[list[int]] = []

    def stop(progress: state.Progress) -> None:
        if len(progress.history) == dispatches:
            places.append(progress.places_Q.tolist())
            saver.save(1, pack(progress))
            raise Killed

    def restore(shapes: train.TrainState) -> state.Progress | None:
        checkpoint = saver.restore(1)
        assert checkpoint is not None
        progress = unpack(checkpoint, shapes)
        assert progress is not None
        places.append(progress.places_Q.tolist())
        return progress

    with pytest.raises(Killed):
        train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts), on_dispatch=stop)
    resumed = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts), restore=restore)
    # As it was, and not what would be decided now.
    assert places[0] == places[1]
    saver.close()
    whole = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    assert_fitted_equal(resumed, whole, 0.0)
