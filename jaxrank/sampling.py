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
      num_batches: S, at least `min_batches(...)`; batch sizes differ by one at most, but for
        `series_aware`.
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
    """The smallest number of batches that is enough for every order of the series.

    ceil(N / B); for `distinct` never fewer than the largest series has pairs, since each needs a
    batch of its own; for `series_aware` the most that an order can take, of which an epoch leaves
    one batch empty at most.
    """
    by_size = -(-len(series) // batch_size)
    if sampler == "distinct":
        return max(by_size, int(np.max(np.bincount(series))))
    if sampler == "series_aware":
        return _most_series_aware_batches(np.bincount(series), batch_size)
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
    grouped, _ = _grouped_by_series(series, rng)
    size = -(-len(series) // num_batches)
    padded = np.full(size * num_batches, EMPTY, np.int32)
    padded[: len(series)] = grouped
    rows = np.full((num_batches, batch_size), EMPTY, np.int32)
    rows[:, :size] = padded.reshape(size, num_batches).T
    return rows[rng.permutation(num_batches)]


def series_aware_batches(
    series: np.ndarray, num_batches: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Every batch holds one pair from each of B series, or from all that still have pairs.

    Open series stand in a queue, in random order. A batch takes one pair from each of the first B
    of them, or from all where fewer are open, and those with pairs left go to the end. So no batch
    holds a series twice, and batches are short only at the end, where the largest series are left.
    """
    order = round_robin(series, rng)
    return _rows(order, _series_aware_sizes(series, order, batch_size), num_batches, batch_size)


SAMPLERS: dict[str, Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray]] = {
    "random": random_batches,
    "balanced": balanced_batches,
    "distinct": distinct_batches,
    "series_aware": series_aware_batches,
}


def round_robin(series: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """The order of the `balanced` sampler, int [N]; without a generator nothing is shuffled:
    series in the order of their first pair, pairs in the order given."""
    grouped, sizes = _grouped_by_series(series, rng)
    turn = np.arange(len(series)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return grouped.take(_stable_argsort(turn))  # the series keep their order inside every round


def _grouped_by_series(
    series: np.ndarray, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs with each series side by side, int [N], and the sizes of these series (and zeros);
    series and pairs inside them in random order, or in the order of their first pair without a
    generator."""
    if rng is None:
        _, first, code = np.unique(series, return_index=True, return_inverse=True)
        place, order = first[code].astype(np.int32), np.arange(len(series), dtype=np.int32)
    else:
        # What is then read at random is kept narrow: it no longer fits into the caches otherwise.
        place = rng.permutation(series.max(initial=-1) + 1).astype(np.int32).take(series)
        order = rng.permutation(len(series)).astype(np.int32)
    return order.take(_stable_argsort(place.take(order))), np.bincount(place)


def _stable_argsort(keys: np.ndarray) -> np.ndarray:
    """np.argsort(keys, kind="stable") of non-negative integers, in linear time.

    NumPy sorts 16 bits by radix, but wider integers by comparing: here digit by digit."""
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    for shift in range(16, int(keys.max(initial=0)).bit_length(), 16):
        digit = (keys >> shift).astype(np.uint16)
        order = order.take(np.argsort(digit.take(order), kind="stable"))
    return order


def _cut(order: np.ndarray, num_batches: int, batch_size: int) -> np.ndarray:
    """Cuts an order into consecutive batches whose sizes differ by one at most."""
    small, larger = divmod(len(order), num_batches)
    sizes = np.full(num_batches, small)
    sizes[:larger] += 1
    return _rows(order, sizes, num_batches, batch_size)


def _rows(order: np.ndarray, sizes: np.ndarray, num_batches: int, batch_size: int) -> np.ndarray:
    """Cuts an order into consecutive batches of the sizes given, int32 [S, B]; EMPTY where a batch
    is short, and in the batches after the last size."""
    rows = np.full((num_batches, batch_size), EMPTY, np.int32)
    rows[: len(sizes)][np.arange(batch_size) < sizes[:, None]] = order
    return rows


def _series_aware_sizes(series: np.ndarray, order: np.ndarray, batch_size: int) -> np.ndarray:
    """The sizes of the `series_aware` batches of a round-robin order, int [batches].

    Whether a batch takes B series from the front of the queue or all of it, the queue goes round:
    the batches are cuts of the round robin, full ones first. Once fewer than B series are open,
    batch k of the rest takes one pair from each series with more than k pairs left.
    """
    _, num_pairs = _full_rounds(np.bincount(series), batch_size)
    full = num_pairs // batch_size  # or one more, see _most_series_aware_batches
    left = np.bincount(series[order[full * batch_size :]])
    if np.count_nonzero(left) >= batch_size:
        full += 1
        left = np.bincount(series[order[full * batch_size :]])
    return np.r_[np.full(full, batch_size), _num_longer(left)]


def _most_series_aware_batches(sizes: np.ndarray, batch_size: int) -> int:
    """The largest number of batches that `series_aware` needs for any order of series of these
    sizes.

    Let T be the rounds of the round robin that at least B series take part in, R the pairs in
    them, L the largest size, and F the first batch that starts with fewer than B open series.
    - F is R/B, rounded down or up. A batch that starts at R - B or before finds B series that round
      T still waits for; one that starts at R or after finds only the fewer than B series with
      more than T pairs.
    - From F on a batch takes a pair from every open series, so as many batches follow as the
      fullest series has pairs left. R/B rounded up: all series are through T rounds, L - T at most.
      Rounded down: batch F starts inside round T, L - T + 1 at most.
    Both add up to ceil(R/B) + L - T. An order whose last series is a largest one can reach it, and
    no order takes more than one batch less: batch F - 1 starts before R and takes a series once.
    """
    num_rounds, num_pairs = _full_rounds(sizes, batch_size)
    return -(-num_pairs // batch_size) + int(sizes.max(initial=0)) - num_rounds


def _full_rounds(sizes: np.ndarray, batch_size: int) -> tuple[int, int]:
    """How many rounds of the round robin at least B series take part in, and the pairs in them."""
    num_longer = _num_longer(sizes)  # never rises: a series takes part in as many as it has pairs
    full = num_longer[num_longer >= batch_size]
    return len(full), int(full.sum())


def _num_longer(sizes: np.ndarray) -> np.ndarray:
    """How many series have more than k pairs, int [largest size]."""
    return np.cumsum(np.bincount(sizes)[:0:-1])[::-1]


class _SeriesBatchSampler:
    """What the samplers below share: epochs, and the cutting of an order into lists."""

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

    def __iter__(self) -> Iterator[list[int]]:
        order, sizes = self._order_and_sizes()
        self._epoch += 1
        indices, stops = order.tolist(), np.cumsum(sizes)
        cuts = zip((stops - sizes).tolist(), stops.tolist(), strict=True)
        return iter([indices[start:stop] for start, stop in cuts])

    def _order_and_sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """The next epoch: its order, int [N], and the sizes of the batches that it is cut into."""
        raise NotImplementedError

    def _round_robin(self) -> np.ndarray:
        rng = np.random.default_rng([self._seed, self._epoch]) if self._shuffle else None
        return round_robin(self._series, rng)


class BalancedSeriesBatchSampler(_SeriesBatchSampler):
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

    def __len__(self) -> int:
        full, rest = divmod(len(self._series), self._batch_size)
        return full + (rest > 0 and not self._drop_last)

    def _order_and_sizes(self) -> tuple[np.ndarray, np.ndarray]:
        starts = np.arange(len(self)) * self._batch_size
        return self._round_robin(), np.minimum(self._batch_size, len(self._series) - starts)


class SeriesAwareBatchSampler(_SeriesBatchSampler):
    """The `series_aware` sampler as an iterable of lists of indices.

    It serves as the `batch_sampler` of a PyTorch DataLoader. Each `__iter__` is the next epoch;
    `set_epoch` chooses one. The number of batches can differ by one between epochs: `len` is that
    of the epoch which the next `__iter__` gives, and draws its order.

    Args:
      series_ids: the series of each pair: numbers or text.
      batch_size: pairs in a batch; shorter once fewer series have pairs left.
      shuffle: shuffle series and the pairs inside them anew every epoch.
      drop_last: leave out all batches that are not full: what is left of the largest series.
      seed: seed of all epochs.
    """

    _drawn: tuple[int, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._order_and_sizes()[1])

    def _order_and_sizes(self) -> tuple[np.ndarray, np.ndarray]:
        if self._drawn is None or self._drawn[0] != self._epoch:
            order = self._round_robin()
            sizes = _series_aware_sizes(self._series, order, self._batch_size)
            if self._drop_last:
                sizes = sizes[sizes == self._batch_size]
            self._drawn = self._epoch, order, sizes
        return self._drawn[1:]
