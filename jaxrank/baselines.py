"""Baselines: chance, position, image-quality heuristics, their signed sum, and a ridge.

The signed sum of heuristics fits nothing to preferences; the ridge is a ridge regression on all
blocks. NumPy and scikit-learn only.

Axis letters: F folds, M pairs, N photos, D features, J image-quality numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxrank import metrics
from jaxrank.configs import REFERENCES
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.errors import UserError, did_you_mean
from jaxrank.ridge import Fitted, fit_ridge, inner_folds
from jaxrank.scaling import (
    AUTO,
    NORMAL_SCORES,
    STANDARD,
    ScaledRows,
    Scaling,
    fit_scaling,
    normal_score_columns,
)

CHANCE, POSITION, RIDGE = "chance", "position", "ridge"
BEST_HEURISTIC, SIGNED_SUM = "best_heuristic", "signed_sum"
# Strongest baseline of each fold, where it differs between folds.
MIXED = "strongest baseline"
# Names that no image-quality number and no experiment may have.
RESERVED = (CHANCE, POSITION, BEST_HEURISTIC, SIGNED_SUM, RIDGE, MIXED, *REFERENCES)
IQA_BLOCK = "iqa"
# Only the first columns of a wide block are baselines, because each one is compared with every
# experiment.
MOST_HEURISTICS = 64
# A ridge solves systems with as many unknowns as columns, or photos where these are fewer, at a
# cubic cost: some seconds per fold for 3,000 unknowns, on one core.
MOST_UNKNOWNS = 4_096


class Direction(NamedTuple):
    """Direction in which people prefer an image-quality number, known without any preferences.

    Attributes:
      sign: 1 where more is better, -1 where less is better.
      source: publication of this finding.
    """

    sign: int
    source: str


# Other numbers get their direction from training pairs. Contrast is left out because, within a
# series, more contrast is worse as often as better. Noise is left out because its estimate
# increases with fine detail.
KNOWN_DIRECTIONS: dict[str, Direction] = {
    "sharpness": Direction(1, "Ke, Tang and Jing (2006): blur tells snapshots from good photos"),
    "exposure": Direction(1, "Datta et al. (2006), feature 1; Chang et al. (2016)"),
    "colorfulness": Direction(1, "Hasler and Suesstrunk (2003); Datta et al. (2006), feature 2"),
}


class Baseline(NamedTuple):
    """Scorer in each of some folds; a baseline that fits nothing is the same in all folds.

    Attributes:
      note: short description.
      scores_FN: float32, scores of all photos; None for POSITION, which does not use photos.
      held_out_FM: for a baseline fitted to preferences, score_a - score_b of a fold's training
        pairs by fits that have not seen their series, NaN for all other pairs. None where nothing
        is fitted.
    """

    note: str
    scores_FN: np.ndarray | None
    held_out_FM: np.ndarray | None = None

    def differences(self, pair_rows_M2: np.ndarray, num_folds: int) -> np.ndarray:
        """score_a - score_b of every pair, [F, M]."""
        if self.scores_FN is None:
            return np.ones((num_folds, len(pair_rows_M2)), np.float32)
        return metrics.pair_differences(self.scores_FN, pair_rows_M2)


def fit_baselines(data: SplitDataset, folds: Sequence[int]) -> dict[str, Baseline]:
    """Fits all baselines on the training pairs of each fold; returns them by name."""
    dataset = data.dataset
    numbers = heuristic_scores(dataset)
    everywhere = np.zeros((len(folds), len(dataset.photos)), np.float32)
    found = {CHANCE: Baseline("rule: all scores equal", everywhere + numbers.pop(CHANCE))}
    accuracies = {name: _training_accuracies(n, data, folds) for name, n in numbers.items()}
    signed: dict[str, np.ndarray] = {}
    for name, number_N in numbers.items():
        sign_F = np.where(accuracies[name] < 0.5, np.float32(-1), np.float32(1))
        signed[name] = sign_F[:, None] * number_N
        held_out_FM = np.stack([_held_out_signs(number_N, data, fold) for fold in folds])
        found[name] = Baseline(_note_of_sign(name, sign_F), signed[name], held_out_FM)
    if len(numbers) > 1:
        names = list(numbers)
        # A number without directed training pairs is NaN, and never the best.
        distance_JF = np.nan_to_num(np.abs(np.array(list(accuracies.values())) - 0.5))
        best_F = [names[j] for j in distance_JF.argmax(axis=0)]
        scores_FN = np.stack([signed[name][f] for f, name in enumerate(best_F)])
        found[BEST_HEURISTIC] = Baseline(_note_of_best(best_F), scores_FN)
    train_photos = [
        np.unique(dataset.pair_rows_M2[data.rows(fold, splits.TRAIN)]) for fold in folds
    ]
    columns = dataset.block_columns.get(IQA_BLOCK, ())
    if len(summed := known_columns(columns)) > 1:
        values_NJ = dataset.inputs([IQA_BLOCK])
        sums = [signed_sum(columns, values_NJ, photos) for photos in train_photos]
        note = f"nothing fitted to preferences: normal scores of {', '.join(summed)} added up"
        found[SIGNED_SUM] = Baseline(note, np.stack(sums))
    if _ridge_is_small(dataset):
        note = "ridge regression on all blocks, its penalty chosen inside the training pairs"
        ridges = [_fit_ridge(data, *each) for each in zip(folds, train_photos, strict=True)]
        scores, held_out = zip(*ridges, strict=True)
        found[RIDGE] = Baseline(note, np.stack(scores), np.stack(held_out))
    return found | {POSITION: Baseline("rule: image_a wins", None)}


class LinearBaseline(NamedTuple):
    """Baseline as a linear scorer of some blocks, for new photos.

    Attributes:
      blocks: blocks that it reads.
      input_scaling: see `scaling.INPUT_SCALINGS`.
      scaling: scaling of the blocks' columns.
      weights_D: float32, weights of the scaled columns.
    """

    blocks: tuple[str, ...]
    input_scaling: str
    scaling: Scaling
    weights_D: np.ndarray


def fit_linear(name: str, data: SplitDataset, fold: int) -> LinearBaseline:
    """Fits a baseline of `fit_baselines` as a linear scorer, on the training pairs of a fold."""
    dataset = data.dataset
    photos = np.unique(dataset.pair_rows_M2[data.rows(fold, splits.TRAIN)])
    if name == RIDGE:
        scaling, fitted = _ridge_of(data, fold, photos)
        blocks = tuple(dataset.block_columns)
        return LinearBaseline(blocks, AUTO, scaling, fitted.weights_D.astype(np.float32))
    columns, values_NJ = dataset.block_columns[IQA_BLOCK], dataset.inputs([IQA_BLOCK])
    weights_J = np.zeros(len(columns), np.float32)
    if name == SIGNED_SUM:
        for number in known_columns(columns):
            weights_J[columns.index(number)] = KNOWN_DIRECTIONS[number].sign
        scaling = fit_scaling(values_NJ, photos, range(len(columns)))
        return LinearBaseline((IQA_BLOCK,), NORMAL_SCORES, scaling, weights_J)
    numbers = heuristic_scores(dataset)
    del numbers[CHANCE]
    accuracies = {
        number: float(_training_accuracies(number_N, data, [fold])[0])
        for number, number_N in numbers.items()
    }
    if name == BEST_HEURISTIC:
        name = max(accuracies, key=lambda key: np.nan_to_num(abs(accuracies[key] - 0.5)))
    weights_J[list(numbers).index(name)] = -1 if accuracies[name] < 0.5 else 1
    unscaled = Scaling(
        np.zeros(len(columns), np.float32),
        np.ones(len(columns), np.float32),
        *fit_scaling(values_NJ[:1], np.zeros(1, int))[2:],
    )
    return LinearBaseline((IQA_BLOCK,), STANDARD, unscaled, weights_J)


def saved_names(dataset: Dataset) -> list[str]:
    """Names of the baselines that `fit_linear` can fit on a data set."""
    names = [name for name in heuristic_scores(dataset) if name != CHANCE]
    more = [BEST_HEURISTIC] if len(names) > 1 else []
    if len(known_columns(dataset.block_columns.get(IQA_BLOCK, ()))) > 1:
        more.append(SIGNED_SUM)
    return [*names, *more, *([RIDGE] if _ridge_is_small(dataset) else [])]


def _ridge_is_small(dataset: Dataset) -> bool:
    return min(dataset.features_ND.shape) <= MOST_UNKNOWNS


def heuristic_scores(dataset: Dataset) -> dict[str, np.ndarray]:
    """Scores [N] of chance, and of the first MOST_HEURISTICS image-quality numbers unchanged."""
    scores = {CHANCE: np.zeros(len(dataset.photos), np.float32)}
    if IQA_BLOCK in dataset.block_columns:
        columns = dataset.block_columns[IQA_BLOCK]
        indices = dataset.column_indices([IQA_BLOCK])
        for name, index in list(zip(columns, indices, strict=True))[:MOST_HEURISTICS]:
            unique = f"{IQA_BLOCK}:{name}" if name in RESERVED else name
            scores[unique] = dataset.features_ND[:, index].astype(np.float32)
    return scores


def missing_notes(dataset: Dataset) -> list[str]:
    """Notes on baselines that are left out."""
    columns, notes = dataset.block_columns.get(IQA_BLOCK, ()), []
    if len(columns) > MOST_HEURISTICS:
        notes.append(
            f"block '{IQA_BLOCK}' has {len(columns):,} columns: only its first {MOST_HEURISTICS} "
            f"are heuristic baselines, up to '{columns[MOST_HEURISTICS - 1]}'"
        )
    if not _ridge_is_small(dataset):
        num_photos, num_columns = dataset.features_ND.shape
        notes.append(
            f"no baseline '{RIDGE}': {num_columns:,} columns and {num_photos:,} photos are both "
            f"more than {MOST_UNKNOWNS:,}"
        )
    return notes


def known_columns(columns: Sequence[str]) -> list[str]:
    """Columns whose direction is known beforehand."""
    return [name for name in columns if name in KNOWN_DIRECTIONS]


def signed_sum(
    columns: Sequence[str], values_NJ: np.ndarray, fitted_photos: np.ndarray
) -> np.ndarray:
    """Sum, with equal weights, of the normal scores of all numbers of known direction, [N].

    Args:
      columns: names of the J numbers.
      values_NJ: values of the numbers, float32.
      fitted_photos: rows that the normal scores are fitted on; no preference is used.
    """
    names = known_columns(columns)
    values = values_NJ[:, [list(columns).index(name) for name in names]]
    scaled = fit_scaling(values, fitted_photos, range(len(names))).apply(values)
    return scaled @ np.array([KNOWN_DIRECTIONS[name].sign for name in names], np.float32)


def scores_without_preferences(
    name: str, columns: Sequence[str], values_NJ: np.ndarray
) -> tuple[np.ndarray, str]:
    """Scores [N] of a baseline that needs no preferences, and a note that describes it.

    Args:
      name: SIGNED_SUM, or a number of known direction.
      columns, values_NJ: names and values of the photos' image-quality numbers.

    Raises:
      UserError: the baseline needs preferences, or the photos lack its numbers.
    """
    known = known_columns(columns)
    usable = [*([SIGNED_SUM] if len(known) > 1 else []), *known]
    if name not in usable:
        raise UserError(f"--baseline={name}: {_why_not(name, columns, usable)}")
    if name == SIGNED_SUM:
        note = f"{name}: normal scores, among these photos, of {', '.join(known)}, added up"
        return signed_sum(columns, values_NJ, np.arange(len(values_NJ))), note
    sign = KNOWN_DIRECTIONS[name].sign
    return sign * values_NJ[:, list(columns).index(name)], _note_of_sign(name, np.array([sign]))


def _why_not(name: str, columns: Sequence[str], usable: Sequence[str]) -> str:
    instead = f"; without preferences: {', '.join(usable)}" if usable else ""
    if name in (RIDGE, BEST_HEURISTIC) or name in columns:
        return f"it is fitted to preferences, and a search has it in its table{instead}"
    if name in (CHANCE, POSITION):
        return f"it does not score photos{instead}"
    if name == SIGNED_SUM or name in KNOWN_DIRECTIONS:
        lacking = " and ".join([*KNOWN_DIRECTIONS][:2]) if name == SIGNED_SUM else name
        return f"block '{IQA_BLOCK}' lacks {lacking}; 'extract' measures it{instead}"
    return f"unknown.{did_you_mean(name, [*usable, RIDGE, BEST_HEURISTIC])}"


def _training_accuracies(
    number_N: np.ndarray, data: SplitDataset, folds: Sequence[int]
) -> np.ndarray:
    """Accuracy [F] of an unchanged number on the training pairs."""
    difference_M = metrics.pair_differences(number_N, data.dataset.pair_rows_M2)
    train = [data.rows(fold, splits.TRAIN) for fold in folds]
    preference_M = data.dataset.preference_M
    return np.array([metrics.accuracy(difference_M[t], preference_M[t]) for t in train])


def _held_out_signs(number_N: np.ndarray, data: SplitDataset, fold: int) -> np.ndarray:
    """`Baseline.held_out_FM` of a number: each inner fold has the sign chosen by the others."""
    dataset, train = data.dataset, data.rows(fold, splits.TRAIN)
    difference_M = metrics.pair_differences(number_N, dataset.pair_rows_M2)
    held_out_M = np.full(len(difference_M), np.nan, np.float32)
    for part in inner_folds(dataset.series_M[train]):
        kept = np.delete(train, part)
        share = metrics.accuracy(difference_M[kept], dataset.preference_M[kept])
        held_out_M[train[part]] = difference_M[train[part]] * (-1 if share < 0.5 else 1)
    return held_out_M


def _note_of_sign(name: str, sign_F: np.ndarray) -> str:
    less = int((sign_F < 0).sum())
    if less in (0, len(sign_F)):
        return f"rule: {'less' if less else 'more'} {name} wins"
    return f"rule: more {name} wins, but less in {less} of {len(sign_F)} folds"


def _note_of_best(best_F: Sequence[str]) -> str:
    counts = Counter(best_F).most_common()
    shown = counts[0][0] if len(counts) == 1 else ", ".join(f"{name} {n}" for name, n in counts)
    return f"the best number on training pairs: {shown}"


def _fit_ridge(
    data: SplitDataset, fold: int, train_photos: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N] of a ridge with a network's inputs, and its `Baseline.held_out_FM`."""
    _, fitted = _ridge_of(data, fold, train_photos)
    held_out_M = np.full(len(data.dataset.preference_M), np.nan, np.float32)
    held_out_M[data.rows(fold, splits.TRAIN)] = fitted.held_out_M
    return fitted.scores_N, held_out_M


def _ridge_of(data: SplitDataset, fold: int, train_photos: np.ndarray) -> tuple[Scaling, Fitted]:
    dataset, train = data.dataset, data.rows(fold, splits.TRAIN)
    blocks: Mapping[str, Sequence[str]] = dataset.block_columns
    columns_J = normal_score_columns(blocks, list(blocks), AUTO)
    scaling = fit_scaling(dataset.features_ND, train_photos, columns_J)
    fitted = fit_ridge(
        ScaledRows(dataset.features_ND, scaling),
        dataset.pair_rows_M2[train],
        dataset.preference_M[train] - np.float32(0.5),
        dataset.series_M[train],
    )
    return scaling, fitted
