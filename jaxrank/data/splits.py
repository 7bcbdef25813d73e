"""Splits and folds: assigns pairs to train, val and test.

The default strategy splits by series, so that no series is in two splits.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxrank.errors import UserError, did_you_mean

TRAIN, VALIDATION, TEST, UNUSED = 0, 1, 2, 3
SPLIT_NAMES = ("train", "val", "test", "unused")
# The splits that a model is evaluated on.
MEASURED = (TRAIN, VALIDATION, TEST)
FEWEST_SERIES = 10  # for one split into 80%, 10% and 10%
SERIES, OFFICIAL, RANDOM, PRETRAIN = "series", "official", "random", "pretrain"
# Warnings for readers of any result, by split strategy.
CAVEATS = {
    SERIES: "",
    OFFICIAL: "",
    RANDOM: "leaks: photos of one series are on both sides",
    PRETRAIN: "for pretraining: validation pairs are of training series, which leaks",
}
OFFICIAL_COLUMN = "official_split"
# Words by which published lists call the parts of a split.
_WORDS_OF_PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


class TooFewError(UserError):
    """Too few series or pairs for the requested split."""


def split_pairs(
    table: pd.DataFrame, split: str = SERIES, *, folds: int = 0, split_seed: int = 42
) -> np.ndarray:
    """Assigns pairs to splits.

    Args:
      table: `series_id`, `image_a`, `image_b` of M pairs, each photo pair once.
      split: the split strategy. `series` assigns whole series, see `split_series`. `official`
        uses the column `official_split`, of train, val and test. If it has no `test`, its `val`
        series are test; without validation series of its own, 10% of its `train` series are val.
        `random` assigns pairs as `split_series` assigns series, for comparison with results that
        were obtained this way: photos of one series are in several splits. `pretrain` assigns the
        training pairs of `series` at random to train (90%) and val; the validation series of
        `series` are test, and its test series are unused.
      folds: 0 for one split, else K >= 3; an official split has no folds.
      split_seed: any seed.

    Returns:
      int8 [max(folds, 1), M] of TRAIN, VALIDATION, TEST, UNUSED.

    Raises:
      UserError: the table can't be split this way.
    """
    if split not in CAVEATS:
        raise UserError(f"--split={split}: unknown.{did_you_mean(split, CAVEATS)}")
    if split == OFFICIAL:
        if folds:
            raise UserError(f"--folds={folds}: an official split is one split; leave out --folds")
        return _official(table, split_seed)
    if split == RANDOM:
        return _assign(_pair_names(table), "pairs", folds, split_seed)
    series, index = np.unique(table["series_id"].to_numpy(object), return_inverse=True)
    splits_FM = split_series(series, folds=folds, split_seed=split_seed)[:, index]
    if split == SERIES:
        return splits_FM
    rank_M = _ranks(_pair_names(table), split_seed)
    pretraining_FM = np.select(
        [splits_FM == VALIDATION, splits_FM == TEST], [TEST, UNUSED], TRAIN
    ).astype(np.int8)
    for fold, parts_M in enumerate(splits_FM):
        train = np.flatnonzero(parts_M == TRAIN)
        last_tenth = train[np.argsort(rank_M[train])][int(0.9 * len(train)) :]
        pretraining_FM[fold, last_tenth] = VALIDATION
    return pretraining_FM


def split_series(
    series_ids: Sequence[str] | np.ndarray, *, folds: int = 0, split_seed: int = 42
) -> np.ndarray:
    """Assigns series to splits.

    Series are ranked by a hash of the split seed and their id, and cut by rank. Without folds, 80%
    are train (rounded down), 10% val (rounded down) and the rest test. With K folds, the ranks are
    cut into K parts. In fold k, part k is test, part k+1 (mod K) is val and the others are train,
    so every series is tested once.

    The hash depends on a series' own id only. So removing or adding a few series moves only series
    near a cut, and test series of one run do not train another.

    Args:
      series_ids: distinct, in any order.
      folds: 0 for one split, else K >= 3.
      split_seed: any seed.

    Returns:
      int8 [max(folds, 1), series] of TRAIN, VALIDATION, TEST.
    """
    return _assign(series_ids, "series", folds, split_seed)


def _assign(
    names: Sequence[str] | np.ndarray, what: str, folds: int, split_seed: int
) -> np.ndarray:
    """Assigns distinct names to splits; `what` is their noun in errors."""
    number = len(names)
    if folds and folds < 3:
        raise UserError(
            f"--folds={folds}: give at least 3 (one fold tests, one validates, the rest train), "
            "or 0 for one 80/10/10 split"
        )
    least = folds or FEWEST_SERIES
    if number < least:
        need = f"--folds={folds} needs {folds}" if folds else "an 80/10/10 split needs 10"
        raise TooFewError(f"only {number} {what}: {need}")
    rank = _ranks(names, split_seed)
    parts = np.full((max(folds, 1), number), TRAIN, np.int8)
    if folds:
        fold = rank * folds // number
        for k in range(folds):
            parts[k, fold == k] = TEST
            parts[k, fold == (k + 1) % folds] = VALIDATION
    else:
        num_train, num_val = int(0.8 * number), int(0.1 * number)
        parts[0, rank >= num_train] = VALIDATION
        parts[0, rank >= num_train + num_val] = TEST
    return parts


def _ranks(names: Sequence[str] | np.ndarray, split_seed: int) -> np.ndarray:
    """The rank of each name in the order of the hashes."""
    digests = [hashlib.sha256(f"{split_seed}\n{name}".encode()).digest() for name in names]
    rank = np.empty(len(names), int)
    rank[sorted(range(len(names)), key=digests.__getitem__)] = np.arange(len(names))
    return rank


def _pair_names(table: pd.DataFrame) -> list[str]:
    """Names of the pairs, the same for both orders of a pair's photos."""
    images = zip(table["image_a"], table["image_b"], strict=True)
    return ["\n".join(sorted(pair)) for pair in images]


def official_parts(table: pd.DataFrame) -> np.ndarray:
    """The split of each pair that OFFICIAL_COLUMN names, int8 [M] of TRAIN, VALIDATION, TEST.

    Published lists of two parts call the pairs that their figures are measured on `val`: without a
    pair of `test`, the pairs of `val` are TEST.

    Raises:
      UserError: a value is none of train, val and test, or a series has two of them.
    """
    side_M = table[OFFICIAL_COLUMN].to_numpy(object)
    names = [SPLIT_NAMES[part] for part in MEASURED]
    in_part_PM = np.array([side_M == name for name in names])
    odd_M = ~in_part_PM.any(axis=0)
    if odd_M.any():
        place = int(np.argmax(odd_M))
        raise UserError(
            f"{OFFICIAL_COLUMN} of series {table['series_id'].iloc[place]} is "
            f"{str(side_M[place])[:40]!r}, not train, val or test; write test for the pairs that "
            "test, val for those that validate, and train for all others"
        )
    series, index = np.unique(table["series_id"].to_numpy(object), return_inverse=True)
    has_part_PS = np.array([np.bincount(index, weights=in_M) > 0 for in_M in in_part_PM])
    torn_S = has_part_PS.sum(axis=0) > 1
    if torn_S.any():
        place = int(np.argmax(torn_S))
        parts = " and in ".join(np.array(names)[has_part_PS[:, place]])
        raise UserError(
            f"{OFFICIAL_COLUMN}: series {series[place]} has pairs in {parts}; a series belongs to "
            "one"
        )
    parts_M = np.argmax(in_part_PM, axis=0).astype(np.int8)
    if not in_part_PM[TEST].any():
        parts_M[in_part_PM[VALIDATION]] = TEST
    return parts_M


def _names_parts(column: pd.Series) -> bool:
    """Whether a column may be an official split: by its name, or by its values."""
    if "split" in str(column.name).lower():
        return True
    words = {str(value).lower() for value in column.unique()[: len(_WORDS_OF_PARTS) + 1]}
    return words <= _WORDS_OF_PARTS


def _official(table: pd.DataFrame, split_seed: int) -> np.ndarray:
    """The official split; without validation pairs, a tenth of the training series validate."""
    if OFFICIAL_COLUMN not in table.columns:
        similar = [name for name in table.columns if _names_parts(table[name])]
        advice = (
            f"rename '{similar[0]}' if it is that column"
            if similar
            else "a folder with train_pairlist.txt and val_pairlist.txt has it"
        )
        raise UserError(
            f"--split=official: the pairs have no column '{OFFICIAL_COLUMN}' (train, val or test "
            f"for each pair); {advice}"
        )
    parts_M = official_parts(table)
    for part, verb in ((TRAIN, "train"), (TEST, "test")):
        if not (parts_M == part).any():
            raise UserError(
                f"--split=official: no pair is {SPLIT_NAMES[part]} in {OFFICIAL_COLUMN}; write "
                f"{SPLIT_NAMES[part]} for the pairs that {verb}, or leave out --split=official"
            )
    if (parts_M == VALIDATION).any():
        return parts_M[None]
    train = np.unique(table["series_id"].to_numpy(object)[parts_M == TRAIN])
    num_validating = int(0.1 * len(train))
    if not num_validating:
        raise UserError(
            f"--split=official: a tenth of the training series validate, and {len(train)} are too "
            f"few; at least 10 are needed, or pairs of val and of test in {OFFICIAL_COLUMN}"
        )
    validating = train[_ranks(train, split_seed) >= len(train) - num_validating]
    parts_M[table["series_id"].isin(set(validating)).to_numpy()] = VALIDATION
    return parts_M[None]


def split_frame(splits_FM: np.ndarray, table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of `splits.csv`: `series_id,fold,split`; for a split by pair also the photos."""
    columns = ["series_id"]
    if split in (RANDOM, PRETRAIN):
        columns += ["image_a", "image_b"]
    frames = [
        table[columns].assign(fold=fold, split=np.array(SPLIT_NAMES)[parts_M])
        for fold, parts_M in enumerate(splits_FM)
    ]
    return pd.concat(frames, ignore_index=True).drop_duplicates(ignore_index=True)
