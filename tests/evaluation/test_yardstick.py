"""The yardstick: the strongest baseline of each fold, chosen without test pairs."""

import numpy as np
import pandas as pd
import pytest

from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import yardstick
from jaxrank.evaluation.evaluator import Evaluator, make_evaluator
from jaxrank.evaluation.yardstick import Baseline

NAN = np.nan


@pytest.fixture
def evaluator() -> Evaluator:
    """Four pairs, photo a preferred in each; two folds."""
    names = [f"p{i}" for i in range(8)]
    rows = [(str(s), names[2 * s], names[2 * s + 1], 0.9) for s in range(4)]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    dataset = align(Preferences(table), {"iqa": Block(names, ["x"], np.arange(8.0)[:, None])})
    train, val, test = splits.TRAIN, splits.VALIDATION, splits.TEST
    folds = np.array([[train, train, val, test], [test, val, train, train]], np.int8)
    return make_evaluator(SplitDataset(dataset=dataset, splits_FM=folds))


def baseline(name: str, *rows: list[float], judged: list[list[float]] | None = None) -> Baseline:
    """One row for all folds, or a row a fold."""
    return Baseline(
        name=name,
        difference_FM=np.array(rows if len(rows) > 1 else rows[0]),
        judged_FM=None if judged is None else np.array(judged),
    )


CHANCE = baseline("chance", [0, 0, 0, 0])


def test_each_fold_has_its_own_and_test_pairs_say_nothing(evaluator: Evaluator) -> None:
    first = baseline("first", [1, 1, 1, -1])  # wrong on what fold 0 tests
    last = baseline("last", [-1, 1, 1, 1])
    found = yardstick.strongest([first, last, CHANCE], evaluator, [0, 1])
    assert found.names == ("first", "last")
    np.testing.assert_array_equal(found.difference_FM, [[1, 1, 1, -1], [-1, 1, 1, 1]])
    assert found.label == "strongest baseline (first in 1, last in 1 of 2 folds)"
    assert yardstick.strongest([first, last, CHANCE], evaluator, [1]).label == "last"


def test_a_fitted_baseline_is_not_judged_by_what_it_was_fitted_on(evaluator: Evaluator) -> None:
    """It is right on every training pair, and wrong on validation pairs."""
    rows: list[list[float]] = [[1, 1, -1, 1], [1, -1, 1, 1]]
    rule = baseline("rule", [1, -1, 1, 1])
    judged = [[NAN, NAN, -1, 1], [NAN, -1, NAN, NAN]]
    fitted = baseline("ridge", *rows, judged=judged)
    assert yardstick.strongest([fitted, rule, CHANCE], evaluator, [0]).names == ("rule",)
    inner: list[list[float]] = [
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]  # inner out-of-fold predictions are right
    fitted = baseline("ridge", *rows, judged=inner)
    found = yardstick.strongest([fitted, rule, CHANCE], evaluator, [0])
    assert found.names == ("ridge",)
    np.testing.assert_array_equal(found.difference_FM[0], rows[0])


def test_worse_than_chance_and_position_are_never_the_yardstick(evaluator: Evaluator) -> None:
    wrong = baseline("wrong", [-1, -1, 1, 1])
    position = Baseline(name="position", difference_FM=np.ones(4), competes=False)
    found = yardstick.strongest([wrong, position, CHANCE], evaluator, [0])
    assert found.label == "chance"
    even = baseline("even", [1, 1, -1, -1])  # fold 1: one of three right
    assert yardstick.strongest([even, CHANCE], evaluator, [1]).label == "chance"
