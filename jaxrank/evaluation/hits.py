"""Hits: what every entry of a leaderboard orders right, by series, and its pooled accuracy.

The accuracy of an entry is pooled over pairs: its hits, averaged over seeds and summed over folds
and series, divided by the pairs with a direction.

Axis letters: X entries (experiments and baselines), F folds, K seeds, S series, M pairs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.metrics import pair_differences, pair_hits, vote_weights
from jaxrank.statistics import ratio


class Hits(NamedTuple):
    """What every entry got right in one split of every trained fold.

    Attributes:
      names: X of them.
      is_baseline_X: it has no seeds; all are equal.
      is_candidate_X: it may be selected: trained, no control, and no ensemble, which its experiment
        stands for (the final model is the mean of all its seeds).
      trained_as_X: the entry whose trainings it consists of: its own number, save for an
        ensemble over an experiment's seeds. The hits of an ensemble are the same in every seed.
      hits_XFKS: float32, weighted pairs ordered right (a tie of scores is one half), summed over
        each series; NaN for a trial that failed or does not exist.
      weight_FS: the weights of the pairs; pairs without a direction have none.
    """

    names: tuple[str, ...]
    is_baseline_X: np.ndarray
    is_candidate_X: np.ndarray
    trained_as_X: np.ndarray
    hits_XFKS: np.ndarray
    weight_FS: np.ndarray


class Pooled(NamedTuple):
    """Hits averaged over completed seeds and summed over folds.

    Attributes:
      hits_XS: of each series.
      weight_XS: of the folds that have a completed seed.
      per_model_X: the variance of an entry's accuracy where each of its models has variance 1.
    """

    hits_XS: np.ndarray
    weight_XS: np.ndarray
    per_model_X: np.ndarray

    @property
    def accuracy_X(self) -> np.ndarray:
        """NaN for an entry without a completed trial."""
        return ratio(self.hits_XS.sum(axis=1), self.weight_XS.sum(axis=1))


def from_results(
    results: Sequence[TrialResult],
    baselines: Mapping[str, np.ndarray],
    evaluator: Evaluator,
    split: int,
    names: Sequence[str],
    *,
    by_votes: bool = False,
) -> Hits:
    """Hits of experiments and baselines in one split.

    Args:
      results: of all trials.
      baselines: by name, score_a - score_b of every pair: [M], or [F, M] where it differs between
        the evaluator's folds.
      evaluator: that the trials were measured with.
      split: splits.VALIDATION or splits.TEST.
      names: of the experiments, in the order of the entries; the baselines come after them.
      by_votes: pairs have the weight |2 preference - 1|, not 1.

    Returns:
      Only the folds that were trained; K is the most seeds that any experiment has.
    """
    dataset = evaluator.dataset
    folds = trained_folds(results)
    seeds = {n: sorted({r.trial.seed for r in results if r.trial.experiment.name == n})
             for n in names}  # fmt: skip
    in_split_FM = evaluator.splits_FM[folds] == split
    weight_M = _pair_weights(dataset.preference_M, by_votes)
    num_series = len(dataset.series_ids)
    shape = (
        len(names) + len(baselines),
        len(folds),
        max([1, *map(len, seeds.values())]),
        num_series,
    )
    hits_XFKS = np.full(shape, np.nan, np.float32)
    completed = Counter(r.trial.key[:2] for r in results if r.metrics.completed)
    places = {name: x for x, name in enumerate(names)}
    trained_as_X = np.arange(shape[0])
    others = [
        r.trial.experiment.name for r in results if r.ensemble_of or r.trial.experiment.is_control
    ]

    def by_series(value_M: np.ndarray, mine_M: np.ndarray) -> np.ndarray:
        return np.bincount(dataset.series_M[mine_M], value_M[mine_M], num_series)

    for result in results:
        trial = result.trial
        name, fold = trial.experiment.name, folds.index(trial.fold)
        if name in seeds and result.metrics.completed:
            own = evaluator.of(trial.experiment).dataset
            difference_M = pair_differences(result.scores_N, own.pair_rows_M2)
            hit_M, _ = pair_hits(difference_M, own.preference_M)
            own_weight_M = _pair_weights(own.preference_M, by_votes)
            found_S = by_series(hit_M * own_weight_M, in_split_FM[fold])
            x = places[name]
            if result.ensemble_of in places:
                trained_as_X[x] = places[result.ensemble_of]
                hits_XFKS[x, fold, : completed[result.ensemble_of, trial.fold]] = found_S
            else:
                hits_XFKS[x, fold, seeds[name].index(trial.seed)] = found_S
    for x, difference in enumerate(baselines.values(), start=len(names)):
        difference_FM = np.broadcast_to(difference, evaluator.splits_FM.shape)[folds]
        for fold, difference_M in enumerate(difference_FM):
            hit_M, _ = pair_hits(difference_M, dataset.preference_M)
            hits_XFKS[x, fold] = by_series(hit_M * weight_M, in_split_FM[fold])
    is_baseline_X = np.arange(len(hits_XFKS)) >= len(names)
    all_names = (*names, *baselines)
    return Hits(
        all_names,
        is_baseline_X,
        ~is_baseline_X & ~np.isin(all_names, others),
        trained_as_X,
        hits_XFKS,
        np.stack([by_series(weight_M, in_split_M) for in_split_M in in_split_FM]),
    )


def trained_folds(results: Sequence[TrialResult]) -> list[int]:
    return sorted({r.trial.fold for r in results})


def _pair_weights(preference_M: np.ndarray, by_votes: bool) -> np.ndarray:
    _, directed_M = pair_hits(np.zeros(len(preference_M)), preference_M)
    return vote_weights(preference_M) * directed_M if by_votes else directed_M.astype(np.float64)


def pooled(hits: Hits) -> Pooled:
    """Hits averaged over seeds and summed over folds; entry by entry, to save memory."""
    num_entries, _, _, num_series = hits.hits_XFKS.shape
    hits_XS, weight_XS = np.zeros((2, num_entries, num_series))
    per_model_X = np.zeros(num_entries)
    for x, hits_FKS in enumerate(hits.hits_XFKS):
        done_FK = ~np.isnan(hits_FKS).any(axis=2)
        seeds_F = done_FK.sum(axis=1)
        total_FS = np.where(done_FK[..., None], hits_FKS, 0.0).sum(axis=1, dtype=np.float64)
        hits_XS[x] = (total_FS / np.maximum(seeds_F, 1)[:, None]).sum(axis=0)
        weight_XS[x] = (seeds_F > 0) @ hits.weight_FS
        share_F = (seeds_F > 0) * hits.weight_FS.sum(axis=1) / max(weight_XS[x].sum(), 1e-300)
        per_model_X[x] = (share_F**2 / np.maximum(seeds_F, 1)).sum()
    return Pooled(hits_XS, weight_XS, np.where(hits.is_baseline_X, 0.0, per_model_X))


def pooled_accuracy(
    results: Sequence[TrialResult], evaluator: Evaluator, split: int, name: str
) -> float:
    """The pooled accuracy of one experiment in one split."""
    return float(pooled(from_results(results, {}, evaluator, split, [name])).accuracy_X[0])


def baseline_accuracy(
    difference: np.ndarray, evaluator: Evaluator, split: int, folds: Sequence[int]
) -> float:
    """The pooled accuracy of a baseline's score differences, [M] or [F, M], in some folds."""
    difference_FM = np.broadcast_to(difference, evaluator.splits_FM.shape)[folds]
    in_split_FM = evaluator.splits_FM[folds] == split
    preference_FM = np.broadcast_to(evaluator.dataset.preference_M, in_split_FM.shape)
    hit, directed = pair_hits(difference_FM[in_split_FM], preference_FM[in_split_FM])
    return float(ratio((hit * directed).sum(dtype=np.float64), directed.sum(dtype=np.float64)))
