"""Error analysis: an experiment's mistakes on its test pairs, and the blocks that avoid them.

Nothing here chooses a model: it is for people who look at the photos. Axis letters: M pairs; R
judgements, one per pair and trial that tests it (`reliability.Judgements`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from jaxrank.baselines import CHANCE, heuristic_scores
from jaxrank.data.dataset import RANK_COLUMNS, VOTES_COLUMN, Dataset
from jaxrank.data.preferences import CANONICAL_COLUMNS, VOTE_COLUMNS
from jaxrank.data.splits import OFFICIAL_COLUMN
from jaxrank.evaluation.calibration import cross_entropy
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.noise_ceiling import entropy_of
from jaxrank.evaluation.reliability import Judgements, judgements
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.metrics import pair_differences, pair_hits
from jaxrank.statistics import clustered_error

MOST_PAIRS, MOST_SERIES = 100, 50
PAIR, SERIES = "pair", "series"
ERROR_COLUMNS = (
    "kind,series_id,image_a,image_b,preference,predicted,trials,pairs,wrong_pairs,excess_loss,"
    "right_alone"
).split(",")
# Columns of a pair table that are not categories of pairs.
_KNOWN_COLUMNS = (*CANONICAL_COLUMNS, *VOTE_COLUMNS, *RANK_COLUMNS, OFFICIAL_COLUMN, VOTES_COLUMN)
# Limits of distinct cells in a category column: with fewer, all pairs are in one category; with
# more, the column is text or a number.
_FEWEST_CATEGORIES, _MOST_CATEGORIES = 2, 20


class Verdicts(NamedTuple):
    """Pooled judgements of each pair by the trials that test it; zero or NaN without such trials.

    Attributes:
      judged_M: number of trials.
      directed_M: number of trials where the preference has a direction, else 0.
      hits_M: number of trials with a direction that are right; a tie of scores counts one half.
      probability_M: probability that the first photo is preferred, averaged over trials.
      excess_loss_M: log loss above the entropy of the preference, in nats, averaged over trials:
        the Kullback-Leibler divergence of the prediction from the preference.
    """

    judged_M: np.ndarray
    directed_M: np.ndarray
    hits_M: np.ndarray
    probability_M: np.ndarray
    excess_loss_M: np.ndarray


def by_pair(judged: Judgements, preference_M: np.ndarray) -> Verdicts:
    """Pools judgements by pair."""
    p_R = preference_M[judged.pair_R]
    hit_R, weight_R = pair_hits(judged.difference_R, p_R)
    excess_R = cross_entropy(judged.log_odds_R, p_R) - entropy_of(p_R)

    def sums(values_R: np.ndarray) -> np.ndarray:
        return np.bincount(judged.pair_R, values_R, len(preference_M))

    judged_M = sums(np.ones(len(judged.pair_R)))
    none = np.full(len(preference_M), np.nan)
    probability_M, excess_M = (
        np.divide(sums(values_R), judged_M, out=none.copy(), where=judged_M > 0)
        for values_R in (expit(judged.log_odds_R), excess_R)
    )
    return Verdicts(judged_M, sums(weight_R), sums(hit_R * weight_R), probability_M, excess_M)


def leanings(judged: Judgements, num_pairs: int) -> np.ndarray:
    """Mean vote of the trials that test each pair, [M].

    From 1 for the first photo to -1 for the second; NaN without trials. Trials vote because their
    scores differ in scale.
    """
    count_M = np.bincount(judged.pair_R, minlength=num_pairs)
    votes_M = np.bincount(judged.pair_R, np.sign(judged.difference_R), num_pairs)
    return np.divide(votes_M, count_M, out=np.full(num_pairs, np.nan), where=count_M > 0)


def single_leanings(
    results: Sequence[TrialResult], evaluator: Evaluator, without: str
) -> dict[str, np.ndarray]:
    """Leanings [M] of single blocks and of heuristic baselines, by name.

    Each block is represented by the experiment that reads only this block and has the highest
    validation accuracy. It judges a pair by the trials that test the pair. Each baseline except
    chance is represented by its score differences.

    Args:
      results: trials of the search; the permutation control is left out.
      evaluator: evaluator of the trials.
      without: experiment under analysis; it is left out.
    """
    best: dict[str, tuple[float, list[TrialResult]]] = {}
    by_experiment: dict[str, list[TrialResult]] = {}
    for result in results:
        experiment = result.trial.experiment
        eligible = len(experiment.blocks) == 1 and not experiment.is_control
        if eligible and experiment.name != without and result.metrics.completed:
            by_experiment.setdefault(experiment.name, []).append(result)
    for mine in by_experiment.values():
        (block,) = mine[0].trial.experiment.blocks
        validated = float(np.mean([result.metrics.measured["val_accuracy"] for result in mine]))
        if block not in best or validated > best[block][0]:
            best[block] = validated, mine
    dataset = evaluator.dataset
    alone = {
        mine[0].trial.experiment.name: leanings(
            judgements(mine, evaluator), len(dataset.preference_M)
        )
        for _, mine in best.values()
    }
    beside = {
        name: s for name, s in heuristic_scores(dataset).items() if name not in (CHANCE, *alone)
    }
    return alone | {
        name: pair_differences(scores_N, dataset.pair_rows_M2) for name, scores_N in beside.items()
    }


def blocks_alone(seen: Verdicts, alone: Mapping[str, np.ndarray], dataset: Dataset) -> pd.DataFrame:
    """Compares each block or heuristic with the experiment on its test pairs.

    Returns:
      One row per name, the most accurate first. `pairs` counts the pairs that it judges and that
      have a direction. `accuracy` on these pairs comes with its standard error clustered by series,
      and with the accuracy of the experiment on the same pairs. `right_where_wrong` is the share of
      the experiment's mistakes that the name has right; `wrong_where_right` is the reverse. Both
      shares include chance, and are one half for chance itself: a name that is right half the time
      has half of the mistakes right.
    """
    rows = []
    for name, leaning_M in alone.items():
        mine = (seen.directed_M > 0) & np.isfinite(leaning_M)
        series = dataset.series_M[mine]
        right = pair_hits(leaning_M[mine], dataset.preference_M[mine])[0].astype(np.float64)
        model = seen.hits_M[mine] / seen.directed_M[mine]
        rows.append(
            {
                "alone": name,
                "pairs": len(series),
                "accuracy": _ratio(right.sum(), len(series)),
                "accuracy_error": clustered_error(right, np.ones(len(series)), series)[0],
                "accuracy_of_experiment": _ratio(model.sum(), len(series)),
                "right_where_wrong": _ratio(right @ (1 - model), (1 - model).sum()),
                "wrong_where_right": _ratio((1 - right) @ model, model.sum()),
            }
        )
    columns = (
        "alone,pairs,accuracy,accuracy_error,accuracy_of_experiment,right_where_wrong,"
        "wrong_where_right"
    ).split(",")
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def confident_mistakes(
    seen: Verdicts, alone: Mapping[str, np.ndarray], dataset: Dataset
) -> pd.DataFrame:
    """Test pairs whose mean probability is on the wrong side, the most confident first.

    `right_alone` lists the names that alone would have been right, in the order of `alone`.
    """
    toward_a_M = dataset.table["preference"].to_numpy(np.float64) - 0.5
    predicted_M = seen.probability_M - 0.5
    wrong = np.flatnonzero(predicted_M * toward_a_M < 0)
    worst = wrong[np.argsort(-np.abs(predicted_M[wrong]), kind="stable")][:MOST_PAIRS]
    right = {name: leaning_M[worst] * toward_a_M[worst] > 0 for name, leaning_M in alone.items()}
    columns = ["series_id", "image_a", "image_b", "preference"]
    return dataset.table.loc[worst, columns].assign(
        kind=PAIR,
        predicted=seen.probability_M[worst],
        trials=seen.judged_M[worst].astype(int),
        excess_loss=seen.excess_loss_M[worst],
        right_alone=_names(right, len(worst)),
    )


def worst_series(seen: Verdicts, alone: Mapping[str, np.ndarray], dataset: Dataset) -> pd.DataFrame:
    """Series with a mistake, ordered by the excess log loss summed over their test pairs.

    `wrong_pairs` is a mean over trials. `right_alone` lists the names that alone would have had
    more of the series' pairs right, in the order of `alone`.
    """
    judged, directed = seen.judged_M > 0, seen.directed_M > 0
    hit_M = np.divide(seen.hits_M, seen.directed_M, out=np.zeros(len(judged)), where=directed)

    def sums(values_M: np.ndarray, mine: np.ndarray) -> np.ndarray:
        return np.bincount(dataset.series_M[mine], values_M[mine], len(dataset.series_ids))

    wrong, cost = sums(1 - hit_M, directed), sums(seen.excess_loss_M, judged)
    faulty = np.flatnonzero(wrong > 0)
    worst = faulty[np.argsort(-cost[faulty], kind="stable")][:MOST_SERIES]
    right = {}
    for name, leaning_M in alone.items():
        also = directed & np.isfinite(leaning_M)
        right_M = pair_hits(leaning_M, dataset.preference_M)[0]
        right[name] = sums(right_M, also)[worst] > sums(hit_M, directed)[worst]
    return pd.DataFrame(
        {
            "kind": SERIES,
            "series_id": dataset.series_ids[worst],
            "pairs": np.bincount(dataset.series_M[judged], minlength=len(cost))[worst],
            "wrong_pairs": wrong[worst],
            "excess_loss": cost[worst],
            "right_alone": _names(right, len(worst)),
        }
    )


def _names(right: Mapping[str, np.ndarray], number: int) -> list[str]:
    return ["; ".join(name for name in right if right[name][i]) for i in range(number)]


def category_columns(table: pd.DataFrame) -> list[str]:
    """Additional columns of a pair table that divide its pairs into a few categories."""
    return [
        column
        for column in table.columns
        if column not in _KNOWN_COLUMNS
        and _FEWEST_CATEGORIES <= table[column].nunique() <= _MOST_CATEGORIES
    ]


def accuracy_by_category(seen: Verdicts, dataset: Dataset) -> pd.DataFrame:
    """Accuracy on the test pairs of each category of each column of `category_columns`.

    Returns:
      One row per column and category: `column`, `category`, `pairs` and `series` judged that have a
      direction, `accuracy` and its standard error clustered by series. Of twenty categories, one is
      two standard errors off by chance.
    """
    rows = []
    directed = seen.directed_M > 0
    for column in category_columns(dataset.table):
        cells_M = dataset.table[column].to_numpy(object)
        for category in sorted(set(cells_M[directed])):
            mine = directed & (cells_M == category)
            hits, weight = seen.hits_M[mine], seen.directed_M[mine]
            error, num_pairs, num_series = clustered_error(hits, weight, dataset.series_M[mine])
            accuracy = _ratio(hits.sum(), weight.sum())
            rows.append((column, category, num_pairs, num_series, accuracy, error))
    columns = ["column", "category", "pairs", "series", "accuracy", "accuracy_error"]
    return pd.DataFrame(rows, columns=columns)


class MistakeTables(NamedTuple):
    """Tables of one experiment's mistakes.

    Attributes:
      errors: rows of `errors.csv`, columns ERROR_COLUMNS: pairs, then series.
      blocks: table from `blocks_alone`.
      categories: table from `accuracy_by_category`; empty without category columns.
    """

    errors: pd.DataFrame
    blocks: pd.DataFrame
    categories: pd.DataFrame


def mistake_tables(
    name: str, results: Sequence[TrialResult], evaluator: Evaluator
) -> MistakeTables:
    """Tabulates the mistakes of one experiment of a search.

    Args:
      name: experiment, such as the selected one.
      results: trials of the search.
      evaluator: evaluator of the trials.
    """
    dataset = evaluator.dataset
    mine = [result for result in results if result.trial.experiment.name == name]
    judged = judgements(mine, evaluator)
    seen = by_pair(judged, dataset.table["preference"].to_numpy(np.float64))
    alone = single_leanings(results, evaluator, without=name)
    found = [
        confident_mistakes(seen, alone, dataset),
        worst_series(seen, alone, dataset),
    ]
    rows = [row for frame in found for row in frame.to_dict("records")]
    return MistakeTables(
        errors=pd.DataFrame(rows, columns=ERROR_COLUMNS).astype(
            {"trials": "Int64", "pairs": "Int64"}
        ),
        blocks=blocks_alone(seen, alone, dataset),
        categories=accuracy_by_category(seen, dataset),
    )
