"""Calibration: slopes from scores to probabilities, keep sets and pick confidence.

A score difference times a slope is the log-odds that the first photo is preferred. Everything is
fitted on pairs that the model was not trained on. Axis letters: M pairs; N photos, S series; G
photos of a split, grouped by series.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.ranking import SeriesPhotos
from jaxrank.metrics import pair_differences
from jaxrank.statistics import FEWEST_SERIES

# Log loss of a constant prediction of one half.
CHANCE_LOG_LOSS = float(np.log(2))
# Prior of a slope: log-normal around the slope that turns a typical difference into log-odds of
# 0.3. This deviation puts 95% between a half and twice that slope. The prior decides with some
# twenty series, which carry little information, and has little effect with hundreds. A wider prior
# was overconfident with 18 series (stated 84%, right 65%). This one is underconfident there for a
# very accurate model (docs/statistics.md).
_TYPICAL_LOG_ODDS = 0.3
_LOG_DEVIATION = 0.35
# Share of series whose keep set contains the best photo.
KEEP_SHARE = 0.9
# Share of confident picks that are right, and the least number of series behind it.
CONFIDENT_SHARE = 0.8
_FEWEST_CONFIDENT = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration of a model's scores against people's preferences; saved with the model.

    Attributes:
      slope: factor that turns score differences into log-odds of being preferred.
      slope_low, slope_high: 95% interval of the slope, clustered by series; NaN without an
        interval.
      pick_slope: factor by which the softmax of a series' scores is the probability of being its
        best photo.
      confidence: least probability of a pick at which CONFIDENT_SHARE of such picks were right;
        infinite where no probability reaches that share, or with too few series.
      decided: share of series whose pick has at least this probability.
      log_loss: log loss on pairs that neither trained the model nor fitted the slope; NaN without
        such pairs.
      num_pairs, num_series: numbers of pairs and series that the slope is fitted to.
      keep_gap: largest distance below a series' highest score at which a photo is kept, so that
        `keep_share` of series keep their best photo; infinite where all photos are kept.
      keep_share: share of series promised to keep their best photo.
      keep_size: mean number of photos kept in a calibration series.
      keep_series: number of series that `keep_gap` is fitted to.
      source: short description of the calibration pairs.
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
    def beats_chance(self) -> bool:
        """Whether the probabilities beat a constant one half; true where that is unknown."""
        return not self.log_loss > CHANCE_LOG_LOSS


class Part(NamedTuple):
    """Calibration pairs that one model was not trained on, with the model's scores.

    Attributes:
      scores_N: scores of all photos.
      pairs: rows of the dataset's pairs.
      photos: photos of these pairs, grouped by series.
    """

    scores_N: np.ndarray
    pairs: np.ndarray
    photos: SeriesPhotos


def calibrate(parts: Sequence[Part], evaluator: Evaluator, source: str) -> Calibration:
    """Calibrates scores on pairs that their models have not seen.

    Args:
      parts: disjoint sets of pairs, of models whose scores are on one scale.
      evaluator: evaluator of the models.
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
    """Mean log loss of all parts, each with the slope of the others; NaN with one part."""
    if len(differences) < 2:
        return float("nan")
    losses = []
    for i, (difference, preference) in enumerate(zip(differences, preferences, strict=True)):
        others = [j for j in range(len(differences)) if j != i]
        slope = fit_slope(
            np.concatenate([differences[j] for j in others]),
            np.concatenate([preferences[j] for j in others]),
        )
        losses.append(cross_entropy(slope * difference.astype(np.float64), preference))
    return float(np.concatenate(losses).mean())


def cross_entropy(log_odds: np.ndarray, preference: np.ndarray) -> np.ndarray:
    """Cross-entropy, in nats, of a preference with the probability of these log-odds."""
    # log(1 + exp(log_odds)). NumPy vectorises these functions, but not `logaddexp`, which takes
    # five times as long.
    softplus = np.maximum(log_odds, 0) + np.log1p(np.exp(-np.abs(log_odds)))
    return softplus - preference * log_odds


def fit_slope(difference_M: np.ndarray, preference_M: np.ndarray) -> float:
    """Fits the factor, above zero, that turns score differences into log-odds of being preferred.

    Temperature scaling (Guo et al. 2017): it minimises the cross-entropy of the logistic of slope *
    difference, with a weak prior. Without the prior, a few pairs that are all right have no finite
    slope, and a few that are all wrong have slope zero. The slope is 0 where all differences are
    zero.
    """
    difference, preference = difference_M.astype(np.float64), preference_M.astype(np.float64)
    different = difference[difference != 0]
    if not len(different):
        return 0.0
    scale = float(np.median(np.abs(different)))
    return _most_likely(lambda slope: cross_entropy(slope * difference, preference).sum(), scale)


def fit_pick_slope(scored: Sequence[tuple[np.ndarray, SeriesPhotos]]) -> float:
    """Fits the factor that turns the softmax of a series' scores into pick probabilities.

    The probability is that of being the series' best photo: the conditional logit (McFadden 1974)
    of the photo that the combined preferences rank first. The slope of pairs differs: it describes
    the answer of one person, which has more noise than the order from many answers. Used for picks,
    it would be underconfident.

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
    """Finds the least probability at which CONFIDENT_SHARE of the picks are right.

    The lowest such probability decides as many series as possible.

    Returns:
      The probability, and the share of series whose pick is at least so probable.
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
    """Slope of least loss plus prior, where `scale` is a typical difference of scores."""
    from scipy.optimize import minimize_scalar  # takes 0.1 s, for which no dispatch should wait

    middle = math.log(_TYPICAL_LOG_ODDS / scale)

    def penalised(log_slope: float) -> float:
        return loss(math.exp(log_slope)) + 0.5 * ((log_slope - middle) / _LOG_DEVIATION) ** 2

    # Starts from a grid, since loss and prior together may have two minima.
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
    """95% interval of `fit_slope`, clustered by series (Liang and Zeger 1986).

    It is symmetric on the scale of the slope's logarithm; NaN with fewer than FEWEST_SERIES series.
    """
    if len(np.unique(series_M)) < FEWEST_SERIES or slope == 0:
        return float("nan"), float("nan")
    log_odds = slope * difference_M.astype(np.float64)
    chance = expit(log_odds)
    score_S = np.bincount(series_M, log_odds * (chance - preference_M))
    curvature = float(
        (log_odds * (chance - preference_M) + log_odds**2 * chance * (1 - chance)).sum()
    )
    curvature += _LOG_DEVIATION**-2
    if curvature <= 1e-6:  # flat: the slope is not determined
        return float("nan"), float("nan")
    error = math.sqrt(float(score_S @ score_S)) / curvature
    reach = math.exp(min(1.96 * error, 50.0))
    return slope / reach, slope * reach


def keep_set(scored: Sequence[tuple[np.ndarray, SeriesPhotos]]) -> tuple[float, float, int]:
    """Finds how far below the highest score of a series photos must be kept.

    The distance is such that KEEP_SHARE of new series keep their best photo. Split conformal
    prediction (Vovk, Gammerman and Shafer 2005; over folds Vovk 2015), with a series as an example.
    The distance of a series' best photo from the highest score has rank ceil((S + 1) KEEP_SHARE)
    among S series. With fewer than nine series this rank does not exist: the distance is infinite,
    and all photos are kept.

    Returns:
      The distance, the mean number of photos kept in these series, and the number of series.
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
