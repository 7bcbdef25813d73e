"""Selection of an experiment, its corrected accuracy, and the power of the comparison.

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

# Power that a search should have.
POWER = 0.8


class Chosen(NamedTuple):
    """Selected experiment, and its accuracy on new series.

    Attributes:
      entry: index of the selected entry.
      candidates: entries it was selected from, without those that rungs have dropped; of equally
        accurate candidates the first is selected.
      out_of_fold: whether the selection used the test pairs of all folds, rather than the
        validation pairs.
      raw: test accuracy, biased upwards where the selection used the same series.
      accuracy: test accuracy corrected for the selection, for series that the selection has not
        seen; never above `raw`; NaN with too few series for the correction.
      num_dropped: number of candidates dropped by rungs; the correction includes them.
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


def select_experiment(
    validation: Hits,
    test: Hits,
    parameters_X: np.ndarray,
    *,
    rungs: Sequence[RungHits] = (),
    num_draws: int = 1000,
    seed: int = 0,
) -> Chosen | None:
    """Selects an experiment, and corrects its test accuracy for the selection.

    With folds, the candidate of highest accuracy on the test pairs of all folds is selected: early
    stopping used the validation pairs, which favours noisy training
    (benchmarks/selection_rules.py). With one split, validation selects, and the test pairs only
    measure. Of equally accurate candidates, the one with the fewest parameters is selected.

    The correction is BBC-CV (Tsamardinos et al. 2018), clustered by series. In each resample of the
    series, the drawn series select a candidate, and the test pairs of the others measure it. The
    corrected accuracy is the mean over the resamples. Where no series is used both to select and to
    measure, no correction is needed.

    An experiment that a rung has dropped is not selected. In each resample the rungs are replayed,
    so an experiment that was dropped here may survive and be selected there: see
    `successive_halving.replay`.

    Args:
      validation, test: hits of the same entries on the pairs of each split.
      parameters_X: numbers of parameters.
      rungs: rungs that dropped experiments, with the same entries or the first ones of them.
      num_draws, seed: number and seed of the resamples.

    Returns:
      The selection; None where no candidate has a completed trial in both splits, or where rungs
      have dropped all candidates.
    """
    out_of_fold = len(test.weight_FS) > 1
    selecting, measuring = pooled(test if out_of_fold else validation), pooled(test)
    complete_X = np.isfinite(selecting.accuracy_X) & np.isfinite(measuring.accuracy_X)
    candidates = np.flatnonzero(complete_X & test.is_candidate_X)
    if not len(candidates):
        return None
    # Folds differ in difficulty, so a candidate that failed in some folds is not compared with
    # candidates that completed more.
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
    """Repeats the selection without some series, for each row of series to leave out.

    Args:
      left_out_FS: series to leave out, bool.
      selecting: hits of the pairs that select.
      chosen: selection with all series.

    Returns:
      The selected candidate of each row, [F], and the accuracies of all entries there, [F, X].
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
    """Mean test accuracy of the candidate selected in each resample, on the series left out.

    The candidates are those that survive the rungs in the resample.
    """
    scores = []
    accuracy_of_drawn, accuracy_of_left = selecting.accuracy_where(), measuring.accuracy_where()
    for counts_BS in drawn:
        drawn_BX = np.where(survivors(counts_BS), accuracy_of_drawn(counts_BS), np.nan)
        chosen_B1 = np.argmax(np.nan_to_num(drawn_BX, nan=-1.0), axis=1)[:, None]
        left_BX = accuracy_of_left((counts_BS == 0).astype(np.float64))
        scores.append(np.take_along_axis(left_BX, chosen_B1, axis=1))
    return float(np.nanmean(np.concatenate(scores)))


class PowerAnalysis(NamedTuple):
    """Power to detect a stated difference between a typical candidate and a reference.

    Attributes:
      difference: difference stated beforehand; power for the observed difference would carry no
        more information than its p-value (Hoenig and Heisey 2001).
      power: probability that a true difference of this size is detected.
      num_series: number of series in this split for a power of POWER; None where no number is
        enough.
      num_seeds: number of seeds for a power of POWER; None where no number is enough, or where it
        is unknown because there is one seed.
    """

    difference: float
    power: float
    num_series: int | None
    num_seeds: int | None


def power_analysis(
    table: Standings, differences: Differences, is_candidate_X: np.ndarray, difference: float = 0.03
) -> PowerAnalysis | None:
    """Computes the series, or the seeds, that detect a stated difference with a power of POWER.

    A typical candidate has the medians, over candidates, of the difference's variance and of its
    parts. More series reduce all parts but the seed variance; more seeds reduce the part that
    differs between seeds.

    Args:
      table: standings in the split.
      differences: differences to the reference.
      is_candidate_X: see `Hits`.
      difference: stated difference between a candidate and the reference.

    Returns:
      The power and the numbers; None where no candidate's difference has an interval.
    """
    alive = np.flatnonzero(is_candidate_X & (differences.error > 0))
    if not len(alive):
        return None
    variance, critical_value = (
        float(np.median(v[alive])) for v in (differences.error**2, differences.critical_value)
    )
    seed_variance, spread = (
        float(np.median(part_X[alive])) + float(part_X[differences.reference])
        for part_X in (table.variance_X, table.spread_X)
    )
    limit = (difference / (critical_value + ndtri(POWER))) ** 2
    series = (
        max(variance - seed_variance, 0.0) / (limit - seed_variance)
        if limit > seed_variance
        else np.inf
    )
    kept = 1.0 - (variance - limit) / spread if spread > 0 else np.nan
    return PowerAnalysis(
        difference,
        power(difference, variance**0.5, critical_value),
        _at_least(series * table.num_series),
        _at_least(table.num_seeds / kept if kept > 0 else np.inf),
    )


def power(difference: float, error: float, critical_value: float) -> float:
    """Probability that the estimate of a true difference is beyond critical_value * error."""
    if error == 0:
        return float(difference != 0)
    off = abs(difference) / error
    return float(ndtr(off - critical_value) + ndtr(-off - critical_value))


def _at_least(number: float) -> int | None:
    return max(int(np.ceil(number)), 1) if np.isfinite(number) else None
