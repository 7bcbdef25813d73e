"""Every program of training lowers for GPUs and TPUs on a machine that has neither.

Lowering makes StableHLO and applies JAX's rules for the platform; compiling it needs the device.
"""

import dataclasses
import re
from typing import Any

import jax
import numpy as np
import pytest
from small_data import (
    AUGMENTED_TRIALS,
    NEVER_PAYS,
    TRIALS,
    card_of,
    experiment,
    inputs_of,
)

from jaxrank import train
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.models import PRECISIONS
from jaxrank.planning import planner
from jaxrank.planning.trials import Trial
from jaxrank.training import epoch
from jaxrank.training.arrays import make_program_spec
from jaxrank.training.state import InitialWeights

PLATFORMS = ("cuda", "tpu")
# More than 64 units read more than 64: the products that have a precision.
WIDE: dict[str, Any] = {"mlp_hidden_dims": (80, 70), "max_epochs": 2}
COHORTS = {
    "plain": TRIALS,
    "everything": AUGMENTED_TRIALS,
    "padded": [Trial(experiment(f"w{h}", mlp_hidden_dims=(h,)), 0, 0) for h in (4, 8)],
    "linear": [Trial(experiment("linear", mlp_hidden_dims=(), loss="logistic"), 0, 0)],
    "standard": [Trial(experiment("s", input_scaling="standard", sampler="series_aware"), 0, 0)],
    "tuned": [Trial(experiment("t", init_from="0" * 64, loss="davidson"), 0, 0)],
}


class Lowered:
    """A program that is lowered for other platforms where it should be compiled for this one."""

    def __init__(self, name: str, program: Any, texts: dict[str, dict[str, str]]):
        self.name, self.program, self.texts = name, program, texts

    def __call__(self, *arguments: Any) -> Any:
        return self.program(*arguments)  # by eval_shape

    def lower(self, *arguments: Any) -> "Lowered":
        traced = self.program.trace(*arguments)
        self.texts[self.name] = {
            platform: traced.lower(lowering_platforms=(platform,)).as_text()
            for platform in PLATFORMS
        }
        return self

    def compile(self) -> None:
        """Not here."""


def lowered(
    trials: list[Trial],
    dataset: Dataset,
    parts: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    side_by_side: bool = True,
) -> dict[str, dict[str, str]]:
    """The text of each program that `compile_cohort` compiles, by name and platform."""
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    profile = dataclasses.replace(NEVER_PAYS, side_by_side=side_by_side)
    (cohort,) = planner.make_cohorts(trials, data, 2**40, profile)
    texts: dict[str, dict[str, str]] = {}
    for name in ("init_cohort", "start_cohort", "cohort_epochs", "cohort_scores"):
        monkeypatch.setattr(train, name, Lowered(name, getattr(epoch, name), texts))
    start = None
    if cohort.program_key.init_from:
        own = cohort._replace(program_key=dataclasses.replace(cohort.program_key, init_from=""))
        model = make_program_spec(cohort).model
        params = model.init(jax.random.key(0), np.zeros((1, cohort.input_dim), np.float32))
        start = InitialWeights(params, inputs_of(own, dataset, parts).scaling[0])
    train.compile_cohort(cohort, data, start=start)
    return texts


@pytest.mark.parametrize(
    ("name", "side_by_side"),
    [*((name, True) for name in COHORTS), ("plain", False), ("everything", False)],
)
def test_every_program_of_a_cohort_lowers(
    name: str,
    side_by_side: bool,
    dataset: Dataset,
    parts: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = lowered(COHORTS[name], dataset, parts, monkeypatch, side_by_side)
    first = "start_cohort" if name == "tuned" else "init_cohort"
    assert list(texts) == [first, "cohort_epochs", "cohort_scores"]
    for program, by_platform in texts.items():
        for platform, text in by_platform.items():
            assert "stablehlo." in text
            # Nothing calls back to the host, computes with 64 bits, or has no deterministic form.
            for never in ("callback", "xf64>", "select_and_scatter"):
                assert never not in text, (program, platform, never)


def test_compaction_and_saved_models_lower(
    dataset: Dataset, parts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    (cohort,) = planner.make_cohorts(TRIALS, data, 2**40, NEVER_PAYS)
    inputs = inputs_of(cohort, dataset, parts)
    arrays = train.make_trial_arrays(cohort, data, inputs.scaling)
    state = jax.eval_shape(lambda: epoch.init_cohort(make_program_spec(cohort), arrays))
    card = card_of(TRIALS[0].experiment)
    params = jax.tree.map(lambda leaf: leaf.update(shape=leaf.shape[1:]), state.params)
    rows = np.zeros((10, cohort.input_dim), np.float32)
    for traced in (
        epoch.take.trace(state, np.array([0, 2])),
        jax.jit(card.scorer.apply).trace(params, rows),
    ):
        for platform in PLATFORMS:
            assert "stablehlo." in traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precision_is_that_of_wide_products_in_training(
    precision: str, dataset: Dataset, parts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [Trial(experiment("p", precision=precision, **WIDE), 0, 0)]
    texts = lowered(trials, dataset, parts, monkeypatch)
    for platform in PLATFORMS:
        products = {
            program: re.findall(r"stablehlo\.dot_general .*", text[platform])
            for program, text in texts.items()
        }
        # Scores are exact, whatever the precision of training.
        assert len(products["cohort_scores"]) == 3
        assert all("[HIGHEST, HIGHEST]" in line for line in products["cohort_scores"])
        training = products["cohort_epochs"]
        exact = [line for line in training if "[HIGHEST, HIGHEST]" in line]
        # Of the layer of 70 units that read 80: forwards twice (a step, validation), backwards
        # to the weights and to the layer below.
        others = [line for line in training if line not in exact]
        assert len(others) == (0 if precision == "highest" else 4)
        assert len(exact) >= 4
        for line in others:
            if precision == "tf32":
                assert "[HIGH, HIGH]" in line
            else:
                assert re.search(r"\(tensor<\S+xbf16>, tensor<\S+xbf16>\) -> tensor<\S+xf32>", line)
