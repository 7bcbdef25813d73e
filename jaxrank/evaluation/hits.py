"""Hits by series, that is correctly ordered pairs, and pooled accuracies of all entries.

The accuracy of an entry is pooled over pairs: its hits, averaged over seeds and summed over folds
and series, divided by the number of pairs with a direction.

Axis letters: X entries (experiments and baselines), F folds, K seeds, S series, M pairs; Y patterns
of folds, W weightings of pairs.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.metrics import pair_differences, pair_hits, vote_weights
from jaxrank.statistics import ratio

# Largest scale tried to turn hits into whole numbers; a scale is twice a number of seeds.
_MOST_PARTS = 20
_ROUNDING = 1e-9


class Hits(NamedTuple):
    """Hits of every entry in one split of every trained fold.

    Attributes:
      names: names of the X entries.
      is_baseline_X: whether the entry is a baseline; a baseline has no seeds, so its seeds are
        equal.
      is_candidate_X: whether the entry may be selected: trained, no control and no ensemble. An
        experiment represents its ensemble, because the final model is the mean of all its seeds.
      trained_as_X: entry whose trained models the entry consists of: its own index, except for an
        ensemble over an experiment's seeds. The hits of an ensemble are the same in every seed.
      hits_XFKS: float32, weighted number of correctly ordered pairs of each series, where a tie of
        scores counts one half; NaN for a trial that failed or does not exist.
      weight_FS: total weight of the pairs; pairs without a direction have none.
      series_FS: index of each series. A fold has only the series of its own split; unused places
        hold `num_series`. None where S are all series, in each fold.
      num_series: number of series in all folds; needed with `series_FS` only.
    """

    names: tuple[str, ...]
    is_baseline_X: np.ndarray
    is_candidate_X: np.ndarray
    trained_as_X: np.ndarray
    hits_XFKS: np.ndarray
    weight_FS: np.ndarray
    series_FS: np.ndarray | None = None
    num_series: int = 0

    def by_series(self, value_FS: np.ndarray) -> np.ndarray:
        """Sums values over folds, [all series]."""
        if self.series_FS is None:
            return value_FS.sum(axis=0)
        sums = np.bincount(self.series_FS.ravel(), value_FS.ravel(), self.num_series + 1)
        return sums[: self.num_series]


class Pooled(NamedTuple):
    """Hits averaged over completed seeds and summed over folds.

    Attributes:
      hits_XS: hits on each of all series.
      weight_YS: total weight of the folds that have a completed seed; entries with the same such
        folds share a row.
      weight_of_X: row of `weight_YS` for each entry.
      per_model_X: variance of an entry's accuracy if each of its models has variance 1.
    """

    hits_XS: np.ndarray
    weight_YS: np.ndarray
    weight_of_X: np.ndarray
    per_model_X: np.ndarray

    @property
    def num_pairs_X(self) -> np.ndarray:
        """Total weight of each entry's pairs, over all series."""
        return self.weight_YS.sum(axis=1)[self.weight_of_X]

    @property
    def accuracy_X(self) -> np.ndarray:
        """Pooled accuracy; NaN for an entry without a completed trial."""
        return ratio(self.hits_XS.sum(axis=1), self.num_pairs_X)

    def take(self, entries: np.ndarray | slice, used_S: np.ndarray) -> "Pooled":
        """Selects entries and series."""
        hits_XS, weight_YS = self.hits_XS[entries], self.weight_YS
        if not used_S.all():
            hits_XS, weight_YS = hits_XS[:, used_S], weight_YS[:, used_S]
        return Pooled(hits_XS, weight_YS, self.weight_of_X[entries], self.per_model_X[entries])

    def accuracy_where(self) -> Callable[[np.ndarray], np.ndarray]:
        """Returns a function from the counts of each series, [B, S], to accuracies [B, X].

        Hits are multiples of one half, divided by a number of seeds. Scaled to whole numbers that a
        float32 represents, their matrix products are as exact as in float64 and twice as fast.
        """
        scale, whole_XS = self._whole_hits()

        def accuracies(counts_BS: np.ndarray) -> np.ndarray:
            hits_BX = (counts_BS.astype(whole_XS.dtype) @ whole_XS.T).astype(np.float64) / scale
            weight_BY = counts_BS @ self.weight_YS.T
            return ratio(hits_BX, weight_BY[:, self.weight_of_X])

        return accuracies

    def _whole_hits(self) -> tuple[int, np.ndarray]:
        """A scale factor, and the scaled hits: whole numbers in float32 where that is exact."""
        # A sum over resampled series may be several times the sum over all series.
        most = 2**24 / 8 / max(self.hits_XS.sum(axis=1).max(initial=0.0), 1.0)
        whole_XS = np.empty(self.hits_XS.shape, np.float32)
        for scale in range(2, min(_MOST_PARTS, int(most)) + 1, 2):
            for hits_S, whole_S in zip(self.hits_XS, whole_XS, strict=True):
                np.rint(hits_S * scale, out=whole_S, casting="same_kind")
                if np.abs(hits_S * scale - whole_S).max(initial=0.0) > _ROUNDING:
                    break
            else:
                return scale, whole_XS
        return 1, self.hits_XS


def from_results(
    results: Sequence[TrialResult],
    baselines: Mapping[str, np.ndarray],
    evaluator: Evaluator,
    split: int,
    names: Sequence[str],
    *,
    by_votes: bool = False,
) -> Hits:
    """Counts the hits of experiments and baselines in one split.

    Args:
      results: results of all trials.
      baselines: by name, score_a - score_b of every pair: [M], or [F, M] where it differs between
        the evaluator's folds.
      evaluator: evaluator of the trials.
      split: splits.VALIDATION or splits.TEST.
      names: experiments, in the order of the entries; the baselines come after them.
      by_votes: whether pairs have the weight |2 preference - 1| rather than 1.

    Returns:
      Hits in the folds that were trained; K is the largest number of seeds of any experiment.
    """
    return _from_results(results, baselines, evaluator, split, names, (by_votes,))[0]


def both_from_results(
    results: Sequence[TrialResult],
    baselines: Mapping[str, np.ndarray],
    evaluator: Evaluator,
    split: int,
    names: Sequence[str],
) -> tuple[Hits, Hits]:
    """Returns `from_results` for equal weights of pairs, and for weights by votes."""
    plain, by_votes = _from_results(results, baselines, evaluator, split, names, (False, True))
    return plain, by_votes


def _from_results(
    results: Sequence[TrialResult],
    baselines: Mapping[str, np.ndarray],
    evaluator: Evaluator,
    split: int,
    names: Sequence[str],
    by_votes_W: Sequence[bool],
) -> list[Hits]:
    """Returns `from_results` for each of several weightings of pairs."""
    folds, num_series = trained_folds(results), len(evaluator.dataset.series_ids)
    by_name: dict[str, list[TrialResult]] = {name: [] for name in names}
    for result in results:
        by_name.get(result.trial.experiment.name, []).append(result)
    tested_F = [_Tested.of(evaluator, fold, split, by_votes_W) for fold in folds]
    num_places = max(len(tested.series) for tested in tested_F)
    num_seeds = max([1, *(len({r.trial.seed for r in mine}) for mine in by_name.values())])
    shape = (len(names) + len(baselines), len(folds), num_seeds, num_places)
    hits_WXFKS = np.full((len(by_votes_W), *shape), np.nan, np.float32)
    _count_trained(hits_WXFKS, by_name, evaluator, tested_F)
    hits_WXFKS[:, len(names) :] = 0.0
    for x, difference in enumerate(baselines.values(), start=len(names)):
        difference_FM = np.broadcast_to(difference, evaluator.splits_FM.shape)
        for f, tested in enumerate(tested_F):
            hits_WKS = tested.hits(difference_FM[folds[f], tested.rows][None])
            hits_WXFKS[:, x, f, :, : len(tested.series)] = hits_WKS
    trained_as_X = np.arange(shape[0])
    for x, mine in enumerate(by_name.values()):
        if mine and mine[0].ensemble_of in by_name:
            trained_as_X[x] = names.index(mine[0].ensemble_of)
    others = {
        r.trial.experiment.name for r in results if r.ensemble_of or r.trial.experiment.is_control
    }
    is_baseline_X = np.arange(shape[0]) >= len(names)
    all_names = (*names, *baselines)
    series_FS = np.stack([_padded(t.series, num_places, num_series) for t in tested_F])
    return [
        Hits(
            all_names,
            is_baseline_X,
            ~is_baseline_X & ~np.isin(all_names, list(others)),
            trained_as_X,
            hits_XFKS,
            np.stack([_padded(t.weight_WS[w], num_places, 0.0) for t in tested_F]),
            series_FS,
            num_series,
        )
        for w, hits_XFKS in enumerate(hits_WXFKS)
    ]


def _count_trained(
    hits_WXFKS: np.ndarray,
    by_name: Mapping[str, Sequence[TrialResult]],
    evaluator: Evaluator,
    tested_F: "Sequence[_Tested]",
) -> None:
    """Fills in the hits of completed trials; `by_name` has the first of the entries X."""
    completed = Counter(
        r.trial.key[:2] for mine in by_name.values() for r in mine if r.metrics.completed
    )
    for x, mine in enumerate(by_name.values()):
        place = {seed: k for k, seed in enumerate(sorted({r.trial.seed for r in mine}))}
        for f, tested in enumerate(tested_F):
            done = [r for r in mine if r.trial.fold == tested.fold and r.metrics.completed]
            if not done:
                continue
            own = evaluator.of(done[0].trial.experiment).dataset
            difference_KM = pair_differences(
                np.stack([result.scores_N for result in done]), own.pair_rows_M2[tested.rows]
            )
            seeds: Any = [place[result.trial.seed] for result in done]
            if done[0].ensemble_of in by_name:  # the same in every seed
                seeds = slice(completed[done[0].ensemble_of, tested.fold])
            hits_WXFKS[:, x, f, seeds] = 0.0
            hits_WXFKS[:, x, f, seeds, : len(tested.series)] = tested.hits(difference_KM)


class _Tested(NamedTuple):
    """Pairs of a split of one fold, grouped by series.

    Attributes:
      fold: index of the fold.
      rows: M rows of pairs in the dataset.
      series: S indices of series in the dataset.
      place_M: position of each pair's series in `series`.
      preference_M: preferences of the pairs.
      weight_WM: weights of the pairs, in each of W weightings.
    """

    fold: int
    rows: np.ndarray
    series: np.ndarray
    place_M: np.ndarray
    preference_M: np.ndarray
    weight_WM: np.ndarray

    @staticmethod
    def of(evaluator: Evaluator, fold: int, split: int, by_votes_W: Sequence[bool]) -> "_Tested":
        rows = evaluator.data.rows(fold, split)
        series, place_M = np.unique(evaluator.dataset.series_M[rows], return_inverse=True)
        preference_M = evaluator.dataset.preference_M[rows]
        weight_WM = np.stack([_pair_weights(preference_M, by_votes) for by_votes in by_votes_W])
        return _Tested(fold, rows, series, place_M, preference_M, weight_WM)

    @property
    def weight_WS(self) -> np.ndarray:
        return self._by_series(self.weight_WM)

    def hits(self, difference_KM: np.ndarray) -> np.ndarray:
        """Weighted hits of each series, float64 [W, K, S]."""
        hit_KM, _ = pair_hits(difference_KM, self.preference_M)
        return np.stack([self._by_series(hit_KM * weight_M) for weight_M in self.weight_WM])

    def _by_series(self, value_KM: np.ndarray) -> np.ndarray:
        number, size = len(value_KM), len(self.series)
        place_KM = np.arange(number)[:, None] * size + self.place_M
        sums = np.bincount(place_KM.ravel(), value_KM.ravel(), number * size)
        return sums.reshape(number, size)


def _padded(value_S: np.ndarray, length: int, fill: float) -> np.ndarray:
    return np.pad(value_S, (0, length - len(value_S)), constant_values=fill)


def trained_folds(results: Sequence[TrialResult]) -> list[int]:
    return sorted({r.trial.fold for r in results})


def _pair_weights(preference_M: np.ndarray, by_votes: bool) -> np.ndarray:
    _, directed_M = pair_hits(np.zeros(len(preference_M)), preference_M)
    return vote_weights(preference_M) * directed_M if by_votes else directed_M.astype(np.float64)


def pooled(hits: Hits) -> Pooled:
    """Averages hits over seeds and sums them over folds; entry by entry, to save memory."""
    num_entries = len(hits.names)
    weight_F = hits.weight_FS.sum(axis=1)
    hits_XS = np.zeros((num_entries, hits.num_series or hits.weight_FS.shape[1]))
    seeds_XF = np.zeros((num_entries, len(weight_F)), int)
    for x, hits_FKS in enumerate(hits.hits_XFKS):
        done_FK = ~np.isnan(hits_FKS).any(axis=2)
        seeds_XF[x] = done_FK.sum(axis=1)
        total_FS = np.where(done_FK[..., None], hits_FKS, 0.0).sum(axis=1, dtype=np.float64)
        hits_XS[x] = hits.by_series(total_FS / np.maximum(seeds_XF[x], 1)[:, None])
    seen_YF, weight_of_X = np.unique(seeds_XF > 0, axis=0, return_inverse=True)
    weight_YS = np.zeros((len(seen_YF), hits_XS.shape[1]))
    for weight_S, seen_F in zip(weight_YS, seen_YF, strict=True):
        weight_S[:] = hits.by_series(hits.weight_FS * seen_F[:, None])
    share_XF = (seeds_XF > 0) * weight_F
    share_XF = share_XF / np.maximum(share_XF.sum(axis=1), 1e-300)[:, None]
    per_model_X = (share_XF**2 / np.maximum(seeds_XF, 1)).sum(axis=1)
    return Pooled(
        hits_XS, weight_YS, weight_of_X.ravel(), np.where(hits.is_baseline_X, 0.0, per_model_X)
    )


def pooled_accuracy(
    results: Sequence[TrialResult], evaluator: Evaluator, split: int, name: str
) -> float:
    """Pooled accuracy of one experiment in one split."""
    return float(pooled(from_results(results, {}, evaluator, split, [name])).accuracy_X[0])


def baseline_accuracy(
    difference: np.ndarray, evaluator: Evaluator, split: int, folds: Sequence[int]
) -> float:
    """Pooled accuracy, in some folds, of a baseline's score differences, [M] or [F, M]."""
    difference_FM = np.broadcast_to(difference, evaluator.splits_FM.shape)[folds]
    in_split_FM = evaluator.splits_FM[folds] == split
    preference_FM = np.broadcast_to(evaluator.dataset.preference_M, in_split_FM.shape)
    hit, directed = pair_hits(difference_FM[in_split_FM], preference_FM[in_split_FM])
    return float(ratio((hit * directed).sum(dtype=np.float64), directed.sum(dtype=np.float64)))
