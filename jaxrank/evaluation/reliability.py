"""Do the scores' probabilities mean what they say?

Seen on pairs that neither trained the model nor fitted the slope. Axis letters: M pairs;
R judgements, one a pair and trial; C bins.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from jaxrank.data import splits
from jaxrank.evaluation.calibration import fit_slope
from jaxrank.evaluation.ensembles import combine
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.noise_ceiling import agreement_with_one_vote, entropy_of
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.metrics import pair_differences
from jaxrank.statistics import clustered_error

NUM_BINS = 10


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
    """The judgements of an experiment's completed trials, each on the test pairs of its fold.

    Scores are standardised, so that those of several trials can be added up. The slope of a fold's
    trials is fitted to the test pairs of all other folds, or, with one fold, to the validation
    pairs.
    """
    pairs, differences, log_odds = [np.zeros(0, int)], [np.zeros(0)], [np.zeros(0)]
    completed = [result for result in results if result.metrics.completed]
    difference_RM = [_standardised_differences(r, evaluator) for r in completed]
    preference_M = evaluator.dataset.preference_M
    folds = np.array([result.trial.fold for result in completed])
    for fold in np.unique(folds):
        several = len(np.unique(folds)) > 1
        others = folds != fold if several else folds == fold
        fitting = [
            (difference_RM[r][at], preference_M[at])
            for r in np.flatnonzero(others)
            for at in [evaluator.data.rows(folds[r], splits.TEST if several else splits.VALIDATION)]
        ]
        slope = fit_slope(*map(np.concatenate, zip(*fitting, strict=True)))
        for r in np.flatnonzero(folds == fold):
            pairs.append(evaluator.data.rows(fold, split))
            differences.append(difference_RM[r][pairs[-1]])
            log_odds.append(slope * differences[-1])
    return Judgements(*map(np.concatenate, (pairs, differences, log_odds)))


def _standardised_differences(result: TrialResult, evaluator: Evaluator) -> np.ndarray:
    rows_M2 = evaluator.dataset.pair_rows_M2
    photos = np.unique(rows_M2[evaluator.data.rows(result.trial.fold, splits.TRAIN)])
    scores_N, _ = combine(result.scores_N[None], photos)
    return pair_differences(scores_N, rows_M2)


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
