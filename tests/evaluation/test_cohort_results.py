"""Trials that are measured at once have the figures that each has alone."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from small_data import cohorts_of, experiment, make_data

from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.evaluation import cohort_results
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import Evaluator, make_evaluator
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.scaling import Scaling
from jaxrank.training import state


@pytest.fixture(scope="module", params=["margin_ranking", "logistic", "davidson"])
def trained(request: pytest.FixtureRequest) -> tuple[Cohort, state.FitResult, Evaluator]:
    """Seven trials in three folds, with scores drawn at random; one has failed."""
    pairs, store = make_data()
    dataset = align(pairs, store)
    parts = splits.split_pairs(dataset.table, folds=3)
    trials = [
        Trial(experiment("e", loss=request.param, margin=0.5 + seed), fold, seed)
        for fold, seed in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1)]
    ]
    (cohort,) = cohorts_of(trials, dataset, parts)
    rng = np.random.default_rng(0)
    # Some equal ones: ties count one half.
    scores_PN = rng.standard_normal((7, len(dataset.photos))).round(1).astype(np.float32)
    scores_PN[4] = np.nan
    params: dict[str, Any] = {"params": {"kernel_0": rng.standard_normal((7, 1, 15))}}
    if request.param == "davidson":
        params["loss"] = {"log_ties": rng.standard_normal(7).astype(np.float32)}
    running = np.arange(3)[:, None] < np.array([3, 1, 2, 3, 1, 2, 3])
    curves: list[Any] = [rng.random((3, 7)).astype(np.float32) for _ in range(4)]
    fitted = state.FitResult(
        best_params=params,
        scaling_P=[Scaling(*[np.zeros(0)] * len(Scaling._fields))] * 7,
        scores_PN=scores_PN,
        status_P=np.where(np.arange(7) == 4, state.FAILED, state.STOPPED),
        epochs_run_P=running.sum(axis=0),
        best_epoch_P=np.zeros(7, int),
        history=state.EpochMetrics._make([*curves, running]),
        seconds=7.0,
    )
    return cohort, fitted, make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))


def test_figures_do_not_depend_on_what_is_measured_beside(
    trained: tuple[Cohort, state.FitResult, Evaluator], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_cohort(*trained)
    monkeypatch.setattr(cohort_results, "_MOST_TRIALS", 1)
    alone = evaluate_cohort(*trained)
    for one, other in zip(alone, whole, strict=True):
        # XLA may compute the last elements of an array by other instructions.
        assert one.metrics.measured == pytest.approx(dict(other.metrics.measured), rel=1e-6)
    measured = [tuple(r.metrics.measured.values()) for r in whole if r.metrics.completed]
    assert len(set(measured)) == 6


def test_only_what_failed_has_no_figures_and_each_trial_its_epochs(
    trained: tuple[Cohort, state.FitResult, Evaluator],
) -> None:
    cohort, fitted, _ = trained
    results = evaluate_cohort(*trained)
    assert [r.metrics.completed for r in results] == [place != 4 for place in range(7)]
    assert results[4].metrics.measured == {}
    for p, (result, trial) in enumerate(zip(results, cohort.trials, strict=True)):
        assert result.trial == trial
        assert dataclasses.asdict(result.metrics)["seed"] == trial.seed
        expected = fitted.history.val_accuracy[: result.metrics.epochs_run, p]
        np.testing.assert_array_equal(result.history_EC[:, 3], expected)
