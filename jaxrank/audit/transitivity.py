"""Check that the voters agree with each other, by circular triads.

Three photos a, b, c of a series are a circular triad if a is preferred to b, b to c, and c to a
(Kendall and Babington Smith 1940, "On the method of paired comparisons"). Random labels make a
quarter of the triples circular, a single common taste none. The check needs no features, so it
distinguishes random labels from labels that belong to other photos.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse

from jaxrank import statistics
from jaxrank.audit.case import NO_VERDICT, AuditCase, CheckResult

# Two of the eight outcomes of three pairs are circular.
CHANCE_SHARE = 0.25
# Standard errors below chance from which voters agree.
_COHERENT_Z = 3.3


class Triads(NamedTuple):
    """Circular triads of a pair table.

    Attributes:
      num_triples: number of triples of photos of a series with all three pairs compared and
        directed.
      num_series: number of series with such triples.
      circular_share: share of circular triples; NaN without triples.
      standard_error: standard error of the share, over series; NaN below `statistics.FEWEST_SERIES`
        series.
      coherent: whether voters agree more than by chance; None where that is unknown, also where no
        triad is circular: preferences computed from a ranking or a Bradley-Terry fit have none,
        whatever the votes were.
    """

    num_triples: int
    num_series: int
    circular_share: float
    standard_error: float
    coherent: bool | None


def circular_triads(table: pd.DataFrame) -> Triads:
    """Counts the circular triads of a pair table, in which each pair occurs once.

    Args:
      table: table with `series_id`, `image_a`, `image_b`, `preference`.
    """
    photos, names = pd.factorize(pd.concat([table["image_a"], table["image_b"]]))
    rows_a, rows_b = photos.reshape(2, -1)
    series, series_ids = pd.factorize(table["series_id"])
    series_N = np.zeros(len(names), np.int64)
    series_N[rows_a] = series_N[rows_b] = series

    preference = table["preference"].to_numpy(np.float64)
    directed = preference != 0.5
    winner = np.where(preference > 0.5, rows_a, rows_b)[directed]
    loser = np.where(preference > 0.5, rows_b, rows_a)[directed]
    shape = (len(names), len(names))
    beats = scipy.sparse.csr_array((np.ones(len(winner)), (winner, loser)), shape=shape)
    # No pair joins two series, so closed paths of three pairs are triples of a series. Each
    # circular triple begins at 3 photos; each triple begins at 3 photos and has 2 directions.
    compared = beats + beats.T
    cycles_N = np.asarray(((beats @ beats) * beats.T).sum(axis=1))
    paths_N = np.asarray(((compared @ compared) * compared).sum(axis=1))
    circular_S = np.bincount(series_N, weights=cycles_N, minlength=len(series_ids)) / 3
    triples_S = np.bincount(series_N, weights=paths_N, minlength=len(series_ids)) / 6

    num_triples, num_series = round(triples_S.sum()), int((triples_S > 0).sum())
    if not num_triples:
        return Triads(0, 0, np.nan, np.nan, None)
    share = float(circular_S.sum() / triples_S.sum())
    error, _, _ = statistics.clustered_error(circular_S, triples_S, np.arange(len(series_ids)))
    # Without circular triples, preferences were computed from a ranking.
    coherent = None if np.isnan(error) or not share else CHANCE_SHARE - share > _COHERENT_Z * error
    return Triads(num_triples, num_series, share, error, coherent)


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Reports whether voters agree, as evidence without a verdict.

    Agreement does not show which photos the voters saw.
    """
    del earlier
    found = circular_triads(case.table)
    return CheckResult(verdict=NO_VERDICT, evidence=tuple(_evidence(found)), facts=found)


def _evidence(triads: Triads) -> list[str]:
    if not triads.num_triples:
        return ["Voters: no three photos of a series are all compared, so coherence can't be seen."]
    if not triads.circular_share:
        return [
            f"Voters: none of {triads.num_triples:,} triples is circular, as when preferences are "
            "computed from a ranking: this is no evidence on the votes."
        ]
    # A standard error needs FEWEST_SERIES series.
    error = triads.standard_error
    interval = "" if np.isnan(error) else f" ± {196 * error:.1f}"
    return [
        f"Voters: {100 * triads.circular_share:.1f}%{interval} of "
        f"{triads.num_triples:,} triples are circular (labels at random: 25%)."
    ]
