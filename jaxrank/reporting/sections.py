"""Registry of report sections, and the page `leaderboard.txt` made from them."""

from collections.abc import Callable

from jaxrank.io import atomic
from jaxrank.io.printable import printable
from jaxrank.reporting import (
    agreement,
    best_config,
    hyperparameter_effects,
    leaderboard,
    mistakes,
)
from jaxrank.reporting.report import Report, Section
from jaxrank.reporting.table_notes import table_notes

LEADERBOARD_TXT = "leaderboard.txt"
# Headers of the page for columns of the facts; shares are shown in percent. See docs/results.md.
_HEADERS = {
    "pairs_with_direction": "directed",
    "accuracy": "acc %",
    "accuracy_error": "s.e.",
    "agreement": "agree %",
    "agreement_ceiling": "ceiling %",
    "way_to_ceiling": "possible %",
    "accuracy_of_experiment": "selected %",
    "right_where_wrong": "rescued %",
    "wrong_where_right": "spoilt %",
}


def _reading_notes(report: Report) -> Section:
    dropped = report.ranking.endings
    results = [r for r in report.results if r.trial.experiment.name not in dropped]
    notes = table_notes(report.summary, results, report.evaluator, report.ceiling)
    return Section(notes=notes)


# To add a section, add its function here: the screen, the page and the JSON file include it.
SECTIONS: tuple[Callable[[Report], Section], ...] = (
    leaderboard.section,
    hyperparameter_effects.section,
    best_config.section,
    agreement.section,
    mistakes.section,
    _reading_notes,
)


def write_sections(report: Report) -> Section:
    """Writes `leaderboard.txt` and the files of each section; returns the merged sections."""
    whole = Section()
    for make in SECTIONS:
        section = make(report)
        whole = Section(
            notes=whole.notes + section.notes,
            tables=whole.tables | section.tables,
            facts=whole.facts | section.facts,
        )
    lines = [*report.caveats, *([""] if report.caveats else []), *whole.notes]
    for title, table in whole.tables.items():
        shown = table.rename(columns=_HEADERS).to_string(
            index=False, na_rep="", float_format=lambda share: f"{100 * share:.1f}"
        )
        lines += ["", title, "", shown]
    atomic.write_text(report.folder / LEADERBOARD_TXT, printable("\n".join(lines) + "\n"))
    return whole
