"""A column that orders the pairs too well."""

import numpy as np
import pytest
from small_data import paired

from jaxrank.audit import target_leakage
from jaxrank.audit.case import PASS, UNVERIFIED, WARN, AuditCase, CheckResult
from jaxrank.data.dataset import Dataset, SplitDataset


def checked(dataset: Dataset, deadline: float = np.inf) -> CheckResult:
    data = SplitDataset(dataset=dataset, splits_FM=np.zeros((1, len(dataset.table)), np.int8))
    case = AuditCase(table=dataset.table, data=data, compared=None, deadline=deadline)
    return target_leakage.check(case, {})


def ordered(share: float, num_series: int = 400, width: int = 4) -> Dataset:
    """Column 1 orders this share of the series."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2 * num_series, width))
    preference = rng.choice([0.2, 0.9], num_series)
    right = np.arange(num_series) < share * num_series
    values[::2, 1] = np.where((preference > 0.5) == right, 1.0, -1.0)
    values[1::2, 1] = 0.0
    return paired(values, preference=preference)


@pytest.mark.parametrize(
    ("share", "width", "verdict"),
    [
        (1.0, 4, WARN),
        (0.0, 4, WARN),
        (1.0, 300, WARN),
        (0.92, 300, WARN),
        (0.86, 4, PASS),
        (0.7, 4, PASS),
    ],
)
def test_a_column_that_orders_nearly_all_pairs_warns(
    share: float, width: int, verdict: str
) -> None:
    result = checked(ordered(share, width=width))
    assert result.verdict == verdict
    best = result.facts.best[0]
    assert best.column == "iqa:c1"
    assert best.accuracy == pytest.approx(max(share, 1 - share))
    assert ("iqa:c1 alone orders" in result.headline) == (verdict == WARN)


def test_wilsons_lower_end_by_hand() -> None:
    # Of 100 all: 100 / (100 + z^2). Of 100 one half: (1/2 + z^2/200 - z sqrt(1/400 + z^2/40000))
    # / (1 + z^2/100).
    assert target_leakage._wilson_low(1.0, 100, 2.0) == pytest.approx(100 / 104)
    half = (0.5 + 0.02 - 2 * np.sqrt(0.0025 + 0.0001)) / 1.04
    assert target_leakage._wilson_low(0.5, 100, 2.0) == pytest.approx(half)


def test_pairs_of_one_series_are_not_independent() -> None:
    # The same pairs, but of ten series, which are right or wrong as a whole.
    dataset = ordered(0.92)
    grouped = dataset._replace(series_M=dataset.series_M // 40)
    few, many = (target_leakage.measure_columns(d).best[0].low for d in (grouped, dataset))
    assert few < 0.8 < many


@pytest.mark.parametrize(("num_series", "width"), [(21, 4), (9, 400)])
def test_few_pairs_are_unverified_whatever_the_columns_say(num_series: int, width: int) -> None:
    result = checked(ordered(1.0, num_series, width))
    assert result.verdict == UNVERIFIED
    assert result.label == "too few pairs to tell"
    assert checked(ordered(1.0, num_series=22, width=width)).verdict == WARN


def test_a_tie_counts_one_half_and_a_pair_without_a_direction_nothing() -> None:
    values = np.zeros((400, 1))
    values[:200:2] = 1.0  # orders 100 of 200 pairs, ties in the others
    preference = np.full(200, 0.9)
    found = target_leakage.measure_columns(paired(values, preference=preference))
    assert found.best[0].accuracy == pytest.approx(0.75)
    preference[100:] = 0.5
    found = target_leakage.measure_columns(paired(values, preference=preference))
    assert (found.num_pairs, found.best[0].accuracy) == (100, 1.0)
    preference[:] = 0.5
    assert checked(paired(values, preference=preference)).verdict == UNVERIFIED


def test_without_time_nothing_is_said() -> None:
    result = checked(ordered(1.0), deadline=0.0)
    assert (result.verdict, result.facts) == (UNVERIFIED, None)
