"""What a search leaves behind: tables and curves."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxrank.checkpoints import SEEN, save_model
from jaxrank.configs import REFERENCES
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset
from jaxrank.errors import UserError
from jaxrank.evaluate import (
    CHANCE,
    COMPLETED,
    FAILED,
    POSITION,
    TrialResult,
    Yardstick,
    best_trial,
    fit_slope,
    pair_differences,
    predictions,
)
from jaxrank.experiments.hyperparameters import Experiment
from jaxrank.io import atomic, documents, tables

# Of `conclusions.with_intervals`: shares and differences, then whether it is tied for best.
INTERVAL_COLUMNS = (
    "val_ci_low,val_ci_high,test_ci_low,test_ci_high,diff_to_sharpness,diff_ci_low,diff_ci_high,"
    "share_first"
).split(",")
TIED = "tied_for_best"
_MEASURED_COLUMNS = (
    "experiment_name,status,error,mlp_hidden_dims,batch_size,learning_rate,dropout,blocks,"
    "num_seeds,num_folds,epochs_run,best_epoch,train_accuracy,val_accuracy,val_loss,test_accuracy,"
    "test_loss,val_top1_hit,test_top1_hit,val_kendall_tau,test_kendall_tau,train_val_gap,"
    "parameters,duration_seconds"
).split(",")
SUMMARY_COLUMNS = [*_MEASURED_COLUMNS, *INTERVAL_COLUMNS, TIED, "notes"]
TRIAL_COLUMNS = (
    "experiment_name,fold,seed,status,error,epochs_run,best_epoch,train_accuracy,val_accuracy,"
    "test_accuracy,train_loss,val_loss,test_loss,val_top1_hit,test_top1_hit,val_kendall_tau,"
    "test_kendall_tau,duration_seconds,trial_id"
).split(",")
# Means over an experiment's completed trials.
_MEANS = (
    "epochs_run,best_epoch,train_accuracy,val_accuracy,val_loss,test_accuracy,test_loss,"
    "val_top1_hit,test_top1_hit,val_kendall_tau,test_kendall_tau,duration_seconds"
).split(",")
# The status of an experiment, besides COMPLETED and FAILED: PARTIAL where some trials failed.
PARTIAL, SKIPPED, RULE = "partial", "skipped", "rule"
_RULE_NOTES = {CHANCE: "rule: all scores equal", POSITION: "rule: image_a wins"}
TRIALS_CSV, SUMMARY_CSV, RESULTS_JSON = "trials.csv", "summary.csv", "results.json"


def summarise(
    experiments: Sequence[Experiment],
    skipped: Mapping[str, str],
    trials: pd.DataFrame,
    parameters: Mapping[str, int],
    rules: Mapping[str, Mapping[str, float]],
    caveats: Sequence[str],
) -> pd.DataFrame:
    """One row an experiment or rule, sorted by validation accuracy and never by test.

    Args:
      experiments: all that the launch named, in order.
      skipped: by experiment, why it was not trained.
      trials: the rows of `trials.csv`.
      parameters: by experiment.
      rules: by rule, its metrics.
      caveats: what stands in the notes of every row.
    """
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
        }
        if e.name in skipped:
            row |= {"status": SKIPPED, "error": skipped[e.name]}
        elif len(done) < len(mine):
            reason = mine.loc[mine["status"] == FAILED, "error"].iloc[0]
            row["error"] = f"{len(mine) - len(done)} of {len(mine)} trials failed: {reason}"
            row["status"] = PARTIAL if len(done) else FAILED
        if len(done):
            row |= done[_MEANS].mean().to_dict()
        rows.append(row)
    for name, metrics in rules.items():
        note = _RULE_NOTES.get(name, f"rule: more {name} wins")
        rows.append({"experiment_name": name, "status": RULE, "notes": note} | dict(metrics))
    summary = pd.DataFrame(rows)
    summary["notes"] = ["; ".join(filter(None, [n, *caveats])) for n in summary["notes"]]
    summary["train_val_gap"] = summary["train_accuracy"] - summary["val_accuracy"]
    return _typed(summary.reindex(columns=SUMMARY_COLUMNS)).sort_values(
        "val_accuracy", ascending=False, na_position="last", kind="stable", ignore_index=True
    )


def _typed(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with counts as counts and yes or no as such, also where some cells are empty."""
    counts = ("batch_size", "num_seeds", "num_folds", "parameters")
    return summary.astype(dict.fromkeys(counts, "Int64") | {TIED: "boolean"})


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Makes the folder; a disk that can't be written is told in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({error.strerror or error})") from None


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """A data frame as CSV; see `tables.write_csv`."""
    cells = frame.astype(object).where(frame.notna(), None)
    tables.write_csv(path, list(frame.columns), cells.itertuples(index=False))


def write_json(path: Path, value: object) -> None:
    atomic.write_text(path, documents.strict_json(value))


def read_results_json(path: Path) -> dict[str, Any]:
    """The tables and sentences of a finished search, by the names that `SearchResult` has.

    Raises:
      UserError: the file is damaged.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        summary = _typed(pd.DataFrame(results["summary"], columns=SUMMARY_COLUMNS))
        numbers = [c for c in _MEANS if c in summary] + ["learning_rate", "dropout"]
        numbers += INTERVAL_COLUMNS
        summary = summary.astype(dict.fromkeys(numbers, float))
        for line in [*results["notes"], *results["remarks"], *results["data"]["caveats"]]:
            if not isinstance(line, str):
                raise TypeError
        return {
            "summary": summary,
            "trials": pd.DataFrame(results["trials"], columns=TRIAL_COLUMNS),
            "notes": results["notes"],
            "remarks": results["remarks"],
            "caveats": results["data"]["caveats"],
        }
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path}: can't be read ({type(error).__name__}); remove it, and --resume writes it "
            "again"
        ) from None


def write_experiment(
    folder: Path,
    results: Sequence[TrialResult],
    yardstick: Yardstick,
    caveats: Sequence[str],
    seen_before: Mapping[str, Iterable[str]],
) -> None:
    """An experiment's folder: history, curves, predictions, the best model, test results.

    `test_results.json` names every trial with its result and is written last: where it is there
    as it should be, so is the rest, and nothing is written again.

    Args:
      folder: of the experiment.
      results: of all its trials.
      yardstick: that they were measured with.
      caveats: what a reader of any result must know.
      seen_before: photos of the model that training began from, by how it saw them.
    """
    experiment = results[0].trial.experiment
    columns = ("fold", "seed", "status", "error", "test_accuracy", "test_loss")
    rows = pd.DataFrame([result.row for result in results]).reindex(columns=columns)
    test_results = documents.strict_json(
        {
            "experiment_name": experiment.name,
            "caveats": list(caveats),
            "test_accuracy": rows["test_accuracy"].mean(),
            "test_loss": rows["test_loss"].mean(),
            "trials": rows.to_dict("records"),
        }
    )
    last = folder / "test_results.json"
    if last.is_file() and last.read_text(encoding="utf-8", errors="replace") == test_results:
        return
    atomic.make_folder(folder)
    history = pd.concat([result.history for result in results], ignore_index=True)
    write_frame(folder / "history.csv", history)
    title = "\n".join([experiment.name, *caveats])
    _draw_curves(folder / "training_curves.png", title, history)
    best = best_trial(results)
    if best is not None:
        completed = [result for result in results if result.row["status"] == COMPLETED]
        write_frame(folder / "predictions.csv", predictions(completed, yardstick.of(experiment)))
        if not experiment.renumbered:  # nobody should rank photos by a control
            seen = seen_before if experiment.init_from else {}
            _save_best(folder / "model", best, yardstick, caveats, seen)
    atomic.write_text(last, test_results)


def _save_best(
    folder: Path,
    best: TrialResult,
    yardstick: Yardstick,
    caveats: Sequence[str],
    seen_before: Mapping[str, Iterable[str]],
) -> None:
    assert best.weights is not None, "the best trial's weights were let go of"
    experiment = best.trial.experiment
    dataset, part_M = yardstick.dataset, yardstick.parts_FM[best.trial.fold]
    validated = part_M == splits.VALIDATION
    difference_M = pair_differences(best.scores_N, dataset)
    slope = fit_slope(difference_M[validated], dataset.preference_M[validated])
    facts = ("fold", "seed", "best_epoch", "val_accuracy")
    recipes = {name: key for name, key in dataset.recipes.items() if name in experiment.blocks}
    save_model(
        folder,
        experiment,
        {name: dataset.block_columns[name] for name in experiment.blocks},
        *best.weights,
        {key: best.row[key] for key in facts}
        | {"slope": slope, "caveats": list(caveats), "recipes": recipes},
        _photos_seen(dataset, part_M, seen_before),
    )


def _photos_seen(
    dataset: Dataset, part_M: np.ndarray, seen_before: Mapping[str, Iterable[str]]
) -> dict[str, list[str]]:
    """Names of the photos that trained a model, and of those that chose its epoch."""
    seen = {}
    for how, part in zip(SEEN, (splits.TRAIN, splits.VALIDATION), strict=True):
        photos = dataset.photos[np.unique(dataset.pair_rows_M2[part_M == part])]
        seen[how] = sorted({*photos.tolist(), *seen_before.get(how, ())})
    return seen


def _draw_curves(path: Path, title: str, history: pd.DataFrame) -> None:
    """Loss and accuracy by epoch: a thin line a trial, a thick one their mean while all run."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title)
    trials = history.groupby(["fold", "seed"])
    shared = history[history["epoch"] <= trials["epoch"].max().min()].groupby("epoch").mean()
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, colour, label in (
            ("running_train", "tab:blue", "training, while it learns"),
            ("val", "tab:orange", "validation"),
        ):
            column = f"{part}_{metric}"
            for _, trial in trials:
                axes.plot(trial["epoch"], trial[column], color=colour, alpha=0.3, linewidth=0.8)
            axes.plot(
                shared.index, shared[column], color=colour, linewidth=2, marker=".", label=label
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if metric == "accuracy":
            axes.axhline(0.5, color="grey", linestyle=":", label="chance")
        axes.legend()
    with atomic.atomic_file(path, "wb") as file:
        figure.savefig(file, dpi=110, format="png")


def nothing_came_out(summary: pd.DataFrame) -> bool:
    """Whether no experiment of the launch, the references apart, has a completed trial."""
    asked = summary[(summary["status"] != RULE) & ~summary["experiment_name"].isin(REFERENCES)]
    return not asked["status"].isin([COMPLETED, PARTIAL]).any()


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"
