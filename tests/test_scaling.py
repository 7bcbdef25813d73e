"""Normal scores and standardisation."""

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from jaxrank.scaling import (
    AUTO,
    NORMAL_SCORES,
    NUM_KNOTS,
    STANDARD,
    fit_scaling,
    normal_score_columns,
)


def test_normal_scores_by_hand() -> None:
    values = np.array([[7], [1], [2], [7], [99]], np.float32)
    scaling = fit_scaling(values, np.arange(4), [0])  # the last one does not train
    new = np.array([[1], [2], [7], [1.5], [-5], [99]], np.float32)
    # Ranks 1, 2 and 3.5 of four, less one half; between 1 and 2 half-way; clipped at the ends.
    low, middle, tied = norm.ppf([0.5 / 4, 1.5 / 4, 3 / 4])
    expected = [low, middle, tied, (low + middle) / 2, low, tied]
    np.testing.assert_allclose(scaling.normal_scores(new)[:, 0], expected, rtol=1e-6)
    trained = scaling.apply(values)[:4, 0]
    assert trained.mean() == pytest.approx(0, abs=1e-6)
    assert trained.std() == pytest.approx(1, rel=1e-5)
    assert values[1] == 1  # what was given stays


def test_many_photos_and_a_clip_are_met_by_few_knots() -> None:
    """Two fifths of the photos sit at the clip, as the real sharpness has it."""
    values = np.minimum(np.random.default_rng(0).exponential(size=(5000, 1)), 0.9)
    values = values.astype(np.float32)
    scaling = fit_scaling(values, np.arange(5000), [0])
    assert scaling.knots_JK.shape == (1, NUM_KNOTS)
    exact = norm.ppf((rankdata(values[:, 0]) - 0.5) / 5000)
    found = scaling.normal_scores(values)[:, 0]
    clipped = values[:, 0] == np.float32(0.9)
    assert clipped.mean() == pytest.approx(0.4, abs=0.02)
    np.testing.assert_allclose(found[clipped], exact[clipped], rtol=1e-6)
    inside = ~clipped & (np.abs(exact) < 2.5)
    assert np.abs(found - exact)[inside].mean() < 0.005
    assert (np.diff(found[np.argsort(values[:, 0], kind="stable")]) >= 0).all()


def test_columns_that_never_vary_say_nothing_and_others_are_standardised() -> None:
    values = np.array([[5, 1], [5, 3], [5, 8]], np.float32)
    scaling = fit_scaling(values, np.arange(3), [0])
    scaled = scaling.apply(np.array([[5, 4], [9, 4]], np.float32))
    np.testing.assert_array_equal(scaled[:, 0], 0)
    np.testing.assert_allclose(scaled[:, 1], 0, atol=1e-6)  # the mean of 1, 3, 8
    plain = fit_scaling(values, np.arange(3))
    np.testing.assert_array_equal(plain.inv_std_D[1], scaling.inv_std_D[1])


@pytest.mark.parametrize(
    ("input_scaling", "expected"),
    [(AUTO, [*range(33, 65)]), (STANDARD, []), (NORMAL_SCORES, [*range(65)])],
)
def test_blocks_of_few_columns_become_normal_scores(
    input_scaling: str, expected: list[int]
) -> None:
    columns = {"iqa": ["q"] * 32, "clip": ["c"] * 33, "other": ["x"]}
    chosen = normal_score_columns(columns, ["clip", "iqa"], input_scaling)
    assert chosen.tolist() == expected


@pytest.mark.parametrize("num_columns", [1, 2, 5, 65, 129])
def test_columns_that_are_fitted_a_few_at_a_time_have_the_bits_of_all_at_once(
    num_columns: int,
) -> None:
    rng = np.random.default_rng(3)
    raw = (1000 * rng.random(num_columns) + rng.standard_normal((3000, num_columns))).astype("f4")
    rows = np.sort(rng.choice(3000, 2000, replace=False))
    values = raw[rows].astype(np.float64)
    found = fit_scaling(raw, rows)
    np.testing.assert_array_equal(found.mean_D, values.mean(axis=0).astype(np.float32))
    np.testing.assert_array_equal(found.inv_std_D, (1 / values.std(axis=0)).astype(np.float32))
