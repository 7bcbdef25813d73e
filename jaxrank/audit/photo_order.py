"""Check for preferences that follow the order of the photos.

If "the later photo wins" was recorded instead of votes, a photo's number predicts the winner. The
number in the name and the order of the names are tested, over pairs with a direction.

Axis letters: M pairs, N photos, S series.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.audit.case import TOO_FEW_PAIRS, UNVERIFIED, WARN, AuditCase, CheckResult, out_of_time
from jaxrank.data.dataset import Dataset

# An order predicts the preferences where its |z| is above the first limit and its accuracy this far
# from one half. With very many pairs, even a slight habit of photographers has a large z, for
# example that the last picture is better.
LEAST_Z = 4.0
LEAST_EFFECT = 0.05
# Effect that must be detectable: half of the labels say "the later photo wins", so that it wins
# three quarters of the pairs.
_PLANTED_EFFECT = 0.25
_POWER_Z = 1.645  # for a power of 95%
BY_NUMBER, BY_NAME = "number in the name", "name"
_NUMBER = r"(\d{1,15})\D*$"


class OrderAccuracy(NamedTuple):
    """Share of pairs that the later photo wins.

    Attributes:
      order: BY_NUMBER or BY_NAME.
      accuracy: share of pairs; a tie of the order counts one half.
      standard_error: standard error over series, under the null that the order carries no
        information.
      z: (accuracy - 1/2) / standard_error.
    """

    order: str
    accuracy: float
    standard_error: float
    z: float


class PhotoOrder(NamedTuple):
    """Accuracy of each order of the photos.

    Attributes:
      num_pairs, num_series: number of pairs with a direction, and of their series.
      orders: accuracy of each order that differs between the photos of some pair.
    """

    num_pairs: int
    num_series: int
    orders: tuple[OrderAccuracy, ...]


def measure_orders(dataset: Dataset) -> PhotoOrder:
    """Measures the share of pairs that the later photo wins.

    The standard error is that of the score test: series are independent, and under the null a pair
    is right half of the time.
    """
    directed = dataset.preference_M != 0.5
    rows_a, rows_b = dataset.pair_rows_M2[directed].T
    preferred_M = np.sign(dataset.preference_M[directed] - 0.5)
    series_M = dataset.series_M[directed]
    orders = []
    for order, place_N in _places(dataset.photos).items():
        later_M = np.sign(place_N[rows_a] - place_N[rows_b])
        excess_M = 0.5 * np.nan_to_num(later_M) * preferred_M
        if excess_M.any():
            excess_S = np.bincount(series_M, weights=excess_M)
            error = float(np.sqrt((excess_S**2).sum())) / len(excess_M)
            effect = float(excess_M.mean())
            orders.append(OrderAccuracy(order, 0.5 + effect, error, effect / error if error else 0))
    return PhotoOrder(len(rows_a), len(np.unique(series_M)), tuple(orders))


def _places(photos: np.ndarray) -> dict[str, np.ndarray]:
    """Position of each photo in each order, [N]; NaN for a name without a number."""
    stems = pd.Series(photos.astype(str)).str.replace(r"\.\w+$", "", regex=True)
    number_N = stems.str.extract(_NUMBER, expand=False).astype(np.float64).to_numpy()
    name_N = np.unique(photos.astype(str), return_inverse=True)[1].astype(np.float64)
    return {BY_NUMBER: number_N, BY_NAME: name_N}


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Checks for preferences that follow the order of the photos."""
    del earlier
    if not case.seconds_left:
        return out_of_time("Photo order")
    found = measure_orders(case.data.dataset)
    return dataclasses.replace(_judge(found), evidence=(_evidence(found),), facts=found)


def _judge(found: PhotoOrder) -> CheckResult:
    predicts = [
        order
        for order in found.orders
        if abs(order.z) > LEAST_Z and abs(order.accuracy - 0.5) > LEAST_EFFECT
    ]
    if predicts:
        most = max(predicts, key=lambda order: abs(order.z))
        which = "later" if most.z > 0 else "earlier"
        share = max(most.accuracy, 1 - most.accuracy)
        return CheckResult(
            verdict=WARN,
            label="the photos' order predicts the preferences",
            headline=f"By the {most.order} the {which} photo of a pair wins {100 * share:.1f}% ± "
            f"{196 * most.standard_error:.1f} of the pairs, where 50% is expected "
            f"(z = {abs(most.z):.1f}).",
            advice="It is a fault if the preferences were made from the order, or the photos "
            "numbered by them. If they are votes, nothing is wrong: the "
            f"{which} photos of these series are better.",
        )
    least_seen = (LEAST_Z + _POWER_Z) * max(
        (order.standard_error for order in found.orders), default=np.inf
    )
    if least_seen > _PLANTED_EFFECT:
        return CheckResult(
            verdict=UNVERIFIED,
            label=TOO_FEW_PAIRS,
            headline="Too few pairs to tell whether the photos' order predicts the preferences.",
            advice="See how the photos got their numbers.",
        )
    return CheckResult()


def _evidence(found: PhotoOrder) -> str:
    if not found.orders:
        return f"Photo order: not looked at in {found.num_pairs:,} pairs."
    listed = "; ".join(
        f"by the {order.order} {100 * order.accuracy:.1f}% ± {196 * order.standard_error:.1f} "
        f"(z = {order.z:+.1f})"
        for order in found.orders
    )
    return (
        f"Photo order: the later photo wins {listed}, of {found.num_pairs:,} pairs of "
        f"{found.num_series:,} series (too much with a z above {LEAST_Z:g} and more than "
        f"{100 * LEAST_EFFECT:.0f} points from 50%)."
    )
