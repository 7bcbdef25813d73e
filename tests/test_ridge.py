"""The ridge that stands beside trained experiments."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from jaxrank import ridge


def make_pairs(num_series: int, dim: int, noise: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Series of three photos, all pairs, a linear appeal."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((3 * num_series, dim)).astype(np.float32)
    first = 3 * np.repeat(np.arange(num_series), 3)
    rows = first[:, None] + np.tile([[0, 1], [0, 2], [1, 2]], (num_series, 1))
    appeal = inputs[:, 0] - 0.5 * inputs[:, 1]
    target = (appeal[rows[:, 0]] - appeal[rows[:, 1]]) / 10
    target += noise * rng.standard_normal(len(rows))
    return inputs, rows, target.astype(np.float32), np.repeat(np.arange(num_series), 3)


@pytest.mark.parametrize(("num_series", "dim"), [(40, 5), (20, 90)])  # more photos, more columns
def test_it_is_scikit_learns_of_the_penalty_that_predicts_other_series(
    num_series: int, dim: int
) -> None:
    inputs, rows, target, series = make_pairs(num_series, dim, 0.3)
    x = (inputs[rows[:, 0]] - inputs[rows[:, 1]]).astype(np.float64)

    def fitted(factor: float, chosen: np.ndarray) -> np.ndarray:
        alpha = factor * (x**2).sum() / len(x)
        return Ridge(alpha=alpha, fit_intercept=False).fit(x[chosen], target[chosen]).coef_

    folds = list(GroupKFold(ridge.NUM_FOLDS).split(x, groups=series))
    errors = [
        sum(((target[out] - x[out] @ fitted(f, kept)) ** 2).sum() for kept, out in folds)
        for f in ridge.FACTORS
    ]
    best = int(np.argmin(errors))
    assert errors[best] < 0.999 * max(errors)
    expected = inputs @ fitted(ridge.FACTORS[best], np.arange(len(x)))
    found = ridge.fit_ridge(inputs, rows, target, series)
    np.testing.assert_allclose(found.scores_N, expected, rtol=1e-3, atol=1e-5)
    for kept, out in folds:
        unseen = x[out] @ fitted(ridge.FACTORS[best], kept)
        np.testing.assert_allclose(found.held_out_M[out], unseen, rtol=1e-3, atol=1e-5)


def test_it_never_holds_all_photos() -> None:
    inputs, rows, target, series = make_pairs(100, 5, 0.3)
    asked = []

    class Watched:
        """Inputs that record how many rows are asked for at once."""

        def __len__(self) -> int:
            return len(inputs)

        def __getitem__(self, some: Any) -> Any:
            asked.append(len(inputs[some]))
            return inputs[some]

    found = ridge.fit_ridge(Watched(), rows, target, series)
    np.testing.assert_array_equal(
        found.scores_N, ridge.fit_ridge(inputs, rows, target, series).scores_N
    )
    assert max(asked[:-1]) <= len(inputs) // ridge.NUM_FOLDS
    assert asked[-1] == len(inputs)  # few enough to be scored at once


def test_inputs_that_never_differ_and_a_single_series_are_no_error() -> None:
    inputs, rows, target, series = make_pairs(10, 4, 0.1)
    same = ridge.fit_ridge(np.ones_like(inputs), rows, target, series)
    assert not same.scores_N.any()
    assert not same.held_out_M.any()
    alone = ridge.fit_ridge(inputs[:3], rows[:3], target[:3], series[:3])
    assert np.isfinite(alone.scores_N).all()
    assert alone.scores_N.any()
    assert np.isnan(alone.held_out_M).all()
