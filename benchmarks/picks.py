"""Calibration of picks and keep sets: the figures of docs/benchmarks.md.

    python benchmarks/picks.py --sets=20     # an hour on two cores

For each size and set, a simulated table is searched with one experiment and its final model saved,
as `search` does. The final model then ranks 2,000 new series of the same truth. Prints:

- picks by their stated probability: how often the pick is the best photo, by the ranking that the
  preferences of the new series give, and by the hidden appeal. Series with several photos ranked
  first are left out, since the probability does not cover ties;
- keep sets: how often they hold the best photo, and their size;
- accuracy of the final model on all new pairs, minus the accuracy of the folds' models.

Sets are independent, so intervals are Student's t over sets. A bin counts the sets that have picks.
"""

import argparse
import functools
import itertools
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy import stats

from jaxrank import search, train
from jaxrank.data import synthetic
from jaxrank.data.dataset import Dataset, align
from jaxrank.data.preferences import Preferences
from jaxrank.devices import memory_limit
from jaxrank.evaluation import ranking
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import make_evaluator
from jaxrank.inference.rank import rank_photos
from jaxrank.metrics import accuracy, pair_differences
from jaxrank.models import Scorer
from jaxrank.planning import planner
from jaxrank.runner.options import MEMORY_FRACTION
from jaxrank.runner.prepare import prepare

# Number of series by approximate number of pairs: a series has 2.8 pairs on average.
SERIES = {50: 18, 500: 180, 10_000: 3_570}
NEW_SERIES = 2_000
EDGES = np.arange(0.2, 1.01, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--sizes", default="50,500,10000")
    parser.add_argument("--experiment", default="tiny_mlp")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    # JAX's threads do not survive a fork.
    with ProcessPoolExecutor(given.processes, multiprocessing.get_context("spawn")) as pool:
        for size in map(int, given.sizes.split(",")):
            one = functools.partial(measured, num_series=SERIES[size], experiment=given.experiment)
            report(size, given.experiment, list(pool.map(one, range(given.sets))))


def measured(seed: int, num_series: int, experiment: str) -> dict[str, Any]:
    """Measures one set: picks of new series, and accuracies on the pairs of these series."""
    simulated = synthetic.simulate(seed, num_series + NEW_SERIES)
    table = simulated.pairs.table
    is_new = table["series_id"].astype(int) > num_series
    known = Preferences(table[~is_new].reset_index(drop=True))
    new = align(Preferences(table[is_new].reset_index(drop=True)), simulated.features)
    options: dict[str, Any] = {"experiments": experiment, "folds": 5, "seed": 0}
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "search"
        search(known, simulated.features, workdir=workdir, audit="off", **options)
        ranked = rank_photos(workdir, simulated.features, new.table)
        ranked_table = ranked.table[ranked.table["series_id"] != ""]
    strength_N, _ = ranking.ground_truth_strength(new)
    worth = pd.DataFrame(
        {"image": new.photos, "strength": strength_N, "appeal": simulated.appeal[new.photos]}
    )
    picks = ranked_table.merge(worth, on="image")
    for by in ("strength", "appeal"):
        most = picks.groupby("series_id")[by].transform("max")
        picks[f"best_{by}"] = picks[by] == most
        picks[f"first_{by}"] = picks.groupby("series_id")[f"best_{by}"].transform("sum")
    scores = ranked_table.set_index("image")["score"]
    final = _accuracy(scores[new.photos].to_numpy(np.float64), new)
    folds = fold_accuracies(known, simulated.features, new, options)
    print(f"set {seed}: final {100 * final:.2f}, folds {np.round(100 * np.array(folds), 2)}",
          flush=True)  # fmt: skip
    return {"picks": picks, "final": final, "folds": float(np.mean(folds))}


def _accuracy(scores_N: np.ndarray, new: Dataset) -> float:
    return float(accuracy(pair_differences(scores_N, new.pair_rows_M2), new.preference_M))


def fold_accuracies(
    known: Preferences, features: dict, new: Dataset, options: dict[str, Any]
) -> list[float]:
    """Accuracies on the new pairs of each fold's model, trained as in the search."""
    prepared = prepare(known, features, **options)
    trials = [t for t in prepared.trials if t.experiment.name == options["experiments"]]
    data, found = prepared.split_data, []
    for cohort in planner.make_cohorts(trials, data, memory_limit(MEMORY_FRACTION)):
        for result in evaluate_cohort(cohort, train.fit(cohort, data), make_evaluator(data)):
            e = result.trial.experiment
            assert result.weights is not None
            inputs_ND = result.weights.scaling.apply(new.stored_inputs(e.blocks, e.l2_blocks))
            scorer = Scorer(e.mlp_hidden_dims, e.activation, e.use_layernorm)
            scores = jax.jit(scorer.apply)(result.weights.params, inputs_ND)
            found.append(_accuracy(np.asarray(scores, np.float64), new))
    return found


def report(size: int, experiment: str, found: list[dict]) -> None:
    print(f"\nSIMULATED data, {len(found)} sets of about {size:,} pairs, {experiment}, 5 folds; "
          f"{NEW_SERIES:,} new series a set\n")  # fmt: skip
    print("| stated | picks | mean stated | best by preferences | best by appeal |")
    print("|---|---|---|---|---|")
    for low, high in itertools.pairwise(EDGES):
        rows = []
        for one in found:
            picks = one["picks"][one["picks"]["pick"].astype(bool)]
            p = picks["p_best"].astype(float)
            mine = picks[(p >= low) & ((p < high) | (high > 0.99))]
            if len(mine):
                stated = mine["p_best"].astype(float).mean()
                rows.append((len(mine), stated, *(
                    mine.loc[mine[f"first_{by}"] == 1, f"best_{by}"].mean()
                    for by in ("strength", "appeal"))))  # fmt: skip
        if rows:
            count, stated, *best = np.array(rows, float).T
            shown = " | ".join(_mean(b, count) for b in best)
            print(f"| {low:.1f} to {high:.1f} | {int(count.sum()):,} | "
                  f"{100 * np.average(stated, weights=count):.1f} | {shown} |")  # fmt: skip
    for by in ("strength", "appeal"):
        kept = [
            (one["picks"]["keep"].astype(bool) & one["picks"][f"best_{by}"])
            .groupby(one["picks"]["series_id"])
            .any()
            .mean()
            for one in found
        ]
        print(f"keep sets hold the best by {by} in {_mean(np.array(kept))}%")
    sizes = [one["picks"].groupby("series_id")["keep"].sum().mean() for one in found]
    photos = [one["picks"].groupby("series_id").size().mean() for one in found]
    print(f"mean size {np.mean(sizes):.2f} of {np.mean(photos):.2f} photos")
    difference = np.array([one["final"] - one["folds"] for one in found])
    final = 100 * np.mean([one["final"] for one in found])
    print(f"final {final:.2f}%, less the folds' models {_mean(difference)} points", flush=True)


def _mean(values: np.ndarray, weights: np.ndarray | None = None) -> str:
    """Mean in percent with a 95% interval, over the sets that have a value."""
    known = np.isfinite(values)
    values, weights = values[known], None if weights is None else weights[known]
    mean = np.average(values, weights=weights)
    if len(values) < 2:
        return f"{100 * mean:.1f}"
    share = np.full(len(values), 1 / len(values)) if weights is None else weights / weights.sum()
    error = np.sqrt((share**2 * (values - mean) ** 2).sum() * len(values) / (len(values) - 1))
    half = stats.t.ppf(0.975, len(values) - 1) * error
    return f"{100 * mean:.1f} ({100 * (mean - half):.1f} to {100 * (mean + half):.1f})"


if __name__ == "__main__":
    main()
