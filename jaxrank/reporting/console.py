"""Terminal tables: the plan, the summary, metrics and rankings."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from jaxrank.baselines import POSITION
from jaxrank.configs import REFERENCES, default
from jaxrank.evaluation.evaluator import METRICS, Metric
from jaxrank.evaluation.trial_results import COMPLETED
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS, Experiment
from jaxrank.planning.cohort import Cohort
from jaxrank.reporting.fitted_table import Column, print_fitted, show_lines
from jaxrank.reporting.summary import (
    BASELINE,
    DROPPED_AT,
    ENSEMBLE,
    PARTIAL,
    SELECTED,
    SKIPPED,
    SUMMARY_CSV,
    listed,
    percent,
)

# Number of photos shown without --all.
_FIRST_PHOTOS = 12
# Hyperparameters with a column in the plan's second table, and hyperparameters shown elsewhere. Any
# other hyperparameter is shown where it differs from the default.
_PLAN_COLUMNS = ("learning_rate", "dropout", "weight_decay", "margin", "max_epochs", "patience")
_PLAN_ELSEWHERE = "name,blocks,mlp_hidden_dims,batch_size,loss,sampler,notes,init_from".split(",")
# Hyperparameters that have a column of their own in a summary, or that are not tuned.
_NOT_COMPARED = ("name", "notes", "blocks", "seed", "init_from")
# End of the name of an ensemble, see `ensembles.ensemble_results`.
_OF_SEEDS = re.compile(r" \(mean of \d+ seeds\)$")
_BASELINE_NOTE = "baseline; described in summary.csv"
_POSITION_NOTE = "baseline 'the first photo wins': describes the table of pairs; not compared"
_SHOWN_METRICS = [metric for metric in METRICS if metric.title]


def print_summary(
    console: Console,
    summary: pd.DataFrame,
    experiments: Sequence[Mapping[str, Any]],
    caveats: Sequence[str],
    top: int,
) -> None:
    """Prints the best experiments with their ensembles, and all baselines.

    Columns that do not fit are omitted in this order: blocks, train accuracy, epoch, parameters,
    trials, the metrics of whole series from last to first, the hyperparameters, of which those with
    most values stay longest.

    Args:
      console: console to print to.
      summary: the table `summary.csv`.
      experiments: hyperparameters of each experiment; those that differ become columns.
      caveats: warnings that apply to every number, printed first.
      top: number of experiments to print.
    """
    is_experiment = ~summary["status"].isin((BASELINE, ENSEMBLE))
    names = summary["experiment_name"].map(_without_seeds)
    stays = is_experiment & ((is_experiment.cumsum() <= top) | (summary["outcome"] == SELECTED))
    hidden = summary[(summary["status"] != BASELINE) & ~names.isin(set(names[stays]))]
    shown = summary.drop(index=hidden.index)
    rows = shown.astype(object).where(shown.notna(), None).to_dict("records")
    footnotes: dict[str, int] = {}
    marks = [
        f"{SELECTED * (row['outcome'] == SELECTED)} {_mark(footnotes, _note(row, caveats))}".strip()
        for row in rows
    ]
    show_lines(console, *caveats)
    print_fitted(console, _summary_columns(rows, experiments, marks), SUMMARY_CSV)
    show_lines(console, *(f"[{number}] {text}" for text, number in footnotes.items()), "")
    if len(hidden):
        hidden = hidden[is_experiment[hidden.index]]
        show_lines(console, _hidden_line(hidden, int(is_experiment.sum()), top))


def _summary_columns(
    rows: Sequence[Mapping[str, Any]], experiments: Sequence[Mapping[str, Any]], marks: list[str]
) -> list[Column]:
    def of_trained(text: Callable[[Mapping[str, Any]], str]) -> list[str]:
        return [text(row) if row["status"] in (COMPLETED, PARTIAL) else "" for row in rows]

    return [
        Column("experiment", [row["experiment_name"] for row in rows], "left"),
        Column("val acc", [percent(row["val_accuracy"]) for row in rows]),
        Column("test acc", [percent(row["test_accuracy"]) for row in rows]),
        *(Column(name, cells, drop=1) for name, cells in _differing(rows, experiments).items()),
        *(
            Column(
                metric.title, [_figure(metric, row[f"test_{metric.name}"]) for row in rows], drop=2
            )
            for metric in _SHOWN_METRICS
        ),
        Column("trials", of_trained(lambda r: str(r["num_seeds"] * r["num_folds"])), drop=3),
        Column("parameters", of_trained(lambda r: f"{r['parameters']:,}"), drop=4),
        Column("epoch", of_trained(lambda r: f"{r['best_epoch']:.1f}"), drop=5),
        Column("train acc", [percent(row["train_accuracy"]) for row in rows], drop=6),
        Column("blocks", [row["blocks"] or "" for row in rows], "left", drop=7),
        Column("note", marks, "left"),
    ]


def _differing(
    rows: Sequence[Mapping[str, Any]], experiments: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Returns each hyperparameter in which the rows' experiments differ, with its value by row.

    Those with most values come first, of equally many the narrowest. Rows of skipped experiments
    are empty: nothing was trained with their values.
    """
    by_name = {e["name"]: e for e in experiments if e["name"] not in REFERENCES}
    chosen = [
        None if row["status"] == SKIPPED else by_name.get(_without_seeds(row["experiment_name"]))
        for row in rows
    ]
    differing, order = {}, {}
    for key in HYPERPARAMETERS:
        texts = ["" if e is None else _value(e.get(key)) for e in chosen]
        known = {text for text, e in zip(texts, chosen, strict=True) if e is not None}
        if key not in _NOT_COMPARED and len(known) > 1:
            differing[key], order[key] = texts, (-len(known), max(map(len, [key, *known])))
    return {key: differing[key] for key in sorted(differing, key=order.__getitem__)}


def _without_seeds(name: str) -> str:
    """The name of an ensemble's experiment; any other name unchanged."""
    return _OF_SEEDS.sub("", name)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _note(row: Mapping[str, Any], caveats: Sequence[str]) -> str:
    if row["status"] == BASELINE:
        return _POSITION_NOTE if row["experiment_name"] == POSITION else _BASELINE_NOTE
    if row["status"] == ENSEMBLE:
        return str(row["notes"]).partition(";")[0]
    if row.get(DROPPED_AT) is not None:
        return str(row["outcome"])
    note = row["error"] or row["notes"].removesuffix("; ".join(caveats)).removesuffix("; ")
    return str(note) if row["status"] == COMPLETED else f"{row['status']}: {note}"


def _mark(footnotes: dict[str, int], note: str) -> str:
    """Returns the mark of a note's footnote; rows with the same note share a footnote."""
    return f"[{footnotes.setdefault(note, len(footnotes) + 1)}]" if note else ""


def _hidden_line(hidden: pd.DataFrame, num_experiments: int, top: int) -> str:
    counts = hidden.loc[hidden["status"] != COMPLETED, "status"].value_counts()
    others = "".join(f", {count:,} {status}" for status, count in counts.items())
    return (
        f"The best {top:,} of {num_experiments:,} experiments by validation accuracy; the others "
        f"({len(hidden):,}{others}) are in {SUMMARY_CSV}, and --top={num_experiments} shows all."
    )


def _figure(metric: Metric, value: float | None) -> str:
    if value is None:
        return ""
    return percent(value) if metric.is_share else f"{value:.2f}"


def print_plan(
    console: Console,
    cohorts: Sequence[Cohort],
    experiments: Sequence[Experiment],
    top: int,
) -> None:
    """Prints the cohorts with their shapes, then each experiment's traced hyperparameters."""
    # The footnotes below the table explain the planner's choices for a cohort.
    whys = [_why(cohort) for cohort in cohorts]
    footnotes: dict[str, int] = {}
    keys = [cohort.program_key for cohort in cohorts]
    columns = [
        Column("experiments", [cohort.label for cohort in cohorts], "left"),
        Column("trials", [f"{len(cohort.trials):,}" for cohort in cohorts]),
        Column("inputs", [str(cohort.input_dim) for cohort in cohorts], drop=3),
        Column("hidden", [_value(key.mlp_hidden_dims) for key in keys]),
        Column("batch", [str(cohort.batch_size) for cohort in cohorts]),
        Column("steps", [str(cohort.num_batches) for cohort in cohorts], drop=2),
        Column("epochs at once", [str(c.epochs_per_dispatch) for c in cohorts], drop=4),
        Column("memory", [f"{cohort.memory_bytes / 2**20:,.0f} MiB" for cohort in cohorts]),
        Column("at most", [f"{cohort.seconds:,.1f} s" for cohort in cohorts]),
        Column("loss", [key.loss for key in keys], "left", drop=1),
        Column("sampler", [key.sampler for key in keys], "left", drop=1),
        Column("note", [_mark(footnotes, why) for why in whys], "left"),
    ]
    print_fitted(console, columns, "plan.json")
    show_lines(console, *(f"[{number}] {text}" for text, number in footnotes.items()), "")
    shown = experiments[:top]
    columns = [
        Column("experiment", [experiment.name for experiment in shown], "left"),
        *(Column(key, [f"{getattr(e, key):g}" for e in shown], drop=1) for key in _PLAN_COLUMNS),
        Column("and", [_unusual(experiment) for experiment in shown], "left"),
    ]
    print_fitted(console, columns, "config.json")
    if len(experiments) > top:
        show_lines(console, f"The first {top:,} of {len(experiments):,} experiments.")


def _why(cohort: Cohort) -> str:
    reasons = []
    if cohort.padded:
        widths = ",".join(map(str, cohort.program_key.mlp_hidden_dims))
        reasons.append(f"{listed(cohort.padded)} padded to {widths}: cheaper than compiling apart")
    if cohort.ends is not None:
        reasons.append(f"up to the rung at epoch {cohort.ends}; further cohorts are planned there")
    return "; ".join(reasons)


def _unusual(experiment: Experiment) -> str:
    """Lists hyperparameters that have no column and differ from configs/default.py."""
    usual = default.get_config()
    words = []
    for key in HYPERPARAMETERS:
        value = getattr(experiment, key)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        if key not in (*_PLAN_COLUMNS, *_PLAN_ELSEWHERE) and text != usual.get(key, ""):
            words.append(f"{key}={text}")
    return ", ".join(words)


def print_metrics(console: Console, metrics: pd.DataFrame) -> None:
    """Prints the metrics of an evaluation.

    Baselines are shown on the first split only, the photos that the model has seen least: that
    split is the most informative.
    """
    first = metrics["split"].iloc[0]
    named = metrics["scorer"] == metrics["scorer"].iloc[0]
    metrics = metrics[(metrics["split"] == first) | named]
    rows = metrics.astype(object).where(metrics.notna(), None).to_dict("records")
    columns = [
        Column("scorer", [row["scorer"] for row in rows], "left"),
        Column("photos", [row["split"] for row in rows], "left"),
        Column("pairs", [f"{row['pairs']:,}" for row in rows]),
        Column("series", [f"{row['series']:,}" for row in rows], drop=2),
        Column("accuracy", [percent(row["accuracy"]) for row in rows]),
        Column("std. error", [percent(row["standard_error"]) for row in rows]),
        *(
            Column(metric.title, [_figure(metric, row[metric.name]) for row in rows], drop=1)
            for metric in _SHOWN_METRICS
        ),
        Column(
            "loss",
            ["" if row["loss"] is None else f"{row['loss']:.3f}" for row in rows],
            drop=3,
        ),
    ]
    print_fitted(console, columns, "metrics.json")


def print_ranking(console: Console, ranking: pd.DataFrame, *, everything: bool) -> None:
    """Prints the first series, or all series; the score is the first column to be omitted."""
    shown = ranking if everything else ranking.head(_num_first_photos(ranking))
    rows = shown.astype(object).where(shown.notna(), None).to_dict("records")
    ranked = [row["rank"] is not None for row in rows]
    columns = [
        Column("series", [row["series_id"] for row in rows], "left"),
        Column("image", [row["image"] for row in rows], "left"),
        Column("score", [f"{row['score']:.3f}" for row in rows], drop=2),
        Column(
            "rank",
            [str(row["rank"]) if r else "" for row, r in zip(rows, ranked, strict=True)],
            drop=1,
        ),
        Column("pick", ["*" if row["pick"] else "" for row in rows]),
        Column(
            "p_best",
            ["" if row["p_best"] is None else f"{row['p_best']:.2f}" for row in rows],
        ),
        Column("keep", ["*" if row["keep"] else "" for row in rows]),
    ]
    print_fitted(console, columns, "rankings.csv")
    photos, series = len(ranking) - len(shown), _num_series(ranking) - _num_series(shown)
    if photos:
        of = f" of {series:,} more series" if series else ""
        show_lines(console, f"{photos:,} more photos{of}: --all shows them")


def _num_first_photos(ranking: pd.DataFrame) -> int:
    """Returns how many rows to show: _FIRST_PHOTOS, extended to the end of the last series."""
    ids = ranking["series_id"].to_numpy()
    end = min(_FIRST_PHOTOS, len(ids))
    if end and ids[end - 1] == "":  # photos outside a series may be cut anywhere
        return end
    same = [place for place in range(end, len(ids)) if ids[place] != ids[place - 1]]
    whole = same[0] if same else len(ids)
    return whole if whole <= 2 * _FIRST_PHOTOS else end  # a long series is cut


def _num_series(ranking: pd.DataFrame) -> int:
    return int(ranking.loc[ranking["series_id"] != "", "series_id"].nunique())
