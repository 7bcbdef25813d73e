"""Error rates of the leaderboard, in simulated searches of ten experiments of known accuracy.

    python benchmarks/identical_searches.py --searches=1000 --power_searches=300

A search takes a tenth of a second. Nothing is trained: the hits of trained models are drawn, so
that the true accuracy of every model is known exactly. The generative model, for photo i of series
s:

    appeal      u_i ~ N(0, 1)
    people      prefer i to j where u_i - u_j + noise > 0, noise ~ N(0, 2)
    ease        b_s ~ N(1, 0.5^2): how much any scorer can see of the appeal in series s
    scorer m    b_s u_i + sqrt(E_m) (sqrt(.5) shared_i + sqrt(.25) kind_xi + sqrt(.25) own_mi)

Errors are standard normal. `shared` is common to all scorers (what the features do not show),
`kind` to all models of an experiment x (two configurations err on different photos), and `own` to
one training. So the hits of two experiments are correlated, and so are the hits of the pairs of a
series. E_m is solved for the model's true accuracy on new series, an integral over b_s:

    accuracy_m = 62% + shift of the experiment + 0.5 points fold + deviation of the seed.

The standard deviation over seeds is 0.5 points in all experiments (equal), 0.1 to 2.5 (unequal), or
0.3 in nine and 2.5 in one (one_noisy). The fold's deviation is common to all experiments. The
baseline has errors of its own and a true accuracy of 62%.

Prints, in percent of searches, for one split and five folds, one seed and three:
- for each family of intervals, searches in which an interval misses the truth; the goal is 2.5%.
  The truth is that of experiments, or of the trained models where each experiment has one model;
- searches that leave the truly best experiment, or any that is as good, out of the set tied for
  best;
- coverage of the 95% intervals for the accuracy of the trained models on new series; goal 93 to 97;
- with ten experiments of which the first is better by 3 points: how often it is found better than
  the baseline, by its family and by all pairs, which was the rule before.
"""

import argparse
import functools
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxrank.evaluation import comparison, resampling
from jaxrank.evaluation.hits import Hits

NUM_EXPERIMENTS = 10
BASELINE, CHANCE = NUM_EXPERIMENTS, NUM_EXPERIMENTS + 1
ACCURACY = 0.62
FOLD_DEVIATION = 0.005
# Standard deviation over seeds of each experiment.
SEED_DEVIATIONS = {
    "equal": np.full(NUM_EXPERIMENTS, 0.005),
    "unequal": np.geomspace(0.001, 0.025, NUM_EXPERIMENTS),
    "one_noisy": np.append(np.full(NUM_EXPERIMENTS - 1, 0.003), 0.025),
}
SHARED, KIND, OWN = 0.5, 0.25, 0.25
EASE_DEVIATION = 0.5
LABEL_NOISE = 1.0  # variance for each photo, in units of the appeal's variance
# Photos per series, as jaxrank.data.synthetic draws them.
SIZES, SIZE_SHARES = np.arange(2, 9), (0.600, 0.225, 0.110, 0.040, 0.016, 0.005, 0.004)


class Design(NamedTuple):
    """Size of a search.

    `folds` of 1 is one split: a tenth of the series validates, and a tenth tests.
    """

    num_series: int
    folds: int
    seeds: int


# The embedded data, and the real photos with image-quality numbers: with more series in five folds
# three points would be found every time.
DESIGNS = [Design(4300, 1, 1), Design(1600, 5, 1), Design(1600, 5, 3)]
NUM_DRAWS = 500  # a quarter of a leaderboard's, to save time


def true_accuracy(error_variance: np.ndarray) -> np.ndarray:
    """Share of new pairs that a scorer with the error variance E orders as people do."""
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    ease = 1 + EASE_DEVIATION * node
    scale = np.sqrt((ease**2 + error_variance[..., None]) * (1 + LABEL_NOISE))
    return (0.5 + np.arcsin(ease / scale) / np.pi) @ (weight / weight.sum())


_VARIANCES = np.geomspace(1e-2, 1e4, 2000)[::-1]
_ACCURACIES = true_accuracy(_VARIANCES)


def error_variance(accuracy: np.ndarray) -> np.ndarray:
    return np.interp(accuracy, _ACCURACIES, _VARIANCES)


class Search(NamedTuple):
    """One simulated search and its truth, for the trained models and for the mean of all seeds.

    The baseline is the last entry.
    """

    validation: Hits
    test: Hits
    true_XFK: np.ndarray
    retrained_XF: np.ndarray


def draw_search(
    rng: np.random.Generator,
    design: Design,
    shift_X: np.ndarray,
    seed_deviation_X: np.ndarray,
    optimism_X: np.ndarray | None = None,
) -> Search:
    """Draws one search; `optimism_X` is the bias of the validation accuracies."""
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
    seed_effect_XFK = rng.standard_normal((NUM_EXPERIMENTS + 1, folds, seeds))
    seed_effect_XFK *= np.append(seed_deviation_X, 0.0)[:, None, None]
    true_XFK = retrained_XF[..., None] + seed_effect_XFK
    world = draw_world(rng, num_series)
    optimism_X = np.zeros(NUM_EXPERIMENTS) if optimism_X is None else optimism_X
    validated_XFK = true_XFK + np.append(optimism_X, 0.0)[:, None, None]
    return Search(
        score_part(rng, world, validated_XFK, validation_fold_S, validates_S),
        score_part(rng, world, true_XFK, fold_S, tests_S),
        true_XFK,
        retrained_XF,
    )


class World(NamedTuple):
    """Photos [N], pairs [M], and errors of the experiments' kinds and of the baseline [X, N]."""

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
    """Hits of the models of each series' fold, in the series of one split."""
    num_entries, folds, seeds = true_XFK.shape
    own_XKN = rng.standard_normal((num_entries, seeds, len(world.series_N)))
    own_XKN[-1] = world.kind_XN[-1]
    error_XKN = (
        np.sqrt(SHARED) * world.shared_N
        + np.sqrt(KIND) * world.kind_XN[:, None]
        + np.sqrt(OWN) * own_XKN
    )
    # The baseline has a single error of its own, with the variance of KIND and OWN together.
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
    # Chance has hits on half of the pairs.
    chance_FKS = np.broadcast_to(weight_FS[:, None] / 2, hits_XFKS.shape[1:])
    names = (*(f"experiment_{x}" for x in range(NUM_EXPERIMENTS)), "baseline", "chance")
    is_baseline_X = np.arange(len(names)) >= NUM_EXPERIMENTS
    return Hits(
        names,
        is_baseline_X,
        ~is_baseline_X,
        np.arange(len(names)),
        np.concatenate([hits_XFKS, chance_FKS[None]]),
        weight_FS,
    )


def examine(seed: int, design: Design, seeds: str, better: float) -> dict[str, float]:
    """Compares the claims of one search with the truth.

    Args:
      seed: seed of the search.
      design: size of the search.
      seeds: name of the standard deviations over seeds.
      better: advantage of the first experiment over all others.
    """
    rng = np.random.default_rng([seed, *design, len(seeds), int(1e4 * better)])
    shift_X = np.zeros(NUM_EXPERIMENTS)
    shift_X[0] = better
    search = draw_search(rng, design, shift_X, SEED_DEVIATIONS[seeds])
    began = time.perf_counter()
    draws = resampling.resample(search.test, num_draws=NUM_DRAWS)
    table = comparison.standings(draws, {"baseline": BASELINE, "chance": CHANCE})
    seconds = time.perf_counter() - began
    pairs = comparison.all_pairs(draws, range(CHANCE + 1))
    share_F = search.test.weight_FS.sum(axis=1) / search.test.weight_FS.sum()
    # Claims are about experiments, or about the trained models if each experiment has one model.
    models_X = search.true_XFK.mean(axis=2) @ share_F
    true_X = models_X if design.folds * design.seeds == 1 else search.retrained_XF @ share_F
    true_X, mine = np.append(true_X, 0.5), slice(NUM_EXPERIMENTS)

    def misses(low_X: np.ndarray, high_X: np.ndarray, truth_X: np.ndarray) -> bool:
        wrong_X = (low_X > truth_X + 1e-12) | (high_X < truth_X - 1e-12)
        return bool(wrong_X[mine].any())

    found: dict[str, float | bool] = {}
    for role, reference in (("baseline", BASELINE), ("chance", CHANCE)):
        to = table.to[role]
        found[f"{role}: an interval misses"] = misses(to.low, to.high, true_X - true_X[reference])
        found[f"{role}: factor"] = np.median(to.critical_value[mine])
    to = table.to["baseline"]
    found["baseline: any claim"] = (to.better | to.worse)[mine].any()
    found["best: an interval misses"] = misses(
        table.best_ci_low, table.best_ci_high, true_X - true_X.max()
    )
    found["best: truly best not in the set"] = not table.tied_for_best[true_X.argmax()]
    found["best: an equal one not in the set"] = not table.tied_for_best[mine].all()
    found["pairs: any claim"] = any(
        low > 0 or high < 0 for _, y, _, low, high in pairs if y < CHANCE
    )
    found["accuracy covered"] = (
        (table.ci_low[mine] <= models_X[mine]) & (models_X[mine] <= table.ci_high[mine])
    ).mean()
    found["better found"] = to.better[0]
    found["better found by all pairs"] = next(
        low > 0 for x, y, _, low, _ in pairs if (x, y) == (0, BASELINE)
    )
    found["others left out of the set"] = (~table.tied_for_best[1:NUM_EXPERIMENTS]).mean()
    found["error"] = np.median(to.error[mine])
    found["seconds"] = seconds
    return {key: float(value) for key, value in found.items()}


def average(
    pool: ProcessPoolExecutor, searches: int, design: Design, seeds: str, better: float
) -> dict[str, tuple[float, float]]:
    """Means over searches, with standard errors."""
    run = functools.partial(examine, design=design, seeds=seeds, better=better)
    rows = list(pool.map(run, range(searches), chunksize=10))
    return {
        key: (float(np.mean(values)), float(np.std(values) / np.sqrt(len(values))))
        for key, values in ((key, [row[key] for row in rows]) for key in rows[0])
    }


def show(title: str, row: dict[str, tuple[float, float]]) -> None:
    print(title)
    for key, (mean, error) in row.items():
        scale = 1 if key.endswith(("factor", "seconds")) else 100
        print(f"  {key:40} {scale * mean:6.2f} +-{scale * error:.2f}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--power_searches", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    flags = parser.parse_args()
    with ProcessPoolExecutor(flags.processes) as pool:
        for design in DESIGNS:
            for seeds in SEED_DEVIATIONS:
                title = f"{design}, seeds {seeds}: ten equally good"
                show(title, average(pool, flags.searches, design, seeds, 0.0))
        for design in DESIGNS:
            title = f"{design}, seeds equal: one better by 3 points"
            show(title, average(pool, flags.power_searches, design, "equal", 0.03))


if __name__ == "__main__":
    main()
