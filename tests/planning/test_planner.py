import dataclasses
from typing import Any

import numpy as np
import pytest
from small_data import NEVER_PAYS, experiment, make_data

from jaxrank.configs import default
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.errors import UserError
from jaxrank.experiments.hyperparameters import Experiment, read_experiments
from jaxrank.planning import costs, planner
from jaxrank.planning.cohort import resident_bytes
from jaxrank.planning.trials import Trial, make_trials


def experiments(*names: str) -> list[Experiment]:
    wanted = read_experiments(default.get_config(), names, {})[:-2]
    return [
        dataclasses.replace(e, blocks=("clip", "cnn", "iqa") if e.blocks == ("all",) else e.blocks)
        for e in wanted
    ]


def test_trials_are_experiments_by_folds_by_seeds_and_all_identities_differ() -> None:
    trials = make_trials(experiments("low_lr", "high_lr"), range(3), 5, 2)
    assert len(trials) == 12
    assert len({trial.identity for trial in trials}) == 12
    assert [(t.experiment.name, t.fold, t.seed) for t in trials[:3]] == [
        ("low_lr", 0, 5), ("low_lr", 0, 6), ("low_lr", 1, 5)]  # fmt: skip


def test_an_experiment_may_have_a_first_seed_of_its_own() -> None:
    own, other = experiments("low_lr", "high_lr")
    own = dataclasses.replace(own, seed=40)
    trials = make_trials([own, other], [0], 5, 2)
    assert [trial.seed for trial in trials] == [40, 41, 5, 6]


def test_an_identity_depends_on_name_fold_and_seed_alone() -> None:
    e = experiments("low_lr")[0]
    faster = dataclasses.replace(e, learning_rate=1.0)
    assert Trial(e, 1, 2).identity == Trial(faster, 1, 2).identity
    # Written down once: a change would change every trained model.
    assert Trial(e, 1, 2).identity.startswith("f0a3551c8fdd")


def test_cohorts_share_every_static_shape(dataset: Dataset, parts: np.ndarray) -> None:
    names = tuple(default.get_config().experiments)
    trials = make_trials(experiments(*names), range(3), 0, 1)
    never_pads = dataclasses.replace(costs.built_in_profile(), compile_seconds=0, step_seconds=0)
    cohorts = planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**33, never_pads
    )
    grouped: dict[Any, set[str]] = {}
    for cohort in cohorts:
        mine = {trial.experiment.name for trial in cohort.trials}
        grouped.setdefault(cohort.compiled_as, set()).update(mine)
    assert sorted(tuple(sorted(names)) for names in grouped.values()) == [
        ("baseline", "high_dropout"), ("clip_only",), ("cnn_only",), ("high_lr", "low_lr"),
        ("iqa_only",), ("larger_batches",), ("simple_mlp",), ("tiny_mlp",)]  # fmt: skip
    assert sum(len(c.trials) for c in cohorts) == len(trials)
    for cohort in cohorts:
        for trial in cohort.trials:
            assert trial.experiment.mlp_hidden_dims == cohort.program_key.mlp_hidden_dims
            assert trial.experiment.blocks == cohort.program_key.blocks
        widths = [len(dataset.block_columns[b]) for b in cohort.program_key.blocks]
        assert cohort.input_dim == sum(widths)


def test_shapes_do_not_depend_on_which_folds_stand_in_a_cohort(
    dataset: Dataset, parts: np.ndarray
) -> None:
    e = experiments("tiny_mlp")[0]
    shapes = set()
    for folds in ([0], [1], [2], [0, 1, 2]):
        (cohort,) = planner.make_cohorts(
            [Trial(e, f, 0) for f in folds], SplitDataset(dataset=dataset, splits_FM=parts), 2**30
        )  # fmt: skip
        shapes.add((cohort.num_batches, cohort.batch_size, cohort.val_shape))
    assert len(shapes) == 1


@pytest.mark.parametrize("batch_size", [16, 128])
def test_side_by_side_validation_needs_no_more_memory_than_a_step(batch_size: int) -> None:
    dataset = align(*make_data(400))
    parts = splits.split_pairs(dataset.table, folds=3)
    trials = [Trial(experiment("a", mlp_hidden_dims=(40,), batch_size=batch_size), 0, 0)]
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    (apart,) = planner.make_cohorts(trials, data, 2**30)
    (beside,) = planner.make_cohorts(trials, data, 2**30, NEVER_PAYS)
    num_val = int((parts == splits.VALIDATION).sum(axis=1).max())
    assert num_val > 512
    assert apart.val_shape[1] > 256
    assert beside.val_shape[1] <= max(beside.batch_size, 64)
    for chunks, width in (apart.val_shape, beside.val_shape):
        assert num_val <= chunks * width < num_val + chunks


def test_a_group_over_the_memory_limit_is_cut_into_near_equal_cohorts(
    dataset: Dataset, parts: np.ndarray
) -> None:
    trials = make_trials(experiments("tiny_mlp"), [0], 0, 10)
    (whole,) = planner.make_cohorts(trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    room_for_four = whole.with_trials(trials[:4]).memory_bytes
    cohorts = planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), room_for_four
    )
    assert [len(c.trials) for c in cohorts] == [4, 3, 3]
    assert [t for c in cohorts for t in c.trials] == trials
    assert all(c.memory_bytes <= room_for_four for c in cohorts)
    with pytest.raises(UserError, match="experiment 'tiny_mlp': one trial needs"):
        planner.make_cohorts(
            trials,
            SplitDataset(dataset=dataset, splits_FM=parts),
            whole.with_trials(trials[:1]).memory_bytes - 1,
        )


def test_a_cohort_leaves_room_for_the_columns_of_the_others(
    dataset: Dataset, parts: np.ndarray
) -> None:
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    trials = make_trials(experiments("tiny_mlp", "clip_only"), [0], 0, 10)
    free = planner.make_cohorts(trials, data, 2**30)
    resident = resident_bytes(free)
    assert resident > max(cohort.data_bytes for cohort in free)
    limit = resident + max(c.shared_bytes + 4 * c.trial_bytes for c in free)
    cut = planner.make_cohorts(trials, data, limit)
    assert len(cut) > len(free)
    assert all(c.memory_bytes - c.data_bytes + resident <= limit for c in cut)
    narrow = [Trial(experiment("a", mlp_hidden_dims=()), 0, 0)]
    with pytest.raises(UserError, match=r"the features that the experiments read need .* float16"):
        planner.make_cohorts(narrow, data, 0)


def test_a_batch_is_never_wider_than_the_pairs_there_are(
    dataset: Dataset, parts: np.ndarray
) -> None:
    huge = dataclasses.replace(experiments("tiny_mlp")[0], batch_size=10**6)
    (cohort,) = planner.make_cohorts(
        [Trial(huge, 0, 0)], SplitDataset(dataset=dataset, splits_FM=parts), 2**30
    )
    rows = [len(np.flatnonzero(parts[fold] == splits.TRAIN)) for fold in range(3)]
    assert (cohort.num_batches, cohort.batch_size) == (1, max(rows))


@pytest.mark.parametrize(
    ("num_trials", "seconds", "side_by_side", "sizes"),
    [
        (10, 29.0, True, [10]),
        (10, 60.0, True, [2, 2, 2, 2, 2]),  # not 4, 3, 3: equal sizes share a program
        (10, 180.0, False, [2] + [1] * 8),  # which share a program of two slots
        (10, 60.0, False, [2, 2, 1, 1, 1, 1, 1, 1]),  # cut although short, for several cores
        (10, 1.4, False, [4, 3, 3]),  # not shorter than half a second
        (10, 0.6, False, [10]),
        (7, 60.0, True, [3, 2, 2]),
        (3, 1e6, False, [1, 1, 1]),
    ],
)
def test_a_long_group_is_cut_into_cohorts_of_a_fixed_length(
    dataset: Dataset,
    parts: np.ndarray,
    num_trials: int,
    seconds: float,
    side_by_side: bool,
    sizes: list[int],
) -> None:
    """Predicted, on one device; how much memory there is changes nothing where one cohort fits."""
    trials = make_trials(experiments("tiny_mlp"), [0], 0, num_trials)
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    any_speed = costs.DeviceProfile("test", 1e12, 1e12, 1e-9, 2.0, side_by_side=side_by_side)
    (whole,) = planner.make_cohorts(trials, data, 2**40, any_speed)
    slower = seconds / whole.training_seconds
    profile = costs.DeviceProfile(
        "test", 1e12 / slower, 1e12 / slower, 1e-9 * slower, 2.0, side_by_side=side_by_side
    )
    (alone,) = planner.make_cohorts(trials[:1], data, 2**40, profile)
    on_one = planner.make_cohorts(trials, data, 2**40, profile, on_one_device=True)
    if not side_by_side and alone.training_seconds * num_trials < 30:
        assert [len(cohort.trials) for cohort in on_one] == [num_trials]
    for limit in (2**40, whole.memory_bytes):
        cohorts = planner.make_cohorts(trials, data, limit, profile)
        assert [len(cohort.trials) for cohort in cohorts] == sizes
        assert [trial for cohort in cohorts for trial in cohort.trials] == trials
        slots = {cohort.num_slots for cohort in cohorts}
        assert slots == (set(sizes) if side_by_side else {max(sizes)})
