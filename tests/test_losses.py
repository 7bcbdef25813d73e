import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrank import losses

DIFFERENCE = jnp.array([2.0, 0.3, -0.5, 0.0, 1.0])
PREFERENCE = jnp.array([0.9, 0.6, 0.7, 0.2, 0.5])


def test_margin_ranking_by_hand() -> None:
    value, weight = losses.margin_ranking(DIFFERENCE, PREFERENCE, jnp.float32(1.0))
    # y = +1, +1, +1, -1, none: max(0, 1 - y d)
    np.testing.assert_allclose(value[:4], [0.0, 0.7, 1.5, 1.0], atol=1e-6)
    np.testing.assert_array_equal(weight, [1, 1, 1, 1, 0])
    wider, _ = losses.margin_ranking(DIFFERENCE, PREFERENCE, jnp.float32(2.5))
    np.testing.assert_allclose(wider[:4], [0.5, 2.2, 3.0, 2.5], atol=1e-6)


def test_logistic_by_hand() -> None:
    value, weight = losses.logistic(DIFFERENCE, PREFERENCE, jnp.float32(1.0))
    s = 1 / (1 + np.exp(-np.asarray(DIFFERENCE)))
    p = np.asarray(PREFERENCE)
    np.testing.assert_allclose(value, -p * np.log(s) - (1 - p) * np.log(1 - s), rtol=1e-5)
    assert value[3] == pytest.approx(np.log(2), rel=1e-5)
    np.testing.assert_array_equal(weight, np.ones(5))  # 0.5 counts


def test_logistic_is_finite_where_the_naive_form_is_not() -> None:
    value, _ = losses.logistic(jnp.array([500.0, -500.0]), jnp.array([0.0, 0.0]), jnp.float32(1))
    np.testing.assert_allclose(value, [500.0, 0.0], atol=1e-6)


def test_hits_count_a_tie_half_and_no_direction_not_at_all() -> None:
    value, weight = losses.hits(DIFFERENCE, PREFERENCE)
    np.testing.assert_array_equal(value[:4], [1, 1, 0, 0.5])
    np.testing.assert_array_equal(weight, [1, 1, 1, 1, 0])


@pytest.mark.parametrize("name", losses.LOSSES)
def test_swapping_the_photos_of_a_pair_changes_nothing_else(name: str) -> None:
    loss = losses.LOSSES[name]
    value, weight = loss(DIFFERENCE, PREFERENCE, jnp.float32(1.0))
    swapped, swapped_weight = loss(-DIFFERENCE, 1 - PREFERENCE, jnp.float32(1.0))
    np.testing.assert_allclose(value * weight, swapped * swapped_weight, atol=1e-6)
    np.testing.assert_array_equal(weight, swapped_weight)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    def total(difference: jax.Array) -> jax.Array:
        value, weight = losses.LOSSES[name](difference, PREFERENCE, jnp.float32(1.0))
        return jnp.sum(value * weight)

    gradient = jax.grad(total)(DIFFERENCE)
    step = 1e-2
    for i in range(len(DIFFERENCE)):
        nudge = jnp.zeros(5).at[i].set(step)
        numeric = float(total(DIFFERENCE + nudge) - total(DIFFERENCE - nudge)) / (2 * step)
        assert float(gradient[i]) == pytest.approx(numeric, abs=2e-3)
