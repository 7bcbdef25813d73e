import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from small_data import result_of

from jaxrank import baselines, losses, statistics
from jaxrank.configs import default
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation import trial_results
from jaxrank.evaluation.evaluator import Evaluator, baseline_metrics, make_evaluator
from jaxrank.evaluation.trial_results import COMPLETED, TrialResult
from jaxrank.experiments.hyperparameters import read_experiments
from jaxrank.metrics import pair_differences, pair_hits
from jaxrank.planning.trials import Trial
from jaxrank.reporting.summary import SUMMARY_COLUMNS, summarise

EXPERIMENT = dataclasses.replace(
    read_experiments(default.get_config(), ["iqa_only"], {})[0], blocks=("iqa",)
)


@pytest.fixture
def hand_made() -> tuple[Dataset, np.ndarray]:
    """Three series in train, validation and test; sharpness is the photo's number."""
    rows = [
        ("a", "p0", "p1", 0.9),
        ("b", "p2", "p3", 0.4),
        ("b", "p3", "p4", 0.5),
        ("c", "p5", "p6", 0.2),
        ("c", "p5", "p7", 0.8),
        ("c", "p6", "p7", 0.6),
    ]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    sharpness = np.array([[3, 1], [2, 1], [1, 1], [2, 1], [3, 1], [5, 1], [5, 1], [4, 1]])
    block = Block([f"p{i}" for i in range(8)], ["sharpness", "chance"], sharpness)
    dataset = align(Preferences(table), {"iqa": block})
    return dataset, np.array([[splits.TRAIN, splits.VALIDATION, splits.TEST]], np.int8)[
        :, dataset.series_M
    ]


def result(
    scores: Any,
    seed: int = 0,
    status: str = COMPLETED,
    val_accuracy: float = 0.5,
    **measured: float,
) -> TrialResult:
    trial = Trial(EXPERIMENT, 0, seed)
    return result_of(
        trial, np.array(scores, np.float32), status, val_accuracy=val_accuracy, **measured
    )


def accuracy_of(scores: Any, evaluator: Evaluator) -> dict[str, float]:
    metrics = baseline_metrics(scores, evaluator)
    return {name: value for name, value in metrics.items() if "accuracy" in name}


def test_of_a_wide_block_the_first_numbers_are_baselines_and_a_note_reports_it(
    hand_made: tuple[Dataset, np.ndarray],
) -> None:
    dataset, _ = hand_made
    assert not baselines.missing_notes(dataset)
    wide = np.random.default_rng(0).standard_normal((len(dataset.photos), 3000))
    names = tuple(f"q{i}" for i in range(3000))
    dataset = dataset._replace(features_ND=wide, block_columns={"iqa": names})
    assert list(baselines.heuristic_scores(dataset)) == ["chance", *names[:64]]
    (note,) = baselines.missing_notes(dataset)
    assert "3,000 columns" in note
    assert "'q63'" in note


def test_rules_by_hand(hand_made: tuple[Dataset, np.ndarray]) -> None:
    dataset, parts = hand_made
    rules = baselines.heuristic_scores(dataset)
    assert list(rules) == ["chance", "sharpness", "iqa:chance"]  # a column may not hide a rule
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    accuracies = accuracy_of(rules["sharpness"], evaluator)
    # train: 3 > 2, right. validation: 1 < 2 right, the pair of one half does not count.
    # test: 5 = 5 is half, 5 > 4 right, 5 > 4 right.
    # Weighted by |2 preference - 1|, test: 0.6 for the tie, 0.6 and 0.2 for the others.
    assert accuracies == pytest.approx(
        {
            "train_accuracy": 1.0,
            "val_accuracy": 1.0,
            "test_accuracy": 2.5 / 3,
            "val_weighted_accuracy": 1.0,
            "test_weighted_accuracy": (0.6 / 2 + 0.6 + 0.2) / 1.4,
        }
    )
    chance = accuracy_of(rules["chance"], evaluator)
    assert set(chance.values()) == {0.5}


def test_the_standard_error_is_that_of_clustered_series() -> None:
    """Twelve series whose pairs agree: the error is that of twelve series, not of 24 pairs."""
    sizes = [2] * 12
    rows = [(str(s), f"{s}a", f"{s}{i}", 1.0) for s, n in enumerate(sizes) for i in range(n)]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    photos = sorted(set(table["image_a"]) | set(table["image_b"]))
    dataset = align(
        Preferences(table), {"iqa": Block(photos, ["x"], np.arange(len(photos))[:, None])}
    )
    right = np.array([int(photo[:-1]) % 2 == 0 for photo in dataset.photos])
    is_a = np.array([photo.endswith("a") for photo in dataset.photos])
    scores = np.where(is_a, 0.0, np.where(right, -1.0, 1.0))  # even series right, odd ones wrong
    hits, weights = pair_hits(pair_differences(scores, dataset.pair_rows_M2), dataset.preference_M)
    error, pairs, series = statistics.clustered_error(hits, weights, dataset.series_M)
    # Accuracy 1/2; each series has residual +1 or -1: sqrt(12/11 * 12) / 24.
    assert (pairs, series) == (24, 12)
    assert error == pytest.approx(np.sqrt(12 / 11 * 12) / 24)
    few = dataset.series_M < 9
    assert np.isnan(statistics.clustered_error(hits[few], weights[few], dataset.series_M[few])[0])


def test_hits_are_those_that_training_counts() -> None:
    rng = np.random.default_rng(0)
    difference = np.r_[rng.standard_normal(500), np.zeros(20), 1e-300, -1e-300]
    preference = np.r_[rng.random(500), np.full(12, 0.5), rng.random(10)]
    expected = losses.hits(jnp.asarray(difference), jnp.asarray(preference))
    for mine, theirs in zip(pair_hits(difference, preference), expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_the_best_trial_is_chosen_by_validation_and_the_first_of_equals() -> None:
    results = [
        result([0], 0, val_accuracy=0.6, test_accuracy=0.9),
        result([0], 1, val_accuracy=0.7, test_accuracy=0.1),
        result([0], 2, val_accuracy=0.7, test_accuracy=0.8),
        result([0], 3, val_accuracy=float("nan"), status="failed"),
    ]
    best = trial_results.best_trial(results)
    assert best is not None
    assert best.trial.seed == 1
    assert trial_results.best_trial(results[3:]) is None


def test_the_summary_takes_means_over_completed_trials_and_sorts_by_validation() -> None:
    def row(name: str, seed: int, **values: Any) -> dict[str, Any]:
        return {"experiment_name": name, "fold": 0, "seed": seed, "status": "completed"} | values

    metrics = ("epochs_run", "best_epoch", "train_accuracy", "val_accuracy", "val_loss",
               "test_accuracy", "test_loss", "val_top1_hit", "test_top1_hit", "val_kendall_tau",
               "test_kendall_tau", "val_weighted_accuracy", "test_weighted_accuracy",
               "duration_seconds")  # fmt: skip
    trials = pd.DataFrame(
        [
            row("a", 0, **dict.fromkeys(metrics, 0.6)),
            row("a", 1, **dict.fromkeys(metrics, 0.8)),
            row("b", 0, **dict.fromkeys(metrics, 0.9) | {"test_accuracy": 0.1}),
            row("c", 0, **dict.fromkeys(metrics, 0.99)),
            row("c", 1, status="failed", error="sick"),
            row("d", 0, status="failed", error="very sick"),
        ]
    )
    named = [dataclasses.replace(EXPERIMENT, name=name) for name in "abcde"]
    summary = summarise(
        named,
        {"e": "no block"},
        trials,
        dict.fromkeys("abcd", 7),
        {
            "chance": {"notes": "says nothing"}
            | dict.fromkeys(("train_accuracy", "val_accuracy", "test_accuracy"), 0.5)
        },
        ["a caveat"],
    )
    assert list(summary.columns) == SUMMARY_COLUMNS
    assert summary["experiment_name"].tolist() == ["c", "b", "a", "chance", "d", "e"]
    assert summary["status"].tolist() == [
        "partial", "completed", "completed", "baseline", "failed", "skipped"]  # fmt: skip
    a = summary[summary["experiment_name"] == "a"].iloc[0]
    assert a["val_accuracy"] == a["test_accuracy"] == pytest.approx(0.7)
    assert a["train_val_gap"] == pytest.approx(0.0)
    assert (a["num_seeds"], a["num_folds"], a["parameters"]) == (2, 1, 7)
    errors = dict(zip(summary["experiment_name"], summary["error"], strict=True))
    assert errors["c"] == "1 of 2 trials failed: sick"
    assert errors["d"] == "1 of 1 trials failed: very sick"
    assert errors["e"] == "no block"
