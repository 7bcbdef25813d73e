"""Finds the folder of a search and plans the work that is left in it."""

import datetime
import os
from pathlib import Path
from typing import Any, NamedTuple

from jaxrank.devices import DeviceSpec
from jaxrank.errors import UserError
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.io import atomic
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import TrialKey
from jaxrank.reporting import trackers
from jaxrank.reporting.summary import RESULTS_JSON, SUMMARY_CSV, TRIALS_CSV
from jaxrank.runner import null_search, rounds, rungs
from jaxrank.runner.description import describe
from jaxrank.runner.manifest import (
    PLAN_JSON,
    Manifest,
    PlannedCohort,
    cohorts_of,
    extended_manifest,
    new_manifest,
    read_manifest,
)
from jaxrank.runner.prepare import Prepared, prepare, refuse_too_much
from jaxrank.runner.resume_checks import check_machine, check_same, resumed_options
from jaxrank.runner.states import damaged_sources
from jaxrank.runner.trial_archive import read_results
from jaxrank.training.checkpointing import FOLDER

OUTPUTS = Path("outputs/hyperparameter_search")
TRAINING_LOG = "training.log"
# Options that change what is written, but not what is trained.
_WRITTEN = (
    "final", "final_on", "predictions", "curves", "track", "null_search", "confirm",
    "optuna_journal",
)  # fmt: skip


class Workspace(NamedTuple):
    """Work that is left in a folder: a whole search, or the rest of one.

    Attributes:
      record: record of the search.
      prepared: the prepared launch.
      finished: results of the cohorts that need no training, by cohort number.
      damaged: a sentence for each result that can't be read.
      missing: missing files of a finished search.
    """

    record: Manifest
    prepared: Prepared
    finished: dict[int, list[TrialResult]]
    damaged: list[str]
    missing: list[str]

    @property
    def waiting(self) -> list[PlannedCohort]:
        return [c for c in self.record.cohorts if c.number not in self.finished]

    @property
    def stage(self) -> list[PlannedCohort]:
        """Waiting cohorts that can be trained now; the other waiting cohorts continue them."""
        first = min((c.begins for c in self.waiting), default=0)
        return [c for c in self.waiting if c.begins == first]

    @property
    def open_rung(self) -> bool:
        """Whether a rung is undecided, so that some experiments may still be dropped."""
        return rungs.open_rung(self.record, self.prepared.experiments) is not None

    def describe(self) -> list[str]:
        """Describes the data, the plan and the work that is left, in sentences."""
        lines = [*describe(self.prepared), *self.damaged]
        if self.missing:
            lines.append(
                f"files of this search that are missing are written again: {self.missing[0]}"
                + (f" and {len(self.missing) - 1:,} more" if self.missing[1:] else "")
            )
        if self.finished:
            waiting = sum(len(cohort.trials) for cohort in self.waiting)
            lines.append(f"resumed: {waiting} of {len(self.prepared.trials)} trials are waiting")
        return lines

    @property
    def waiting_cohorts(self) -> list[Cohort]:
        return list(cohorts_of(self.waiting, self.prepared).values())

    @property
    def results(self) -> dict[TrialKey, TrialResult]:
        """Results of trials that are not waiting; for a trial trained twice, the later result."""
        waiting = {key for planned in self.waiting for key in planned.trials}
        return {
            result.trial.key: result
            for planned in self.record.cohorts
            for result in self.finished.get(planned.number, ())
            if result.trial.key not in waiting
        }


def find_workdir(workdir: Path | str | None, *, resume: bool) -> Path:
    """Returns the folder of a launch, which need not exist.

    Raises:
      UserError: the name can't be a folder's, or the folder is occupied and not to be resumed.
    """
    if workdir is not None:
        folder = Path(workdir)
        if "://" in str(workdir):
            raise UserError(f"--workdir={workdir}: a remote folder; name a local one")
        if not str(folder).isprintable() or workdir == "":
            raise UserError(f"--workdir={workdir}: not a usable name for a folder")
    else:
        now = datetime.datetime.now().strftime("search_%Y%m%d_%H%M%S")
        begun = sorted(OUTPUTS.glob(f"search_*/{PLAN_JSON}"))
        folder = begun[-1].parent if resume and begun else OUTPUTS / now
    if not resume or not has_plan(folder):
        refuse_occupied(folder)
    return folder


def has_plan(folder: Path) -> bool:
    return os.path.isfile(folder / PLAN_JSON)  # Path.is_file raises for some names


def refuse_occupied(folder: Path) -> None:
    # Files of a search that was killed before its plan was written.
    begun = (folder / PLAN_JSON, folder / atomic.WRITER)
    harmless = {atomic.LOCK, atomic.WRITER, *(atomic.temporary_path(path).name for path in begun)}
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"--workdir={folder}: can't be used ({error.strerror})") from None
    if PLAN_JSON in names:
        raise UserError(
            f"--workdir={folder}: a search has been begun there; resume it by "
            "'search --resume', or name a new folder"
        )
    if names - harmless:
        raise UserError(f"--workdir={folder}: the folder is not empty; name a new one")


def plan_search(
    folder: Path,
    given: dict[str, Any],
    *,
    extend: bool = False,
    retry_failed: bool = False,
    device: DeviceSpec | None = None,
) -> Workspace:
    """Plans a new search, or the rest of the search in the folder; writes no file.

    Args:
      folder: from `find_workdir`.
      given: options of `prepare`, including its inputs.
      extend, retry_failed: see `search`.
      device: see `prepare`.
    """
    record = read_manifest(folder)
    if record is None:
        if extend or retry_failed:
            raise UserError(f"--workdir={folder}: there is no search to resume")
        given, first = rounds.begin(given)
        prepared = prepare(**given, device=device)
        record = new_manifest(prepared)._replace(rounds=first)
        if first:
            rounds.check_rest(record, prepared)
        return Workspace(record, prepared, {}, [], [])
    rounds.check_same(record, given, extend=extend)
    options = resumed_options(record, given, extend=extend)
    prepared = prepare(**options, device=device, has_plan=True)
    check_same(folder, record, prepared, extend=extend)
    trials = {trial.key: trial for trial in prepared.trials}
    planned = {c.number: [trials[key] for key in c.trials] for c in record.cohorts}
    finished, damaged = read_results(folder, planned, record.data_and_splits)
    if record.launch.get("rungs"):
        if retry_failed:
            raise UserError("--retry_failed: a search with --rungs has been decided without them")
        reached = rungs.open_rung(record, prepared.experiments)
        epoch = None if reached is None else reached.epoch
        # A cohort that is trained again needs states of earlier cohorts in turn.
        while numbers := damaged_sources(folder, record, finished, epoch):
            for number in numbers:
                del finished[number]
                damaged.append(f"the state of cohort {number} can't be read: it is trained again")
    ready = Workspace(record, prepared, finished, damaged, missing_files(folder, record))
    known = set(record.trials)
    results = ready.results if retry_failed else {}
    failed = {key for key, r in results.items() if not r.metrics.completed}
    # In the order of the tables, as everywhere: the first of equally good trials keeps its weights.
    added = [trial for trial in prepared.trials if trial.key not in known]
    more = [trial for trial in prepared.trials if trial.key not in known or trial.key in failed]
    if added and prepared.launch["rungs"]:
        raise UserError(
            "--extend: a search with --rungs can't get more names, folds or seeds; that of a "
            "--space can get more --num_experiments"
        )
    if added and ready.waiting and not record.finished:
        raise UserError(
            f"--workdir={folder}: only a finished search can be extended; finish it with "
            "--resume first"
        )
    if more or ready.waiting:
        check_machine(folder, record, prepared)
        waiting = [*cohorts_of(ready.waiting, prepared).values()]
        refuse_too_much(prepared.dataset, waiting, prepared.launch["memory_fraction"])
    if more:
        cohorts = planner.make_cohorts(
            more, prepared.split_data, prepared.cohort_limit, prepared.profile
        )
        record = extended_manifest(record, prepared, cohorts)
    if extend and record.rounds:
        record = rounds.reopened(record, prepared)
    written = {key: prepared.launch[key] for key in _WRITTEN}
    others = any(record.launch.get(key, value) != value for key, value in written.items())
    if ready.missing or others or (ready.waiting and (extend or retry_failed)):
        record = record._replace(finished=False)
    # Input files may have moved: only their content counts.
    moved = {key: prepared.launch[key] for key in ("pairs", "features", "series", "init_from")}
    moved |= written
    return ready._replace(record=record._replace(launch=record.launch | moved))


def list_files(folder: Path) -> list[str]:
    """Lists the files in a search's folder that can be written again, by their relative paths.

    Excludes the log, the trackers' files and the search on permuted preferences, which has its own
    plan. Also excludes the results in `checkpoints/`, from which the other files are made: trials
    without results are trained again when needed.
    """
    apart = (PLAN_JSON, TRAINING_LOG, FOLDER, trackers.FOLDER, null_search.FOLDER)
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(
        path.as_posix()
        for path in paths
        if not any(part.startswith(".") for part in path.parts) and path.parts[0] not in apart
    )


def missing_files(folder: Path, record: Manifest) -> list[str]:
    """Files that a finished search had and that are missing now."""
    if not (record.finished or record.files):
        return []
    names = dict.fromkeys([*record.files, TRIALS_CSV, SUMMARY_CSV, RESULTS_JSON])
    return [name for name in names if not os.path.isfile(folder / name)]
