"""Pairwise losses, one signature.

    loss(difference, preference, margin) -> (value, weight)

`difference` is score_a - score_b, `preference` the share that prefers photo a; both of any equal
shape. `value` is the loss of each pair and `weight` 0 for a pair that the loss can't use, else 1.
The loss of a batch is the mean of the values with weight.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Loss = Callable[[Array, Array, Array], tuple[Array, Array]]


def margin_ranking(difference: Array, preference: Array, margin: Array) -> tuple[Array, Array]:
    """max(0, margin - y * difference) with y = sign(preference - 1/2).

    The hinge loss of RankSVM (Joachims 2002) and of PyTorch's MarginRankingLoss. A preference of
    exactly one half has no direction and no weight.
    """
    y = jnp.sign(preference - 0.5)
    return jnp.maximum(0.0, margin - y * difference), jnp.abs(y)


def logistic(difference: Array, preference: Array, margin: Array) -> tuple[Array, Array]:
    """Cross-entropy of the Bradley-Terry model (1952) with soft labels; the margin is not used.

    -p log s(d) - (1-p) log s(-d) = log(1 + exp(d)) - p d, with s the logistic function.
    """
    del margin
    return jax.nn.softplus(difference) - preference * difference, jnp.ones_like(difference)


LOSSES: dict[str, Loss] = {"margin_ranking": margin_ranking, "logistic": logistic}


def hits(difference: Array, preference: Array) -> tuple[Array, Array]:
    """1 where the higher score is the preferred photo, 1/2 for equal scores, else 0; with the
    weight 0 where the preference is exactly one half."""
    y = jnp.sign(preference - 0.5)
    return 0.5 * (1.0 + jnp.sign(difference) * y), jnp.abs(y)
