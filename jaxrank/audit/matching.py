"""Matches two pair tables pair by pair, and measures the agreement of directions and margins.

Axis letters: M pairs in both tables, N photos of the reference.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.statistics import clustered_error

# Largest difference between margins of the same votes: a preference of Photo Triage is 0.98 share +
# 0.01, rounded to three digits, so that it differs from the share by at most 0.0105.
MARGIN_TOLERANCE = 0.011


class Photos(NamedTuple):
    """Photos of the reference, series by series in the order of their numbers.

    Attributes:
      names: names of N photos.
      series_N: series of each photo, from 0.
      start_N: index of the first photo of the photo's series.
      size_N: number of photos in the photo's series.
    """

    names: pd.Index
    series_N: np.ndarray
    start_N: np.ndarray
    size_N: np.ndarray


class Matched(NamedTuple):
    """Pairs in both tables.

    Attributes:
      preference_M, reference_M: in the pair table and in the reference, the share that prefers the
        photo of lower number.
      series_M: series of each pair.
      size_M: number of photos in the series.
      mirrored_M: whether the pair table names the photo of higher number first.
    """

    preference_M: np.ndarray
    reference_M: np.ndarray
    series_M: np.ndarray
    size_M: np.ndarray
    mirrored_M: np.ndarray


class Agreement(NamedTuple):
    """Agreement of directions, over pairs with a direction in both tables.

    Attributes:
      value: share of pairs that agree; NaN without pairs.
      standard_error: standard error clustered by series; NaN with few series.
      low, high: 95% interval.
    """

    value: float
    standard_error: float
    low: float
    high: float
    num_pairs: int
    num_series: int


def photos_of(table: pd.DataFrame) -> Photos:
    """Lists a reference's photos, ordered by series and photo number.

    A photo's number is the part after the last hyphen of its name. Photos without a number are in
    the order of their names.
    """
    stacked = pd.DataFrame(
        {
            "series": pd.concat([table["series_id"]] * 2),
            "image": pd.concat([table["image_a"], table["image_b"]]),
        }
    ).drop_duplicates("image")
    number = stacked["image"].str.extract(r"-(\d{1,15})(?:\.\w+)?$", expand=False).astype(float)
    ordered = stacked.assign(number=number).sort_values(["series", "number", "image"])
    series_N, _ = pd.factorize(ordered["series"])
    return Photos(
        names=pd.Index(ordered["image"]),
        series_N=series_N,
        start_N=np.searchsorted(series_N, series_N),
        size_N=np.bincount(series_N)[series_N],
    )


def match(pairs: pd.DataFrame, reference: pd.DataFrame, photos: Photos, shift: int = 0) -> Matched:
    """Finds each pair in the reference after adding `shift` to its photo numbers.

    Args:
      pairs, reference: canonical tables, each pair once.
      photos: photos of the reference.
      shift: shift of the photo numbers, cyclic within the series.
    """
    key, preference, mirrored = _oriented(pairs, photos, shift)
    reference_key, reference_preference, _ = _oriented(reference, photos)
    place = pd.Index(reference_key).get_indexer(pd.Index(key))
    found = place >= 0
    photo = key[found] // len(photos.names)
    return Matched(
        preference_M=preference[found],
        reference_M=reference_preference[place[found]],
        series_M=photos.series_N[photo],
        size_M=photos.size_N[photo],
        mirrored_M=mirrored[found],
    )


def _oriented(
    table: pd.DataFrame, photos: Photos, shift: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orients each pair by its photo numbers.

    Returns:
      The pair as a single number, -1 where a photo is unknown; the share that prefers its photo of
      lower number; and whether the row, before the shift, names the photo of higher number first.
    """
    rows_M2 = np.stack(
        [photos.names.get_indexer(pd.Index(table[c])) for c in ("image_a", "image_b")], axis=1
    )
    start_M2, size_M2 = photos.start_N[rows_M2], photos.size_N[rows_M2]
    moved_M2 = start_M2 + (rows_M2 - start_M2 + shift) % size_M2
    lower, upper = moved_M2.min(axis=1), moved_M2.max(axis=1)
    key = np.where((rows_M2 >= 0).all(axis=1), lower * len(photos.names) + upper, -1)
    preference = table["preference"].to_numpy(np.float64)
    toward_lower = np.where(moved_M2[:, 0] == lower, preference, 1 - preference)
    return key, toward_lower, rows_M2[:, 0] > rows_M2[:, 1]


def hits(matched: Matched) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether the directions of each pair agree, and whether both tables have one."""
    a, b = np.sign(matched.preference_M - 0.5), np.sign(matched.reference_M - 0.5)
    return a == b, a * b != 0


def agreement(matched: Matched, chosen_M: np.ndarray | None = None) -> Agreement:
    """Agreement of the directions of the chosen pairs, by default of all pairs."""
    hit, directed = hits(matched)
    if chosen_M is not None:
        directed = directed & chosen_M
    error, num_pairs, num_series = clustered_error(
        hit.astype(float), directed.astype(float), matched.series_M
    )
    value = float(hit[directed].mean()) if num_pairs else float("nan")
    low, high = np.clip([value - 1.96 * error, value + 1.96 * error], 0.0, 1.0).tolist()
    return Agreement(value, error, low, high, num_pairs, num_series)


def margins(preference: np.ndarray) -> np.ndarray:
    """Share of votes for the majority, max(p, 1-p)."""
    return np.maximum(preference, 1 - preference)


def margin_agreement(margin_M: np.ndarray, reference_M: np.ndarray) -> tuple[float, float]:
    """Share of margins within MARGIN_TOLERANCE of the reference's, and its chance level.

    The chance level is that share over all pairings of a margin with the reference's margin of
    another pair.
    """
    number = len(margin_M)
    if number < 2:
        return float("nan"), float("nan")
    same = int((np.abs(margin_M - reference_M) <= MARGIN_TOLERANCE).sum())
    ordered = np.sort(reference_M)
    most = np.searchsorted(ordered, margin_M + MARGIN_TOLERANCE, side="right")
    least = np.searchsorted(ordered, margin_M - MARGIN_TOLERANCE, side="left")
    return same / number, (int((most - least).sum()) - same) / (number * (number - 1))
