"""What sections of a report are made of, and what each returns."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.trial_results import TrialResult


class Report(NamedTuple):
    """A finished search.

    Attributes:
      folder: of the search.
      results: of all trials.
      evaluator: that they were measured with.
      ranking: experiments and baselines compared.
      summary: the table `summary.csv`.
      caveats: what a reader of any result must know.
      ceiling: for simulated data, the metrics of the best possible scorer.
    """

    folder: Path
    results: list[TrialResult]
    evaluator: Evaluator
    ranking: Ranking
    summary: pd.DataFrame
    caveats: list[str]
    ceiling: dict[str, float] | None

    @property
    def chosen_results(self) -> list[TrialResult]:
        """Of the selected experiment."""
        name = self.ranking.chosen_name
        return [result for result in self.results if result.trial.experiment.name == name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """What a section says; figures and tables of its own it has written.

    Attributes:
      notes: sentences, for the screen, `leaderboard.txt` and `results.json`.
      tables: by title, for `leaderboard.txt`.
      facts: by name, for `results.json`.
    """

    notes: list[str] = dataclasses.field(default_factory=list)
    tables: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
