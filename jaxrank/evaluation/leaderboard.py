"""Leaderboard: experiments and baselines compared on validation and test pairs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxrank.baselines import CHANCE, MIXED
from jaxrank.data import splits
from jaxrank.evaluation import comparison, hits, resampling, selection, yardstick
from jaxrank.evaluation.comparison import Standings
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.hits import Hits
from jaxrank.evaluation.resampling import Draws, Interval
from jaxrank.evaluation.successive_halving import Ending, RungHits
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.evaluation.yardstick import Competitor

# Roles of the references that experiments are compared with.
YARDSTICK, SHARPNESS = "baseline", "sharpness"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Pooled accuracies of some entries, with their intervals.

    Attributes:
      names: names of the entries.
      validation, test: accuracies on pairs with a direction.
      weighted_validation, weighted_test: accuracies on pairs weighted by |2 preference - 1|.
    """

    names: tuple[str, ...]
    validation: Interval
    test: Interval
    weighted_validation: Interval
    weighted_test: Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """Comparison of experiments and baselines.

    Attributes:
      entries: all compared entries; the last may be the mixed yardstick.
      not_compared: entries that are only measured: the control, and baselines that describe the
        table of pairs.
      by_test: standings of the entries on the test pairs.
      draws: resamples behind the standings.
      is_candidate_X: see `Hits`.
      yardstick: index of the strongest baseline; of chance if the strongest is below one half.
      yardstick_label: name of the yardstick in sentences.
      strongest_without_F: for each trained fold, the label of the strongest baseline of the other
        folds, chosen without this fold's test pairs.
      chosen: selected experiment.
      selecting: hits of the pairs that the selection used; see `selection.select_experiment`.
      at_first_rung: hits at the last epoch to which all experiments were trained; equal to
        `selecting` without rungs.
      first_rung_epoch: epoch of the first rung; None without rungs.
      endings: by experiment that a rung has dropped, the reason. Such an experiment is measured,
        and compared with the baselines, as it was at the rung. It is neither selected nor the best.
    """

    entries: Measured
    not_compared: Measured
    by_test: Standings
    draws: Draws
    is_candidate_X: np.ndarray
    yardstick: int
    yardstick_label: str
    strongest_without_F: tuple[str, ...]
    chosen: selection.Chosen | None
    selecting: hits.Pooled
    at_first_rung: hits.Pooled
    first_rung_epoch: int | None
    endings: Mapping[str, Ending]

    @property
    def names(self) -> tuple[str, ...]:
        return self.entries.names

    @property
    def chosen_name(self) -> str | None:
        return None if self.chosen is None else self.names[self.chosen.entry]


def rank(
    results: Sequence[TrialResult],
    evaluator: Evaluator,
    names: Sequence[str],
    baselines: Sequence[Competitor],
    parameters: Mapping[str, int],
    rungs: Sequence[RungHits] = (),
    endings: Mapping[str, Ending] | None = None,
) -> Ranking:
    """Compares experiments with each other and with baselines.

    Args:
      results: results of all trials.
      evaluator: evaluator of the trials.
      names: experiments, without the control.
      baselines: baselines, chance among them.
      parameters: number of parameters of one model of each experiment; breaks ties in the selection
        in favour of the smaller model.
      rungs: rungs that have dropped experiments; their entries are `names`.
      endings: see `Ranking`.
    """
    endings = endings or {}
    folds = hits.trained_folds(results)
    strongest = yardstick.strongest(baselines, evaluator, folds)
    compared = {b.name: b.difference_FM for b in baselines if b.competes}
    label = strongest.label
    if label not in compared:
        compared[MIXED] = strongest.difference_FM
    entries = _hits(results, compared, evaluator, names)
    validation, test = entries.validation, entries.test
    is_candidate_X = test.is_candidate_X & ~np.isin(test.names, list(endings))
    draws = resampling.resample(test._replace(is_candidate_X=is_candidate_X))
    reference = test.names.index(label if label in compared else MIXED)
    if draws.mean_X[reference] < 0.5:
        label, reference = CHANCE, test.names.index(CHANCE)
    references = {YARDSTICK: reference, CHANCE: test.names.index(CHANCE)}
    if SHARPNESS in test.names:
        references[SHARPNESS] = test.names.index(SHARPNESS)
    selecting = hits.pooled(test if len(test.weight_FS) > 1 else validation)
    sizes_X = np.array([parameters.get(name, 0) for name in test.names])
    control = sorted({r.trial.experiment.name for r in results} - set(names))
    described = {b.name: b.difference_FM for b in baselines if not b.competes}
    return Ranking(
        entries=_measured(entries),
        not_compared=_measured(_hits(results, described, evaluator, control)),
        by_test=comparison.standings(
            draws,
            references,
            [x for x, name in enumerate(test.names) if name == MIXED or name in endings],
        ),
        draws=draws,
        is_candidate_X=is_candidate_X,
        yardstick=reference,
        yardstick_label=label,
        strongest_without_F=_strongest_without(baselines, evaluator, folds),
        chosen=selection.select_experiment(validation, test, sizes_X, rungs=rungs),
        selecting=selecting,
        at_first_rung=hits.pooled(rungs[0].hits) if rungs else selecting,
        first_rung_epoch=rungs[0].epoch if rungs else None,
        endings=endings,
    )


def _strongest_without(
    baselines: Sequence[Competitor], evaluator: Evaluator, folds: Sequence[int]
) -> tuple[str, ...]:
    """Computes `Ranking.strongest_without_F`."""
    labels = []
    for fold in folds:
        left_out = np.flatnonzero(evaluator.splits_FM[fold] == splits.TEST)
        others = [other for other in folds if other != fold] or [fold]
        labels.append(yardstick.strongest(baselines, evaluator, others, left_out).label)
    return tuple(labels)


class _AllHits(NamedTuple):
    """Hits in both splits, with equal weights of pairs and weighted by votes."""

    validation: Hits
    test: Hits
    weighted_validation: Hits
    weighted_test: Hits


def _hits(
    results: Sequence[TrialResult],
    baselines: Mapping[str, np.ndarray],
    evaluator: Evaluator,
    names: Sequence[str],
) -> _AllHits:
    (validation, weighted_validation), (test, weighted_test) = (
        hits.both_from_results(results, baselines, evaluator, split, names)
        for split in (splits.VALIDATION, splits.TEST)
    )
    return _AllHits(validation, test, weighted_validation, weighted_test)


def _measured(entries: _AllHits) -> Measured:
    intervals = {name: resampling.intervals(found) for name, found in entries._asdict().items()}
    return Measured(names=entries.test.names, **intervals)
