"""Section: accuracy and calibration of the selected experiment against the noise ceiling."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxrank.data.dataset import vote_numbers
from jaxrank.evaluation import calibration, ndcg, noise_ceiling, reliability
from jaxrank.reporting import figures
from jaxrank.reporting.report import Report, Section

RELIABILITY_PNG = "reliability.png"
_NO_SHARES = (
    "No ceiling: every preference is 0, 1 or a tie, so it is not known how often people disagree."
)
_UNANIMOUS = (
    "No ceiling: every preference is 0, 1 or a tie, although pairs have several votes. Either all "
    "votes agreed, or shares were rounded, or pairs were left out."
)


def section(report: Report) -> Section:
    dataset, name = report.evaluator.dataset, report.ranking.chosen_name
    facts = _ceilings(dataset.table)
    if name is None:
        return Section(facts=facts)
    judged = reliability.judgements(report.chosen_results, report.evaluator)
    preference_M = dataset.table["preference"].to_numpy(np.float64)
    strengths = noise_ceiling.by_strength(
        judged.difference_R, judged.pair_R, preference_M, dataset.series_M
    )
    measured = reliability.reliability_of(judged, report.evaluator)
    gain = ndcg.ndcg_of(report.chosen_results, report.evaluator)
    title = "\n".join([f"{name}, test pairs", *report.caveats])
    figures.draw_reliability(report.folder / RELIABILITY_PNG, title, measured)
    facts |= {
        "chosen": name,
        "by_strength": strengths.to_dict("records"),
        "reliability": _lists(measured._asdict()),
        "ndcg": gain._asdict(),
    }
    if noise_ceiling.without_shares(preference_M):
        votes_M = vote_numbers(dataset.table)
        several = votes_M is not None and bool((votes_M > 1).any())
        notes = _notes(name, None, measured, _UNANIMOUS if several else _NO_SHARES)
        return Section(notes=notes, facts=facts)
    tables = {f"{name} on test pairs by strength of preference": strengths}
    return Section(notes=_notes(name, strengths, measured), tables=tables, facts=facts)


def with_probability_note(summary: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the summary with a note on the selected experiment if it is worse than chance.

    The note is added where the log loss of the experiment's probabilities exceeds that of chance.

    Args:
      summary: the table `summary.csv`.
      facts: the facts that `section` returned.
    """
    log_loss = facts.get("reliability", {}).get("log_loss", np.nan)
    if not log_loss > calibration.CHANCE_LOG_LOSS:
        return summary
    note = (
        f"probabilities worse than chance (log loss {log_loss:.3f}, chance "
        f"{calibration.CHANCE_LOG_LOSS:.3f})"
    )
    mine = summary["experiment_name"] == facts["chosen"]
    noted = ["; ".join(filter(None, [text, note])) for text in summary.loc[mine, "notes"]]
    return summary.assign(notes=summary["notes"].mask(mine, pd.Series(noted, summary.index[mine])))


def _ceilings(table: pd.DataFrame) -> dict[str, Any]:
    facts: dict[str, Any] = {"ceilings": noise_ceiling.ceilings_of_table(table)._asdict()}
    votes_M = vote_numbers(table)
    if votes_M is not None:
        fewer = noise_ceiling.few_votes(table["preference"].to_numpy(np.float64), votes_M)
        facts["few_votes"] = None if fewer is None else fewer._asdict()
    return facts


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def _notes(
    name: str,
    strengths: pd.DataFrame | None,
    measured: reliability.Reliability,
    without_shares: str = _NO_SHARES,
) -> list[str]:
    """Notes on agreement and probabilities; `strengths` is None if preferences have no shares.

    Then `without_shares` says why there is no ceiling.
    """
    if not measured.num_pairs:
        return []
    lines = [without_shares] if strengths is None else [_about_agreement(name, strengths)]
    if not np.isfinite([measured.log_loss, measured.entropy, measured.calibration_error]).all():
        return lines
    by_chance = measured.calibration_error_by_chance
    worse = "worse than " if measured.log_loss > calibration.CHANCE_LOG_LOSS else ""
    floor = "" if strengths is None else f", floor {measured.entropy:.3f}"
    lines.append(
        f"As probabilities: log loss {measured.log_loss:.3f} ({worse}chance "
        f"{calibration.CHANCE_LOG_LOSS:.3f}{floor}), calibration error "
        f"{100 * measured.calibration_error:.1f} points"
        + ("." if np.isnan(by_chance) else f" ({100 * by_chance:.1f} by chance).")
    )
    return lines


def _about_agreement(name: str, strengths: pd.DataFrame) -> str:
    rows = strengths.set_index("strength")
    everything = rows.loc[noise_ceiling.ALL]
    way = everything["way_to_ceiling"]  # NaN where the ceiling is chance
    line = (
        f"{name} agrees with {100 * everything['agreement']:.1f}% of single votes, where "
        f"{100 * everything['agreement_ceiling']:.1f}% is possible"
        + ("." if np.isnan(way) else f": {100 * way:.0f}% of the possible improvement over chance.")
    )
    if noise_ceiling.STRONG_PAIRS not in rows.index:
        return line
    strong = rows.loc[noise_ceiling.STRONG_PAIRS]
    if not np.isfinite(strong["accuracy"]):
        return line
    return (
        f"{line} On pairs with a majority of 70% and more it is right on "
        f"{100 * strong['accuracy']:.1f}%."
    )
