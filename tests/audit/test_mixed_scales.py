"""Two units in one column."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm
from small_data import paired

from jaxrank.audit import mixed_scales
from jaxrank.audit.case import PASS, UNVERIFIED, WARN, AuditCase, CheckResult
from jaxrank.data.dataset import Dataset, SplitDataset

NUM_PHOTOS = 4000


def checked(dataset: Dataset, deadline: float = np.inf) -> CheckResult:
    data = SplitDataset(dataset=dataset, splits_FM=np.zeros((1, len(dataset.table)), np.int8))
    case = AuditCase(table=dataset.table, data=data, compared=None, deadline=deadline)
    return mixed_scales.check(case, {})


@pytest.mark.parametrize("factor", [255, 1000])
@pytest.mark.parametrize(
    ("kind", "share"),
    [
        *((kind, share) for kind in ("normal", "uniform", "clipped") for share in (0.1, 0.5)),
        *(("positive", share) for share in (0.1, 0.5, 0.9)),
    ],
)
def test_a_part_in_another_unit_warns(factor: float, share: float, kind: str) -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((20_000, 3))
    values = {
        "normal": z,
        "uniform": rng.random((20_000, 3)),
        "clipped": np.minimum(np.exp(z), 1),
        "positive": np.exp(0.5 * z),
    }[kind]
    larger = rng.random(20_000) < share
    values[:, 1] *= np.where(larger, factor, 1.0)
    # Of many photos a sample is looked at.
    result = checked(paired(values))
    assert result.verdict == WARN
    assert result.facts.num_photos == 5000
    (mixed,) = result.facts.mixed
    assert (mixed.column, mixed.factor, mixed.is_sure) == ("iqa:c1", factor, True)
    assert mixed.share == pytest.approx(share, abs=0.03)
    assert f"{factor:,} times as large" in result.headline


Draw = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
ODD: dict[str, Draw] = {
    "normal": lambda rng, z, second: z,
    "cauchy": lambda rng, z, second: rng.standard_cauchy(len(z)),
    "wide lognormal": lambda rng, z, second: np.exp(6 * z),
    "loguniform": lambda rng, z, second: 255 ** rng.uniform(0, 2, len(z)),
    "pareto": lambda rng, z, second: rng.pareto(0.3, len(z)),
    "two means": lambda rng, z, second: z + np.where(second, 1000, 10),
    "two widths": lambda rng, z, second: (
        np.exp(z * np.where(second, 0.1, 0.6)) * (1 + 254 * second)
    ),
    "another factor": lambda rng, z, second: np.exp(z + 5 * second),
    "counts": lambda rng, z, second: rng.poisson(np.where(second, 500, 2)),
    "two values": lambda rng, z, second: np.where(second, 255.0, 1.0),
    "mostly zero": lambda rng, z, second: np.maximum(z - 1, 0),
    "constant": lambda rng, z, second: np.zeros(len(z)),
    "denormal": lambda rng, z, second: 1e-40 * z,
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_numbers_are_in_one_unit(kind: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        second = rng.random(NUM_PHOTOS) < 0.5
        values = ODD[kind](rng, rng.standard_normal(NUM_PHOTOS), second)
        assert checked(paired(values[:, None])).verdict == PASS


def test_too_few_photos_to_tell_the_factor_are_unverified() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200, 1))
    values[::2] *= 255
    result = checked(paired(values))
    assert result.verdict == UNVERIFIED
    assert not result.facts.mixed[0].is_sure
    assert "too few to be sure" in result.evidence[0]
    assert checked(paired(values[:60])).verdict == UNVERIFIED


@pytest.mark.parametrize(("excess", "found"), [(0.0, True), (0.1, True), (0.25, False)])
def test_the_factor_is_a_known_one(excess: float, found: bool) -> None:
    quantiles = norm.ppf((np.arange(900) + 0.5) / 900)
    sizes = np.exp(np.concatenate([quantiles, quantiles + np.log(255) + excess]))
    assert (mixed_scales.two_scales(sizes) is not None) == found


def test_the_cut_of_least_variance() -> None:
    values = np.array([0.0, 1.0, 2.0, 10.0, 11.0])
    assert mixed_scales._two_groups(values, 1) == 3
    assert mixed_scales._two_groups(values, 2) == 3
    assert mixed_scales._two_groups(np.array([0.0, 9.0, 9.1, 9.2]), 2) == 2


def test_without_time_nothing_is_said() -> None:
    result = checked(paired(np.ones((200, 1))), deadline=0.0)
    assert (result.verdict, result.facts) == (UNVERIFIED, None)
