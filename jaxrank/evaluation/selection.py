"""The choice of an experiment: what its score is worth, and what it takes to choose better.

Axis letters as in comparison.py.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from jaxrank.evaluation.comparison import Hits, Standings, over_trials
from jaxrank.statistics import FEWEST_SERIES, ratio, resamples

POWER = 0.8


class Chosen(NamedTuple):
    """The experiment that validation chose, and how good it is on new series.

    Attributes:
      entry: which.
      num_candidates: how many it was chosen from.
      raw: its mean in the test split, too good where the choice saw the same series.
      corrected: what remains of that on series that the choice has not seen.
    """

    entry: int
    num_candidates: int
    raw: float
    corrected: float


def chosen_score(
    validation: Hits, test: Hits, *, num_draws: int = 1000, seed: int = 0
) -> Chosen | None:
    """The score of the candidate of highest validation mean, corrected for the choice.

    BBC-CV (Tsamardinos et al. 2018), clustered by series: resample the series, choose by the
    validation pairs of those drawn, measure by the test pairs of those left out; the mean over the
    resamples. With folds a series validates one model and tests another; where no series does
    both, the choice saw nothing of the test split and there is nothing to correct.

    Returns:
      None where no candidate has a completed trial in both splits.
    """
    (hits_XS, weight_XS, _), (tested_XS, asked_XS, _) = (
        over_trials(split.hits_XFKS, split.weight_FS) for split in (validation, test)
    )
    complete_X = (weight_XS.sum(axis=1) > 0) & (asked_XS.sum(axis=1) > 0)
    candidates = np.flatnonzero(complete_X & validation.is_candidate_X)
    if not len(candidates):
        return None
    hits_SX, weight_SX = hits_XS[candidates].T, weight_XS[candidates].T
    tested_SX, asked_SX = tested_XS[candidates].T, asked_XS[candidates].T
    best = int(np.argmax(ratio(hits_SX.sum(axis=0), weight_SX.sum(axis=0))))
    raw = corrected = float(tested_SX[:, best].sum() / asked_SX[:, best].sum())
    validated_S, tested_S = (split.weight_FS.sum(axis=0) > 0 for split in (validation, test))
    num_shared = int((validated_S & tested_S).sum())
    if 0 < num_shared < FEWEST_SERIES:
        corrected = float("nan")
    elif num_shared:
        used_S = validated_S | tested_S
        corrected = _bootstrap_bias_corrected(
            (hits_SX[used_S], weight_SX[used_S]),
            (tested_SX[used_S], asked_SX[used_S]),
            resamples(int(used_S.sum()), num_draws, np.random.default_rng(seed)),
        )
    return Chosen(int(candidates[best]), len(candidates), raw, corrected)


def _bootstrap_bias_corrected(
    validation_SX: tuple[np.ndarray, np.ndarray],
    test_SX: tuple[np.ndarray, np.ndarray],
    drawn: Iterator[np.ndarray],
) -> float:
    """Mean test accuracy, on the series left out, of what the series drawn choose; each pair is
    hits and weights."""
    scores = []
    for counts_BS in drawn:
        drawn_BX = ratio(*(counts_BS @ value_SX for value_SX in validation_SX))
        chosen_B1 = np.argmax(np.nan_to_num(drawn_BX, nan=-1.0), axis=1)[:, None]
        left_BS = (counts_BS == 0).astype(np.float64)
        left_BX = ratio(*(left_BS @ value_SX for value_SX in test_SX))
        scores.append(np.take_along_axis(left_BX, chosen_B1, axis=1))
    return float(np.nanmean(np.concatenate(scores)))


class Needed(NamedTuple):
    """What it takes to tell a stated difference between two typical candidates.

    Attributes:
      difference: stated beforehand; power for the observed difference would say no more than its
        p-value (Hoenig and Heisey 2001).
      power: the chance to separate two candidates that truly differ so much.
      num_series: in this split, for a chance of POWER; None where no number is enough.
      num_seeds: likewise; None where no number is enough, or where one seed does not tell.
    """

    difference: float
    power: float
    num_series: int | None
    num_seeds: int | None


def needed(table: Standings, is_candidate_X: np.ndarray, difference: float = 0.03) -> Needed | None:
    """How many series, or seeds, would tell a stated difference.

    Typical: the medians, over pairs of candidates, of the difference's variance and of its parts.
    More series shrink all of it but the seed variance; more seeds shrink what differs between
    seeds.

    Returns:
      None where there are no two candidates with intervals.
    """
    alive = np.flatnonzero(is_candidate_X & np.isfinite(np.diag(table.error_XX)))
    if len(alive) < 2:
        return None
    a, b = alive[np.array(np.triu_indices(len(alive), k=1))]
    variance = float(np.median(table.error_XX[a, b] ** 2))
    seed_variance = float(np.median(table.seed_variance_X[a] + table.seed_variance_X[b]))
    spread = float(np.median(table.spread_X[a] + table.spread_X[b]))
    limit = (difference / (table.critical_value + ndtri(POWER))) ** 2
    series = (
        max(variance - seed_variance, 0.0) / (limit - seed_variance)
        if limit > seed_variance
        else np.inf
    )
    kept = 1.0 - (variance - limit) / spread if spread > 0 else np.nan
    return Needed(
        difference,
        power(difference, variance**0.5, table.critical_value),
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
