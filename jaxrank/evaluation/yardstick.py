"""Yardstick: the strongest baseline, chosen in each fold without its test pairs.

Axis letters: F folds, M pairs.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from jaxrank.baselines import BEST_HEURISTIC, CHANCE, POSITION, Baseline
from jaxrank.data import splits
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.metrics import accuracy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Competitor:
    """Baseline, as score differences of all pairs.

    Attributes:
      name: name of its row in the tables.
      difference_FM: score_a - score_b of every pair, in every fold of the split. A baseline that
        fits nothing has equal rows, and [M] is enough.
      judged_FM: score differences by which the baseline is judged on a fold's training and
        validation pairs; NaN for pairs that do not count. A baseline fitted on training pairs has
        inner out-of-fold predictions for them. Otherwise they are NaN, and only validation pairs
        judge it. None: nothing is fitted, and `difference_FM` is judged.
      competes: whether it is in the leaderboard and may be the yardstick. `position` does not
        compete: it describes the table of pairs, and no score of photos can reproduce it.
    """

    name: str
    difference_FM: np.ndarray
    judged_FM: np.ndarray | None = None
    competes: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Yardstick:
    """Strongest baseline of each fold, as a single entry.

    Attributes:
      names: baseline of each trained fold.
      difference_FM: score differences, in every fold of the split.
    """

    names: tuple[str, ...]
    difference_FM: np.ndarray

    @property
    def label(self) -> str:
        """Name of the baseline, or how often each baseline was chosen."""
        counts = Counter(self.names).most_common()
        if len(counts) == 1:
            return self.names[0]
        chosen = ", ".join(f"{name} in {count}" for name, count in counts)
        return f"{chosen} of {len(self.names)} folds"


def competitors(
    baselines: Mapping[str, Baseline], evaluator: Evaluator, folds: Sequence[int]
) -> list[Competitor]:
    """Converts baselines that were fitted in these folds into competitors."""
    pair_rows_M2, shape = evaluator.dataset.pair_rows_M2, evaluator.splits_FM.shape
    found = []
    for name, baseline in baselines.items():
        difference_FM = np.zeros(shape, np.float32)
        difference_FM[folds] = baseline.differences(pair_rows_M2, len(folds))
        judged_FM = None
        if name == BEST_HEURISTIC:  # the heuristics compete themselves
            judged_FM = np.full(shape, np.nan, np.float32)
        elif baseline.held_out_FM is not None:
            judged_FM = np.where(evaluator.splits_FM == splits.TRAIN, np.nan, difference_FM)
            held_out_FM = np.full(shape, np.nan, np.float32)
            held_out_FM[folds] = baseline.held_out_FM
            judged_FM = np.where(np.isnan(judged_FM), held_out_FM, judged_FM)
        found.append(
            Competitor(
                name=name,
                difference_FM=difference_FM,
                judged_FM=judged_FM,
                competes=name != POSITION,
            )
        )
    return found


def strongest(
    baselines: Sequence[Competitor],
    evaluator: Evaluator,
    folds: Sequence[int],
    left_out: np.ndarray | None = None,
) -> Yardstick:
    """Chooses the baseline of highest accuracy on each fold's training and validation pairs.

    Chance competes, so no baseline that is right on less than half of these pairs is chosen. Ties
    go to chance, then to the first baseline.

    Args:
      baselines: all baselines, chance among them.
      evaluator: evaluator with the pairs and their folds.
      folds: trained folds.
      left_out: rows of pairs that are excluded.
    """
    competing = sorted((b for b in baselines if b.competes), key=lambda b: b.name != CHANCE)
    shape = evaluator.splits_FM.shape
    names = []
    difference_FM = np.zeros(shape, np.float32)
    for fold in folds:
        scores = [_judged(baseline, evaluator, fold, left_out) for baseline in competing]
        best = competing[int(np.argmax(np.nan_to_num(scores, nan=-1.0)))]
        names.append(best.name)
        difference_FM[fold] = np.broadcast_to(best.difference_FM, shape)[fold]
    return Yardstick(names=tuple(names), difference_FM=difference_FM)


def _judged(
    baseline: Competitor, evaluator: Evaluator, fold: int, left_out: np.ndarray | None
) -> float:
    """Accuracy on the pairs of a fold by which a baseline may be chosen."""
    judged = baseline.difference_FM if baseline.judged_FM is None else baseline.judged_FM
    difference_M = np.broadcast_to(judged, evaluator.splits_FM.shape)[fold]
    seen_M = np.isin(evaluator.splits_FM[fold], (splits.TRAIN, splits.VALIDATION))
    mine_M = seen_M & np.isfinite(difference_M)
    if left_out is not None:
        mine_M[left_out] = False
    return float(accuracy(difference_M[mine_M], evaluator.dataset.preference_M[mine_M]))
