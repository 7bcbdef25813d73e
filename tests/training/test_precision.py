"""Precision: what rounds, what does not, and how far apart the results are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_data import experiment

from jaxrank import train
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.models import Scorer
from jaxrank.planning import planner
from jaxrank.planning.trials import Trial
from jaxrank.training.state import FitResult


def rounded(values: np.ndarray) -> np.ndarray:
    """To bfloat16, by integers: the upper 16 bits, to the nearest, halves to even."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    up = np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))
    return ((bits + up) & np.uint32(0xFFFF0000)).view(np.float32)


def test_bfloat16_rounds_operands_and_sums_in_float32() -> None:
    """By NumPy in float64, forwards and backwards."""
    rng = np.random.default_rng(0)
    x_BD = rng.standard_normal((40, 300)).astype(np.float32)
    model = Scorer((5,), "tanh", precision="bfloat16")
    params: Any = model.init(jax.random.key(0), x_BD)
    k_HD, last_1H = (np.asarray(params["params"][f"kernel_{i}"]) for i in (0, 1))

    def scored(params: Any) -> Any:
        return model.apply(params, x_BD)

    h_HB = np.tanh(rounded(k_HD).astype(float) @ rounded(x_BD).T)
    np.testing.assert_allclose(scored(params), (last_1H @ h_HB)[0], atol=2e-6)
    gradient = jax.grad(lambda p: jnp.sum(scored(p)))(params)["params"]["kernel_0"]
    own_HB = last_1H.T * (1 - h_HB**2)
    expected = rounded(own_HB).astype(float) @ rounded(x_BD)
    # A sum that had been rounded to bfloat16 would be off by up to 1/256.
    np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=2e-3)
    assert (np.asarray(gradient) != rounded(np.asarray(gradient))).mean() > 0.9
    exact = Scorer((5,), "tanh").apply(params, x_BD)
    assert 1e-4 < np.abs(np.asarray(exact) - model.apply(params, x_BD)).max() < 0.1


@pytest.mark.parametrize("hidden_dims", [(), (6,)])
def test_few_inputs_and_the_last_layer_are_exact(hidden_dims: tuple[int, ...]) -> None:
    """Photos tie in a few inputs and must not tie in scores."""
    x_BD = np.random.default_rng(0).standard_normal((20, 64)).astype(np.float32)
    params = Scorer(hidden_dims).init(jax.random.key(0), x_BD)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    exact, rounded_B = (
        np.asarray(Scorer(hidden_dims, precision=p).apply(params, x_BD))
        for p in ("highest", "bfloat16")
    )
    np.testing.assert_array_equal(exact, rounded_B)


def test_trainings_differ_by_rounding_and_saved_scores_are_exact(
    dataset: Dataset, parts: np.ndarray
) -> None:
    data = SplitDataset(dataset=dataset, splits_FM=parts)

    changes: dict[str, Any] = {"learning_rate": 5e-3, "max_epochs": 3, "mlp_hidden_dims": (80, 70)}

    def fit(precision: str) -> FitResult:
        trial = Trial(experiment("a", precision=precision, **changes), 0, 0)
        (cohort,) = planner.make_cohorts([trial], data, 2**40)
        return train.fit(cohort, data)

    highest, tf32, bfloat16 = map(fit, ("highest", "tf32", "bfloat16"))
    if jax.default_backend() == "cpu":  # which has no TF32
        np.testing.assert_array_equal(highest.scores_PN, tf32.scores_PN)
    difference = np.abs(highest.scores_PN - bfloat16.scores_PN).max()
    assert 1e-4 < difference < 0.1 * np.abs(highest.scores_PN).max()
    # The scores are those of the saved, float32 model at the highest precision.
    (scaling,) = bfloat16.scaling_P
    inputs = scaling.apply(dataset.features_ND)
    params = jax.tree.map(lambda leaf: leaf[0], bfloat16.best_params)
    exact, rough = (
        np.asarray(Scorer((80, 70), precision=p).apply(params, inputs))
        for p in ("highest", "bfloat16")
    )
    np.testing.assert_allclose(bfloat16.scores_PN[0], exact, atol=1e-5)
    assert np.abs(rough - exact).max() > 1e-4
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(bfloat16.best_params))
