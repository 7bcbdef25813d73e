"""Photos of different series that look like copies of each other."""

import numpy as np
import pytest
from small_data import paired

from jaxrank.audit import near_duplicates
from jaxrank.audit.case import PASS, UNVERIFIED, WARN, AuditCase, CheckResult
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset


def checked(dataset: Dataset, deadline: float = np.inf) -> CheckResult:
    parts = splits.split_pairs(dataset.table)
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    case = AuditCase(table=dataset.table, data=data, compared=None, deadline=deadline)
    return near_duplicates.check(case, {})


def series_of_two(width: int, num_photos: int = 600, seed: int = 0) -> np.ndarray:
    """Photos of a series are alike."""
    rng = np.random.default_rng(seed)
    means = np.repeat(rng.standard_normal((num_photos // 2, width)), 2, axis=0)
    return means + 0.5 * rng.standard_normal((num_photos, width))


@pytest.mark.parametrize(("width", "noise"), [(4, 0.005), (16, 0.1), (600, 0.3)])
def test_copies_that_were_saved_again_warn(width: int, noise: float) -> None:
    values = series_of_two(width)
    assert checked(paired(values)).verdict == PASS
    copies = values[:120] + noise * np.random.default_rng(1).standard_normal((120, width))
    values[480:] = copies
    result = checked(paired(values))
    assert result.verdict == WARN
    assert 200 < result.facts.num_near <= 246  # 240, and a few by chance
    numbers = [{int(name[1:4]) for name in example[:2]} for example in result.facts.examples]
    assert all(max(pair) - min(pair) == 480 for pair in numbers)
    assert 0 < result.facts.num_across_splits < result.facts.num_near


def test_equal_photos_are_left_to_the_check_for_duplicates() -> None:
    values = series_of_two(4)
    values[480:] = values[:120]
    result = checked(paired(values))
    assert result.verdict == PASS
    assert result.facts.num_near < 5


@pytest.mark.parametrize("kind", ["cauchy", "counts", "clipped", "zeros", "clusters"])
def test_odd_numbers_have_no_near_duplicates(kind: str) -> None:
    rng = np.random.default_rng(2)
    values = {
        "cauchy": rng.standard_cauchy((600, 3)),
        "counts": rng.poisson(5, (600, 4)),
        "clipped": np.minimum(series_of_two(4), 0.2),
        "zeros": series_of_two(4) * (rng.random((600, 1)) < 0.5),
        "clusters": series_of_two(4) + 20 * rng.integers(0, 3, (600, 4)),
    }[kind]
    assert checked(paired(values)).verdict == PASS


def test_series_by_twos_have_the_ratio_of_their_distances() -> None:
    # On a line: series at 0, 1 and 10, each of two photos; of the first the nearest other series is
    # at 1, the third at 10.
    inputs = np.array([[0.0], [0.1], [1.0], [1.2], [10.0], [10.5]], np.float32)
    found = near_duplicates._two_series(inputs, np.array([0, 0, 1, 1, 2, 2]), lambda: True)
    assert found is not None
    nearest, ratio = found
    np.testing.assert_array_equal(nearest, [2, 2, 1, 1, 3, 3])
    expected = [1 / 10, 0.9 / 9.9, 0.9 / 9, 1.1 / 8.8, 8.8 / 9.9, 9.3 / 10.4]
    np.testing.assert_allclose(ratio, expected, rtol=1e-5)


def test_the_dimension_is_that_of_the_photos() -> None:
    flat = np.random.default_rng(3).random((3000, 2)) @ np.array([[1, 0, 1, 2], [0, 1, 1, 0.5]])
    result = checked(paired(flat))
    assert result.evidence[0].endswith("(by 4 columns or principal components).")
    found = result.facts
    assert found.num_inputs == 4
    assert found.dimension == pytest.approx(2, rel=0.15)
    assert found.largest_ratio == pytest.approx(1e-3 ** (1 / found.dimension))


def test_few_photos_or_little_time_are_unverified() -> None:
    few = checked(paired(series_of_two(4, num_photos=40)))
    assert few.verdict == UNVERIFIED
    assert few.facts is not None
    late = checked(paired(series_of_two(4)), deadline=0.0)
    assert (late.verdict, late.facts) == (UNVERIFIED, None)


def test_a_deadline_between_two_blocks_of_distances_ends_the_check() -> None:
    dataset = paired(series_of_two(4, num_photos=1200))
    asked = []

    def should_continue() -> bool:
        asked.append(0)
        return len(asked) < 3

    data = SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table))
    assert near_duplicates.find_near_duplicates(data, dataset.features_ND, should_continue) is None
    assert len(asked) == 3
