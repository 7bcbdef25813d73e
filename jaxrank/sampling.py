"""Batch samplers in NumPy.

An epoch is a pure function of (series, sampler, number of batches, batch size, seed, epoch): no
sampler holds state, so any epoch can be asked for in any order, and a resumed run sees the
batches it would have seen.

All samplers put the N training pairs in an order and cut it into batches; each pair stands in
exactly one batch of an epoch.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

EMPTY = -1


def epoch_rows(
    series: np.ndarray,
    sampler: str,
    num_batches: int,
    batch_size: int,
    seed: Sequence[int],
    epoch: int,
) -> np.ndarray:
    """The batches of one epoch.

    Args:
      series: int [N], the series of each training pair.
      sampler: a name in SAMPLERS.
      num_batches: S, at least `min_batches(...)`; batch sizes differ by one at most.
      batch_size: B, the width of the result.
      seed: words of entropy; nearby seeds and epochs give unrelated orders.
      epoch: from 0.

    Returns:
      int32 [S, B], positions in `series`, EMPTY where a batch has fewer than B pairs.
    """
    least = min_batches(series, sampler, batch_size)
    if num_batches < least:
        raise ValueError(f"{num_batches} batches, but {sampler} needs at least {least}")
    rng = np.random.default_rng([*seed, epoch])
    return SAMPLERS[sampler](series, num_batches, batch_size, rng)


def min_batches(series: np.ndarray, sampler: str, batch_size: int) -> int:
    """The smallest possible number of batches: ceil(N / B), and for `distinct` never fewer than
    the largest series has pairs, since each needs a batch of its own."""
    by_size = -(-len(series) // batch_size)
    if sampler == "distinct":
        return max(by_size, int(np.max(np.bincount(series))))
    return by_size


def random_batches(
    series: np.ndarray, num_batches: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Pairs in uniformly random order, whatever their series."""
    return _cut(rng.permutation(len(series)), num_batches, batch_size)


def balanced_batches(
    series: np.ndarray, num_batches: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Round robin: one pair from each series in turn until all are used, then cut.

    The order of the series and of the pairs inside each is shuffled anew. Early rounds visit every
    series once; late rounds only the large ones, so a late batch can hold a series twice (use
    `distinct` to exclude that).
    """
    return _cut(round_robin(series, rng), num_batches, batch_size)


def distinct_batches(
    series: np.ndarray, num_batches: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """No batch holds a series twice, every pair is used once, in the fewest batches possible.

    The wrap-around rule (McNaughton 1959, "Scheduling with Deadlines and Loss Functions"): with
    the pairs of each series side by side, deal them to the S batches in turn. A series has at most
    S pairs, so they land in different batches; the sizes differ by one at most. The batches are
    then shuffled, since the dealing puts neighbours in the order next to each other.
    """
    grouped = _grouped_by_series(series, rng)
    size = -(-len(series) // num_batches)
    padded = np.full(size * num_batches, EMPTY, np.int32)
    padded[: len(series)] = grouped
    rows = np.full((num_batches, batch_size), EMPTY, np.int32)
    rows[:, :size] = padded.reshape(size, num_batches).T
    return rows[rng.permutation(num_batches)]


SAMPLERS: dict[str, Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray]] = {
    "random": random_batches,
    "balanced": balanced_batches,
    "distinct": distinct_batches,
}


def round_robin(series: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """The order of the `balanced` sampler, int [N]; without a generator nothing is shuffled:
    series in the order of their first pair, pairs in the order given."""
    grouped = _grouped_by_series(series, rng)
    owner = series[grouped]
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    sizes = np.diff(np.r_[starts, len(series)])
    turn = np.arange(len(series)) - np.repeat(starts, sizes)
    # A stable sort keeps the series order inside every round; small integers sort by radix.
    narrow = turn.astype(np.uint16) if sizes.max(initial=0) <= 65535 else turn
    return grouped[np.argsort(narrow, kind="stable")]


def _grouped_by_series(series: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Pairs with each series side by side, int [N]; series and pairs inside them in random order,
    or in the order of their first pair without a generator."""
    num_pairs = len(series)
    if rng is None:
        _, first, code = np.unique(series, return_index=True, return_inverse=True)
        series_place, pair_order = first[code], np.arange(num_pairs)
    else:
        series_place = rng.permutation(series.max(initial=-1) + 1)[series]
        pair_order = rng.permutation(num_pairs)
    # One sort of packed integers instead of a lexsort: (place of the series, place of the pair).
    packed = series_place[pair_order].astype(np.int64) * num_pairs + np.arange(num_pairs)
    packed.sort()
    return pair_order[packed % max(num_pairs, 1)]


def _cut(order: np.ndarray, num_batches: int, batch_size: int) -> np.ndarray:
    """Cuts an order into consecutive batches whose sizes differ by one at most."""
    small, larger = divmod(len(order), num_batches)
    sizes = np.full(num_batches, small)
    sizes[:larger] += 1
    rows = np.full((num_batches, batch_size), EMPTY, np.int32)
    rows[np.arange(batch_size) < sizes[:, None]] = order
    return rows


class BalancedSeriesBatchSampler:
    """The `balanced` sampler as an iterable of lists of indices.

    It serves as the `batch_sampler` of a PyTorch DataLoader. Each `__iter__` is the next epoch;
    `set_epoch` chooses one.

    Args:
      series_ids: the series of each pair: numbers or text.
      batch_size: pairs in a batch; the last may be shorter.
      shuffle: shuffle series and the pairs inside them anew every epoch.
      drop_last: leave out a last batch that is not full.
      seed: seed of all epochs.
    """

    def __init__(
        self,
        series_ids: Sequence[object] | np.ndarray,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, it must be at least 1")
        self._series = np.unique(np.asarray(series_ids), return_inverse=True)[1]
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The next `__iter__` gives this epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self._series), self._batch_size)
        return full + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self._seed, self._epoch]) if self._shuffle else None
        self._epoch += 1
        order = round_robin(self._series, rng).tolist()
        starts = range(0, len(self) * self._batch_size, self._batch_size)
        return iter([order[start : start + self._batch_size] for start in starts])
