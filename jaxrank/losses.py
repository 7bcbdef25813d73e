"""Pairwise losses with one signature.

    loss(difference, preference, margin, log_ties) -> (value, weight)

`difference` is score_a - score_b, `preference` the share that prefers photo a; both have any equal
shape. Only `margin_ranking` uses `margin`, a hyperparameter; only `davidson` uses `log_ties`, which
is learned. `value` is the loss of each pair. `weight` is 0 for a pair that the loss can't use, else
1. The loss of a batch is the weighted mean of the values. In formulas d is `difference` and p is
`preference`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Loss = Callable[[Array, Array, Array, Array], tuple[Array, Array]]


def margin_ranking(
    difference: Array, preference: Array, margin: Array, log_ties: Array
) -> tuple[Array, Array]:
    """Hinge loss of RankSVM (Joachims 2002) and of PyTorch's MarginRankingLoss.

    max(0, margin - y * difference) with y = sign(preference - 1/2). A preference of exactly one
    half has no direction and no weight.
    """
    del log_ties
    y = jnp.sign(preference - 0.5)
    return jnp.maximum(0.0, margin - y * difference), jnp.abs(y)


def logistic(
    difference: Array, preference: Array, margin: Array, log_ties: Array
) -> tuple[Array, Array]:
    """Cross-entropy of the Bradley-Terry model (1952) with soft labels.

    -p log s(d) - (1-p) log s(-d) = log(1 + exp(d)) - p d, with s the logistic function.
    """
    del margin, log_ties
    return jax.nn.softplus(difference) - preference * difference, jnp.ones_like(difference)


def davidson(
    difference: Array, preference: Array, margin: Array, log_ties: Array
) -> tuple[Array, Array]:
    """Cross-entropy of the Bradley-Terry model with ties (Davidson 1970, equation 2.4).

    With strengths exp(score), nu = exp(log_ties) and Z = exp(d/2) + exp(-d/2) + nu,

        P(a) = exp(d/2) / Z,   P(b) = exp(-d/2) / Z,   P(tie) = nu / Z.

    A preference of exactly one half is a tie; any other is a soft label between a and b.
    -p log P(a) - (1-p) log P(b) = log Z - (p - 1/2) d, and -log P(tie) = log Z - log nu.
    """
    del margin
    zero = jnp.zeros_like(difference)
    log_z = jax.nn.logsumexp(jnp.stack([difference / 2, -difference / 2, zero + log_ties]), axis=0)
    tie = jnp.where(preference == 0.5, log_ties, 0.0)
    return log_z - (preference - 0.5) * difference - tie, jnp.ones_like(difference)


LOSSES: dict[str, Loss] = {
    "margin_ranking": margin_ranking,
    "logistic": logistic,
    "davidson": davidson,
}
# The losses that learn `log_ties`, which is then a part of a trial's parameters.
LEARN_TIES = ("davidson",)


def log_ties_at_chance(preference: np.ndarray) -> float:
    """`log_ties` with the observed share of ties, between photos of equal strength.

    nu / (2 + nu) is the share of ties t, so nu = 2t / (1 - t). If no pair or every pair is a tie,
    half a pair counts as the opposite, so that the logarithm stays finite.
    """
    least = 0.5 / max(len(preference), 1)
    share = np.clip(np.mean(preference == 0.5), least, 1.0 - least)
    return float(np.log(2.0 * share / (1.0 - share)))


def smoothed(
    loss: Loss,
    smoothing: Array,
    difference: Array,
    preference: Array,
    margin: Array,
    log_ties: Array,
) -> tuple[Array, Array]:
    """Any loss with label smoothing (Szegedy et al. 2016, section 7).

    A share e = `smoothing` of the labels is taken as unknown, so each label is flipped with
    probability e/2: (1 - e/2) loss(p) + e/2 loss(1 - p). For `logistic`, which is linear in p, this
    is the loss of the smoothed label (1 - e) p + e/2.
    """
    value, weight = loss(difference, preference, margin, log_ties)
    turned, _ = loss(difference, 1.0 - preference, margin, log_ties)
    return (1.0 - smoothing / 2) * value + smoothing / 2 * turned, weight


def hits(difference: Array, preference: Array) -> tuple[Array, Array]:
    """Hits and weights of pairs.

    A hit is 1 if the preferred photo has the higher score, 1/2 for equal scores, else 0. The weight
    is 0 if the preference is exactly one half, else 1.
    """
    y = jnp.sign(preference - 0.5)
    return 0.5 * (1.0 + jnp.sign(difference) * y), jnp.abs(y)
