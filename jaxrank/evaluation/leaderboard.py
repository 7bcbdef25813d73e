"""Experiments and baselines compared on validation and test pairs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxrank.baselines import Baseline
from jaxrank.data import splits
from jaxrank.evaluation import comparison, selection
from jaxrank.evaluation.comparison import Hits, Standings
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.trial_results import TrialResult

# The heuristic baseline that every experiment is compared with, where the store has it.
SHARPNESS = "sharpness"


class Ranking(NamedTuple):
    """Experiments and heuristics compared on both splits."""

    validation: Hits
    test: Hits
    by_validation: Standings
    by_test: Standings
    baseline: int | None
    chosen: selection.Chosen | None

    @property
    def chosen_name(self) -> str | None:
        return None if self.chosen is None else self.test.names[self.chosen.entry]


def rank(
    results: Sequence[TrialResult],
    evaluator: Evaluator,
    names: Sequence[str],
    baselines: Mapping[str, Baseline],
) -> Ranking:
    """Compares the experiments of these names, and the baselines, fitted in the folds that were
    trained."""
    num_folds = len({result.trial.fold for result in results})
    heuristics = {
        name: baseline.differences(evaluator.dataset.pair_rows_M2, num_folds)
        for name, baseline in baselines.items()
    }
    validation, test = (
        comparison.from_results(results, heuristics, evaluator, split, names)
        for split in (splits.VALIDATION, splits.TEST)
    )
    baseline = test.names.index(SHARPNESS) if SHARPNESS in heuristics else None
    by_validation, by_test = (
        comparison.standings(
            hits.hits_XFKS, hits.weight_FS, is_baseline_X=hits.is_baseline_X, baseline=baseline
        )
        for hits in (validation, test)
    )
    return Ranking(
        validation, test, by_validation, by_test, baseline, selection.chosen_score(validation, test)
    )
