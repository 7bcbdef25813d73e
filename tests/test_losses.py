import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrank import losses

DIFFERENCE = jnp.array([2.0, 0.3, -0.5, 0.0, 1.0])
PREFERENCE = jnp.array([0.9, 0.6, 0.7, 0.2, 0.5])
NO_TIES = jnp.float32(0.0)  # the logarithm of nu = 1
ONE = (jnp.float32(1.0), NO_TIES)


def test_margin_ranking_by_hand() -> None:
    value, weight = losses.margin_ranking(DIFFERENCE, PREFERENCE, *ONE)
    # y = +1, +1, +1, -1, none: max(0, 1 - y d)
    np.testing.assert_allclose(value[:4], [0.0, 0.7, 1.5, 1.0], atol=1e-6)
    np.testing.assert_array_equal(weight, [1, 1, 1, 1, 0])
    wider, _ = losses.margin_ranking(DIFFERENCE, PREFERENCE, jnp.float32(2.5), NO_TIES)
    np.testing.assert_allclose(wider[:4], [0.5, 2.2, 3.0, 2.5], atol=1e-6)


def test_logistic_by_hand() -> None:
    value, weight = losses.logistic(DIFFERENCE, PREFERENCE, *ONE)
    s = 1 / (1 + np.exp(-np.asarray(DIFFERENCE)))
    p = np.asarray(PREFERENCE)
    np.testing.assert_allclose(value, -p * np.log(s) - (1 - p) * np.log(1 - s), rtol=1e-5)
    assert value[3] == pytest.approx(np.log(2), rel=1e-5)
    np.testing.assert_array_equal(weight, np.ones(5))  # 0.5 counts


def test_logistic_is_finite_where_the_naive_form_is_not() -> None:
    value, _ = losses.logistic(jnp.array([500.0, -500.0]), jnp.array([0.0, 0.0]), *ONE)
    np.testing.assert_allclose(value, [500.0, 0.0], atol=1e-6)


def test_hits_count_a_tie_half_and_no_direction_not_at_all() -> None:
    value, weight = losses.hits(DIFFERENCE, PREFERENCE)
    np.testing.assert_array_equal(value[:4], [1, 1, 0, 0.5])
    np.testing.assert_array_equal(weight, [1, 1, 1, 1, 0])


@pytest.mark.parametrize("name", losses.LOSSES)
def test_swapping_the_photos_of_a_pair_changes_nothing_else(name: str) -> None:
    loss = losses.LOSSES[name]
    value, weight = loss(DIFFERENCE, PREFERENCE, *ONE)
    swapped, swapped_weight = loss(-DIFFERENCE, 1 - PREFERENCE, *ONE)
    np.testing.assert_allclose(value * weight, swapped * swapped_weight, atol=1e-6)
    np.testing.assert_array_equal(weight, swapped_weight)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    def total(difference: jax.Array) -> jax.Array:
        value, weight = losses.LOSSES[name](difference, PREFERENCE, *ONE)
        return jnp.sum(value * weight)

    gradient = jax.grad(total)(DIFFERENCE)
    step = 1e-2
    for i in range(len(DIFFERENCE)):
        nudge = jnp.zeros(5).at[i].set(step)
        numeric = float(total(DIFFERENCE + nudge) - total(DIFFERENCE - nudge)) / (2 * step)
        assert float(gradient[i]) == pytest.approx(numeric, abs=2e-3)


def test_davidson_by_hand() -> None:
    """Strengths 4 and 1 with nu = 0.5: sqrt(4 * 1) = 2, so 4 : 1 : 0.5 * 2 of 6."""
    difference, log_ties = jnp.log(4.0), jnp.log(0.5)
    expected = {1.0: -np.log(4 / 6), 0.0: -np.log(1 / 6), 0.5: -np.log(1 / 6)}
    for preference, loss in expected.items():
        value, weight = losses.davidson(difference, jnp.float32(preference), NO_TIES, log_ties)
        assert float(value) == pytest.approx(loss, rel=1e-6)
        assert float(weight) == 1
    # A soft label shares what is not a tie: 3/4 of the voters for a, 1/4 for b.
    value, _ = losses.davidson(difference, jnp.float32(0.75), NO_TIES, log_ties)
    assert float(value) == pytest.approx(0.75 * expected[1.0] + 0.25 * expected[0.0], rel=1e-6)


def test_without_ties_davidson_is_bradley_terry() -> None:
    decided = PREFERENCE != 0.5
    value, _ = losses.davidson(DIFFERENCE, PREFERENCE, NO_TIES, jnp.float32(-50.0))
    plain, _ = losses.logistic(DIFFERENCE, PREFERENCE, *ONE)
    np.testing.assert_allclose(value[decided], plain[decided], rtol=1e-5)


def test_the_best_nu_makes_ties_as_likely_as_they_are() -> None:
    """Davidson 1970, the likelihood equation of nu: expected ties are the ties seen."""
    difference = jnp.array([0.5, -1.0, 2.0, 0.1, 0.3, -0.2, 1.0, 0.4])
    preference = jnp.array([1.0, 0.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.5])

    def total(log_ties: jax.Array) -> jax.Array:
        return jnp.sum(losses.davidson(difference, preference, NO_TIES, log_ties)[0])

    log_ties = jnp.float32(0.0)
    for _ in range(30):  # Newton
        slope, curve = jax.grad(total)(log_ties), jax.grad(jax.grad(total))(log_ties)
        log_ties -= slope / curve
    nu, half = np.exp(float(log_ties)), np.asarray(difference) / 2
    tied = nu / (np.exp(half) + np.exp(-half) + nu)
    assert tied.sum() == pytest.approx(3, abs=1e-4)


def test_davidson_is_finite_where_the_naive_form_is_not() -> None:
    value, _ = losses.davidson(jnp.array([500.0, -500.0]), jnp.array([0.0, 0.5]), *ONE)
    np.testing.assert_allclose(value, [500.0, 250.0], atol=1e-3)


def test_label_smoothing_is_the_loss_of_the_smoothed_label() -> None:
    smoothing = 0.2
    value, _ = losses.smoothed(losses.logistic, jnp.float32(0.2), DIFFERENCE, PREFERENCE, *ONE)
    label = (1 - smoothing) * PREFERENCE + smoothing / 2
    expected, _ = losses.logistic(DIFFERENCE, label, *ONE)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    # A hinge is turned round for a tenth of the pairs: 0.9 max(0, 1 - d) + 0.1 max(0, 1 + d).
    value, _ = losses.smoothed(
        losses.margin_ranking, jnp.float32(0.2), DIFFERENCE[:2], PREFERENCE[:2], *ONE
    )
    np.testing.assert_allclose(value, [0.9 * 0.0 + 0.1 * 3.0, 0.9 * 0.7 + 0.1 * 1.3], rtol=1e-5)
