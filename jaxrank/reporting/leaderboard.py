"""Section: who is better than whom, and how sure that is."""

from typing import Any

import numpy as np
import pandas as pd

from jaxrank.evaluation.leaderboard import SHARPNESS, Ranking
from jaxrank.reporting import figures, sentences
from jaxrank.reporting.report import Report, Section
from jaxrank.reporting.summary import INTERVAL_COLUMNS, TIED

LEADERBOARD_PNG = "leaderboard.png"
_TITLE = (
    "Accuracy of these trained models in percent, with 95% intervals; intervals of differences are "
    "wider, hold all at once, and hold the seed variance"
)


def section(report: Report) -> Section:
    ranking = report.ranking
    test, names = ranking.by_test, ranking.test.names
    figures.draw_leaderboard(
        report.folder / LEADERBOARD_PNG,
        names,
        ranking.by_validation,
        test,
        ranking.baseline,
        report.caveats,
    )
    notes = sentences.comparison_notes(
        names, test, ranking.test.is_candidate_X, ranking.baseline, ranking.chosen
    )
    notes += sentences.position_notes(names, test)
    return Section(notes=notes, tables={_TITLE: _table(ranking)})


def with_intervals(summary: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """The summary with its columns of intervals, of the test split where not said otherwise."""
    validation, test = ranking.by_validation, ranking.by_test
    values = [
        validation.ci_low,
        validation.ci_high,
        test.ci_low,
        test.ci_high,
        test.diff_to_baseline,
        test.diff_ci_low,
        test.diff_ci_high,
        test.bootstrap_rank1,
    ]
    columns = dict(zip(INTERVAL_COLUMNS, values, strict=True))
    columns[TIED] = pd.array(test.tied_for_best, dtype="boolean")
    table = pd.DataFrame(columns, index=list(ranking.test.names))
    known = table.reindex(summary["experiment_name"]).reset_index(drop=True)
    return summary.assign(**{column: known[column] for column in known})


def _table(ranking: Ranking) -> pd.DataFrame:
    """Entries by validation mean; in percent and points, as text."""
    names, validation, test = ranking.test.names, ranking.by_validation, ranking.by_test

    def interval(low_X: np.ndarray, high_X: np.ndarray) -> list[str]:
        return [
            "" if np.isnan([a, b]).any() else f"{100 * a:.1f} to {100 * b:.1f}"
            for a, b in zip(low_X, high_X, strict=True)
        ]

    def rounded(values_X: np.ndarray) -> list[str]:
        return ["" if np.isnan(value) else f"{100 * value:.1f}" for value in values_X]

    columns: dict[str, Any] = {
        "name": names,
        "val": rounded(validation.mean),
        "val 95%": interval(validation.ci_low, validation.ci_high),
        "test": rounded(test.mean),
        "test 95%": interval(test.ci_low, test.ci_high),
    }
    if ranking.baseline is not None:
        columns[f"to {SHARPNESS}"] = rounded(test.diff_to_baseline)
        columns[f"to {SHARPNESS}, interval"] = interval(test.diff_ci_low, test.diff_ci_high)
    columns |= {
        "to best": rounded(test.diff_to_best),
        "to best, interval": interval(test.best_ci_low, test.best_ci_high),
        "ranked first": rounded(test.bootstrap_rank1),
        "tied": np.where(test.tied_for_best, "tied", ""),
    }
    order = np.argsort(-np.nan_to_num(validation.mean), kind="stable")
    table = pd.DataFrame(columns).iloc[order]
    return table[np.isfinite(validation.mean[order])].reset_index(drop=True)
