"""Photos that appear in the data under several names."""

import numpy as np
import pytest
from small_data import paired

from jaxrank.audit import duplicates
from jaxrank.audit.case import PASS, UNVERIFIED, WARN, AuditCase, CheckResult
from jaxrank.data.dataset import Dataset, SplitDataset


def checked(dataset: Dataset, deadline: float = np.inf) -> CheckResult:
    data = SplitDataset(dataset=dataset, splits_FM=np.zeros((1, len(dataset.table)), np.int8))
    case = AuditCase(table=dataset.table, data=data, compared=None, deadline=deadline)
    return duplicates.check(case, {})


def numbers(width: int, num_photos: int = 200) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_photos, width))


def test_duplicates_in_a_pair_and_across_series_are_counted() -> None:
    values = numbers(2, 100)
    values[1] = values[0]  # within pair 0
    values[20] = values[31]  # of series 10 and 15
    values[40:43] = [0.0, -7.0], [-0.0, -7.0], [0.0, -7.0]  # of series 20, 20 and 21
    found = duplicates.find_duplicates(paired(values))
    assert found[:4] == (100, 7, 2, 5)
    assert ("p000.jpg", "p001.jpg") in found.examples
    assert ("p020.jpg", "p031.jpg") in found.examples
    assert found.chance_ratio == 1.0


def test_photos_that_differ_are_no_duplicates() -> None:
    result = checked(paired(numbers(1, 300)))
    assert result.verdict == PASS
    assert result.facts[1:4] == (0, 0, 0)


@pytest.mark.parametrize("width", [2, 4, 300])
def test_copied_series_warn(width: int) -> None:
    values = numbers(width)
    values[140:] = values[:60]
    result = checked(paired(values))
    assert result.verdict == WARN
    assert result.facts.num_across == 120
    assert "120 photos (60%)" in result.headline


def test_a_few_duplicates_pass_and_are_told() -> None:
    values = numbers(4, 500)
    values[1] = values[0]
    result = checked(paired(values))
    assert result.verdict == PASS
    assert "'p000.jpg' and 'p001.jpg'" in result.evidence[0]


def test_coarse_numbers_are_equal_by_chance() -> None:
    coarse = np.random.default_rng(1).poisson(8, (200, 3))
    result = checked(paired(coarse))
    assert result.facts.num_duplicated > 20
    assert result.facts.chance_ratio > 3
    assert result.verdict == UNVERIFIED
    assert checked(paired(coarse[:, :1])).verdict == UNVERIFIED


def test_a_vector_that_many_share_is_no_duplicate() -> None:
    values = numbers(4)
    values[::2] = 0.0
    assert checked(paired(values)).facts.num_duplicated == 0


def test_without_time_nothing_is_said() -> None:
    result = checked(paired(numbers(2)), deadline=0.0)
    assert (result.verdict, result.facts) == (UNVERIFIED, None)
