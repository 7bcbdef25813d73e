"""Audit of files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxrank.audit import SECONDS
from jaxrank.audit.checks import Audit, audit
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.inputs import (
    FeaturesInput,
    PairsInput,
    block_caveats,
    load_inputs,
    with_series_of,
)
from jaxrank.data.preferences import read_all_votes
from jaxrank.data.remote_inputs import local_features, local_table
from jaxrank.errors import UserError, suggests_keywords


@suggests_keywords
def audit_data(
    pairs: PairsInput,
    features: FeaturesInput,
    reference: Path | str | None = None,
    reading: Mapping[str, Any] | None = None,
    max_seconds: float = SECONDS,
) -> Audit:
    """Audits whether preferences and photos belong together.

    Args:
      pairs, features: as in `jaxrank.search`; with `reference`, `pairs` must be a file.
      reference: file of pairs or votes of the same photos, known to be right. All votes of both
        files count, including those of pairs that are left out of training.
      reading: keyword arguments of `jaxrank.read_preferences`, such as {"min_agreement": 0.6}.
      max_seconds: seconds after which no further check begins.

    Returns:
      An `Audit`: verdict, headline, advice and evidence.

    Raises:
      UserError: pairs, features or the reference can't be read, `reference` is given and `pairs`
        is not a file, or the official split of the pairs is not valid.
    """
    reading = reading or {}
    pairs, features = local_table(pairs), local_features(features)
    checked, store, *_ = load_inputs(pairs, features, reading)
    compared = None
    if reference is not None:
        if not isinstance(pairs, str | Path):
            raise UserError(f"--reference={reference}: give the file of --pairs too")
        series = with_series_of(features, reading)["series"]
        mine, theirs = (
            read_all_votes(path, reading.get("photo_name"), series)
            for path in (pairs, local_table(reference))
        )
        compared = mine.table, theirs.table
    dataset = align(checked, store)
    official = _official_notes(checked.table, dataset.kept_M)  # an invalid split is refused at once
    few = checked.table["series_id"].nunique() < splits.FEWEST_SERIES
    whole = np.full((1, len(checked.table)), splits.TRAIN, np.int8)
    if not few:
        whole = splits.split_pairs(checked.table)
    found = audit(
        checked.table,
        SplitDataset(dataset=dataset, splits_FM=whole[:, dataset.kept_M]),
        compared=compared,
        max_seconds=max_seconds,
    )
    notes = [f"Pairs: {note}." for note in checked.notes]
    about_features = (n for n in dataset.notes if n not in checked.notes)
    notes += [f"Features: {note}." for note in (*about_features, *block_caveats(store))]
    return found._replace(evidence=[*found.evidence, *notes, *official])


def _official_notes(table: pd.DataFrame, kept_M: np.ndarray) -> list[str]:
    """Counts the test and validation pairs of an official split that have features, if any."""
    if splits.OFFICIAL_COLUMN not in table.columns:
        return []
    parts_M = splits.official_parts(table)
    counts = []
    for part, noun in ((splits.TEST, "test"), (splits.VALIDATION, "validation")):
        total, kept = int((parts_M == part).sum()), int((parts_M[kept_M] == part).sum())
        if total:
            counts.append(f"{kept:,} of {total:,} {noun} pairs")
    if not counts:
        return [f"Official split: every pair is {splits.SPLIT_NAMES[splits.TRAIN]}; none tests."]
    return [f"Official split: {' and '.join(counts)} have features."]
