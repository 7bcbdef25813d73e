"""Training: early stopping, no leaks, batches, dropout, losses equal to PyTorch's."""

import dataclasses
import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_data import NEVER_PAYS, TRIALS, cohorts_of, experiment, inputs_of, one_epoch

from jaxrank import losses, sampling, train
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.planning import planner
from jaxrank.planning.trials import Trial
from jaxrank.training import arrays
from jaxrank.training.state import FAILED, STOPPED, Progress


@pytest.mark.parametrize("learning_rate", [1e-30, 1.0, 1e30])
def test_any_finite_positive_learning_rate_runs(
    dataset: Dataset, parts: np.ndarray, learning_rate: float
) -> None:
    trial = Trial(experiment("a", max_epochs=2, learning_rate=learning_rate), 0, 0)
    (cohort,) = planner.make_cohorts([trial], SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    fitted = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    assert fitted.status_P[0] in (STOPPED, FAILED)


def test_early_stopping_is_the_rule_as_stated(dataset: Dataset, parts: np.ndarray) -> None:
    """Patience counts epochs without a strictly better validation accuracy; of equal epochs the
    first is chosen; nobody runs past its own max_epochs."""
    trials = [
        Trial(experiment("p2", learning_rate=1e-2, patience=2, max_epochs=25), fold, seed)
        for fold in range(3)
        for seed in range(3)
    ]
    trials.append(Trial(experiment("short", patience=50, max_epochs=3), 0, 0))
    (cohort,) = planner.make_cohorts(trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    seen: list[tuple[int, int]] = []
    fitted = train.fit(
        cohort,
        SplitDataset(dataset=dataset, splits_FM=parts),
        on_dispatch=lambda progress: seen.append((len(progress.history), progress.num_running)),
    )
    assert seen[-1] == (len(fitted.history.running), 0)
    assert len(set(fitted.epochs_run_P.tolist())) > 2  # else the test could not fail
    for p, trial in enumerate(trials):
        accuracy = fitted.history.val_accuracy[:, p]
        best, best_epoch, stale = -1.0, -1, 0
        for epoch in range(trial.experiment.max_epochs):
            if accuracy[epoch] > best:
                best, best_epoch, stale = float(accuracy[epoch]), epoch, 0
            else:
                stale += 1
            if stale == trial.experiment.patience:
                break
        assert fitted.best_epoch_P[p] == best_epoch
        assert fitted.epochs_run_P[p] == epoch + 1
        assert fitted.history.running[:, p].sum() == epoch + 1


def test_the_chosen_parameters_are_those_of_the_chosen_epoch(
    dataset: Dataset, parts: np.ndarray
) -> None:
    trials = [Trial(experiment("a", learning_rate=1e-2, max_epochs=12), fold, 0) for fold in (0, 1)]
    (cohort,) = planner.make_cohorts(trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    fitted = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    for p, trial in enumerate(trials):
        rows = np.flatnonzero(parts[trial.fold] == splits.VALIDATION)
        scores_a, scores_b = fitted.scores_PN[p][dataset.pair_rows_M2[rows]].T
        right = (scores_a > scores_b) == (dataset.preference_M[rows] > 0.5)
        directed = dataset.preference_M[rows] != 0.5
        chosen = fitted.history.val_accuracy[fitted.best_epoch_P[p], p]
        assert right[directed].mean() == pytest.approx(chosen, abs=1e-6)
        # The data have a linear quality: a model that learned nothing would be near 1/2.
        assert chosen > 0.65


def test_scaling_sees_training_photos_only(dataset: Dataset, parts: np.ndarray) -> None:
    (cohort,) = cohorts_of(TRIALS[:1], dataset, parts)
    train_rows = np.flatnonzero(parts[0] == splits.TRAIN)
    train_photos = np.unique(dataset.pair_rows_M2[train_rows])
    others = np.setdiff1d(np.arange(len(dataset.photos)), train_photos)
    assert len(others) > 10
    before = inputs_of(cohort, dataset, parts).scaling[0]
    changed = dataset.features_ND.copy()
    changed[others] = 1e3
    other = dataset._replace(features_ND=changed)
    for array, same in zip(before, inputs_of(cohort, other, parts).scaling[0], strict=True):
        np.testing.assert_array_equal(array, same)
    changed[train_photos] += 1
    moved = inputs_of(cohort, other, parts).scaling[0]
    assert np.abs(moved.knots_JK - before.knots_JK).max() > 0.5


def test_test_rows_stay_out_of_training_and_validation(dataset: Dataset, parts: np.ndarray) -> None:
    """Turning every test label round changes no parameter; a validation label does count."""
    trials = [Trial(experiment("a", learning_rate=1e-2, max_epochs=6), 0, 0)]
    (cohort,) = planner.make_cohorts(trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    before = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    for part, same in ((splits.TEST, True), (splits.VALIDATION, False)):
        rows = np.flatnonzero(parts[0] == part)
        preference = dataset.preference_M.copy()
        preference[rows] = 1 - preference[rows]
        after = train.fit(
            cohort, SplitDataset(dataset=dataset._replace(preference_M=preference), splits_FM=parts)
        )
        assert np.array_equal(before.history.val_loss, after.history.val_loss) == same
        assert np.array_equal(before.scores_PN, after.scores_PN) or not same


def test_trials_of_one_fold_and_seed_see_the_same_batches(
    dataset: Dataset, parts: np.ndarray
) -> None:
    (cohort,) = cohorts_of(TRIALS, dataset, parts)
    rows = np.asarray(arrays.cohort_rows(cohort, SplitDataset(dataset=dataset, splits_FM=parts), 1))
    np.testing.assert_array_equal(rows[0], rows[1])  # two experiments, one fold and seed
    assert (rows[2] != rows[3]).any()  # another seed
    for p, trial in enumerate(cohort.trials):
        used = np.sort(rows[p][rows[p] >= 0])
        expected = np.flatnonzero(parts[trial.fold] == splits.TRAIN)
        np.testing.assert_array_equal(used, expected)


def test_empty_places_in_a_batch_change_nothing(dataset: Dataset, parts: np.ndarray) -> None:
    # Not Adam, which makes whole steps of the rounding noise of sums in another order.
    e = experiment("a", dropout=0.0, optimizer="sgd", learning_rate=0.1)
    (cohort,) = cohorts_of([Trial(e, 0, 0)], dataset, parts)
    static = arrays.make_program_spec(cohort)
    data, scaling = inputs_of(cohort, dataset, parts)
    trial_arrays = arrays.make_trial_arrays(
        cohort, SplitDataset(dataset=dataset, splits_FM=parts), scaling
    )
    rows = arrays.cohort_rows(cohort, SplitDataset(dataset=dataset, splits_FM=parts), 0)
    padded = jnp.pad(rows, ((0, 0), (0, 0), (0, 7)), constant_values=-1)
    plain, plain_metrics = one_epoch(
        static, data, trial_arrays, train.init_cohort(static, trial_arrays), rows
    )
    wide, wide_metrics = one_epoch(
        static, data, trial_arrays, train.init_cohort(static, trial_arrays), padded
    )
    for first, second in zip(
        jax.tree.leaves((plain.params, plain_metrics)),
        jax.tree.leaves((wide.params, wide_metrics)),
        strict=True,
    ):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_batch_without_a_usable_pair_has_loss_zero_and_finite_parameters(
    dataset: Dataset, parts: np.ndarray
) -> None:
    (cohort,) = cohorts_of([Trial(experiment("a"), 0, 0)], dataset, parts)
    static = arrays.make_program_spec(cohort)
    data, scaling = inputs_of(cohort, dataset, parts)
    trial_arrays = arrays.make_trial_arrays(
        cohort, SplitDataset(dataset=dataset, splits_FM=parts), scaling
    )
    state = train.init_cohort(static, trial_arrays)
    rows = jnp.full((1, 2, 16), -1)
    state, metrics = one_epoch(static, data, trial_arrays, state, rows)
    assert float(metrics.train_loss[0]) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def every_loss_and_every_sampler() -> list[Any]:
    """All in pairs, but only each of them once in every run."""
    first = next(iter(losses.LOSSES)), next(iter(sampling.SAMPLERS))
    return [
        pytest.param(loss, sampler, marks=() if {loss, sampler} & {*first} else pytest.mark.long)
        for loss in losses.LOSSES
        for sampler in sampling.SAMPLERS
    ]


@pytest.mark.parametrize(("loss", "sampler"), every_loss_and_every_sampler())
def test_every_loss_and_sampler_learns(
    dataset: Dataset, parts: np.ndarray, loss: str, sampler: str
) -> None:
    changes = {"loss": loss, "sampler": sampler, "max_epochs": 15, "learning_rate": 5e-3}
    (cohort,) = planner.make_cohorts(
        [Trial(experiment("a", **changes), 0, 0)],
        SplitDataset(dataset=dataset, splits_FM=parts),
        2**30,
    )
    fitted = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    losses_by_epoch = fitted.history.train_loss[:, 0]
    assert losses_by_epoch[-1] < 0.9 * losses_by_epoch[0]
    assert fitted.history.val_accuracy.max() > 0.65


def test_a_test_photo_that_overflows_does_not_touch_training(
    dataset: Dataset, parts: np.ndarray
) -> None:
    """An empty place in a batch must read a pair of the trial_arrays's own part."""
    trials = [Trial(experiment("a", max_epochs=3, batch_size=7), fold, 0) for fold in range(3)]
    (cohort,) = planner.make_cohorts(trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    assert (
        np.asarray(arrays.cohort_rows(cohort, SplitDataset(dataset=dataset, splits_FM=parts), 0))
        < 0
    ).any()
    tested_in = parts[:, -1] == splits.TEST
    last_fold = int(np.flatnonzero(tested_in)[0])
    huge = dataset.features_ND.copy()
    huge[dataset.pair_rows_M2[-1]] = 3e38
    fitted = train.fit(
        cohort, SplitDataset(dataset=dataset._replace(features_ND=huge), splits_FM=parts)
    )
    plain = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    assert fitted.status_P[last_fold] == STOPPED
    np.testing.assert_array_equal(
        fitted.history.val_loss[:, last_fold], plain.history.val_loss[:, last_fold]
    )


def test_steps_without_a_pair_are_skipped(dataset: Dataset, parts: np.ndarray) -> None:
    """A fold with fewer pairs than steps trains as if the empty steps were not there."""
    trial = Trial(experiment("a", dropout=0.0, batch_size=200), 0, 0)
    (cohort,) = planner.make_cohorts([trial], SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    assert not cohort.skip_empty
    cohort = cohort._replace(skip_empty=True)
    static = arrays.make_program_spec(cohort)
    data, scaling = inputs_of(cohort, dataset, parts)
    trial_arrays = arrays.make_trial_arrays(
        cohort, SplitDataset(dataset=dataset, splits_FM=parts), scaling
    )
    rows = arrays.cohort_rows(cohort, SplitDataset(dataset=dataset, splits_FM=parts), 0)
    more = jnp.concatenate([rows, jnp.full((1, 5, rows.shape[2]), -1)], axis=1)
    params = []
    for batches in (rows, more):
        state = train.init_cohort(static, trial_arrays)
        state, _ = one_epoch(static, data, trial_arrays, state, batches)
        params.append(state.params)
    for first, second in zip(*map(jax.tree.leaves, params), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_one_huge_series_in_one_fold_asks_for_skipped_steps(parts: np.ndarray) -> None:
    series = np.r_[np.repeat(np.arange(30), 2), np.repeat(30, 200)].astype(np.int32)
    pairs = np.arange(2 * len(series), dtype=np.int32).reshape(-1, 2)
    huge = Dataset(
        table=None,
        kept_M=np.arange(len(series)),
        photos=np.arange(2 * len(series)),
        features_ND=np.zeros((2 * len(series), 2), np.float32),
        block_columns={"iqa": ("x", "y")},
        pair_rows_M2=pairs,
        preference_M=np.ones(len(series), np.float32),
        series_M=series,
        series_ids=np.array([str(i) for i in range(31)], object),
        notes=(),
    )
    parts = splits.split_series(huge.series_ids, folds=3)[:, series]
    trials = [Trial(experiment("a", sampler="distinct", blocks=("iqa",)), f, 0) for f in range(3)]
    (cohort,) = planner.make_cohorts(trials, SplitDataset(dataset=huge, splits_FM=parts), 2**30)
    assert cohort.num_batches == 200
    assert cohort.skip_empty


def test_photos_with_equal_features_tie(dataset: Dataset, parts: np.ndarray) -> None:
    trial = Trial(experiment("a", mlp_hidden_dims=(256,), max_epochs=1), 0, 0)
    (cohort,) = planner.make_cohorts([trial], SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    trial_arrays = arrays.make_trial_arrays(
        cohort,
        SplitDataset(dataset=dataset, splits_FM=parts),
        inputs_of(cohort, dataset, parts).scaling,
    )
    static = arrays.make_program_spec(cohort)
    state = train.init_cohort(static, trial_arrays)
    data = inputs_of(cohort, dataset, parts).data
    data = data._replace(
        features_ND=jnp.tile(data.features_ND[:1], (3000, 1)),
        normal_scores=jnp.tile(data.normal_scores[:1], (3000, 1)),
    )
    scores = np.asarray(
        train.cohort_scores(
            static, data, trial_arrays, state.params, np.ones(len(state.status), bool)
        )
    )
    assert scores.shape == (1, 3000)
    assert len(np.unique(scores)) == 1


def first_epoch(
    dataset: Dataset, parts: np.ndarray, rows: Any, start_epoch: int = 0, **changes: Any
) -> float:
    """The training loss of one epoch on given rows, with parameters that stay as they are."""
    changes = {"learning_rate": 1e-30, "weight_decay": 0.0} | changes
    (cohort,) = cohorts_of([Trial(experiment("a", **changes), 0, 0)], dataset, parts)
    static = arrays.make_program_spec(cohort)
    trial_arrays = arrays.make_trial_arrays(
        cohort,
        SplitDataset(dataset=dataset, splits_FM=parts),
        inputs_of(cohort, dataset, parts).scaling,
    )
    state = train.init_cohort(static, trial_arrays)
    state = state._replace(epoch=state.epoch + start_epoch)
    data = inputs_of(cohort, dataset, parts).data
    _, metrics = one_epoch(static, data, trial_arrays, state, jnp.asarray(rows)[None])
    return float(metrics.train_loss[0])


def test_dropout_is_drawn_anew_for_every_step_and_epoch(
    dataset: Dataset, parts: np.ndarray
) -> None:
    batch = list(range(16))
    without = first_epoch(dataset, parts, [batch], dropout=0.0)
    one_step = first_epoch(dataset, parts, [batch], dropout=0.5)
    two_steps = first_epoch(dataset, parts, [batch, batch], dropout=0.5)
    later = first_epoch(dataset, parts, [batch], start_epoch=1, dropout=0.5)
    assert len({round(loss, 5) for loss in (without, one_step, two_steps, later)}) == 4
    assert first_epoch(dataset, parts, [batch, batch], dropout=0.0) == pytest.approx(without)


def test_the_loss_has_the_trials_own_margin(dataset: Dataset, parts: np.ndarray) -> None:
    """Before any step, a wider margin adds its difference to every pair inside both."""
    batch = list(range(16))
    directed = (dataset.preference_M[batch] != 0.5).sum()
    assert directed == 16
    narrow = first_epoch(dataset, parts, [batch], dropout=0.0, margin=10.0)
    wide = first_epoch(dataset, parts, [batch], dropout=0.0, margin=15.0)
    assert wide - narrow == pytest.approx(5.0, abs=1e-4)


def test_a_patience_of_zero_keeps_the_last_epoch(dataset: Dataset, parts: np.ndarray) -> None:
    """With early stopping the same training keeps an earlier one."""
    trials = [Trial(experiment("a", learning_rate=1e-2, max_epochs=12, patience=p), 0, 0)
              for p in (0, 99)]  # fmt: skip
    results = [
        train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
        for trial in trials
        for cohort in cohorts_of([trial], dataset, parts)
    ]
    fixed, stopping = results
    np.testing.assert_array_equal(fixed.history.val_accuracy, stopping.history.val_accuracy)
    assert fixed.epochs_run_P[0] == 12
    assert fixed.best_epoch_P[0] == 11
    assert stopping.best_epoch_P[0] < 11
    assert (fixed.scores_PN != stopping.scores_PN).any()


def test_every_epoch_has_batches_of_its_own(
    dataset: Dataset, parts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cohort,) = cohorts_of([Trial(experiment("a", max_epochs=3, patience=9), 0, 0)], dataset, parts)
    seen = []

    def recorded(*arguments: Any) -> np.ndarray:
        seen.append(arrays.cohort_rows(*arguments))
        return seen[-1]

    monkeypatch.setattr(train, "cohort_rows", recorded)
    train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    assert len(seen) >= 3
    for first, second in itertools.pairwise(seen):
        assert (np.asarray(first) != np.asarray(second)).any()


def test_swapping_every_pair_flips_the_predictions_and_nothing_else(
    dataset: Dataset, parts: np.ndarray
) -> None:
    """Scores are antisymmetric, in training too: a pair has no first photo."""
    # Not Adam, see above.
    changes: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.1, "max_epochs": 3}
    trials = [Trial(experiment("a", dropout=0.0, **changes), 0, 0)]
    (cohort,) = planner.make_cohorts(trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**30)
    swapped = dataset._replace(
        pair_rows_M2=dataset.pair_rows_M2[:, ::-1].copy(),
        preference_M=(1 - dataset.preference_M).astype(np.float32),
    )
    plain, other = (
        train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts)),
        train.fit(cohort, SplitDataset(dataset=swapped, splits_FM=parts)),
    )
    np.testing.assert_allclose(plain.scores_PN, other.scores_PN, atol=1e-5)
    np.testing.assert_allclose(plain.history.val_loss, other.history.val_loss, atol=1e-5)
    difference = np.diff(plain.scores_PN[0][dataset.pair_rows_M2], axis=1)
    flipped = np.diff(other.scores_PN[0][swapped.pair_rows_M2], axis=1)
    np.testing.assert_allclose(difference, -flipped, atol=2e-5)
    assert np.abs(difference).max() > 0.1


@pytest.mark.parametrize("side_by_side", [True, pytest.param(False, marks=pytest.mark.long)])
def test_the_predicted_memory_is_near_what_the_compiler_allocates(side_by_side: bool) -> None:
    """At the real set's size; nothing is trained."""
    simulated = synthetic.simulate()
    dataset = align(simulated.pairs, simulated.features)
    parts = splits.split_pairs(dataset.table)
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    profile = dataclasses.replace(NEVER_PAYS, side_by_side=side_by_side)
    inputs = arrays.make_inputs(
        planner.make_cohorts(
            [TRIALS[0]], SplitDataset(dataset=dataset, splits_FM=parts), 2**40, profile
        )[0],
        SplitDataset(dataset=dataset, splits_FM=parts),
        [0],
    )
    for changes in (
        {"mlp_hidden_dims": (512, 256)},
        {"mlp_hidden_dims": (16,), "batch_size": 64},
        {"mlp_hidden_dims": (16,), "batch_size": 512},
        {"mlp_hidden_dims": (256,), "batch_size": 256, "optimizer": "sgd"},
        {"mlp_hidden_dims": (256,), "batch_size": 256, "feature_noise": 0.1},
        {"mlp_hidden_dims": (1024, 1024, 512), "batch_size": 64},
    ):
        for num_trials in (1, 4) if changes["mlp_hidden_dims"] == (16,) else (4,):
            trials = [Trial(experiment("a", **changes), 0, s) for s in range(num_trials)]
            cohort = planner.make_cohort(
                trials,
                dataset,
                planner.measure_folds(data),
                profile,
                trials[0].experiment.mlp_hidden_dims,
            )
            static = arrays.make_program_spec(cohort)
            trial_arrays = arrays.make_trial_arrays(
                cohort, SplitDataset(dataset=dataset, splits_FM=parts), inputs.scaling
            )
            state = jax.eval_shape(partial(train.init_cohort, static, trial_arrays))
            rows = jax.ShapeDtypeStruct(
                (num_trials, 1, cohort.num_batches, cohort.batch_size), jnp.int32
            )
            program = train.cohort_epochs.lower(
                static, inputs.data, trial_arrays, state, rows
            ).compile()
            analysis = program.memory_analysis()
            assert analysis is not None
            used = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
            assert 0.95 < cohort.memory_bytes / used < 1.15, (changes, num_trials)


@pytest.mark.parametrize("hidden", [(), (16,), (12, 8)])
@pytest.mark.parametrize("resumed", [False, True])
def test_nothing_is_compiled_while_a_cohort_trains(
    dataset: Dataset,
    parts: np.ndarray,
    hidden: tuple[int, ...],
    resumed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All of it was compiled by `compile_cohort`, at best while another cohort trained."""
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    base = experiment("a", mlp_hidden_dims=hidden, max_epochs=20, patience=20)
    cohorts = planner.make_cohorts([Trial(base, 0, 0), Trial(base, 1, 0)], data, 2**30)
    cohort = cohorts[0]._replace(epochs_per_dispatch=2)
    compiled = train.compile_cohort(cohort, data, device=jax.local_devices()[0])
    kept: list[Progress] = []

    def keep(progress: Progress) -> None:
        on_host = jax.tree.map(np.array, progress.state)
        kept.append(progress._replace(state=on_host))

    if resumed:
        train.fit(cohort, data, compiled=compiled, on_dispatch=keep, num_epochs=4)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        fitted = train.fit(
            cohort,
            data,
            compiled=compiled,
            restore=lambda shapes: kept[-1] if resumed else None,
        )
    assert len(fitted.history.running) > 2 * cohort.epochs_per_dispatch
    messages = [record.getMessage() for record in caplog.records]
    assert not [message for message in messages if "cohort_" in message], messages
