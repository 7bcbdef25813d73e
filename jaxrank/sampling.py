"""Batch samplers in NumPy.

An epoch is a pure function of (series, sampler, number of batches, batch size, seed, epoch). It
needs no state, so epochs can be drawn in any order, and a resumed run sees the same batches.

All samplers put the N training pairs in an order and cut it into batches. Each pair is in exactly
one batch of an epoch.
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
    """Draws the batches of one epoch.

    Args:
      series: int [N], the series of each training pair.
      sampler: a name in SAMPLERS.
      num_batches: S, at least `min_batches(...)`; batch sizes differ by one at most, except with
        `series_aware`.
      batch_size: B, the width of the result.
      seed: words of entropy; nearby seeds and epochs give unrelated orders.
      epoch: number of the epoch, from 0.

    Returns:
      int32 [S, B], positions in `series`, EMPTY where a batch has fewer than B pairs.
    """
    least = min_batches(series, sampler, batch_size)
    if num_batches < least:
        raise ValueError(f"{num_batches} batches, but {sampler} needs at least {least}")
    rng = np.random.default_rng([*seed, epoch])
    return SAMPLERS[sampler](series, num_batches, batch_size, rng)


def min_batches(series: np.ndarray, sampler: str, batch_size: int) -> int:
    """Smallest number of batches that is enough for every order of the series.

    It is ceil(N / B). For `distinct` it is at least the number of pairs in the largest series,
    since each of these pairs needs a batch of its own. For `series_aware` it is the most that an
    order can take; an epoch leaves at most one batch empty.
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
    """Pairs in uniformly random order, regardless of their series."""
    return _cut(rng.permutation(len(series)), num_batches, batch_size)


def balanced_batches(
    series: np.ndarray, num_batches: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Round robin: one pair from each series in turn until all are used, then cut.

    The order of the series and of the pairs inside each series is shuffled anew. Early rounds visit
    every series once, and late rounds only large series. So a late batch can hold a series twice
    (use `distinct` to exclude that).
    """
    return _cut(round_robin(series, rng), num_batches, batch_size)


def distinct_batches(
    series: np.ndarray, num_batches: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Batches in which no series appears twice and every pair is used once.

    S can be `min_batches(...)`, the fewest batches possible.

    The wrap-around rule (McNaughton 1959, "Scheduling with Deadlines and Loss Functions"): with
    the pairs of each series side by side, deal the pairs to the S batches in turn. A series has at
    most S pairs, so its pairs land in different batches. Batch sizes differ by one at most. The
    batches are then shuffled, since neighbours in the order are dealt to neighbouring batches.
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
    """Batches of one pair from each of B series, or from all series that still have pairs.

    Open series (with pairs left) form a queue, in random order. A batch takes one pair from each of
    the first B series, or from all if fewer are open. Series that are still open go to the end of
    the queue. So no batch holds a series twice, and batches are short only at the end, when only
    the largest series are left.
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
    """Order of the `balanced` sampler, int [N].

    Without a generator nothing is shuffled: series are in the order of their first pair, and pairs
    in the order given.
    """
    grouped, sizes = _grouped_by_series(series, rng)
    turn = np.arange(len(series)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return grouped.take(_stable_argsort(turn))  # the series keep their order inside every round


def _grouped_by_series(
    series: np.ndarray, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs grouped by series, int [N], and the sizes of the series (zeros included).

    Series and the pairs inside them are in random order. Without a generator, series are in the
    order of their first pair, and pairs in the order given.
    """
    if rng is None:
        _, first, code = np.unique(series, return_index=True, return_inverse=True)
        place, order = first[code].astype(np.int32), np.arange(len(series), dtype=np.int32)
    else:
        # int32, because these arrays are read at random and must fit into the caches.
        place = rng.permutation(series.max(initial=-1) + 1).astype(np.int32).take(series)
        order = rng.permutation(len(series)).astype(np.int32)
    return order.take(_stable_argsort(place.take(order))), np.bincount(place)


def _stable_argsort(keys: np.ndarray) -> np.ndarray:
    """np.argsort(keys, kind="stable") of non-negative integers, in linear time.

    NumPy sorts 16-bit integers by radix, but wider ones by comparing. This sorts digit by digit.
    """
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
    """Cuts an order into consecutive batches of the given sizes, int32 [S, B].

    Short batches are filled with EMPTY, and so are the batches after the last size.
    """
    rows = np.full((num_batches, batch_size), EMPTY, np.int32)
    rows[: len(sizes)][np.arange(batch_size) < sizes[:, None]] = order
    return rows


def _series_aware_sizes(series: np.ndarray, order: np.ndarray, batch_size: int) -> np.ndarray:
    """Sizes of the `series_aware` batches of a round-robin order, int [batches].

    The queue rotates whether a batch takes B series from its front or all of it. So the batches are
    cuts of the round robin, full batches first. Once fewer than B series are open, batch k of the
    rest takes one pair from each series with more than k pairs left.
    """
    _, num_pairs = _full_rounds(np.bincount(series), batch_size)
    full = num_pairs // batch_size  # or one more, see _most_series_aware_batches
    left = np.bincount(series[order[full * batch_size :]])
    if np.count_nonzero(left) >= batch_size:
        full += 1
        left = np.bincount(series[order[full * batch_size :]])
    return np.r_[np.full(full, batch_size), _num_longer(left)]


def _most_series_aware_batches(sizes: np.ndarray, batch_size: int) -> int:
    """Largest number of batches that `series_aware` needs, over all orders of these series.

    Let T be the number of round-robin rounds with at least B series, R the pairs in these rounds, L
    the largest size, and F the first batch that starts with fewer than B open series.
    - F is R/B, rounded down or up. A batch that starts at R - B or before finds B series with pairs
      left in round T. A batch that starts at R or after finds only the series with more than T
      pairs, which are fewer than B.
    - From F on, a batch takes a pair from every open series. So the number of batches that follow
      is the number of pairs left in the fullest series. If F is rounded up, all series have
      finished T rounds: L - T at most. If it is rounded down, batch F starts inside round T:
      L - T + 1 at most.
    Both sums are ceil(R/B) + L - T. An order whose last series is a largest one can reach it. No
    order takes more than one batch less: batch F - 1 starts before R and takes a series once.
    """
    num_rounds, num_pairs = _full_rounds(sizes, batch_size)
    return -(-num_pairs // batch_size) + int(sizes.max(initial=0)) - num_rounds


def _full_rounds(sizes: np.ndarray, batch_size: int) -> tuple[int, int]:
    """Number of rounds of the round robin with at least B series, and the pairs in these rounds."""
    num_longer = _num_longer(sizes)  # the series in each round; never rises
    full = num_longer[num_longer >= batch_size]
    return len(full), int(full.sum())


def _num_longer(sizes: np.ndarray) -> np.ndarray:
    """Number of series with more than k pairs, for each k, int [largest size]."""
    return np.cumsum(np.bincount(sizes)[:0:-1])[::-1]


class _SeriesBatchSampler:
    """Base class of the samplers below: counts epochs, and cuts an order into lists."""

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
        """Sets the epoch that the next `__iter__` gives."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order, sizes = self._order_and_sizes()
        self._epoch += 1
        indices, stops = order.tolist(), np.cumsum(sizes)
        cuts = zip((stops - sizes).tolist(), stops.tolist(), strict=True)
        return iter([indices[start:stop] for start, stop in cuts])

    def _order_and_sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Order of the next epoch, int [N], and the sizes of the batches that it is cut into."""
        raise NotImplementedError

    def _round_robin(self) -> np.ndarray:
        rng = np.random.default_rng([self._seed, self._epoch]) if self._shuffle else None
        return round_robin(self._series, rng)


class BalancedSeriesBatchSampler(_SeriesBatchSampler):
    """The `balanced` sampler as an iterable of lists of indices.

    It serves as the `batch_sampler` of a PyTorch DataLoader. Each `__iter__` is the next epoch;
    `set_epoch` chooses an epoch.

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
    `set_epoch` chooses an epoch. The number of batches can differ by one between epochs: `len` is
    the number in the epoch that the next `__iter__` gives, and draws the order of that epoch.

    Args:
      series_ids: the series of each pair: numbers or text.
      batch_size: pairs in a batch; shorter once fewer series have pairs left.
      shuffle: shuffle series and the pairs inside them anew every epoch.
      drop_last: leave out all batches that are not full: the last pairs of the largest series.
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
