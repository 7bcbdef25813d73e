"""A trial does not know its neighbours: alone, in a cohort, in any order, in chunks, beside a sick
one; and a cohort is compiled once."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest
from small_data import (
    AUGMENTED_TRIALS,
    TRIALS,
    cohorts_of,
    compiled,
    experiment,
    inputs_of,
    one_epoch,
)

from jaxrank import train
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.training import arrays
from jaxrank.training.state import FAILED, STOPPED

STEPS = 20


def run_steps(
    cohort: Cohort, dataset: Dataset, parts: np.ndarray, keys: Any = None
) -> dict[str, np.ndarray]:
    """All parameters of each trial, as one vector, after STEPS steps; by identity."""
    static = arrays.make_program_spec(cohort)
    data, scaling = inputs_of(cohort, dataset, parts)
    trial_arrays = arrays.make_trial_arrays(
        cohort, SplitDataset(dataset=dataset, splits_FM=parts), scaling
    )
    if keys is not None:
        trial_arrays = trial_arrays._replace(key=keys)
    state = train.init_cohort(static, trial_arrays)
    steps = 0
    while steps < STEPS:
        rows = arrays.cohort_rows(
            cohort, SplitDataset(dataset=dataset, splits_FM=parts), steps // cohort.num_batches
        )
        rows = rows[:, : STEPS - steps]
        state, _ = one_epoch(static, data, trial_arrays, state, rows)
        steps += rows.shape[1]
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    return {
        trial.identity: np.concatenate([leaf[p].ravel() for leaf in leaves])
        for p, trial in enumerate(cohort.trials)
    }


def run_alone(
    trials: Sequence[Trial], dataset: Dataset, parts: np.ndarray
) -> dict[str, np.ndarray]:
    """Each trial in a cohort of its own."""
    alone: dict[str, np.ndarray] = {}
    for trial in trials:
        (cohort,) = cohorts_of([trial], dataset, parts)
        alone |= run_steps(cohort, dataset, parts)
    return alone


def largest_difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    assert first.keys() == second.keys()
    return max(float(np.abs(first[key] - second[key]).max()) for key in first)


@pytest.fixture(scope="module", params=[TRIALS, AUGMENTED_TRIALS], ids=["plain", "augmented"])
def trials(request: pytest.FixtureRequest) -> list[Trial]:
    chosen: list[Trial] = request.param
    return chosen


@pytest.fixture(scope="module")
def together(trials: list[Trial], dataset: Dataset, parts: np.ndarray) -> dict[str, np.ndarray]:
    (cohort,) = cohorts_of(trials, dataset, parts)
    assert len(cohort.trials) == 5
    return run_steps(cohort, dataset, parts)


def test_the_members_of_a_cohort_differ(together: dict[str, np.ndarray]) -> None:
    values = list(together.values())
    for i in range(len(values)):
        for j in range(i):
            assert np.abs(values[i] - values[j]).max() > 0.01


def test_a_trial_alone_is_the_trial_in_a_cohort(
    together: dict[str, np.ndarray], trials: list[Trial], dataset: Dataset, parts: np.ndarray
) -> None:
    assert largest_difference(run_alone(trials, dataset, parts), together) < 1e-5


def test_a_trial_alone_is_the_trial_in_a_cohort_without_dropout_too(
    dataset: Dataset, parts: np.ndarray
) -> None:
    """Units that are active for all photos: the terms of their biases' gradients cancel."""
    e = experiment("d", mlp_hidden_dims=(6, 4), dropout=0.0, learning_rate=2e-3)
    trials = [Trial(e, fold, seed) for fold in range(2) for seed in range(3)]
    (cohort,) = cohorts_of(trials, dataset, parts)
    together = run_steps(cohort, dataset, parts)
    assert largest_difference(run_alone(trials, dataset, parts), together) < 1e-5


def test_the_order_in_a_cohort_changes_nothing(
    together: dict[str, np.ndarray], trials: list[Trial], dataset: Dataset, parts: np.ndarray
) -> None:
    (cohort,) = cohorts_of(trials[::-1], dataset, parts)
    assert largest_difference(run_steps(cohort, dataset, parts), together) == 0


def test_two_chunks_of_memory_change_nothing(
    together: dict[str, np.ndarray], trials: list[Trial], dataset: Dataset, parts: np.ndarray
) -> None:
    cohorts = cohorts_of(trials, dataset, parts, at_once=3)
    assert [len(cohort.trials) for cohort in cohorts] == [3, 2]
    chunks: dict[str, np.ndarray] = {}
    for cohort in cohorts:
        chunks |= run_steps(cohort, dataset, parts)
    assert largest_difference(chunks, together) < 1e-5


def test_a_key_that_depends_on_the_place_would_be_noticed(
    together: dict[str, np.ndarray], trials: list[Trial], dataset: Dataset, parts: np.ndarray
) -> None:
    (cohort,) = cohorts_of(trials, dataset, parts)
    by_place = jax.random.split(jax.random.key(0), len(trials))
    placed = run_steps(cohort, dataset, parts, keys=by_place)
    assert all(np.abs(placed[key] - together[key]).max() > 1e-2 for key in together)


def test_one_compilation_a_cohort(dataset: Dataset, parts: np.ndarray) -> None:
    # Hidden sizes of no other test: a shape that was compiled before would not be counted.
    shared = {"mlp_hidden_dims": (7,), "max_epochs": 4}
    trials = [Trial(experiment(f"x{i}", dropout=0.1 * i, **shared), 0, i) for i in range(3)]
    other = [Trial(experiment("y", mlp_hidden_dims=(5,), batch_size=8, max_epochs=3), 0, 0)]
    cohorts = planner.make_cohorts(
        trials + other, SplitDataset(dataset=dataset, splits_FM=parts), 2**30
    )
    assert len(cohorts) == 2
    before = compiled()
    for cohort in cohorts:
        train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    assert compiled() == before + 2
    for cohort in cohorts:
        train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    assert compiled() == before + 2


def test_a_sick_trial_dies_alone(dataset: Dataset, parts: np.ndarray) -> None:
    healthy = [Trial(experiment("a", max_epochs=5), fold, 0) for fold in range(2)]
    sick = Trial(experiment("sick", max_epochs=5, learning_rate=1e9), 0, 0)
    calm = Trial(experiment("sick", max_epochs=5, learning_rate=1e-3), 0, 0)
    fitted = {}
    for name, third in (("sick", sick), ("calm", calm)):
        (cohort,) = planner.make_cohorts(
            [healthy[0], third, healthy[1]], SplitDataset(dataset=dataset, splits_FM=parts), 2**30
        )
        fitted[name] = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    assert fitted["sick"].status_P.tolist() == [STOPPED, FAILED, STOPPED]
    assert fitted["calm"].status_P.tolist() == [STOPPED] * 3
    assert np.isnan(fitted["sick"].scores_PN[1]).all()
    for place in (0, 2):  # bit for bit, whatever the neighbour does
        np.testing.assert_array_equal(
            fitted["sick"].scores_PN[place], fitted["calm"].scores_PN[place]
        )
        for with_sick, with_calm in zip(
            jax.tree.leaves(fitted["sick"].best_params),
            jax.tree.leaves(fitted["calm"].best_params),
            strict=True,
        ):
            np.testing.assert_array_equal(with_sick[place], with_calm[place])
