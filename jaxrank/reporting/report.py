"""Input and output types of report sections."""

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
      folder: folder of the search.
      results: results of all trials.
      evaluator: evaluator that measured the results.
      ranking: comparison of experiments and baselines.
      summary: the table `summary.csv`.
      data: hash of the data, see `dataset.content_hash`.
      can_use_folds: whether --folds could replace the search's one split.
      caveats: warnings that apply to every result.
      ceiling: metrics of the best possible scorer; None unless the data are simulated.
    """

    folder: Path
    results: list[TrialResult]
    evaluator: Evaluator
    ranking: Ranking
    summary: pd.DataFrame
    data: str
    can_use_folds: bool
    caveats: list[str]
    ceiling: dict[str, float] | None

    @property
    def chosen_results(self) -> list[TrialResult]:
        """Results of the selected experiment."""
        name = self.ranking.chosen_name
        return [result for result in self.results if result.trial.experiment.name == name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Contents of a report section, besides the files that the section has written itself.

    Attributes:
      notes: sentences for the screen, `leaderboard.txt` and `results.json`.
      tables: tables for `leaderboard.txt`, by title.
      facts: values for `results.json`, by name.
    """

    notes: list[str] = dataclasses.field(default_factory=list)
    tables: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
