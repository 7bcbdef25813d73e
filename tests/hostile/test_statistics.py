"""Statistics of data that nobody measured: strengths known otherwise, and many columns."""

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from attack import case
from scipy.optimize import brentq

from jaxrank import baselines
from jaxrank.audit.projection import components
from jaxrank.data.dataset import Dataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import bradley_terry

CLOSE = 1e-6
# Heuristic baselines beside which there may be chance and position.
MOST_HEURISTICS = 70


def dataset_of(edges: list[tuple[int, int, float]], series: str = "1") -> Dataset:
    """Photos 0, 1, ... and the share that prefers the first of each pair."""
    rows = [(series, f"{a:06d}", f"{b:06d}", p) for a, b, p in edges]
    frame = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    photos = sorted({*frame["image_a"], *frame["image_b"]})
    block = Block(photos, ["x"], np.arange(len(photos), dtype=np.float32)[:, None])
    return align(Preferences(frame), {"iqa": block})


def strengths(edges: list[tuple[int, int, float]]) -> np.ndarray:
    data = dataset_of(edges)
    preference = data.table["preference"].to_numpy(float)
    fitted = bradley_terry.fit(data.pair_rows_M2, preference, len(data.photos))
    assert fitted.converged
    found = fitted.strength_N
    by_photo = dict(zip(data.photos, found, strict=True))
    return np.array([by_photo[name] for name in sorted(by_photo)])


def difference(preference: float) -> float:
    """Of two photos that nothing else joins: where the slope of the penalised likelihood is 0."""

    def slope(d: float) -> float:
        return preference - 1 / (1 + np.exp(-d)) - bradley_terry.RIDGE * d

    return float(brentq(slope, -50, 50, xtol=1e-12))


def tree(parents: list[int], shares: list[float]) -> list[tuple[int, int, float]]:
    return [(parent, i + 1, p) for i, (parent, p) in enumerate(zip(parents, shares, strict=True))]


LONG = 300
TREES: list[Any] = [
    case("one pair", tree([0], [0.8])),
    case("one perfect pair", tree([0], [1.0])),
    case("one tie", tree([0], [0.5])),
    case("star", tree([0] * 50, [0.9] * 50)),
    case("perfect star", tree([0] * 200, [1.0] * 200)),
    case("chain", tree(list(range(20)), [0.7] * 20)),
    case("perfect chain", tree(list(range(40)), [1.0] * 40)),
    case("long chain", tree(list(range(LONG)), [0.9] * LONG)),
    case("long perfect chain", tree(list(range(LONG)), [1.0] * LONG)),
    case("binary tree", tree([i // 2 for i in range(LONG)], [0.8] * LONG)),
    case("5000 photos", tree(list(range(4999)), [1.0] * 4999)),
    case("extreme shares", tree(list(range(6)), [1e-12, 1 - 1e-12, 0.5, 0.0, 1.0, 1e-300])),
]


@pytest.mark.parametrize("edges", TREES)
def test_strengths_of_a_tree_are_those_of_its_edges(edges: list[tuple[int, int, float]]) -> None:
    """Without a circle each pair has the difference that it would have alone."""
    found = strengths(edges)
    assert np.isfinite(found).all()
    assert abs(found.mean()) < CLOSE
    for a, b, preference in edges:
        assert abs(found[a] - found[b] - difference(preference)) < CLOSE


def newton(edges: list[tuple[int, int, float]]) -> np.ndarray:
    """The maximum by dense Newton steps."""
    a, b = (np.array([edge[i] for edge in edges]) for i in (0, 1))
    preference = np.array([edge[2] for edge in edges])
    size = int(max(a.max(), b.max())) + 1
    incidence = np.zeros((len(edges), size))
    incidence[np.arange(len(edges)), a] = 1
    incidence[np.arange(len(edges)), b] = -1
    strength = np.zeros(size)
    for _ in range(200):
        d = incidence @ strength
        share = 1 / (1 + np.exp(-d))
        slope = incidence.T @ (preference - share - bradley_terry.RIDGE * d)
        curvature = (incidence.T * (share * (1 - share) + bradley_terry.RIDGE)) @ incidence
        step = np.linalg.lstsq(curvature, slope, rcond=1e-12)[0]
        strength = strength + step / max(1.0, np.abs(step).max() / 2)
        if np.abs(step).max() < 1e-10:
            break
    return strength - strength.mean()


def everyone(size: int, share: float) -> list[tuple[int, int, float]]:
    return [(i, j, share) for i in range(size) for j in range(i + 1, size)]


def drawn(size: int, pairs: int) -> list[tuple[int, int, float]]:
    rng = np.random.default_rng(0)
    chain = [(i, i + 1, float(rng.uniform())) for i in range(size - 1)]
    more = rng.integers(0, size, (pairs, 2))
    return chain + [(int(i), int(j), float(rng.integers(0, 2))) for i, j in more if abs(i - j) > 1]


GRAPHS: list[Any] = [
    case("circle", [(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)]),
    case("all ties", everyone(12, 0.5)),
    case("perfect order", everyone(20, 1.0)),
    case("long perfect order", everyone(60, 1.0)),
    case("drawn", drawn(100, 300)),
    case("drawn and sparse", drawn(300, 50)),
]


@pytest.mark.parametrize("edges", GRAPHS)
def test_strengths_are_those_of_newtons_method(edges: list[tuple[int, int, float]]) -> None:
    found = strengths(edges)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, newton(edges), atol=CLOSE)


def test_photos_that_no_pair_joins_have_mean_zero_each() -> None:
    found = strengths([(0, 1, 0.9), (2, 3, 1.0), (3, 4, 1.0)])
    assert abs(found[:2].mean()) < CLOSE
    assert abs(found[2:].mean()) < CLOSE


@pytest.mark.parametrize("columns", [case("3000", 3000), case("500", 500)])
def test_many_columns_are_not_as_many_baselines(columns: int) -> None:
    edges = tree(list(range(20)), [0.7] * 20)
    data = dataset_of(edges)
    values = np.random.default_rng(0).standard_normal((len(data.photos), columns))
    names = [f"c{i}" for i in range(columns)]
    block = Block(list(data.photos), names, values.astype(np.float32))
    wide = align(Preferences(data.table), {"iqa": block})
    assert len(baselines.heuristic_scores(wide)) <= MOST_HEURISTICS


@pytest.mark.parametrize("columns", [case("1500", 1500)])
def test_memory_of_the_projection_grows_with_the_smaller_side(columns: int) -> None:
    photos = 30
    values = np.random.default_rng(0).standard_normal((photos, columns)).astype(np.float32)
    group = np.arange(photos) // 3
    names = [str(i) for i in range(columns)]
    tracemalloc.start()
    try:
        found = components(values, {"clip": names}, group)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.shape[1] <= 64
    assert peak < 40 * values.nbytes < 4 * columns**2 * 4


@pytest.mark.parametrize("columns", [65, 200, 900])
def test_the_projection_keeps_distances_of_few_photos(columns: int) -> None:
    """Fewer photos than components: nothing is lost, whichever side is used."""
    values = np.random.default_rng(1).standard_normal((12, columns)).astype(np.float32)
    group = np.arange(12) // 3
    found = components(values, {"clip": [str(i) for i in range(columns)]}, group).astype(float)
    centred = values.astype(float)
    centred -= np.stack([centred[group == g].mean(axis=0) for g in range(4)])[group]
    centred /= np.sqrt((centred**2).mean(axis=0))
    wanted = centred @ centred.T
    np.testing.assert_allclose(found @ found.T, wanted * 12 / np.trace(wanted), atol=1e-3)
