"""Narrow trials padded into a wider cohort: exact, and only where it pays."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_data import ALWAYS_PAYS, EVERYTHING, NEVER_PAYS, experiment

import jaxrank
from jaxrank import models, train
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import trial_results
from jaxrank.models import Scorer
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial

# Between the two that are wider at one layer each, and one that is narrower at both.
WIDTHS = ((8, 6), (5, 6), (8, 2), (3, 4))


def padded_trials(**changes: Any) -> list[Trial]:
    return [
        Trial(
            experiment(f"w{i}", mlp_hidden_dims=dims, max_epochs=4, patience=9, **changes), i % 3, i
        )
        for i, dims in enumerate(WIDTHS)
    ]


def padded_cohort(dataset: Dataset, parts: np.ndarray, **changes: Any) -> Cohort:
    # Compilations are dear: one cohort for all.
    (cohort,) = planner.make_cohorts(
        padded_trials(**changes), SplitDataset(dataset=dataset, splits_FM=parts), 2**40, NEVER_PAYS
    )
    return cohort


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"learning_rate": 5e-3}, marks=pytest.mark.long),
        EVERYTHING | {"learning_rate": 0.05},
        {"activation": "tanh"},
    ],
    ids=["plain", "everything", "tanh"],
)
def test_a_padded_trial_is_the_trial_alone(
    dataset: Dataset, parts: np.ndarray, changes: dict[str, Any]
) -> None:
    cohort = padded_cohort(dataset, parts, **changes)
    assert cohort.program_key.mlp_hidden_dims == (8, 6)
    assert cohort.padded == ["w1", "w2", "w3"]
    together = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    # Each trial alone is a program of its own: all of them once, then the narrowest.
    chosen = range(len(WIDTHS)) if set(changes) == {"learning_rate"} else [len(WIDTHS) - 1]
    for p in chosen:
        trial = cohort.trials[p]
        (own,) = planner.make_cohorts(
            [trial], SplitDataset(dataset=dataset, splits_FM=parts), 2**40
        )
        alone = train.fit(own, SplitDataset(dataset=dataset, splits_FM=parts))
        np.testing.assert_allclose(together.scores_PN[p], alone.scores_PN[0], rtol=0, atol=2e-5)
        of_trial = jax.tree.map(lambda leaf, p=p: leaf[p], together.best_params)
        dims = trial.experiment.mlp_hidden_dims
        narrow = models.narrowed(Scorer(dims), cohort.input_dim, of_trial)
        for wide, true in zip(
            jax.tree.leaves(narrow), jax.tree.leaves(alone.best_params), strict=True
        ):
            np.testing.assert_allclose(wide, true[0], rtol=0, atol=1e-5)
        # What was padded is zero to the last bit, after all these steps.
        back = models.widened(Scorer((8, 6)), cohort.input_dim, narrow)
        for padded, trained in zip(jax.tree.leaves(back), jax.tree.leaves(of_trial), strict=True):
            np.testing.assert_array_equal(padded, trained)
        assert np.abs(alone.scores_PN).max() > 0.1


def test_widths_are_padded_only_where_it_pays(dataset: Dataset, parts: np.ndarray) -> None:
    trials = padded_trials()
    apart = planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**40, ALWAYS_PAYS
    )
    assert sorted(c.program_key.mlp_hidden_dims for c in apart) == sorted(WIDTHS)
    assert not any(cohort.padded for cohort in apart)
    # Nor where the padded cohort would not fit into memory, nor across depths or other choices.
    room = max(cohort.memory_bytes for cohort in apart)
    assert (
        len(
            planner.make_cohorts(
                trials, SplitDataset(dataset=dataset, splits_FM=parts), room, NEVER_PAYS
            )
        )
        > 1
    )
    others = [
        Trial(experiment("deep", mlp_hidden_dims=(4, 4, 4)), 0, 0),
        Trial(experiment("other", mlp_hidden_dims=(4, 4), activation="gelu"), 0, 0),
        Trial(experiment("linear", mlp_hidden_dims=()), 0, 0),
    ]
    assert (
        len(
            planner.make_cohorts(
                [*trials, *others],
                SplitDataset(dataset=dataset, splits_FM=parts),
                2**40,
                NEVER_PAYS,
            )
        )
        == 4
    )


def test_a_model_from_a_padded_cohort_has_its_own_size(
    small_data: tuple[Preferences, dict[str, Block]], tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "experiments": ["simple_mlp", "tiny_mlp"],
        "overrides": {"batch_size": 16, "max_epochs": 3},
    }
    runs = {}
    for name, profile in (("padded", NEVER_PAYS), ("apart", ALWAYS_PAYS)):
        folder = tmp_path / name
        result = jaxrank.search(
            *small_data, workdir=folder, device_profile=vars(profile), **options
        )
        rows = result.summary.set_index("experiment_name")
        runs[name] = rows, jaxrank.load_model(folder / "tiny_mlp" / "model")
        log = (folder / "training.log").read_text()
        assert ("(simple_mlp, tiny_mlp)" in log) == (name == "padded")
    (padded, padded_model), (apart, apart_model) = runs["padded"], runs["apart"]
    for model in (padded_model, apart_model):
        assert model.weights.params["params"]["kernel_0"].shape == (128, 15)
    for one, other in zip(
        jax.tree.leaves(padded_model.weights.params),
        jax.tree.leaves(apart_model.weights.params),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert padded["parameters"].equals(apart["parameters"])
    trained = padded["status"] == trial_results.COMPLETED
    assert trained.sum() == 4
    assert padded["val_accuracy"].to_dict() == pytest.approx(
        apart["val_accuracy"].to_dict(), abs=1e-6
    )
