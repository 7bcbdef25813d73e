"""A cohort's compiled programs: first weights, epochs, scores. One member's epoch, and one vmap.

Axis letters: P members of the cohort, E epochs, S steps of an epoch, B pairs of a batch,
D features, N photos, M pairs, C validation chunks.

Everything up to `member_scores` is written for one member and knows of no other. A fold is the row
numbers that a member trains on; hyperparameters, scaling and validation rows are data, so that
members which differ only in them share one compiled program.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrank import losses
from jaxrank.members import Data, Member, Static
from jaxrank.models import Scorer, widened
from jaxrank.planning.cohort import SCORING_CHUNK
from jaxrank.sampling import EMPTY
from jaxrank.steps import (
    Moment,
    Params,
    batch_sums,
    learning_rate_factor,
    make_optimizer,
    standardise,
)

Array = jax.Array

RUNNING, STOPPED, FAILED = 0, 1, 2
# What a member's key is folded with for its first weights; steps.py has the others.
_INIT = 0


class TrainState(NamedTuple):
    """What training changes. `epoch` counts the epochs up to the stop; `status` is RUNNING,
    STOPPED or FAILED; `best_*` belong to the first epoch of highest validation accuracy."""

    params: Params
    opt_state: optax.OptState
    epoch: Array
    best_params: Params
    best_score: Array
    best_epoch: Array
    stale: Array
    status: Array


class EpochMetrics(NamedTuple):
    """Of the epoch just run: the training numbers are those of its batches, with dropout and
    while the parameters moved; the validation numbers are taken at its end, without dropout."""

    train_loss: Array
    train_accuracy: Array
    val_loss: Array
    val_accuracy: Array
    running: Array  # bool: the member had not stopped before this epoch


def init_params(model: Scorer, member: Member) -> Params:
    return model.init(jax.random.fold_in(member.key, _INIT), member.mean_D[None])


class InitialWeights(NamedTuple):
    """A trained model's parameters and scaling, for training that begins from them."""

    params: Params
    mean_D: np.ndarray
    inv_std_D: np.ndarray


def initial_params(model: InitialWeights, loss: str) -> Params:
    """The parameters of a trial that begins from a model, which may have had another loss."""
    kept = ("params", "loss") if loss in losses.LEARN_TIES else ("params",)
    return {name: leaf for name, leaf in model.params.items() if name in kept}


def start_state(static: Static, member: Member, params: Params) -> TrainState:
    """The state before the first epoch."""
    if static.loss in losses.LEARN_TIES and "loss" not in params:
        params = params | {"loss": {"log_ties": member.log_ties}}
    return TrainState(
        params=params,
        opt_state=make_optimizer(static, member, jnp.float32(1.0)).init(params),
        epoch=jnp.int32(0),
        best_params=jax.tree.map(jnp.copy, params),  # a copy: the state is donated
        best_score=jnp.float32(-jnp.inf),
        best_epoch=jnp.int32(-1),
        stale=jnp.int32(0),
        status=jnp.int32(RUNNING),
    )


def member_epoch(
    static: Static,
    data: Data,
    member: Member,
    state: TrainState,
    rows_SB: Array,
) -> tuple[TrainState, EpochMetrics]:
    """One epoch of one member: S steps, then validation, then the bookkeeping of the best epoch.

    Args:
      static: compiled in.
      data: shared by all members.
      member: the trial.
      state: where it stands.
      rows_SB: int32 [S, B], rows of `data.pairs_M2`, EMPTY (-1) where there is none.

    A member that has stopped or failed trains on, which costs less than a branch; only its
    `best_*`, `epoch` and `status` are guarded.
    """

    def step(carry: tuple, step_rows: tuple) -> tuple[tuple, tuple]:
        params, opt_state = carry
        index, rows_B = step_rows
        moment = Moment(state.epoch, index)
        factor = learning_rate_factor(member, len(rows_SB), moment)
        optimizer = make_optimizer(static, member, factor)

        def batch_loss(params: Params) -> tuple[Array, tuple]:
            total, count = batch_sums(
                static, data, member, params, rows_B, jnp.max(rows_SB), moment
            )
            return total[0] / jnp.maximum(count[0], 1.0), (total, count)

        gradients, sums = jax.grad(batch_loss, has_aux=True)(params)
        updates, new_opt_state = optimizer.update(gradients, opt_state, params)
        new = (optax.apply_updates(params, updates), new_opt_state)
        if static.skip_empty:  # else momentum and weight decay would go on without data
            new = jax.tree.map(partial(jnp.where, rows_B[0] != EMPTY), new, carry)
        return new, sums

    (params, opt_state), (total_S2, count_S2) = jax.lax.scan(
        step, (state.params, state.opt_state), (jnp.arange(len(rows_SB)), rows_SB)
    )
    train_loss, train_accuracy = _ratio(total_S2, count_S2)

    def validate(rows_B: Array) -> tuple[Array, Array]:
        spare = jnp.max(member.val_rows_CB)
        return batch_sums(static, data, member, params, rows_B, spare, None)

    val_loss, val_accuracy = _ratio(*jax.lax.map(validate, member.val_rows_CB))

    running = state.status == RUNNING
    finite = jnp.isfinite(train_loss) & jnp.isfinite(val_loss)
    better = running & finite & (val_accuracy > state.best_score)
    stale = jnp.where(better, 0, state.stale + 1)
    epoch = state.epoch + running
    done = (stale >= member.patience) | (epoch >= member.max_epochs)
    status = jnp.where(finite, jnp.where(done, STOPPED, RUNNING), FAILED)
    new_state = TrainState(
        params=params,
        opt_state=opt_state,
        epoch=epoch,
        best_params=jax.tree.map(partial(jnp.where, better), params, state.best_params),
        best_score=jnp.where(better, val_accuracy, state.best_score),
        best_epoch=jnp.where(better, state.epoch, state.best_epoch),
        stale=stale,
        status=jnp.where(running, status, state.status),
    )
    return new_state, EpochMetrics(train_loss, train_accuracy, val_loss, val_accuracy, running)


def member_epochs(
    static: Static, data: Data, member: Member, state: TrainState, rows_ESB: Array
) -> tuple[TrainState, EpochMetrics]:
    """E epochs without a look from the host; metrics [E]."""
    return jax.lax.scan(partial(member_epoch, static, data, member), state, rows_ESB)


def _ratio(total_X2: Array, count_X2: Array) -> Array:
    return jnp.sum(total_X2, axis=0) / jnp.maximum(jnp.sum(count_X2, axis=0), 1.0)


def member_scores(model: Scorer, data: Data, member: Member, params: Params) -> Array:
    """Scores [N] of all photos, a chunk at a time to bound the memory.

    Every chunk has the same size, so that equal photos meet the same program and tie.
    """
    num_photos = len(data.features_ND)
    chunk = min(2 * SCORING_CHUNK, num_photos)
    rows_CB = jnp.arange(-(-num_photos // chunk) * chunk).reshape(-1, chunk) % num_photos
    scores_CB: Any = jax.lax.map(
        lambda rows_B: model.apply(params, standardise(member, data.features_ND[rows_B])), rows_CB
    )
    return scores_CB.reshape(-1)[:num_photos]


# The population axis. The memory of the state is used again.
start_cohort = jax.jit(jax.vmap(start_state, (None, 0, None)), static_argnums=0)


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def cohort_epochs(
    static: Static, data: Data, member: Member, state: TrainState, rows_PESB: Array
) -> tuple[TrainState, EpochMetrics]:
    """E epochs of all members; metrics [P, E].

    Side by side, one vmap; else one member after the other, which leaves out those that have
    stopped: their metrics are zero.
    """
    train = partial(member_epochs, static, data)
    if static.side_by_side:
        return jax.vmap(train)(member, state, rows_PESB)

    def train_one(state: TrainState, place: Array) -> tuple[TrainState, EpochMetrics]:
        mine, own, rows_ESB = jax.tree.map(lambda leaf: leaf[place], (member, state, rows_PESB))
        _, shapes = jax.eval_shape(train, mine, own, rows_ESB)
        nothing = jax.tree.map(lambda metric: jnp.zeros(metric.shape, metric.dtype), shapes)
        new, metrics = jax.lax.cond(
            own.status == RUNNING,
            lambda own: train(mine, own, rows_ESB),
            lambda own: (own, nothing),
            own,
        )
        return jax.tree.map(lambda leaf, part: leaf.at[place].set(part), state, new), metrics

    return jax.lax.scan(train_one, state, jnp.arange(len(rows_PESB)))


@partial(jax.jit, static_argnums=0)
def cohort_scores(static: Static, data: Data, member: Member, params: Params) -> Array:
    """Scores [P, N] of all photos."""
    score = partial(member_scores, static.model, data)
    if static.side_by_side:
        return jax.vmap(score)(member, params)
    return jax.lax.map(lambda own: score(*own), (member, params))


@partial(jax.jit, static_argnums=(0, 2))
def init_cohort(
    static: Static, member: Member, hidden_dims: Sequence[tuple[int, ...]] | None = None
) -> TrainState:
    """The state before the first epoch; every leaf has a leading axis P.

    Args:
      static, member: of the cohort.
      hidden_dims: of each trial, where some are narrower than the cohort. Their first weights are
        drawn at their own size and padded with zeros: they are those of the trial alone.
    """
    if hidden_dims is None:
        params = jax.vmap(partial(init_params, static.model))(member)
    else:
        groups, order = [], []
        for dims in dict.fromkeys(hidden_dims):
            places = np.flatnonzero([own == dims for own in hidden_dims])
            own = static.model.clone(hidden_dims=dims)
            mine = jax.tree.map(lambda leaf, at=places: leaf[at], member)
            drawn = jax.vmap(partial(init_params, own))(mine)
            groups.append(jax.vmap(partial(widened, static.model, member.mean_D.shape[1]))(drawn))
            order.append(places)
        back = np.argsort(np.concatenate(order))
        params = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *groups)
    return jax.vmap(partial(start_state, static))(member, params)


@jax.jit
def take(state: TrainState, places: Array) -> TrainState:
    """The state of some of the members."""
    return jax.tree.map(lambda leaf: leaf[places], state)
