"""Section: comparisons of experiments and baselines, with confidence intervals."""

from typing import Any

import numpy as np
import pandas as pd

from jaxrank.baselines import CHANCE, POSITION
from jaxrank.evaluation import comparison
from jaxrank.evaluation.comparison import Differences
from jaxrank.evaluation.leaderboard import SHARPNESS, YARDSTICK, Measured, Ranking
from jaxrank.io.tables import write_frame
from jaxrank.reporting import figures
from jaxrank.reporting.comparison_notes import comparison_notes
from jaxrank.reporting.report import Report, Section
from jaxrank.reporting.summary import DROPPED_AT, INTERVAL_COLUMNS, SELECTED, TIED, by_validation
from jaxrank.reporting.table_notes import position_notes

LEADERBOARD_PNG, COMPARISONS_CSV = "leaderboard.png", "comparisons.csv"
# All pairwise comparisons are written for this many entries, the best by validation accuracy.
_MOST_IN_PAIRS = 100
_ACCURACIES = "Accuracy on new series in percent, with 95% intervals, of these trained models"
_WEIGHTED = "Test accuracy with pairs weighted by abs(2 preference - 1), in percent"
_DIFFERENCES = (
    "Differences of test accuracy to the strongest baseline and to chance, in points; their "
    "intervals (in brackets) are simultaneous for all experiments, with a nominal level of 97.5%"
)
_TO_BEST = (
    "Differences to the highest test accuracy, in points; the interval is of the difference to the "
    "truly best entry; share_first in percent"
)


def section(report: Report) -> Section:
    ranking = report.ranking
    figures.draw_leaderboard(
        report.folder / LEADERBOARD_PNG,
        ranking.names,
        ranking.entries.validation,
        ranking.by_test,
        ranking.yardstick,
        report.caveats,
    )
    write_frame(report.folder / COMPARISONS_CSV, comparisons(ranking))
    notes = comparison_notes(
        ranking.names,
        ranking.by_test,
        ranking.is_candidate_X,
        ranking.yardstick_label,
        ranking.chosen,
        can_use_folds=report.can_use_folds,
    )
    if POSITION in ranking.not_compared.names:
        place = ranking.not_compared.names.index(POSITION)
        notes += position_notes(*(bound[place] for bound in ranking.not_compared.test))
    facts = {"yardstick": ranking.yardstick_label, "selected": _selected(ranking)}
    return Section(notes=notes, tables=_tables(ranking), facts=facts)


def _selected(ranking: Ranking) -> dict[str, Any] | None:
    """Returns the selected experiment's accuracies, None where none was selected.

    `selecting` is its accuracy on the pairs that selected it, `test` its accuracy on the test
    pairs, and `expected` the latter corrected for selection bias.
    """
    chosen = ranking.chosen
    if chosen is None:
        return None
    return {
        "experiment": ranking.names[chosen.entry],
        "num_candidates": chosen.num_candidates,
        "selecting": float(ranking.selecting.accuracy_X[chosen.entry]),
        "test": chosen.raw,
        "expected": None if np.isnan(chosen.accuracy) else chosen.accuracy,
    }


def with_intervals(summary: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Returns the summary with pooled accuracies, intervals, differences and outcomes."""
    test = ranking.by_test
    entries, not_compared = _accuracies(ranking.entries), _accuracies(ranking.not_compared)
    for name, column, to in (
        (SHARPNESS, "diff", test.to.get(SHARPNESS)),
        (YARDSTICK, YARDSTICK, test.to[YARDSTICK]),
        (CHANCE, CHANCE, test.to[CHANCE]),
    ):
        if to is not None:
            entries[f"diff_to_{name}"] = to.difference
            entries[f"{column}_ci_low"], entries[f"{column}_ci_high"] = to.low, to.high
    entries["diff_to_best"] = test.to_best.difference
    entries["best_ci_low"], entries["best_ci_high"] = test.best_ci_low, test.best_ci_high
    entries["share_first"] = test.share_first
    entries[TIED] = pd.array(test.tied_for_best, dtype="boolean")
    known = (
        pd.concat([entries, not_compared])
        .reindex(summary["experiment_name"])
        .reset_index(drop=True)
    )
    known = known.reindex(columns=known.columns.union([*INTERVAL_COLUMNS, TIED]))
    summary = summary.assign(**{column: known[column] for column in known})
    summary["train_val_gap"] = summary["train_accuracy"] - summary["val_accuracy"]
    dropped_at = {name: ending.epoch for name, ending in ranking.endings.items()}
    summary[DROPPED_AT] = pd.array(
        [dropped_at.get(name) for name in summary["experiment_name"]], dtype="Int64"
    )
    ended = outcomes(ranking)
    summary["outcome"] = [
        error or ended.get(name, "")
        for name, error in zip(summary["experiment_name"], summary["error"].fillna(""), strict=True)
    ]
    return by_validation(summary)


def outcomes(ranking: Ranking) -> dict[str, str]:
    """Returns for each candidate whether it was selected, and if not, why.

    A candidate is "worse" if it is separated from the best entry (Hsu 1984). Points are the
    difference of test accuracy to the selected experiment.
    """
    if ranking.chosen is None:
        return {}
    test = ranking.by_test
    words = {name: str(ending) for name, ending in ranking.endings.items()}
    for x in np.flatnonzero(ranking.is_candidate_X):
        difference = 100 * (test.mean[x] - test.mean[ranking.chosen.entry])
        if x == ranking.chosen.entry:
            words[ranking.names[x]] = SELECTED
        elif np.isnan(difference):
            words[ranking.names[x]] = "incomplete"
        elif test.tied_for_best[x]:
            words[ranking.names[x]] = f"tied ({difference:+.1f} points)"
        else:
            words[ranking.names[x]] = f"worse ({difference:+.1f} points)"
    return words


def _accuracies(measured: Measured) -> pd.DataFrame:
    columns = {
        "val_accuracy": measured.validation.mean,
        "val_ci_low": measured.validation.low,
        "val_ci_high": measured.validation.high,
        "test_accuracy": measured.test.mean,
        "test_ci_low": measured.test.low,
        "test_ci_high": measured.test.high,
        "val_weighted_accuracy": measured.weighted_validation.mean,
        "test_weighted_accuracy": measured.weighted_test.mean,
        "test_weighted_ci_low": measured.weighted_test.low,
        "test_weighted_ci_high": measured.weighted_test.high,
    }
    return pd.DataFrame(columns, index=list(measured.names))


def comparisons(ranking: Ranking) -> pd.DataFrame:
    """Returns the rows of `comparisons.csv`: differences of test accuracy, by family."""
    names, test = ranking.names, ranking.by_test
    alive = np.flatnonzero(np.isfinite(test.mean))
    families = [(role, to, to.low, to.high) for role, to in test.to.items()]
    families.append(("best", test.to_best, test.best_ci_low, test.best_ci_high))
    rows: list[tuple[Any, ...]] = [
        (family, names[x], names[to.reference], to.difference[x], low_X[x], high_X[x])
        for family, to, low_X, high_X in families
        for x in alive
        if x != to.reference
    ]
    order = np.argsort(-np.nan_to_num(ranking.entries.validation.mean), kind="stable")
    rows += [
        ("all pairs", names[x], names[y], *interval)
        for x, y, *interval in comparison.all_pairs(ranking.draws, order[:_MOST_IN_PAIRS].tolist())
    ]
    columns = ["family", "name", "against", "difference", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def _tables(ranking: Ranking) -> dict[str, pd.DataFrame]:
    """Returns tables of the entries by validation accuracy, as text in percent and points."""
    validation, test = ranking.entries.validation, ranking.by_test

    def differences(title: str, to: Differences) -> dict[str, list[str]]:
        return {
            f"to {title}": _rounded(to.difference),
            f"({title})": _intervals(to.low, to.high),
        }

    weighted = ranking.entries.weighted_test
    accuracies = {
        "val": _rounded(validation.mean),
        "val 95%": _intervals(validation.low, validation.high),
        "test": _rounded(test.mean),
        "test 95%": _intervals(test.ci_low, test.ci_high),
    }
    by_votes = {
        "weighted": _rounded(weighted.mean),
        "weighted 95%": _intervals(weighted.low, weighted.high),
    }
    to_references = {
        **differences(YARDSTICK, test.to[YARDSTICK]),
        **differences(CHANCE, test.to[CHANCE]),
    }
    to_best = {
        "to best": _rounded(test.to_best.difference),
        "(best)": _intervals(test.best_ci_low, test.best_ci_high),
        "share_first": _rounded(test.share_first),
        "tied": np.where(test.tied_for_best, "tied", ""),
    }
    order = np.argsort(-np.nan_to_num(validation.mean), kind="stable")
    order = order[np.isfinite(validation.mean[order])]
    names = {"name": ranking.names}
    return {
        title: pd.DataFrame(names | columns).iloc[order]
        for title, columns in (
            (_ACCURACIES, accuracies),
            (_WEIGHTED, by_votes),
            (_DIFFERENCES, to_references),
            (_TO_BEST, to_best),
        )
    }


def _intervals(low_X: np.ndarray, high_X: np.ndarray) -> list[str]:
    return [
        "" if np.isnan([a, b]).any() else f"{100 * a:.1f} to {100 * b:.1f}"
        for a, b in zip(low_X, high_X, strict=True)
    ]


def _rounded(values_X: np.ndarray) -> list[str]:
    return ["" if np.isnan(value) else f"{100 * value:.1f}" for value in values_X]
