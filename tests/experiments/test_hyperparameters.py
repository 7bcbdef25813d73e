"""Every hyperparameter does what it says: against PyTorch, by hand, or by what it leaves alone."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_data import ROOT, cohorts_of, experiment, inputs_of

from jaxrank import losses, train
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, l2_normalised
from jaxrank.experiments.hyperparameters import SCHEDULES
from jaxrank.models import Scorer
from jaxrank.planning.cohort import program_key
from jaxrank.planning.trials import Trial
from jaxrank.training import arrays
from jaxrank.training.epoch import start_state, trial_epoch
from jaxrank.training.step import Moment, batch_sums, draw_mix, learning_rate_factor

RECORDED = json.loads((ROOT / "tests" / "torch_losses.json").read_text())


def make_trial_arrays(dim: int, **changes: Any) -> arrays.TrialArrays:
    """One trial with nothing switched on."""
    hyperparameters: dict[str, Any] = {
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "dropout": 0.0,
        "margin": 1.0,
        "momentum": 0.0,
        "schedule": 0,
        "warmup_epochs": 0.0,
        "feature_noise": 0.0,
        "mixup": 0.0,
        "label_smoothing": 0.0,
        "max_epochs": 100,
        "patience": 100,
    }
    hyperparameters |= changes
    return arrays.TrialArrays(
        key=jax.random.key(0),
        hyperparameters={
            name: jnp.float32(value) if isinstance(value, float) else jnp.int32(value)
            for name, value in hyperparameters.items()
        },
        log_ties=jnp.float32(0.0),
        mean_D=jnp.zeros(dim),
        inv_std_D=jnp.ones(dim),
        first_photo=jnp.int32(0),
        val_rows_CB=jnp.zeros((1, 1), jnp.int32),
    )


def torch_run(work: dict[str, Any], run: dict[str, Any]) -> tuple[list[float], dict[str, Any]]:
    """The losses of one recorded run, trained here, and the weights after its last step."""
    weights = [np.array(w, np.float32) for w in work["weights"]]
    params: dict[str, Any] = {
        "params": {f"kernel_{i}": jnp.asarray(w.T) for i, w in enumerate(weights)}
    }
    for i, w in enumerate(weights[:-1]):  # the last bias cancels in every difference
        params["params"][f"bias_{i}"] = jnp.zeros(w.shape[1])
    data = arrays.DeviceData(
        jnp.asarray(work["features"], jnp.float32),
        jnp.asarray(work["pairs"], jnp.int32),
        jnp.asarray(work["preference"], jnp.float32),
        normal_scores=jnp.zeros((0, 0)),
    )
    trial_arrays = make_trial_arrays(
        data.features_ND.shape[1],
        learning_rate=RECORDED["learning_rate"],
        weight_decay=run["weight_decay"],
        margin=RECORDED["margin"],
        momentum=RECORDED["momentum"],
        schedule=SCHEDULES.index(run["schedule"]),
        max_epochs=jnp.int32(len(work["batches"])),
    )
    names = ("activation", "use_layernorm", "loss", "optimizer")
    dims = tuple(w.shape[1] for w in weights[:-1])
    e = experiment("e", mlp_hidden_dims=dims, **{name: run[name] for name in names})
    static = arrays.ProgramSpec(program_key(e))
    state = start_state(static, trial_arrays, params)
    epoch = jax.jit(trial_epoch, static_argnums=0)
    ours = []
    for batch in work["batches"]:  # one step an epoch, so that each step's loss is seen
        rows = jnp.asarray([batch], jnp.int32)
        state, metrics = epoch(static, data, trial_arrays, state, rows)
        ours.append(float(metrics.train_loss))
    assert len(ours) == 50
    assert max(ours) - min(ours) > 0.1  # the losses are not all alike
    return ours, state.params["params"]


@pytest.mark.parametrize("name", RECORDED["runs"])
def test_the_losses_of_fifty_steps_are_pytorchs(name: str) -> None:
    """Same weights, same batches, no dropout; recorded by benchmarks/record_torch_losses.py."""
    run = RECORDED["runs"][name]
    ours, _ = torch_run(RECORDED, run)
    np.testing.assert_allclose(ours, run["losses"], atol=1e-4)


def test_weights_are_pytorchs_where_photos_tie_in_an_input() -> None:
    """AdamW, 50 steps, four inputs, small batches of the sampler `distinct`.

    In the first batches some units see only pairs that tie in the first input, so the exact
    gradient of that weight is zero; AdamW would make whole steps of its rounding noise.
    """
    tied = RECORDED["tied"]
    x, pairs = np.array(tied["features"], np.float32), np.array(tied["pairs"])
    ties = x[pairs[:, 0], 0] == x[pairs[:, 1], 0]
    assert 0.6 < ties.mean() < 1
    ours, params = torch_run(tied, tied)
    np.testing.assert_allclose(ours, tied["losses"], atol=1e-5)
    for layer in (0, 2):
        trained = np.array(tied["trained"][f"{layer}.weight"])
        np.testing.assert_allclose(params[f"kernel_{layer // 2}"], trained, atol=2e-5)
    np.testing.assert_allclose(params["bias_0"], tied["trained"]["0.bias"], atol=2e-5)


def factors(num_steps: int, epochs: int, **changes: Any) -> np.ndarray:
    trial_arrays = make_trial_arrays(1, max_epochs=jnp.int32(epochs), **changes)
    return np.array(
        [
            learning_rate_factor(trial_arrays, num_steps, Moment(jnp.int32(epoch), jnp.int32(step)))
            for epoch in range(epochs)
            for step in range(num_steps)
        ]
    )


def test_the_learning_rate_stays_unless_it_is_scheduled() -> None:
    np.testing.assert_array_equal(factors(5, 3), np.ones(15))


def test_warm_up_rises_in_equal_steps_and_cosine_falls_to_zero() -> None:
    # 1.5 epochs of 4 steps are 6 steps.
    warm = factors(4, 3, warmup_epochs=1.5)
    np.testing.assert_allclose(warm, np.r_[np.arange(1, 7) / 6, np.ones(6)], rtol=1e-6)
    both = factors(4, 3, warmup_epochs=1.5, schedule=1)
    cosine: Any = optax.cosine_decay_schedule(1.0, decay_steps=6)
    np.testing.assert_allclose(both[:6], warm[:6], rtol=1e-6)
    np.testing.assert_allclose(both[6:], np.array([float(cosine(t)) for t in range(6)]), atol=1e-6)
    assert factors(10, 20, schedule=1)[-1] < 1e-3


def test_layernorm_gives_each_input_vector_mean_0_and_variance_1() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 7)).astype(np.float32) * 3 + 2
    model = Scorer((4,), "relu", use_layernorm=True)
    params = model.init(jax.random.key(1), x)
    assert {"kernel_0", "bias_0", "kernel_1"} == set(params["params"])  # it learns nothing itself
    normal = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    normalised: Any = model.apply(params, x)
    plain: Any = Scorer((4,)).apply(params, normal)
    np.testing.assert_allclose(normalised, plain, atol=1e-5)
    assert np.abs(np.asarray(Scorer((4,)).apply(params, x)) - plain).max() > 0.1


def test_l2_blocks_have_length_1_and_the_others_stay() -> None:
    inputs = np.array([[3, 4, 7], [0, 0, 1]], np.float32)
    columns = {"clip": ("a", "b"), "iqa": ("c",)}
    expected = np.array([[0.6, 0.8, 7], [0, 0, 1]])  # a vector of zeros has no direction
    np.testing.assert_allclose(l2_normalised(inputs, columns, ["clip"]), expected, rtol=1e-6)
    np.testing.assert_array_equal(l2_normalised(inputs, columns, []), inputs)
    both = l2_normalised(inputs, columns, ["clip", "iqa"])
    np.testing.assert_allclose(both, np.array([[0.6, 0.8, 1], [0, 0, 1]]), rtol=1e-6)


class Step:
    """One batch of the small data, seen by one trial_arrays."""

    def __init__(self, dataset: Dataset, parts: np.ndarray, **changes: Any):
        # A linear scorer, so that what augmentation does to inputs can be read from the scores.
        e = experiment("a", **{"mlp_hidden_dims": (), "dropout": 0.0, "loss": "logistic",
                                  "input_scaling": "standard"} | changes)  # fmt: skip
        (cohort,) = cohorts_of([Trial(e, 0, 0)], dataset, parts)
        self.static = arrays.make_program_spec(cohort)
        self.data, scaling = inputs_of(cohort, dataset, parts)
        stacked = arrays.make_trial_arrays(
            cohort, SplitDataset(dataset=dataset, splits_FM=parts), scaling
        )
        self.trial_arrays = jax.tree.map(lambda leaf: leaf[0], stacked)
        self.rows_B = arrays.cohort_rows(cohort, SplitDataset(dataset=dataset, splits_FM=parts), 0)[
            0, 0
        ]
        dim = self.data.features_ND.shape[1]
        kernel = 0.1 * np.random.default_rng(5).standard_normal((1, dim)).astype(np.float32)
        self.params = {"params": {"kernel_0": jnp.asarray(kernel)}}

    def mean_loss(self, moment: Moment | None) -> float:
        total, count = batch_sums(
            self.static,
            self.data,
            self.trial_arrays,
            self.params,
            self.rows_B,
            self.rows_B[0],
            moment,
        )
        return float(total[0] / count[0])


FIRST = Moment(jnp.int32(0), jnp.int32(0))
SECOND = Moment(jnp.int32(0), jnp.int32(1))


@pytest.mark.parametrize(
    "changes", [{"feature_noise": 0.5}, {"mixup": 0.4}, {"label_smoothing": 0.3}]
)
def test_augmentation_is_of_training_only(
    dataset: Dataset, parts: np.ndarray, changes: dict[str, float]
) -> None:
    plain, augmented = Step(dataset, parts), Step(dataset, parts, **changes)
    assert augmented.mean_loss(None) == pytest.approx(plain.mean_loss(None), rel=1e-6)
    assert abs(augmented.mean_loss(FIRST) - plain.mean_loss(FIRST)) > 1e-3


@pytest.mark.parametrize("changes", [{"feature_noise": 0.5}, {"mixup": 0.4}])
def test_augmentation_is_drawn_anew_each_step_and_again_the_same(
    dataset: Dataset, parts: np.ndarray, changes: dict[str, float]
) -> None:
    step = Step(dataset, parts, **changes)
    assert step.mean_loss(FIRST) == step.mean_loss(FIRST)
    later = Moment(jnp.int32(1), jnp.int32(0))
    assert len({step.mean_loss(moment) for moment in (FIRST, SECOND, later)}) == 3


def test_noise_has_the_stated_deviation_in_standardised_inputs(
    dataset: Dataset, parts: np.ndarray
) -> None:
    """Of a linear scorer w, differences move by w . (noise_a - noise_b): variance 2 s^2 |w|^2."""
    step = Step(dataset, parts, feature_noise=0.5)
    kernel = step.params["params"]["kernel_0"][0]

    all_prefer_a = step.data._replace(preference_M=jnp.ones_like(step.data.preference_M))

    def difference(moment: Moment | None) -> jax.Array:
        # The logistic loss of one pair with p = 1 is softplus(-d), from which d follows.
        row_B = step.rows_B[:1]
        total, _ = batch_sums(
            step.static, all_prefer_a, step.trial_arrays, step.params, row_B, row_B[0], moment
        )
        return -jnp.log(jnp.expm1(total[0]))

    moments = Moment(jnp.arange(2000), jnp.zeros(2000, jnp.int32))
    moved = np.asarray(jax.vmap(difference)(moments) - difference(None))
    expected = 0.5 * np.sqrt(2) * float(jnp.linalg.norm(kernel))
    assert moved.std() == pytest.approx(expected, rel=0.1)
    assert abs(moved.mean()) < 4 * expected / np.sqrt(2000)


def test_a_column_that_never_varies_stays_silent_under_noise(
    dataset: Dataset, parts: np.ndarray
) -> None:
    features = dataset.features_ND.copy()
    features[:] = 3.0
    step = Step(dataset._replace(features_ND=features), parts, feature_noise=0.5)
    assert step.mean_loss(FIRST) == pytest.approx(np.log(2), rel=1e-6)  # all scores are equal


def test_mixup_by_hand(dataset: Dataset, parts: np.ndarray) -> None:
    """The scorer is linear: mixed inputs have mixed differences, and both labels count."""
    step = Step(dataset, parts, mixup=0.4)
    mix = draw_mix(step.trial_arrays, step.rows_B, FIRST)
    share = float(mix.share)
    assert 0 < share < 1
    # The batch is not full, so its first pair is mixed with itself.
    rows = np.asarray(step.rows_B)
    filled = rows[rows >= 0]
    assert len(filled) < len(rows)
    other = np.r_[filled[0], filled[:-1]]
    x = dataset.inputs(("clip", "cnn", "iqa"))
    x = (x - np.asarray(step.trial_arrays.mean_D)) * np.asarray(step.trial_arrays.inv_std_D)
    kernel = np.asarray(step.params["params"]["kernel_0"][0])
    d = x[dataset.pair_rows_M2[:, 0]] @ kernel - x[dataset.pair_rows_M2[:, 1]] @ kernel
    mixed = share * d[filled] + (1 - share) * d[other]
    label = share * dataset.preference_M[filled] + (1 - share) * dataset.preference_M[other]
    expected = np.mean(np.log1p(np.exp(mixed)) - label * mixed)  # linear in the label
    assert step.mean_loss(FIRST) == pytest.approx(expected, rel=1e-4)


def test_mixups_share_is_from_the_beta_distribution(dataset: Dataset, parts: np.ndarray) -> None:
    step = Step(dataset, parts, mixup=0.4)
    moments = Moment(jnp.arange(4000), jnp.zeros(4000, jnp.int32))
    shares = jax.vmap(lambda m: draw_mix(step.trial_arrays, step.rows_B, m).share)(moments)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)).
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / (4 * 1.8), rel=0.05)


def expected_ties(difference: np.ndarray, log_ties: float) -> float:
    nu = np.exp(log_ties)
    return float(np.mean(nu / (np.exp(difference / 2) + np.exp(-difference / 2) + nu)))


@pytest.mark.parametrize("every", [4, 2, 0])
def test_davidson_learns_how_common_ties_are(
    dataset: Dataset, parts: np.ndarray, every: int
) -> None:
    """The likelihood equation of nu: as many ties expected as seen, whatever the learning rate."""
    preference = dataset.preference_M.copy()
    if every:
        preference[::every] = 0.5
    tied = dataset._replace(preference_M=preference)
    e = experiment("a", loss="davidson", learning_rate=1e-2, dropout=0.0, max_epochs=15)
    (cohort,) = cohorts_of([Trial(e, 0, seed) for seed in range(8)], tied, parts)
    fitted = train.fit(cohort, SplitDataset(dataset=tied, splits_FM=parts))
    log_ties_P = fitted.best_params["loss"]["log_ties"]
    rows = np.flatnonzero(parts[0] == splits.TRAIN)
    seen = float(np.mean(preference[rows] == 0.5))
    for p, log_ties in enumerate(log_ties_P):
        scores_a, scores_b = fitted.scores_PN[p][dataset.pair_rows_M2[rows]].T
        expected = expected_ties(scores_a - scores_b, float(log_ties))
        assert expected == pytest.approx(seen, abs=0.04)
    # What it starts from is right for equal photos only.
    start = losses.log_ties_at_chance(preference[rows])
    assert expected_ties(np.zeros(1), start) == pytest.approx(max(seen, 0.5 / len(rows)), rel=1e-4)
    if every:
        assert log_ties_P.mean() > start + 0.1


def test_the_start_of_log_ties_is_finite_without_and_with_ties_only() -> None:
    # Half a tie of 4 pairs: nu = 2 (1/8) / (7/8); half a pair that is none: nu = 2 (7/8) / (1/8).
    assert losses.log_ties_at_chance(np.full(4, 0.9)) == pytest.approx(np.log(2 / 7))
    assert losses.log_ties_at_chance(np.full(4, 0.5)) == pytest.approx(np.log(14))
