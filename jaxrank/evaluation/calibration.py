"""Do the scores' probabilities mean what they say, and do whole series come out in order?

A score difference times a slope is the log-odds that the first photo is preferred; the slope is
fitted on validation pairs, so test pairs tell whether the probabilities hold. Axis letters:
M pairs; R judgements, one a pair and trial; C bins; N photos, S series, J places in a series.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from jaxrank.data import splits
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.noise_ceiling import agreement_with_one_vote, entropy_of
from jaxrank.evaluation.ranking import FEWEST_PHOTOS, SeriesPhotos
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.metrics import pair_differences
from jaxrank.statistics import clustered_error

NUM_BINS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a model's scores say of people's preferences; saved with the model.

    Attributes:
      slope: the factor that makes score differences log-odds of being preferred.
      slope_low, slope_high: its 95% interval, by series; NaN where there is none.
      pick_slope: the factor by which the softmax of a series' scores is the probability of being
        the best of it.
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
    log_loss: float = float("nan")
    num_pairs: int = 0
    num_series: int = 0
    keep_gap: float = float("inf")
    keep_share: float = 0.9
    keep_size: float = float("nan")
    keep_series: int = 0
    source: str = ""


class Judgements(NamedTuple):
    """What trials say of the pairs that test them: R of them, one a pair and trial.

    Attributes:
      pair_R: the pair.
      difference_R: score_a - score_b.
      log_odds_R: of `image_a` being preferred: the difference times the trial's slope.
    """

    pair_R: np.ndarray
    difference_R: np.ndarray
    log_odds_R: np.ndarray


def judgements(
    results: Sequence[TrialResult], evaluator: Evaluator, split: int = splits.TEST
) -> Judgements:
    """The judgements of an experiment's completed trials, each on the test pairs of its fold."""
    dataset = evaluator.dataset
    pairs, differences, log_odds = [np.zeros(0, int)], [np.zeros(0)], [np.zeros(0)]
    for result in results:
        if not result.metrics.completed:
            continue
        split_M = evaluator.splits_FM[result.trial.fold]
        difference_M = pair_differences(result.scores_N, dataset.pair_rows_M2).astype(np.float64)
        validated = split_M == splits.VALIDATION
        slope = fit_slope(difference_M[validated], dataset.preference_M[validated])
        pairs.append(np.flatnonzero(split_M == split))
        differences.append(difference_M[pairs[-1]])
        log_odds.append(slope * differences[-1])
    return Judgements(*map(np.concatenate, (pairs, differences, log_odds)))


class Reliability(NamedTuple):
    """How far probabilities can be trusted; NaN without judgements.

    Confidence is the probability of the photo that is said to win, so that it does not matter
    which photo of a pair is the first; agreement is the share of votes that it got.

    Attributes:
      num_pairs, num_series: distinct ones among the judgements.
      log_loss: mean cross-entropy with the preferences, in nats.
      entropy: its floor, the mean entropy of the preferences.
      calibration_error: ECE, the mean over judgements of |agreement - confidence| of their bin.
      calibration_error_by_chance: what it would be on average of perfect probabilities, from the
        standard errors of the bins' agreement. NaN where a bin has too few series for those.
      count_C: judgements in bins of about equal counts; equal confidences share a bin.
      confidence_C, agreement_C: means.
      error_C: standard error of the agreement, clustered by series.
    """

    num_pairs: int
    num_series: int
    log_loss: float
    entropy: float
    calibration_error: float
    calibration_error_by_chance: float
    count_C: np.ndarray
    confidence_C: np.ndarray
    agreement_C: np.ndarray
    error_C: np.ndarray


# The log loss of saying one half to everything.
CHANCE_LOG_LOSS = float(np.log(2))


def reliability(
    log_odds_R: np.ndarray, preference_R: np.ndarray, pair_R: np.ndarray, series_R: np.ndarray
) -> Reliability:
    """Measures probabilities against preferences.

    Args:
      log_odds_R: of the first photo being preferred.
      preference_R: the share that prefers it.
      pair_R, series_R: numbers of the pair and of its series.
    """
    p = preference_R.astype(np.float64)
    bin_R = _equal_count_bins(np.abs(log_odds_R))
    count_C = np.bincount(bin_R)
    agreed_R = agreement_with_one_vote(log_odds_R, p)
    confidence_C = np.bincount(bin_R, expit(np.abs(log_odds_R))) / count_C
    agreement_C = np.bincount(bin_R, agreed_R) / count_C
    error_C = np.array(
        [
            clustered_error(agreed_R[mine], np.ones(mine.sum()), series_R[mine])[0]
            for mine in (bin_R == i for i in range(len(count_C)))
        ]
    )
    empty = not len(p)
    return Reliability(
        num_pairs=len(np.unique(pair_R)),
        num_series=len(np.unique(series_R)),
        log_loss=np.nan if empty else float((np.logaddexp(0, log_odds_R) - p * log_odds_R).mean()),
        entropy=np.nan if empty else float(entropy_of(p).mean()),
        calibration_error=_weighted(np.abs(agreement_C - confidence_C), count_C),
        # The mean size of a normal deviate.
        calibration_error_by_chance=_weighted(np.sqrt(2 / np.pi) * error_C, count_C),
        count_C=count_C,
        confidence_C=confidence_C,
        agreement_C=agreement_C,
        error_C=error_C,
    )


def reliability_of(judged: Judgements, evaluator: Evaluator) -> Reliability:
    dataset = evaluator.dataset
    preference_M = dataset.table["preference"].to_numpy(np.float64)
    return reliability(
        judged.log_odds_R,
        preference_M[judged.pair_R],
        judged.pair_R,
        dataset.series_M[judged.pair_R],
    )


def _equal_count_bins(value_R: np.ndarray) -> np.ndarray:
    """NUM_BINS bins of about equal counts; equal values share one, so there can be fewer."""
    if not len(value_R):
        return np.zeros(0, int)
    edges = np.quantile(value_R, np.arange(1, NUM_BINS) / NUM_BINS)
    return np.unique(np.searchsorted(edges, value_R, side="right"), return_inverse=True)[1]


def _weighted(values: np.ndarray, counts: np.ndarray) -> float:
    return float(values @ counts / counts.sum()) if len(counts) else float("nan")


class Ndcg(NamedTuple):
    """Normalised discounted cumulative gain, and what a random order of the photos gets."""

    value: float
    by_chance: float


def ndcg_of(results: Sequence[TrialResult], evaluator: Evaluator, split: int = splits.TEST) -> Ndcg:
    """The means over an experiment's completed trials; NaN without any, or without series."""
    values = [
        (ndcg(result.scores_N, photos), ndcg(np.zeros_like(result.scores_N), photos))
        for result in results
        if result.metrics.completed
        for photos in [evaluator.photos[result.trial.fold, split]]
    ]
    return Ndcg(*map(float, np.mean(values or [(np.nan, np.nan)], axis=0)))


def ndcg(scores_N: np.ndarray, group: SeriesPhotos) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), over all places.

    The gain of a photo is the number of photos of its series that are worth less: the order of the
    worths counts, not their scale. The discount of place k is 1 / log2(k + 1). Of equal scores all
    orders are averaged (McSherry and Najork 2008), so scores that are all equal get what a random
    order gets, which is far from zero.

    Args:
      scores_N: finite scores of all photos.
      group: from `ranking.series_photos`.

    Returns:
      A mean over series; NaN without series whose photos differ in worth.
    """
    # A third of a second each; training should not wait for it.
    from scipy.stats import rankdata
    from sklearn.metrics import ndcg_score

    if not len(group.starts):
        return float("nan")
    sizes = np.diff(np.r_[group.starts, len(group.photos_G)])
    # The group lists the photo pairs of series of FEWEST_PHOTOS and more; the better of two photos
    # has one that is worth less.
    gain_G = np.bincount(group.first_K, group.decided_K, len(group.photos_G))
    gain_G += group.best_G & (sizes[group.series_G] < FEWEST_PHOTOS)
    # An empty place has no gain and the lowest score, so that it stands last.
    place_G = np.arange(len(gain_G)) - group.starts[group.series_G]
    gain_SJ = np.zeros((len(sizes), sizes.max()))
    score_SJ = np.full(gain_SJ.shape, -np.inf)
    gain_SJ[group.series_G, place_G] = gain_G
    score_SJ[group.series_G, place_G] = scores_N[group.photos_G]
    # The metric loops over rows in Python, but small series have few orders.
    rows_SJ2 = np.stack([gain_SJ, rankdata(score_SJ, method="dense", axis=1)], axis=2)
    different, count = np.unique(rows_SJ2, axis=0, return_counts=True)
    return ndcg_score(different[..., 0], different[..., 1], sample_weight=count)


# Log-odds that stand for certainty.
_CERTAIN = 20.0


def fit_slope(difference_M: np.ndarray, preference_M: np.ndarray) -> float:
    """The factor that makes score differences log-odds of being preferred, never negative.

    Temperature scaling (Guo et al. 2017): minimises the mean cross-entropy of the logistic of
    slope * difference, which is convex in the slope. Zero where higher scores are not preferred;
    where all pairs are right, the bound at which the larger half of differences are certain.
    """
    difference, preference = difference_M.astype(np.float64), preference_M.astype(np.float64)
    different = difference[difference != 0]
    if not len(different):
        return 0.0
    scale = float(np.median(np.abs(different)))
    scaled = difference / scale

    def gradient(slope: float) -> float:
        return float(np.mean(scaled * (expit(slope * scaled) - preference)))

    if gradient(0.0) >= 0:
        return 0.0
    slope = _CERTAIN if gradient(_CERTAIN) <= 0 else brentq(gradient, 0.0, _CERTAIN)
    return float(slope) / scale
