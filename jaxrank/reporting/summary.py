"""Tables of a search: the summary, with a row per experiment and baseline, and the trials."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxrank.configs import REFERENCES
from jaxrank.errors import UserError
from jaxrank.evaluation.evaluator import METRICS
from jaxrank.evaluation.trial_results import COMPLETED, FAILED, TrialResult
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS, Experiment
from jaxrank.io.documents import read_json

# Columns added by `leaderboard.with_intervals`: shares and differences, then the tie for best.
INTERVAL_COLUMNS = (
    "val_ci_low,val_ci_high,test_ci_low,test_ci_high,diff_to_sharpness,diff_ci_low,diff_ci_high,"
    "share_first,test_weighted_ci_low,test_weighted_ci_high,diff_to_baseline,baseline_ci_low,"
    "baseline_ci_high,diff_to_chance,chance_ci_low,chance_ci_high,diff_to_best,best_ci_low,"
    "best_ci_high"
).split(",")
TIED = "tied_for_best"
# Epoch of the rung that dropped the experiment.
DROPPED_AT = "dropped_at_epoch"
# The `outcome` of the selected experiment.
SELECTED = "selected"
# Ordered by split, not by metric as in trials.csv. Columns of newer metrics follow these.
_KNOWN_FIRST = (
    "train_accuracy,val_accuracy,val_loss,test_accuracy,test_loss,val_top1_hit,test_top1_hit,"
    "val_kendall_tau,test_kendall_tau"
).split(",")
_METRIC_COLUMNS = [column for metric in METRICS for column in metric.columns]
_SUMMARY_METRICS = _KNOWN_FIRST + [
    column for column in _METRIC_COLUMNS if column not in (*_KNOWN_FIRST, "train_loss")
]
SUMMARY_COLUMNS = [
    *"experiment_name,status,error,mlp_hidden_dims,batch_size,learning_rate,dropout,blocks".split(
        ","
    ),
    *"num_seeds,num_folds,epochs_run,best_epoch".split(","),
    *_SUMMARY_METRICS,
    *"train_val_gap,parameters,duration_seconds".split(","),
    *INTERVAL_COLUMNS,
    TIED,
    "notes",
    # Whether the experiment was selected, and if not, why.
    "outcome",
    DROPPED_AT,
]
TRIAL_COLUMNS = [
    *"experiment_name,fold,seed,status,error,epochs_run,best_epoch".split(","),
    *_METRIC_COLUMNS,
    *"duration_seconds,trial_id".split(","),
]
# Columns that are means over an experiment's completed trials.
_MEANS = ["epochs_run", "best_epoch", *_SUMMARY_METRICS, "duration_seconds"]
# Values of `status` besides COMPLETED and FAILED. PARTIAL: some trials failed.
PARTIAL, SKIPPED, BASELINE = "partial", "skipped", "baseline"
# Value of `status` for the mean of several seeds' scores.
ENSEMBLE = "ensemble"
TRIALS_CSV, SUMMARY_CSV, RESULTS_JSON = "trials.csv", "summary.csv", "results.json"


def summarise(
    experiments: Sequence[Experiment],
    skipped: Mapping[str, str],
    trials: pd.DataFrame,
    parameters: Mapping[str, int],
    baselines: Mapping[str, Mapping[str, Any]],
    caveats: Sequence[str],
    ensembles: Sequence[TrialResult] = (),
) -> pd.DataFrame:
    """Returns one row per experiment, ensemble and baseline, sorted by validation accuracy.

    The order never depends on test accuracy.

    Args:
      experiments: all experiments of the launch, in order.
      skipped: reason why an experiment was not trained, by experiment.
      trials: the rows of `trials.csv`.
      parameters: number of parameters, by experiment.
      baselines: metrics and `notes`, by baseline.
      caveats: caveats that are appended to the notes of every row.
      ensembles: one result per fold, from `ensembles.ensemble_results`.
    """
    more = _differing(experiments)
    rows: list[dict[str, Any]] = []
    for e in experiments:
        mine = trials[trials["experiment_name"] == e.name]
        done = mine[mine["status"] == COMPLETED]
        row: dict[str, Any] = {
            "experiment_name": e.name,
            "status": COMPLETED if len(done) else FAILED,
            "error": "",
            "mlp_hidden_dims": e.hidden_dims_text,
            "batch_size": e.batch_size,
            "learning_rate": e.learning_rate,
            "dropout": e.dropout,
            "blocks": ",".join(e.blocks),
            "num_seeds": mine["seed"].nunique(),
            "num_folds": mine["fold"].nunique(),
            "parameters": parameters.get(e.name),
            "notes": e.notes,
        } | {key: _plain(getattr(e, key)) for key in more}
        if e.name in skipped:
            row |= {"status": SKIPPED, "error": skipped[e.name]}
        elif len(done) < len(mine):
            reason = mine.loc[mine["status"] == FAILED, "error"].iloc[0]
            row["error"] = f"{len(mine) - len(done)} of {len(mine)} trials failed: {reason}"
            row["status"] = PARTIAL if len(done) else FAILED
        if len(done):
            row |= done[_MEANS].mean().to_dict()
        rows.append(row)
        ensemble = [r for r in ensembles if r.ensemble_of == e.name]
        rows += _ensemble_rows(row, ensemble, done["seed"].nunique())
    for name, metrics in baselines.items():
        rows.append({"experiment_name": name, "status": BASELINE} | dict(metrics))
    summary = pd.DataFrame(rows)
    summary["notes"] = ["; ".join(filter(None, [n, *caveats])) for n in summary["notes"]]
    summary["train_val_gap"] = summary["train_accuracy"] - summary["val_accuracy"]
    return by_validation(_typed(summary.reindex(columns=[*SUMMARY_COLUMNS, *more])))


def _differing(experiments: Sequence[Experiment]) -> list[str]:
    """Lists hyperparameters that have no column and differ among experiments.

    The references are not counted among the experiments.
    """
    asked = [e for e in experiments if e.name not in REFERENCES]
    return [
        key
        for key in HYPERPARAMETERS
        if key not in (*SUMMARY_COLUMNS, "name", "init_from", "seed")
        and len({getattr(e, key) for e in asked}) > 1
    ]


def _plain(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def by_validation(summary: pd.DataFrame) -> pd.DataFrame:
    """Sorts the rows from the highest validation accuracy to the lowest."""
    return summary.sort_values(
        "val_accuracy", ascending=False, na_position="last", kind="stable", ignore_index=True
    )


def _ensemble_rows(
    row: Mapping[str, Any], results: Sequence[TrialResult], num_seeds: int
) -> list[dict[str, Any]]:
    """Returns the row of an experiment's seed ensemble, or no row if there is none.

    Args:
      row: the experiment's row; the ensemble's row has the same hyperparameters.
      results: results of the ensemble, one per fold.
      num_seeds: number of seeds in the ensemble.
    """
    if not results:
        return []
    kept = "mlp_hidden_dims,batch_size,learning_rate,dropout,blocks".split(",")
    parameters = row["parameters"]
    own = {
        "experiment_name": results[0].trial.experiment.name,
        "status": ENSEMBLE,
        "error": "",
        "num_seeds": num_seeds,
        "num_folds": len(results),
        "parameters": None if parameters is None else num_seeds * parameters,
        "notes": "mean of the standardised scores of the seeds of each fold, never selected",
    }
    measured = pd.DataFrame([r.metrics.measured for r in results])
    return [{key: row[key] for key in kept} | own | measured.mean().to_dict()]


def _typed(summary: pd.DataFrame) -> pd.DataFrame:
    """Casts counts to nullable integers and flags to nullable booleans; cells may be empty."""
    counts = ("batch_size", "num_seeds", "num_folds", "parameters", DROPPED_AT)
    return summary.astype(dict.fromkeys(counts, "Int64") | {TIED: "boolean"})


def read_results_json(path: Path) -> dict[str, Any]:
    """Reads the tables and sentences of a finished search, keyed by `SearchResult` fields.

    Raises:
      UserError: the file is damaged.
    """
    try:
        results = read_json(path)
        more = [key for key in HYPERPARAMETERS if key in dict(*results["summary"][:1])]
        summary = _typed(
            pd.DataFrame(results["summary"], columns=list(dict.fromkeys(SUMMARY_COLUMNS + more)))
        )
        numbers = [c for c in _MEANS if c in summary] + ["learning_rate", "dropout"]
        numbers += INTERVAL_COLUMNS
        summary = summary.astype(dict.fromkeys(numbers, float))
        for line in [*results["notes"], *results["data_notes"], *results["data"]["caveats"]]:
            if not isinstance(line, str):
                raise TypeError
        return {
            "summary": summary,
            "trials": pd.DataFrame(results["trials"], columns=TRIAL_COLUMNS),
            "notes": results["notes"],
            "data_notes": results["data_notes"],
            "caveats": results["data"]["caveats"],
            "experiments": [dict(experiment) for experiment in results["experiments"]],
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: can't be read ({type(error).__name__}); remove it, and --resume writes it "
            "again"
        ) from None


def no_experiment_completed(summary: pd.DataFrame) -> bool:
    """Returns whether no experiment of the launch, except references, has a completed trial."""
    asked = summary[(summary["status"] != BASELINE) & ~summary["experiment_name"].isin(REFERENCES)]
    return not asked["status"].isin([COMPLETED, PARTIAL]).any()


def percent(share: float | None) -> str:
    """Formats a share in percent; None and NaN become an empty string."""
    return "" if share is None or math.isnan(share) else f"{100 * share:.1f}%"


def bracket(low: float, high: float, unit: str = "") -> str:
    """Formats an interval in percent, in brackets; an unknown one becomes an empty string."""
    if not np.isfinite([low, high]).all():
        return ""
    return f" ({100 * low:.1f} to {100 * high:.1f}{unit})"


def listed(words: Iterable[str], most: int = 8) -> str:
    """Joins at most `most` words, and appends the number of omitted words."""
    everything = list(words)
    more = len(everything) - most
    return ", ".join(everything[:most]) + (f" and {more} more" if more > 0 else "")
