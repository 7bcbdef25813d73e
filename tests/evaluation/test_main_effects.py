"""Main effects: by hand where that is possible, intervals and noise by simulation."""

import itertools

import numpy as np
import pytest

from jaxrank.evaluation.importances import MOST_EXPERIMENTS, importances
from jaxrank.evaluation.main_effects import main_effects

GRID = list(itertools.product(["0", "0.3", "0.5"], ["32", "64"], ["a", "b"]))
LEVELS = {key: [point[i] for point in GRID] for i, key in enumerate(("dropout", "batch", "loss"))}


def pairs_of(accuracy_X: np.ndarray, num_series: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Every series has one pair of weight 1, of which each experiment has its accuracy right."""
    weight_XS = np.ones((len(accuracy_X), num_series))
    return accuracy_X[:, None] * weight_XS, weight_XS


def test_an_additive_table_is_found_exactly() -> None:
    adds = {"0": 0.02, "0.3": 0.01, "0.5": -0.03, "32": 0.005, "64": -0.005, "a": 0.0, "b": 0.0}
    accuracy_X = np.array([0.6 + sum(adds[word] for word in point) for point in GRID])
    found = main_effects(LEVELS, *pairs_of(accuracy_X), np.zeros(len(GRID)))
    assert found is not None
    assert [(e.key, e.level, e.num_experiments) for e in found.effects] == [
        ("dropout", "0", 4), ("dropout", "0.3", 4), ("dropout", "0.5", 4),
        ("batch", "32", 6), ("batch", "64", 6), ("loss", "a", 6), ("loss", "b", 6),
    ]  # fmt: skip
    for effect in found.effects:
        assert effect.difference == pytest.approx(adds[effect.level], abs=1e-12)
        assert effect.accuracy == pytest.approx(0.6 + adds[effect.level], abs=1e-12)
        assert effect.low == pytest.approx(effect.high, abs=1e-9)  # no error at all
    assert found.noise_share == pytest.approx(0, abs=1e-9)
    squares = {"dropout": 4 * (4 + 1 + 9), "batch": 12 * 0.25, "loss": 0.0}
    for key, square in squares.items():
        assert found.shares[key] == pytest.approx(square / sum(squares.values()), abs=1e-9)


def test_other_hyperparameters_are_allowed_for() -> None:
    """Most of the high rates were tried with the better dropout: plain means would mislead."""
    levels = {"rate": ["1"] * 4 + ["2"] * 4, "dropout": ["x"] * 3 + ["y"] + ["x"] + ["y"] * 3}
    accuracy_X = np.array([0.6 + 0.1 * (d == "y") for r, d in zip(*levels.values(), strict=True)])
    found = main_effects(levels, *pairs_of(accuracy_X), np.zeros(8))
    assert found is not None
    rate = [e.difference for e in found.effects if e.key == "rate"]
    assert rate == pytest.approx([0, 0], abs=1e-12)
    means = [accuracy_X[:4].mean(), accuracy_X[4:].mean()]
    assert means[1] - means[0] == pytest.approx(0.05)


def test_a_conditional_hyperparameter_counts_where_it_is_there() -> None:
    levels: dict[str, list[str | None]] = {
        "optimizer": [*["adamw"] * 4, *["sgd"] * 6],
        "momentum": [*[None] * 4, *["0.5", "0.9"] * 3],
    }
    accuracy_X = np.array([0.7] * 4 + [0.6, 0.64] * 3)
    found = main_effects(levels, *pairs_of(accuracy_X), np.zeros(10))
    assert found is not None
    by_level = {e.level: e for e in found.effects}
    assert by_level["0.9"].accuracy == pytest.approx(0.64)
    assert by_level["0.5"].difference == pytest.approx(-0.02)
    assert by_level["adamw"].accuracy == pytest.approx(0.7)
    assert by_level["sgd"].accuracy == pytest.approx(0.62)


def test_few_experiments_or_series_have_no_model() -> None:
    accuracy_X = np.linspace(0.5, 0.6, len(GRID))
    assert main_effects(LEVELS, *pairs_of(accuracy_X, 9), np.zeros(len(GRID))) is None
    few = {key: values[:6] for key, values in LEVELS.items()}
    assert main_effects(few, *pairs_of(accuracy_X[:6]), np.zeros(6)) is None
    assert main_effects(LEVELS, *pairs_of(accuracy_X), np.zeros(len(GRID))) is not None


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_intervals_cover_and_noise_is_told(spread: float) -> None:
    """Without an effect, with what other hyperparameters and seeds do (`spread`) and without:
    intervals hold zero in 95% of searches, and the share of noise is what was put in."""
    rng = np.random.default_rng(0)
    searches, num_series = 300, 400
    covered, shares = [], []
    explained: list[float] = []
    for _ in range(searches):
        truth_X = 0.6 + spread * rng.standard_normal(len(GRID))
        ease_S = rng.standard_normal(num_series)
        chance_XS = truth_X[:, None] + 0.1 * ease_S
        hits_XS = (rng.random(chance_XS.shape) < chance_XS).astype(float)
        found = main_effects(LEVELS, hits_XS, np.ones_like(hits_XS), np.zeros(len(GRID)))
        assert found is not None
        covered += [e.low <= 0 <= e.high for e in found.effects]
        shares.append(found.noise_share)
        explained += found.shares.values()
    assert 0.93 < np.mean(covered) < 0.985
    assert np.mean(explained) < 0.12  # of three that explain nothing; never negative
    noise = 0.6 * 0.4 / num_series
    assert np.mean(shares) == pytest.approx(
        noise / (noise + spread**2), abs=0.12 if spread == 0 else 0.15
    )


def test_importances_stand_beside_those_of_chance() -> None:
    rng = np.random.default_rng(0)
    values: dict[str, list[float | str | None]] = {
        "loss": ["a", "b", "c", "d"] * 25,
        "momentum": [None, *rng.uniform(0, 1, 99)],
        "optimizer": [*["adamw"] * 50, *["sgd"] * 50],
    }
    good_X = np.array([loss == "a" for loss in values["loss"]])
    found = importances(values, good_X + 0.01 * rng.standard_normal(100))
    assert found is not None
    for of in ("share", "by_chance"):
        assert sum(getattr(one, of) for one in found.values()) == pytest.approx(1)
    many = {"rate": list(rng.uniform(0, 1, MOST_EXPERIMENTS + 1))}
    assert importances(many, np.zeros(MOST_EXPERIMENTS + 1)) is None
