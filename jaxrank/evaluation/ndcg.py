"""Normalised discounted cumulative gain (NDCG) of the order within series.

Axis letters: N photos, S series, J places in a series, G photos of a split, grouped by series.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrank.data import splits
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.ranking import FEWEST_PHOTOS, SeriesPhotos
from jaxrank.evaluation.trial_results import TrialResult


class Ndcg(NamedTuple):
    """NDCG of a scorer, and of a random order of the photos."""

    value: float
    by_chance: float


def ndcg_of(results: Sequence[TrialResult], evaluator: Evaluator, split: int = splits.TEST) -> Ndcg:
    """Mean NDCG of an experiment's completed trials; NaN without trials or series."""
    values = [
        (ndcg(result.scores_N, photos), ndcg(np.zeros_like(result.scores_N), photos))
        for result in results
        if result.metrics.completed
        for photos in [evaluator.photos[result.trial.fold, split]]
    ]
    return Ndcg(*map(float, np.mean(values or [(np.nan, np.nan)], axis=0)))


def ndcg(scores_N: np.ndarray, group: SeriesPhotos) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), over all places.

    The gain of a photo is the number of photos of its series with lower ground-truth strength: the
    order of the strengths counts, not their scale. The discount of place k is 1 / log2(k + 1). Tied
    scores are averaged over all their orders (McSherry and Najork 2008). So scores that are all
    equal have the NDCG of a random order, which is far from zero.

    Args:
      scores_N: finite scores of all photos.
      group: from `ranking.series_photos`.

    Returns:
      The mean over series; NaN without series whose photos differ in strength.
    """
    # Each import takes a third of a second, which training should not wait for.
    from scipy.stats import rankdata
    from sklearn.metrics import ndcg_score

    if not len(group.starts):
        return float("nan")
    sizes = np.diff(np.r_[group.starts, len(group.photos_G)])
    # The group lists the photo pairs of series of FEWEST_PHOTOS and more. In a series of two, the
    # better photo has a gain of one.
    gain_G = np.bincount(group.first_K, group.decided_K, len(group.photos_G))
    gain_G += group.best_G & (sizes[group.series_G] < FEWEST_PHOTOS)
    # An empty place has no gain and the lowest score, so that it comes last.
    place_G = np.arange(len(gain_G)) - group.starts[group.series_G]
    gain_SJ = np.zeros((len(sizes), sizes.max()))
    score_SJ = np.full(gain_SJ.shape, -np.inf)
    gain_SJ[group.series_G, place_G] = gain_G
    score_SJ[group.series_G, place_G] = scores_N[group.photos_G]
    # The metric loops over rows in Python, but small series have few distinct orders.
    rows_SJ2 = np.stack([gain_SJ, rankdata(score_SJ, method="dense", axis=1)], axis=2)
    different, count = np.unique(rows_SJ2, axis=0, return_counts=True)
    return ndcg_score(different[..., 0], different[..., 1], sample_weight=count)
