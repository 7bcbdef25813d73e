"""Which experiments continue at a rung, and the same in resamples of the series."""

from typing import Any

import numpy as np
import pytest

from jaxrank.evaluation import comparison, resampling, selection
from jaxrank.evaluation.hits import Hits
from jaxrank.evaluation.successive_halving import (
    BY_BUDGET,
    Ending,
    RungHits,
    decide,
    dropped,
    replay,
)

NUM_SERIES = 200


def hits_of(right_XS: np.ndarray, folds: int = 1) -> Hits:
    """A pair a series, one seed; series are dealt to the folds in turn."""
    num_entries, num_series = right_XS.shape
    in_fold_FS = np.arange(num_series) % folds == np.arange(folds)[:, None]
    everyone = np.ones(num_entries, bool)
    return Hits(
        tuple(f"e{x}" for x in range(num_entries)), ~everyone, everyone, np.arange(num_entries),
        (right_XS[:, None] * in_fold_FS)[:, :, None].astype(np.float32), in_fold_FS.astype(float),
    )  # fmt: skip


def rung_of(right_XS: np.ndarray, share: float, **changes: Any) -> RungHits:
    everyone = np.ones(len(right_XS), bool)
    return RungHits(
        hits=hits_of(right_XS), twins_X=np.arange(len(right_XS)), round=0, epoch=1, share=share,
        entrants_X=everyone, survivors_X=everyone, finished_X=~everyone,
    )._replace(**changes)  # fmt: skip


def drawn(accuracies: list[float], seed: int = 0) -> np.ndarray:
    """Right or wrong [X, S], of entries that err independently."""
    rng = np.random.default_rng(seed)
    return (rng.random((len(accuracies), NUM_SERIES)) < np.array(accuracies)[:, None]).astype(float)


def test_what_is_told_apart_is_worse_and_ties_are_cut_by_the_budget() -> None:
    right_XS = drawn([0.8, 0.8, 0.8, 0.5, 0.8, 0.8])
    right_XS[5] = np.nan  # without a completed trial
    decision = decide(rung_of(right_XS, 1 / 3))
    assert decision.worse_X.tolist() == [False] * 3 + [True] + [False] * 2
    assert decision.failed_X.tolist() == [False] * 5 + [True]
    best_two = np.argsort(-right_XS[:5].mean(axis=1), kind="stable")[:2]
    assert np.flatnonzero(decision.survives_X).tolist() == sorted(best_two)  # 6 / 3
    assert decision.by_budget_X.sum() == 2
    # Without a cut all of them continue that may be the best.
    assert decide(rung_of(right_XS, 1.0)).survives_X.tolist() == [True] * 3 + [False, True, False]
    assert str(Ending(BY_BUDGET, 9)) == "dropped by budget at epoch 9"


@pytest.mark.parametrize("seed", range(5))
def test_worse_is_what_a_leaderboard_calls_separated_from_the_best(seed: int) -> None:
    rung = rung_of(drawn([0.8, 0.78, 0.72, 0.68, 0.65, 0.5], seed), 1.0)
    test = comparison.standings(resampling.resample(rung.hits), {})
    decision = decide(rung)
    np.testing.assert_array_equal(decision.worse_X, ~test.tied_for_best)
    np.testing.assert_array_equal(decision.survives_X, test.tied_for_best)
    assert 1 <= decision.worse_X.sum() <= 5


def test_the_budget_is_rounded_up_and_equal_ones_keep_their_order() -> None:
    right_XS = np.repeat(drawn([0.7]), 4, axis=0)
    decision = decide(rung_of(right_XS, 1 / 3))
    assert decision.survives_X.tolist() == [True, True, False, False]
    assert decision.by_budget_X.tolist() == [False, False, True, True]
    assert decide(rung_of(right_XS, 0.5)).survives_X.sum() == 2  # not three, by rounding


def test_the_budget_goes_to_different_experiments_first() -> None:
    """Three twins lead; two of them would take the places of others, and tell nothing new."""
    right_XS = drawn([0.85, 0.85, 0.82, 0.78, 0.85, 0.74], 6)
    right_XS[[1, 4]] = right_XS[0]
    twins = {"twins_X": np.array([0, 0, 1, 2, 0, 3])}
    assert (np.diff(right_XS.mean(axis=1)[[0, 2, 3, 5]]) <= 0).all()
    decision = decide(rung_of(right_XS, 1 / 2, **twins))
    assert decision.survives_X.tolist() == [True, False, True, True, False, False]
    assert decision.by_budget_X.tolist() == [False, True, False, False, True, True]
    # The twins come before nothing else: the budget has room for one of them.
    fewer = rung_of(right_XS[:5], 4 / 5, twins_X=twins["twins_X"][:5])
    assert decide(fewer).survives_X.tolist() == [True] * 4 + [False]
    # Those that are right on the same pairs by chance are no twins.
    decision = decide(rung_of(right_XS, 1 / 2))
    assert decision.survives_X.tolist() == [True, True, False, False, True, False]
    # A twin that does not enter takes no place of another.
    others = np.array([False, True, True, True, True, True])
    decision = decide(rung_of(right_XS, 2 / 5, entrants_X=others, **twins))
    assert np.flatnonzero(decision.survives_X).tolist() == [1, 2]
    # In a replay, too, where the series of each twin are drawn alike.
    rung = rung_of(right_XS, 1 / 2, **twins)
    rung = rung._replace(survivors_X=decide(rung).survives_X)
    order = np.array([4, 3, 2, 1, 0, 5])
    survivors = replay([rung], order, np.ones(NUM_SERIES, bool))
    counts_BS = np.random.default_rng(1).multinomial(NUM_SERIES, [1 / NUM_SERIES] * NUM_SERIES, 50)
    alive_BX = survivors(counts_BS.astype(float))
    # In a few resamples the twins are worse than another, or others are worse than they.
    assert (alive_BX[:, [0, 3, 4]].sum(axis=1) == 1).mean() > 0.9
    assert (alive_BX.sum(axis=1) <= 3).all()


def test_finished_experiments_survive_outside_the_budget() -> None:
    right_XS = drawn([0.8, 0.8, 0.8, 0.8, 0.5, 0.8, 0.8])
    finished = np.array([True] * 5 + [False] * 2)
    rung = rung_of(right_XS, 0.5, finished_X=finished)
    decision = decide(rung)
    assert decision.worse_X.tolist() == [False] * 4 + [True] + [False] * 2
    assert decision.survives_X[:4].all()
    # Half of the two that still run.
    assert (decision.survives_X[5:].sum(), decision.by_budget_X.sum()) == (1, 1)
    rung = rung._replace(survivors_X=decision.survives_X)
    survivors = replay([rung], np.arange(7), np.ones(NUM_SERIES, bool))
    (alive_X,) = survivors(np.ones((1, NUM_SERIES)))
    np.testing.assert_array_equal(alive_X, decision.survives_X)


def test_experiments_of_an_earlier_round_are_compared_but_do_not_count() -> None:
    """The best of all that have reached the rung tells a later round's apart."""
    right_XS = drawn([0.9, 0.6, 0.6, 0.6])
    later = np.array([False, True, True, True])
    decision = decide(rung_of(right_XS, 1 / 3, entrants_X=later))
    assert decision.worse_X.tolist() == later.tolist()
    assert not decision.survives_X.any()
    # Among themselves nothing tells them apart.
    decision = decide(rung_of(right_XS[1:], 1 / 3))
    assert (decision.survives_X.sum(), decision.worse_X.sum(), decision.by_budget_X.sum()) == (
        1,
        0,
        2,
    )


def test_too_few_series_tell_nothing_apart() -> None:
    decision = decide(rung_of(drawn([0.9, 0.1, 0.1])[:, :5], 1 / 3))
    assert not decision.worse_X.any()
    assert decision.survives_X.tolist() == [True, False, False]


def two_rungs(seed: int = 0) -> tuple[list[RungHits], np.ndarray]:
    """Nine experiments at two rungs, and what they are worth in the end: those that were dropped
    as they were then."""
    first = drawn(list(np.linspace(0.5, 0.8, 9)), seed)
    one = rung_of(first, 1 / 3)
    one = one._replace(survivors_X=decide(one).survives_X)
    second = np.where(one.survivors_X[:, None], drawn([0.75] * 9, seed + 1), first)
    two = rung_of(second, 1 / 3, entrants_X=one.survivors_X, epoch=3)
    two = two._replace(survivors_X=decide(two).survives_X)
    last = np.where(two.survivors_X[:, None], drawn([0.8] * 9, seed + 2), second)
    return [one, two], last


def test_a_replay_on_all_series_decides_the_same() -> None:
    rungs, _ = two_rungs()
    everything, every_series = np.arange(9), np.ones(NUM_SERIES, bool)
    survivors = replay(rungs, everything, every_series)
    (alive_X,) = survivors(np.ones((1, NUM_SERIES)))
    np.testing.assert_array_equal(alive_X, ~dropped(rungs))
    assert alive_X.sum() == 1
    # In another order of the entries, too.
    order = np.random.default_rng(0).permutation(9)
    (alive_X,) = replay(rungs, order, every_series)(np.ones((1, NUM_SERIES)))
    np.testing.assert_array_equal(alive_X, ~dropped(rungs)[order])
    # Other series let others survive, but always one.
    counts_BS = np.random.default_rng(1).multinomial(NUM_SERIES, [1 / NUM_SERIES] * NUM_SERIES, 50)
    alive_BX = survivors(counts_BS.astype(float))
    assert (alive_BX.sum(axis=1) == 1).all()
    assert len(np.unique(alive_BX.argmax(axis=1))) > 1


def test_without_rungs_everything_survives() -> None:
    survivors = replay([], np.arange(4), np.ones(NUM_SERIES, bool))
    assert survivors(np.ones((2, NUM_SERIES))).tolist() == [[True] * 4] * 2


@pytest.mark.parametrize("seed", range(3))
def test_what_was_dropped_is_not_selected_but_counts_in_the_correction(seed: int) -> None:
    """Equal experiments: a rung keeps the one that was lucky, and the correction knows it."""
    right_XS = drawn([0.6] * 27, seed)
    rung = rung_of(right_XS, 1 / 27)
    rung = rung._replace(survivors_X=decide(rung).survives_X, hits=hits_of(right_XS, 3))
    (lucky,) = np.flatnonzero(rung.survivors_X)
    test = hits_of(right_XS, 3)
    sizes_X = np.zeros(27)
    chosen = selection.select_experiment(test, test, sizes_X, rungs=[rung])
    assert chosen is not None
    assert (chosen.entry, chosen.num_candidates) == (lucky, 27)
    alone = test._replace(is_candidate_X=rung.survivors_X)
    forgetful = selection.select_experiment(alone, alone, sizes_X)
    assert forgetful is not None
    assert forgetful.accuracy == forgetful.raw == chosen.raw  # the only candidate
    assert chosen.accuracy < chosen.raw - 0.02
    assert chosen.accuracy == pytest.approx(0.6, abs=0.08)
