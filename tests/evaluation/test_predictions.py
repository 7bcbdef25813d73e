"""Predictions of every trial and their means, by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small_data import experiment, paired, result_of

from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset
from jaxrank.evaluation import predictions
from jaxrank.evaluation.evaluator import Evaluator, make_evaluator
from jaxrank.evaluation.trial_results import FAILED, TrialResult
from jaxrank.experiments.hyperparameters import SHUFFLED
from jaxrank.planning.trials import Trial

TRAIN, VAL, TEST = splits.TRAIN, splits.VALIDATION, splits.TEST


@pytest.fixture
def evaluator() -> Evaluator:
    """Five pairs in two folds; the third has no direction, the last trains always."""
    dataset = paired(np.arange(10.0)[:, None], preference=[0.9, 0.2, 0.5, 0.8, 0.7])
    parts = np.array([[TEST, VAL, VAL, VAL, TRAIN], [VAL, TEST, TEST, VAL, TRAIN]], np.int8)
    return make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))


def result(
    fold: int, seed: int, first: list[float], name: str = "e", status: str = "completed"
) -> TrialResult:
    """Scores of the first photos of the pairs, which are the first rows of a dataset; those of the
    others are zero."""
    scores_N = np.zeros(10, np.float32)
    scores_N[:5] = first
    return result_of(Trial(experiment(name), fold, seed), scores_N, status)


def frame_of(results: list[TrialResult], evaluator: Evaluator) -> pd.DataFrame:
    tables = list(predictions.trial_tables(results, evaluator))
    assert all(table.schema == predictions.schema() for table in tables)
    return pa.concat_tables(tables).to_pandas()


def test_every_completed_trial_has_its_validation_and_test_pairs(evaluator: Evaluator) -> None:
    results = [
        result(0, 4, [3, -2, 1, 0, 9]),
        result(1, 4, [0] * 5, status=FAILED),
        result(1, 5, [-1, -1, -1, 2, 9]),
    ]
    frame = frame_of(results, evaluator)
    assert frame["seed"].tolist() == [4] * 4 + [5] * 4
    assert frame["fold"].tolist() == [0] * 4 + [1] * 4
    assert set(frame["experiment_name"]) == {"e"}
    assert frame["split"].tolist() == ["test", "val", "val", "val", "val", "test", "test", "val"]
    assert frame["image_a"].tolist() == ["p000.jpg", "p002.jpg", "p004.jpg", "p006.jpg"] * 2
    np.testing.assert_array_equal(frame["score_a"], [3, -2, 1, 0, -1, -1, -1, 2])
    np.testing.assert_array_equal(frame["score_b"], 0)
    np.testing.assert_array_equal(frame["correct"], [1, 1, np.nan, 0.5, 0, 1, np.nan, 1])


def test_tables_of_some_trials_at_a_time_are_those_of_all(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [result(fold, seed, [seed, 1, 2, 3, 4]) for seed in range(5) for fold in (0, 1)]
    whole = frame_of(results, evaluator)
    monkeypatch.setattr(predictions, "_MOST_ROWS", 9)
    assert len(list(predictions.trial_tables(results, evaluator))) == 4
    pd.testing.assert_frame_equal(frame_of(results, evaluator), whole)
    assert not list(predictions.trial_tables([], evaluator))


def test_of_a_pair_the_trials_that_test_it_count_before_those_that_validate_it(
    evaluator: Evaluator,
) -> None:
    results = [
        result(0, 0, [3, -2, 1, 0, 9]),
        result(0, 1, [-5, -2, 1, 1, 9]),
        result(0, 2, [9] * 5, status=FAILED),
        result(1, 0, [7, 4, 1, 2, 9]),
    ]
    frame = predictions.mean_table(results, evaluator).to_pandas()
    # The pair that is in training in every fold has no row.
    assert frame["image_a"].tolist() == ["p000.jpg", "p002.jpg", "p004.jpg", "p006.jpg"]
    assert frame["split"].tolist() == ["test", "test", "test", "val"]
    assert frame["trials"].tolist() == [2, 1, 1, 3]
    np.testing.assert_array_equal(frame["score_a"], [-1, 4, 1, 1])
    np.testing.assert_array_equal(frame["score_b"], 0)
    np.testing.assert_allclose(frame["correct"], [0.5, 0, np.nan, (0.5 + 1 + 1) / 3])
    np.testing.assert_array_equal(frame["preference"], [0.9, 0.2, 0.5, 0.8])


def test_a_control_is_asked_for_the_photos_that_it_was_trained_on() -> None:
    dataset = paired(np.arange(40.0)[:, None])
    parts = np.full((1, 20), TEST, np.int8)
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    scores_N = np.arange(40, dtype=np.float32)
    frame = frame_of([result_of(Trial(experiment(SHUFFLED), 0, 0), scores_N)], evaluator)
    moved = frame["image_a"].to_numpy(str) != dataset.table["image_a"].to_numpy(str)
    assert 0 < moved.sum() < 20
    score_of = dict(zip(dataset.photos, scores_N, strict=True))
    for side in "ab":
        expected = [score_of[photo] for photo in frame[f"image_{side}"]]
        np.testing.assert_array_equal(frame[f"score_{side}"], expected)
