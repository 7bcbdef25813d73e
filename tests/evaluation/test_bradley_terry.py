"""Strengths against closed forms, and against the equations that they must satisfy."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from jaxrank.data.dataset import align, content_hash
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences, from_frame
from jaxrank.evaluation import bradley_terry, ranking
from jaxrank.evaluation.bradley_terry import RIDGE, fit


def votes(rows_M2: np.ndarray, spread: float, seed: int) -> np.ndarray:
    """Five votes a pair, by strengths of such a deviation."""
    rng = np.random.default_rng(seed)
    strength_N = spread * rng.standard_normal(rows_M2.max() + 1)
    return rng.binomial(5, expit(strength_N[rows_M2[:, 0]] - strength_N[rows_M2[:, 1]])) / 5


def random_pairs(num_photos: int, num_pairs: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.integers(num_photos, size=num_pairs)
    return np.stack([a, (a + rng.integers(1, num_photos, size=num_pairs)) % num_photos], axis=1)


def test_a_chain_of_5000_photos_has_the_differences_of_its_pairs() -> None:
    chains = [np.stack([np.arange(4999), np.arange(1, 5000)], axis=1) + 5000 * c for c in range(4)]
    rows = np.concatenate(chains)
    preference = votes(rows, 3.0, 0)
    # No pair closes a circle, so each one's difference is the maximum of its own loss.
    exact = {
        p: brentq(lambda d, p=p: expit(d) - p + RIDGE * d, -9, 9, xtol=1e-15)
        for p in np.unique(preference)
    }
    differences = np.array([exact[p] for p in preference]).reshape(4, 4999)
    expected = np.column_stack([np.zeros(4), -np.cumsum(differences, axis=1)])
    expected -= expected.mean(axis=1, keepdims=True)
    assert expected.max() > 100
    fitted = fit(rows, preference, 20_000)
    assert fitted.converged
    np.testing.assert_allclose(fitted.strength_N, expected.ravel(), atol=1e-8)


@pytest.mark.parametrize(
    ("num_photos", "num_pairs", "spread"), [(300, 2000, 1.0), (300, 2000, 10.0), (400, 600, 3.0)]
)
def test_strengths_are_the_maximum(num_photos: int, num_pairs: int, spread: float) -> None:
    """Some photos win all they are in, some are in no pair; some pairs appear twice."""
    rows = random_pairs(num_photos, num_pairs, seed=1)
    rows = np.concatenate([rows, rows[:50, ::-1]])
    a, b = rows.T
    preference = votes(rows, spread, 1)
    fitted = fit(rows, preference, num_photos)
    assert fitted.converged
    exact_N = fitted.strength_N.astype(np.longdouble)
    d = exact_N[a] - exact_N[b]
    slope = 1 / (1 + np.exp(-d)) - preference + np.longdouble(RIDGE) * d
    gradient_N = np.zeros(num_photos, np.longdouble)
    np.add.at(gradient_N, a, slope)
    np.add.at(gradient_N, b, -slope)
    sides_MN = np.eye(num_photos)[a] - np.eye(num_photos)[b]
    chance = expit(d.astype(float))
    curvature_NN = sides_MN.T @ ((chance * (1 - chance) + RIDGE)[:, None] * sides_MN)
    error_N = np.linalg.pinv(curvature_NN, hermitian=True) @ gradient_N.astype(float)
    assert np.abs(error_N).max() < 1e-9
    assert np.abs(fitted.strength_N).max() > 1


def test_each_component_has_the_strengths_that_it_has_alone() -> None:
    """A thin one, which is factorised, a random one, and photos that are in no pair."""
    chain = np.stack([np.arange(999), np.arange(1, 1000)], axis=1)
    random = random_pairs(200, 1500, seed=2)
    alone = [fit(r, votes(r, 2.0, 3), r.max() + 1).strength_N for r in (chain, random)]
    order = np.random.default_rng(4).permutation(1300)
    rows = np.concatenate([order[chain], order[1000 + random]])
    preference = np.concatenate([votes(chain, 2.0, 3), votes(random, 2.0, 3)])
    together = fit(rows, preference, 1300).strength_N[order]
    np.testing.assert_allclose(together[:1200], np.concatenate(alone), atol=1e-8)
    assert (together[1200:] == 0).all()
    for component in (together[:1000], together[1000:1200]):
        assert component.mean() == pytest.approx(0, abs=1e-12)


def test_preferences_and_their_single_votes_give_the_same() -> None:
    rows = random_pairs(30, 60, seed=5)
    preference = votes(rows, 1.0, 5)
    single = np.repeat(rows, 5, axis=0)
    of_votes = (np.arange(5) < np.round(5 * preference)[:, None]).ravel().astype(float)
    # Five rows a pair have five times the ridge of one, as five times the pairs have.
    five = fit(np.concatenate([rows] * 5), np.concatenate([preference] * 5), 30)
    np.testing.assert_allclose(fit(single, of_votes, 30).strength_N, five.strength_N, atol=1e-9)


def test_a_fit_that_has_not_converged_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame(
        [("1", "a", "b", 0.9), ("1", "b", "c", 1.0), ("1", "a", "c", 0.2)],
        columns=["series_id", "image_a", "image_b", "preference"],
    )
    block = Block(["a", "b", "c"], ["x"], np.arange(3.0)[:, None])
    dataset = align(Preferences(table), {"iqa": block})
    assert "converged" not in ranking.ground_truth_strength(dataset)[1]
    monkeypatch.setattr(bradley_terry, "_MOST_STEPS", 1)
    assert "has not converged" in ranking.ground_truth_strength(dataset)[1]


def test_votes_weigh_pairs_as_so_many_rows_would() -> None:
    rows = random_pairs(40, 150, 3)
    counts = np.random.default_rng(3).integers(1, 7, size=len(rows))
    for_a = np.random.default_rng(4).binomial(counts, 0.6)
    single = np.concatenate(
        [np.r_[np.ones(a), np.zeros(n - a)] for a, n in zip(for_a, counts, strict=True)]
    )
    by_vote = fit(np.repeat(rows, counts, axis=0), single, 40).strength_N
    by_pair = fit(rows, for_a / counts, 40, counts.astype(float)).strength_N
    np.testing.assert_allclose(by_pair, by_vote, atol=1e-6)
    assert np.abs(by_pair - fit(rows, for_a / counts, 40).strength_N).max() > 0.1


def test_the_strengths_of_a_table_of_votes_are_weighted() -> None:
    """A triangle in which one pair has all the votes."""
    votes = pd.DataFrame(
        [("1", "a", "b", 90, 10), ("1", "b", "c", 1, 0), ("1", "a", "c", 0, 1)],
        columns=["series_id", "image_a", "image_b", "votes_a", "votes_b"],
    )
    block = Block(["a", "b", "c"], ["x"], np.arange(3, dtype=np.float32)[:, None])
    dataset = align(from_frame(votes), {"iqa": block})
    strength_N, source = ranking.ground_truth_strength(dataset)
    assert source == "Bradley-Terry strengths fitted to the votes"
    a, b, _ = strength_N[[list(dataset.photos).index(name) for name in "abc"]]
    assert a - b == pytest.approx(np.log(9), abs=0.1)  # unweighted: the circle evens it out
    fewer = align(from_frame(votes.assign(votes_a=[9, 1, 0], votes_b=[1, 0, 1])), {"iqa": block})
    assert (fewer.preference_M == dataset.preference_M).all()
    assert content_hash(fewer) != content_hash(dataset)
