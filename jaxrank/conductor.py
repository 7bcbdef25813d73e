"""The conductor of a search: prepare -> train -> evaluate -> report."""

import collections
import dataclasses
import datetime
import functools
import importlib.metadata
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import jaxrank
from jaxrank import evaluate, plan, report, splits, train
from jaxrank.errors import UserError
from jaxrank.prepare import FeaturesInput, PairsInput, Prepared, describe, prepare

OUTPUTS = Path("outputs/hyperparameter_search")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")

log = logging.getLogger("jaxrank")


class SearchResult(NamedTuple):
    """`summary` and `trials` are the tables of the files in `workdir`; `notes` say what became of
    the data, `remarks` how to read the tables."""

    workdir: Path
    summary: pd.DataFrame
    trials: pd.DataFrame
    notes: list[str]
    remarks: list[str]


def search(
    pairs: PairsInput = None,
    features: FeaturesInput = None,
    *,
    workdir: Path | str | None = None,
    console: Console | None = None,
    **options: Any,
) -> SearchResult:
    """Trains every experiment of a launch side by side and compares them.

    Args:
      pairs: a file, a canonical data frame, or what `read_pairs` returned; None, together with
        features None, is the embedded simulated data.
      features: a feature store's folder, or what `open_store` returned.
      workdir: a new or empty folder; by default one named by the time below OUTPUTS.
      console: where log lines and a progress bar are shown; nothing is without it.
      **options: see `prepare`.

    Raises:
      UserError: a mistake in the input, in one line.
    """
    return run(prepare(pairs, features, **options), workdir, console=console)


def run(
    prepared: Prepared, workdir: Path | str | None = None, *, console: Console | None = None
) -> SearchResult:
    """Trains, evaluates and reports what `prepare` planned; see `search`."""
    folder = _make_workdir(workdir)
    try:
        return _run(prepared, folder, console)
    except OSError as error:
        where = error.filename or folder
        raise UserError(f"{where}: can't be written ({error.strerror or error})") from error


def _run(prepared: Prepared, folder: Path, console: Console | None) -> SearchResult:
    with _logging_to(folder / "training.log", console):
        start = time.perf_counter()
        for line in describe(prepared):
            log.info(line)
        _write_records(folder, prepared)
        results = _train_all(folder, prepared, console)
        trials = pd.DataFrame([r.row for r in results]).reindex(columns=report.TRIAL_COLUMNS)
        rules = {
            name: evaluate.rule_accuracies(scores, prepared.dataset, prepared.parts)
            for name, scores in evaluate.rule_scores(prepared.dataset).items()
        }
        parameters = {
            trial.experiment.name: cohort.parameters
            for cohort in prepared.cohorts
            for trial in cohort.trials
        }
        summary = report.summarise(
            prepared.experiments,
            prepared.skipped,
            trials,
            parameters,
            rules,
            simulated=prepared.data_facts["simulated"],
        )
        report.write_frame(folder / "trials.csv", trials)
        report.write_frame(folder / "summary.csv", summary)
        said = report.remarks(
            summary, results, prepared.dataset, prepared.parts, prepared.ceiling_scores_N
        )
        report.write_json(
            folder / "results.json",
            {
                "data": prepared.data_facts,
                "remarks": said,
                "summary": summary.to_dict("records"),
                "trials": trials.to_dict("records"),
            },
        )
        log.info("done in %.1f s", time.perf_counter() - start)
    return SearchResult(folder, summary, trials, describe(prepared), said)


def _make_workdir(workdir: Path | str | None) -> Path:
    now = datetime.datetime.now().strftime("search_%Y%m%d_%H%M%S")
    folder = OUTPUTS / now if workdir is None else Path(workdir)
    if not str(folder).isprintable() or workdir == "":
        raise UserError(f"--workdir={workdir}: not a usable name for a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise UserError(f"--workdir={folder}: can't be used ({error.strerror})") from None
    if occupied:
        raise UserError(f"--workdir={folder}: the folder is not empty; name a new one")
    return folder


class _ConsoleHandler(logging.Handler):
    """Log lines on the console of the progress bar, which then keep off its line."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _logging_to(path: Path, console: Console | None) -> Iterator[None]:
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handlers: list[logging.Handler] = [file]
    if console is not None:
        handlers.append(_ConsoleHandler(console))
    level, propagate = log.level, log.propagate
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # absl has a handler of its own at the root
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
        log.setLevel(level)
        log.propagate = propagate


def _write_records(folder: Path, prepared: Prepared) -> None:
    """What is known before training: config, environment, splits."""
    report.write_json(
        folder / "config.json",
        {
            "jaxrank_version": jaxrank.__version__,
            "launch": prepared.launch,
            "data": prepared.data_facts,
            "experiments": [dataclasses.asdict(e) for e in prepared.experiments],
        },
    )
    report.write_json(
        folder / "environment.json",
        {
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "devices": [f"{d.platform}: {d.device_kind}" for d in jax.local_devices()],
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    )
    report.write_frame(
        folder / "splits.csv", splits.split_table(prepared.parts, prepared.dataset.series_ids)
    )


def _train_all(
    folder: Path, prepared: Prepared, console: Console | None
) -> list[evaluate.TrialResult]:
    """Trains cohort by cohort; an experiment's folder is written when its last trial is done."""
    dataset, parts, cohorts = prepared.dataset, prepared.parts, prepared.cohorts
    names_of = [[trial.experiment.name for trial in cohort.trials] for cohort in cohorts]
    waiting = collections.Counter(name for names in names_of for name in names)
    finished: dict[str, list[evaluate.TrialResult]] = {name: [] for name in waiting}
    with _progress(cohorts, console) as on_epoch:
        for number, (cohort, names) in enumerate(zip(cohorts, names_of, strict=True)):
            fitted = train.fit(cohort, dataset, parts, functools.partial(on_epoch, number))
            log.info(
                "cohort %d of %d (%s): %d trials, %d epochs of %d steps of up to %d pairs, %.1f s",
                number + 1,
                len(cohorts),
                ", ".join(dict.fromkeys(names)),
                len(cohort.trials),
                len(fitted.history.running),
                cohort.num_batches,
                cohort.batch_size,
                fitted.seconds,
            )
            for result in evaluate.trial_results(cohort, fitted, dataset, parts):
                name = result.trial.experiment.name
                finished[name].append(result)
                waiting[name] -= 1
                if result.row["status"] == evaluate.FAILED:
                    log.warning(
                        "failed: %s, fold %d, seed %d: %s",
                        *(result.row[k] for k in ("experiment_name", "fold", "seed", "error")),
                    )
            for name in dict.fromkeys(names):
                finished[name] = evaluate.keep_best_weights(finished[name])
                if not waiting[name]:
                    simulated = prepared.data_facts["simulated"]
                    report.write_experiment(
                        folder / name, finished[name], dataset, parts, simulated
                    )
    return [result for results in finished.values() for result in results]


@contextmanager
def _progress(
    cohorts: Sequence[plan.Cohort], console: Console | None
) -> Iterator[Callable[[int, int, int], None]]:
    """A bar over all cohorts, measured in work; yields what `train.fit` calls every epoch, with
    the cohort's number in front. A cohort that stops early jumps to its end."""

    def work(cohort: plan.Cohort) -> int:
        pairs = cohort.num_batches * cohort.batch_size
        return len(cohort.trials) * cohort.parameters * pairs

    epochs = [max(t.experiment.max_epochs for t in cohort.trials) for cohort in cohorts]
    sizes = [work(cohort) * count for cohort, count in zip(cohorts, epochs, strict=True)]
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=console is None or not console.is_terminal,
        transient=True,
    )
    task = bar.add_task("", total=sum(sizes))

    def on_epoch(number: int, done: int, running: int) -> None:
        share = done / epochs[number] if running else 1.0
        names = dict.fromkeys(t.experiment.name for t in cohorts[number].trials)
        bar.update(
            task,
            completed=sum(sizes[:number]) + share * sizes[number],
            description=f"{', '.join(names)}: epoch {done}, {running} trials running",
        )

    with bar:
        yield on_epoch
