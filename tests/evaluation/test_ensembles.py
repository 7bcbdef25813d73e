"""The mean of several seeds' standardised scores is an entry of its own, and no candidate."""

import numpy as np
import pytest
from small_data import experiment, result_of

from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.evaluation import hits, leaderboard
from jaxrank.evaluation.ensembles import ensemble_results
from jaxrank.evaluation.evaluator import Evaluator, make_evaluator
from jaxrank.evaluation.trial_results import FAILED, TrialResult
from jaxrank.evaluation.yardstick import Competitor
from jaxrank.metrics import accuracy, pair_differences
from jaxrank.planning.trials import Trial

SEEDS = 3


@pytest.fixture(scope="module")
def evaluator(dataset: Dataset, parts: np.ndarray) -> Evaluator:
    return make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))


def noisy(name: str, evaluator: Evaluator, folds: int = 3) -> list[TrialResult]:
    """Trials whose scores are the first number of a photo and noise, each on a scale of its own."""
    rng = np.random.default_rng(0)
    truth_N = evaluator.dataset.features_ND[:, 0]
    return [
        result_of(
            Trial(experiment(name), fold, seed),
            (10.0**seed * (truth_N + 4 * rng.standard_normal(len(truth_N))) + seed).astype("f4"),
            val_accuracy=0.9,
        )
        for fold in range(folds)
        for seed in range(SEEDS)
    ]


def test_it_is_the_mean_of_scores_standardised_on_training_photos(evaluator: Evaluator) -> None:
    results = noisy("e", evaluator)
    found = ensemble_results(results, evaluator)
    assert [(r.trial.fold, r.trial.seed, r.ensemble_of) for r in found] == [
        (fold, 0, "e") for fold in range(3)
    ]
    assert {r.trial.experiment.name for r in found} == {"e (mean of 3 seeds)"}
    dataset = evaluator.dataset
    for fold, result in enumerate(found):
        trained = np.unique(dataset.pair_rows_M2[evaluator.data.rows(fold, splits.TRAIN)])
        mine = [r.scores_N for r in results if r.trial.fold == fold]
        by_hand = np.mean([(s - s[trained].mean()) / s[trained].std() for s in mine], axis=0)
        by_hand = (by_hand - by_hand[trained].mean()) / by_hand[trained].std()
        np.testing.assert_allclose(result.scores_N, by_hand, atol=1e-4)
        test = evaluator.data.rows(fold, splits.TEST)
        difference_M = pair_differences(by_hand, dataset.pair_rows_M2)[test]
        expected = accuracy(difference_M, dataset.preference_M[test])
        assert result.metrics.measured["test_accuracy"] == pytest.approx(expected)


def test_only_several_completed_seeds_have_one_and_equal_scores_are_zero(
    evaluator: Evaluator,
) -> None:
    constant = np.ones(len(evaluator.dataset.photos), np.float32)
    trials = [Trial(experiment("e"), 0, seed) for seed in range(2)]
    failed = result_of(trials[1], np.full_like(constant, np.nan), FAILED)
    assert not ensemble_results([result_of(trials[0], constant), failed], evaluator)
    control = [result_of(Trial(experiment("shuffled"), 0, seed), constant) for seed in range(2)]
    assert not ensemble_results(control, evaluator)
    (found,) = ensemble_results([result_of(trial, constant) for trial in trials], evaluator)
    assert (found.scores_N == 0).all()


def test_it_stands_beside_its_seeds_and_can_not_be_chosen(evaluator: Evaluator) -> None:
    results = noisy("e", evaluator)
    found = ensemble_results(results, evaluator)
    names = ["e", found[0].trial.experiment.name]
    chance = Competitor(name="chance", difference_FM=np.zeros(len(evaluator.dataset.preference_M)))
    ranking = leaderboard.rank([*results, *found], evaluator, names, [chance], {})
    assert ranking.names[:2] == ("e", "e (mean of 3 seeds)")
    assert ranking.is_candidate_X[:2].tolist() == [True, False]
    assert ranking.chosen_name == "e"
    assert ranking.draws.mean_X[1] > ranking.draws.mean_X[0] + 0.02  # less noise
    tested = hits.from_results([*results, *found], {}, evaluator, splits.TEST, names)
    assert tested.trained_as_X.tolist() == [0, 0]
    np.testing.assert_array_equal(tested.hits_XFKS[1, :, 0], tested.hits_XFKS[1, :, -1])
    assert not np.isnan(tested.hits_XFKS).any()


def test_a_fold_with_a_failed_seed_is_the_mean_of_fewer(evaluator: Evaluator) -> None:
    results = noisy("e", evaluator)
    failed = next(i for i, r in enumerate(results) if r.trial.key == ("e", 1, 2))
    scores = np.full_like(results[failed].scores_N, np.nan)
    results[failed] = result_of(results[failed].trial, scores, FAILED)
    found = ensemble_results(results, evaluator)
    names = ["e", found[0].trial.experiment.name]
    tested = hits.from_results([*results, *found], {}, evaluator, splits.TEST, names)
    done = ~np.isnan(tested.hits_XFKS).any(axis=3)
    assert done[1].sum(axis=1).tolist() == [3, 2, 3]
    np.testing.assert_array_equal(done[1].sum(axis=1), done[0].sum(axis=1))
