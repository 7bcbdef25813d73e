"""What an audit looks at, and what each of its checks returns."""

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
# Of a check that could not tell, for want of pairs or time. The audit warns, but anything that
# was found comes first.
UNVERIFIED = "unverified"
# Of a check that judges nothing: its evidence helps to read the others.
NO_VERDICT = "no verdict"
# From good to bad.
SEVERITY = (NO_VERDICT, PASS, UNVERIFIED, WARN, FAIL)
NOT_FINISHED = "audit not finished"
TOO_FEW_PAIRS = "too few pairs to tell"
TOO_FEW_PHOTOS = "too few photos to tell"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditCase:
    """What is audited: pairs, features and split.

    Attributes:
      table: of all pairs.
      data: the pairs whose photos have features, and their splits.
      compared: the pairs with all votes, and a reference.
      deadline: of the audit, on the clock `time.monotonic`.
      go_on: called between steps; what it raises ends the audit.
    """

    table: pd.DataFrame
    data: SplitDataset
    compared: tuple[pd.DataFrame, pd.DataFrame] | None
    deadline: float
    go_on: Callable[[], None] = lambda: None

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    @functools.cached_property
    def inputs_NK(self) -> np.ndarray:
        """What distances between photos are taken over: `projection.components` of all photos."""
        dataset = self.data.dataset
        everything = np.zeros(len(dataset.photos), np.int64)
        # As in `permutation_test.run_permutation_test`: on busy cores threads wait for each other.
        with threadpool_limits(limits=1):
            return components(dataset.features_ND, dataset.block_columns, everything)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What one check found.

    Attributes:
      verdict: one of SEVERITY.
      label: the finding in a few words, for a title; empty where all is well.
      headline: the verdict in one sentence.
      advice: what to do next.
      evidence: sentences with the numbers.
      facts: the same as numbers, for `audit.json`: a named tuple, or None.
    """

    verdict: str = PASS
    label: str = ""
    headline: str = ""
    advice: str = ""
    evidence: tuple[str, ...] = ()
    facts: Any = None


# Given the case and, by name, the results of the checks before it.
Check: TypeAlias = Callable[[AuditCase, Mapping[str, CheckResult]], CheckResult]


def out_of_time(subject: str) -> CheckResult:
    """The result of a check that did not begin, or did not end, before the deadline."""
    return CheckResult(
        verdict=UNVERIFIED,
        label=NOT_FINISHED,
        headline=f"{subject}: the time was too short to look.",
        advice="Give more --audit_seconds.",
        evidence=(f"{subject}: not looked for, for want of time.",),
    )


def worst(results: Sequence[CheckResult]) -> CheckResult:
    """The result of highest severity; of equal ones the first."""
    return max(results, key=lambda result: SEVERITY.index(result.verdict))
