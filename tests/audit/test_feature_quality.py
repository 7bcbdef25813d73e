"""Features that are wrong whatever the labels are."""

from pathlib import Path

import numpy as np
import pytest
from small_data import paired

import jaxrank
from jaxrank.audit import feature_quality
from jaxrank.data import dataset
from jaxrank.data.preferences import read_preferences


def numbers(count: int = 100) -> np.ndarray:
    """Distinct numbers in no order."""
    return np.random.default_rng(0).permutation(count).astype(float)


def test_constant_columns_are_named() -> None:
    values = np.stack([numbers(), np.full(100, 7.0), numbers()[::-1]], axis=1)
    found = feature_quality.inspect_features(paired(values, ["x", "still", "y"]))
    assert found.constant == ("iqa:still",)
    assert found.clipped == ()


def test_clipped_photos_and_tied_pairs_are_counted() -> None:
    high, low = numbers(), numbers()
    high[:10] = 200.0  # pairs 0 to 4 tie
    high[11] = 200.0  # one photo of pair 5
    low[[0, 1, 2, 4, 6, 8]] = -5.0  # pair 0 ties
    found = feature_quality.inspect_features(paired(np.stack([low, high], axis=1), ["low", "high"]))
    assert [clipped[:3] for clipped in found.clipped] == [
        ("iqa:high", 200.0, True),
        ("iqa:low", -5.0, False),
    ]
    shares = [clipped[3:] for clipped in found.clipped]
    np.testing.assert_allclose(shares, [[0.11, 5 / 50], [0.06, 1 / 50]])


def test_a_category_is_not_clipped() -> None:
    values = np.stack([numbers(), numbers() % 3], axis=1)
    assert not feature_quality.inspect_features(paired(values, ["x", "kind"])).clipped


def test_real_sharpness_is_clipped(photo_triage: Path) -> None:
    pairs = read_preferences(photo_triage / "pairs.csv")
    block = jaxrank.read_block_csv(photo_triage / "iqa.csv")
    found = feature_quality.inspect_features(dataset.align(pairs, {"iqa": block}))
    sharpness = found.clipped[0]
    assert (sharpness.column, sharpness.value, sharpness.is_highest) == ("iqa:sharpness", 1.0, True)
    assert sharpness.photo_share == pytest.approx(0.441, abs=0.001)
    assert sharpness.tied_share == pytest.approx(1 / 3, abs=0.02)
    assert found.constant == ()
