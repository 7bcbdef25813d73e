"""Detection rates of the audit's checks for faults planted in features and names.

    python benchmarks/planted_data_faults.py --real=FOLDER

Data are as in `planted_faults.py`, but a real set is a random half of the series: a series that is
drawn twice would be a copy under a new id, which is one of the faults. Simulated sets have the four
image-quality numbers, or all 1,540 columns.

- copied series: 30% of the series are in the data twice, the copy under new ids and names;
- saved again: likewise, and the copies' numbers differ by 1% or 10% of each column's standard
  deviation, as for pictures that were saved again;
- label as a column: the mean preference for a photo is a column of its features;
- later photo wins: in half of the pairs that have a direction;
- zero vectors: half of the photos have zeros in place of one block;
- two units: the first column is 255 or 1,000 times as large for half of the photos.

Caught: the check for the fault warns. Half of the clean sets also have a block `odd`: heavy tails,
bimodal numbers, counts, categories, rounded and clipped numbers, and numbers that are mostly zero.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from jaxrank.audit import (
    duplicates,
    mixed_scales,
    near_duplicates,
    photo_order,
    shared_vectors,
    target_leakage,
)
from jaxrank.audit.case import WARN, AuditCase, Check
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.importers import read_block_csv
from jaxrank.data.preferences import Preferences, read_preferences
from jaxrank.data.synthetic import simulate

Rng: TypeAlias = np.random.Generator
# A pair table and its blocks.
Sample: TypeAlias = tuple[pd.DataFrame, Mapping[str, Block]]

CHECKS: dict[str, Check] = {
    "duplicates": duplicates.check,
    "near duplicates": near_duplicates.check,
    "target leakage": target_leakage.check,
    "photo order": photo_order.check,
    "shared vectors": shared_vectors.check,
    "mixed scales": mixed_scales.check,
}
# Series of simulated sets, in turn. With 1,540 columns, faults are planted in sets of the second
# size, and clean sets have the first two.
SIZES = (50, 800, 1626)


def real_samples(folder: Path) -> Iterator[Sample]:
    table = read_preferences(folder / "pairs.csv").table
    blocks = {"iqa": read_block_csv(folder / "iqa.csv")}
    table = table[table[["image_a", "image_b"]].isin(blocks["iqa"].photos).all(axis=1)]
    ids = table["series_id"].unique()
    for seed in range(10**9):
        half = np.random.default_rng([4, seed]).choice(ids, len(ids) // 2, replace=False)
        yield table[table["series_id"].isin(half)].reset_index(drop=True), blocks


def simulated_samples(sizes: tuple[int, ...], *names: str) -> Iterator[Sample]:
    for seed in range(10**9):
        simulated = simulate(seed + 3000, sizes[seed % len(sizes)])
        yield simulated.pairs.table, {name: simulated.features[name] for name in names}


def with_odd_block(sample: Sample, rng: Rng) -> Sample:
    """Adds a block of numbers that are unusual but not faulty.

    In about half of the columns made of normal numbers, a series' photos have similar numbers.
    """
    table, blocks = sample
    photos = next(iter(blocks.values())).photos
    series = pd.factorize(pd.Series(photos).str.split("-").str[0])[0]
    own, shared = rng.standard_normal((len(photos), 12)), rng.standard_normal((len(photos), 12))
    z = np.where(np.arange(12) % 2, own, (own + shared[series]) / np.sqrt(2)).T
    second = rng.random(len(photos)) < 0.5
    columns = {
        "cauchy": rng.standard_cauchy(len(photos)),
        "lognormal": np.exp(2 * z[0]),
        "wide_lognormal": np.exp(5 * z[1]),
        "bimodal": z[2] + 8 * second,
        "bimodal_sizes": np.exp(z[3] + 5 * second),
        "bimodal_widths": np.where(second, 1000 + 30 * z[4], 1 + z[4]),
        "poisson": rng.poisson(3, len(photos)),
        "many_counts": rng.poisson(np.exp(2 + z[5])),
        "mostly_zero": np.maximum(z[6] - 1, 0),
        "clipped": np.minimum(np.exp(z[7]), 1),
        "category": rng.integers(0, 3, len(photos)),
        "rounded": np.round(z[8], 1),
    }
    values = np.stack(list(columns.values()), axis=1).astype(np.float32)
    return table, {**blocks, "odd": Block(photos, list(columns), values)}


def with_values(blocks: Mapping[str, Block], name: str, values: np.ndarray) -> dict[str, Block]:
    return {**blocks, name: blocks[name]._replace(values=values.astype(np.float32))}


def copied(sample: Sample, rng: Rng, noise: float = 0.0) -> Sample:
    """Copies 30% of the series; `noise` is in standard deviations of each column."""
    table, blocks = sample
    ids = table["series_id"].unique()
    chosen = rng.choice(ids, round(0.3 * len(ids)), replace=False)
    again = table[table["series_id"].isin(chosen)]
    photos = sorted(set(again["image_a"]) | set(again["image_b"]))
    new = {photo: f"copy-{rng.integers(10**9)}-{i}.JPG" for i, photo in enumerate(photos)}
    again = again.assign(
        series_id="copy-" + again["series_id"],
        image_a=again["image_a"].map(new),
        image_b=again["image_b"].map(new),
    )
    larger = {}
    for name, block in blocks.items():
        values = np.asarray(block.values)
        rows = values[pd.Index(block.photos).get_indexer(pd.Index(photos))]
        rows = rows + noise * values.std(axis=0) * rng.standard_normal(rows.shape)
        stacked = np.concatenate([values, rows]).astype(np.float32)
        larger[name] = Block([*block.photos, *new.values()], list(block.columns), stacked)
    return pd.concat([table, again], ignore_index=True), larger


def label_as_column(sample: Sample, rng: Rng) -> Sample:
    del rng
    table, blocks = sample
    won = pd.concat(
        [
            table.set_index("image_a")["preference"],
            1 - table.set_index("image_b")["preference"],
        ]
    )
    name, block = next(iter(blocks.items()))
    mean = won.groupby(level=0).mean().reindex(list(block.photos)).fillna(0.5)
    values = np.column_stack([block.values, mean])
    wider = Block(block.photos, [*block.columns, "label"], values.astype(np.float32))
    return table, {**blocks, name: wider}


def later_wins(sample: Sample, rng: Rng) -> Sample:
    table, blocks = sample
    later = (table["image_a"] > table["image_b"]).astype(float)
    chosen = (rng.random(len(table)) < 0.5) & (table["preference"] != 0.5)
    return table.assign(preference=table["preference"].where(~chosen, later)), blocks


def zero_vectors(sample: Sample, rng: Rng) -> Sample:
    table, blocks = sample
    name, block = next(iter(blocks.items()))
    kept = rng.random((len(block.photos), 1)) < 0.5
    return table, with_values(blocks, name, block.values * kept)


def two_units(sample: Sample, rng: Rng, factor: float) -> Sample:
    table, blocks = sample
    name, block = next(iter(blocks.items()))
    values = np.array(block.values, np.float64)
    values[:, 0] *= np.where(rng.random(len(values)) < 0.5, factor, 1.0)
    return table, with_values(blocks, name, values)


# Functions that plant a fault in a sample, and the check that should find it.
FAULTS: dict[str, tuple[Callable[[Sample, Rng], Sample], str]] = {
    "copied series": (copied, "duplicates"),
    "saved again, 1%": (lambda sample, rng: copied(sample, rng, 0.01), "near duplicates"),
    "saved again, 10%": (lambda sample, rng: copied(sample, rng, 0.1), "near duplicates"),
    "label as a column": (label_as_column, "target leakage"),
    "later photo wins": (later_wins, "photo order"),
    "zero vectors": (zero_vectors, "shared vectors"),
    "two units, 255": (lambda sample, rng: two_units(sample, rng, 255), "mixed scales"),
    "two units, 1,000": (lambda sample, rng: two_units(sample, rng, 1000), "mixed scales"),
}


def verdicts(sample: Sample, seconds: dict[str, float]) -> dict[str, str]:
    """Verdict of each check; adds the seconds that the check took to `seconds`."""
    table, blocks = sample
    dataset = align(Preferences(table), blocks)
    data = SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(table))
    case = AuditCase(table=table, data=data, compared=None, deadline=np.inf)
    said = {}
    for name, check in CHECKS.items():
        start = time.perf_counter()
        said[name] = check(case, {}).verdict
        seconds[name] += time.perf_counter() - start
    return said


def plant(kind: str, samples: Iterator[Sample], seeds: int) -> None:
    caught: Counter[str] = Counter()
    others: dict[str, Counter[str]] = {name: Counter() for name in FAULTS}
    seconds: dict[str, float] = dict.fromkeys(CHECKS, 0.0)
    for seed, sample in zip(range(seeds), samples, strict=False):
        for f, (name, (spoil, expected)) in enumerate(FAULTS.items()):
            said = verdicts(spoil(sample, np.random.default_rng([2, seed, f])), seconds)
            caught[name] += said.pop(expected) == WARN
            others[name].update(check for check, verdict in said.items() if verdict == WARN)
    print(f"\n{kind}: faults, {seeds} seeds")
    for name, other in others.items():
        also = ", ".join(f"{check}: {n}" for check, n in other.most_common())
        print(f"  {name:20} caught {caught[name]:3}   (others that warn: {also or 'none'})")
    _print_seconds(seconds, seeds * len(FAULTS))


def count_alarms(kind: str, samples: Iterator[Sample], number: int) -> None:
    said: dict[str, Counter[str]] = {name: Counter() for name in CHECKS}
    seconds: dict[str, float] = dict.fromkeys(CHECKS, 0.0)
    for seed, sample in zip(range(number), samples, strict=False):
        # In blocks of all sizes, so that every size has clean sets with and without `odd`.
        odd = seed // len(SIZES) % 2
        looked_at = with_odd_block(sample, np.random.default_rng([3, seed])) if odd else sample
        for name, verdict in verdicts(looked_at, seconds).items():
            said[name][verdict] += 1
    print(f"\n{kind}: {number} clean sets")
    for name, counted in said.items():
        print(f"  {name:20} " + ", ".join(f"{v}: {n}" for v, n in counted.most_common()))
    _print_seconds(seconds, number)


def _print_seconds(seconds: dict[str, float], number: int) -> None:
    listed = ", ".join(f"{name} {total / number:.2f}" for name, total in seconds.items())
    print(f"  seconds a set: {listed}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder with pairs.csv and iqa.csv")
    parser.add_argument("--seeds", type=int, default=20, help="with faults planted, of each kind")
    parser.add_argument("--clean", type=int, default=150, help="real, and simulated, clean sets")
    flags = parser.parse_args()
    wide = "clip", "cnn", "iqa"
    if flags.real:
        plant("real", real_samples(flags.real), flags.seeds)
        count_alarms("real", real_samples(flags.real), flags.clean)
    plant("simulated, 4 columns", simulated_samples(SIZES[-1:], "iqa"), flags.seeds)
    plant("simulated, 1,540 columns", simulated_samples(SIZES[1:2], *wide), flags.seeds)
    count_alarms(
        "simulated, 4 columns", simulated_samples(SIZES, "iqa"), flags.clean - flags.clean // 5
    )
    count_alarms("simulated, 1,540 columns", simulated_samples(SIZES[:2], *wide), flags.clean // 5)


if __name__ == "__main__":
    main()
