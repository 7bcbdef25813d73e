import itertools
from collections import Counter, deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrank.data.preferences import read_preferences
from jaxrank.sampling import (
    EMPTY,
    SAMPLERS,
    BalancedSeriesBatchSampler,
    SeriesAwareBatchSampler,
    epoch_rows,
    min_batches,
    round_robin,
    series_aware_batches,
)

sizes_of_series = st.lists(st.integers(1, 12), min_size=1, max_size=40)


def shuffled_series(sizes: list[int], seed: int = 0) -> np.ndarray:
    series = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(seed).permutation(series)


def check_promises(series: np.ndarray, sampler: str, batch_size: int, extra: int = 0) -> None:
    num_batches = min_batches(series, sampler, batch_size) + extra
    rows = epoch_rows(series, sampler, num_batches, batch_size, (1, 2), epoch=3)
    assert rows.shape == (num_batches, batch_size)
    assert rows.dtype == np.int32
    used = rows != EMPTY
    np.testing.assert_array_equal(np.sort(rows[used]), np.arange(len(series)))  # each pair once
    sizes = used.sum(axis=1)
    if sampler == "series_aware":
        assert (np.diff(sizes) <= 0).all()
        check_all_open_series_are_taken(series, rows[used], sizes, batch_size)
    else:
        assert sizes.max() - sizes.min() <= 1
    assert (used[:, :-1] >= used[:, 1:]).all()  # the empty places come last
    if sampler in ("distinct", "series_aware"):
        for batch, filled in zip(rows, used, strict=True):
            owners = series[batch[filled]]
            assert len(set(owners.tolist())) == len(owners)
    if sampler in ("balanced", "series_aware"):
        check_round_robin(series[rows[used]])


def check_all_open_series_are_taken(
    series: np.ndarray, order: np.ndarray, sizes: np.ndarray, batch_size: int
) -> None:
    """A batch is full, or takes a pair from every series that has some left."""
    stops = np.cumsum(sizes)
    for start, size in zip(stops - sizes, sizes, strict=True):
        assert size == min(batch_size, len(set(series[order[start:]].tolist())))


def queue_of_series(series: np.ndarray, order: np.ndarray, batch_size: int) -> list[list[int]]:
    """The batches of `series_aware` as its rule says them: series stand in a queue."""
    pairs_of: dict[int, deque[int]] = {}
    for pair in order.tolist():
        pairs_of.setdefault(int(series[pair]), deque()).append(pair)
    queue = deque(pairs_of.values())
    batches = []
    while queue:
        popped = [queue.popleft() for _ in range(min(batch_size, len(queue)))]
        batches.append([pairs.popleft() for pairs in popped])
        queue.extend(pairs for pairs in popped if pairs)
    return batches


def check_round_robin(owners: np.ndarray) -> None:
    """Round r visits each series with more than r pairs once, in one and the same order."""
    turn = np.array([(owners[:i] == owner).sum() for i, owner in enumerate(owners)])
    assert (np.diff(turn) >= 0).all()
    first = owners[turn == 0].tolist()
    for r in range(1, turn.max() + 1):
        visited = owners[turn == r].tolist()
        assert visited == [owner for owner in first if owner in set(visited)]


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(sizes=sizes_of_series, batch_size=st.integers(1, 20), extra=st.integers(0, 3))
def test_promises_hold_for_any_series(
    sampler: str, sizes: list[int], batch_size: int, extra: int
) -> None:
    check_promises(shuffled_series(sizes), sampler, batch_size, extra)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("batch_size", [64, 256])
def test_promises_hold_for_the_real_series(
    photo_triage: Path, sampler: str, batch_size: int
) -> None:
    table = read_preferences(photo_triage / "pairs.csv").table
    series = np.unique(table["series_id"], return_inverse=True)[1]
    assert np.max(np.bincount(series)) == 28
    check_promises(series, sampler, batch_size)


def test_distinct_takes_the_provably_smallest_number_of_batches() -> None:
    series = np.repeat([0, 1, 2], [7, 2, 1])  # one series of 7 pairs needs 7 batches
    assert min_batches(series, "distinct", 5) == 7
    assert min_batches(series, "random", 5) == 2
    with pytest.raises(ValueError, match="needs at least 7"):
        epoch_rows(series, "distinct", 6, 5, (0,), 0)


@given(sizes=sizes_of_series, batch_size=st.integers(1, 20), seed=st.integers(0, 1000))
def test_series_aware_batches_are_those_of_a_queue(
    sizes: list[int], batch_size: int, seed: int
) -> None:
    series = shuffled_series(sizes) * 2  # ids may have gaps
    order = round_robin(series, np.random.default_rng(seed))
    expected = queue_of_series(series, order, batch_size)
    most = min_batches(series, "series_aware", batch_size)
    rows = series_aware_batches(series, most, batch_size, np.random.default_rng(seed))
    found = [row[row != EMPTY].tolist() for row in rows]
    assert found == expected + [[]] * (most - len(expected))
    assert len(expected) in (most, most - 1)
    assert most >= max(max(sizes), -(-len(series) // batch_size))


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    batch_size=st.integers(1, 6),
)
def test_some_order_of_the_series_takes_the_number_of_batches_that_is_provided(
    sizes: list[int], batch_size: int
) -> None:
    taken = set()
    for ordered in set(itertools.permutations(sizes)):
        series = np.repeat(np.arange(len(sizes)), ordered)
        taken.add(len(queue_of_series(series, np.arange(len(series)), batch_size)))
    most = min_batches(np.repeat(np.arange(len(sizes)), sizes), "series_aware", batch_size)
    assert max(taken) == most
    assert min(taken) >= most - 1


def test_series_aware_by_hand() -> None:
    # Two rounds have at least two series (5 pairs, 3 batches); then 4 - 2 pairs of the largest.
    series = np.repeat([0, 1, 2], [4, 2, 1])
    assert min_batches(series, "series_aware", 2) == 3 + 2
    sampler = SeriesAwareBatchSampler(series, 2, shuffle=False)
    assert list(sampler) == [[0, 4], [6, 1], [5, 2], [3]]  # the largest series came first
    assert len(sampler) == 4
    last = SeriesAwareBatchSampler(series[::-1], 2, shuffle=False)
    assert list(last) == [[0, 1], [3, 2], [4], [5], [6]]  # the largest series came last
    assert list(SeriesAwareBatchSampler(series[::-1], 2, False, drop_last=True)) == [[0, 1], [3, 2]]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_epoch_is_a_pure_function_of_its_arguments(sampler: str) -> None:
    series = shuffled_series([3] * 30)
    orders = {}
    for seed in [(0, 0), (0, 1), (1, 0)]:
        for epoch in range(3):
            rows = epoch_rows(series, sampler, 9, 10, seed, epoch)
            again = epoch_rows(series, sampler, 9, 10, seed, epoch)
            np.testing.assert_array_equal(rows, again)
            orders[rows.tobytes()] = (seed, epoch)
    assert len(orders) == 9  # nearby seeds and epochs all differ


def test_balanced_shuffles_series_and_pairs_inside_them_anew() -> None:
    series = np.repeat(np.arange(20), 3)
    first = [epoch_rows(series, "balanced", 1, 60, (5,), epoch)[0] for epoch in range(2)]
    assert (series[first[0]] != series[first[1]]).any()  # the order of the series
    picked = [{int(series[row]): int(row) for row in rows[:20]} for rows in first]
    assert picked[0] != picked[1]  # which pair of a series comes first


@pytest.mark.parametrize("kind", [BalancedSeriesBatchSampler, SeriesAwareBatchSampler])
@given(
    sizes=sizes_of_series,
    batch_size=st.integers(1, 20),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
)
def test_the_class_yields_lists_with_a_true_length(
    kind: type[BalancedSeriesBatchSampler | SeriesAwareBatchSampler],
    sizes: list[int],
    batch_size: int,
    drop_last: bool,
    shuffle: bool,
) -> None:
    series = [f"series {s}" for s in shuffled_series(sizes)]
    sampler = kind(series, batch_size, shuffle, drop_last, seed=3)
    length = len(sampler)  # of the epoch to come
    batches = list(sampler)
    assert len(batches) == length
    assert all(isinstance(i, int) for batch in batches for i in batch)
    lengths = [len(batch) for batch in batches]
    assert all(lengths)
    if drop_last:
        assert set(lengths) <= {batch_size}
    elif kind is BalancedSeriesBatchSampler:
        assert set(lengths[:-1]) <= {batch_size}
    else:
        assert lengths == sorted(lengths, reverse=True)
    indices = [i for batch in batches for i in batch]
    assert len(set(indices)) == len(indices)
    if not drop_last:
        assert sorted(indices) == list(range(len(series)))


def test_the_length_is_that_of_the_epoch_to_come() -> None:
    sampler = SeriesAwareBatchSampler(np.repeat([0, 1, 2], [4, 2, 1]), 2, seed=0)
    lengths = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
        assert len(list(sampler)) == lengths[-1]
    assert set(lengths) == {4, 5}


@pytest.mark.parametrize("kind", [BalancedSeriesBatchSampler, SeriesAwareBatchSampler])
def test_each_iteration_of_the_class_is_the_next_epoch_and_set_epoch_chooses(
    kind: type[BalancedSeriesBatchSampler | SeriesAwareBatchSampler],
) -> None:
    sampler = kind([0, 0, 1, 1, 2, 3, 4, 5], 3, seed=1)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(sampler) == second
    assert list(kind([0, 0, 1, 1, 2, 3, 4, 5], 3, seed=2)) != first


def test_without_shuffle_the_class_takes_series_in_turn_as_given() -> None:
    sampler = BalancedSeriesBatchSampler(["b", "b", "a", "b", "a", "c"], 4, shuffle=False)
    assert list(sampler) == [[0, 2, 5, 1], [4, 3]] == list(sampler)


def test_the_class_refuses_a_batch_size_of_zero() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        BalancedSeriesBatchSampler([1, 2], 0)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=300))
def test_one_sort_gives_what_a_plain_loop_gives(sizes: list[int]) -> None:
    series = shuffled_series(sizes)
    waiting: dict[int, list[int]] = {}
    for i, owner in enumerate(series.tolist()):
        waiting.setdefault(owner, []).append(i)
    expected = []
    while waiting:
        for owner in list(waiting):
            expected.append(waiting[owner].pop(0))
            if not waiting[owner]:
                del waiting[owner]
    sampler = BalancedSeriesBatchSampler(series, len(series), shuffle=False)
    assert list(sampler) == [expected]


def test_more_series_and_rounds_than_sixteen_bits_can_count() -> None:
    series = shuffled_series([70_000] + [1] * 70_000)
    first = np.unique(series, return_index=True)[1][series]
    seen: Counter[int] = Counter()
    turn = []
    for owner in series.tolist():
        turn.append(seen[owner])
        seen[owner] += 1
    np.testing.assert_array_equal(round_robin(series, None), np.lexsort((first, turn)))
