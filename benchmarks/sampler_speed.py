"""Time to draw an epoch, by sampler and number of pairs, compared with loops in plain Python.

    python benchmarks/sampler_speed.py      # about a minute on two cores

Times are of the whole `sampling.epoch_rows`. The plain loops follow the same rules with lists,
queues and the random module, on the same pairs, and alternate with it.
"""

import argparse
import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import chain, pairwise

import numpy as np

from jaxrank import sampling

BATCH_SIZE = 64
SIZES = (10**4, 10**5, 10**6, 10**7)
COMPARED = 10**6
CHECKED = 2000
# Pairs per series, all pairs of 2 to 8 photos, and shares of these sizes: 3.3 pairs on average.
PAIRS = (1, 3, 6, 10, 15, 21, 28)
SHARES = (0.525, 0.25, 0.13, 0.055, 0.025, 0.01, 0.005)

Batches = list[list[int]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    check_all(draw_series(CHECKED))
    seconds: dict[tuple[str, int], list[float]] = {}
    python_seconds: dict[str, list[float]] = {}
    for num_pairs in SIZES:
        series = draw_series(num_pairs)
        for epoch in range(repeats if num_pairs <= COMPARED else min(repeats, 3)):
            for name in sampling.SAMPLERS:
                num_batches = sampling.min_batches(series, name, BATCH_SIZE)
                start = time.perf_counter()
                sampling.epoch_rows(series, name, num_batches, BATCH_SIZE, (0, 0), epoch)
                seconds.setdefault((name, num_pairs), []).append(time.perf_counter() - start)
                if num_pairs == COMPARED:
                    listed = series.tolist()
                    start = time.perf_counter()
                    LOOPS[name](listed, num_batches, random.Random(epoch))
                    python_seconds.setdefault(name, []).append(time.perf_counter() - start)
    print_table(seconds, python_seconds)


def draw_series(num_pairs: int) -> np.ndarray:
    """Series of each pair, in shuffled order, int [N]."""
    rng = np.random.default_rng(num_pairs)
    sizes = rng.choice(PAIRS, size=num_pairs, p=SHARES)  # more than needed
    return rng.permutation(np.repeat(np.arange(num_pairs), sizes)[:num_pairs])


def print_table(
    seconds: dict[tuple[str, int], list[float]], python_seconds: dict[str, list[float]]
) -> None:
    print("Best (median) seconds, and nanoseconds a pair at best:\n")
    sizes = " | ".join(f"{num_pairs:,} pairs" for num_pairs in SIZES)
    print(f"| sampler | {sizes} | plain loop, {COMPARED:,} pairs | ratio of bests (medians) |")
    print("|---" * (len(SIZES) + 3) + "|")
    for name, loop in python_seconds.items():
        cells = [f"`{name}`"]
        for num_pairs in SIZES:
            taken = seconds[name, num_pairs]
            cells.append(f"{best_and_median(taken)}, {min(taken) / num_pairs * 1e9:.0f} ns")
        ours = seconds[name, COMPARED]
        ratio = min(loop) / min(ours)
        median_ratio = statistics.median(loop) / statistics.median(ours)
        cells += [best_and_median(loop), f"{ratio:.1f} ({median_ratio:.1f})"]
        print("| " + " | ".join(cells) + " |")


def best_and_median(taken: list[float]) -> str:
    return f"{min(taken):.3g} ({statistics.median(taken):.3g})"


def random_loop(series: list[int], num_batches: int, rng: random.Random) -> Batches:
    order = list(range(len(series)))
    rng.shuffle(order)
    return cut(order, num_batches)


def balanced_loop(series: list[int], num_batches: int, rng: random.Random) -> Batches:
    waiting = shuffled_groups(series, rng)
    order = []
    while waiting:
        for pairs in waiting:
            order.append(pairs.pop())
        waiting = [pairs for pairs in waiting if pairs]
    return cut(order, num_batches)


def distinct_loop(series: list[int], num_batches: int, rng: random.Random) -> Batches:
    order = list(chain.from_iterable(shuffled_groups(series, rng)))
    batches = [order[i::num_batches] for i in range(num_batches)]
    rng.shuffle(batches)
    return batches


def series_aware_loop(series: list[int], num_batches: int, rng: random.Random) -> Batches:
    queue = deque(shuffled_groups(series, rng))
    batches = []
    while queue:
        popped = [queue.popleft() for _ in range(min(BATCH_SIZE, len(queue)))]
        batches.append([pairs.pop() for pairs in popped])
        queue.extend([pairs for pairs in popped if pairs])
    return batches


LOOPS: dict[str, Callable[[list[int], int, random.Random], Batches]] = {
    "random": random_loop,
    "balanced": balanced_loop,
    "distinct": distinct_loop,
    "series_aware": series_aware_loop,
}


def shuffled_groups(series: list[int], rng: random.Random) -> Batches:
    """Pairs of each series; series and pairs are in random order."""
    pairs_of: dict[int, list[int]] = {}
    for pair, owner in enumerate(series):
        if owner in pairs_of:
            pairs_of[owner].append(pair)
        else:
            pairs_of[owner] = [pair]
    groups = list(pairs_of.values())
    rng.shuffle(groups)
    for pairs in groups:
        if len(pairs) > 1:
            rng.shuffle(pairs)
    return groups


def cut(order: list[int], num_batches: int) -> Batches:
    """Consecutive batches whose sizes differ by one at most, the larger ones first."""
    small, larger = divmod(len(order), num_batches)
    starts = [i * small + min(i, larger) for i in range(num_batches + 1)]
    return [order[i:j] for i, j in pairwise(starts)]


def check_all(series: np.ndarray) -> None:
    """Checks that `epoch_rows` and the plain loop both follow the rules of each sampler."""
    owners = series.tolist()
    for name, loop in LOOPS.items():
        num_batches = sampling.min_batches(series, name, BATCH_SIZE)
        rows = sampling.epoch_rows(series, name, num_batches, BATCH_SIZE, (0, 0), 0)
        check(owners, name, num_batches, [row[row != sampling.EMPTY].tolist() for row in rows])
        check(owners, name, num_batches, loop(owners, num_batches, random.Random(0)))


def check(owners: list[int], name: str, num_batches: int, batches: Batches) -> None:
    order = [pair for batch in batches for pair in batch]
    assert sorted(order) == list(range(len(owners))), name  # every pair once
    lengths = [len(batch) for batch in batches]
    if name == "series_aware":
        left = Counter(owners)
        for batch in batches:  # as many different series as there are, up to the batch size
            assert len(batch) == min(BATCH_SIZE, len(left)), name
            left = left - Counter(owners[pair] for pair in batch)  # without those used up
    else:
        assert len(batches) == num_batches, name
        assert max(lengths) - min(lengths) <= 1, name
    if name in ("distinct", "series_aware"):
        assert all(len({owners[pair] for pair in batch}) == len(batch) for batch in batches), name
    if name in ("balanced", "series_aware"):  # round robin: one from each series, in one order
        seen: Counter[int] = Counter()
        place: dict[int, int] = {}
        turns = []
        for pair in order:
            owner = owners[pair]
            turns.append((seen[owner], place.setdefault(owner, len(place))))
            seen[owner] += 1
        assert turns == sorted(turns), name


if __name__ == "__main__":
    main()
