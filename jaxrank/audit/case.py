"""Inputs of an audit, and the result of each of its checks."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from jaxrank.audit.projection import components
from jaxrank.data.dataset import SplitDataset

PASS, WARN, FAIL = VERDICTS = ("pass", "warn", "fail")
# Verdict of a check that could not decide, for lack of pairs or time. The audit then warns, unless
# another check found something worse.
UNVERIFIED = "unverified"
# Verdict of a check that judges nothing: its evidence helps to read the others.
NO_VERDICT = "no verdict"
# From best to worst.
SEVERITY = (NO_VERDICT, PASS, UNVERIFIED, WARN, FAIL)
NOT_FINISHED = "audit not finished"
TOO_FEW_PAIRS = "too few pairs to tell"
TOO_FEW_PHOTOS = "too few photos to tell"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditCase:
    """Inputs of an audit: pairs, features and split.

    Attributes:
      table: table of all pairs.
      data: pairs whose photos have features, and their splits.
      compared: pairs with all votes, and a reference; None without a reference.
      deadline: end of the audit, on the clock `time.monotonic`.
      check_cancelled: called between steps; raises an exception to cancel the audit.
    """

    table: pd.DataFrame
    data: SplitDataset
    compared: tuple[pd.DataFrame, pd.DataFrame] | None
    deadline: float
    check_cancelled: Callable[[], None] = lambda: None

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    @functools.cached_property
    def inputs_NK(self) -> np.ndarray:
        """Inputs of distances between photos: `projection.components` of all photos."""
        dataset = self.data.dataset
        everything = np.zeros(len(dataset.photos), np.int64)
        # One thread, for the reason in `permutation_test.run_permutation_test`.
        with threadpool_limits(limits=1):
            return components(dataset.features_ND, dataset.block_columns, everything)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Result of one check.

    Attributes:
      verdict: one of SEVERITY.
      label: finding in a few words, for a title; empty where nothing is wrong.
      headline: verdict in one sentence.
      advice: next step for the user.
      evidence: sentences with the numbers.
      facts: the numbers for `audit.json`: a named tuple, or None.
    """

    verdict: str = PASS
    label: str = ""
    headline: str = ""
    advice: str = ""
    evidence: tuple[str, ...] = ()
    facts: Any = None


# Called with the case and, by name, the results of the checks before it.
Check: TypeAlias = Callable[[AuditCase, Mapping[str, CheckResult]], CheckResult]


def out_of_time(subject: str) -> CheckResult:
    """Result of a check that did not begin, or did not end, before the deadline."""
    return CheckResult(
        verdict=UNVERIFIED,
        label=NOT_FINISHED,
        headline=f"{subject}: not checked, out of time.",
        advice="Raise --audit_seconds.",
    )


def worst(results: Sequence[CheckResult]) -> CheckResult:
    """Result of highest severity; of equally severe results the first."""
    return max(results, key=lambda result: SEVERITY.index(result.verdict))
