"""Selection bias of large searches, and the savings and costs of rungs.

    python benchmarks/sweeps.py equal --searches=400 --experiments=200
    python benchmarks/sweeps.py rungs --sets=20     # about an hour on two cores

`equal`: simulated tables of equal experiments. Nothing is trained: the hits of each experiment are
drawn, so that the truth is known. All experiments order 62% of new pairs correctly, and so does a
baseline. Their errors are correlated: an entry has a latent normal variable for each pair, of whose
variance three quarters are common to all entries. The pairs of a series share half of this part.

Simulates searches with folds, which select on out-of-fold pairs, and with one split, which select
on validation pairs. Prints, in points, with standard errors over searches:
- the accuracy of the selected experiment minus its true accuracy: on the pairs that select it, as a
  search reports it (corrected by BBC-CV where the same series select and measure), and on a fifth
  of the series that were set aside before;
- the share of searches that claim any experiment to be better than the baseline.

`rungs`: on each of several simulated sets (1,000 pairs, 64 columns), a grid of 81 configurations in
5 folds with 2 seeds and 27 epochs, with rungs at 1, 3, 9, 27 and without rungs. Prints the epochs
of all trials, the seconds, and the true accuracy of the selected experiment, as a final model on
20,000 new pairs; and the differences with Student's 95% interval over the sets.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

import jaxrank
from jaxrank.configs import REFERENCES
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import comparison, resampling, selection
from jaxrank.evaluation.hits import Hits, pooled

ACCURACY = 0.62
COMMON, OF_SERIES = 0.75, 0.5
PAIRS_OF_SERIES = 2.5
NUM_DRAWS = 200  # a tenth of a leaderboard's, to save time
NUM_COLUMNS, NUM_PAIRS, NUM_NEW_PAIRS = 64, 1_000, 20_000
# Standard deviations of a photo's appeal, in log-odds: in its columns, and hidden.
SHOWN, HIDDEN = 1.2, 0.7
GRID: dict[str, Any] = {
    "space": {
        "learning_rate": [1e-4, 1e-3, 1e-2],
        "dropout": [0.0, 0.3, 0.6],
        "weight_decay": [0.0, 0.03, 0.3],
        "mlp_hidden_dims": ["", "32", "64,32"],
    },
    "overrides": {"max_epochs": 27, "patience": 27, "batch_size": 32},
    "folds": 5, "num_seeds": 2, "audit": "off", "predictions": "none", "curves": "none",
}  # fmt: skip


def draw(rng: np.random.Generator, num_entries: int, num_pairs: int) -> tuple[np.ndarray, ...]:
    """Draws the hits of each entry [X, M], and the series of each pair [M]."""
    series_M = np.sort(rng.integers(int(num_pairs / PAIRS_OF_SERIES), size=num_pairs))
    common_M = np.sqrt(1 - OF_SERIES) * rng.standard_normal(num_pairs)
    common_M += np.sqrt(OF_SERIES) * rng.standard_normal(series_M.max() + 1)[series_M]
    own_XM = rng.standard_normal((num_entries, num_pairs))
    latent_XM = np.sqrt(COMMON) * common_M + np.sqrt(1 - COMMON) * own_XM
    return latent_XM < NormalDist().inv_cdf(ACCURACY), series_M


def hits_of(right_XM: np.ndarray, series_M: np.ndarray, in_split_M: np.ndarray, folds: int) -> Hits:
    """Hits of all entries by series; the last entry is the baseline."""
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
    """Claims of one search, minus the truth, in points."""
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
    chosen = selection.select_experiment(
        validation, test, np.zeros(num_experiments + 1), num_draws=NUM_DRAWS, seed=seed
    )
    assert chosen is not None
    selecting = pooled(test if folds > 1 else validation).accuracy_X[chosen.entry]
    draws = resampling.resample(test, num_draws=NUM_DRAWS, seed=seed)
    table = comparison.standings(draws, {"baseline": num_experiments})
    claimed = {
        "on the pairs that select": selecting,
        "as reported": chosen.accuracy,
        "confirmed": right_XM[chosen.entry, aside_M].mean(),
    }
    return {name: 100 * (float(value) - ACCURACY) for name, value in claimed.items()} | {
        "any better than the baseline": 100 * float(table.to["baseline"].better[:-1].any())
    }


def draw_set(seed: int, num_pairs: int) -> tuple[Preferences, dict[str, Block]]:
    """Pairs of series of five photos, two pairs each, and the photos' columns.

    Appeal depends on some columns linearly, and on two columns by their product. All sets have the
    same truth.
    """
    rng = np.random.default_rng([seed, num_pairs])
    photos_N = np.array([f"{number:06d}.jpg" for number in range(num_pairs // 2 * 5)])
    values_ND = rng.standard_normal((len(photos_N), NUM_COLUMNS)).astype(np.float32)
    weight_D = np.random.default_rng(0).standard_normal(NUM_COLUMNS) * 0.9 ** np.arange(NUM_COLUMNS)
    shown_N = values_ND @ (weight_D / np.linalg.norm(weight_D))
    shown_N += values_ND[:, 0] * values_ND[:, 1]
    appeal_N = SHOWN * shown_N / np.sqrt(2) + HIDDEN * rng.standard_normal(len(photos_N))
    series_M = np.repeat(np.arange(num_pairs // 2), 2)
    rows_M2 = 5 * series_M[:, None] + np.array([rng.permutation(5)[:2] for _ in series_M])
    chance_M = 1 / (1 + np.exp(appeal_N[rows_M2[:, 1]] - appeal_N[rows_M2[:, 0]]))
    table = pd.DataFrame(
        {
            "series_id": series_M.astype(str),
            "image_a": photos_N[rows_M2[:, 0]],
            "image_b": photos_N[rows_M2[:, 1]],
            "preference": (rng.random(num_pairs) < chance_M).astype(float),
        }
    )
    columns = [f"c{column}" for column in range(NUM_COLUMNS)]
    return Preferences(table), {"columns": Block(photos_N.tolist(), columns, values_ND)}


def examine_rungs(seed: int, rungs: str, folder: Path) -> dict[str, float]:
    """Cost of one search, and the true accuracy of the experiment that it selects."""
    pairs, features = draw_set(seed, NUM_PAIRS)
    start = time.perf_counter()
    result = jaxrank.search(pairs, features, workdir=folder, rungs=rungs, **GRID)
    seconds = time.perf_counter() - start
    mine = result.trials[~result.trials["experiment_name"].isin(REFERENCES)]
    is_selected = result.summary["outcome"] == "selected"
    (selected,) = result.summary.loc[is_selected, "experiment_name"]
    # The selected experiment by name, since a baseline may be as good and become the final model.
    jaxrank.search(pairs, features, workdir=folder, resume=True, final=selected)
    return {
        "trial-epochs": float(mine["epochs_run"].sum()),
        "seconds": seconds,
        "true accuracy, %": 100 * true_accuracy(folder, seed),
    }


def true_accuracy(folder: Path, seed: int) -> float:
    """True accuracy of a search's final model, on new pairs of the set's kind."""
    new_pairs, new_features = draw_set(10_000 + seed, NUM_NEW_PAIRS)
    scores = jaxrank.load_model(folder / "final").score(new_features)
    table = new_pairs.table
    difference_M = scores[table["image_a"]].to_numpy() - scores[table["image_b"]].to_numpy()
    right_M = (difference_M > 0) == (table["preference"] > 0.5).to_numpy()
    return float(right_M.mean())


def compare_rungs(first: int, num_sets: int) -> None:
    logging.getLogger("jaxrank").setLevel(logging.ERROR)
    rows: dict[str, list[dict[str, float]]] = {"": [], "1,3,9,27": []}
    for seed in range(first, first + num_sets):
        for rungs, mine in rows.items():
            with tempfile.TemporaryDirectory() as folder:
                mine.append(examine_rungs(seed, rungs, Path(folder) / "w"))
        print(f"set {seed}: " + "; ".join(str(mine[-1]) for mine in rows.values()), flush=True)
    for name in rows[""][0]:
        without, with_rungs = (np.array([row[name] for row in mine]) for mine in rows.values())
        off = with_rungs - without
        half = 0.0
        if num_sets > 1:
            half = stats.t.ppf(0.975, num_sets - 1) * off.std(ddof=1) / np.sqrt(num_sets)
        print(
            f"  {name:20} without {without.mean():8.1f}, with {with_rungs.mean():8.1f}, "
            f"difference {off.mean():+.2f} +- {half:.2f}, "
            f"ratio {without.sum() / with_rungs.sum():.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("equal", "rungs"), nargs="?", default="equal")
    parser.add_argument("--searches", type=int, default=400)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first set")
    flags = parser.parse_args()
    if flags.part == "rungs":
        compare_rungs(flags.first, flags.sets)
        return
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
