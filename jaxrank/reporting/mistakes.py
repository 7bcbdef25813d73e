"""Section: error analysis of the selected experiment."""

from jaxrank.evaluation import error_analysis
from jaxrank.io.tables import write_frame
from jaxrank.reporting.report import Report, Section

ERRORS_CSV = "errors.csv"


def section(report: Report) -> Section:
    name = report.ranking.chosen_name
    if name is None:
        return Section()
    honest = [result for result in report.results if not result.trial.experiment.is_control]
    found = error_analysis.mistake_tables(name, honest, report.evaluator)
    write_frame(report.folder / ERRORS_CSV, found.errors)
    title = (
        f"Single blocks and heuristics beside the selected {name}: share of its wrong pairs that "
        "they get right (rescued), and of its right pairs that they get wrong (spoilt)"
    )
    tables = {title: found.blocks}
    if len(found.categories):
        tables[f"{name} by category"] = found.categories
    facts = {
        "alone": found.blocks.to_dict("records"),
        "categories": found.categories.to_dict("records"),
    }
    return Section(tables=tables, facts=facts)
