"""From scores to probabilities: slopes, keep sets, and how sure a pick must be.

A score difference times a slope is the log-odds that the first photo is preferred; all is fitted on
pairs that the model has not been trained on. Axis letters: M pairs; N photos, S series; G photos of
a split, series by series.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.ranking import SeriesPhotos
from jaxrank.metrics import pair_differences
from jaxrank.statistics import FEWEST_SERIES

# The log loss of saying one half to everything.
CHANCE_LOG_LOSS = float(np.log(2))
# The prior of a slope: its logarithm is normal around that which makes a typical difference worth
# log-odds of 0.3, with this deviation: 95% between a half and twice that. It decides where there
# are some twenty series, which can't tell, and does little beside hundreds. A wider one was too
# sure with 18 series (stated 84%, right 65%); this one is too unsure there of a model that is very
# good (docs/statistics.md).
_TYPICAL_LOG_ODDS = 0.3
_LOG_DEVIATION = 0.35
# The share of series whose best photo a keep set holds.
KEEP_SHARE = 0.9
# The share of picks that are right among those that are sure enough; of at least so many series.
CONFIDENT_SHARE = 0.8
_FEWEST_CONFIDENT = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a model's scores say of people's preferences; saved with the model.

    Attributes:
      slope: the factor that makes score differences log-odds of being preferred.
      slope_low, slope_high: its 95% interval, by series; NaN where there is none.
      pick_slope: the factor by which the softmax of a series' scores is the probability of being
        the best of it.
      confidence: of the series whose pick is at least so probable, CONFIDENT_SHARE had the right
        one; infinite where no such share is reached, and where the series are too few.
      decided: the share of series whose pick is so probable.
      log_loss: of pairs that neither trained the model nor fitted the slope; NaN without any.
      num_pairs, num_series: that the slope is fitted to.
      keep_gap: photos of scores at most so far below the highest of their series are kept, so that
        `keep_share` of series keep their best; infinite: all are kept.
      keep_share: promised.
      keep_size: mean photos kept of a calibration series.
      keep_series: series that `keep_gap` is fitted to.
      source: which pairs these are, in a few words.
    """

    slope: float
    slope_low: float = float("nan")
    slope_high: float = float("nan")
    pick_slope: float = float("nan")
    confidence: float = float("inf")
    decided: float = float("nan")
    log_loss: float = float("nan")
    num_pairs: int = 0
    num_series: int = 0
    keep_gap: float = float("inf")
    keep_share: float = 0.9
    keep_size: float = float("nan")
    keep_series: int = 0
    source: str = ""

    @property
    def holds(self) -> bool:
        """Whether the probabilities say more than one half would; true where nobody knows."""
        return not self.log_loss > CHANCE_LOG_LOSS


class Part(NamedTuple):
    """Pairs that one model has not been trained on, and the model's scores.

    Attributes:
      scores_N: of all photos.
      pairs: rows of the dataset's pairs.
      photos: of these pairs, by series.
    """

    scores_N: np.ndarray
    pairs: np.ndarray
    photos: SeriesPhotos


def calibrate(parts: Sequence[Part], evaluator: Evaluator, source: str) -> Calibration:
    """What scores say of preferences, from pairs of models that have not seen them.

    Args:
      parts: without a pair in common, of models whose scores are on one scale.
      evaluator: that the models were measured with.
      source: see `Calibration`.
    """
    dataset = evaluator.dataset
    pairs = np.concatenate([part.pairs for part in parts])
    differences = [
        pair_differences(part.scores_N, dataset.pair_rows_M2[part.pairs]) for part in parts
    ]
    preferences = [dataset.preference_M[part.pairs] for part in parts]
    slope = fit_slope(np.concatenate(differences), np.concatenate(preferences))
    low, high = _slope_interval(
        slope, np.concatenate(differences), np.concatenate(preferences), dataset.series_M[pairs]
    )
    scored = [(part.scores_N, part.photos) for part in parts]
    pick_slope = fit_pick_slope(scored)
    confidence, decided = confidence_of_picks(scored, pick_slope)
    gap, size, num_series = keep_set(scored)
    return Calibration(
        slope=slope,
        slope_low=low,
        slope_high=high,
        pick_slope=pick_slope,
        confidence=confidence,
        decided=decided,
        log_loss=_held_out_log_loss(differences, preferences),
        num_pairs=len(pairs),
        num_series=len(np.unique(dataset.series_M[pairs])),
        keep_gap=gap,
        keep_share=KEEP_SHARE,
        keep_size=size,
        keep_series=num_series,
        source=source,
    )


def _held_out_log_loss(
    differences: Sequence[np.ndarray], preferences: Sequence[np.ndarray]
) -> float:
    """The log loss of all parts, each with the slope of the others; NaN with one part."""
    if len(differences) < 2:
        return float("nan")
    losses = []
    for i, (difference, preference) in enumerate(zip(differences, preferences, strict=True)):
        others = [j for j in range(len(differences)) if j != i]
        slope = fit_slope(
            np.concatenate([differences[j] for j in others]),
            np.concatenate([preferences[j] for j in others]),
        )
        losses.append(_cross_entropy(slope * difference.astype(np.float64), preference))
    return float(np.concatenate(losses).mean())


def _cross_entropy(log_odds: np.ndarray, preference: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, log_odds) - preference * log_odds


def fit_slope(difference_M: np.ndarray, preference_M: np.ndarray) -> float:
    """The factor that makes score differences log-odds of being preferred; above zero.

    Temperature scaling (Guo et al. 2017): the cross-entropy of the logistic of slope * difference,
    and a weak prior, without which a few pairs that are all right have no finite slope, and a few
    that are wrong have the slope zero.
    """
    difference, preference = difference_M.astype(np.float64), preference_M.astype(np.float64)
    different = difference[difference != 0]
    if not len(different):
        return 0.0
    scale = float(np.median(np.abs(different)))
    return _most_likely(lambda slope: _cross_entropy(slope * difference, preference).sum(), scale)


def fit_pick_slope(scored: Sequence[tuple[np.ndarray, SeriesPhotos]]) -> float:
    """The factor by which the softmax of a series' scores is the probability of being its best.

    Conditional logit (McFadden 1974) of the photo that people's preferences, taken together, put
    first. The slope of pairs is not the same: that is of one person's answer, which has more noise
    than the order that many answers make, so it would be too unsure of picks.

    Args:
      scored: scores [N] of all photos, and the photos of series that their model has not seen.
    """
    scores = [scores_N[photos.photos_G].astype(np.float64) for scores_N, photos in scored]
    behind = [
        score_G - np.maximum.reduceat(score_G, photos.starts)[photos.series_G]
        for score_G, (_, photos) in zip(scores, scored, strict=True)
        if len(photos.starts)
    ]
    groups = [photos for _, photos in scored if len(photos.starts)]
    different = np.abs(np.concatenate([np.zeros(0), *behind]))
    different = different[different > 0]
    if not len(different):
        return 0.0

    def loss(slope: float) -> float:
        total = 0.0
        for behind_G, photos in zip(behind, groups, strict=True):
            odds_G = np.exp(slope * behind_G)
            best_S, all_S = (
                np.add.reduceat(value_G, photos.starts)
                for value_G in (odds_G * photos.best_G, odds_G)
            )
            total -= float(np.log(np.maximum(best_S / all_S, 1e-300)).sum())
        return total

    return _most_likely(loss, float(np.median(different)))


def confidence_of_picks(
    scored: Sequence[tuple[np.ndarray, SeriesPhotos]], pick_slope: float
) -> tuple[float, float]:
    """How probable a pick must be so that CONFIDENT_SHARE of such picks are right; and the share of
    series that have such a pick.

    The lowest probability that does it: as many series as possible are decided.
    """
    probable, right = [np.zeros(0)], [np.zeros(0)]
    for scores_N, photos in scored:
        if not len(photos.starts):
            continue
        score_G = scores_N[photos.photos_G].astype(np.float64)
        behind_G = score_G - np.maximum.reduceat(score_G, photos.starts)[photos.series_G]
        picked_G = behind_G == 0
        num_picked_S, num_right_S = (
            np.add.reduceat(chosen_G.astype(np.float64), photos.starts)
            for chosen_G in (picked_G, picked_G & photos.best_G)
        )
        probable.append(1 / np.add.reduceat(np.exp(pick_slope * behind_G), photos.starts))
        right.append(num_right_S / num_picked_S)
    probable_S, right_S = np.concatenate(probable), np.concatenate(right)
    order = np.argsort(-probable_S, kind="stable")
    sorted_S = probable_S[order]
    share_S = np.cumsum(right_S[order]) / np.arange(1, len(order) + 1)
    # Equal probabilities are decided together.
    last_of_equals_S = np.r_[sorted_S[1:] < sorted_S[:-1], True][: len(order)]
    enough_S = np.arange(1, len(order) + 1) >= _FEWEST_CONFIDENT
    good = np.flatnonzero((share_S >= CONFIDENT_SHARE) & last_of_equals_S & enough_S)
    if not len(good):
        return math.inf, 0.0 if len(order) else math.nan
    return float(sorted_S[good[-1]]), float((good[-1] + 1) / len(order))


def _most_likely(loss: Callable[[float], float], scale: float) -> float:
    """The slope of least loss and prior, where `scale` is a typical difference of scores."""
    middle = math.log(_TYPICAL_LOG_ODDS / scale)

    def penalised(log_slope: float) -> float:
        return loss(math.exp(log_slope)) + 0.5 * ((log_slope - middle) / _LOG_DEVIATION) ** 2

    # A grid first: prior and loss together may have two minima.
    step = 0.5
    grid = middle + np.arange(-8.0, 8.0 + step, step)
    start = float(grid[np.argmin([penalised(value) for value in grid])])
    found = minimize_scalar(
        penalised, bounds=(start - step, start + step), method="bounded", options={"xatol": 1e-9}
    )
    return math.exp(float(found.x))


def _slope_interval(
    slope: float, difference_M: np.ndarray, preference_M: np.ndarray, series_M: np.ndarray
) -> tuple[float, float]:
    """A 95% interval of `fit_slope`, clustered by series (Liang and Zeger 1986), on the scale of
    its logarithm; NaN with few series."""
    if len(np.unique(series_M)) < FEWEST_SERIES or slope == 0:
        return float("nan"), float("nan")
    log_odds = slope * difference_M.astype(np.float64)
    chance = expit(log_odds)
    score_S = np.bincount(series_M, log_odds * (chance - preference_M))
    curvature = float(
        (log_odds * (chance - preference_M) + log_odds**2 * chance * (1 - chance)).sum()
    )
    curvature += _LOG_DEVIATION**-2
    if curvature <= 1e-6:  # flat: nothing is known
        return float("nan"), float("nan")
    error = math.sqrt(float(score_S @ score_S)) / curvature
    reach = math.exp(min(1.96 * error, 50.0))
    return slope / reach, slope * reach


def keep_set(scored: Sequence[tuple[np.ndarray, SeriesPhotos]]) -> tuple[float, float, int]:
    """How far below its highest score a series' photos are kept, so that KEEP_SHARE of new series
    keep their best; mean photos kept of these series; their number.

    Split conformal prediction (Vovk, Gammerman and Shafer 2005; over folds Vovk 2015), a series an
    example: the distance of its best photo from the highest score has rank ceil((S + 1) KEEP_SHARE)
    among those of S series. With fewer than nine series there is no such rank: the distance is
    infinite, and all photos are kept.
    """
    below, sizes = [np.zeros(0)], []
    for scores_N, photos in scored:
        if not len(photos.starts):
            continue
        score_G = scores_N[photos.photos_G].astype(np.float64)
        behind_G = np.maximum.reduceat(score_G, photos.starts)[photos.series_G] - score_G
        # Of several best photos one is enough.
        below.append(np.minimum.reduceat(np.where(photos.best_G, behind_G, np.inf), photos.starts))
        sizes.append((behind_G, photos.starts))
    below_S = np.sort(np.concatenate(below))
    rank = math.ceil(round((len(below_S) + 1) * KEEP_SHARE, 9))
    gap = float(below_S[rank - 1]) if 0 < rank <= len(below_S) else math.inf
    kept = [np.add.reduceat(behind_G <= gap, starts) for behind_G, starts in sizes]
    size = float(np.concatenate(kept).mean()) if kept else float("nan")
    return gap, size, len(below_S)
