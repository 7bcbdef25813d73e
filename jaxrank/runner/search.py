"""Runs or resumes a search: prepare -> train -> evaluate -> report."""

import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from rich.console import Console

from jaxrank import devices
from jaxrank.audit import SECONDS, checks
from jaxrank.data.inputs import FeaturesInput, PairsInput
from jaxrank.errors import AuditFailed, Stopped, UserError, did_you_mean
from jaxrank.evaluation.evaluator import (
    Evaluator,
    make_evaluator,
)
from jaxrank.io import atomic
from jaxrank.planning.assignment import Programs
from jaxrank.reporting import progress
from jaxrank.reporting.summary import (
    RESULTS_JSON,
    read_results_json,
)
from jaxrank.reporting.trackers import chosen_trackers, make_runs, record_runs
from jaxrank.runner import null_search, rounds, rungs, signals, states
from jaxrank.runner.background_audit import Auditor, audit_of
from jaxrank.runner.description import describe_workers
from jaxrank.runner.engines.interface import Claim, Cluster, Engine, MakeEngine, SharedData
from jaxrank.runner.engines.local import LocalEngine
from jaxrank.runner.experiment_output import TEST_RESULTS_JSON
from jaxrank.runner.final_report import report_search
from jaxrank.runner.launch_records import write_records
from jaxrank.runner.manifest import read_manifest, write_manifest
from jaxrank.runner.options import (
    AUDITS,
    OFF,
    REFUSE,
    SAVE_BUDGET,
    WARN,
    SearchKeywords,
    check_keywords,
    with_options,
)
from jaxrank.runner.result_files import write_experiments
from jaxrank.runner.resume import (
    TRAINING_LOG,
    Workspace,
    find_workdir,
    has_plan,
    list_files,
    missing_files,
    plan_search,
    refuse_occupied,
)
from jaxrank.runner.scheduler import train_all
from jaxrank.runner.search_result import SearchResult
from jaxrank.training.checkpointing import Saver

log = logging.getLogger("jaxrank")


@with_options
def search(
    pairs: PairsInput = None,
    features: FeaturesInput = None,
    *,
    workdir: Path | str | None = None,
    resume: bool = False,
    extend: bool = False,
    retry_failed: bool = False,
    save_budget: float = SAVE_BUDGET,
    audit: str = WARN,
    audit_seconds: float = SECONDS,
    workers: int | None = None,
    cluster: Cluster | None = None,
    catch_signals: bool = False,
    console: Console | None = None,
    **options: Unpack[SearchKeywords],
) -> SearchResult:
    """Trains the experiments of a search and compares them with baselines.

    Args:
      pairs: a file or data frame with pairs, votes, ratings, picks or winners
        (docs/data_formats.md), or the result of `read_preferences`. With both pairs and features
        None, the embedded simulated data.
      features: a feature store's folder, a file (.npz, .parquet, .csv), a data frame, a tuple
        (array, names), or a dict from block name to a frame, such a tuple or a `Block`; see
        docs/data_formats.md. A single block without a name is called 'features'.
      workdir: a new or empty folder; by default one named by the time, below
        outputs/hyperparameter_search. When resuming, the folder of a search; by default the newest
        there.
      resume: resume the search in `workdir`, with its options unless given here; if there is no
        search, begin one.
      extend: resume a finished search and add the experiments and trials that it lacks.
      retry_failed: resume, and train failed trials again.
      save_budget: share of the time that checkpoints may take.
      audit: check whether preferences and photos belong together. 'warn' reports the result in
        every file, 'refuse' raises an error if they seem not to, 'off' skips the check.
      audit_seconds: seconds that the audit may take.
      workers: number of devices that train at the same time; by default all that JAX has. A CPU is
        one device unless `jax_num_cpu_devices` was set before JAX began to run; see
        docs/machines.md.
      cluster: other machines that train, see `jaxrank.ray_cluster`; it has its own `workers`.
      catch_signals: on Ctrl-C or SIGTERM during training, finish the current dispatch, save and
        raise `Stopped`. After training everything is saved, and signals have their usual action.
      console: where log lines and a progress bar are shown. Without it a notebook shows the bar,
        and any other program nothing.
      **options: the attributes of `jaxrank.SearchOptions`.

    Returns:
      A `SearchResult`; all files are in its `workdir`.

    Raises:
      UserError: the input is invalid or an option is unknown; the message has one line.
      AuditFailed: the audit failed, with 'refuse'.
      Stopped: Ctrl-C or SIGTERM came, with `catch_signals`.
    """
    check_keywords("search", options, inspect.signature(search).parameters)
    if audit not in AUDITS:
        raise UserError(f"--audit={audit}: unknown.{did_you_mean(audit, AUDITS)}")
    if not audit_seconds > 0:
        raise UserError(f"--audit_seconds={audit_seconds:g} is not above 0")
    if not 0 <= save_budget <= 1:
        raise UserError(f"--save_budget={save_budget:g} is not a share between 0 and 1")
    if workers is not None and workers < 1:
        raise UserError(f"--workers={workers}: at least 1 is needed")
    if workers is not None and cluster is not None:
        raise UserError("workers and cluster are both given: a cluster has its own workers")
    given = _given(pairs, features, options)
    resuming = resume or extend or retry_failed
    folder = find_workdir(workdir, resume=resuming)
    with _disk_errors_as_user_errors(folder), ExitStack() as stack:
        resumed = has_plan(folder)
        if resumed and not (given or extend or retry_failed) and _is_finished(folder):
            return _finished_result(folder)
        if resumed:
            stack.enter_context(atomic.sole_writer(folder))
        device = None if cluster is None else cluster.device
        ready = plan_search(folder, given, extend=extend, retry_failed=retry_failed, device=device)
        if ready.record.finished:
            return _finished_result(folder)
        if not resumed:  # not earlier: invalid data must not leave a folder
            stack.enter_context(atomic.sole_writer(folder))
            refuse_occupied(folder)
        if audit == REFUSE:
            found = audit_of(folder, ready.prepared, audit_seconds)
            if found.failed:
                raise AuditFailed(f"audit: {found.headline} {found.advice} (--audit=warn trains)")
        write_manifest(folder, ready.record)
        if audit == REFUSE:
            checks.write_audit(folder, found)
        saver = stack.enter_context(closing(Saver(folder, save_budget, ready.record.identity)))
        first_lines = [] if resumed or not resuming else ["no search to resume: a new one begins"]
        with progress.logging_to(folder / TRAINING_LOG, console):
            wanted = _audit_wanted(folder, ready, audit)
            auditor = Auditor(folder, ready.prepared, audit_seconds, wanted=wanted)
            with auditor:
                train_on = _Devices(workers, cluster)
                return _run(
                    folder, ready, auditor, first_lines, saver, console, catch_signals, train_on
                )


class _Devices(NamedTuple):
    """Where to train: a cluster, or at most `workers` devices of this process."""

    workers: int | None
    cluster: Cluster | None

    def describe(self) -> str:
        return describe_workers(self.workers) if self.cluster is None else self.cluster.describe()

    def engine(self, data: SharedData, claim: Claim) -> AbstractContextManager[Engine]:
        if self.cluster is not None:
            return self.cluster.engine(data, claim)
        return LocalEngine(data, claim, devices.workers(self.workers))


@contextmanager
def _disk_errors_as_user_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # no disk error: the reader of our output has closed it
        raise
    except OSError as error:
        again = f"resume it with --resume --workdir={folder}"
        raise UserError(
            f"{error.filename or folder}: can't be written ({error.strerror or error}); when that "
            f"is fixed, {again if has_plan(folder) else 'give the same command again'}"
        ) from error


def _given(pairs: PairsInput, features: FeaturesInput, options: SearchKeywords) -> dict[str, Any]:
    inputs = {"pairs": pairs, "features": features}
    return {name: value for name, value in inputs.items() if value is not None} | {**options}


def _audit_wanted(folder: Path, ready: Workspace, audit: str) -> bool:
    if ready.record.files and not ready.waiting and audit != REFUSE:
        # Files that are written again get the same caveats as the existing files.
        return checks.AUDIT_JSON in ready.record.files
    # An earlier audit is reported even with OFF.
    earlier = checks.read_audit(folder)
    return audit != OFF or (earlier is not None and earlier.finished)


def _is_finished(folder: Path) -> bool:
    record = read_manifest(folder)
    return record is not None and record.finished and not missing_files(folder, record)


def _finished_result(folder: Path) -> SearchResult:
    """Result of a finished search, read from its folder."""
    results = read_results_json(folder / RESULTS_JSON)
    return SearchResult(folder, **results, nothing_to_do=True)


def _run(
    folder: Path,
    ready: Workspace,
    auditor: Auditor,
    first_lines: list[str],
    saver: Saver,
    console: Console | None,
    catch_signals: bool,
    train_on: _Devices,
) -> SearchResult:
    """Trains the waiting cohorts, evaluates and reports; `first_lines` come first in the log."""
    evaluator = make_evaluator(ready.prepared.split_data)
    start = time.perf_counter()
    for line in [*first_lines, *ready.describe(), train_on.describe()]:
        log.info(line)
    for number in ready.finished:
        saver.drop(number)  # a kill may have left checkpoints
    for name in {Path(name).parts[0] for name in ready.missing}:
        if any(name == e.name for e in ready.prepared.experiments):
            (folder / name / TEST_RESULTS_JSON).unlink(missing_ok=True)  # marks a complete folder
    write_records(folder, ready, train_on.describe())
    with signals.signals_caught() if catch_signals else nullcontext(lambda: None) as stop_signal:
        ready = _train(
            folder, ready, evaluator, auditor, saver, console, stop_signal, train_on.engine
        )
    # From here on everything is saved, and signals have their usual action: they end a command.
    if (signal_number := stop_signal()) is not None:  # it came after the last check
        raise Stopped(folder, signal_number)
    ready = ready._replace(prepared=auditor.with_caveat(ready.prepared))
    if ready.record.rungs:  # after the last rung, no job may be left to write folders
        names = [e.name for e in ready.prepared.experiments]
        write_experiments(folder, ready, evaluator, names, stop_signal)
    permuted = _null_search(folder, ready, train_on)
    result = report_search(folder, ready, evaluator, saver, permuted)
    write_manifest(folder, ready.record._replace(finished=True, files=list_files(folder)))
    log.info("%s", saver.account())
    log.info("done in %.1f s", time.perf_counter() - start)
    return result


def _train(
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    auditor: Auditor,
    saver: Saver,
    console: Console | None,
    stop_signal: Callable[[], int | None],
    make_engine: MakeEngine,
) -> Workspace:
    """Trains the waiting cohorts, and then each round that the strategy proposes."""

    programs = Programs()

    def trained(ready: Workspace) -> tuple[Workspace, float]:
        """Trains one round, rung by rung; returns the plan and the seconds."""
        start = time.perf_counter()
        while True:
            ready = train_all(
                folder,
                ready,
                evaluator,
                auditor,
                saver,
                console,
                stop_signal,
                make_engine,
                programs,
            )
            if ready.waiting:  # they continue cohorts that have just been trained
                continue
            record = rungs.following(
                folder, ready.record, ready.prepared, ready.finished, evaluator
            )
            if record == ready.record:
                break
            write_manifest(folder, record)
            ready = ready._replace(record=record)
        states.remove_states(folder)
        seconds = time.perf_counter() - start
        if names := chosen_trackers(ready.prepared.launch["track"]):
            runs = make_runs([*ready.results.values()], ready.record.data_and_splits, folder.name)
            record_runs(folder, names, runs, stop_signal)
        return ready, seconds

    ready, seconds = trained(ready)
    while stop_signal() is None:
        record, prepared = rounds.following(ready.record, ready.prepared, ready.results, seconds)
        if record == ready.record:
            break
        write_manifest(folder, record)
        ready = ready._replace(record=record, prepared=prepared)
        ready, seconds = trained(ready) if ready.waiting else (ready, 0.0)
    return ready


def _null_search(folder: Path, ready: Workspace, train_on: _Devices) -> SearchResult | None:
    """Runs the search on permuted preferences if `null_search` is set."""
    if not ready.prepared.launch["null_search"]:
        return None
    log.info("the same search on permuted preferences, in %s/", null_search.FOLDER)
    workdir = folder / null_search.FOLDER
    return search(
        *null_search.permuted_inputs(ready.prepared.dataset),
        workdir=workdir,
        resume=True,
        extend=has_plan(workdir),  # this search may have been extended
        audit=OFF,
        workers=train_on.workers,
        cluster=train_on.cluster,
        **null_search.options_of(ready.record),
    )
