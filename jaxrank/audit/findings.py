"""The audit as a whole: a verdict, what it rests on, and what to do next."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank.audit import hygiene, leaks, link, reference, voters
from jaxrank.data.dataset import Dataset
from jaxrank.io import atomic, documents

NO_LINK, NOT_FINISHED = "no link found between labels and photos", "audit not finished"
PASS, WARN, FAIL = VERDICTS = ("pass", "warn", "fail")
AUDIT_JSON, AUDIT_TXT = "audit.json", "audit.txt"
# Seconds that looking for a link, the longest part of an audit, may take.
SECONDS = 30.0
# Clipped and duplicated columns and rows that are listed.
_MOST_LISTED = 5


class Audit(NamedTuple):
    """What an audit found.

    Attributes:
      verdict: PASS, WARN or FAIL.
      label: the finding in a few words, for a title; empty where all is well.
      headline: the verdict in one sentence.
      advice: what to do next; empty where there is nothing to do.
      evidence: sentences with the numbers.
      facts: the same as numbers, for `audit.json`.
    """

    verdict: str
    label: str
    headline: str
    advice: str
    evidence: list[str]
    facts: dict[str, Any]

    def page(self) -> str:
        """A page of text."""
        lines = [f"AUDIT: {self.verdict.upper()}", "", self.headline]
        if self.advice:
            lines += ["", f"What to do: {self.advice}"]
        page = "\n".join([*lines, "", *(f"- {line}" for line in self.evidence)]) + "\n"
        # Names of photos and columns are a user's: no escape sequences for a terminal.
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in page)

    def banner(self) -> list[str]:
        """What must be seen before any result."""
        rule = "=" * 88
        return [rule, f"AUDIT: {self.verdict.upper()}. {self.headline}", self.advice, rule]

    @property
    def caveat(self) -> str:
        """What stands beside every result; empty where all is well."""
        return f"AUDIT: {self.label}" if self.label else ""


def audit(
    table: pd.DataFrame,
    dataset: Dataset,
    parts_FM: np.ndarray,
    *,
    compared: tuple[pd.DataFrame, pd.DataFrame] | None = None,
    max_seconds: float = SECONDS,
) -> Audit:
    """Do these labels belong to these photos?

    Args:
      table: of all pairs.
      dataset: the pairs whose photos have features.
      parts_FM: int8, the part of every pair of the dataset in every fold.
      compared: the pairs with all votes, and a reference.
      max_seconds: that looking for a link may take.
    """
    linked = link.find_link(dataset, max_seconds=max_seconds)
    triads = voters.circular_triads(table)
    leaking = leaks.find_leaks(dataset, parts_FM)
    features = hygiene.inspect_features(dataset)
    beside = None if compared is None else reference.compare(*compared)
    judged = _judge(linked, triads, leaking, beside)
    facts = {
        "link": _plain(linked),
        "voters": _plain(triads),
        "leaks": _plain(leaking),
        "features": _plain(features),
        "reference": _plain(beside),
    }
    evidence = [
        *_of_link(linked),
        *_of_voters(triads),
        *([] if beside is None else [f"Beside the reference: {beside.sentence}"]),
        *_of_leaks(leaking),
        *_of_features(features),
    ]
    return Audit(*judged, evidence, facts)


def _plain(value: Any) -> Any:
    """Named tuples as dicts, all the way down."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named = zip(value._fields, value, strict=True)
        # Not how long it took: the same data give the same file.
        return {name: _plain(item) for name, item in named if name != "seconds"}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _judge(
    linked: link.Link,
    triads: voters.Triads,
    leaking: leaks.Leaks,
    beside: reference.Comparison | None,
) -> tuple[str, str, str, str]:
    """Verdict, label, headline and advice: the worst first, a named fault before a nameless one."""
    if beside is not None and beside.fault not in (reference.NONE, reference.TOO_FEW):
        return (
            FAIL,
            beside.fault,
            beside.sentence,
            "Mend the pairs as said, and audit them again before training.",
        )
    if linked.verdict == link.INVERTED:
        return (
            FAIL,
            "labels inverted or swapped",
            "Inverted or swapped: photos that are sharper, better exposed and more colourful lose "
            "more often than they win.",
            "See whether a low preference means image_a, or left and right are swapped; if so, "
            "take 1 - preference.",
        )
    if linked.verdict == link.UNLINKED and beside is not None and beside.fault == reference.NONE:
        return (
            FAIL,
            NO_LINK,
            "No link found, though the pairs agree with the reference: these features say nothing "
            "about the preferences, or stand beside the wrong photos' names.",
            "Check that each row of the features is of the photo whose name it has.",
        )
    if linked.verdict == link.UNLINKED:
        agree = (
            "; voters agree with each other, so the labels are not random"
            if triads.coherent
            else ""
        )
        return (
            FAIL,
            NO_LINK,
            "No link found: either the photo numbers are wrong or these features say nothing about "
            f"the preferences{agree}.",
            "Check with --reference or twenty pairs by eye; no training mends this.",
        )
    if leaking.behaviour.leaks:
        return (
            WARN,
            "the split leaks",
            "The split leaks: held-out pairs of renumbered photos are predicted from their nearest "
            f"training photos ({100 * leaking.behaviour.accuracy:.1f}%, z = "
            f"{leaking.behaviour.z:+.1f}).",
            "Split by series (--split=series), and put all photos of a scene into one series.",
        )
    if leaking.shared.num_series:
        return (
            WARN,
            "series stand on two sides of the split",
            f"{leaking.shared.num_series:,} series stand on two sides of the split: results on "
            "held-out pairs say nothing of new series.",
            "Split by series (--split=series), unless this is meant.",
        )
    if linked.verdict == link.NOTHING_VARIES:
        return (
            WARN,
            "no feature differs within a series",
            "No feature differs between the photos of a series, so nothing can be learned.",
            "See whether the columns of the features are the right ones.",
        )
    if linked.verdict in (link.TOO_FEW, link.OUT_OF_TIME):
        short = linked.verdict == link.TOO_FEW
        return (
            WARN,
            "too few pairs to tell" if short else NOT_FINISHED,
            "Too few pairs to tell whether these labels belong to these photos."
            if short
            else "The time was too short to tell whether these labels belong to these photos.",
            "Look at twenty pairs by eye, or give --reference."
            if short
            else "Give more --audit_seconds.",
        )
    return PASS, "", "These labels belong to these photos, as far as can be seen.", ""


def _of_link(linked: link.Link) -> list[str]:
    if not linked.looks:
        return [
            f"Link: not looked for in {linked.num_pairs:,} pairs of {linked.num_series:,} series."
        ]
    tested = (
        "the null is not known"
        if np.isnan(linked.p_value)
        else f"largest z {linked.max_z:.1f}, p = {linked.p_value:.2g} "
        f"({linked.num_permutations} permutations, {len(linked.looks)} looks; found where p is at "
        f"most {link.ALPHA:g})"
    )
    return [
        f"Link between labels and features: {linked.verdict}; {tested}. {linked.num_pairs:,} pairs "
        f"with a direction of {linked.num_series:,} series.",
        "Accuracy, with its 95% interval and z: "
        + "; ".join(
            f"{look.name} {100 * look.accuracy:.1f}% ± {196 * look.standard_error:.1f} "
            f"({look.z:+.1f})"
            for look in linked.looks
        )
        + ".",
        "An effect of a single number of "
        f"{100 * linked.detectable_effect:.1f} points would have been seen 19 times of 20.",
    ]


def _of_voters(triads: voters.Triads) -> list[str]:
    if not triads.num_triples:
        return ["Voters: no three photos of a series are all compared, so coherence can't be seen."]
    if not triads.circular_share:
        return [
            f"Voters: none of {triads.num_triples:,} triples is circular, as when preferences are "
            "computed from a ranking: that says nothing of the votes."
        ]
    return [
        f"Voters: {100 * triads.circular_share:.1f}% ± {196 * triads.standard_error:.1f} of "
        f"{triads.num_triples:,} triples are circular (labels at random: 25%)."
    ]


def _of_leaks(leaking: leaks.Leaks) -> list[str]:
    shared, seen, near = leaking.shared, leaking.behaviour, leaking.near
    lines = []
    if shared.num_series:
        lines.append(
            f"Leaks: {shared.num_series:,} series stand on two sides of the split, such as "
            f"{shared.examples[0]}; {100 * shared.tested_share:.0f}% of the test pairs are of "
            "series that train."
        )
    else:
        lines.append("Leaks: no series stands on two sides of the split.")
    if seen.num_pairs and not np.isnan(seen.z):
        lines.append(
            f"Leaks: with renumbered photos, the nearest training photo predicts "
            f"{100 * seen.accuracy:.1f}% ± {196 * seen.standard_error:.1f} of {seen.num_pairs:,} "
            f"held-out pairs (z = {seen.z:+.1f}; a leak above {leaks.LEAK_Z})."
        )
    if near is not None and near.num_near:
        test, train, _ = near.examples[0]
        lines.append(
            f"Near duplicates: {near.num_near:,} of {near.num_tested:,} test photos are nearer to "
            f"a training photo of another series than 95% of the pairs are, such as '{test}' and "
            f"'{train}' ({near.num_inputs} numbers a photo are compared)."
        )
    return lines


def _of_features(found: hygiene.Hygiene) -> list[str]:
    lines = []
    if found.constant:
        lines.append(
            f"Features: {len(found.constant):,} columns never vary, such as {found.constant[0]}."
        )
    for clip in found.clipped[:_MOST_LISTED]:
        end = "highest" if clip.is_highest else "lowest"
        lines.append(
            f"Features: {clip.column} is clipped: {100 * clip.photo_share:.0f}% of the photos have "
            f"its {end} value, {clip.value:g}, and {100 * clip.tied_share:.0f}% of the pairs tie "
            "on it."
        )
    lines += _of_duplicates(found.duplicated)
    return lines


def _of_duplicates(found: hygiene.DuplicatedRows) -> Sequence[str]:
    if not found.num_photos:
        return []
    first, second = found.examples[0]
    return [
        f"Features: {found.num_photos:,} photos have exactly another photo's features, such as "
        f"'{first}' and '{second}'; {found.num_pairs:,} pairs compare two such photos, and "
        f"{found.num_across:,} of the photos share them with another series."
    ]


def write_audit(folder: Path, found: Audit) -> None:
    """`audit.json`, which `read_audit` reads, and `audit.txt`, a page for people."""
    atomic.write_text(folder / AUDIT_TXT, found.page())
    atomic.write_text(folder / AUDIT_JSON, documents.strict_json(found._asdict()))


def read_audit(folder: Path) -> Audit | None:
    """What was found before; None where nothing was, or where the file is damaged."""
    try:
        content = json.loads((folder / AUDIT_JSON).read_text(encoding="utf-8"))
        texts = [content[name] for name in Audit._fields[:-2]] + content["evidence"]
        sound = all(isinstance(text, str) for text in texts) and content["verdict"] in VERDICTS
        # What was not finished, for want of time, is tried again.
        return Audit(**content) if sound and content["label"] != NOT_FINISHED else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
