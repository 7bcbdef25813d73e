"""What follows from a search: who is better than whom, how near people's own agreement the chosen
experiment comes, and where it errs. Tables, figures and sentences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxrank.evaluation import calibration, error_analysis, noise_ceiling
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.leaderboard import SHARPNESS, Ranking
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.io import atomic
from jaxrank.io.tables import write_frame
from jaxrank.reporting import figures, sentences
from jaxrank.reporting.summary import INTERVAL_COLUMNS, TIED

LEADERBOARD_TXT, LEADERBOARD_PNG = "leaderboard.txt", "leaderboard.png"
ERRORS_CSV, RELIABILITY_PNG = "errors.csv", "reliability.png"


def with_intervals(summary: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """The summary with its columns of intervals, of the test part where not said otherwise."""
    validation, test = ranking.by_validation, ranking.by_test
    values = [validation.ci_low, validation.ci_high, test.ci_low, test.ci_high, test.diff_to_rule,
              test.diff_ci_low, test.diff_ci_high, test.share_first]  # fmt: skip
    columns = dict(zip(INTERVAL_COLUMNS, values, strict=True))
    columns[TIED] = pd.array(test.tied_for_best, dtype="boolean")
    table = pd.DataFrame(columns, index=list(ranking.test.names))
    known = table.reindex(summary["experiment_name"]).reset_index(drop=True)
    return summary.assign(**{column: known[column] for column in known})


def write_conclusions(
    folder: Path,
    ranking: Ranking,
    results: Sequence[TrialResult],
    evaluator: Evaluator,
    caveats: Sequence[str],
) -> tuple[list[str], dict[str, Any]]:
    """Writes `leaderboard.txt`, `errors.csv` and two figures.

    Returns:
      Sentences for the end of the table, and all figures for `results.json`.
    """
    test = ranking.by_test
    lines = sentences.comparison_notes(
        ranking.test.names, test, ranking.test.is_candidate_X, ranking.rule, ranking.chosen
    )
    title = (
        "Accuracy of these trained models in percent, with 95% intervals; intervals of differences "
        "are wider, hold all at once, and hold the luck of training"
    )
    tables = {title: _table(ranking)}
    facts: dict[str, Any] = {
        "ceilings": noise_ceiling.ceilings_of_table(evaluator.dataset.table)._asdict(),
    }
    figures.draw_leaderboard(
        folder / LEADERBOARD_PNG,
        ranking.test.names,
        ranking.by_validation,
        test,
        ranking.rule,
        caveats,
    )
    if "votes" in evaluator.dataset.table:
        table = evaluator.dataset.table
        fewer = noise_ceiling.few_votes(
            table["preference"].to_numpy(np.float64), table["votes"].to_numpy(np.float64)
        )
        facts["few_votes"] = None if fewer is None else fewer._asdict()
    if ranking.chosen_name is not None:
        more, of_chosen, its_tables = _about_chosen(
            folder, ranking.chosen_name, results, evaluator, caveats
        )
        lines, facts, tables = lines + more, facts | of_chosen, tables | its_tables
    _write_text(folder / LEADERBOARD_TXT, caveats, lines, tables)
    return lines, facts


def _about_chosen(
    folder: Path,
    name: str,
    results: Sequence[TrialResult],
    evaluator: Evaluator,
    caveats: Sequence[str],
) -> tuple[list[str], dict[str, Any], dict[str, pd.DataFrame]]:
    """How near the chosen experiment comes to what is possible, and what it gets wrong."""
    dataset = evaluator.dataset
    preference_M = dataset.table["preference"].to_numpy(np.float64)
    mine = [result for result in results if result.trial.experiment.name == name]
    judged = calibration.judgements(mine, evaluator)
    strengths = noise_ceiling.by_strength(
        judged.difference_R, judged.pair_R, preference_M, dataset.series_M
    )
    measured = calibration.reliability_of(judged, evaluator)
    gain = calibration.ndcg_of(mine, evaluator)
    honest = [result for result in results if not result.trial.experiment.is_control]
    found = error_analysis.mistake_tables(name, honest, evaluator)
    title = "\n".join([f"{name}, test pairs", *caveats])
    figures.draw_reliability(folder / RELIABILITY_PNG, title, measured)
    write_frame(folder / ERRORS_CSV, found.errors)
    tables = {
        f"{name} on test pairs by strength of preference": strengths,
        f"{name} and what alone would have been right": found.blocks,
    }
    if len(found.categories):
        tables[f"{name} by category"] = found.categories
    facts = {
        "chosen": name,
        "by_strength": strengths.to_dict("records"),
        "reliability": _lists(measured._asdict()),
        "ndcg": gain._asdict(),
        "alone": found.blocks.to_dict("records"),
        "categories": found.categories.to_dict("records"),
    }
    return _words(name, strengths, measured), facts, tables


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def _words(name: str, strengths: pd.DataFrame, measured: calibration.Reliability) -> list[str]:
    """What `_about_chosen` has found, in sentences."""
    if not measured.num_pairs:
        return []
    rows = strengths.set_index("strength")
    everything = rows.loc[noise_ceiling.ALL]
    lines = [
        f"{name} agrees with {100 * everything['agreement']:.1f}% of single votes, where "
        f"{100 * everything['agreement_ceiling']:.1f}% is possible: "
        f"{100 * everything['way_to_ceiling']:.0f}% of the way from chance."
    ]
    if noise_ceiling.STRONG_PAIRS in rows.index:
        strong = rows.loc[noise_ceiling.STRONG_PAIRS]
        lines[0] += (
            f" On pairs with a majority of 70% and more it is right on "
            f"{100 * strong['accuracy']:.1f}%."
        )
    by_chance = measured.calibration_error_by_chance
    lines.append(
        f"As probabilities: log loss {measured.log_loss:.3f} (chance "
        f"{calibration.CHANCE_LOG_LOSS:.3f}, floor {measured.entropy:.3f}), calibration error "
        f"{100 * measured.calibration_error:.1f} points"
        + ("." if np.isnan(by_chance) else f" ({100 * by_chance:.1f} by chance).")
    )
    return lines


def _table(ranking: Ranking) -> pd.DataFrame:
    """Entries by validation mean; in percent and points, as text."""
    names, validation, test = ranking.test.names, ranking.by_validation, ranking.by_test

    def interval(low_X: np.ndarray, high_X: np.ndarray) -> list[str]:
        return [f"{100 * a:.1f} to {100 * b:.1f}" for a, b in zip(low_X, high_X, strict=True)]

    def rounded(values_X: np.ndarray) -> list[str]:
        return [f"{100 * value:.1f}" for value in values_X]

    columns: dict[str, Any] = {
        "name": names,
        "val": rounded(validation.mean),
        "val 95%": interval(validation.ci_low, validation.ci_high),
        "test": rounded(test.mean),
        "test 95%": interval(test.ci_low, test.ci_high),
    }
    if ranking.rule is not None:
        columns[f"to {SHARPNESS}"] = rounded(test.diff_to_rule)
        columns[f"to {SHARPNESS}, interval"] = interval(test.diff_ci_low, test.diff_ci_high)
    columns |= {
        "to best": rounded(test.diff_to_best),
        "to best, interval": interval(test.best_ci_low, test.best_ci_high),
        "ranked first": rounded(test.share_first),
        "tied": np.where(test.tied_for_best, "tied", ""),
    }
    order = np.argsort(-np.nan_to_num(validation.mean), kind="stable")
    table = pd.DataFrame(columns).iloc[order]
    return table[np.isfinite(validation.mean[order])].reset_index(drop=True)


def _write_text(
    path: Path,
    caveats: Sequence[str],
    lines: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
) -> None:
    parts = [*caveats, *([""] if caveats else []), *lines]
    for title, table in tables.items():
        shown = table.to_string(index=False, float_format=lambda value: f"{value:.3f}")
        parts += ["", title, "", shown]
    atomic.write_text(path, "\n".join(parts) + "\n")
