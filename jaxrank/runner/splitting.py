"""Splits the pairs of a search so that every split has pairs.

Where the requested split would be empty or small, another number of folds is used or suggested.
"""

import dataclasses
import hashlib

import numpy as np
import pandas as pd

from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.errors import UserError
from jaxrank.experiments.few_pairs import MIN_VAL_SERIES
from jaxrank.runner.options import EACH_SERIES, SearchOptions

# With 10 folds a model trains on 80%, as without folds.
_MOST_FOLDS, _FEWEST_FOLDS = 10, 3
# Fewest series for an 80/10/10 split: enough series validate, and as many test.
_FEWEST_SERIES = 10 * MIN_VAL_SERIES
# Most series for folds of one series: each fold trains every experiment.
_MOST_SERIES = 200


def split_data(
    table: pd.DataFrame, dataset: Dataset, options: SearchOptions
) -> tuple[SplitDataset, list[str]]:
    """Splits the aligned pairs; notes on folds that were not requested and on an official split.

    The whole pair table is split, not only the pairs with features: another block in the store must
    not move a series to another split.

    Raises:
      UserError: a split would be empty; the message suggests a number of folds that works.
    """
    if not (dataset.preference_M != 0.5).any():
        raise UserError("every preference is exactly 0.5: no pair says which photo is better")
    if isinstance(options.folds, str):
        return _each_series(table, dataset, options), []
    found, reason = None, ""
    try:
        found = _split(table, dataset, options, options.folds)
    except splits.TooFewError as error:
        reason = str(error)
    num_series = table["series_id"].nunique()
    # An initial model was trained on one split, and must not have seen the test photos here.
    few = (
        options.split == splits.SERIES
        and not options.folds
        and options.init_from is None
        and num_series < _FEWEST_SERIES
    )
    if found is not None and not few:
        return found, _official_notes(table, dataset, options.split)
    folds = _most_folds(table, dataset, options)
    if folds and not options.folds and options.split in (splits.SERIES, splits.RANDOM):
        if few:
            reason = (
                f"{num_series} series are too few for an 80/10/10 split, of which "
                f"{MIN_VAL_SERIES} validate and {MIN_VAL_SERIES} test"
            )
        note = f"{reason}: {folds} folds instead, as with --folds={folds}"
        return _split(table, dataset, options, folds), [note]
    if found is None:
        raise UserError(f"{reason}{_advice(dataset, options, folds)}")
    return found, []


def _official_notes(table: pd.DataFrame, dataset: Dataset, split: str) -> list[str]:
    """Which pairs of an official split test and validate, or that none is used."""
    column = splits.OFFICIAL_COLUMN
    if split != splits.OFFICIAL:
        unused = "the pairs have an official split, which is not used; --split=official uses it"
        return [unused] if column in table.columns and split == splits.SERIES else []
    named, kept = table[column], table[column].iloc[dataset.kept_M]

    def pairs_of(name: str) -> str:
        return f"{int((kept == name).sum()):,} of its {int((named == name).sum()):,} {name} pairs"

    parts = set(named)
    test = "test" if "test" in parts else "val"
    validating = pairs_of("val") if {"test", "val"} <= parts else "a tenth of its training series"
    return [f"official split: {pairs_of(test)} test, {validating} validate"]


def set_aside(data: SplitDataset, share: float, split_seed: int) -> SplitDataset:
    """Sets aside a share of the series for confirmation, so that no fold uses them.

    Raises:
      UserError: too few series are left, or set aside.
    """
    ids = data.dataset.series_ids
    # Not the hashes that assign series to splits: with them, one split would lose all its series.
    digests = [hashlib.sha256(f"aside\n{split_seed}\n{name}".encode()).digest() for name in ids]
    order = sorted(range(len(ids)), key=digests.__getitem__)
    aside_M = np.isin(data.dataset.series_M, order[: round(share * len(ids))])
    if not (aside_M & (data.dataset.preference_M != 0.5)).any():
        raise UserError(
            f"--confirm_share={share:g}: no series with a preference would be set aside"
        )
    splits_FM = np.where(aside_M, splits.UNUSED, data.splits_FM).astype(np.int8)
    remaining = dataclasses.replace(data, splits_FM=splits_FM)
    try:
        _check_splits(remaining)
    except splits.TooFewError as error:
        raise UserError(f"--confirm_share={share:g} leaves too few: {error}") from None
    return remaining


def aside_pairs(data: SplitDataset) -> np.ndarray:
    """Rows of the pairs that no fold uses."""
    return np.flatnonzero((data.splits_FM == splits.UNUSED).all(axis=0))


def _directed_series(dataset: Dataset) -> np.ndarray:
    """Ids of the series with a pair that can be right or wrong."""
    return np.asarray(dataset.series_ids[np.unique(dataset.series_M[dataset.preference_M != 0.5])])


def _each_series(table: pd.DataFrame, dataset: Dataset, options: SearchOptions) -> SplitDataset:
    """Leave-one-series-out folds: each series tests one fold and validates another.

    One series is few to validate a fold, but experiments are selected on all folds together.
    """
    if options.folds != EACH_SERIES or options.split != splits.SERIES:
        raise UserError(
            f"--folds={options.folds}: give a number of folds, or '{EACH_SERIES}' with "
            f"--split={splits.SERIES}"
        )
    series = _directed_series(dataset)
    if not _FEWEST_FOLDS <= len(series) <= _MOST_SERIES:
        way = f"--folds={_MOST_FOLDS} tests every series too"
        need = way if len(series) > _MOST_SERIES else f"at least {_FEWEST_FOLDS} are needed"
        raise UserError(
            f"--folds={EACH_SERIES}: {len(series):,} series with features and a preference other "
            f"than 0.5 would be as many folds (at most {_MOST_SERIES}); {need}"
        )
    # A series that can't test trains every fold.
    whole = np.full((len(series), len(table)), splits.TRAIN, np.int8)
    chosen_M = table["series_id"].isin(set(series)).to_numpy()
    whole[:, chosen_M] = splits.split_pairs(
        table[chosen_M], folds=len(series), split_seed=options.split_seed
    )
    data = SplitDataset(dataset=dataset, splits_FM=whole[:, dataset.kept_M])
    _check_splits(data)
    return data


def _split(
    table: pd.DataFrame, dataset: Dataset, options: SearchOptions, folds: int
) -> SplitDataset:
    whole = splits.split_pairs(table, options.split, folds=folds, split_seed=options.split_seed)
    data = SplitDataset(dataset=dataset, splits_FM=whole[:, dataset.kept_M])
    _check_splits(data, whole)
    return data


def _check_splits(data: SplitDataset, whole_FM: np.ndarray | None = None) -> None:
    """Raises `TooFewError` if a split of a fold has no pair that can be right or wrong.

    Args:
      data: the aligned pairs.
      whole_FM: splits of all pairs of the table, also those without features.
    """
    directed_M = data.dataset.preference_M != 0.5
    for fold in range(data.num_folds):
        for split in splits.MEASURED:
            rows = data.rows(fold, split)
            if directed_M[rows].any():
                continue
            where = f" in fold {fold}" if data.num_folds > 1 else ""
            name = f"{splits.SPLIT_NAMES[split]} pair{where}"
            total = len(rows) if whole_FM is None else int((whole_FM[fold] == split).sum())
            if not total:
                raise splits.TooFewError(
                    f"no {name}: {len(data.dataset.series_ids):,} series with features do not fill "
                    "this split"
                )
            raise splits.TooFewError(
                f"no {name} can be used: of {total:,}, {total - len(rows):,} lack the features of "
                f"a photo and {len(rows):,} have a preference of exactly 0.5"
            )


def _most_folds(table: pd.DataFrame, dataset: Dataset, options: SearchOptions) -> int | None:
    """Largest usual number of folds with which every split has pairs; None if there is none."""
    if options.split == splits.OFFICIAL:  # it has no folds
        return None
    for folds in range(_MOST_FOLDS, _FEWEST_FOLDS - 1, -1):
        try:
            _split(table, dataset, options, folds)
        except splits.TooFewError:
            continue
        return folds
    return None


def _advice(dataset: Dataset, options: SearchOptions, folds: int | None) -> str:
    """Suggests a number of folds that works, or reports what is lacking."""
    if options.split == splits.OFFICIAL:
        return (
            "; get the features of these photos. (--folds=5 without --split=official splits the "
            "series anew, which is another protocol.)"
        )
    if folds is not None:
        return f"; --folds={folds} works (cross-validation)"
    what, number = "series", len(_directed_series(dataset))
    if options.split == splits.RANDOM:
        what, number = "pairs", int((dataset.preference_M != 0.5).sum())
    need = f"at least {_FEWEST_FOLDS}" if number < _FEWEST_FOLDS else "more"
    return (
        f"; no number of folds works either: {need} {what} with features and a preference other "
        f"than 0.5 are needed (now {number})"
    )
