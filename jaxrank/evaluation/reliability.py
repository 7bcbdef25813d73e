"""Reliability of the probabilities: calibration error and log loss on held-out pairs.

The pairs neither trained the model nor fitted the slope. Axis letters: M pairs; R judgements, one
per pair and trial; C bins.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from jaxrank.data import splits
from jaxrank.evaluation.calibration import cross_entropy, fit_slope
from jaxrank.evaluation.ensembles import combine
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.noise_ceiling import agreement_with_one_vote, entropy_of
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.metrics import pair_differences
from jaxrank.statistics import clustered_error

NUM_BINS = 10


class Judgements(NamedTuple):
    """Judgements of the trials on the pairs that test them: R of them, one per pair and trial.

    Attributes:
      pair_R: index of the pair.
      difference_R: score_a - score_b.
      log_odds_R: log-odds that `image_a` is preferred: the difference times the trial's slope.
    """

    pair_R: np.ndarray
    difference_R: np.ndarray
    log_odds_R: np.ndarray


def judgements(
    results: Sequence[TrialResult], evaluator: Evaluator, split: int = splits.TEST
) -> Judgements:
    """Returns the judgements of an experiment's completed trials, each on a split of its fold.

    Scores are standardised, so that those of several trials can be pooled. The slope of a fold's
    trials is fitted to the test pairs of all other folds or, with one fold, to its validation
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
    """Reliability of probabilities; NaN without judgements.

    Confidence is the probability of the photo predicted to win, so the order of a pair's photos
    does not matter. Agreement is the share of votes for that photo.

    Attributes:
      num_pairs, num_series: number of distinct pairs and series among the judgements.
      log_loss: mean cross-entropy with the preferences, in nats.
      entropy: floor of the log loss, the mean entropy of the preferences.
      calibration_error: expected calibration error (ECE), the mean over judgements of |agreement -
        confidence| of their bin.
      calibration_error_by_chance: expected ECE of perfect probabilities, from the standard errors
        of the bins' agreement. NaN where a bin has too few series for a standard error.
      count_C: judgements in bins of about equal counts; equal confidences share a bin.
      confidence_C, agreement_C: mean confidence and agreement of each bin.
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
      log_odds_R: log-odds that the first photo is preferred.
      preference_R: share of votes for the first photo.
      pair_R, series_R: indices of the pair and of its series.
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
        log_loss=np.nan if empty else float(cross_entropy(log_odds_R, p).mean()),
        entropy=np.nan if empty else float(entropy_of(p).mean()),
        calibration_error=_weighted(np.abs(agreement_C - confidence_C), count_C),
        # The factor is the mean absolute value of a standard normal variable.
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
    """Assigns NUM_BINS bins of about equal counts; fewer where equal values share a bin."""
    if not len(value_R):
        return np.zeros(0, int)
    edges = np.quantile(value_R, np.arange(1, NUM_BINS) / NUM_BINS)
    return np.unique(np.searchsorted(edges, value_R, side="right"), return_inverse=True)[1]


def _weighted(values: np.ndarray, counts: np.ndarray) -> float:
    return float(values @ counts / counts.sum()) if len(counts) else float("nan")
