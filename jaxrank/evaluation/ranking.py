"""Metrics of the order within series, and the ground-truth strength that they compare with.

Axis letters: N photos, M pairs; G photos of a split, K photo pairs inside its series; X any number
of scorers, or no axis for one scorer.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data.dataset import RANK_COLUMNS, Dataset, vote_numbers
from jaxrank.evaluation import bradley_terry

# Strengths are rounded, so that photos of equal strength are equal. Among 20,000 series with five
# votes per pair, the least difference between unequal photos was 0.13. The fit left photos with
# equal records 1e-13 apart, and its largest error was 3e-11, in a chain of 5,000 photos.
STRENGTH_DIGITS = 3
FEWEST_PHOTOS = 3  # an order of two photos is a pair, which accuracy already counts


def ground_truth_strength(dataset: Dataset) -> tuple[np.ndarray, str]:
    """Ground-truth strength: how much each photo is preferred inside its series.

    It is minus the photo's rank where the pair table has usable ranks (1 is best), else its
    Bradley-Terry strength.

    Returns:
      The strengths, float64 [N], higher is better, comparable inside a series only; and a sentence
      on their source.
    """
    if not set(RANK_COLUMNS) & set(dataset.table.columns):
        return _strengths(dataset)
    try:
        return -_ranks(dataset), "the ranks in the pair table (rank_a, rank_b; the lowest is best)"
    except ValueError as reason:
        strength_N, source = _strengths(dataset)
        return strength_N, f"{source}, not the ranks in the pair table: {reason}"


def _ranks(dataset: Dataset) -> np.ndarray:
    """Reads the rank of each photo, float64 [N].

    Raises:
      ValueError: the table has no usable ranks, with the reason.
    """
    for column in RANK_COLUMNS:
        if column not in dataset.table:
            raise ValueError(f"column '{column}' is missing")
    cells_M2 = dataset.table[list(RANK_COLUMNS)]
    ranks_M2 = cells_M2.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    names_M2 = dataset.photos[dataset.pair_rows_M2]
    broken = ~np.isfinite(ranks_M2)
    if broken.any():
        cell = str(cells_M2.to_numpy(object)[broken][0])[:40]
        raise ValueError(f"the rank {cell!r} of photo '{names_M2[broken][0]}' is not a number")
    rank_N = np.empty(len(dataset.photos))
    rank_N[dataset.pair_rows_M2] = ranks_M2  # keeps one rank of a photo that has several
    kept_M2 = rank_N[dataset.pair_rows_M2]
    differs = kept_M2 != ranks_M2
    if differs.any():
        raise ValueError(
            f"photo '{names_M2[differs][0]}' has the ranks {ranks_M2[differs][0]:g} and "
            f"{kept_M2[differs][0]:g}"
        )
    return rank_N


def _strengths(dataset: Dataset) -> tuple[np.ndarray, str]:
    """Fits Bradley-Terry strengths, float64 [N], with mean zero in every series.

    No pair joins two series, so the joint maximum is also the maximum of each series. Photos that
    no chain of pairs joins cannot be compared: each connected group has mean zero.

    Returns:
      The strengths, and a sentence on their source.
    """
    preference_M = dataset.table["preference"].to_numpy(np.float64)
    votes_M = vote_numbers(dataset.table)
    fitted = bradley_terry.fit(dataset.pair_rows_M2, preference_M, len(dataset.photos), votes_M)
    source = "Bradley-Terry strengths fitted to the "
    source += "preferences" if votes_M is None else "votes"
    if not fitted.converged:
        source += " (the fit has not converged: Top-1 and tau may be wrong; please report it)"
    return np.round(fitted.strength_N, STRENGTH_DIGITS), source


class SeriesPhotos(NamedTuple):
    """Photos of a split, grouped by series and sorted by ground-truth strength.

    Series whose photos all have equal strength are left out: they have no right order.

    Attributes:
      photos_G: rows of a score vector [N]; the photos of a series are adjacent, the best first.
      starts: index in G of the first photo of each series.
      series_G: series of each photo, from 0.
      best_G: whether no photo of its series is stronger.
      first_K, second_K: indices in G of every two photos of a series, for series of at least
        FEWEST_PHOTOS photos.
      decided_K: whether the first is stronger; otherwise both are equal.
      pair_starts: index in K of the first photo pair of each of those series.
    """

    photos_G: np.ndarray
    starts: np.ndarray
    series_G: np.ndarray
    best_G: np.ndarray
    first_K: np.ndarray
    second_K: np.ndarray
    decided_K: np.ndarray
    pair_starts: np.ndarray


def series_photos(dataset: Dataset, strength_N: np.ndarray, pairs: np.ndarray) -> SeriesPhotos:
    """Groups the photos of some pairs by series.

    Args:
      dataset: aligned pairs.
      strength_N: from `ground_truth_strength`.
      pairs: rows of the dataset's pairs, such as those of one split.
    """
    photos, first = np.unique(dataset.pair_rows_M2[pairs], return_index=True)
    series = dataset.series_M[pairs][first // 2]  # two photos a pair
    order = np.lexsort((-strength_N[photos], series))
    photos, series = photos[order], series[order]
    worth = strength_N[photos]
    starts = _starts(series)
    sizes = np.diff(np.r_[starts, len(series)])
    # Photos are sorted from best to worst.
    ordered = worth[starts] > worth[starts + sizes - 1]
    kept = np.repeat(ordered, sizes)
    photos, worth, sizes = photos[kept], worth[kept], sizes[ordered]
    starts = np.cumsum(sizes) - sizes
    series_G = np.repeat(np.arange(len(sizes)), sizes)

    # Pairs each photo with those after it in its series.
    partners = np.repeat(starts + sizes, sizes) - np.arange(len(photos)) - 1
    partners[sizes[series_G] < FEWEST_PHOTOS] = 0
    first_K = np.repeat(np.arange(len(photos), dtype=np.int32), partners)
    nth_partner_K = np.arange(len(first_K)) - np.repeat(np.cumsum(partners) - partners, partners)
    second_K = (first_K + 1 + nth_partner_K).astype(np.int32)
    return SeriesPhotos(
        photos_G=photos,
        starts=starts,
        series_G=series_G,
        best_G=worth == worth[starts][series_G],
        first_K=first_K,
        second_K=second_K,
        decided_K=worth[first_K] > worth[second_K],
        pair_starts=_starts(series_G[first_K]),
    )


def _starts(labels: np.ndarray) -> np.ndarray:
    """Indices at which runs of equal labels begin."""
    return np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]][: len(labels)])


def top1_hit(scores_XN: np.ndarray, group: SeriesPhotos) -> np.ndarray:
    """Share of series whose photo of highest score is the most preferred photo.

    Of several photos with the highest score, one is chosen at random: the series counts as the
    share of them that is most preferred. Where several photos are strongest, each of them is right.

    Args:
      scores_XN: finite scores of all photos, of one scorer or of several.
      group: from `series_photos`.

    Returns:
      The mean over series, for each scorer; NaN without series whose photos differ in strength.
    """
    if not len(group.starts):
        return np.full(scores_XN.shape[:-1], np.nan)[()]
    scores_XG = np.take(scores_XN, group.photos_G, axis=-1)
    highest_XS = np.maximum.reduceat(scores_XG, group.starts, axis=-1)
    chosen_XG = scores_XG == np.take(highest_XS, group.series_G, axis=-1)

    def per_series(chosen_XG: np.ndarray) -> np.ndarray:
        return np.add.reduceat(chosen_XG, group.starts, axis=-1, dtype=np.int64)

    return (per_series(chosen_XG & group.best_G) / per_series(chosen_XG)).mean(axis=-1)


def kendall_tau(scores_XN: np.ndarray, group: SeriesPhotos) -> np.ndarray:
    """Kendall's tau-b (1945, "The treatment of ties in ranking problems") of strength and score.

    For a series: (concordant - discordant photo pairs) / sqrt(photo pairs with different strength *
    photo pairs with different score). It is 0 where all scores are equal.

    Args:
      scores_XN: finite scores of all photos, of one scorer or of several.
      group: from `series_photos`.

    Returns:
      The mean over series of at least FEWEST_PHOTOS photos, for each scorer; NaN without such
      series.
    """
    if not len(group.pair_starts):
        return np.full(scores_XN.shape[:-1], np.nan)[()]
    first, second = (
        np.take(scores_XN, group.photos_G[places_K], axis=-1)
        for places_K in (group.first_K, group.second_K)
    )
    sign_XK = (first > second).view(np.int8) - (first < second).view(np.int8)

    def per_series(counts_XK: np.ndarray) -> np.ndarray:
        return np.add.reduceat(counts_XK, group.pair_starts, axis=-1, dtype=np.int64)

    right = per_series(sign_XK * group.decided_K)
    pairs = np.sqrt(per_series(group.decided_K) * per_series(sign_XK != 0))
    return np.divide(right, pairs, out=np.zeros(pairs.shape), where=pairs > 0).mean(axis=-1)
