"""The scorer: a small Flax MLP that gives each photo one number."""

import itertools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(NamedTuple):
    """What dropout needs; a traced rate, so that trials with different rates share a program."""

    rate: jax.Array
    key: jax.Array


class Scorer(nn.Module):
    """[Dense, ReLU, dropout]* -> Dense(1); without hidden layers a linear scorer.

    Kernels are LeCun normal and biases zero (Flax's defaults); a linear scorer starts from zero.
    """

    hidden_dims: tuple[int, ...]

    @nn.compact
    def __call__(self, x_BD: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        """Scores [B] of standardised features [B, D]; without dropout the function is exact."""
        h_BH = x_BD
        for layer, width in enumerate(self.hidden_dims):
            h_BH = nn.relu(nn.Dense(width)(h_BH))
            if dropout is not None:
                h_BH = _drop(h_BH, dropout.rate, jax.random.fold_in(dropout.key, layer))
        # Without hidden layers the loss is convex: from zero, the first steps find the direction;
        # a random start would only be noise to unlearn (with the 4 image-quality numbers it was
        # still there after 30 epochs).
        last = nn.initializers.lecun_normal() if self.hidden_dims else nn.initializers.zeros
        return nn.Dense(1, kernel_init=last)(h_BH)[:, 0]


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
    return sum((a + 1) * b for a, b in itertools.pairwise(widths))
