"""Host memory: predicted, measured, refused; and numbers of 16 bits."""

import dataclasses
import gc
import tracemalloc
from typing import Any

import jax
import numpy as np
import pytest
from small_data import cohorts_of, experiment, make_data

from jaxrank import train
from jaxrank.data import dataset as datasets
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.devices import DeviceSpec
from jaxrank.errors import UserError
from jaxrank.planning import host_memory
from jaxrank.planning.trials import Trial
from jaxrank.runner.prepare import prepare
from jaxrank.training import arrays


def wide_data(dtype: str) -> tuple[Preferences, dict[str, Block]]:
    """Enough numbers, 20 MB in 32 bits, for all else to be little beside them."""
    pairs, store = make_data(1500)
    photos = store["iqa"].photos
    rng = np.random.default_rng(1)
    values = rng.standard_normal((len(photos), 900)).astype(np.float16)
    columns = [f"c{i}" for i in range(900)]
    clip = Block(photos, columns, values.astype(dtype))
    narrow = store["iqa"].values.astype(np.float16).astype(dtype)
    return pairs, {"clip": clip, "iqa": store["iqa"]._replace(values=narrow)}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_arrays_take_the_memory_that_is_predicted(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All columns are read in place, so the features are held once."""
    for name in ("_ROWS_AT_ONCE", "_FEW_PHOTOS"):
        monkeypatch.setattr(datasets, name, 64)  # few beside all, as in large data
    pairs, store = wide_data(dtype)
    size = 4 * len(store["clip"].photos) * 904
    tracemalloc.start()
    try:
        dataset = align(pairs, store)
        data = SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table))
        trials = [
            Trial(experiment("a", blocks=("clip", "iqa"), max_epochs=1), 0, seed)
            for seed in range(2)
        ]
        cohorts = cohorts_of(trials, dataset, data.splits_FM)
        inputs = arrays.make_inputs(cohorts[0], data, [0])
        gc.collect()
        _, measured = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    predicted = host_memory.predict(dataset, cohorts)
    assert inputs.data.features_ND.dtype == dtype
    assert measured == pytest.approx(predicted.total, rel=0.1)
    assert measured < (1.15 if dtype == "float32" else 0.65) * size


@pytest.mark.parametrize(
    ("blocks", "l2_blocks", "num_raw"),
    [(("clip", "iqa"), (), 904), (("clip", "iqa"), ("clip",), 904), (("iqa",), (), 0)],
)
def test_what_cohorts_read_is_predicted_to_the_byte(
    blocks: tuple[str, ...], l2_blocks: tuple[str, ...], num_raw: int
) -> None:
    """Vectors of length 1 have 32 bits. Without raw columns, no memory of them is kept."""
    dataset = align(*wide_data("float16"))
    data = SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table, folds=3))
    e = experiment("a", blocks=blocks, l2_blocks=l2_blocks, max_epochs=1)
    (cohort,) = cohorts_of([Trial(e, fold, 0) for fold in range(3)], dataset, data.splits_FM)
    held: Any = arrays.make_inputs(cohort, data, range(3)).data
    assert held.features_ND.shape[1] == num_raw
    assert held.features_ND.base is None or num_raw or held.features_ND.base.nbytes < 100
    assert cohort.stored_bytes + cohort.made_bytes == sum(array.nbytes for array in held)


def test_features_that_are_read_in_place_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of predicted size is planned; it was refused, as if features were held twice."""
    data = wide_data("float32")
    options: dict[str, Any] = {"experiments": ["tiny_mlp"], "memory_fraction": 1.0}
    free = prepare(*data, device=DeviceSpec("cpu", "cpu", 1 << 40), **options)
    features = free.dataset.features_ND.nbytes
    needed = free.host_memory.total
    trial = max(cohort.memory_bytes - cohort.data_bytes for cohort in free.cohorts)
    assert needed + trial < 1.7 * features
    enough = needed + trial
    monkeypatch.setattr("jaxrank.runner.prepare.memory_bytes", lambda: enough)
    small = prepare(*data, device=DeviceSpec("cpu", "cpu", enough), **options)
    assert [c.trials for c in small.cohorts] == [c.trials for c in free.cohorts]
    # A device with memory of its own holds a copy. Too little memory is not the trials' fault.
    for kind in ("cpu", "gpu"):
        with pytest.raises(UserError, match="the features that the experiments read need"):
            prepare(*data, device=DeviceSpec(kind, kind, features), **options)


def test_cohorts_that_read_the_same_share_it() -> None:
    dataset = align(*make_data())
    parts = splits.split_pairs(dataset.table)
    names = {"a": ("clip",), "b": ("clip", "cnn"), "c": ("clip",)}
    each = [
        cohorts_of([Trial(experiment(name, blocks=blocks), 0, 0)], dataset, parts)[0]
        for name, blocks in names.items()
    ]
    clip, both, _ = (cohort.data_bytes for cohort in each)
    assert host_memory.predict(dataset, each).inputs == clip + both


def test_more_than_the_limit_is_refused_in_one_line() -> None:
    dataset = align(*make_data())
    needed = host_memory.HostMemory(features=3 << 30, inputs=3 << 30, scaling=0, scores=0)
    host_memory.refuse_too_much(needed, dataset, float(6 << 30))
    with pytest.raises(UserError, match=r"host memory 6,144 MiB, 3,072 MiB of it") as error:
        host_memory.refuse_too_much(needed, dataset, float(5 << 30))
    assert "limit 5,120 MiB" in str(error.value)


def test_features_that_do_not_fit_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jaxrank.io.memory.available_bytes", lambda: 1e3)
    with pytest.raises(UserError, match=r"photos x 15 columns take .* GiB are free"):
        align(*make_data())


def test_columns_that_seem_constant_at_first_are_not_copied_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows are often sorted: the first photos then have zeros where later ones do not."""
    monkeypatch.setattr(datasets, "_ROWS_AT_ONCE", 256)
    values = np.zeros((10_000, 200), np.float32)
    values[300:, :100] = 1
    values[-1, 100:199] = np.arange(1, 100)
    columns = [f"c{i}" for i in range(200)]
    block = Block([f"{i}" for i in range(10_000)], columns, values)
    tracemalloc.start()
    try:
        notes = datasets._constant_notes({"sorted": block}, values)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (note,) = notes
    assert note.startswith("1 of 200 columns never vary")
    assert note.endswith("'c199' of block 'sorted'")
    assert peak < values.nbytes / 4


@pytest.mark.parametrize("scaling", ["auto", "standard"])
def test_features_of_16_bits_train_as_the_same_numbers_in_32(scaling: str) -> None:
    scores = {}
    for dtype in ("float16", "float32"):
        pairs, store = make_data()
        halves = {n: b._replace(values=b.values.astype(np.float16)) for n, b in store.items()}
        halves["clip"] = halves["clip"]._replace(  # wide enough not to be normal scores
            values=np.tile(halves["clip"].values, 6), columns=[f"w{i}" for i in range(36)]
        )
        dataset = align(
            pairs, {n: b._replace(values=b.values.astype(dtype)) for n, b in halves.items()}
        )
        data = SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table))
        e = dataclasses.replace(experiment("a", max_epochs=2), input_scaling=scaling)
        (cohort,) = cohorts_of([Trial(e, 0, 0)], dataset, data.splits_FM)
        fitted = train.fit(cohort, data)
        scores[dtype] = fitted.scores_PN, jax.tree.leaves(fitted.best_params)
        assert dataset.features_ND.dtype == dtype
    np.testing.assert_array_equal(scores["float16"][0], scores["float32"][0])
    for half, single in zip(scores["float16"][1], scores["float32"][1], strict=True):
        np.testing.assert_array_equal(half, single)
    assert np.ptp(scores["float32"][0]) > 0
