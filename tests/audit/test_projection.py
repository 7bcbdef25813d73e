"""Few numbers in place of many features; permutations inside series."""

from typing import Any

import numpy as np
import pytest
import scipy.linalg

from jaxrank.audit import projection
from jaxrank.data import dataset


def test_rows_are_permuted_inside_groups_and_every_order_is_as_likely() -> None:
    group = np.array([4, 1, 4, 1, 4, 0])
    rng = np.random.default_rng(0)
    orders = np.array([dataset.permuted_rows(group, rng) for _ in range(3000)])
    assert (group[orders] == group).all()
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 12  # 3! x 2! x 1!
    assert np.abs(counts - 250).max() < 5 * np.sqrt(250)


def test_components_follow_a_permutation_inside_series() -> None:
    rng = np.random.default_rng(1)
    series = np.repeat(np.arange(40), 3)
    features = rng.standard_normal((120, 90)).astype(np.float32)
    blocks = {"clip": [f"c{i}" for i in range(80)], "iqa": [f"q{i}" for i in range(10)]}
    before = projection.components(features, blocks, series)
    order = dataset.permuted_rows(series, rng)
    after = projection.components(features[order], blocks, series)
    assert before.shape == (120, projection.MOST_COMPONENTS + 10)
    # Distances, as a component's sign is free.
    rows = rng.integers(120, size=(50, 2))
    expected = np.linalg.norm(before[order][rows[:, 0]] - before[order][rows[:, 1]], axis=1)
    found = np.linalg.norm(after[rows[:, 0]] - after[rows[:, 1]], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert not np.allclose(before, after, atol=0.01)
    # Each block has the same weight, and the series' means are gone.
    squares = [(before[:, part] ** 2).sum(axis=1).mean() for part in (slice(64), slice(64, 74))]
    np.testing.assert_allclose(squares, 1.0, rtol=1e-4)
    np.testing.assert_allclose(before.reshape(40, 3, -1).mean(axis=1), 0.0, atol=1e-5)


def test_components_keep_the_directions_in_which_photos_of_a_series_differ() -> None:
    rng = np.random.default_rng(2)
    series = np.repeat(np.arange(200), 2)
    hidden = rng.standard_normal(400)
    direction = rng.standard_normal(100)
    features = np.outer(hidden, direction) + rng.standard_normal((400, 100))
    # The series differ by much more, in other directions.
    features += 20 * (rng.standard_normal((200, 30)) @ rng.standard_normal((30, 100)))[series]
    blocks = {"clip": [f"c{i}" for i in range(100)]}
    inputs = projection.components(features.astype(np.float32), blocks, series)
    shown = inputs[::2] - inputs[1::2]
    truth = hidden[::2] - hidden[1::2]
    fitted = shown @ np.linalg.lstsq(shown, truth, rcond=None)[0]
    assert np.corrcoef(fitted, truth)[0, 1] > 0.98


def squared_distances(inputs_NK: np.ndarray) -> np.ndarray:
    return ((inputs_NK[:, None] - inputs_NK[None]) ** 2).sum(axis=-1)


@pytest.mark.parametrize(("num_photos", "width"), [(90, 700), (42, 700), (700, 90)])
def test_components_are_exact_and_cost_the_smaller_side(
    monkeypatch: pytest.MonkeyPatch, num_photos: int, width: int
) -> None:
    """Their distances are those of a singular value decomposition."""
    rng = np.random.default_rng(3)
    features = rng.standard_normal((num_photos, width)) * (2 + np.arange(width) % 5)
    features = features @ (np.eye(width) + 0.3 * rng.standard_normal((width, width)))
    series = np.arange(num_photos) // 2
    sizes = []
    eigh = scipy.linalg.eigh

    def recorded(products: np.ndarray, **options: Any) -> Any:
        sizes.append(len(products))
        return eigh(products, **options)

    monkeypatch.setattr(scipy.linalg, "eigh", recorded)
    blocks = {"clip": [f"c{i}" for i in range(width)]}
    found = projection.components(features.astype(np.float32), blocks, series)
    assert found.shape == (num_photos, projection.MOST_COMPONENTS)
    assert found.dtype == np.float32
    assert sizes == [min(num_photos, width)]
    scaled = features.reshape(-1, 2, width)
    scaled = (scaled - scaled.mean(axis=1, keepdims=True)).reshape(-1, width)
    scaled /= scaled.std(axis=0)
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    exact = (left * singular)[:, : projection.MOST_COMPONENTS]
    exact /= np.sqrt((exact**2).sum(axis=1).mean())
    np.testing.assert_allclose(squared_distances(found), squared_distances(exact), atol=2e-4)


def test_many_photos_of_many_columns_are_projected_by_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It finds the directions that carry the differences, and takes bounded time."""
    monkeypatch.setattr(projection, "_MOST_EXACT", 200)
    monkeypatch.setattr(projection, "_SAMPLE", 150)
    rng = np.random.default_rng(4)
    hidden = rng.standard_normal((600, 5))
    features = hidden @ rng.standard_normal((5, 300)) + 0.1 * rng.standard_normal((600, 300))
    series = np.arange(600) // 3
    blocks = {"clip": [f"c{i}" for i in range(300)]}
    shown = projection.components(features.astype(np.float32), blocks, series)
    assert shown.shape == (600, projection.MOST_COMPONENTS)
    within = hidden.reshape(-1, 3, 5)
    truth = (within - within.mean(axis=1, keepdims=True)).reshape(-1, 5)
    fitted = shown @ np.linalg.lstsq(shown, truth, rcond=None)[0]
    assert np.corrcoef(fitted.ravel(), truth.ravel())[0, 1] > 0.99
