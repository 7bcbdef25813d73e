"""What a large search invents, and what is left of it: simulated tables of equal experiments.

    python benchmarks/sweeps.py --searches=400 --experiments=200

Nothing is trained: what each experiment gets right is drawn, so that the truth is known. All
experiments order 62% of new pairs right. They err on many of the same pairs (a latent normal
variable of a pair, of which a share of three quarters is common to all, and a half of that to the
pairs of a series), and so does a baseline of 62%.

For a search with folds, whose out-of-fold pairs select, and for one split, whose validation pairs
do. Printed, in points, with standard errors over searches:
- the accuracy of the selected experiment minus its true one: as it is on the pairs that select, as
  a search reports it (corrected by BBC-CV where the same series select and measure), and on a fifth
  of the series that were set aside before;
- the share of searches that claim any experiment to be better than the baseline.
"""

import argparse
import time
from statistics import NormalDist

import numpy as np

from jaxrank.evaluation import comparison, selection
from jaxrank.evaluation.hits import Hits, pooled

ACCURACY = 0.62
COMMON, OF_SERIES = 0.75, 0.5
PAIRS_OF_SERIES = 2.5
NUM_DRAWS = 200  # a tenth of a leaderboard's, to save time


def draw(rng: np.random.Generator, num_entries: int, num_pairs: int) -> tuple[np.ndarray, ...]:
    """What each entry gets right [X, M], and the series of each pair [M]."""
    series_M = np.sort(rng.integers(int(num_pairs / PAIRS_OF_SERIES), size=num_pairs))
    common_M = np.sqrt(1 - OF_SERIES) * rng.standard_normal(num_pairs)
    common_M += np.sqrt(OF_SERIES) * rng.standard_normal(series_M.max() + 1)[series_M]
    own_XM = rng.standard_normal((num_entries, num_pairs))
    latent_XM = np.sqrt(COMMON) * common_M + np.sqrt(1 - COMMON) * own_XM
    return latent_XM < NormalDist().inv_cdf(ACCURACY), series_M


def hits_of(right_XM: np.ndarray, series_M: np.ndarray, in_split_M: np.ndarray, folds: int) -> Hits:
    """The last entry is the baseline."""
    num_series = int(series_M.max()) + 1
    fold_S = np.arange(num_series) % folds
    num_entries = len(right_XM)
    hits_XFKS = np.zeros((num_entries, folds, 1, num_series))
    weight_S = np.bincount(series_M[in_split_M], minlength=num_series).astype(float)
    weight_FS = np.zeros((folds, num_series))
    weight_FS[fold_S, np.arange(num_series)] = weight_S
    for x, right_M in enumerate(right_XM):
        found_S = np.bincount(series_M, right_M * in_split_M, num_series)
        hits_XFKS[x, fold_S, 0, np.arange(num_series)] = found_S
    is_baseline_X = np.arange(num_entries) == num_entries - 1
    names = tuple(f"entry_{x}" for x in range(num_entries))
    return Hits(names, is_baseline_X, ~is_baseline_X, np.arange(num_entries), hits_XFKS, weight_FS)


def examine(seed: int, num_experiments: int, num_pairs: int, folds: int) -> dict[str, float]:
    """What one search claims, less the truth."""
    rng = np.random.default_rng([seed, num_experiments, num_pairs, folds])
    right_XM, series_M = draw(rng, num_experiments + 1, num_pairs)
    part_S = rng.permutation(series_M.max() + 1) % 10
    aside_M = part_S[series_M] >= 8  # a fifth
    searched_M = ~aside_M
    validates_M = tests_M = searched_M
    if folds == 1:  # a tenth validates and a tenth tests, the others train
        validates_M, tests_M = part_S[series_M] == 0, part_S[series_M] == 1
    validation = hits_of(right_XM, series_M, validates_M, folds)
    test = hits_of(right_XM, series_M, tests_M, folds)
    chosen = selection.chosen_score(
        validation, test, np.zeros(num_experiments + 1), num_draws=NUM_DRAWS, seed=seed
    )
    assert chosen is not None
    selecting = pooled(test if folds > 1 else validation).accuracy_X[chosen.entry]
    draws = comparison.resample(test, num_draws=NUM_DRAWS, seed=seed)
    table = comparison.standings(draws, {"baseline": num_experiments})
    claimed = {
        "on the pairs that select": selecting,
        "as reported": chosen.accuracy,
        "confirmed": right_XM[chosen.entry, aside_M].mean(),
    }
    return {name: 100 * (float(value) - ACCURACY) for name, value in claimed.items()} | {
        "any better than the baseline": 100 * float(table.to["baseline"].better[:-1].any())
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=400)
    parser.add_argument("--experiments", type=int, default=200)
    flags = parser.parse_args()
    for folds, num_pairs in ((5, 1000), (1, 4000)):
        start = time.perf_counter()
        rows = [
            examine(seed, flags.experiments, num_pairs, folds) for seed in range(flags.searches)
        ]
        seconds = (time.perf_counter() - start) / flags.searches
        split = f"{folds} folds" if folds > 1 else "one split"
        what = f"{flags.experiments} equal experiments, {num_pairs:,} pairs, {split}"
        print(f"{what} ({flags.searches} searches, {seconds:.2f} s each)")
        for name in rows[0]:
            values = np.array([row[name] for row in rows])
            error = values.std(ddof=1) / np.sqrt(len(values))
            print(f"  {name:30} {values.mean():+6.2f} +- {error:.2f}", flush=True)


if __name__ == "__main__":
    main()
