import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrank.models import Dropout, Scorer, _add_bias, _drop, num_parameters, random_bits


@pytest.mark.parametrize("hidden_dims", [(), (7,), (5, 3)])
def test_the_number_of_parameters_is_that_of_the_model(hidden_dims: tuple[int, ...]) -> None:
    params = Scorer(hidden_dims).init(jax.random.key(0), jnp.zeros((1, 11)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == num_parameters(11, hidden_dims)


def test_kernels_are_lecun_normal_and_a_linear_scorer_starts_from_zero() -> None:
    params = Scorer((400,)).init(jax.random.key(0), jnp.zeros((1, 900)))["params"]
    assert np.std(params["kernel_0"]) == pytest.approx(1 / 30, rel=0.02)
    assert not np.any(params["bias_0"])
    linear = Scorer(()).init(jax.random.key(0), jnp.zeros((1, 9)))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(linear))


def test_the_scorer_is_the_formula_that_its_docstring_says() -> None:
    model = Scorer((6,))
    x = jax.random.normal(jax.random.key(1), (4, 3))
    params = model.init(jax.random.key(0), x)
    weights = params["params"]
    hidden = np.maximum(x @ weights["kernel_0"].T + weights["bias_0"], 0)
    expected = (hidden @ weights["kernel_1"].T)[:, 0]
    np.testing.assert_allclose(np.asarray(model.apply(params, x)), expected, atol=1e-5)


def test_dropout_keeps_the_mean_and_drops_the_stated_share() -> None:
    h = jnp.ones((200, 500))
    for rate in (0.0, 0.3, 0.9):
        dropped = _drop(h, jnp.float32(rate), jax.random.key(0))
        assert float((dropped == 0).mean()) == pytest.approx(rate, abs=0.01)
        assert float(dropped.mean()) == pytest.approx(1.0, abs=0.04)
    np.testing.assert_array_equal(_drop(h, jnp.float32(0.0), jax.random.key(0)), h)


def test_a_wider_layer_begins_with_the_dropout_of_a_narrower_one() -> None:
    key, rate = jax.random.key(3), jnp.float32(0.5)
    wide, narrow = _drop(jnp.ones((12, 8)), rate, key), _drop(jnp.ones((5, 8)), rate, key)
    np.testing.assert_array_equal(wide[:5], narrow)


def lowbias32(x: int, first: int, second: int) -> int:
    """One number of `random_bits`, in Python's integers."""
    x = (x * 0x9E3779B9 + first) % 2**32
    x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
    x = (x ^ (x >> 15) ^ second) * 0x846CA68B % 2**32
    return x ^ (x >> 16)


def test_dropout_bits_are_the_hash_of_the_place_with_both_words_of_the_key() -> None:
    words = [0xDEADBEEF, 0x12345678]
    key = jax.random.wrap_key_data(jnp.array(words, jnp.uint32))
    expected = [[lowbias32(3 * h + b, *words) for b in range(3)] for h in range(5)]
    np.testing.assert_array_equal(random_bits(key, (5, 3)), np.array(expected, np.uint32))


def test_dropout_bits_are_random_enough() -> None:
    """Every bit, in every place, beside its neighbours and beside those of other keys, is a fair
    coin that knows of no other; with 200,000 tosses each a correlation of 0.01 is 4.5 sigma."""
    keys = jax.random.split(jax.random.key(0), 4)
    draws = [np.asarray(random_bits(key, (400, 500))) for key in keys]
    for draw in draws:
        assert len(np.unique(draw)) > 0.9999 * draw.size
    places = draws[0][1:-1, 1:-1]
    others = [draws[0][2:, 1:-1], draws[0][1:-1, 2:], draws[0][2:, 2:]]
    others += [draw[1:-1, 1:-1] for draw in draws[1:]]

    def signs(draw: np.ndarray) -> np.ndarray:
        """[32, places], 1 or -1."""
        flat = draw.ravel()
        return np.stack([((flat >> bit) & 1) * 2.0 - 1.0 for bit in range(32)])

    here = signs(places)
    assert np.abs(here.mean(axis=1)).max() < 0.01
    among = here @ here.T / here.shape[1]
    assert np.abs(among - np.eye(32)).max() < 0.012
    for other in others:
        assert np.abs(here @ signs(other).T / here.shape[1]).max() < 0.012
    # As dropout reads them: shares of pairs and triples of units that are kept together.
    kept = draws[0] >= np.uint32(0.3 * 2**32)
    assert (kept[1:] & kept[:-1]).mean() == pytest.approx(0.49, abs=0.006)
    assert (kept[:, 2:] & kept[:, 1:-1] & kept[:, :-2]).mean() == pytest.approx(0.343, abs=0.006)
    # No unit and no photo is favoured: the spread of the sums is that of independent coins.
    for axis in (0, 1):
        spread = kept.mean(axis=axis).std() * np.sqrt(kept.shape[axis] / 0.21)
        assert spread == pytest.approx(1.0, abs=0.12)


def test_a_gradient_whose_terms_cancel_is_zero_and_others_are_the_sum() -> None:
    """Else Adam would turn the rounding noise of the sum into whole steps."""
    half = jax.random.normal(jax.random.key(0), (500, 3))
    cancelling = jnp.concatenate([half, -half])
    plain = jnp.sum(cancelling, axis=0)
    assert np.abs(plain).max() > 0  # the noise that this is about

    def gradient(terms: jax.Array) -> jax.Array:
        return jax.grad(lambda bias: jnp.sum(terms.T * _add_bias(jnp.zeros((3, 1000)), bias)))(
            jnp.zeros(3)
        )

    np.testing.assert_array_equal(gradient(cancelling), 0)
    uneven = cancelling.at[0].add(0.01)
    np.testing.assert_allclose(gradient(uneven), jnp.sum(uneven, axis=0), rtol=1e-6)


def test_layers_and_keys_draw_different_units() -> None:
    model = Scorer((64, 64))
    x = jnp.ones((2, 3))
    params = model.init(jax.random.key(0), x)
    first = model.apply(params, x, Dropout(jnp.float32(0.5), jax.random.key(1)))
    second = model.apply(params, x, Dropout(jnp.float32(0.5), jax.random.key(2)))
    assert first[0] != second[0]
    assert first[0] != first[1]  # each photo has units of its own
