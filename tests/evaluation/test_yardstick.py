"""The yardstick: the strongest baseline of each fold, chosen without test pairs."""

import numpy as np
import pandas as pd
import pytest
from small_data import experiment, result_of

from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import leaderboard, yardstick
from jaxrank.evaluation.evaluator import Evaluator, make_evaluator
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.yardstick import Competitor
from jaxrank.planning.trials import Trial

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


def baseline(name: str, *rows: list[float], judged: list[list[float]] | None = None) -> Competitor:
    """One row for all folds, or a row a fold."""
    return Competitor(
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
    assert found.label == "first in 1, last in 1 of 2 folds"
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
    position = Competitor(name="position", difference_FM=np.ones(4), competes=False)
    found = yardstick.strongest([wrong, position, CHANCE], evaluator, [0])
    assert found.label == "chance"
    even = baseline("even", [1, 1, -1, -1])  # fold 1: one of three right
    assert yardstick.strongest([even, CHANCE], evaluator, [1]).label == "chance"


def ranked(evaluator: Evaluator, *baselines: Competitor) -> Ranking:
    """One experiment that is right everywhere, in both folds."""
    scores = np.arange(8, 0, -1).astype(np.float32)
    results = [result_of(Trial(experiment("one"), fold, 0), scores) for fold in (0, 1)]
    return leaderboard.rank(results, evaluator, ["one"], [*baselines, CHANCE], {"one": 9})


def test_the_yardstick_of_several_folds_is_one_entry(evaluator: Evaluator) -> None:
    first, last = baseline("first", [1, 1, 1, 0]), baseline("last", [0, 1, 1, 1])
    found = ranked(evaluator, first, last)
    assert found.names == ("one", "first", "last", "chance", leaderboard.MIXED)
    assert found.yardstick_label == "first in 1, last in 1 of 2 folds"
    # Fold 0 tests the fourth pair with the first baseline, fold 1 the first pair with the last.
    np.testing.assert_allclose(found.by_test.mean, [1, 0.75, 0.75, 0.5, 0.5])
    # Without both test pairs they are equal; fold 1 has seen the fourth one, which speaks for last.
    assert found.strongest_without_F == ("first", "first")
    alone = ranked(evaluator, last, baseline("poor", [-1, -1, -1, 1]))
    assert alone.names[alone.yardstick] == alone.yardstick_label == "last"


def test_a_yardstick_that_tests_below_chance_is_replaced_by_chance(evaluator: Evaluator) -> None:
    rule = baseline("rule", [1, 1, 1, -1], [-1, 1, 1, 1])
    found = ranked(evaluator, rule)
    assert found.by_test.mean[found.names.index("rule")] == 0
    assert found.yardstick_label == found.names[found.yardstick] == "chance"
    assert found.by_test.to["baseline"].reference == found.by_test.to["chance"].reference
