"""Runs every check of an audit, and combines them into one verdict."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxrank.audit import (
    SECONDS,
    duplicates,
    feature_quality,
    leakage,
    mixed_scales,
    near_duplicates,
    permutation_test,
    photo_order,
    reference,
    shared_vectors,
    target_leakage,
    transitivity,
)
from jaxrank.audit.case import (
    FAIL,
    NO_VERDICT,
    NOT_FINISHED,
    PASS,
    SEVERITY,
    UNVERIFIED,
    VERDICTS,
    WARN,
    AuditCase,
    Check,
    CheckResult,
    worst,
)
from jaxrank.audit.permutation_test import OUT_OF_TIME
from jaxrank.data.dataset import SplitDataset
from jaxrank.io import atomic, documents, notebook
from jaxrank.io.documents import read_json
from jaxrank.io.printable import printable

AUDIT_JSON, AUDIT_TXT = "audit.json", "audit.txt"
# Begins the headline that names all checks that ran out of time.
_NOT_FINISHED = "Not finished"

# The facts in `audit.json` are keyed by these names. The headline is that of the worst result, and
# of the first of equally bad results. Evidence is in this order.
CHECKS: dict[str, Check] = {
    "reference": reference.check,
    "transitivity": transitivity.check,
    "permutation_test": permutation_test.check,
    "leakage": leakage.check,
    "duplicates": duplicates.check,
    "near_duplicates": near_duplicates.check,
    "target_leakage": target_leakage.check,
    "photo_order": photo_order.check,
    "shared_vectors": shared_vectors.check,
    "mixed_scales": mixed_scales.check,
    "feature_quality": feature_quality.check,
}


class Audit(NamedTuple):
    """Result of an audit.

    Attributes:
      verdict: 'pass', 'warn' or 'fail'.
      label: finding in a few words, for a title; empty where nothing is wrong.
      headline: verdict in one sentence.
      advice: next step for the user; empty where there is nothing to do.
      evidence: sentences with the numbers, and the findings that are not in the headline.
      facts: the numbers, for `audit.json`.
      verdicts: by check, except those without a verdict: 'pass', 'unverified', 'warn' or 'fail'.
    """

    verdict: str
    label: str
    headline: str
    advice: str
    evidence: list[str]
    facts: dict[str, Any]
    verdicts: dict[str, str]

    @property
    def notes(self) -> list[str]:
        """Findings in sentences: the headline, the advice, then the evidence."""
        return [*filter(None, [self.headline, self.advice]), *self.evidence]

    def _repr_html_(self) -> str:
        """HTML representation for notebooks."""
        first = [] if self.verdict == PASS else [*filter(None, [self.headline, self.advice])]
        return notebook.result_html(
            f"Audit: {self.verdict}", caveats=first, notes=self.notes[len(first) :]
        )

    def page(self) -> str:
        """Text of `audit.txt`."""
        lines = [f"AUDIT: {self.verdict.upper()}", "", self.headline]
        if self.advice:
            lines += ["", f"What to do: {self.advice}"]
        lines += ["", *(f"- {line}" for line in self.evidence), "", "Checks:"]
        lines += [f"- {name.replace('_', ' ')}: {of_it}" for name, of_it in self.verdicts.items()]
        page = "\n".join(lines) + "\n"
        return printable(page)

    def banner(self) -> list[str]:
        """Lines to print before any result."""
        rule = "=" * 80
        return [rule, f"AUDIT: {self.verdict.upper()}. {self.headline}", self.advice, rule]

    @property
    def failed(self) -> bool:
        return self.verdict == FAIL

    @property
    def finished(self) -> bool:
        """Whether no check ran out of time; the reference is optional."""
        if self.facts["permutation_test"]["verdict"] == OUT_OF_TIME:
            return False
        return all(self.facts[name] is not None for name in CHECKS if name != "reference")

    @property
    def caveat(self) -> str:
        """Caveat to print beside every result; empty where nothing is wrong."""
        return f"AUDIT: {self.label}" if self.label else ""


def audit(
    table: pd.DataFrame,
    data: SplitDataset,
    *,
    compared: tuple[pd.DataFrame, pd.DataFrame] | None = None,
    max_seconds: float = SECONDS,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Audit:
    """Runs every check; see `AuditCase` for the arguments.

    No further step begins after `max_seconds`; the audit reports what it has skipped.
    """
    case = AuditCase(
        table=table,
        data=data,
        compared=compared,
        deadline=time.monotonic() + max_seconds,
        check_cancelled=check_cancelled,
    )
    results: dict[str, CheckResult] = {}
    for name, check in CHECKS.items():
        check_cancelled()
        results[name] = check(case, results)
    found = worst(list(results.values()))
    if found.label == NOT_FINISHED:
        found = _not_finished(results, max_seconds)
    if found.verdict == PASS:
        headline = "These labels belong to these photos, as far as can be seen."
        found = CheckResult(headline=headline)
    unverified = found.verdict == UNVERIFIED
    return Audit(
        verdict=WARN if unverified else found.verdict,
        label=f"unverified ({found.label})" if unverified else found.label,
        headline=found.headline,
        advice=found.advice,
        evidence=[line for result in results.values() for line in _lines(result, found)],
        facts={name: _plain(result.facts) for name, result in results.items()},
        verdicts={
            name: result.verdict for name, result in results.items() if result.verdict != NO_VERDICT
        },
    )


def _not_finished(results: dict[str, CheckResult], max_seconds: float) -> CheckResult:
    """Names all checks that ran out of time."""
    late = [name.replace("_", " ") for name, r in results.items() if r.label == NOT_FINISHED]
    judged = sum(result.verdict != NO_VERDICT for result in results.values())
    count = f"{len(late)} of {judged} checks ran out of time"
    return CheckResult(
        verdict=UNVERIFIED,
        label=count,
        headline=f"{_NOT_FINISHED}: {count} ({', '.join(late)}).",
        advice=f"Raise --audit_seconds (now {max_seconds:g}).",
    )


def _lines(result: CheckResult, headed: CheckResult) -> list[str]:
    """Evidence of a check, preceded by its headline and advice where these are not the audit's."""
    is_named = result.label == NOT_FINISHED and headed.headline.startswith(_NOT_FINISHED)
    if is_named or result.headline in ("", headed.headline):
        return list(result.evidence)
    return [f"{result.headline} {result.advice}", *result.evidence]


def _plain(value: Any) -> Any:
    """Converts named tuples to dicts, recursively."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named = zip(value._fields, value, strict=True)
        # Durations are left out, so that the same data give the same file.
        return {name: _plain(item) for name, item in named if name != "seconds"}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def write_audit(folder: Path, found: Audit) -> None:
    """Writes `audit.json`, which `read_audit` reads, and `audit.txt`, a page for people."""
    atomic.write_text(folder / AUDIT_TXT, found.page())
    atomic.write_text(folder / AUDIT_JSON, documents.strict_json(found._asdict()))


def read_audit(folder: Path) -> Audit | None:
    """Reads an earlier audit; None without one, or where it is damaged."""
    try:
        content = read_json(folder / AUDIT_JSON)
        names = ("verdict", "label", "headline", "advice")
        texts = [content[name] for name in names] + content["evidence"]
        verdicts = content["verdicts"]
        texts += verdicts.values()
        sound = all(isinstance(text, str) for text in texts) and content["verdict"] in VERDICTS
        sound &= verdicts.keys() <= CHECKS.keys() and set(verdicts.values()) <= set(SEVERITY)
        sound &= content["facts"].keys() >= CHECKS.keys()
        sound &= "verdict" in content["facts"]["permutation_test"]
        return Audit(**content) if sound else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
