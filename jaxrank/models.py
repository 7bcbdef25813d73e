"""The scorer: a small Flax MLP that gives each photo one number."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

# Some 16 times the spacing of 32-bit floats: no sum of a batch has a larger relative error.
_ROUNDING = 1e-6


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "gelu": partial(nn.gelu, approximate=False),  # as PyTorch's; Hendrycks and Gimpel 2016
    "tanh": nn.tanh,
}


class Dropout(NamedTuple):
    """What dropout needs; a traced rate, so that trials with different rates share a program."""

    rate: jax.Array
    key: jax.Array


class Scorer(nn.Module):
    """[Dense, activation, dropout]* -> Dense(1) without bias; without hidden layers linear.

    Kernels are LeCun normal and biases zero (Flax's defaults); a linear scorer starts from zero.
    `use_layernorm` gives each input vector mean 0 and variance 1 first (Ba et al. 2016, without
    gain and bias: the gain's gradient needs that of the inputs, which costs a third of an epoch).
    """

    hidden_dims: tuple[int, ...]
    activation: str = "relu"
    use_layernorm: bool = False

    @nn.compact
    def __call__(self, x_BD: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        """Scores [B] of standardised features [B, D]; without dropout the function is exact."""
        h_BH = x_BD
        if self.use_layernorm:
            h_BH = nn.LayerNorm(epsilon=1e-5, use_bias=False, use_scale=False)(h_BH)
        for layer, width in enumerate(self.hidden_dims):
            h_BH = nn.Dense(width, use_bias=False)(h_BH)
            h_BH = ACTIVATIONS[self.activation](
                _add_bias(h_BH, self.param(f"bias_{layer}", nn.initializers.zeros, (width,)))
            )
            if dropout is not None:
                h_BH = _drop(h_BH, dropout.rate, jax.random.fold_in(dropout.key, layer))
        # Without hidden layers the loss is convex: from zero, the first steps find the direction;
        # a random start would only be noise to unlearn (with the 4 image-quality numbers it was
        # still there after 30 epochs).
        last = nn.initializers.lecun_normal() if self.hidden_dims else nn.initializers.zeros
        # No bias: it cancels in every difference of scores, and Adam, which divides a gradient by
        # its size, would walk it about on rounding noise.
        return nn.Dense(1, use_bias=False, kernel_init=last)(h_BH)[:, 0]


@jax.custom_vjp
def _add_bias(h_BH: jax.Array, bias_H: jax.Array) -> jax.Array:
    """h + bias, with a gradient that is zero where its terms cancel.

    The terms of a bias's gradient often cancel exactly: a unit that is active for both photos of a
    pair shifts both scores alike. Summed in floating point they leave rounding noise, and Adam,
    which divides a gradient by its size, turns noise into steps that differ with the cohort's size
    and from machine to machine. A sum below the rounding error of its terms is therefore zero.
    """
    return h_BH + bias_H


def _add_bias_forward(h_BH: jax.Array, bias_H: jax.Array) -> tuple[jax.Array, None]:
    return h_BH + bias_H, None


def _add_bias_backward(_: None, gradient_BH: jax.Array) -> tuple[jax.Array, jax.Array]:
    total_H = jnp.sum(gradient_BH, axis=0)
    size_H = jnp.sum(jnp.abs(gradient_BH), axis=0)
    return gradient_BH, jnp.where(jnp.abs(total_H) > _ROUNDING * size_H, total_H, 0.0)


_add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def _drop(h_BH: jax.Array, rate: jax.Array, key: jax.Array) -> jax.Array:
    """Inverted dropout (Srivastava et al. 2014). Flax's own refuses a traced rate.

    A unit is kept where 32 random bits, read as a number, reach rate * 2^32. The bits are drawn
    unit by unit, [H, B], so that a wider layer begins with the bits of a narrower one.
    """
    bits_BH = jax.random.bits(key, h_BH.shape[::-1], jnp.uint32).T
    keep = bits_BH >= (rate * 2.0**32).astype(jnp.uint32)
    return jnp.where(keep, h_BH / (1.0 - rate), 0.0)


def num_parameters(input_dim: int, hidden_dims: tuple[int, ...]) -> int:
    """Weights and biases of a Scorer."""
    widths = (input_dim, *hidden_dims, 1)
    return sum((a + 1) * b for a, b in itertools.pairwise(widths)) - 1  # the last has no bias


def _shapes(model: Scorer, input_dim: int) -> Any:
    inputs = jax.ShapeDtypeStruct((1, input_dim), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]


def widened(model: Scorer, input_dim: int, params: Any) -> Any:
    """The parameters of a narrower scorer as those of `model`, padded with zeros: the same
    function, since the activations map zero to zero, and zero weights lead away from the new units.
    """

    def pad(leaf: Any, shape: Any) -> jax.Array:
        return jnp.pad(
            leaf, [(0, to - now) for now, to in zip(leaf.shape, shape.shape, strict=True)]
        )

    return params | {"params": jax.tree.map(pad, params["params"], _shapes(model, input_dim))}


def narrowed(model: Scorer, input_dim: int, params: Any) -> Any:
    """The parameters that `widened` has padded, as those of the narrower `model`."""

    def cut(leaf: Any, shape: Any) -> Any:
        return leaf[tuple(slice(0, size) for size in shape.shape)]

    return params | {"params": jax.tree.map(cut, params["params"], _shapes(model, input_dim))}
