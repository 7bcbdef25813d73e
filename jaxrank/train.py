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

from jaxrank import losses, sampling, splits
from jaxrank.features import Dataset, fit_scaling
from jaxrank.models import Dropout, Scorer
from jaxrank.plan import SCORING_CHUNK, Cohort, fold_rows

Array = jax.Array
Params = Any

RUNNING, STOPPED, FAILED = 0, 1, 2
# What a member's key is folded with, before the step's number for dropout.
_INIT, _DROPOUT = 0, 1


class Data(NamedTuple):
    """What all members share."""

    features_ND: Array  # float32, raw
    pairs_M2: Array  # int32, rows of features_ND
    preference_M: Array  # float32


class Member(NamedTuple):
    """One trial as data."""

    key: Array
    learning_rate: Array
    weight_decay: Array
    dropout: Array
    margin: Array
    mean_D: Array
    inv_std_D: Array
    val_rows_CB: Array  # int32, rows of pairs_M2, EMPTY where there is none
    max_epochs: Array
    patience: Array


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


def _optimizer(member: Member) -> optax.GradientTransformation:
    return optax.adamw(member.learning_rate, weight_decay=member.weight_decay)


def init_member(model: Scorer, member: Member) -> TrainState:
    params = model.init(jax.random.fold_in(member.key, _INIT), member.mean_D[None])
    return TrainState(
        params=params,
        opt_state=_optimizer(member).init(params),
        epoch=jnp.int32(0),
        best_params=jax.tree.map(jnp.copy, params),  # a copy: the state is donated
        best_score=jnp.float32(-jnp.inf),
        best_epoch=jnp.int32(-1),
        stale=jnp.int32(0),
        status=jnp.int32(RUNNING),
    )


def score_photos(
    model: Scorer, member: Member, params: Params, raw_BD: Array, dropout: Dropout | None = None
) -> Array:
    """Scores [B] of raw features [B, D]."""
    return model.apply(params, (raw_BD - member.mean_D) * member.inv_std_D, dropout)


def _differences(
    model: Scorer,
    data: Data,
    member: Member,
    params: Params,
    rows_B: Array,
    dropout: Dropout | None = None,
) -> Array:
    """score_a - score_b [B] of pairs; both photos in one pass through the model."""
    photos = data.pairs_M2[rows_B].T.reshape(-1)
    scores = score_photos(model, member, params, data.features_ND[photos], dropout)
    return scores[: len(rows_B)] - scores[len(rows_B) :]


def member_epoch(
    model: Scorer,
    loss: losses.Loss,
    data: Data,
    member: Member,
    state: TrainState,
    rows_SB: Array,
) -> tuple[TrainState, EpochMetrics]:
    """One epoch of one member: S steps, then validation, then the bookkeeping of the best epoch.

    Args:
      model, loss: static.
      data: shared by all members.
      member: the trial.
      state: where it stands.
      rows_SB: int32 [S, B], rows of `data.pairs_M2`, EMPTY (-1) where there is none.

    A member that has stopped or failed trains on, which costs less than a branch; only its
    `best_*`, `epoch` and `status` are guarded.
    """
    optimizer = _optimizer(member)
    epoch_key = jax.random.fold_in(jax.random.fold_in(member.key, _DROPOUT), state.epoch)

    def sums(difference_B: Array, rows_B: Array) -> tuple[Array, Array]:
        """Sums over a batch of loss and hits [2], and the number of pairs in each [2]."""
        preference = data.preference_M[rows_B]
        value, weight = jnp.stack(
            [
                jnp.stack(loss(difference_B, preference, member.margin)),
                jnp.stack(losses.hits(difference_B, preference)),
            ],
            axis=1,
        )
        weight = weight * (rows_B != sampling.EMPTY)
        return jnp.sum(jnp.where(weight > 0, value, 0.0), axis=1), jnp.sum(weight, axis=1)

    def step(carry: tuple, step_rows: tuple) -> tuple[tuple, tuple]:
        params, opt_state = carry
        index, rows_B = step_rows
        dropout = Dropout(member.dropout, jax.random.fold_in(epoch_key, index))

        def batch_loss(params: Params) -> tuple[Array, tuple]:
            difference_B = _differences(model, data, member, params, rows_B, dropout)
            total, count = sums(difference_B, rows_B)
            return total[0] / jnp.maximum(count[0], 1.0), (total, count)

        gradients, batch_sums = jax.grad(batch_loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), batch_sums

    (params, opt_state), (total_S2, count_S2) = jax.lax.scan(
        step, (state.params, state.opt_state), (jnp.arange(len(rows_SB)), rows_SB)
    )
    train_loss, train_accuracy = _ratio(total_S2, count_S2)

    def validate(rows_B: Array) -> tuple[Array, Array]:
        return sums(_differences(model, data, member, params, rows_B), rows_B)

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
    """Scores [N] of all photos, a chunk at a time to bound the memory."""

    def score_one(raw_D: Array) -> Array:
        return score_photos(model, member, params, raw_D[None])[0]

    return jax.lax.map(score_one, data.features_ND, batch_size=2 * SCORING_CHUNK)


# The population axis: one vmap at the edge, and the state's memory is used again.
init_cohort = jax.jit(jax.vmap(init_member, (None, 0)), static_argnums=0)
cohort_epoch = jax.jit(
    jax.vmap(member_epoch, (None, None, None, 0, 0, 0)), static_argnums=(0, 1), donate_argnums=4
)
cohort_scores = jax.jit(jax.vmap(member_scores, (None, None, 0, 0)), static_argnums=0)


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
    on_epoch: Callable[[int, int], None] = lambda epochs, running: None,
) -> Fitted:
    """Trains a cohort until its last trial has stopped.

    Args:
      cohort: from `plan.make_cohorts`.
      dataset: the aligned pairs.
      parts: int8 [F, series], from `splits.split_series`; test rows are never looked at.
      on_epoch: called with the epochs done and the trials still running.
    """
    start = time.perf_counter()
    model = Scorer(cohort.hidden_dims)
    loss = losses.LOSSES[cohort.loss]
    columns = dataset.column_indices(cohort.blocks)
    data = Data(
        jnp.asarray(dataset.features_ND[:, columns]),
        jnp.asarray(dataset.pair_rows_M2),
        jnp.asarray(dataset.preference_M),
    )
    member = make_members(cohort, dataset, parts)
    state = init_cohort(model, member)
    history = []
    rows = cohort_rows(cohort, dataset, parts, 0)
    for epoch in range(max(trial.experiment.max_epochs for trial in cohort.trials)):
        state, metrics = cohort_epoch(model, loss, data, member, state, rows)
        # Sampling for the next epoch runs while the device works on this one.
        rows = cohort_rows(cohort, dataset, parts, epoch + 1)
        history.append(jax.device_get(metrics))
        num_running = int((np.asarray(state.status) == RUNNING).sum())
        on_epoch(epoch + 1, num_running)
        if num_running == 0:
            break
    scores_PN = np.array(cohort_scores(model, data, member, state.best_params))
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
        history=jax.tree.map(lambda *leaves: np.stack(leaves), *history),
        seconds=time.perf_counter() - start,
    )


def make_members(cohort: Cohort, dataset: Dataset, parts: np.ndarray) -> Member:
    """The cohort's trials as data; every leaf has a leading axis P."""
    columns = dataset.column_indices(cohort.blocks)
    folds = sorted({trial.fold for trial in cohort.trials})
    scaling, val_rows = {}, {}
    for fold in folds:
        train = fold_rows(parts, fold, dataset.series_M, splits.TRAIN)
        train_photos = np.unique(dataset.pair_rows_M2[train])
        scaling[fold] = fit_scaling(dataset.features_ND[:, columns], train_photos)
        val_rows[fold] = fold_rows(parts, fold, dataset.series_M, splits.VALIDATION)
    most = max(len(rows) for rows in val_rows.values())
    chunks = max(1, -(-most // SCORING_CHUNK))
    width = -(-most // chunks)

    def padded(rows: np.ndarray) -> np.ndarray:
        full = np.full(chunks * width, sampling.EMPTY, np.int32)
        full[: len(rows)] = rows
        return full.reshape(chunks, width)

    trials = cohort.trials
    experiments = [trial.experiment for trial in trials]
    key_data = np.array(
        [np.frombuffer(bytes.fromhex(t.identity)[:8], ">u4") for t in trials], np.uint32
    )

    def numbers(field: str, kind: type) -> Array:
        return jnp.asarray([getattr(e, field) for e in experiments], kind)

    return Member(
        key=jax.random.wrap_key_data(jnp.asarray(key_data), impl="threefry2x32"),
        learning_rate=numbers("learning_rate", jnp.float32),
        weight_decay=numbers("weight_decay", jnp.float32),
        dropout=numbers("dropout", jnp.float32),
        margin=numbers("margin", jnp.float32),
        mean_D=jnp.asarray([scaling[t.fold][0] for t in trials]),
        inv_std_D=jnp.asarray([scaling[t.fold][1] for t in trials]),
        val_rows_CB=jnp.asarray([padded(val_rows[t.fold]) for t in trials]),
        max_epochs=numbers("max_epochs", jnp.int32),
        patience=numbers("patience", jnp.int32),
    )


def cohort_rows(cohort: Cohort, dataset: Dataset, parts: np.ndarray, epoch: int) -> Array:
    """The batches of one epoch, int32 [P, S, B], as rows of the dataset.

    The order depends on fold and seed, not on the experiment: trials that differ only in
    hyperparameters see the same batches (common random numbers).
    """
    drawn: dict[tuple[int, int], np.ndarray] = {}
    for fold, seed in {(trial.fold, trial.seed) for trial in cohort.trials}:
        train = fold_rows(parts, fold, dataset.series_M, splits.TRAIN)
        places = sampling.epoch_rows(
            dataset.series_M[train],
            cohort.sampler,
            cohort.num_batches,
            cohort.batch_size,
            (seed, fold),
            epoch,
        )
        drawn[fold, seed] = np.where(places == sampling.EMPTY, sampling.EMPTY, train[places])
    return jnp.asarray(np.stack([drawn[t.fold, t.seed] for t in cohort.trials]), jnp.int32)
