"""Regret of selection rules, and bias of the selected experiment's printed accuracy.

    python benchmarks/selection_rules.py --searches=300

Searches are simulated as in identical_searches.py. As in training, the same validation pairs are
used for early stopping, so validation accuracies are optimistic. The bias is 0.7 points for the
simplest of ten experiments (steady training) to 2.2 for the largest (noisy training). These are the
differences between validation and test measured for a linear scorer and an MLP on real pairs. The
true accuracies of experiments are normal, with a stated standard deviation, independent of size.

Rules, each applied to the mean over folds and seeds:
- validation: the highest validation accuracy;
- validation, 1 SE: the simplest experiment within one standard error of the highest validation
  accuracy; the error is that of the paired difference over series;
- out of fold: the highest accuracy on the test pairs of all folds;
- out of fold, 1 SE: likewise.

Prints how much worse the selected experiment is than the truly best one (regret), and how often it
is the truly best. Also prints the bias of its accuracy on test pairs, raw and corrected by
resampling (BBC-CV by series), against the true accuracy of its trained models.
"""

import argparse
import functools
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from identical_searches import (
    DESIGNS,
    NUM_EXPERIMENTS,
    SEED_DEVIATIONS,
    Design,
    draw_search,
)

from jaxrank.evaluation import selection
from jaxrank.evaluation.hits import Hits, pooled

OPTIMISM = np.linspace(0.007, 0.022, NUM_EXPERIMENTS)  # the first experiment is the simplest


def simplest_near_best(hits: Hits) -> int:
    """Selects by the paired one-standard-error rule."""
    sums = pooled(hits)
    mean_X = sums.accuracy_X[:NUM_EXPERIMENTS]
    best = int(mean_X.argmax())
    for x in range(NUM_EXPERIMENTS):
        off_S = sums.hits_XS[best] - sums.hits_XS[x]
        weight_S = sums.weight_YS[sums.weight_of_X[x]]
        off_S = off_S - (mean_X[best] - mean_X[x]) * weight_S
        error = np.sqrt((off_S**2).sum()) / weight_S.sum()
        if mean_X[best] - mean_X[x] <= error:
            return x
    return best


def examine(seed: int, design: Design, seeds: str, deviation: float) -> dict[str, float]:
    """Regret and bias of each rule in one search."""
    rng = np.random.default_rng([seed, *design, len(seeds), int(1e4 * deviation)])
    shift_X = deviation * rng.standard_normal(NUM_EXPERIMENTS)
    search = draw_search(rng, design, shift_X, SEED_DEVIATIONS[seeds], OPTIMISM)
    validation, test = search.validation, search.test
    share_F = test.weight_FS.sum(axis=1) / test.weight_FS.sum()
    true_X = (search.retrained_XF @ share_F)[:NUM_EXPERIMENTS]
    models_X = search.true_XFK.mean(axis=2) @ share_F
    tested_X = pooled(test).accuracy_X
    chosen = {
        "validation": int(pooled(validation).accuracy_X[:NUM_EXPERIMENTS].argmax()),
        "validation, 1 SE": simplest_near_best(validation),
        "out of fold": int(tested_X[:NUM_EXPERIMENTS].argmax()),
        "out of fold, 1 SE": simplest_near_best(test),
    }
    found = {}
    for rule, x in chosen.items():
        found[f"{rule}: regret"] = true_X.max() - true_X[x]
        found[f"{rule}: best"] = x == true_X.argmax()
        found[f"{rule}: bias"] = tested_X[x] - models_X[x]
    printed = selection.select_experiment(validation, test, np.arange(len(test.names)))
    assert printed is not None
    found["printed: bias"] = printed.accuracy - models_X[printed.entry]
    return {key: float(value) for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    flags = parser.parse_args()
    with ProcessPoolExecutor(flags.processes) as pool:
        for design in DESIGNS:
            for deviation in (0.0, 0.005, 0.015):
                run = functools.partial(examine, design=design, seeds="equal", deviation=deviation)
                rows = list(pool.map(run, range(flags.searches), chunksize=5))
                print(f"{design}, experiments differ by {100 * deviation:g} points")
                for key in rows[0]:
                    values = 100 * np.array([row[key] for row in rows])
                    error = values.std() / np.sqrt(len(values))
                    print(f"  {key:28} {values.mean():6.2f} +-{error:.2f}")
                print(flush=True)


if __name__ == "__main__":
    main()
