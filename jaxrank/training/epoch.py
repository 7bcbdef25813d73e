"""Compiled programs of a cohort: initial weights, epochs, scores.

Axis letters: P slots of the cohort's program, E epochs, S steps of an epoch, B pairs of a batch,
D features, N photos, M pairs, C validation chunks.

Everything up to `trial_scores` is written for one trial; `vmap` then adds the population axis. A
fold is the row numbers that a trial trains on. Hyperparameters, scaling and validation rows are
data as well, so that trials which differ only in data share one compiled program.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.tree_utils import tree_where

from jaxrank import losses
from jaxrank.models import Scorer, widened
from jaxrank.planning.cohort import SCORING_CHUNK
from jaxrank.sampling import EMPTY
from jaxrank.training.arrays import DeviceData, ProgramSpec, TrialArrays
from jaxrank.training.state import (
    FAILED,
    RUNNING,
    STOPPED,
    Array,
    EpochMetrics,
    InitialWeights,
    TrainState,
)
from jaxrank.training.step import (
    Moment,
    Params,
    batch_sums,
    inputs_of,
    learning_rate_factor,
    make_optimizer,
)

# Folded into a trial's key for its initial weights; step.py has the other such constants.
_INIT = 0


def init_params(model: Scorer, trial: TrialArrays) -> Params:
    return model.init(jax.random.fold_in(trial.key, _INIT), trial.mean_D[None])


def initial_params(model: InitialWeights, loss: str) -> Params:
    """Parameters of a trial that begins from a model, which may have had another loss."""
    kept = ("params", "loss") if loss in losses.LEARN_TIES else ("params",)
    return {name: leaf for name, leaf in model.params.items() if name in kept}


def start_state(static: ProgramSpec, trial: TrialArrays, params: Params) -> TrainState:
    """The state before the first epoch."""
    if static.key.loss in losses.LEARN_TIES and "loss" not in params:
        params = params | {"loss": {"log_ties": trial.log_ties}}
    return TrainState(
        params=params,
        opt_state=make_optimizer(static, trial, jnp.float32(1.0)).init(params),
        epoch=jnp.int32(0),
        best_params=jax.tree.map(jnp.copy, params),  # a copy: the state is donated
        best_score=jnp.float32(-jnp.inf),
        best_epoch=jnp.int32(-1),
        stale=jnp.int32(0),
        status=jnp.int32(RUNNING),
    )


def trial_epoch(
    static: ProgramSpec,
    data: DeviceData,
    trial: TrialArrays,
    state: TrainState,
    rows_SB: Array,
) -> tuple[TrainState, EpochMetrics]:
    """Runs one epoch of one trial: S steps, validation, and the update of the best epoch.

    Args:
      static: static arguments of the program.
      data: arrays that all trials share.
      trial: arrays of the trial.
      state: state of the trial before the epoch.
      rows_SB: int32 [S, B], rows of `data.pairs_M2`; EMPTY (-1) in unused places.

    Returns:
      The state after the epoch, and the epoch's metrics.

    A trial that has stopped or failed keeps training, which costs less than a branch; only its
    `best_*`, `epoch` and `status` are guarded.
    """

    def step(carry: tuple, step_rows: tuple) -> tuple[tuple, tuple]:
        params, opt_state = carry
        index, rows_B = step_rows
        moment = Moment(state.epoch, index)
        factor = learning_rate_factor(trial, len(rows_SB), moment)
        optimizer = make_optimizer(static, trial, factor)

        def batch_loss(params: Params) -> tuple[Array, tuple]:
            total, count = batch_sums(static, data, trial, params, rows_B, jnp.max(rows_SB), moment)
            return total[0] / jnp.maximum(count[0], 1.0), (total, count)

        gradients, sums = jax.grad(batch_loss, has_aux=True)(params)
        updates, new_opt_state = optimizer.update(gradients, opt_state, params)
        new = (optax.apply_updates(params, updates), new_opt_state)
        if static.skip_empty:  # otherwise momentum and weight decay would act without data
            new = tree_where(rows_B[0] != EMPTY, new, carry)
        return new, sums

    (params, opt_state), (total_S2, count_S2) = jax.lax.scan(
        step, (state.params, state.opt_state), (jnp.arange(len(rows_SB)), rows_SB)
    )
    train_loss, train_accuracy = _ratio(total_S2, count_S2)

    def validate(rows_B: Array) -> tuple[Array, Array]:
        spare = jnp.max(trial.val_rows_CB)
        return batch_sums(static, data, trial, params, rows_B, spare, None)

    val_loss, val_accuracy = _ratio(*jax.lax.map(validate, trial.val_rows_CB))

    running = state.status == RUNNING
    finite = jnp.isfinite(train_loss) & jnp.isfinite(val_loss)
    # Without early stopping the last epoch counts, whatever its validation accuracy.
    stops_early = trial.hyperparameters["patience"] > 0
    better = running & finite & ((val_accuracy > state.best_score) | ~stops_early)
    stale = jnp.where(better, 0, state.stale + 1)
    epoch = state.epoch + running
    done = (stops_early & (stale >= trial.hyperparameters["patience"])) | (
        epoch >= trial.hyperparameters["max_epochs"]
    )
    status = jnp.where(finite, jnp.where(done, STOPPED, RUNNING), FAILED)
    new_state = TrainState(
        params=params,
        opt_state=opt_state,
        epoch=epoch,
        best_params=tree_where(better, params, state.best_params),
        best_score=jnp.where(better, val_accuracy, state.best_score),
        best_epoch=jnp.where(better, state.epoch, state.best_epoch),
        stale=stale,
        status=jnp.where(running, status, state.status),
    )
    return new_state, EpochMetrics(train_loss, train_accuracy, val_loss, val_accuracy, running)


def trial_epochs(
    static: ProgramSpec, data: DeviceData, trial: TrialArrays, state: TrainState, rows_ESB: Array
) -> tuple[TrainState, EpochMetrics]:
    """Runs E epochs in one dispatch; metrics [E]."""
    return jax.lax.scan(partial(trial_epoch, static, data, trial), state, rows_ESB)


def _ratio(total_X2: Array, count_X2: Array) -> Array:
    return jnp.sum(total_X2, axis=0) / jnp.maximum(jnp.sum(count_X2, axis=0), 1.0)


def trial_scores(
    static: ProgramSpec, data: DeviceData, trial: TrialArrays, params: Params
) -> Array:
    """Scores [N] of all photos at the highest precision, in chunks to bound the memory.

    Every chunk has the same size, so that equal photos go through the same program and tie.
    """
    num_photos = len(data.features_ND)
    chunk = min(2 * SCORING_CHUNK, num_photos)
    rows_CB = jnp.arange(-(-num_photos // chunk) * chunk).reshape(-1, chunk) % num_photos
    model = static.exact_model
    scores_CB: Any = jax.lax.map(
        lambda rows_B: model.apply(params, inputs_of(static, data, trial, rows_B)), rows_CB
    )
    return scores_CB.reshape(-1)[:num_photos]


# The programs below have the population axis.
start_cohort = jax.jit(jax.vmap(start_state, (None, 0, None)), static_argnums=0)


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def cohort_epochs(
    static: ProgramSpec, data: DeviceData, trial: TrialArrays, state: TrainState, rows_PESB: Array
) -> tuple[TrainState, EpochMetrics]:
    """Runs E epochs of all trials; metrics [P, E]. The state is donated.

    Trials run side by side in one vmap, or one after the other. One after the other, trials that
    have stopped are skipped, and their metrics are zero.
    """
    train = partial(trial_epochs, static, data)
    if static.side_by_side:
        return jax.vmap(train)(trial, state, rows_PESB)
    # Written out: `eval_shape` of an epoch would double the time in which the program is traced.
    zeros_E = jnp.zeros(rows_PESB.shape[1], jnp.float32)
    no_metrics = EpochMetrics(zeros_E, zeros_E, zeros_E, zeros_E, running=zeros_E > 0)

    def train_one(state: TrainState, place: Array) -> tuple[TrainState, EpochMetrics]:
        mine, own, rows_ESB = jax.tree.map(lambda leaf: leaf[place], (trial, state, rows_PESB))
        new, metrics = jax.lax.cond(
            own.status == RUNNING,
            lambda own: train(mine, own, rows_ESB),
            lambda own: (own, no_metrics),
            own,
        )
        return jax.tree.map(lambda leaf, part: leaf.at[place].set(part), state, new), metrics

    return jax.lax.scan(train_one, state, jnp.arange(len(rows_PESB)))


@partial(jax.jit, static_argnums=0)
def cohort_scores(
    static: ProgramSpec, data: DeviceData, trial: TrialArrays, params: Params, wanted_P: Array
) -> Array:
    """Scores [P, N] of all photos, zero for slots that are not wanted.

    One trial after the other: side by side, a chunk of photos would take more memory than training.
    """
    nothing = jnp.zeros(len(data.features_ND), jnp.float32)

    def scores_of(own: tuple[TrialArrays, Params, Array]) -> Array:
        mine, parameters, wanted = own
        scored = partial(trial_scores, static, data)
        return jax.lax.cond(wanted, scored, lambda *_: nothing, mine, parameters)

    return jax.lax.map(scores_of, (trial, params, wanted_P))


@partial(jax.jit, static_argnums=(0, 2))
def init_cohort(
    static: ProgramSpec, trial: TrialArrays, hidden_dims: Sequence[tuple[int, ...]] | None = None
) -> TrainState:
    """The state before the first epoch; every leaf has a leading axis P.

    Args:
      static, trial: static arguments and arrays of the cohort.
      hidden_dims: hidden sizes of each trial, if some are narrower than the cohort. A trial's
        initial weights are drawn at its own size and padded with zeros, as if it ran alone.
    """
    if hidden_dims is None:
        params = jax.vmap(partial(init_params, static.model))(trial)
    else:
        groups, order = [], []
        for dims in dict.fromkeys(hidden_dims):
            places = np.flatnonzero([own == dims for own in hidden_dims])
            own = static.model.clone(hidden_dims=dims)
            mine = jax.tree.map(lambda leaf, at=places: leaf[at], trial)
            drawn = jax.vmap(partial(init_params, own))(mine)
            groups.append(jax.vmap(partial(widened, static.model, trial.mean_D.shape[1]))(drawn))
            order.append(places)
        back = np.argsort(np.concatenate(order))
        params = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *groups)
    return jax.vmap(partial(start_state, static))(trial, params)


@jax.jit
def take(state: TrainState, places: Array) -> TrainState:
    """State of the trials at `places`."""
    return jax.tree.map(lambda leaf: leaf[places], state)
