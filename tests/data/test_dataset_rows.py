"""Rows of a dataset by blocks and chunks: the same numbers, to the bit, whatever the chunks."""

import numpy as np
import pytest
from small_data import make_data

from jaxrank.audit import equal_rows, projection
from jaxrank.data import dataset as datasets
from jaxrank.data.dataset import align, content_hash, l2_normalised
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences


def wide_data() -> tuple[Preferences, dict[str, Block]]:
    """Columns enough for the order of a sum to show in its bits."""
    pairs, store = make_data()
    values = np.random.default_rng(5).standard_normal((len(store["clip"].photos), 70))
    columns = [f"clip_{i}" for i in range(70)]
    clip = store["clip"]._replace(values=values.astype(np.float32), columns=columns)
    return pairs, store | {"clip": clip}


@pytest.mark.parametrize("rows_at_once", [3, 1 << 14])
def test_inputs_are_the_columns_of_their_blocks(
    rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content_hash(align(*wide_data()))
    monkeypatch.setattr(datasets, "_ROWS_AT_ONCE", rows_at_once)
    dataset = align(*wide_data())
    assert content_hash(dataset) == before
    blocks = ["clip", "iqa"]
    columns = dataset.column_indices(blocks)
    expected = dataset.features_ND[:, columns]
    np.testing.assert_array_equal(dataset.inputs(blocks), expected)
    np.testing.assert_array_equal(dataset.inputs(blocks, np.array([4, 2])), expected[[4, 2]])
    stored = dataset.stored_inputs(blocks)
    np.testing.assert_array_equal(stored, expected)
    assert stored.ctypes.data % 64 == 0
    named = {name: dataset.block_columns[name] for name in blocks}
    unit = l2_normalised(expected, named, ["clip"])
    np.testing.assert_array_equal(dataset.stored_inputs(blocks, ["clip"]), unit)
    assert not np.array_equal(unit, expected)


def test_equal_rows_are_found_in_chunks_of_some_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equal_rows, "_ROWS_AT_ONCE", 2)
    values = np.array([[0, 1, 5], [-0.0, 1, 5], [0, 1, 6], [2, 1, 5], [0, 1, 6]], np.float32)
    assert equal_rows.group_rows(values).tolist() == [0, 0, 1, 2, 1]
    columns = np.array([0, 1])
    assert equal_rows.group_rows(values, np.array([4, 3, 0]), columns).tolist() == [0, 1, 0]


def test_components_by_chunks_of_photos_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 75)).astype(np.float32)
    blocks = {"clip": ["c"] * 70, "iqa": ["q"] * 5}
    group = np.zeros(300, np.int64)
    whole = projection.components(features, blocks, group)
    monkeypatch.setattr(projection, "_ROWS_AT_ONCE", 64)
    chunked = projection.components(features, blocks, group)
    # Signs of components are free.
    np.testing.assert_allclose(np.abs(chunked), np.abs(whole), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(chunked[:, 64:], whole[:, 64:])
