"""The conductor of a search: prepare -> train -> evaluate -> report, and going on with one."""

import dataclasses
import datetime
import functools
import importlib.metadata
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pandas as pd
from rich.console import Console

import jaxrank
from jaxrank import display, evaluate, files, report, sentences, splits, stopping, train
from jaxrank.cohorts import Cohort, num_parameters
from jaxrank.errors import Stopped, UserError
from jaxrank.evaluate import TrialResult, Yardstick
from jaxrank.inputs import FeaturesInput, PairsInput
from jaxrank.launches import (
    Launch,
    find_workdir,
    has_plan,
    plan_launch,
    refuse_occupied,
    tables_are_there,
)
from jaxrank.loading import Loader
from jaxrank.prepare import Prepared, describe
from jaxrank.record import (
    cohort_of,
    read_record,
    write_record,
)
from jaxrank.saving import Saver

SAVE_BUDGET = 0.05
_OUT_OF_MEMORY = (jax.errors.JaxRuntimeError, MemoryError)
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")

log = logging.getLogger("jaxrank")


class SearchResult(NamedTuple):
    """What came of a search.

    Attributes:
      workdir: the folder with all files.
      summary, trials: the tables `summary.csv` and `trials.csv`.
      notes: what became of the data.
      remarks: how to read the tables.
      caveats: what a reader of any result must know, such as that the data are simulated.
      nothing_to_do: the search had been finished before; nothing was trained or written.
    """

    workdir: Path
    summary: pd.DataFrame
    trials: pd.DataFrame
    notes: list[str]
    remarks: list[str]
    caveats: list[str]
    nothing_to_do: bool = False


def search(
    pairs: PairsInput = None,
    features: FeaturesInput = None,
    *,
    workdir: Path | str | None = None,
    resume: bool = False,
    extend: bool = False,
    retry_failed: bool = False,
    save_budget: float = SAVE_BUDGET,
    catch_signals: bool = False,
    console: Console | None = None,
    **options: Any,
) -> SearchResult:
    """Trains every experiment of a launch side by side and compares them.

    Args:
      pairs: a file, a canonical data frame, or what `read_pairs` returned; None, together with
        features None, is the embedded simulated data.
      features: a feature store's folder, or what `open_store` returned.
      workdir: a new or empty folder, by default one named by the time below OUTPUTS; when
        resuming, the folder of a search, by default the newest below OUTPUTS.
      resume: go on with the search in `workdir`, with its options where none are given here;
        where there is none, begin one.
      extend: resume a finished search and add the experiments and trials that it does not have.
      retry_failed: resume, and train failed trials again.
      save_budget: the share of the time that checkpoints may take.
      catch_signals: upon Ctrl-C or SIGTERM finish the epoch, save, and raise `Stopped`.
      console: where log lines and a progress bar are shown; nothing is without it.
      **options: see `prepare`.

    Raises:
      UserError: a mistake in the input, in one line.
    """
    if not 0 <= save_budget <= 1:
        raise UserError(f"--save_budget={save_budget:g} is not a share between 0 and 1")
    given = _given(pairs, features, options)
    goes_on = resume or extend or retry_failed
    folder = find_workdir(workdir, resume=goes_on)
    with _told_about_disks(folder), ExitStack() as stack:
        resumed = has_plan(folder)
        if resumed and not (given or extend or retry_failed) and _is_finished(folder):
            return _finished_result(folder)
        if resumed:
            stack.enter_context(files.sole_writer(folder))
        ready = plan_launch(folder, given, extend=extend, retry_failed=retry_failed)
        if ready.record.finished:
            return _finished_result(folder)
        if not resumed:  # only now: no folder is made for data that turn out to be wrong
            stack.enter_context(files.sole_writer(folder))
            refuse_occupied(folder)
        write_record(folder, ready.record)
        caught = stopping.signals_caught() if catch_signals else nullcontext(lambda: None)
        stop_signal = stack.enter_context(caught)
        saver = stack.enter_context(closing(Saver(folder, save_budget)))
        said = [] if resumed or not goes_on else ["no search to go on with: a new one begins"]
        return _run(folder, ready, said, saver, console, stop_signal)


@contextmanager
def _told_about_disks(folder: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # no disk's fault, but that of who reads our output
        raise
    except OSError as error:
        again = f"go on with --resume --workdir={folder}"
        raise UserError(
            f"{error.filename or folder}: can't be written ({error.strerror or error}); when that "
            f"is mended, {again if has_plan(folder) else 'give the same command again'}"
        ) from error


def _given(pairs: PairsInput, features: FeaturesInput, options: dict[str, Any]) -> dict[str, Any]:
    inputs = {"pairs": pairs, "features": features}
    return {name: value for name, value in inputs.items() if value is not None} | options


def _is_finished(folder: Path) -> bool:
    record = read_record(folder)
    return record is not None and record.finished and tables_are_there(folder)


def _finished_result(folder: Path) -> SearchResult:
    """What a finished search left."""
    results = report.read_results_json(folder / report.RESULTS_JSON)
    return SearchResult(folder, **results, nothing_to_do=True)


def _run(
    folder: Path,
    ready: Launch,
    said: list[str],
    saver: Saver,
    console: Console | None,
    stop_signal: Callable[[], int | None],
) -> SearchResult:
    """Trains what is waiting, evaluates and reports; `said` comes first in the log."""
    prepared = ready.prepared
    yardstick = evaluate.make_yardstick(prepared.dataset, prepared.parts)
    with display.logging_to(folder / "training.log", console):
        start = time.perf_counter()
        for line in [*said, *ready.describe()]:
            log.info(line)
        for number in ready.finished:
            saver.drop(number)  # what a kill may have left
        _write_records(folder, ready)
        ready = _train_all(folder, ready, yardstick, saver, console, stop_signal)
        results = [ready.results[trial.key] for trial in prepared.trials]
        trials = pd.DataFrame([r.row for r in results]).reindex(columns=report.TRIAL_COLUMNS)
        rules = {
            name: evaluate.rule_metrics(scores_N, yardstick, prepared.trained_folds)
            for name, scores_N in evaluate.rule_scores(prepared.dataset).items()
        }
        parameters = {
            trial.experiment.name: num_parameters(cohort.input_dim, trial.experiment)
            for cohort in prepared.cohorts
            for trial in cohort.trials
        }
        caveats = prepared.data_facts["caveats"]
        summary = report.summarise(
            prepared.experiments, prepared.skipped, trials, parameters, rules, caveats
        )
        ceiling = None
        if prepared.ceiling_scores_N is not None:
            ceiling = evaluate.rule_metrics(
                prepared.ceiling_scores_N, yardstick, prepared.trained_folds
            )
        remarks = sentences.remarks(summary, results, yardstick, ceiling)
        notes = describe(prepared)
        report.write_frame(folder / report.TRIALS_CSV, trials)
        report.write_frame(folder / report.SUMMARY_CSV, summary)
        report.write_json(
            folder / report.RESULTS_JSON,
            {
                "data": prepared.data_facts,
                "notes": notes,
                "remarks": remarks,
                "summary": summary.to_dict("records"),
                "trials": trials.to_dict("records"),
            },
        )
        write_record(folder, ready.record._replace(finished=True))
        log.info("%s", saver.account())
        log.info("done in %.1f s", time.perf_counter() - start)
    return SearchResult(folder, summary, trials, notes, remarks, caveats)


def _write_records(folder: Path, ready: Launch) -> None:
    """What is known before training: config, environment, splits."""
    prepared = ready.prepared
    report.write_json(
        folder / "config.json",
        {
            "jaxrank_version": jaxrank.__version__,
            "launch": ready.record.launch,
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
        folder / "splits.csv",
        splits.split_table(prepared.parts, prepared.dataset.table, prepared.launch["split"]),
    )


def _train_all(
    folder: Path,
    ready: Launch,
    yardstick: Yardstick,
    saver: Saver,
    console: Console | None,
    stop_signal: Callable[[], int | None],
) -> Launch:
    """Trains the waiting cohorts; returns the plan with their results.

    While one trains, the next ones are compiled, and the files of the last one are written. An
    experiment's folder is written when its last trial is done.
    """
    prepared = ready.prepared
    trained = dict.fromkeys(trial.experiment.name for trial in prepared.trials)
    # Those that a stopped run may have left undone.
    _write_experiments(folder, ready, yardstick, trained)
    waiting = ready.waiting
    finishing: tuple[int, Future[list[TrialResult]]] | None = None

    def collected(ready: Launch) -> Launch:
        if finishing is None:
            return ready
        number, future = finishing
        return ready._replace(finished=ready.finished | {number: future.result()})

    with (
        display.progress_bar(ready.waiting_cohorts, console) as show,
        Loader(prepared) as loader,
        ThreadPoolExecutor(1, thread_name_prefix="finish") as finisher,
    ):

        def after_dispatch(number: int, cohort: Cohort, progress: train.Progress) -> None:
            show(cohort, progress)
            if finishing is not None and finishing[1].done():
                finishing[1].result()  # a full disk is told now, not when this cohort has ended
            if (signal_number := stop_signal()) is not None:
                saver.save(number, progress)
                log.info("stopped after epoch %d of cohort %d", len(progress.history), number)
                log.info("%s", saver.account())
                raise Stopped(folder, signal_number)
            saver.save_if_due(number, progress)

        while waiting:
            if (signal_number := stop_signal()) is not None:
                raise Stopped(folder, signal_number)
            number, cohort = waiting[0].number, cohort_of(waiting[0], prepared)
            loader.begin(waiting)
            fitted = _fit(
                number,
                cohort,
                prepared,
                loader,
                functools.partial(saver.restore, number),
                functools.partial(after_dispatch, number, cohort),
            )
            saver.close()
            if isinstance(fitted, str) and len(cohort.trials) > 1:
                log.warning("cohort %d does not fit in memory and is halved: %s", number, fitted)
                saver.drop(number)
                known = {planned.number for planned in ready.record.cohorts}
                ready = ready._replace(record=ready.record.with_halves(number, cohort))
                write_record(folder, ready.record)
                halves = [c for c in ready.record.cohorts if c.number not in known]
                waiting = [*halves, *waiting[1:]]
                continue
            if isinstance(fitted, train.Fitted):
                last = max(planned.number for planned in ready.record.cohorts)
                _log_cohort(number, last, cohort, fitted)
            ready = collected(ready)
            future = finisher.submit(
                _finish_cohort, folder, ready, number, cohort, fitted, yardstick, saver
            )
            finishing, waiting = (number, future), waiting[1:]
        return collected(ready)


def _finish_cohort(
    folder: Path,
    ready: Launch,
    number: int,
    cohort: Cohort,
    fitted: train.Fitted | str,
    yardstick: Yardstick,
    saver: Saver,
) -> list[TrialResult]:
    """Evaluates a trained cohort, or a trial that does not fit in memory, and writes its files."""
    if isinstance(fitted, train.Fitted):
        results = evaluate.trial_results(cohort, fitted, yardstick)
    else:
        results = [evaluate.out_of_memory(cohort.trials[0], fitted, yardstick.dataset)]
    for result in results:
        if result.row["status"] == evaluate.FAILED:
            log.warning(
                "failed: %s, fold %d, seed %d: %s",
                *(result.row[k] for k in ("experiment_name", "fold", "seed", "error")),
            )
    results = evaluate.keep_best_weights(results)
    saver.finish(number, results)
    ready = ready._replace(finished=ready.finished | {number: results})
    with saver.paused():
        _write_experiments(folder, ready, yardstick, {t.experiment.name for t in cohort.trials})
    return results


def _fit(
    number: int,
    cohort: Cohort,
    prepared: Prepared,
    loader: Loader,
    restore: Callable[[train.TrainState], train.Progress | None],
    on_dispatch: Callable[[train.Progress], None],
) -> train.Fitted | str:
    """The trained cohort, or what was said when it did not fit in memory."""
    loaded = None
    with suppress(*_OUT_OF_MEMORY):  # beside the cohort that trained then; now it is gone
        loaded = loader.loaded(number)
    try:
        return train.fit(
            cohort,
            prepared.dataset,
            prepared.parts,
            loaded=loader.load(cohort) if loaded is None else loaded,
            restore=restore,
            on_dispatch=on_dispatch,
        )
    except _OUT_OF_MEMORY as error:
        text = str(error) or "out of memory"
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in text:
            raise
        return text.splitlines()[0][:200]


def _log_cohort(number: int, last: int, cohort: Cohort, fitted: train.Fitted) -> None:
    log.info(
        "cohort %d of %d (%s): %d trials, %d epochs of %d steps of up to %d pairs, %.1f s "
        "(predicted %.1f s)",
        number,
        last,
        ", ".join(dict.fromkeys(trial.experiment.name for trial in cohort.trials)),
        len(cohort.trials),
        len(fitted.history.running),
        cohort.num_batches,
        cohort.batch_size,
        fitted.seconds,
        len(fitted.history.running) * cohort.epoch_seconds,
    )


def _write_experiments(
    folder: Path, ready: Launch, yardstick: Yardstick, names: Iterable[str]
) -> None:
    """Writes the folders of those of the experiments whose trials are all done."""
    prepared, done = ready.prepared, ready.results
    for name in names:
        mine = [trial.key for trial in prepared.trials if trial.experiment.name == name]
        if all(key in done for key in mine):
            report.write_experiment(
                folder / name,
                [done[key] for key in mine],
                yardstick,
                prepared.data_facts["caveats"],
                {} if prepared.start is None else prepared.start.seen,
            )
