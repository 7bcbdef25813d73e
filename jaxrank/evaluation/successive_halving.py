"""Successive halving: the experiments that survive a rung, also in resamples of the series.

Axis letters: X experiments, B resamples, S series.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxrank.evaluation import comparison, resampling
from jaxrank.evaluation.hits import Hits, Pooled, pooled

# INCOMPLETE: without a completed trial in some fold, so that it cannot be compared.
WORSE, BY_BUDGET, INCOMPLETE = "worse", "dropped by budget", "incomplete"
# Tolerance of rounding in a number of experiments.
_ROUNDING = 1e-9


class RungHits(NamedTuple):
    """Inputs of a rung's decision.

    Attributes:
      hits: hits of the pairs on which the rung compares the experiments.
      twins_X: numbers that are equal for experiments with the same scores of all photos. A
        hyperparameter without effect makes such experiments, as dropout without hidden layers.
      round: round of the rung; experiments of one round compete for its budget.
      epoch: epoch of the rung; experiments of all rounds that have reached it are compared.
      share: largest share of the running entrants that continue; their number is rounded up.
      entrants_X: experiments that have reached the rung in this round.
      survivors_X: experiments that have continued.
      finished_X: experiments that need no further epochs, and so nothing of the budget.
    """

    hits: Hits
    twins_X: np.ndarray
    round: int
    epoch: int
    share: float
    entrants_X: np.ndarray
    survivors_X: np.ndarray
    finished_X: np.ndarray


class Ending(NamedTuple):
    """Reason for which an experiment has ended before its last epoch.

    Attributes:
      reason: WORSE, BY_BUDGET or INCOMPLETE.
      epoch: epoch of the rung.
    """

    reason: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.reason} at epoch {self.epoch}"


class Decision(NamedTuple):
    """Decision on each experiment that has entered, bool [X]; False for all others."""

    survives_X: np.ndarray
    worse_X: np.ndarray
    by_budget_X: np.ndarray
    failed_X: np.ndarray


def decide(rung: RungHits) -> Decision:
    """Decides which experiments continue.

    An experiment is worse if it is separated from the experiment of highest accuracy among those
    that have reached this epoch in any round. Separated means that their difference is outside the
    simultaneous interval of the differences to all others (Hsu 1984, clustered by series). Of the
    other experiments, the most accurate continue, up to the budget, and all that have finished.
    Of twins, the first comes before all others, and the rest after them.
    """
    draws = resampling.resample(rung.hits)
    mean_X = np.where(draws.complete_X, draws.mean_X, np.nan)
    survives_BX, worse_BX = _at_rung(
        mean_X[None],
        rung.entrants_X[None],
        np.ones((1, len(mean_X)), bool),
        rung.finished_X,
        rung.twins_X,
        comparison.half_widths(draws),
        rung.share,
    )
    entrants_X, survives_X, worse_X = rung.entrants_X, survives_BX[0], worse_BX[0]
    failed_X = entrants_X & np.isnan(mean_X)
    return Decision(survives_X, worse_X, entrants_X & ~survives_X & ~worse_X & ~failed_X, failed_X)


def replay(
    rungs: Sequence[RungHits], entries: np.ndarray, used_S: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from counts of the series, [B, S], to the surviving entries, [B, X].

    In a resample an experiment may survive a rung that has dropped it. It was not trained further,
    so it enters later rungs with its accuracy at that rung. Half widths of intervals are those of
    all series.

    Args:
      rungs: rungs in the order in which they were decided.
      entries: entries of the hits to return, in this order.
      used_S: series that are counted.
    """
    in_round: dict[int, np.ndarray] = {}
    for rung in rungs:
        in_round.setdefault(rung.round, rung.entrants_X)
    stages = [_Stage.of(rung, in_round[rung.round], entries, used_S) for rung in rungs]

    def survivors(counts_BS: np.ndarray) -> np.ndarray:
        shape = len(counts_BS), len(entries)
        alive_BX = np.ones(shape, bool)
        reached: dict[int, np.ndarray] = {}
        for stage in stages:
            entrants_BX = alive_BX & stage.in_round_X
            reached_BX = reached.get(stage.epoch, np.zeros(shape, bool)) | entrants_BX
            reached[stage.epoch] = reached_BX
            accuracy_BX = np.where(stage.complete_X, stage.accuracy(counts_BS), np.nan)
            survives_BX, _ = _at_rung(
                accuracy_BX,
                entrants_BX,
                reached_BX,
                stage.finished_X,
                stage.twins_X,
                stage.half_width,
                stage.share,
            )
            alive_BX = np.where(stage.in_round_X, survives_BX, alive_BX)
        return alive_BX

    return survivors


def dropped(rungs: Sequence[RungHits]) -> np.ndarray:
    """Flags the entries [X] that a rung has dropped; empty without rungs."""
    if not rungs:
        return np.zeros(0, bool)
    return np.any([rung.entrants_X & ~rung.survivors_X for rung in rungs], axis=0)


class _Stage(NamedTuple):
    """Rung prepared for replay; X are the requested entries."""

    in_round_X: np.ndarray
    finished_X: np.ndarray
    twins_X: np.ndarray
    complete_X: np.ndarray
    accuracy: Callable[[np.ndarray], np.ndarray]
    half_width: Callable[[int], np.ndarray]
    epoch: int
    share: float

    @staticmethod
    def of(
        rung: RungHits, in_round_X: np.ndarray, entries: np.ndarray, used_S: np.ndarray
    ) -> "_Stage":
        hits = rung.hits
        chosen = hits._replace(
            names=tuple(hits.names[x] for x in entries),
            is_baseline_X=hits.is_baseline_X[entries],
            is_candidate_X=hits.is_candidate_X[entries],
            trained_as_X=np.arange(len(entries)),
            hits_XFKS=hits.hits_XFKS[entries],
        )
        draws = resampling.resample(chosen)
        sums: Pooled = pooled(chosen).take(slice(None), used_S)
        return _Stage(
            in_round_X[entries],
            rung.finished_X[entries],
            rung.twins_X[entries],
            draws.complete_X,
            sums.accuracy_where(),
            comparison.half_widths(draws),
            rung.epoch,
            rung.share,
        )


def _at_rung(
    accuracy_BX: np.ndarray,
    entrants_BX: np.ndarray,
    reached_BX: np.ndarray,
    finished_X: np.ndarray,
    twins_X: np.ndarray,
    half_width: Callable[[int], np.ndarray],
    share: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the entrants that survive, and those worse than the best that reached the rung.

    An entrant with NaN accuracy neither survives nor is worse.
    """
    known_BX = np.nan_to_num(accuracy_BX, nan=-1.0)
    best_B = np.where(reached_BX, known_BX, -1.0).argmax(axis=1)
    worse_BX = np.zeros(entrants_BX.shape, bool)
    for best in np.unique(best_B):
        rows = best_B == best
        below_BX = accuracy_BX[rows, best][:, None] - accuracy_BX[rows]
        worse_BX[rows] = entrants_BX[rows] & (below_BX > half_width(int(best)))
    open_BX = entrants_BX & ~worse_BX & ~np.isnan(accuracy_BX)
    quota_B = np.ceil(share * (entrants_BX & ~finished_X).sum(axis=1) - _ROUNDING)
    running_BX = open_BX & ~finished_X
    repeats_BX = _repeats(running_BX, twins_X)
    rank_BX = np.where(running_BX, known_BX - repeats_BX, -2.0)  # an accuracy is at most 1
    order_BX = np.argsort(-rank_BX, axis=1, kind="stable")
    place_BX = np.argsort(order_BX, axis=1, kind="stable")
    continues_BX = running_BX & (place_BX < quota_B[:, None])
    return continues_BX | (open_BX & finished_X), worse_BX


def _repeats(running_BX: np.ndarray, twins_X: np.ndarray) -> np.ndarray:
    """Whether an entry runs beside an earlier twin, bool [B, X]."""
    repeats_BX = np.zeros(running_BX.shape, bool)
    for number in np.flatnonzero(np.bincount(twins_X) > 1):
        twins = np.flatnonzero(twins_X == number)
        running = running_BX[:, twins]
        repeats_BX[:, twins] = running & (np.cumsum(running, axis=1) > 1)
    return repeats_BX
