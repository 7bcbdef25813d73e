"""Detection and false-alarm rates of the audit for faults planted in clean data.

    python benchmarks/planted_faults.py --real=FOLDER

FOLDER holds `pairs.csv` and `iqa.csv` of Photo Triage; without it only simulated data are used.
Every seed draws new data. Real data are the series whose pairs have features of both photos, drawn
with replacement. Simulated data have as many series, with the four image-quality numbers. A real
series has a new id each time it is drawn, so that each copy is renumbered or inverted on its own.

- renumbered: photo numbers permuted at random in every series;
- inverted: preference -> 1 - preference;
- mirrored rows swapped: half of the rows name their photos in swapped order, but keep their
  preference;
- shuffled: the preference column permuted over the table;
- noise features: normal random numbers in place of the features;
- rank read as winner: preference = [rank_a > rank_b], though rank 1 is best;
- shifted: photo numbers one too high or one too low, cyclic inside the series;
- half renumbered, half inverted: in half of the series;
- pair-level leak: pairs and not series dealt to the sides of the split.

Faults of features and of photos' names are planted by `planted_data_faults.py`.

Caught: the link audit reports an inverted link or no link; for a leak, the behaviour audit reports
it. Named: the comparison with the clean table names the fault. Half of the series renumbered leaves
a weaker link, so that only a reference can reveal it. The last lines print the power of the best
possible test without a reference, which is given the strength of the link in both halves.
"""

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import scipy.stats

from jaxrank.audit import leakage, permutation_test, reference
from jaxrank.audit.case import AuditCase
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align, permuted_rows
from jaxrank.data.feature_store import Block
from jaxrank.data.importers import read_block_csv
from jaxrank.data.preferences import Preferences, read_preferences
from jaxrank.data.synthetic import simulate

# Number of series of the real data whose photos have image-quality numbers.
REAL_SERIES = 1626
CLEAN, CLEAN_SPLIT, NOISE, LEAK = "clean", "clean split", "noise features", "pair-level leak"
LEAKS, NO_LEAK = "leak", "no leak"
Table: TypeAlias = pd.DataFrame
Rng: TypeAlias = np.random.Generator


class Sample(NamedTuple):
    table: Table
    block: Block


def real_samples(folder: Path) -> Iterator[Sample]:
    pairs, block = read_preferences(folder / "pairs.csv"), read_block_csv(folder / "iqa.csv")
    whole = align(pairs, {"iqa": block})
    rows_of = pd.Series(range(len(whole.table))).groupby(whole.series_M).apply(np.array)
    numbers = pd.DataFrame(whole.features_ND, index=whole.photos)
    seed = 0
    while True:
        rng = np.random.default_rng([1, seed])
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of.iloc[s] for s in drawn])
        series = np.repeat(np.arange(len(drawn)), [len(rows_of.iloc[s]) for s in drawn]) + 1
        table = whole.table.iloc[rows].reset_index(drop=True)
        old = pd.concat([table["image_a"], table["image_b"]], ignore_index=True)
        table["series_id"] = series.astype(str)
        for column in ("image_a", "image_b"):
            names = zip(series, table[column], strict=True)
            table[column] = [f"{s:06d}-{name.rsplit('-', 1)[1]}" for s, name in names]
        new = pd.concat([table["image_a"], table["image_b"]], ignore_index=True)
        first = ~new.duplicated()
        values = numbers.loc[old[first]].to_numpy()
        yield Sample(table, Block(list(new[first]), list(block.columns), values))
        seed += 1


def simulated_samples() -> Iterator[Sample]:
    seed = 0
    while True:
        simulated = simulate(seed + 1000, REAL_SERIES)
        table = simulated.pairs.table
        series = pd.Series(simulated.appeal.index.str.split("-").str[0], simulated.appeal.index)
        rank = simulated.appeal.groupby(series).rank(ascending=False)
        ranks = {f"rank_{side}": rank[table[f"image_{side}"]].to_numpy() for side in "ab"}
        yield Sample(table.assign(**ranks), simulated.features["iqa"])
        seed += 1


def renamed(
    table: Table, orders: Callable[[np.ndarray], np.ndarray], rng: Rng, share: float
) -> Table:
    """Renames the photos of a share of the series among themselves.

    Args:
      table: pairs.
      orders: maps the series of the photos, sorted by name, to the index of each photo's new name.
      rng: random numbers that choose the series.
      share: share of the series.
    """
    photos = pd.concat([table["image_a"], table["image_b"]], ignore_index=True)
    codes, names = pd.factorize(photos, sort=True)
    series, ids = pd.factorize(table["series_id"])
    series_N = np.zeros(len(names), int)
    series_N[codes] = np.tile(series, 2)
    chosen = rng.permutation(len(ids)) < share * len(ids)
    order_N = np.where(chosen[series_N], orders(series_N), np.arange(len(names)))
    image_a, image_b = np.asarray(names)[order_N[codes]].reshape(2, -1)
    return table.assign(image_a=image_a, image_b=image_b)


def renumbered(table: Table, rng: Rng, share: float = 1.0) -> Table:
    return renamed(table, lambda series_N: permuted_rows(series_N, rng), rng, share)


def inverted(table: Table, rng: Rng, share: float = 1.0) -> Table:
    series, ids = pd.factorize(table["series_id"])
    chosen = (rng.permutation(len(ids)) < share * len(ids))[series]
    preference = table["preference"].to_numpy()
    return table.assign(preference=np.where(chosen, 1 - preference, preference))


def mirrored(table: Table, rng: Rng) -> Table:
    swapped = rng.random(len(table)) < 0.5
    image_a, image_b = table["image_a"], table["image_b"]
    return table.assign(
        image_a=np.where(swapped, image_b, image_a), image_b=np.where(swapped, image_a, image_b)
    )


def shuffled(table: Table, rng: Rng) -> Table:
    return table.assign(preference=rng.permutation(table["preference"].to_numpy()))


def rank_as_winner(table: Table, rng: Rng) -> Table:
    return table.assign(preference=(table["rank_a"] > table["rank_b"]).astype(float))


def shifted(table: Table, rng: Rng) -> Table:
    step = rng.choice([-1, 1])

    def orders(series_N: np.ndarray) -> np.ndarray:
        photos = pd.Series(np.arange(len(series_N)))
        return photos.groupby(series_N).transform(lambda rows: np.roll(rows, step)).to_numpy()

    return renamed(table, orders, rng, share=1.0)


# Functions that plant a fault in a table, and its name in a comparison with the clean table.
FAULTS: dict[str, tuple[Callable[[Table, Rng], Table], str]] = {
    "renumbered": (renumbered, reference.RENUMBERED),
    "inverted": (inverted, reference.INVERTED),
    "mirrored rows swapped": (mirrored, reference.MIRRORED),
    "shuffled": (shuffled, reference.SHUFFLED),
    "rank read as winner": (rank_as_winner, reference.RANK_AS_WINNER),
    "shifted": (shifted, reference.SHIFTED),
    "half renumbered": (lambda table, rng: renumbered(table, rng, 0.5), reference.HALF_RENUMBERED),
    "half inverted": (lambda table, rng: inverted(table, rng, 0.5), reference.HALF_INVERTED),
}


# Verdicts of the audits for a fault that they find, and for clean data.
CAUGHT = {permutation_test.INVERTED, permutation_test.UNLINKED, LEAKS}
CLEARED = {permutation_test.LINKED, NO_LEAK, reference.NONE}


def as_dataset(table: Table, block: Block) -> Dataset:
    return align(Preferences(table), {"iqa": block})


def find_leak(dataset: Dataset, split: str, seed: int) -> str:
    splits_FM = splits.split_pairs(dataset.table, split, split_seed=seed)
    data = SplitDataset(dataset=dataset, splits_FM=splits_FM)
    case = AuditCase(table=dataset.table, data=data, compared=None, deadline=np.inf)
    leaks = leakage.find_leaks(data, case.inputs_NK, seed=seed).behaviour.leaks
    return LEAKS if leaks else NO_LEAK


class Counts(NamedTuple):
    """Number of each verdict and of each name, by fault."""

    seen: dict[str, Counter[str]]
    named: dict[str, Counter[str]]


def audit(sample: Sample, seed: int, counts: Counts, planted: bool) -> None:
    """Counts the verdicts on one sample and, if `planted`, on copies of it with faults."""
    # Shares of votes: a preference of Photo Triage is 0.98 times the share, plus 0.01.
    shares = np.clip((sample.table["preference"] - 0.01) / 0.98, 0, 1).round(6)
    votes = sample.table.assign(preference=shares)
    clean = as_dataset(votes, sample.block)
    counts.seen[CLEAN][permutation_test.run_permutation_test(clean, seed=seed).verdict] += 1
    counts.named[CLEAN][reference.compare(votes, sample.table).fault] += 1
    counts.seen[CLEAN_SPLIT][find_leak(clean, splits.SERIES, seed)] += 1
    if not planted:
        return
    for f, (name, (spoil, _)) in enumerate(FAULTS.items()):
        spoilt = spoil(votes, np.random.default_rng([2, seed, f]))
        dataset = as_dataset(spoilt, sample.block)
        counts.seen[name][permutation_test.run_permutation_test(dataset, seed=seed).verdict] += 1
        counts.named[name][reference.compare(spoilt, sample.table).fault] += 1
    noise = np.random.default_rng([3, seed]).standard_normal(np.shape(sample.block.values))
    noisy = as_dataset(votes, sample.block._replace(values=noise.astype(np.float32)))
    counts.seen[NOISE][permutation_test.run_permutation_test(noisy, seed=seed).verdict] += 1
    counts.seen[LEAK][find_leak(clean, splits.RANDOM, seed)] += 1


def best_possible_power(dataset: Dataset, accuracy: float, searches: int = 2000) -> float:
    """Largest power of a test for half-renumbered series against a weaker link, at level 1%.

    By Neyman and Pearson (1933), this is the likelihood ratio test. Its alternative: pairs agree
    with a test statistic at `accuracy` in half of the series, and at 1/2 in the other half. Its
    null hypothesis: all series are between the two. It is given both rates, which no audit has. It
    treats pairs of one series as independent, which raises its power.
    """
    directed = dataset.series_M[dataset.preference_M != 0.5]
    pairs_S = np.bincount(directed)
    pairs_S = pairs_S[pairs_S > 0]
    rng = np.random.default_rng(4)
    between = (accuracy + 0.5) / 2

    def log_ratio(hits: np.ndarray) -> np.ndarray:
        halves = [scipy.stats.binom.logpmf(hits, pairs_S, p) for p in (accuracy, 0.5)]
        whole = scipy.stats.binom.logpmf(hits, pairs_S, between)
        return (np.logaddexp(*halves) - np.log(2) - whole).sum(-1)

    shape = (searches, len(pairs_S))
    clean = log_ratio(rng.binomial(pairs_S, between, shape))
    half = np.where(rng.random(shape) < 0.5, accuracy, 0.5)
    return float((log_ratio(rng.binomial(pairs_S, half)) > np.quantile(clean, 0.99)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder with pairs.csv and iqa.csv")
    parser.add_argument("--seeds", type=int, default=50, help="with faults planted")
    parser.add_argument("--clean", type=int, default=200, help="of clean data")
    flags = parser.parse_args()
    kinds = {"simulated": simulated_samples()}
    if flags.real:
        kinds = {"real": real_samples(flags.real)} | kinds
    for kind, samples in kinds.items():
        start = time.monotonic()
        rows = [CLEAN, CLEAN_SPLIT, *FAULTS, NOISE, LEAK]
        counts = Counts({row: Counter() for row in rows}, {row: Counter() for row in rows})
        first = next(samples)
        for seed, sample in zip(
            range(max(flags.seeds, flags.clean)), itertools.chain([first], samples), strict=False
        ):
            audit(sample, seed, counts, planted=seed < flags.seeds)
        print(f"\n{kind}: {time.monotonic() - start:.0f} s")
        print_counts(counts)
        clean = as_dataset(first.table, first.block)
        strongest = max(
            look.accuracy for look in permutation_test.run_permutation_test(clean).looks
        )
        power = best_possible_power(clean, strongest)
        print(
            "  half renumbered, without a reference: power of the best possible test: "
            f"{power:.0%} (link of {strongest:.1%}, 1% false alarms)"
        )


def print_counts(counts: Counts) -> None:
    for row, seen in counts.seen.items():
        clean = row in (CLEAN, CLEAN_SPLIT)
        _print(
            row, "false alarms" if clean else "caught", seen, CLEARED if clean else CAUGHT, clean
        )
        if counts.named[row]:
            right = {FAULTS[row][1]} if row in FAULTS else CLEARED
            _print(row, "false names" if clean else "named", counts.named[row], right, clean)


def _print(row: str, what: str, said: Counter[str], right: set[str], count_others: bool) -> None:
    """Prints how many verdicts were right (or how many were not), and the count of each verdict."""
    number = sum(n for words, n in said.items() if (words in right) != count_others)
    words = ", ".join(f"{words}: {n}" for words, n in said.most_common())
    print(f"  {row:22} {what:12} {number:3} of {said.total():3}   ({words})", flush=True)


if __name__ == "__main__":
    main()
