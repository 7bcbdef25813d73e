"""Comparison of a pair table with a reference, and the fault that explains a disagreement.

Axis letters: M pairs in both tables, S series, C distinct counts of a series.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.audit.case import (
    FAIL,
    NO_VERDICT,
    TOO_FEW_PAIRS,
    UNVERIFIED,
    AuditCase,
    CheckResult,
)
from jaxrank.audit.matching import (
    MARGIN_TOLERANCE,
    Agreement,
    Matched,
    Photos,
    agreement,
    hits,
    margin_agreement,
    margins,
    match,
    photos_of,
)
from jaxrank.errors import UserError

# Values of `Comparison.fault`.
NONE = "none"
INVERTED = "inverted"
RENUMBERED = "renumbered"
HALF_INVERTED = "half inverted"
HALF_RENUMBERED = "half renumbered"
SOME_INVERTED = "some series inverted"
SOME_RENUMBERED = "some series renumbered"
SHIFTED = "shifted"
MIRRORED = "mirrored rows swapped"
RANK_AS_WINNER = "rank read as winner"
OTHER_ORDER = "rows in another order"
SHUFFLED = "shuffled"
AT_CHANCE = "at chance"
REVERSED = "reversed"
TOO_FEW = "too few pairs"

# The direction is at chance where |agreement - 1/2| <= max(_ERRORS standard errors, _LEAST_LIMIT).
# This is only concluded where that limit is at most _WIDEST_LIMIT.
_ERRORS, _LEAST_LIMIT, _WIDEST_LIMIT = 3.3, 0.03, 0.10
# With fewer series, in total or of one kind (such as series of two photos), nothing is concluded.
_LEAST_SERIES = 30
_SAME_VOTES = 0.9  # least share of margins that agree
# Where rows of one order are swapped, at most this share of them agrees in series of more than two
# photos. If the photos had been permuted instead, 30% or more would agree (of three photos 8 in
# 27).
_SWAPPED = 0.2
# Margins of two different tables have a chi-square of about its degrees of freedom, or a little
# less because both depend on the same photos. Margins of one table in two orders have zero.
_SAME_VALUES, _LEAST_VALUES = 0.2, 10
# Least share of faulty series that is reported as some, as half, and as all series.
_SOME, _HALF, _ALL = 0.05, 0.25, 0.75
# The directions of pairs in one series are correlated when its photos are permuted. From the
# variance of the inversions of a random permutation, their intraclass correlation is 0.11 for three
# photos, 0.09 for four and 0.07 for five. That of a beta-binomial is 1 / (2 beta + 1).
_PERMUTED_BETA = 4.5
_EM_STEPS = 200

MEANING = {
    NONE: "The pairs agree with the reference",
    INVERTED: "The preferences are inverted: left and right, or winner and loser, are swapped in "
    "the whole table; take 1 - preference",
    RENUMBERED: "The photo numbers are permuted within the series: these are the reference's votes "
    "beside the wrong photos; take the photos' names from the reference",
    HALF_INVERTED: "The preferences are inverted in about half of the series",
    HALF_RENUMBERED: "The photo numbers are permuted in about half of the series",
    SOME_INVERTED: "The preferences are inverted in some of the series",
    SOME_RENUMBERED: "The photo numbers are permuted in some of the series",
    SHIFTED: "The photo numbers are shifted by one (after the last comes the first)",
    MIRRORED: "The mirrored rows are swapped: where a row names its photos in one order, its "
    "preference is that of the other order; count votes by photo, not by side",
    RANK_AS_WINNER: "Every preference is 0 or 1 and points the wrong way, as if a rank, of which "
    "the lowest is best, had been read as a score",
    OTHER_ORDER: "The preferences are in the reference's order of rows, the photos in another",
    SHUFFLED: "The preferences are shuffled over the whole table: they are the reference's, beside "
    "the wrong pairs",
    AT_CHANCE: "The pairs agree with the reference no better than chance; without the same votes "
    "in both, permuted photo numbers and shuffled preferences look the same",
    REVERSED: "The pairs say the reverse of the reference",
    TOO_FEW: "Too few pairs are in both tables to tell",
}


class SeriesShares(NamedTuple):
    """Estimated shares of the series; they sum to 1."""

    correct: float
    inverted: float
    renumbered: float


class Comparison(NamedTuple):
    """Comparison of a pair table with a reference.

    Attributes:
      direction: agreement of the directions of all pairs, each counted once in either order of its
        photos, without ties.
      direction_two_photo: agreement in series of two photos.
      num_margins: number of pairs of two-photo series.
      margin_agreement: share of these pairs whose margins, max(p, 1-p), agree within
        MARGIN_TOLERANCE; NaN without such pairs.
      margin_chance: the same share for the margins of two different pairs.
      same_votes: whether, by the margins, both tables count the same votes.
      series_shares: shares of series by fault; None with other votes, and where one rule explains
        the whole table.
      fault: one of the names above.
      sentence: fault in words and numbers.
    """

    direction: Agreement
    direction_two_photo: Agreement
    num_margins: int
    margin_agreement: float
    margin_chance: float
    same_votes: bool
    series_shares: SeriesShares | None
    fault: str
    sentence: str


def compare(pairs: pd.DataFrame, reference: pd.DataFrame) -> Comparison:
    """Compares preferences pair by pair and names the fault that explains the difference.

    Most faults can only be distinguished if both tables hold the same votes. Margins of two-photo
    series show this, whatever the names of the photos. With other votes, directions agree (fault
    NONE), are at chance or are reversed.

    Args:
      pairs, reference: tables with `series_id`, `image_a`, `image_b`, `preference`, each pair once,
        as returned by `read_preferences`. Photos are matched by name.

    Raises:
      UserError: no pair is in both tables.
    """
    photos = photos_of(reference)
    matched = match(pairs, reference, photos)
    if not len(matched.series_M):
        raise UserError(
            "the reference has none of the pairs: the pairs name photos such as "
            f"'{pairs['image_a'].iloc[0]}', the reference such as "
            f"'{reference['image_a'].iloc[0]}'; give a reference for the same photos, or name the "
            "photos of votes and pair lists alike with --photo_name"
        )
    two_photo = matched.size_M == 2
    agree, chance = margin_agreement(
        margins(matched.preference_M[two_photo]), margins(matched.reference_M[two_photo])
    )
    num_margins = int(two_photo.sum())
    direction = agreement(matched)
    same_votes = _are_same(num_margins, agree, chance)
    shares = None
    # Rules for the whole table come before the mixture, to which a shift or swap of some rows looks
    # like inverted or permuted series. Both rules also come before the margins: other votes show
    # these faults too, and merging swapped rows with right ones changes the margins.
    if direction.num_series < _LEAST_SERIES:
        fault = TOO_FEW
    elif _mirrored_swapped(matched):
        fault = MIRRORED
    elif _shifted(matched, [match(pairs, reference, photos, shift) for shift in (1, -1)]):
        fault = SHIFTED
    elif same_votes:
        shares = _series_shares(matched)
        fault = _fault_of_shares(shares, direction)
    else:
        fault = _fault_of_direction(direction, matched)
        if fault in (SHUFFLED, AT_CHANCE) and _same_by_row(pairs, reference, photos):
            fault = OTHER_ORDER
    comparison = Comparison(
        direction=direction,
        direction_two_photo=agreement(matched, two_photo),
        num_margins=num_margins,
        margin_agreement=agree,
        margin_chance=chance,
        same_votes=same_votes,
        series_shares=shares,
        fault=fault,
        sentence="",
    )
    return comparison._replace(sentence=_sentence(comparison))


def _are_same(number: int, agree: float, chance: float) -> bool:
    """Whether margins are of the same votes.

    Where most margins are equal, as in a table of winners, their agreement shows nothing.
    """
    return number >= _LEAST_SERIES and agree >= _SAME_VOTES and chance < 0.5


def _chance_limit(direction: Agreement) -> float:
    return max(_ERRORS * direction.standard_error, _LEAST_LIMIT)


def _mirrored_swapped(matched: Matched) -> bool:
    """Whether rows of one order are the reverse of the reference, and those of the other are not.

    In two-photo series, rows that a permutation has reversed look the same, so longer series decide
    where there are enough.
    """

    def by_order(chosen_M: np.ndarray) -> list[Agreement]:
        orders = (matched.mirrored_M, ~matched.mirrored_M)
        return [agreement(matched, chosen_M & order_M) for order_M in orders]

    orders = by_order(matched.size_M > 2)
    if min(order.num_series for order in orders) < _LEAST_SERIES:
        orders = by_order(matched.size_M >= 2)
    low, high = sorted(orders, key=lambda order: order.value)
    return (
        min(low.num_series, high.num_series) >= _LEAST_SERIES
        and low.value <= _SWAPPED
        and high.value >= 0.5 - _chance_limit(high)
    )


def _shifted(matched: Matched, moved: Sequence[Matched]) -> bool:
    """Whether undoing a shift of the photo numbers by one explains the directions best.

    Longer series decide: in series of two photos, a shift is an inversion. In series of three,
    undoing a shift that did not happen makes up to two thirds of inverted preferences agree.
    """
    here = agreement(matched, matched.size_M > 2).value
    for other in moved:
        there = agreement(other, other.size_M > 2)
        least = there.value - _chance_limit(there)
        if there.num_series >= _LEAST_SERIES and least > max(here, 1 - here):
            return True
    return False


def _fault_of_direction(direction: Agreement, matched: Matched) -> str:
    """Fault that the directions show when the margins are not the reference's."""
    limit = _chance_limit(direction)
    if direction.value > 0.5 + limit:
        return NONE
    if direction.value < 0.5 - limit:
        certain = [np.isin(p, (0, 1)).all() for p in (matched.preference_M, matched.reference_M)]
        return RANK_AS_WINNER if certain == [True, False] else REVERSED
    if limit > _WIDEST_LIMIT:
        return TOO_FEW
    same = _same_values(margins(matched.preference_M), margins(matched.reference_M))
    return SHUFFLED if same else AT_CHANCE


def _same_values(margin_M: np.ndarray, reference_M: np.ndarray) -> bool:
    """Whether the margins are the reference's in another order, as their histograms suggest.

    Histograms of different tables would differ more.
    """

    def alike(a_M: np.ndarray, b_M: np.ndarray) -> bool:
        # Rounded first, like preferences in files, so that equal margins fall into the same bin.
        a, b = (
            np.bincount(np.round(1000 * m).astype(int) // 10, minlength=101) for m in (a_M, b_M)
        )
        filled = a + b > 0
        chi_square = ((a - b)[filled] ** 2 / (a + b)[filled]).sum()
        freedom = int(filled.sum()) - 1
        return bool(freedom >= _LEAST_VALUES and chi_square <= _SAME_VALUES * freedom)

    # Either table may hold shares of votes, see MARGIN_TOLERANCE.
    pulled_in = [0.98 * m + 0.01 for m in (margin_M, reference_M)]
    return (
        alike(margin_M, reference_M)
        or alike(pulled_in[0], reference_M)
        or alike(margin_M, pulled_in[1])
    )


def _same_by_row(pairs: pd.DataFrame, reference: pd.DataFrame, photos: Photos) -> bool:
    """Whether margins agree row by row where the reference has a two-photo series."""
    if len(pairs) != len(reference):
        return False
    two_photo = photos.size_N[photos.names.get_indexer(pd.Index(reference["image_a"]))] == 2
    by_row = [
        margins(table["preference"].to_numpy(np.float64)[two_photo]) for table in (pairs, reference)
    ]
    return _are_same(int(two_photo.sum()), *margin_agreement(*by_row))


def _series_shares(matched: Matched) -> SeriesShares:
    """Fits a mixture over series by expectation maximisation (Dempster et al. 1977).

    Of the n pairs of a series, the number that agrees is binomial with a common rate in a correct
    series. It is the mirror image in an inverted series, and beta-binomial around n/2 in a permuted
    series.
    """
    hit, directed = hits(matched)
    series = matched.series_M[directed]
    pairs_S = np.bincount(series)
    counts_S2 = np.stack([np.bincount(series, hit[directed]).astype(int), pairs_S], axis=1)
    counts_C2, series_C = np.unique(counts_S2[pairs_S > 0], axis=0, return_counts=True)
    k, n = counts_C2.T
    weights, rate = np.ones(3), 0.95
    if (pairs_S >= 2).sum() < _LEAST_SERIES:
        # Single pairs cannot distinguish an inverted series beside a correct series from two
        # permuted series; permuted numbers are assumed.
        weights[1 if hit[directed].mean() >= 0.5 else 0] = 0
    weights /= weights.sum()
    from scipy.stats import betabinom, binom  # a third of a second, which a search can do without

    permuted_C = betabinom.pmf(k, n, _PERMUTED_BETA, _PERMUTED_BETA)
    for _ in range(_EM_STEPS):
        likelihood_3C = np.stack([binom.pmf(k, n, rate), binom.pmf(n - k, n, rate), permuted_C])
        joint_3C = weights[:, None] * likelihood_3C
        series_3C = series_C * joint_3C / joint_3C.sum(axis=0)
        weights = series_3C.sum(axis=1) / series_C.sum()
        ordered_C = series_3C[0] + series_3C[1]
        right = (series_3C[0] * k + series_3C[1] * (n - k)).sum() / max((ordered_C * n).sum(), 1e-9)
        # The rate stays well above one half; otherwise correct series would look like permuted
        # series.
        rate = float(np.clip(right, 0.8, 0.999))
    return SeriesShares(*weights.tolist())


def _fault_of_shares(shares: SeriesShares, direction: Agreement) -> str:
    """Fault of tables with the same votes, by the larger share of faulty series."""
    inverted = shares.inverted > shares.renumbered
    share = max(shares.inverted, shares.renumbered)
    if share < _SOME:
        return NONE
    if share < _HALF:
        return SOME_INVERTED if inverted else SOME_RENUMBERED
    # With half of the series permuted, about 75% of the directions agree.
    at_chance = abs(direction.value - 0.5) <= min(_chance_limit(direction), _WIDEST_LIMIT)
    if share >= _ALL or (at_chance and not inverted):
        return INVERTED if inverted else RENUMBERED
    return HALF_INVERTED if inverted else HALF_RENUMBERED


def _sentence(comparison: Comparison) -> str:
    """Fault, directions and margins in words and numbers."""
    direction, two_photo = comparison.direction, comparison.direction_two_photo
    meaning, shares = MEANING[comparison.fault], comparison.series_shares
    if shares is not None:
        meaning += (
            f" (of the series an estimated {shares.correct:.0%} are correct, "
            f"{shares.inverted:.0%} inverted, {shares.renumbered:.0%} permuted)"
        )
    directions = f"Directions agree on {direction.value:.1%} of {direction.num_pairs:,} pairs"
    if not direction.num_pairs:
        directions = "No pair has a direction in both tables"
    if np.isfinite(direction.standard_error):
        directions += f" (95% interval {direction.low:.1%} to {direction.high:.1%})"
    if two_photo.num_pairs:
        directions += f", in two-photo series on {two_photo.value:.1%} of {two_photo.num_pairs:,}"
    if comparison.num_margins >= _LEAST_SERIES:
        votes = (
            f"Margins of votes agree within {MARGIN_TOLERANCE:g} on "
            f"{comparison.margin_agreement:.2%} of {comparison.num_margins:,} two-photo pairs (by "
            f"chance {comparison.margin_chance:.1%}): "
            + ("these are the same votes" if comparison.same_votes else "not the same votes")
        )
    else:
        votes = "Too few two-photo pairs to tell by their margins whether the votes are the same"
    return f"{meaning}. {directions}. {votes}."


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Checks that the pairs agree with a reference, where one is given."""
    del earlier
    if case.compared is None:
        return CheckResult(verdict=NO_VERDICT)
    found = compare(*case.compared)
    evidence = (f"Compared with the reference: {found.sentence}",)
    if found.fault == NONE:
        return CheckResult(evidence=evidence, facts=found)
    if found.fault == TOO_FEW:
        return CheckResult(
            verdict=UNVERIFIED,
            label=TOO_FEW_PAIRS,
            headline=found.sentence,
            advice="Give a reference with more pairs of the same photos.",
            evidence=evidence,
            facts=found,
        )
    return CheckResult(
        verdict=FAIL,
        label=found.fault,
        headline=found.sentence,
        advice="Fix the pairs as described, and audit them again before training.",
        evidence=evidence,
        facts=found,
    )
