"""Predictions of validation and test pairs: for each trial, and averaged over trials.

Tables are Arrow tables, because a search may have hundreds of millions of rows. Axis letters: N
photos, M pairs.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxrank.data import splits
from jaxrank.evaluation.evaluator import ORDERED_SPLITS, PAIR_NAMES, Evaluator
from jaxrank.evaluation.trial_results import KEYS, TrialResult
from jaxrank.metrics import pair_hits

if TYPE_CHECKING:
    import pyarrow

# Rows in memory at once.
_MOST_ROWS = 500_000


def schema() -> "pyarrow.Schema":
    """Columns of `trial_tables`, with their types."""
    import pyarrow  # imports in a tenth of a second, which other commands need not wait for

    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types = dict(zip(KEYS, (text, pyarrow.int32(), pyarrow.int64()), strict=True))
    types |= dict.fromkeys(PAIR_NAMES, text) | {"preference": pyarrow.float64()}
    types |= dict.fromkeys(("score_a", "score_b", "correct"), pyarrow.float32())
    return pyarrow.schema(types | {"split": text})


def trial_tables(results: Sequence[TrialResult], evaluator: Evaluator) -> "Iterator[pyarrow.Table]":
    """Yields the validation and test pairs of completed trials, several trials at a time.

    `correct` is null where the preference has no direction.
    """
    import pyarrow

    waiting: list[pyarrow.Table] = []
    known: dict[tuple[int, bool], _FoldPairs] = {}
    for result in results:
        if not result.metrics.completed:
            continue
        fold, experiment = result.trial.fold, result.trial.experiment
        key = fold, experiment.is_control
        if key not in known:
            known[key] = _pairs_of_fold(evaluator.of(experiment), fold)
        waiting.append(_of_trial(known[key], result))
        if sum(map(len, waiting)) >= _MOST_ROWS:
            yield pyarrow.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pyarrow.concat_tables(waiting)


class _FoldPairs(NamedTuple):
    """Columns that the predictions of all trials of a fold share.

    Attributes:
      names: columns PAIR_NAMES and `preference`.
      split: column of split names.
      rows_M2, preference_M: photos and preferences of the pairs, see `Dataset`.
    """

    names: "pyarrow.Table"
    split: "pyarrow.Array"
    rows_M2: np.ndarray
    preference_M: np.ndarray


def _pairs_of_fold(evaluator: Evaluator, fold: int) -> _FoldPairs:
    dataset, split_M = evaluator.dataset, evaluator.splits_FM[fold]
    rows = np.flatnonzero(np.isin(split_M, ORDERED_SPLITS))
    return _FoldPairs(
        evaluator.names.take(rows),
        _split_names(split_M[rows]),
        dataset.pair_rows_M2[rows],
        dataset.preference_M[rows],
    )


def _split_names(split_M: np.ndarray) -> "pyarrow.Array":
    import pyarrow

    names = [splits.SPLIT_NAMES[split] for split in ORDERED_SPLITS]
    places_M = np.searchsorted(ORDERED_SPLITS, split_M).astype(np.int32)
    return pyarrow.DictionaryArray.from_arrays(places_M, names)


def _of_trial(pairs: _FoldPairs, result: TrialResult) -> "pyarrow.Table":
    import pyarrow

    trial, number = result.trial, len(pairs.rows_M2)
    a_M, b_M, hit_M, directed_M = _scored(result, pairs.rows_M2, pairs.preference_M)
    name = pyarrow.array([trial.experiment.name]).dictionary_encode()
    keys = [
        name.take(pyarrow.array(np.zeros(number, np.int32))),
        np.full(number, trial.fold, np.int32),
        np.full(number, trial.seed, np.int64),
    ]
    scores = [a_M, b_M, pyarrow.array(hit_M, mask=~directed_M)]
    return pyarrow.table([*keys, *pairs.names.columns, *scores, pairs.split], schema=schema())


def _scored(
    result: TrialResult, rows_M2: np.ndarray, preference_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both scores of each pair, whether they are right, and whether the pair has a direction."""
    a_M, b_M = (np.take(result.scores_N, rows) for rows in rows_M2.T)
    hit_M, weight_M = pair_hits(a_M - b_M, preference_M)
    return a_M, b_M, hit_M, weight_M > 0


def mean_table(results: Sequence[TrialResult], evaluator: Evaluator) -> "pyarrow.Table":
    """Means over the completed trials of one experiment, one row per pair.

    A pair's row averages the trials that test the pair or, without such trials, those that validate
    it; `trials` is their number.

    Args:
      results: results of the experiment's trials.
      evaluator: evaluator of the trials; for a control, its own.
    """
    dataset = evaluator.dataset
    sums = {split: np.zeros((4, len(dataset.preference_M))) for split in ORDERED_SPLITS}
    for result in results:
        if result.metrics.completed:
            for split, sums_4M in sums.items():
                rows = evaluator.data.rows(result.trial.fold, split)
                scored = _scored(result, dataset.pair_rows_M2[rows], dataset.preference_M[rows])
                sums_4M[:, rows] += *scored[:3], np.ones(len(rows))
    tested_M = sums[splits.TEST][3] > 0
    sums_4M = np.where(tested_M, sums[splits.TEST], sums[splits.VALIDATION])
    rows = np.flatnonzero(sums_4M[3])
    trials_M = sums_4M[3, rows]
    return _table_of_means(evaluator, rows, sums_4M[:3, rows] / trials_M, trials_M, tested_M[rows])


def _table_of_means(
    evaluator: Evaluator,
    rows: np.ndarray,
    means_3M: np.ndarray,
    trials_M: np.ndarray,
    tested_M: np.ndarray,
) -> "pyarrow.Table":
    import pyarrow

    undirected_M = evaluator.dataset.preference_M[rows] == np.float32(0.5)
    columns = {
        "score_a": pyarrow.array(means_3M[0]),
        "score_b": pyarrow.array(means_3M[1]),
        "correct": pyarrow.array(means_3M[2], mask=undirected_M),
        "split": _split_names(np.where(tested_M, splits.TEST, splits.VALIDATION)),
        "trials": pyarrow.array(trials_M.astype(np.int32)),
    }
    table = evaluator.names.take(rows)
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table
