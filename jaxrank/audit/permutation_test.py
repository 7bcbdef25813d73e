"""Permutation test of the link between labels and photos.

If the labels belong to the photos, some score of a photo's features agrees with the preferences.
It agrees less often after the feature rows are permuted among the photos of each series. This null
keeps everything else: the series, the pairs, the ties, the features' spread. The largest of several
test statistics is corrected for their number (maxT: Westfall and Young 1993).

Axis letters: M pairs with a direction, N photos in them, D features, J numbers tested one by one, K
inputs of the ridge, L test statistics, F folds, R permutations.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri
from threadpoolctl import threadpool_limits

from jaxrank import baselines, statistics
from jaxrank.audit import reference
from jaxrank.audit.case import (
    FAIL,
    NOT_FINISHED,
    TOO_FEW_PAIRS,
    UNVERIFIED,
    AuditCase,
    CheckResult,
)
from jaxrank.audit.grouped_ridge import ridge_scores
from jaxrank.audit.projection import components
from jaxrank.data.dataset import Dataset, permuted_rows
from jaxrank.errors import UserError

LINKED, INVERTED, UNLINKED = "linked", "inverted", "no link found"
TOO_FEW, OUT_OF_TIME = "too few pairs", "out of time"
NOTHING_VARIES = "no feature differs"
NO_LINK = "no link found between labels and photos"
FEWEST_PERMUTATIONS = 99
# Significance level of a link. At 5%, a real table whose photo numbers are permuted would have
# passed.
ALPHA = 0.001
# z of the signed sum below which a link is inverted. Photo numbers shifted by one invert only some
# of the pairs. Then a single number may show it while the sum only agrees in sign.
INVERTED_Z = -3.1
# A missing link is a fault only where a test of single numbers would detect an accuracy this far
# from one half with a probability of 95%.
LARGEST_BLIND_SPOT = 0.07
_POWER_Z = float(ndtri(0.95))
# More pairs would not change a verdict: with this number, an effect of two points is detected.
MOST_PAIRS = 20_000
# Blocks with at most this number of columns have them tested one by one.
MOST_SINGLE_NUMBERS = 16
NUM_FOLDS = 5
# The limits above were chosen with these two test statistics as they are here; the baselines in a
# search's tables are better, and have other names.
RIDGE, SIGNED_SUM = "ridge", "signed sum"
# Image-quality numbers of which, on average, more is better.
BETTER_WHEN_HIGHER = ("sharpness", "exposure", "colorfulness")


class TestStatistic(NamedTuple):
    """One predictor of the pairs, and its test statistic.

    Attributes:
      name: name of a number, SIGNED_SUM or RIDGE.
      accuracy: accuracy over pairs with a direction; a tie of scores counts one half.
      null_mean, null_sd: mean and standard deviation of the accuracy with permuted feature rows;
        NaN when OUT_OF_TIME.
      z: (accuracy - null_mean) / null_sd; NaN when OUT_OF_TIME.
      two_sided: whether an accuracy below expectation counts too; not for the ridge, which learns
        its direction.
      standard_error: standard error of the accuracy, over series.
    """

    name: str
    accuracy: float
    null_mean: float
    null_sd: float
    z: float
    two_sided: bool
    standard_error: float


class Link(NamedTuple):
    """Evidence for a link between labels and features, and the verdict.

    Attributes:
      looks: test statistics: single numbers, then the signed sum, then the ridge, as far as they
        exist. Empty below `statistics.FEWEST_SERIES` series, and where no feature differs within a
        pair.
      num_pairs, num_series: number of pairs with a direction that are tested, at most MOST_PAIRS,
        and of their series.
      num_permutations: number of permutations behind the null.
      max_z: largest |z| of the two-sided test statistics and z of the ridge; NaN when OUT_OF_TIME.
      p_value: len(looks) * 2 * (1 - Phi(max_z)), at most 1; NaN when OUT_OF_TIME.
      detectable_effect: distance from one half of the accuracy of a single number that is detected
        with a probability of 95%: a share, not points; infinite without test statistics.
      signed_sum_z: z of the signed sum; None without numbers of known direction.
      verdict: LINKED, INVERTED, UNLINKED or TOO_FEW; NOTHING_VARIES where no feature differs
        between the photos of a series; OUT_OF_TIME with too few permutations for a result.
      seconds: duration of the test.
    """

    looks: list[TestStatistic]
    num_pairs: int
    num_series: int
    num_permutations: int
    max_z: float
    p_value: float
    detectable_effect: float
    signed_sum_z: float | None
    verdict: str
    seconds: float


class _Case(NamedTuple):
    """Inputs of the test that do not depend on the order of the feature rows; pairs sorted by fold.

    Attributes:
      rows_M2: indices of each pair's photos in N.
      preferred_M: 1 where `image_a` is preferred, else -1.
      target_M: preference - 1/2, the target of the ridge.
      series_M, series_N: series of pairs and photos.
      fold_starts: index in M of the first pair of each fold but the first.
      names: names of the numbers J.
      numbers_NJ: values of these numbers, float64.
      inputs_NK: inputs of the ridge, float32; None where nothing varies.
    """

    rows_M2: np.ndarray
    preferred_M: np.ndarray
    target_M: np.ndarray
    series_M: np.ndarray
    series_N: np.ndarray
    fold_starts: np.ndarray
    names: list[str]
    numbers_NJ: np.ndarray
    inputs_NK: np.ndarray | None


def run_permutation_test(
    dataset: Dataset,
    *,
    num_permutations: int = FEWEST_PERMUTATIONS,
    max_seconds: float | None = None,
    seed: int = 0,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Link:
    """Tests for a link between the preferences and the features.

    Args:
      dataset: aligned pairs and features.
      num_permutations: number of permutations, at least FEWEST_PERMUTATIONS. When `max_seconds` run
        out, fewer are used, but never fewer than FEWEST_PERMUTATIONS.
      max_seconds: time limit of the permutations.
      seed: seed of the permutations and the folds.
      check_cancelled: called before each permutation; raises an exception to cancel the test.

    Raises:
      UserError: `num_permutations` is below FEWEST_PERMUTATIONS.
    """
    if num_permutations < FEWEST_PERMUTATIONS:
        raise UserError(
            f"num_permutations={num_permutations}: give at least {FEWEST_PERMUTATIONS}; fewer "
            "cannot resolve a small p-value"
        )
    # Single-threaded BLAS: with many small products, two threads on busy cores waited for each
    # other and were ten times slower than one.
    with threadpool_limits(limits=1, user_api="blas"):
        rng = np.random.default_rng(seed)
        return _find_link(dataset, num_permutations, max_seconds, rng, check_cancelled)


def _find_link(
    dataset: Dataset,
    num_permutations: int,
    max_seconds: float | None,
    rng: np.random.Generator,
    check_cancelled: Callable[[], None],
) -> Link:
    start = time.monotonic()
    directed = np.flatnonzero(dataset.preference_M != 0.5)
    if len(directed) > MOST_PAIRS:
        directed = np.sort(rng.choice(directed, MOST_PAIRS, replace=False))
    num_series = len(np.unique(dataset.series_M[directed]))
    case = None if num_series < statistics.FEWEST_SERIES else _make_case(dataset, directed, rng)
    if case is None or case.inputs_NK is None:
        verdict = TOO_FEW if case is None else NOTHING_VARIES
        seconds = time.monotonic() - start
        return Link([], len(directed), num_series, 0, 0.0, 1.0, np.inf, None, verdict, seconds)

    hits_LM = _hits(case, np.arange(len(case.series_N)))
    null_RL = np.full((num_permutations, len(hits_LM)), np.nan)
    done = 0
    while done < num_permutations:
        check_cancelled()
        if max_seconds is not None and time.monotonic() - start > max_seconds:
            break
        null_RL[done] = _hits(case, permuted_rows(case.series_N, rng)).mean(axis=1)
        done += 1
    # Too few permutations for a standard deviation are not used at all.
    null_RL = null_RL[: done if done >= FEWEST_PERMUTATIONS else 0]
    looks = _test_statistics(case, hits_LM, null_RL)
    return _conclude(looks, len(directed), num_series, done, time.monotonic() - start)


def _make_case(dataset: Dataset, pairs: np.ndarray, rng: np.random.Generator) -> _Case:
    series, series_M = np.unique(dataset.series_M[pairs], return_inverse=True)
    fold_M = (rng.permutation(len(series)) * NUM_FOLDS // len(series))[series_M]
    by_fold = np.argsort(fold_M, kind="stable")
    pairs, series_M = pairs[by_fold], series_M[by_fold]
    photos, rows_M2 = np.unique(dataset.pair_rows_M2[pairs], return_inverse=True)
    rows_M2 = rows_M2.reshape(-1, 2)
    series_N = np.zeros(len(photos), np.int64)
    series_N[rows_M2] = series_M[:, None]
    features_ND = dataset.features_ND[photos]
    names, numbers_NJ = _numbers(features_ND, dataset.block_columns)
    varies_J = (numbers_NJ[rows_M2[:, 0]] != numbers_NJ[rows_M2[:, 1]]).any(axis=0)
    inputs_NK = components(features_ND, dataset.block_columns, series_N)
    preference_M = dataset.preference_M[pairs].astype(np.float64)
    return _Case(
        rows_M2=rows_M2,
        preferred_M=np.sign(preference_M - 0.5),
        target_M=preference_M - 0.5,
        series_M=series_M,
        series_N=series_N,
        fold_starts=np.searchsorted(fold_M[by_fold], np.arange(1, NUM_FOLDS)),
        names=[name for name, varies in zip(names, varies_J, strict=True) if varies],
        numbers_NJ=numbers_NJ[:, varies_J],
        inputs_NK=inputs_NK if inputs_NK.shape[1] else None,
    )


def _numbers(
    features_ND: np.ndarray, block_columns: Mapping[str, Sequence[str]]
) -> tuple[list[str], np.ndarray]:
    """Names and values [N, J] of the columns of narrow blocks, and of the signed sum."""
    names: list[str] = []
    chosen: list[int] = []
    start = 0
    for block, columns in block_columns.items():
        if len(columns) <= MOST_SINGLE_NUMBERS:
            plain = block == baselines.IQA_BLOCK and not {RIDGE, SIGNED_SUM} & set(columns)
            names += [column if plain else f"{block}:{column}" for column in columns]
            chosen += range(start, start + len(columns))
        start += len(columns)
    numbers_NJ = features_ND[:, chosen].astype(np.float64)
    columns = list(block_columns.get(baselines.IQA_BLOCK, ()))
    if set(BETTER_WHEN_HIGHER) <= set(columns):
        before = itertools.takewhile(lambda block: block != baselines.IQA_BLOCK, block_columns)
        first = sum(len(block_columns[block]) for block in before)
        places = [first + columns.index(name) for name in BETTER_WHEN_HIGHER]
        values = features_ND[:, places].astype(np.float64)
        values -= values.mean(axis=0)
        spread = values.std(axis=0)
        total = np.divide(values, spread, out=np.zeros_like(values), where=spread > 0).sum(axis=1)
        numbers_NJ = np.column_stack([numbers_NJ, total])
        names.append(SIGNED_SUM)
    return names, numbers_NJ


def _hits(case: _Case, order_N: np.ndarray) -> np.ndarray:
    """Hits of each test statistic, 0, 1/2 or 1, [L, M], with feature rows in some order."""
    rows_a, rows_b = order_N[case.rows_M2.T]
    number_JM = (case.numbers_NJ[rows_a] - case.numbers_NJ[rows_b]).T
    assert case.inputs_NK is not None
    difference_MK = case.inputs_NK[rows_a] - case.inputs_NK[rows_b]
    ridge_M = ridge_scores(difference_MK, case.target_M, case.fold_starts)
    return 0.5 + 0.5 * np.sign(np.vstack([number_JM, ridge_M])) * case.preferred_M


def _test_statistics(case: _Case, hits_LM: np.ndarray, null_RL: np.ndarray) -> list[TestStatistic]:
    looks = []
    for name, hits_M, null_R in zip([*case.names, RIDGE], hits_LM, null_RL.T, strict=True):
        accuracy = float(hits_M.mean())
        mean = float(null_R.mean()) if len(null_R) else np.nan
        sd = float(null_R.std(ddof=1)) if len(null_R) else np.nan
        z = 0.0 if sd == 0 else (accuracy - mean) / sd
        error, _, _ = statistics.clustered_error(hits_M, np.ones(len(hits_M)), case.series_M)
        looks.append(TestStatistic(name, accuracy, mean, sd, z, name != RIDGE, error))
    return looks


def _conclude(
    looks: list[TestStatistic], num_pairs: int, num_series: int, done: int, seconds: float
) -> Link:
    limit_z = -float(ndtri(ALPHA / 2 / len(looks)))
    singles = [look for look in looks if look.name not in (RIDGE, SIGNED_SUM)] or looks
    detectable = (limit_z + _POWER_Z) * max(look.standard_error for look in singles)
    max_z, p_value, signed_z = np.nan, np.nan, None
    if done < FEWEST_PERMUTATIONS:
        verdict = OUT_OF_TIME
    else:
        max_z = max(abs(look.z) if look.two_sided else look.z for look in looks)
        p_value = min(1.0, len(looks) * 2 * float(ndtr(-max_z)))
        signed_z = next((look.z for look in looks if look.name == SIGNED_SUM), None)
        if p_value <= ALPHA:
            verdict = INVERTED if _is_inverted(looks, signed_z, limit_z) else LINKED
        else:
            verdict = UNLINKED if detectable <= LARGEST_BLIND_SPOT else TOO_FEW
    return Link(
        looks, num_pairs, num_series, done, max_z, p_value, detectable, signed_z, verdict, seconds
    )


def _is_inverted(looks: list[TestStatistic], signed_z: float | None, limit_z: float) -> bool:
    if signed_z is None:
        return False
    plain = {name for n in BETTER_WHEN_HIGHER for name in (n, f"{baselines.IQA_BLOCK}:{n}")}
    lowest_z = min((look.z for look in looks if look.name in plain), default=0.0)
    return signed_z < INVERTED_Z or (signed_z < 0 and lowest_z < -limit_z)


def check(case: AuditCase, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Tests whether preferences and features are related."""
    found = run_permutation_test(
        case.data.dataset, max_seconds=case.seconds_left, check_cancelled=case.check_cancelled
    )
    judged = CheckResult() if found.verdict == LINKED else _judge(found, earlier)
    return dataclasses.replace(judged, evidence=tuple(_evidence(found)), facts=found)


def _judge(found: Link, earlier: Mapping[str, CheckResult]) -> CheckResult:
    if found.verdict == INVERTED:
        return CheckResult(
            verdict=FAIL,
            label="labels inverted or swapped",
            headline="Inverted or swapped: photos that are sharper, better exposed and more "
            "colourful lose more often than they win.",
            advice="See whether a low preference means image_a, or left and right are swapped; if "
            "so, take 1 - preference.",
        )
    if found.verdict == UNLINKED:
        return _unlinked(earlier)
    if found.verdict == NOTHING_VARIES:
        return CheckResult(
            verdict=UNVERIFIED,
            label="no feature differs within a series",
            headline="No feature differs between the photos of a series, so nothing can be "
            "learned.",
            advice="See whether the columns of the features are the right ones.",
        )
    if found.verdict == TOO_FEW:
        return CheckResult(
            verdict=UNVERIFIED,
            label=TOO_FEW_PAIRS,
            headline="Too few pairs to tell whether these labels belong to these photos.",
            advice="Look at twenty pairs by eye, or give --reference.",
        )
    return CheckResult(
        verdict=UNVERIFIED,
        label=NOT_FINISHED,
        headline="Out of time: it is not known whether these labels belong to these photos.",
        advice="Raise --audit_seconds.",
    )


def _unlinked(earlier: Mapping[str, CheckResult]) -> CheckResult:
    """Result for a missing link, given the results of the reference and the voters."""
    compared, triads = earlier["reference"].facts, earlier["transitivity"].facts
    if compared is not None and compared.fault == reference.NONE:
        return CheckResult(
            verdict=FAIL,
            label=NO_LINK,
            headline="No link found, though the pairs agree with the reference: these features are "
            "unrelated to the preferences, or belong to other photos.",
            advice="Check that each row of the features is of the photo whose name it has.",
        )
    agree = (
        "; voters agree with each other, so the labels are not random" if triads.coherent else ""
    )
    return CheckResult(
        verdict=FAIL,
        label=NO_LINK,
        headline="No link found: either the photo numbers are wrong or these features are "
        f"unrelated to the preferences{agree}.",
        advice="Check with --reference or twenty pairs by eye; no training fixes this.",
    )


def _evidence(linked: Link) -> list[str]:
    if not linked.looks:
        return [
            f"Link: not looked for in {linked.num_pairs:,} pairs of {linked.num_series:,} series."
        ]
    tested = (
        "the null is not known"
        if np.isnan(linked.p_value)
        else f"largest z {linked.max_z:.1f}, p = {linked.p_value:.2g} "
        f"({linked.num_permutations} permutations, {len(linked.looks)} test statistics; "
        f"found where p is at most {ALPHA:g})"
    )
    return [
        f"Link between labels and features: {linked.verdict}; {tested}. {linked.num_pairs:,} pairs "
        f"with a direction of {linked.num_series:,} series.",
        f"Accuracy, with its 95% interval{'' if np.isnan(linked.p_value) else ' and z'}: "
        + "; ".join(
            f"{look.name} {100 * look.accuracy:.1f}% ± {196 * look.standard_error:.1f}"
            + ("" if np.isnan(look.z) else f" ({look.z:+.1f})")
            for look in linked.looks
        )
        + ".",
        "An effect of a single number of "
        f"{100 * linked.detectable_effect:.1f} points is detected with a power of 95%.",
    ]
