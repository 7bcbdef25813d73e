"""The split of a search's pairs: every split has pairs, or a number of folds is named with which
every one does."""

import numpy as np
import pandas as pd

from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.errors import UserError
from jaxrank.runner.options import SearchOptions

# With 10 folds a model trains on 80%, as without folds.
_MOST_FOLDS, _FEWEST_FOLDS = 10, 3


def split_data(table: pd.DataFrame, dataset: Dataset, options: SearchOptions) -> SplitDataset:
    """The aligned pairs with their splits.

    The pair table is split, not what the features leave of it: another block in the store must not
    move a series to another split.

    Raises:
      UserError: a split would be empty; names a number of folds that works.
    """
    directed_M = dataset.preference_M != 0.5
    if not directed_M.any():
        raise UserError("every preference is exactly 0.5: no pair says which photo is better")
    try:
        return _split(table, dataset, options, options.folds)
    except splits.TooFewError as error:
        raise UserError(f"{error}{_advice(table, dataset, options)}") from None


def _split(
    table: pd.DataFrame, dataset: Dataset, options: SearchOptions, folds: int
) -> SplitDataset:
    whole = splits.split_pairs(table, options.split, folds=folds, split_seed=options.split_seed)
    data = SplitDataset(dataset=dataset, splits_FM=whole[:, dataset.kept_M])
    _check_splits(data)
    return data


def _check_splits(data: SplitDataset) -> None:
    """Every split of every fold needs a pair that can be right or wrong."""
    directed_M = data.dataset.preference_M != 0.5
    for fold in range(data.num_folds):
        for split in splits.MEASURED:
            name = splits.SPLIT_NAMES[split]
            if not directed_M[data.rows(fold, split)].any():
                raise splits.TooFewError(
                    f"fold {fold} has no {name} pair with features and a preference other than "
                    f"0.5; {len(data.dataset.series_ids)} series with features do not fill this "
                    "split"
                )


def _advice(table: pd.DataFrame, dataset: Dataset, options: SearchOptions) -> str:
    """The largest usual number of folds with which every split has pairs, or what is lacking."""
    if options.split == splits.OFFICIAL:  # of which there are no folds
        return ""
    for folds in range(_MOST_FOLDS, _FEWEST_FOLDS - 1, -1):
        try:
            _split(table, dataset, options, folds)
        except splits.TooFewError:
            continue
        return f"; --folds={folds} works (cross-validation)"
    directed_M = dataset.preference_M != 0.5
    what, number = "series", len(np.unique(dataset.series_M[directed_M]))
    if options.split == splits.RANDOM:
        what, number = "pairs", int(directed_M.sum())
    need = f"at least {_FEWEST_FOLDS}" if number < _FEWEST_FOLDS else "more"
    return (
        f"; no number of folds works either: {need} {what} with features and a preference other "
        f"than 0.5 are needed (now {number})"
    )
