"""Tables on the screen: the plan and the summary."""

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxrank.configs import default
from jaxrank.evaluation.evaluator import METRICS, Metric
from jaxrank.evaluation.trial_results import COMPLETED
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS, Experiment
from jaxrank.planning.cohort import Cohort
from jaxrank.reporting.summary import HEURISTIC, PARTIAL, percent

# What a plan shows of every experiment, and what its first table shows or the search itself says;
# any other hyperparameter is shown where it is not the default.
_PLAN_COLUMNS = ("learning_rate", "dropout", "weight_decay", "margin", "max_epochs", "patience")
_PLAN_ELSEWHERE = "name,blocks,mlp_hidden_dims,batch_size,loss,sampler,notes,init_from".split(",")


def print_summary(console: Console, summary: pd.DataFrame, caveats: Sequence[str]) -> None:
    title = "; ".join(caveats) or None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("experiment", no_wrap=True)
    shown = [metric for metric in METRICS if metric.title]
    titles = [metric.title for metric in shown]
    for header in ("val acc", "test acc", "train acc", *titles, "epoch", "parameters", "trials"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("blocks")
    table.add_column("note")
    for row in summary.astype(object).where(summary.notna(), None).to_dict("records"):
        trained = row["status"] in (COMPLETED, PARTIAL)
        note = row["error"] or row["notes"].removesuffix("; ".join(caveats)).removesuffix("; ")
        cells = [
            row["experiment_name"],
            *(percent(row[f"{split}_accuracy"]) for split in ("val", "test", "train")),
            *(_figure(metric, row[f"test_{metric.name}"]) for metric in shown),
            f"{row['best_epoch']:.1f}" if trained else "",
            f"{row['parameters']:,}" if trained else "",
            str(row["num_seeds"] * row["num_folds"]) if trained else "",
            row["blocks"] or "",
            note if row["status"] in (COMPLETED, HEURISTIC) else f"{row['status']}: {note}",
        ]
        table.add_row(*map(Text, cells))  # Text: a name may look like markup
    console.print(table)


def _figure(metric: Metric, value: float | None) -> str:
    if value is None:
        return ""
    return percent(value) if metric.is_share else f"{value:.2f}"


def print_plan(
    console: Console, cohorts: Sequence[Cohort], experiments: Sequence[Experiment]
) -> None:
    """The cohorts with their shapes, then each experiment's traced hyperparameters."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("experiments")
    for header in ("trials", "inputs", "hidden", "batch", "steps", "epochs at once", "memory",
                   "at most"):  # fmt: skip
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("loss, sampler, and why")
    for cohort in cohorts:
        names = dict.fromkeys(trial.experiment.name for trial in cohort.trials)
        table.add_row(
            Text(", ".join(names)),
            str(len(cohort.trials)),
            str(cohort.input_dim),
            ",".join(map(str, cohort.program_key.mlp_hidden_dims)) or "-",
            str(cohort.batch_size),
            str(cohort.num_batches),
            str(cohort.epochs_per_dispatch),
            f"{cohort.memory_bytes / 2**20:,.0f} MiB",
            f"{cohort.seconds:,.1f} s",
            Text(
                "; ".join(
                    [f"{cohort.program_key.loss}, {cohort.program_key.sampler}", *_why(cohort)]
                )
            ),
        )
    console.print(table)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("experiment")
    for key in _PLAN_COLUMNS:
        table.add_column(key, justify="right")
    table.add_column("and")
    for experiment in experiments:
        cells = [experiment.name, *(f"{getattr(experiment, key):g}" for key in _PLAN_COLUMNS)]
        table.add_row(*map(Text, [*cells, _unusual(experiment)]))
    console.print(table)


def _why(cohort: Cohort) -> list[str]:
    """What the planner has chosen for a cohort, and its reason."""
    if not cohort.padded:
        return []
    widths = ",".join(map(str, cohort.program_key.mlp_hidden_dims))
    return [f"{', '.join(cohort.padded)} padded to {widths}: cheaper than compiling apart"]


def _unusual(experiment: Experiment) -> str:
    """Hyperparameters without a column that are not as in configs/default.py."""
    usual = default.get_config()
    words = []
    for key in HYPERPARAMETERS:
        value = getattr(experiment, key)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        if key not in (*_PLAN_COLUMNS, *_PLAN_ELSEWHERE) and text != usual.get(key, ""):
            words.append(f"{key}={text}")
    return ", ".join(words)


def print_metrics(console: Console, metrics: pd.DataFrame) -> None:
    """What an evaluation measured; the rules on the first split only, which says the most."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("scorer", no_wrap=True)
    table.add_column("photos", no_wrap=True)
    shown = [metric for metric in METRICS if metric.title]
    titles = [metric.title for metric in shown]
    for header in ("pairs", "series", "accuracy", "std. error", *titles, "loss"):
        table.add_column(header, justify="right", no_wrap=True)
    first = metrics["split"].iloc[0]
    metrics = metrics[(metrics["split"] == first) | (metrics["scorer"] == "model")]
    for row in metrics.astype(object).where(metrics.notna(), None).to_dict("records"):
        cells = [
            row["scorer"],
            row["split"],
            f"{row['pairs']:,}",
            f"{row['series']:,}",
            percent(row["accuracy"]),
            percent(row["standard_error"]),
            *(_figure(metric, row[metric.name]) for metric in shown),
            "" if row["loss"] is None else f"{row['loss']:.3f}",
        ]
        table.add_row(*map(Text, cells))
    console.print(table)


def print_ranking(console: Console, ranking: pd.DataFrame) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("series", "image"):
        table.add_column(header)
    for header in ("score", "rank", "pick", "p_best"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in ranking.astype(object).where(ranking.notna(), None).to_dict("records"):
        ranked = row["rank"] is not None
        cells = [
            row["series_id"],
            row["image"],
            f"{row['score']:.3f}",
            str(row["rank"]) if ranked else "",
            "*" if row["pick"] else "",
            f"{row['p_best']:.3f}" if ranked else "",
        ]
        table.add_row(*map(Text, cells))
    console.print(table)
