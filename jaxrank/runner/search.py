"""A search from start to end: prepare -> train -> evaluate -> report, and resuming one."""

import dataclasses
import datetime
import importlib.metadata
import inspect
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import jax
import pandas as pd
from rich.console import Console

import jaxrank
from jaxrank import baselines, devices
from jaxrank.audit import SECONDS, checks
from jaxrank.baselines import Baseline
from jaxrank.data import splits
from jaxrank.data.inputs import FeaturesInput, PairsInput
from jaxrank.errors import AuditFailed, Stopped, UserError, did_you_mean
from jaxrank.evaluation import leaderboard, yardstick
from jaxrank.evaluation.ensembles import ensemble_results
from jaxrank.evaluation.evaluator import (
    ORDERED_SPLITS,
    Evaluator,
    baseline_metrics,
    make_evaluator,
    position_metrics,
)
from jaxrank.evaluation.hits import baseline_accuracy
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.io import atomic, documents, notebook, tables
from jaxrank.metrics import pair_differences
from jaxrank.planning.cohort import num_parameters
from jaxrank.reporting import progress
from jaxrank.reporting.agreement import with_probability_note
from jaxrank.reporting.leaderboard import with_intervals
from jaxrank.reporting.report import Report
from jaxrank.reporting.sections import write_sections
from jaxrank.reporting.summary import (
    RESULTS_JSON,
    SUMMARY_CSV,
    TRIAL_COLUMNS,
    TRIALS_CSV,
    read_results_json,
    summarise,
)
from jaxrank.reporting.trackers import chosen_trackers, make_runs, record_runs
from jaxrank.runner import null_search, rounds, rungs, signals, states
from jaxrank.runner.background_audit import Auditor, audit_of
from jaxrank.runner.confirmation import confirm
from jaxrank.runner.engines.interface import Claim, Cluster, Engine, MakeEngine, SharedData
from jaxrank.runner.engines.local import LocalEngine
from jaxrank.runner.experiment_output import TEST_RESULTS_JSON
from jaxrank.runner.final_model import write_final
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
from jaxrank.runner.prepare import Prepared, describe, describe_workers
from jaxrank.runner.result_files import write_best, write_experiments
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
from jaxrank.training.checkpointing import Saver

ENVIRONMENT_JSON = "environment.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")

log = logging.getLogger("jaxrank")


class SearchResult(NamedTuple):
    """What came of a search.

    Attributes:
      workdir: the folder with all files.
      summary, trials: the tables `summary.csv` and `trials.csv`.
      notes: the conclusions: what follows from the tables, and how to read them.
      data_notes: what became of the data, and the plan.
      caveats: what a reader of any result must know, such as that the data are simulated.
      experiments: the hyperparameters of each experiment, by name.
      nothing_to_do: the search had been finished before; nothing was trained or written.
    """

    workdir: Path
    summary: pd.DataFrame
    trials: pd.DataFrame
    notes: list[str]
    data_notes: list[str]
    caveats: list[str]
    experiments: list[dict[str, Any]]
    nothing_to_do: bool = False

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        shares = {
            "val_accuracy": "val acc",
            "test_accuracy": "test acc",
            "test_ci_low": "95% from",
            "test_ci_high": "to",
            "train_accuracy": "train acc",
        }
        counts = {"num_seeds": "seeds", "num_folds": "folds"}
        texts = {"status": "status", "error": "error"}
        shown = {"experiment_name": "experiment"} | shares | counts | texts
        table = self.summary[list(shown)].rename(columns=shown)
        if not table["error"].any():
            table = table.drop(columns="error")
        return notebook.result_html(
            f"Search in {self.workdir}",
            caveats=self.caveats,
            table=table,
            shares=shares.values(),
            rest=".summary",
            notes=self.notes,
        )


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
    """Trains every experiment of a launch side by side and compares them.

    Args:
      pairs: a file or data frame of any of `preference_tables.KINDS`, or what `read_preferences`
        returned; None, together with features None, is the embedded simulated data.
      features: a feature store's folder, a file (.npz, .parquet, .csv), a data frame, a tuple
        (array, names), or a dict by block of frames, such tuples and `Block` objects; see
        `importers` and `memory_blocks`. One block without a name is called 'features'.
      workdir: a new or empty folder, by default one named by the time below OUTPUTS; when
        resuming, the folder of a search, by default the newest below OUTPUTS.
      resume: resume the search in `workdir`, with its options where none are given here;
        where there is none, begin one.
      extend: resume a finished search and add the experiments and trials that it does not have.
      retry_failed: resume, and train failed trials again.
      save_budget: the share of the time that checkpoints may take.
      audit: whether preferences and photos belong together: WARN reports it in every file, REFUSE
        raises where they seem not to, OFF does not look.
      audit_seconds: that the audit may take.
      workers: devices that train at the same time, by default all that JAX has. A CPU is one device
        unless `jax_num_cpu_devices` was set before JAX began to run; see docs/machines.md.
      cluster: other machines that train, see `jaxrank.ray_cluster`; it has its own `workers`.
      catch_signals: upon Ctrl-C or SIGTERM during training finish the epoch, save, and raise
        `Stopped`. When training has ended all is saved, and signals have their usual action.
      console: where log lines and a progress bar are shown. Without it a notebook shows the bar,
        and any other program nothing.
      **options: see `SearchOptions`.

    Raises:
      UserError: a mistake in the input or an unknown option, in one line.
      AuditFailed: with REFUSE.
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
    goes_on = resume or extend or retry_failed
    folder = find_workdir(workdir, resume=goes_on)
    with _told_about_disks(folder), ExitStack() as stack:
        resumed = has_plan(folder)
        if resumed and not (given or extend or retry_failed) and _is_finished(folder):
            return _finished_result(folder)
        if resumed:
            stack.enter_context(atomic.sole_writer(folder))
        device = None if cluster is None else cluster.device
        ready = plan_search(folder, given, extend=extend, retry_failed=retry_failed, device=device)
        if ready.record.finished:
            return _finished_result(folder)
        if not resumed:  # only now: no folder is made for data that turn out to be wrong
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
        said = [] if resumed or not goes_on else ["no search to resume: a new one begins"]
        with progress.logging_to(folder / TRAINING_LOG, console):
            wanted = _audit_wanted(folder, ready, audit)
            auditor = Auditor(folder, ready.prepared, audit_seconds, wanted=wanted)
            with auditor:
                team = _Team(workers, cluster)
                return _run(folder, ready, auditor, said, saver, console, catch_signals, team)


class _Team(NamedTuple):
    """Who trains: a cluster, or devices of this process, so many at most."""

    workers: int | None
    cluster: Cluster | None

    def describe(self) -> str:
        return describe_workers(self.workers) if self.cluster is None else self.cluster.describe()

    def engine(self, data: SharedData, claim: Claim) -> AbstractContextManager[Engine]:
        if self.cluster is not None:
            return self.cluster.engine(data, claim)
        return LocalEngine(data, claim, devices.workers(self.workers))


@contextmanager
def _told_about_disks(folder: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # no disk's fault, but that of who reads our output
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
        # A file that is written again has the caveats of the others.
        return checks.AUDIT_JSON in ready.record.files
    # What was found before is reported even where nobody looks again.
    return audit != OFF or checks.read_audit(folder) is not None


def _is_finished(folder: Path) -> bool:
    record = read_manifest(folder)
    return record is not None and record.finished and not missing_files(folder, record)


def _finished_result(folder: Path) -> SearchResult:
    """What a finished search left."""
    results = read_results_json(folder / RESULTS_JSON)
    return SearchResult(folder, **results, nothing_to_do=True)


def _run(
    folder: Path,
    ready: Workspace,
    auditor: Auditor,
    said: list[str],
    saver: Saver,
    console: Console | None,
    catch_signals: bool,
    team: _Team,
) -> SearchResult:
    """Trains what is waiting, evaluates and reports; `said` comes first in the log."""
    evaluator = make_evaluator(ready.prepared.split_data)
    start = time.perf_counter()
    for line in [*said, *ready.describe(), team.describe()]:
        log.info(line)
    for number in ready.finished:
        saver.drop(number)  # what a kill may have left
    for name in {Path(name).parts[0] for name in ready.missing}:
        if any(name == e.name for e in ready.prepared.experiments):
            (folder / name / TEST_RESULTS_JSON).unlink(missing_ok=True)  # it says: complete
    _write_records(folder, ready, team.describe())
    with signals.signals_caught() if catch_signals else nullcontext(lambda: None) as stop_signal:
        ready = _train(folder, ready, evaluator, auditor, saver, console, stop_signal, team.engine)
    # From here on all is saved, and a signal has its usual action, which ends a command at once.
    if (signal_number := stop_signal()) is not None:  # it came after the last time of asking
        raise Stopped(folder, signal_number)
    ready = ready._replace(prepared=auditor.beside(ready.prepared))
    if ready.record.rungs:  # whose last one ends experiments that no job has ended
        names = [e.name for e in ready.prepared.experiments]
        write_experiments(folder, ready, evaluator, names, stop_signal)
    beside = _null_search(folder, ready, team)
    result = _report(folder, ready, evaluator, saver, beside)
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
    """Trains what is waiting, and round after round what the strategy proposes then."""

    def trained(ready: Workspace) -> tuple[Workspace, float]:
        """A round, from rung to rung."""
        start = time.perf_counter()
        while True:
            ready = train_all(
                folder, ready, evaluator, auditor, saver, console, stop_signal, make_engine
            )
            if ready.waiting:  # they continue from what has just been trained
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
        names = chosen_trackers(ready.prepared.launch["track"])
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
        if ready.waiting:
            ready, seconds = trained(ready)
    return ready


def _null_search(folder: Path, ready: Workspace, team: _Team) -> SearchResult | None:
    """The search on permuted preferences, where it is wanted."""
    if not ready.prepared.launch["null_search"]:
        return None
    log.info("the same search on permuted preferences, in %s/", null_search.FOLDER)
    workdir = folder / null_search.FOLDER
    return search(
        *null_search.permuted_inputs(ready.prepared.dataset),
        workdir=workdir,
        resume=True,
        extend=has_plan(workdir),  # where this one was
        audit=OFF,
        workers=team.workers,
        cluster=team.cluster,
        **null_search.options_of(ready.record),
    )


def _report(
    folder: Path,
    ready: Workspace,
    evaluator: Evaluator,
    saver: Saver,
    permuted: SearchResult | None,
) -> SearchResult:
    """Compares what was trained, and writes tables, figures, sentences and the final model."""
    prepared = ready.prepared
    results = [ready.results[trial.key] for trial in prepared.trials]
    trials = pd.DataFrame([r.metrics.as_row() for r in results]).reindex(columns=TRIAL_COLUMNS)
    names = [
        e.name for e in prepared.experiments if e.name not in prepared.skipped and not e.is_control
    ]
    parameters = {
        trial.experiment.name: num_parameters(cohort.input_dim, trial.experiment)
        for cohort in prepared.cohorts
        for trial in cohort.trials
    }
    beside = baselines.fit_baselines(prepared.split_data, prepared.trained_folds)
    endings = rungs.endings(ready.record)
    ensembles = ensemble_results(
        [r for r in results if r.trial.experiment.name not in endings], evaluator
    )
    names += dict.fromkeys(result.trial.experiment.name for result in ensembles)
    competitors = yardstick.competitors(beside, evaluator, prepared.trained_folds)
    at_rungs = rungs.rung_hits(ready.record, prepared, ready.finished, evaluator, names)
    ranking = leaderboard.rank(
        [*results, *ensembles], evaluator, names, competitors, parameters, at_rungs, endings
    )
    summary = with_intervals(
        _summarise(prepared, trials, parameters, evaluator, ensembles, beside), ranking
    )
    ceiling = _ceiling(prepared, evaluator)
    caveats = prepared.data.caveats
    write_best(folder, ready, evaluator, _by_validation(summary, prepared, ranking))
    section = write_sections(Report(folder, results, evaluator, ranking, summary, caveats, ceiling))
    summary = with_probability_note(summary, section.facts)
    final_notes = write_final(
        folder,
        prepared,
        results,
        beside,
        ranking,
        evaluator,
        ceiling,
        ready.record.data_and_splits,
        saver,
    )
    confirmed = None
    if prepared.launch["confirm_share"]:
        confirmed = confirm(
            folder,
            prepared,
            ranking,
            ready.record.data_and_splits,
            saver,
            prepared.launch["confirm"],
        )
    facts = dict(section.facts)
    notes = [*section.notes, *(confirmed.notes if confirmed else [])]
    if permuted is not None:
        more, facts["null_search"] = null_search.notes_of(permuted)
        notes += more
    if confirmed is not None:
        facts["confirmed"] = confirmed.table.to_dict("records")
    notes += final_notes
    data_notes = describe(prepared)
    experiments = [dataclasses.asdict(e) for e in prepared.experiments]
    tables.write_frame(folder / TRIALS_CSV, trials)
    tables.write_frame(folder / SUMMARY_CSV, summary)
    documents.write_json(
        folder / RESULTS_JSON,
        {
            "data": dataclasses.asdict(prepared.data),
            "data_notes": data_notes,
            "notes": notes,
            "conclusions": facts,
            "experiments": experiments,
            "summary": summary.to_dict("records"),
            "trials": trials.to_dict("records"),
        },
    )
    return SearchResult(folder, summary, trials, notes, data_notes, caveats, experiments)


def _by_validation(summary: pd.DataFrame, prepared: Prepared, ranking: Ranking) -> list[str]:
    """The experiments that were trained, the selected one first, then from the highest validation
    accuracy to the lowest."""
    trained = {trial.experiment.name for trial in prepared.trials}
    names = [name for name in summary["experiment_name"] if name in trained]
    chosen = ranking.chosen_name
    return names if chosen is None else [chosen, *(name for name in names if name != chosen)]


def _ceiling(prepared: Prepared, evaluator: Evaluator) -> dict[str, float] | None:
    """For simulated data, the pooled accuracies of the best possible scorer."""
    if prepared.ceiling_scores_N is None:
        return None
    difference_M = pair_differences(prepared.ceiling_scores_N, prepared.dataset.pair_rows_M2)
    return {
        f"{splits.SPLIT_NAMES[split]}_accuracy": baseline_accuracy(
            difference_M, evaluator, split, prepared.trained_folds
        )
        for split in ORDERED_SPLITS
    }


def _summarise(
    prepared: Prepared,
    trials: pd.DataFrame,
    parameters: Mapping[str, int],
    evaluator: Evaluator,
    ensembles: Sequence[TrialResult],
    beside: Mapping[str, Baseline],
) -> pd.DataFrame:
    """The table `summary.csv` with means over trials and without its intervals."""
    folds = prepared.trained_folds
    measured: dict[str, dict[str, Any]] = {
        name: {"notes": baseline.note}
        | (
            position_metrics(evaluator, folds)
            if baseline.scores_FN is None
            else baseline_metrics(baseline.scores_FN, evaluator, folds)
        )
        for name, baseline in beside.items()
    }
    return summarise(
        prepared.experiments,
        prepared.skipped,
        trials,
        parameters,
        measured,
        prepared.data.caveats,
        ensembles,
    )


def _write_records(folder: Path, ready: Workspace, workers: str) -> None:
    """What is known before training: config, environment, splits."""
    prepared = ready.prepared
    tables.write_frame(
        folder / "splits.csv",
        splits.split_frame(
            prepared.split_data.splits_FM, prepared.dataset.table, prepared.launch["split"]
        ),
    )
    documents.write_json(
        folder / "config.json",
        {
            "jaxrank_version": jaxrank.__version__,
            "launch": ready.record.launch,
            "data": dataclasses.asdict(prepared.data),
            "experiments": [dataclasses.asdict(e) for e in prepared.experiments],
        },
    )
    if not ready.waiting and (folder / ENVIRONMENT_JSON).is_file():
        return  # it is that of the training
    documents.write_json(
        folder / ENVIRONMENT_JSON,
        {
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "devices": [f"{d.platform}: {d.device_kind}" for d in jax.local_devices()],
            "workers": workers,
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    )
