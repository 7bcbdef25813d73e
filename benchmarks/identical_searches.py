"""Does the leaderboard keep its word? Simulated searches of ten experiments of known accuracy.

    python benchmarks/identical_searches.py --searches=1000 --power_searches=200

It took 23 minutes on two busy cores. Nothing is trained: what trained models get right is drawn, at
the real size (4,300 series), so that the true accuracy of every model is known exactly. The
generative model, by photo i of series s:

    appeal      u_i ~ N(0, 1)
    people      prefer i to j where u_i - u_j + noise > 0, noise ~ N(0, 2)
    ease        b_s ~ N(1, 0.5^2): what can be seen of the appeal in series s, by any scorer
    scorer m    b_s u_i + sqrt(E_m) (sqrt(.5) shared_i + sqrt(.25) kind_xi + sqrt(.25) own_mi)

with standard normal errors: shared by all scorers (what the features do not show), by all models of
an experiment x (two configurations err on different photos), and own to one training. So the right
answers of two experiments are correlated, and so are those of the pairs of a series. E_m is solved
for the model's true accuracy on new series, an integral over b_s:

    accuracy_m = 62% + shift of the experiment + 0.5 points fold + 0.5 points seed, each x N(0, 1).

The fold's deviation is common to all experiments. The baseline has errors of its own and 62%.

Printed, for one split and five folds, one seed and three:
- of ten equally good experiments (no shift): searches that call any two different, that call one
  better than the equal baseline; the same with 1.96 standard errors a difference ("unadjusted");
- coverage of the 95% intervals for the mean accuracy of the trained models on new series;
- of ten where one is better by a stated difference: how often it is told apart from another, and
  the mean of the predicted power;
- how much too good the score of the chosen experiment is, against the true mean of its models:
  raw; corrected (`selection.chosen_score`); and chosen inside each fold.
"""

import argparse
import functools
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxrank.evaluation import comparison, selection
from jaxrank.evaluation.comparison import Hits, Standings

NUM_EXPERIMENTS = 10
ACCURACY = 0.62
FOLD_DEVIATION = SEED_DEVIATION = 0.005
SHARED, KIND, OWN = 0.5, 0.25, 0.25
EASE_DEVIATION = 0.5
LABEL_NOISE = 1.0  # a photo's, in units of the appeal's variance
# Photos of a series, as jaxrank.data.synthetic draws them.
SIZES, SIZE_SHARES = np.arange(2, 9), (0.600, 0.225, 0.110, 0.040, 0.016, 0.005, 0.004)
UNEQUAL = "unequal"


class Design(NamedTuple):
    """A search: one split where `folds` is 1 (a tenth of the series validates, a tenth tests)."""

    num_series: int
    folds: int
    seeds: int


DESIGNS = [Design(4300, folds, seeds) for folds in (1, 5) for seeds in (1, 3)]
# The real photos with image-quality numbers: there three points are neither sure nor hopeless.
SMALLER = Design(1600, 5, 3)


def true_accuracy(error_variance: np.ndarray) -> np.ndarray:
    """The share of new pairs that a scorer with the error variance E orders as people do."""
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    ease = 1 + EASE_DEVIATION * node
    scale = np.sqrt((ease**2 + error_variance[..., None]) * (1 + LABEL_NOISE))
    return (0.5 + np.arcsin(ease / scale) / np.pi) @ (weight / weight.sum())


_VARIANCES = np.geomspace(1e-2, 1e4, 2000)[::-1]
_ACCURACIES = true_accuracy(_VARIANCES)


def error_variance(accuracy: np.ndarray) -> np.ndarray:
    return np.interp(accuracy, _ACCURACIES, _VARIANCES)


class Search(NamedTuple):
    """One simulated search and its truth, for the trained models and for the mean of all seeds; the
    baseline is the last entry."""

    validation: Hits
    test: Hits
    true_XFK: np.ndarray
    retrained_XF: np.ndarray


def draw_search(rng: np.random.Generator, design: Design, shift_X: np.ndarray) -> Search:
    num_series, folds, seeds = design
    if folds == 1:
        num_series = num_series // 5  # the others train
        fold_S = np.zeros(num_series, int)
        validates_S = np.arange(num_series) < num_series // 2
        tests_S, validation_fold_S = ~validates_S, fold_S
    else:
        fold_S = np.arange(num_series) % folds
        validation_fold_S = (fold_S - 1) % folds
        validates_S = tests_S = np.ones(num_series, bool)
    mean_XF = ACCURACY + shift_X[:, None] + FOLD_DEVIATION * rng.standard_normal(folds)
    retrained_XF = np.vstack([mean_XF, np.full(folds, ACCURACY)])  # a baseline is not trained
    luck_XFK = SEED_DEVIATION * rng.standard_normal((NUM_EXPERIMENTS + 1, folds, seeds))
    luck_XFK[-1] = 0.0
    true_XFK = retrained_XF[..., None] + luck_XFK
    world = draw_world(rng, num_series)
    return Search(
        score_part(rng, world, true_XFK, validation_fold_S, validates_S),
        score_part(rng, world, true_XFK, fold_S, tests_S),
        true_XFK,
        retrained_XF,
    )


class World(NamedTuple):
    """Photos N, pairs M, errors of the experiments' kinds and of the baseline [X, N]."""

    series_N: np.ndarray
    seen_N: np.ndarray
    shared_N: np.ndarray
    kind_XN: np.ndarray
    rows_a: np.ndarray
    rows_b: np.ndarray
    starts_S: np.ndarray
    a_is_better_M: np.ndarray


@functools.cache
def pairs_of(size: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.triu_indices(size, k=1)
    return a, b


def draw_world(rng: np.random.Generator, num_series: int) -> World:
    size_S = rng.choice(SIZES, size=num_series, p=SIZE_SHARES)
    series_N = np.repeat(np.arange(num_series), size_S)
    first_S = np.cumsum(size_S) - size_S
    rows_a, rows_b = (
        np.concatenate(
            [first + pairs_of(size)[side] for first, size in zip(first_S, size_S, strict=True)]
        )
        for side in (0, 1)
    )
    pairs_S = size_S * (size_S - 1) // 2
    appeal_N, shared_N = rng.standard_normal((2, len(series_N)))
    ease_S = 1 + EASE_DEVIATION * rng.standard_normal(num_series)
    label_M = appeal_N[rows_a] - appeal_N[rows_b]
    label_M = label_M + np.sqrt(2 * LABEL_NOISE) * rng.standard_normal(len(label_M))
    return World(
        series_N,
        ease_S[series_N] * appeal_N,
        shared_N,
        rng.standard_normal((NUM_EXPERIMENTS + 1, len(series_N))),
        rows_a,
        rows_b,
        np.cumsum(pairs_S) - pairs_S,
        label_M > 0,
    )


def score_part(
    rng: np.random.Generator,
    world: World,
    true_XFK: np.ndarray,
    fold_S: np.ndarray,
    in_part_S: np.ndarray,
) -> Hits:
    """What the models of each series' fold get right in the series of one part."""
    num_entries, folds, seeds = true_XFK.shape
    own_XKN = rng.standard_normal((num_entries, seeds, len(world.series_N)))
    own_XKN[-1] = world.kind_XN[-1]
    error_XKN = (
        np.sqrt(SHARED) * world.shared_N
        + np.sqrt(KIND) * world.kind_XN[:, None]
        + np.sqrt(OWN) * own_XKN
    )
    # The baseline has one error of its own, of both shares together.
    error_XKN[-1] = np.sqrt(SHARED) * world.shared_N + np.sqrt(KIND + OWN) * world.kind_XN[-1]
    variance_XKN = error_variance(true_XFK).transpose(0, 2, 1)[..., fold_S[world.series_N]]
    score_XKN = world.seen_N + np.sqrt(variance_XKN) * error_XKN
    right_XKM = (score_XKN[..., world.rows_a] > score_XKN[..., world.rows_b]) == world.a_is_better_M
    right_XKS = np.add.reduceat(right_XKM, world.starts_S, axis=2, dtype=np.float64) * in_part_S
    num_series = len(fold_S)
    pairs_S = np.diff(np.append(world.starts_S, len(world.rows_a)))
    hits_XFKS = np.zeros((num_entries, folds, seeds, num_series))
    weight_FS = np.zeros((folds, num_series))
    hits_XFKS[:, fold_S, :, np.arange(num_series)] = right_XKS.transpose(2, 0, 1)
    weight_FS[fold_S, np.arange(num_series)] = pairs_S * in_part_S
    is_baseline_X = np.arange(num_entries) == NUM_EXPERIMENTS
    names = (*(f"experiment_{x}" for x in range(NUM_EXPERIMENTS)), "baseline")
    return Hits(names, is_baseline_X, ~is_baseline_X, hits_XFKS, weight_FS)


def covered(table: Standings, true_X: np.ndarray) -> float:
    mine = slice(NUM_EXPERIMENTS)
    return float(((table.ci_low[mine] <= true_X) & (true_X <= table.ci_high[mine])).mean())


def inside_folds(search: Search) -> float:
    """The test accuracy of what each fold's own validation pairs choose in it."""
    rights = 0.0
    for fold in range(len(search.test.weight_FS)):
        chosen = search.validation.hits_XFKS[:-1, fold].sum(axis=(1, 2)).argmax()
        rights += search.test.hits_XFKS[chosen, fold].sum(axis=1).mean()
    return rights / search.test.weight_FS.sum()


def examine(seed: int, design: Design, better: float | str) -> dict[str, float]:
    """What one search claims, beside the truth.

    Args:
      seed: of the search.
      design: its size.
      better: how much better the first experiment is; UNEQUAL draws all of them, with a standard
        deviation of 0.5 points.
    """
    rng = np.random.default_rng([seed, *design, len(str(better))])
    shift_X = np.zeros(NUM_EXPERIMENTS)
    if isinstance(better, str):
        shift_X = 0.005 * rng.standard_normal(NUM_EXPERIMENTS)
    else:
        shift_X[0] = better
    search = draw_search(rng, design, shift_X)
    test = search.test
    began = time.perf_counter()
    table = comparison.standings(
        test.hits_XFKS, test.weight_FS, is_baseline_X=test.is_baseline_X, baseline=NUM_EXPERIMENTS
    )
    seconds = time.perf_counter() - began
    share_F = test.weight_FS.sum(axis=1) / test.weight_FS.sum()
    true_X = search.true_XFK.mean(axis=2)[:-1] @ share_F
    retrained_X = search.retrained_XF[:-1] @ share_F
    mine = slice(NUM_EXPERIMENTS)
    apart_XX, error_XX = table.separated_XX[mine, mine], table.error_XX[mine, mine]
    difference_XX = table.mean[mine, None] - table.mean[mine]
    wrong_XX = apart_XX & ((true_X[:, None] - true_X) * difference_XX < 0)
    chosen = selection.chosen_score(search.validation, test)
    assert chosen is not None
    stated = better if isinstance(better, float) and better else 0.03
    predicted = selection.power(stated, float(np.median(error_XX[np.triu_indices(10, 1)])),
                                  table.critical_value)  # fmt: skip
    return {
        "any claim": apart_XX.any(),
        "any wrong": wrong_XX.any(),
        "any unadjusted": (np.abs(difference_XX) > 1.96 * error_XX).any(),
        "beats baseline": (table.diff_ci_low[mine] > 0).any(),
        "beats unadjusted": (
            table.diff_to_baseline[mine] > 1.96 * table.error_XX[mine, NUM_EXPERIMENTS]
        ).any(),
        "coverage": covered(table, true_X),
        "over retraining": covered(table, retrained_X),
        "met power": (apart_XX[0, 1:] & (difference_XX[0, 1:] > 0)).mean(),
        "predicted power": predicted,
        "best first": table.bootstrap_rank1.max(),
        "best too good": table.mean[mine].max() - true_X.mean(),
        "spread": np.ptp(table.mean[mine]),
        "raw bias": chosen.raw - true_X[chosen.entry],
        "corrected bias": chosen.corrected - true_X[chosen.entry],
        "inside bias": inside_folds(search) - true_X[chosen.entry],
        "seed_variance": np.sqrt(table.seed_noise.seed_variance),
        "error": np.median(error_XX[np.triu_indices(NUM_EXPERIMENTS, 1)]),
        "critical": table.critical_value,
        "seconds": seconds,
    }


def average(
    pool: ProcessPoolExecutor, searches: int, design: Design, better: float | str
) -> dict[str, tuple[float, float]]:
    """Means over searches, with their standard errors."""
    run = functools.partial(examine, design=design, better=better)
    rows = list(pool.map(run, range(searches), chunksize=10))
    return {
        key: (float(np.mean(values)), float(np.std(values) / np.sqrt(len(values))))
        for key, values in ((key, [row[key] for row in rows]) for key in rows[0])
    }


def percent(value: tuple[float, float]) -> str:
    return f"{100 * value[0]:6.2f} +-{100 * value[1]:.2f}"


def show(title: str, keys: list[str], row: dict[str, tuple[float, float]]) -> None:
    print(title, flush=True)
    for key in keys:
        print(f"  {key:18} {percent(row[key])}")
    print(
        f"  ({100 * row['error'][0]:.2f} points standard error of a difference, factor "
        f"{row['critical'][0]:.2f}, luck of one training {100 * row['luck'][0]:.2f} points, "
        f"{row['seconds'][0]:.2f} s a table)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--power_searches", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    flags = parser.parse_args()
    equal = ["any claim", "any wrong", "any unadjusted", "beats baseline", "beats unadjusted",
             "coverage", "over retraining", "best first", "best too good", "spread"]  # fmt: skip
    bias = ["raw bias", "corrected bias", "inside bias"]
    print("Percent, or points, with standard errors over the searches.")
    with ProcessPoolExecutor(flags.processes) as pool:
        for design in DESIGNS:
            row = average(pool, flags.searches, design, 0.0)
            show(f"{design}: ten equally good, {flags.searches} searches", equal + bias, row)
        for design, better in [*((d, 0.03) for d in DESIGNS), (SMALLER, 0.03), (DESIGNS[3], 0.015)]:
            row = average(pool, flags.power_searches, design, better)
            title = f"{design}: one better by {100 * better:g} points"
            show(title, ["predicted power", "met power"], row)
        for design in DESIGNS:
            row = average(pool, flags.power_searches, design, UNEQUAL)
            show(f"{design}: unequal, 0.5 points of standard deviation", bias, row)


if __name__ == "__main__":
    main()
