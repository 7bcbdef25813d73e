"""The order of the photos as a predictor."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from jaxrank.audit import photo_order
from jaxrank.audit.case import PASS, UNVERIFIED, WARN, AuditCase, CheckResult
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences


def series_of_two(later_wins: Sequence[bool] | np.ndarray) -> Dataset:
    """Of each series the first photo stands on either side."""
    rng = np.random.default_rng(0)
    rows, photos = [], []
    for s, later in enumerate(later_wins):
        numbers = rng.choice(np.arange(1, 300), 2, replace=False)
        a, b = (f"{s:04d}-{n}.jpg" for n in numbers)
        later_is_a = numbers[0] > numbers[1]
        rows.append((str(s), a, b, 0.9 if later == later_is_a else 0.1))
        photos += [a, b]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    block = Block(photos, ["x"], np.zeros((len(photos), 1), np.float32))
    return align(Preferences(table), {"iqa": block})


def checked(dataset: Dataset, deadline: float = np.inf) -> CheckResult:
    data = SplitDataset(dataset=dataset, splits_FM=np.zeros((1, len(dataset.table)), np.int8))
    case = AuditCase(table=dataset.table, data=data, compared=None, deadline=deadline)
    return photo_order.check(case, {})


def coin(num_series: int) -> np.ndarray:
    return np.random.default_rng(1).random(num_series) < 0.5


@pytest.mark.parametrize("later", [True, False])
def test_a_rule_in_half_of_the_pairs_warns(later: bool) -> None:
    wins = coin(400)
    wins[::2] = later
    result = checked(series_of_two(wins))
    assert result.verdict == WARN
    assert ("the later photo" if later else "the earlier photo") in result.headline
    assert "± 4.9 of the pairs, where 50% is expected" in result.headline
    assert "If they are votes, nothing is wrong" in result.advice
    order = result.facts.orders[0]
    assert order.order == photo_order.BY_NUMBER
    # Independent pairs: the standard error of a fair coin.
    assert order.accuracy == pytest.approx(wins.mean())
    assert order.standard_error == pytest.approx(0.5 / 20)


def test_numbers_that_say_nothing_pass() -> None:
    assert checked(series_of_two(coin(400))).verdict == PASS


def test_a_number_is_no_text() -> None:
    # As text 10 is before 9: the order of the names agrees less often.
    result = checked(series_of_two([True] * 400))
    number, name = result.facts.orders
    assert number.accuracy == 1.0
    assert 0.5 < name.accuracy < 0.95


def test_names_without_numbers_have_the_order_of_names_only() -> None:
    dataset = series_of_two(coin(200))
    letters = str.maketrans("0123456789", "abcdefghij")
    named = dataset._replace(photos=np.array([str(p).translate(letters) for p in dataset.photos]))
    assert [order.order for order in checked(named).facts.orders] == [photo_order.BY_NAME]


def test_a_slight_habit_over_many_pairs_is_no_fault() -> None:
    wins = np.arange(10_000) % 100 < 53
    result = checked(series_of_two(wins))
    assert result.facts.orders[0].z > photo_order.LEAST_Z
    assert result.verdict == PASS


def test_pairs_of_one_series_are_not_independent() -> None:
    wins = coin(400)
    wins[::2] = True
    dataset = series_of_two(wins)
    grouped = dataset._replace(series_M=dataset.series_M // 40)
    one, other = (photo_order.measure_orders(d).orders[0] for d in (dataset, grouped))
    assert one.accuracy == other.accuracy
    assert other.standard_error > 3 * one.standard_error


@pytest.mark.parametrize("later_wins", [[True] * 10, list(coin(100))])
def test_few_pairs_are_unverified(later_wins: list[bool]) -> None:
    result = checked(series_of_two(later_wins))
    assert result.verdict == UNVERIFIED
    assert result.label == "too few pairs to tell"


def test_twenty_series_of_one_order_warn() -> None:
    assert checked(series_of_two([True] * 20)).verdict == WARN


def test_without_time_nothing_is_said() -> None:
    result = checked(series_of_two(coin(400)), deadline=0.0)
    assert (result.verdict, result.facts) == (UNVERIFIED, None)
