"""Training: the step of one member, one vmap over the cohort, and the loop over epochs.

Axis letters: P members of the cohort, S steps of an epoch, B pairs of a batch, D features,
N photos, M pairs, C validation chunks.

Everything up to `cohort_epoch` is written for one member and knows of no other. A fold is the row
numbers that a member trains on; hyperparameters, scaling and validation rows are data, so that
members which differ only in them share one compiled program.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrank import losses
from jaxrank.checkpoints import Model
from jaxrank.datasets import Dataset
from jaxrank.members import Data, Member, Static, cohort_rows, make_data, make_members, make_static
from jaxrank.models import Scorer
from jaxrank.plan import SCORING_CHUNK, Cohort
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


def init_member(static: Static, member: Member) -> TrainState:
    key = jax.random.fold_in(member.key, _INIT)
    return start_state(static, member, static.model.init(key, member.mean_D[None]))


def initial_params(model: Model, loss: str) -> Params:
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


# The population axis: one vmap at the edge, and the state's memory is used again.
init_cohort = jax.jit(jax.vmap(init_member, (None, 0)), static_argnums=0)
start_cohort = jax.jit(jax.vmap(start_state, (None, 0, None)), static_argnums=0)
cohort_epoch = jax.jit(
    jax.vmap(member_epoch, (None, None, 0, 0, 0)), static_argnums=0, donate_argnums=3
)
cohort_scores = jax.jit(jax.vmap(member_scores, (None, None, 0, 0)), static_argnums=0)


class Progress(NamedTuple):
    """A cohort in training: all that is needed to go on; P trials, E epochs done.

    Attributes:
      state: every leaf has a leading axis P. Its memory is used again by the next epoch.
      history: EpochMetrics of arrays [P], one an epoch, on the host.
      seconds: wall time until here, compilation included.
    """

    state: TrainState
    history: list[EpochMetrics]
    seconds: float

    @property
    def num_running(self) -> int:
        """Trials that have not stopped."""
        return int((np.asarray(self.state.status) == RUNNING).sum())


class Fitted(NamedTuple):
    """A trained cohort on the host; P trials, E epochs, N photos.

    Attributes:
      best_params: of the chosen epoch; every leaf has a leading axis P.
      mean_PD, inv_std_PD: the scaling of each trial.
      scores_PN: of all photos, by the chosen parameters; NaN for a failed trial.
      status_P: STOPPED or FAILED.
      epochs_run_P, best_epoch_P: int; epochs count from 0.
      history: EpochMetrics of arrays [E, P].
      seconds: wall time, compilation included.
    """

    best_params: Params
    mean_PD: np.ndarray
    inv_std_PD: np.ndarray
    scores_PN: np.ndarray
    status_P: np.ndarray
    epochs_run_P: np.ndarray
    best_epoch_P: np.ndarray
    history: EpochMetrics
    seconds: float


def fit(
    cohort: Cohort,
    dataset: Dataset,
    parts: np.ndarray,
    *,
    start: Model | None = None,
    restore: Callable[[TrainState], Progress | None] = lambda shapes: None,
    on_epoch: Callable[[Progress], None] = lambda progress: None,
) -> Fitted:
    """Trains a cohort until its last trial has stopped.

    Args:
      cohort: from `plan.make_cohorts`.
      dataset: the aligned pairs.
      parts: int8 [F, M], from `splits.split_pairs`; test rows are never looked at.
      start: where trials begin whose experiment names it in `init_from`; its scaling is kept, so
        that they begin as the same function.
      restore: given the shapes of the state, returns where an earlier run stood, or None.
      on_epoch: called after every epoch; what it raises ends the training.
    """
    begun = time.perf_counter()
    common = cohort.choices
    static = make_static(cohort)
    data = make_data(cohort, dataset)
    if common.init_from:
        assert start is not None, "an experiment begins from a model that was not handed over"
        member = make_members(cohort, dataset, parts, (start.mean_D, start.inv_std_D))
        params = initial_params(start, common.loss)
        init = partial(start_cohort, static, member, params)
    else:
        member = make_members(cohort, dataset, parts)
        init = partial(init_cohort, static, member)
    progress = restore(jax.eval_shape(init))
    if progress is None:
        progress = Progress(init(), [], 0.0)
    begun -= progress.seconds
    rows = cohort_rows(cohort, dataset, parts, len(progress.history))
    while progress.num_running:
        state, metrics = cohort_epoch(static, data, member, progress.state, rows)
        # Sampling for the next epoch runs while the device works on this one.
        rows = cohort_rows(cohort, dataset, parts, len(progress.history) + 1)
        # The device waits here for the host to read a few numbers: too short to measure on a CPU,
        # and no epoch is trained for a cohort that has stopped.
        history = [*progress.history, jax.device_get(metrics)]
        progress = Progress(state, history, time.perf_counter() - begun)
        on_epoch(progress)
    state = progress.state
    scores_PN = np.array(cohort_scores(static.model, data, member, state.best_params))
    status_P = np.asarray(state.status)
    scores_PN[status_P == FAILED] = np.nan
    return Fitted(
        best_params=jax.device_get(state.best_params),
        mean_PD=np.asarray(member.mean_D),
        inv_std_PD=np.asarray(member.inv_std_D),
        scores_PN=scores_PN,
        status_P=status_P,
        epochs_run_P=np.asarray(state.epoch),
        best_epoch_P=np.asarray(state.best_epoch),
        history=jax.tree.map(lambda *leaves: np.stack(leaves), *progress.history),
        seconds=time.perf_counter() - begun,
    )
