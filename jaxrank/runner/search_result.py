"""The result of a search."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxrank.io import notebook


class SearchResult(NamedTuple):
    """Result of a search.

    Attributes:
      workdir: the folder with all files.
      summary, trials: the tables `summary.csv` and `trials.csv`.
      notes: conclusions from the tables, and how to read them.
      data_notes: sentences on the data and the plan.
      caveats: what a reader of any result must know, such as that the data are simulated.
      experiments: a dict of the hyperparameters of each experiment.
      nothing_to_do: whether the search was already finished, so nothing was trained or written.
    """

    workdir: Path
    summary: pd.DataFrame
    trials: pd.DataFrame
    notes: list[str]
    data_notes: list[str]
    caveats: list[str]
    experiments: list[dict[str, Any]]
    nothing_to_do: bool = False

    def _repr_html_(self) -> str:
        """HTML of the result for a notebook."""
        shares = {
            "val_accuracy": "val acc",
            "test_accuracy": "test acc",
            "test_ci_low": "95% from",
            "test_ci_high": "to",
            "train_accuracy": "train acc",
        }
        counts = {"num_seeds": "seeds", "num_folds": "folds"}
        texts = {"status": "status", "error": "error"}
        shown = {"experiment_name": "experiment"} | shares | counts | texts
        table = self.summary[list(shown)].rename(columns=shown)
        if not table["error"].any():
            table = table.drop(columns="error")
        return notebook.result_html(
            f"Search in {self.workdir}",
            caveats=self.caveats,
            table=table,
            shares=shares.values(),
            rest=".summary",
            notes=self.notes,
        )
