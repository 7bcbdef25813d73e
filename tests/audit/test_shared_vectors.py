"""One vector that many photos have in a block."""

import numpy as np
import pandas as pd
import pytest
from small_data import paired

from jaxrank.audit import shared_vectors
from jaxrank.audit.case import PASS, UNVERIFIED, WARN, AuditCase, CheckResult
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences


def checked(dataset: Dataset, deadline: float = np.inf) -> CheckResult:
    data = SplitDataset(dataset=dataset, splits_FM=np.zeros((1, len(dataset.table)), np.int8))
    case = AuditCase(table=dataset.table, data=data, compared=None, deadline=deadline)
    return shared_vectors.check(case, {})


def numbers(width: int = 4, num_photos: int = 400) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_photos, width))


@pytest.mark.parametrize(("width", "every"), [(3, 2), (4, 50), (300, 2)])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_vector_in_place_of_many_warns(width: int, every: int, value: float) -> None:
    values = numbers(width)
    values[::every] = value
    result = checked(paired(values))
    assert result.verdict == WARN
    (shared,) = result.facts.shared
    assert shared == ("iqa", 400 // every, value == 0.0, "p000.jpg")


def test_two_vectors_are_both_found() -> None:
    values = numbers()
    values[::2], values[1::4] = 0.0, values.mean(axis=0)
    assert [vector.num_photos for vector in checked(paired(values)).facts.shared] == [200, 100]


def test_a_block_is_looked_at_whatever_the_others_have() -> None:
    one = paired(numbers())
    zeros = numbers(5) * (np.arange(400)[:, None] % 2)
    blocks = {
        "iqa": Block(list(one.photos), list("abcd"), one.features_ND),
        "clip": Block(list(one.photos), list("vwxyz"), zeros.astype(np.float32)),
    }
    result = checked(align(Preferences(one.table), blocks))
    assert result.verdict == WARN
    assert [vector.block for vector in result.facts.shared] == ["clip"]


@pytest.mark.parametrize(
    "kind", ["clipped", "counts", "categories", "encoded", "tags", "narrow", "distinct"]
)
def test_what_is_shared_by_its_nature_passes(kind: str) -> None:
    rng = np.random.default_rng(1)
    values = {
        "clipped": np.minimum(numbers(), 0.0),
        "counts": rng.poisson(1, (400, 4)),
        "categories": np.eye(6)[rng.integers(0, 6, 400)],
        "encoded": rng.standard_normal((6, 4))[rng.integers(0, 6, 400)],
        "tags": rng.random((400, 8)) < 0.1,
        "narrow": numbers(2) * (np.arange(400)[:, None] % 2),
        "distinct": numbers(),
    }[kind]
    largest = pd.DataFrame(values).value_counts().iloc[0]
    assert (largest > 10) != (kind == "distinct")
    assert checked(paired(values)).verdict == PASS


def test_few_photos_or_no_time_are_unverified() -> None:
    assert checked(paired(numbers(num_photos=20))).verdict == UNVERIFIED
    result = checked(paired(numbers()), deadline=0.0)
    assert (result.verdict, result.facts) == (UNVERIFIED, None)
