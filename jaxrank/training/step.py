"""Training step of one trial: optimiser, learning rate, augmented batch, loss.

Axis letters as in train.py: B pairs of a batch, D features.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrank import losses
from jaxrank.experiments.hyperparameters import SCHEDULES
from jaxrank.models import Dropout
from jaxrank.sampling import EMPTY
from jaxrank.training.arrays import DeviceData, ProgramSpec, TrialArrays
from jaxrank.training.state import Array, Params

# Step size of log_ties: it reaches the observed share of ties within tens of steps.
_TIES_RATE = 0.5
# Folded into a trial's key, before the numbers of epoch and step; 0 is used in epoch.py.
_DROPOUT, _NOISE, _MIXUP = 1, 2, 3
_COSINE = SCHEDULES.index("cosine")


class Moment(NamedTuple):
    """Position of a training step: its epoch, and its number in the epoch."""

    epoch: Array
    step: Array  # of the epoch


def _key(trial: TrialArrays, purpose: int, moment: Moment) -> Array:
    key = jax.random.fold_in(jax.random.fold_in(trial.key, purpose), moment.epoch)
    return jax.random.fold_in(key, moment.step)


def make_optimizer(
    static: ProgramSpec, trial: TrialArrays, factor: Array
) -> optax.GradientTransformation:
    """Returns the optimiser of a step; `factor` is the schedule's factor of the learning rate."""
    learning_rate = trial.hyperparameters["learning_rate"] * factor
    optimizer = optax.adamw(learning_rate, weight_decay=trial.hyperparameters["weight_decay"])
    if static.key.optimizer == "sgd":  # weight decay is part of the gradient, as in PyTorch's
        optimizer = optax.chain(
            optax.add_decayed_weights(trial.hyperparameters["weight_decay"]),
            optax.sgd(learning_rate, momentum=trial.hyperparameters["momentum"]),
        )
    if static.key.loss not in losses.LEARN_TIES:
        return optimizer
    # The gradient of log_ties is (expected ties - observed ties) per pair. It does not use the
    # trial's learning rate and weight decay, which would keep it near its initial value.
    each = {"params": optimizer, "loss": optax.sgd(_TIES_RATE)}
    return optax.partition(each, {"params": "params", "loss": "loss"})


def learning_rate_factor(trial: TrialArrays, num_steps: int, moment: Moment) -> Array:
    """The schedule's factor of the learning rate, in a step of an epoch of `num_steps`.

    It rises in equal steps to 1 over the warm-up. Then it stays at 1, or falls to 0 by half a
    cosine (Loshchilov and Hutter 2017, equation 5) until `max_epochs`.
    """
    step = (moment.epoch * num_steps + moment.step).astype(jnp.float32)
    warmup = trial.hyperparameters["warmup_epochs"] * num_steps
    rise = jnp.minimum(1.0, (step + 1.0) / jnp.maximum(warmup, 1.0))
    rest = jnp.maximum(
        trial.hyperparameters["max_epochs"].astype(jnp.float32) * num_steps - warmup, 1.0
    )
    fall = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip((step - warmup) / rest, 0.0, 1.0)))
    return rise * jnp.where(trial.hyperparameters["schedule"] == _COSINE, fall, 1.0)


def inputs_of(static: ProgramSpec, data: DeviceData, trial: TrialArrays, photos_B: Array) -> Array:
    """Scaled inputs of the model for these photos, float32 [B, D]."""
    if not static.column_runs:
        raw_BD = data.features_ND[photos_B].astype(jnp.float32)
        return (raw_BD - trial.mean_D) * trial.inv_std_D
    scores_BJ = data.normal_scores[trial.first_photo + photos_B]
    if all(has_scores for has_scores, _ in static.column_runs):
        return (scores_BJ - trial.mean_D) * trial.inv_std_D
    raw_BD = data.features_ND[photos_B].astype(jnp.float32)
    # Concatenated before scaling. With the scores written into scaled inputs, XLA emits a scalar
    # loop of gather, scaling and update: four columns cost a third of an epoch.
    runs, column, used = [], 0, 0
    for has_scores, length in static.column_runs:
        if has_scores:
            runs.append(scores_BJ[:, used : used + length])
            used += length
        else:
            runs.append(raw_BD[:, column : column + length])
        column += length
    return (jnp.concatenate(runs, axis=1) - trial.mean_D) * trial.inv_std_D


def log_ties(params: Params) -> Array:
    """Parameter `log_ties` of a loss that learns it; zero for other losses, which ignore it."""
    return params.get("loss", {}).get("log_ties", jnp.float32(0.0))


class Mix(NamedTuple):
    """Mixup of a batch.

    The scaled inputs of a pair become `share` times its own plus 1 - `share` times those of another
    pair. The losses with both pairs' preferences are mixed in the same way.

    Attributes:
      share: float scalar.
      other_B: int [B], place of the other pair in the batch.
    """

    share: Array
    other_B: Array


def draw_mix(trial: TrialArrays, rows_B: Array, moment: Moment) -> Mix:
    """Draws the mixup of a batch (Zhang et al. 2018): one share, from Beta(alpha, alpha).

    The other pair is the preceding one, as a batch's order is random. For the first pair it is the
    last one, or the first pair itself if the batch is not full.
    """
    share = jax.random.beta(
        _key(trial, _MIXUP, moment), trial.hyperparameters["mixup"], trial.hyperparameters["mixup"]
    )
    places = jnp.arange(len(rows_B))
    other_B = jnp.where(jnp.roll(rows_B, 1) == EMPTY, places, jnp.roll(places, 1))
    return Mix(share, other_B)


def batch_sums(
    static: ProgramSpec,
    data: DeviceData,
    trial: TrialArrays,
    params: Params,
    rows_B: Array,
    spare: Array,
    moment: Moment | None,
) -> tuple[Array, Array]:
    """Sums over the pairs of a batch: (loss, hits) [2], and the number of counted pairs [2].

    Args:
      static, data, trial: see arrays.py.
      params: parameters of the trial.
      rows_B: int32, rows of `data.pairs_M2`; EMPTY in unused places.
      spare: one of the trial's own pairs, which empty places read with weight zero. Photos of
        another split must not be read even so: zero times infinity is not zero.
      moment: training step, with dropout, augmentation and label smoothing; None for validation.
    """
    filled_B = jnp.where(rows_B == EMPTY, spare, rows_B)
    # One pass through the model: every pair's photo a, then every pair's photo b.
    photos = data.pairs_M2[filled_B].T.reshape(-1)
    inputs = inputs_of(static, data, trial, photos)
    dropout, mix, loss = None, None, losses.LOSSES[static.key.loss]
    if moment is not None:
        dropout = Dropout(trial.hyperparameters["dropout"], _key(trial, _DROPOUT, moment))
        loss = partial(losses.smoothed, loss, trial.hyperparameters["label_smoothing"])
        if static.key.feature_noise:
            noise = jax.random.normal(_key(trial, _NOISE, moment), inputs.shape)
            varies_D = trial.inv_std_D > 0  # a constant column gets no noise
            inputs += trial.hyperparameters["feature_noise"] * varies_D * noise
        if static.key.mixup:
            mix = draw_mix(trial, rows_B, moment)
            of_photos = inputs.reshape(2, len(rows_B), -1)
            mixed = mix.share * of_photos + (1.0 - mix.share) * of_photos[:, mix.other_B]
            inputs = mixed.reshape(inputs.shape)
    scores: Any = static.model.apply(params, inputs, dropout)
    difference_B = scores[: len(rows_B)] - scores[len(rows_B) :]

    def terms(preference_B: Array) -> tuple[Array, Array]:
        loss_B, used_B = loss(
            difference_B, preference_B, trial.hyperparameters["margin"], log_ties(params)
        )
        hit_B, directed_B = losses.hits(difference_B, preference_B)
        weight_B2 = jnp.stack([used_B, directed_B], axis=1) * (rows_B != EMPTY)[:, None]
        return jnp.where(weight_B2 > 0, jnp.stack([loss_B, hit_B], axis=1), 0.0), weight_B2

    preference_B = data.preference_M[filled_B]
    value_B2, weight_B2 = terms(preference_B)
    if mix is not None:
        # The losses are mixed, not the labels: the same for a loss that is linear in the label,
        # and meaningful for the others too.
        other_B2, other_weight_B2 = terms(preference_B[mix.other_B])
        value_B2 = mix.share * value_B2 + (1.0 - mix.share) * other_B2
        weight_B2 = mix.share * weight_B2 + (1.0 - mix.share) * other_weight_B2
    return jnp.sum(value_B2, axis=0), jnp.sum(weight_B2, axis=0)
