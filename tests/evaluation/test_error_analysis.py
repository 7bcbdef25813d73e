import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from small_data import result_of

from jaxrank.configs import default
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import error_analysis
from jaxrank.evaluation.evaluator import Evaluator, baseline_metrics, make_evaluator
from jaxrank.evaluation.reliability import Judgements
from jaxrank.evaluation.trial_results import COMPLETED, TrialResult
from jaxrank.experiments.hyperparameters import Experiment, read_experiments
from jaxrank.metrics import pair_differences
from jaxrank.planning.trials import Trial

EXPERIMENT = read_experiments(default.get_config(), ["iqa_only"], {})[0]
# Series 1 has three pairs; of pair d, e the preference has no direction.
ROWS = [
    ("1", "a", "b", 0.9, "indoors"),
    ("1", "a", "c", 0.7, "indoors"),
    ("1", "b", "c", 0.2, "outdoors"),
    ("2", "d", "e", 0.5, "outdoors"),
    ("3", "f", "g", 1.0, ""),
]


@pytest.fixture
def five_pairs() -> Dataset:
    columns = ["series_id", "image_a", "image_b", "preference", "scene"]
    table = pd.DataFrame(ROWS, columns=columns)
    block = Block(list("abcdefg"), ["x"], np.arange(7)[:, None])
    return align(Preferences(table), {"iqa": block})


def preferences(dataset: Dataset) -> np.ndarray:
    return dataset.table["preference"].to_numpy(np.float64)


def judged(*rows: tuple[int, float]) -> Judgements:
    """Pairs and their log-odds; the score differences are ten times as large."""
    pair, log_odds = (np.array(column) for column in zip(*rows, strict=True))
    return Judgements(pair, 10.0 * log_odds, log_odds.astype(np.float64))


def seen_by(dataset: Dataset, *rows: tuple[int, float]) -> error_analysis.Verdicts:
    return error_analysis.by_pair(judged(*rows), preferences(dataset))


def test_judgements_are_summed_up_by_pair(five_pairs: Dataset) -> None:
    seen = seen_by(five_pairs, (0, 2.0), (0, -1.0), (1, 0.0), (3, 3.0), (4, 1.0))
    np.testing.assert_array_equal(seen.judged_M, [2, 1, 0, 1, 1])
    np.testing.assert_array_equal(seen.directed_M, [2, 1, 0, 0, 1])
    np.testing.assert_array_equal(seen.hits_M, [1, 0.5, 0, 0, 1])
    both = (expit(2) + expit(-1)) / 2
    np.testing.assert_allclose(seen.probability_M, [both, 0.5, np.nan, expit(3), expit(1)])

    def divergence(p: float, q: float) -> float:
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    expected = [
        (divergence(0.9, expit(2)) + divergence(0.9, expit(-1))) / 2,
        divergence(0.7, 0.5),
        np.nan,
        divergence(0.5, expit(3)),
        -np.log(expit(1)),  # all votes went to the first
    ]
    np.testing.assert_allclose(seen.excess_loss_M, expected)


def test_leanings_are_votes_whatever_the_scale() -> None:
    leaning = error_analysis.leanings(judged((0, 1e9), (0, -1e-9), (0, -1e-9), (2, 0.0)), 4)
    np.testing.assert_allclose(leaning, [-1 / 3, np.nan, 0, np.nan])


def test_the_most_confident_mistakes_come_first(five_pairs: Dataset) -> None:
    seen = seen_by(five_pairs, (0, -1.0), (1, -3.0), (2, -2.0), (3, 5.0), (4, -2.0))
    alone = {
        "one": np.array([1.0, -1, 1, 1, 1]),
        "none": np.array([0.0, np.nan, 1, 1, -0.5]),
        "two": np.array([0.2, 7, 1, 1, -0.5]),
    }
    frame = error_analysis.confident_mistakes(seen, alone, five_pairs)
    # Pair 2 is right; pair 3 can't be wrong.
    assert list(zip(frame["image_a"], frame["image_b"], strict=True)) == [
        ("a", "c"), ("f", "g"), ("a", "b")]  # fmt: skip
    np.testing.assert_allclose(frame["predicted"], expit([-3, -2, -1]))
    assert frame["preference"].tolist() == [0.7, 1.0, 0.9]
    assert frame["right_alone"].tolist() == ["two", "one", "one; two"]
    assert set(frame["trials"]) == {1}


def test_trials_that_disagree_are_wrong_where_their_mean_is(five_pairs: Dataset) -> None:
    seen = seen_by(five_pairs, (0, -2.0), (0, 1.0), (1, -1.0), (1, 2.0))
    frame = error_analysis.confident_mistakes(seen, {}, five_pairs)
    assert frame["image_b"].tolist() == ["b"]
    assert frame["trials"].tolist() == [2]
    assert frame["right_alone"].tolist() == [""]


def test_the_worst_series_cost_the_log_loss_most(five_pairs: Dataset) -> None:
    seen = seen_by(five_pairs, (0, 1.0), (1, -1.0), (1, 1.0), (2, 1.0), (3, 9.0), (4, -4.0))
    alone = {
        "better": np.array([1.0, 1, -1, 0, 1]),
        "as good": np.array([1.0, 0, 1, 0, 0]),
        "of two pairs": np.array([np.nan, 1, -1, np.nan, np.nan]),
    }
    frame = error_analysis.worst_series(seen, alone, five_pairs)
    # Series 2 costs much too, but has no pair that can be wrong.
    assert frame["series_id"].tolist() == ["3", "1"]
    assert frame["pairs"].tolist() == [1, 3]
    np.testing.assert_allclose(frame["wrong_pairs"], [1, 1.5])
    np.testing.assert_allclose(
        frame["excess_loss"], [seen.excess_loss_M[4], seen.excess_loss_M[:3].sum()]
    )
    assert frame["right_alone"].tolist() == ["better; as good", "better; of two pairs"]


def test_what_blocks_alone_make_of_mistakes_by_hand(five_pairs: Dataset) -> None:
    # Right on pair 0, half of the trials right on pair 1, wrong on 2 and 4.
    seen = seen_by(five_pairs, (0, 1.0), (1, 1.0), (1, -1.0), (2, 1.0), (3, 1.0), (4, -1.0))
    alone = {"all ties": np.zeros(5), "good": np.array([-1.0, 1, -1, 1, np.nan])}
    frame = error_analysis.blocks_alone(seen, alone, five_pairs).set_index("alone")
    assert list(frame.index) == ["good", "all ties"]
    assert frame["pairs"].tolist() == [3, 4]
    np.testing.assert_allclose(frame["accuracy"], [2 / 3, 0.5])
    np.testing.assert_allclose(frame["accuracy_of_experiment"], [1.5 / 3, 1.5 / 4])
    # Good: of mistakes 1/2 + 1 it has all right; of 1 + 1/2 right ones it has pair 0 wrong.
    np.testing.assert_allclose(frame["right_where_wrong"], [1, 0.5])
    np.testing.assert_allclose(frame["wrong_where_right"], [1 / 1.5, 0.5])
    assert error_analysis.blocks_alone(seen, {}, five_pairs).empty


def test_accuracy_by_category_by_hand(five_pairs: Dataset) -> None:
    seen = seen_by(five_pairs, (0, 1.0), (1, -1.0), (2, -1.0), (3, 1.0), (4, -1.0))
    frame = error_analysis.accuracy_by_category(seen, five_pairs)
    assert frame["column"].tolist() == ["scene"] * 3
    assert frame["category"].tolist() == ["", "indoors", "outdoors"]
    assert frame["pairs"].tolist() == [1, 2, 1]
    assert frame["series"].tolist() == [1, 1, 1]
    assert frame["accuracy"].tolist() == [0, 0.5, 1]


def test_categories_have_errors_clustered_by_series() -> None:
    """Twelve series of one category, two pairs each that are right or wrong together."""
    rows = [(str(s), f"{s}a", f"{s}{i}", 1.0, str(s % 2)) for s in range(24) for i in range(2)]
    columns = ["series_id", "image_a", "image_b", "preference", "kind"]
    table = pd.DataFrame(rows, columns=columns)
    photos = sorted({*table["image_a"], *table["image_b"]})
    block = Block(photos, ["x"], np.arange(len(photos))[:, None])
    dataset = align(Preferences(table), {"iqa": block})
    right = np.array([int(s) % 4 < 2 for s in table["series_id"]])
    seen = error_analysis.by_pair(
        judged(*enumerate(np.where(right, 1.0, -1.0))), preferences(dataset)
    )
    frame = error_analysis.accuracy_by_category(seen, dataset)
    assert frame["pairs"].tolist() == [24, 24]
    np.testing.assert_allclose(frame["accuracy"], 0.5)
    np.testing.assert_allclose(frame["accuracy_error"], np.sqrt(12 / 11 * 12) / 24)


def test_columns_of_a_few_different_cells_are_categories() -> None:
    table = pd.DataFrame(
        {
            "series_id": [str(i % 3) for i in range(30)],
            "image_a": [f"a{i}" for i in range(30)],
            "image_b": [f"b{i}" for i in range(30)],
            "preference": np.linspace(0, 1, 30),
            "rank_a": ["1", "2"] * 15,
            "rank_b": ["2", "1"] * 15,
            "official_split": ["train", "val"] * 15,
            "votes": [3, 4] * 15,
            "label_sharpness": ["0", "1", "2"] * 10,
            "twenty": [str(i % 20) for i in range(30)],
            "free_text": [f"line {i}" for i in range(30)],
            "all_alike": ["x"] * 30,
        }
    )
    assert error_analysis.category_columns(table) == ["label_sharpness", "twenty"]


def trial_of(
    name: str,
    blocks: tuple[str, ...],
    scores: Any,
    fold: int,
    status: str = COMPLETED,
    val_accuracy: float = 0.6,
) -> TrialResult:
    experiment: Experiment = dataclasses.replace(EXPERIMENT, name=name, blocks=blocks)
    return result_of(Trial(experiment, fold, 0), scores, status, val_accuracy=val_accuracy)


@pytest.fixture
def search(dataset: Dataset, parts: np.ndarray) -> tuple[list[TrialResult], Evaluator]:
    """Three folds of a chosen experiment and of some that read one block."""
    clip, cnn, iqa = (dataset.features_ND[:, dataset.column_indices([b])[0]]
                      for b in ("clip", "cnn", "iqa"))  # fmt: skip
    results = []
    for fold in range(3):
        results += [
            trial_of("both", ("clip", "cnn"), clip + cnn, fold),
            trial_of("clip_a", ("clip",), -clip, fold, val_accuracy=0.3),
            trial_of("clip_b", ("clip",), clip, fold),
            trial_of("clip_c", ("clip",), clip * np.nan, fold, status="failed", val_accuracy=0.9),
            trial_of("shuffled", ("clip",), clip, fold, val_accuracy=0.9),  # the control
            # A trial says nothing of the pairs that it trained on: the other folds' are right.
            trial_of("iqa_mlp", ("iqa",), iqa if fold else -iqa, fold),
        ]
    return results, make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))


def test_a_block_is_judged_by_its_best_validated_experiment_on_pairs_that_test_it(
    search: tuple[list[TrialResult], Evaluator],
) -> None:
    results, evaluator = search
    dataset, parts = evaluator.dataset, evaluator.splits_FM
    alone = error_analysis.single_leanings(results, evaluator, without="both")
    assert list(alone) == ["clip_b", "iqa_mlp", "sharpness", "exposure", "colorfulness", "contrast"]
    difference = pair_differences(dataset.features_ND[:, 0], dataset.pair_rows_M2)
    np.testing.assert_array_equal(alone["clip_b"], np.sign(difference))
    sharper = alone["sharpness"]
    tested_by_0 = parts[0] == splits.TEST
    np.testing.assert_array_equal(alone["iqa_mlp"], np.sign(sharper) * np.where(tested_by_0, -1, 1))
    assert "clip_b" not in error_analysis.single_leanings(results, evaluator, without="clip_b")


def test_the_tables_of_a_search(search: tuple[list[TrialResult], Evaluator]) -> None:
    results, evaluator = search
    dataset = evaluator.dataset
    tables = error_analysis.mistake_tables("both", results, evaluator)
    assert tuple(tables.errors.columns) == tuple(error_analysis.ERROR_COLUMNS)
    pairs = tables.errors[tables.errors["kind"] == "pair"]
    series = tables.errors[tables.errors["kind"] == "series"]
    assert 0 < len(pairs) <= error_analysis.MOST_PAIRS
    assert 0 < len(series) <= error_analysis.MOST_SERIES
    assert (np.sign(pairs["predicted"] - 0.5) == -np.sign(pairs["preference"] - 0.5)).all()
    assert (np.diff(np.abs(pairs["predicted"] - 0.5)) <= 0).all()
    assert (np.diff(series["excess_loss"]) <= 0).all()
    # Every pair is tested by one trial here: the mistakes are all that accuracy lacks.
    metrics = baseline_metrics(dataset.features_ND[:, [0, 6]].sum(axis=1), evaluator)
    hits = (1 - tables.blocks["accuracy_of_experiment"]) * len(dataset.table)
    assert len(pairs) == min(error_analysis.MOST_PAIRS, round(float(hits.iloc[0])))
    assert metrics["test_accuracy"] == pytest.approx(
        tables.blocks["accuracy_of_experiment"][0], abs=0.02
    )
    assert tables.categories.empty
    assert {"clip_b", "iqa_mlp", "sharpness"} < set(tables.blocks["alone"])
