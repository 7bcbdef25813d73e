"""The selection of an experiment: what its accuracy is worth, and what it takes to select better.

Axis letters as in comparison.py.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from jaxrank.evaluation.comparison import Differences, Standings
from jaxrank.evaluation.hits import Hits, Pooled, pooled
from jaxrank.evaluation.successive_halving import RungHits, dropped, replay
from jaxrank.statistics import FEWEST_SERIES, resamples

POWER = 0.8


class Chosen(NamedTuple):
    """The selected experiment, and how good it is on new series.

    Attributes:
      entry: which.
      candidates: the entries it was selected from, without those that rungs have dropped; of equal
        ones the first is.
      out_of_fold: selected by the test pairs of all folds; else by the validation pairs.
      raw: its accuracy on the test pairs, too high where the selection saw the same series.
      accuracy: what remains of that on series that the selection has not seen, never above `raw`;
        NaN with too few series to correct it.
      num_dropped: by rungs; the correction counts them among the candidates.
    """

    entry: int
    candidates: tuple[int, ...]
    out_of_fold: bool
    raw: float
    accuracy: float
    num_dropped: int = 0

    @property
    def num_candidates(self) -> int:
        return len(self.candidates) + self.num_dropped


def chosen_score(
    validation: Hits,
    test: Hits,
    parameters_X: np.ndarray,
    *,
    rungs: Sequence[RungHits] = (),
    num_draws: int = 1000,
    seed: int = 0,
) -> Chosen | None:
    """Selects an experiment, and corrects its test accuracy for the selection.

    With folds the candidate of highest accuracy on the test pairs of all folds is selected:
    validation pairs have stopped the epochs, which flatters noisy training
    (benchmarks/selection_rules.py). With one split the test pairs only measure, and validation
    selects. Of equal candidates it is the one with the fewest parameters.

    The correction is BBC-CV (Tsamardinos et al. 2018), clustered by series: resample the series,
    select by the pairs of those drawn, measure by the test pairs of those left out; the mean over
    the resamples. Where no series does both there is nothing to correct.

    What a rung has dropped is not selected. But in each resample the rungs are replayed, so that an
    experiment may survive there, and be selected, that was dropped here: see
    `successive_halving.replay`.

    Args:
      validation, test: the same entries on the pairs of each split.
      parameters_X: numbers of parameters.
      rungs: what dropped experiments, of the same entries or the first ones of them.
      num_draws, seed: of the resamples.

    Returns:
      None where no candidate has a completed trial in both splits.
    """
    out_of_fold = len(test.weight_FS) > 1
    selecting, measuring = pooled(test if out_of_fold else validation), pooled(test)
    complete_X = np.isfinite(selecting.accuracy_X) & np.isfinite(measuring.accuracy_X)
    candidates = np.flatnonzero(complete_X & test.is_candidate_X)
    if not len(candidates):
        return None
    # Folds differ in difficulty: one that failed in some is not compared with those that did not.
    num_pairs_X = measuring.num_pairs_X
    candidates = candidates[num_pairs_X[candidates] == num_pairs_X[candidates].max()]
    candidates = candidates[np.argsort(parameters_X[candidates], kind="stable")]
    left = candidates[~np.isin(candidates, np.flatnonzero(dropped(rungs)))]
    if not len(left):
        return None
    best = int(left[np.argmax(selecting.accuracy_X[left])])
    raw = corrected = float(measuring.accuracy_X[best])
    selecting_S, measuring_S = (s.weight_YS.sum(axis=0) > 0 for s in (selecting, measuring))
    num_shared = int((selecting_S & measuring_S).sum())
    if 0 < num_shared < FEWEST_SERIES:
        corrected = float("nan")
    elif num_shared and len(candidates) > 1:
        used_S = np.logical_or(selecting_S, measuring_S)
        drawn = resamples(int(used_S.sum()), num_draws, np.random.default_rng(seed))
        corrected = _bootstrap_bias_corrected(
            selecting.take(candidates, used_S),
            measuring.take(candidates, used_S),
            replay(rungs, candidates, used_S),
            drawn,
        )
    return Chosen(
        best,
        tuple(map(int, left)),
        out_of_fold,
        raw,
        float(np.minimum(raw, corrected)),
        len(candidates) - len(left),
    )


def chosen_without(
    left_out_FS: np.ndarray, selecting: Pooled, chosen: Chosen
) -> tuple[np.ndarray, np.ndarray]:
    """What is selected where some series are left out: for each row, one of the candidates, and the
    accuracies of all entries there, [F] and [F, X].

    Args:
      left_out_FS: bool.
      selecting: hits of the pairs that select.
      chosen: what all series select.
    """
    accuracy_FX = selecting.accuracy_where()((~left_out_FS).astype(np.float64))
    order = np.array(chosen.candidates)
    best_F = np.argmax(np.nan_to_num(accuracy_FX[:, order], nan=-1.0), axis=1)
    return order[best_F], accuracy_FX


def _bootstrap_bias_corrected(
    selecting: Pooled,
    measuring: Pooled,
    survivors: Callable[[np.ndarray], np.ndarray],
    drawn: Iterator[np.ndarray],
) -> float:
    """Mean test accuracy, on the series left out, of what the series drawn select of those that
    survive there."""
    scores = []
    accuracy_of_drawn, accuracy_of_left = selecting.accuracy_where(), measuring.accuracy_where()
    for counts_BS in drawn:
        drawn_BX = np.where(survivors(counts_BS), accuracy_of_drawn(counts_BS), np.nan)
        chosen_B1 = np.argmax(np.nan_to_num(drawn_BX, nan=-1.0), axis=1)[:, None]
        left_BX = accuracy_of_left((counts_BS == 0).astype(np.float64))
        scores.append(np.take_along_axis(left_BX, chosen_B1, axis=1))
    return float(np.nanmean(np.concatenate(scores)))


class Needed(NamedTuple):
    """What it takes to find a stated difference between a typical candidate and a reference.

    Attributes:
      difference: stated beforehand; power for the observed difference would say no more than its
        p-value (Hoenig and Heisey 2001).
      power: the probability that a true difference of this size is found.
      num_series: in this split, for a probability of POWER; None where no number is enough.
      num_seeds: likewise; None where no number is enough, or where one seed does not tell.
    """

    difference: float
    power: float
    num_series: int | None
    num_seeds: int | None


def needed(
    table: Standings, to: Differences, is_candidate_X: np.ndarray, difference: float = 0.03
) -> Needed | None:
    """How many series, or seeds, would find a stated difference.

    Typical: the medians, over candidates, of the variance of the difference and of its parts. More
    series shrink all of it but the seed variance; more seeds shrink what differs between seeds.

    Args:
      table: of the split.
      to: the differences to the reference.
      is_candidate_X: see `Hits`.
      difference: between a candidate and the reference.

    Returns:
      None where no candidate's difference has an interval.
    """
    alive = np.flatnonzero(is_candidate_X & (to.error > 0))
    if not len(alive):
        return None
    variance, factor = (float(np.median(v[alive])) for v in (to.error**2, to.factor))
    seed_variance, spread = (
        float(np.median(part_X[alive])) + float(part_X[to.reference])
        for part_X in (table.variance_X, table.spread_X)
    )
    limit = (difference / (factor + ndtri(POWER))) ** 2
    series = (
        max(variance - seed_variance, 0.0) / (limit - seed_variance)
        if limit > seed_variance
        else np.inf
    )
    kept = 1.0 - (variance - limit) / spread if spread > 0 else np.nan
    return Needed(
        difference,
        power(difference, variance**0.5, factor),
        _at_least(series * table.num_series),
        _at_least(table.num_seeds / kept if kept > 0 else np.inf),
    )


def power(difference: float, error: float, critical_value: float) -> float:
    """The chance that a true difference is further from zero than critical_value * error."""
    if error == 0:
        return float(difference != 0)
    off = abs(difference) / error
    return float(ndtr(off - critical_value) + ndtr(-off - critical_value))


def _at_least(number: float) -> int | None:
    return max(int(np.ceil(number)), 1) if np.isfinite(number) else None
