"""Experiments and baselines compared on validation and test pairs."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxrank.baselines import CHANCE, MIXED
from jaxrank.data import splits
from jaxrank.evaluation import comparison, hits, selection, yardstick
from jaxrank.evaluation.comparison import Draws, Interval, Standings
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.hits import Hits
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.evaluation.yardstick import Competitor

# The references that experiments are compared with.
YARDSTICK, SHARPNESS = "yardstick", "sharpness"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Pooled accuracies of some entries, with their intervals.

    Attributes:
      names: of the entries.
      validation, test: of pairs with a direction.
      weighted_validation, weighted_test: of pairs weighted by |2 preference - 1|.
    """

    names: tuple[str, ...]
    validation: Interval
    test: Interval
    weighted_validation: Interval
    weighted_test: Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """Experiments and baselines compared.

    Attributes:
      entries: all that are compared; the last may be the mixed yardstick.
      apart: the control and what describes the table of pairs: measured, but not compared.
      by_test: the entries' standings on the test pairs.
      draws: that they rest on.
      is_candidate_X: see `Hits`.
      yardstick: the entry of the strongest baseline; chance where that is below one half.
      yardstick_label: what it is called in sentences.
      chosen: the selected experiment.
      selecting: hits of the pairs that it was selected by; see `selection.chosen_score`.
    """

    entries: Measured
    apart: Measured
    by_test: Standings
    draws: Draws
    is_candidate_X: np.ndarray
    yardstick: int
    yardstick_label: str
    chosen: selection.Chosen | None
    selecting: hits.Pooled

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
) -> Ranking:
    """Compares the experiments of these names with each other and with baselines.

    Args:
      results: of all trials.
      evaluator: that they were measured with.
      names: of the experiments, without the control.
      baselines: chance among them.
      parameters: of one model of each experiment; of equals the smaller one is selected.
    """
    folds = hits.trained_folds(results)
    strongest = yardstick.strongest(baselines, evaluator, folds)
    compared = {b.name: b.difference_FM for b in baselines if b.competes}
    label = strongest.label
    if label not in compared:
        compared[MIXED] = strongest.difference_FM
    validation, test = (
        hits.from_results(results, compared, evaluator, split, names)
        for split in (splits.VALIDATION, splits.TEST)
    )
    draws = comparison.resample(test)
    reference = test.names.index(label if label in compared else MIXED)
    if draws.mean_X[reference] < 0.5:
        label, reference = CHANCE, test.names.index(CHANCE)
    references = {YARDSTICK: reference, CHANCE: test.names.index(CHANCE)}
    if SHARPNESS in test.names:
        references[SHARPNESS] = test.names.index(SHARPNESS)
    sizes_X = np.array([parameters.get(name, 0) for name in test.names])
    control = sorted({r.trial.experiment.name for r in results} - set(names))
    described = {b.name: b.difference_FM for b in baselines if not b.competes}
    return Ranking(
        entries=_measured(results, compared, evaluator, names, (validation, test)),
        apart=_measured(results, described, evaluator, control),
        by_test=comparison.standings(
            draws, references, [x for x, name in enumerate(test.names) if name == MIXED]
        ),
        draws=draws,
        is_candidate_X=test.is_candidate_X,
        yardstick=reference,
        yardstick_label=label,
        chosen=selection.chosen_score(validation, test, sizes_X),
        selecting=hits.pooled(test if len(test.weight_FS) > 1 else validation),
    )


def _measured(
    results: Sequence[TrialResult],
    baselines: Mapping[str, np.ndarray],
    evaluator: Evaluator,
    names: Sequence[str],
    known: Sequence[Hits] = (),
) -> Measured:
    """Accuracies of some entries; `known` may hold their hits, validation's and those of test."""

    def of(split: int, by_votes: bool) -> Interval:
        entries = hits.from_results(results, baselines, evaluator, split, names, by_votes=by_votes)
        return comparison.intervals(entries)

    both = (splits.VALIDATION, splits.TEST)
    validation, test = (
        map(comparison.intervals, known) if known else (of(split, by_votes=False) for split in both)
    )
    weighted = [of(split, by_votes=True) for split in both]
    return Measured(
        names=(*names, *baselines),
        validation=validation,
        test=test,
        weighted_validation=weighted[0],
        weighted_test=weighted[1],
    )
