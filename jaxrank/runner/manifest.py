"""The record of a search, `plan.json`, from which a later run can resume it.

The file is replaced as a whole and carries its own checksum: it is either complete and unchanged,
or no record. The trials of each cohort are read from the record, not planned again: another
machine's memory, or a cohort that had to be halved, does not change what is resumed.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxrank
from jaxrank.errors import UserError
from jaxrank.io import atomic
from jaxrank.io.documents import read_json
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.planner import make_cohort, measure_folds
from jaxrank.planning.trials import TrialKey
from jaxrank.runner.prepare import Prepared

PLAN_JSON = "plan.json"
_FORMAT = 4
# Types of the fields of `Manifest` in JSON.
_TYPES = {
    "versions": dict, "device": str, "data": str, "folds": list, "launch": dict,
    "experiments": list, "cohorts": list, "finished": bool, "files": list, "rounds": list,
    "rungs": list,
}  # fmt: skip
# Packages of which another version may train other bits.
_PACKAGES_THAT_MATTER = ("jax", "jaxlib", "flax", "optax", "numpy")


class PlannedCohort(NamedTuple):
    """Trials to train together.

    Attributes:
      number: number that names the cohort's files; never used twice in a search.
      program: see `Cohort.program`.
      trials: keys of the trials.
      begins, ends: see `Cohort`.
    """

    number: int
    program: dict[str, Any]
    trials: list[TrialKey]
    begins: int = 0
    ends: int | None = None

    @property
    def num_slots(self) -> int:
        """See `Cohort`; a search that was begun by an older version has no free slots."""
        number: int = self.program.get("num_slots", len(self.trials))
        return number


class Round(NamedTuple):
    """Experiments that a strategy proposed together.

    Attributes:
      names, values: names of the experiments, and their values of the space's hyperparameters.
      versions: versions of the packages that may change the proposals.
      accuracies: mean validation accuracy of each experiment, None if no trial has completed; None
        instead of the list while the round trains.
      dropped_at: rung that has dropped each experiment; None if no rung has.
      seconds: training time of the round in the process that ended it.
      ended: reason why no round follows; empty if a round may follow.
    """

    names: list[str]
    values: list[dict[str, Any]]
    versions: dict[str, str]
    accuracies: list[float | None] | None = None
    dropped_at: list[int | None] | None = None
    seconds: float = 0.0
    ended: str = ""


class Rung(NamedTuple):
    """Outcome of a rung.

    Attributes:
      round: index of the round that the rung belongs to, from 0.
      epoch: epoch of the rung.
      next_epoch: epoch of the next rung, or the last epoch of the experiments that have entered.
      survivors: names of the experiments that continue.
      worse: names of the experiments that were separated from the best.
      by_budget: names of the experiments that the budget has dropped.
      failed: names of the experiments without a completed trial in some fold.
      finished: names of the entrants that need no further epochs.
    """

    round: int
    epoch: int
    next_epoch: int
    survivors: list[str]
    worse: list[str]
    by_budget: list[str]
    failed: list[str]
    finished: Sequence[str] = ()

    @property
    def entrants(self) -> list[str]:
        return [*self.survivors, *self.worse, *self.by_budget, *self.failed]


class Manifest(NamedTuple):
    """Record of a search.

    Attributes:
      versions: version of each package that affects the bits.
      device: kind of the device that trains.
      data: hash of the data, see `dataset.content_hash`.
      folds: a hash of the splits of each fold.
      launch: the options, see `prepare.Prepared`.
      experiments: all values of each experiment, including the references.
      cohorts: cohorts in the order of their training; for a trial in two cohorts, the later counts.
      finished: whether the tables have been written.
      files: files that existed when the search finished, relative to the folder; see
        `resume.list_files`.
      rounds: proposals and results of each round, in a search with a space.
      rungs: rungs that were decided, in this order.
    """

    versions: dict[str, str]
    device: str
    data: str
    folds: list[str]
    launch: dict[str, Any]
    experiments: list[dict[str, Any]]
    cohorts: list[PlannedCohort]
    finished: bool
    files: Sequence[str] = ()
    rounds: Sequence[Round] = ()
    rungs: Sequence[Rung] = ()

    @property
    def trials(self) -> list[TrialKey]:
        return list(dict.fromkeys(key for cohort in self.cohorts for key in cohort.trials))

    @property
    def data_and_splits(self) -> str:
        """Hash of the data that all trials share: pairs, features and splits."""
        return _checksum([self.data, self.folds])

    @property
    def identity(self) -> str:
        """Hash of the data and experiments that a running cohort depends on.

        It leaves out the experiments of later rounds, which follow from the first round.
        """
        later = {name for planned in self.rounds[1:] for name in planned.names}
        first = [e for e in self.experiments if e["name"] not in later]
        return _checksum([self.data, self.folds, first])

    def with_cohorts(self, cohorts: Sequence[Cohort]) -> "Manifest":
        """Returns the record with further cohorts at the end."""
        return self._replace(cohorts=self.cohorts + self._planned(cohorts), finished=False)

    def with_halves(self, number: int, cohort: Cohort) -> "Manifest":
        """Returns the record with a cohort, which did not fit in memory, cut in two.

        No half has free slots. Of a single trial, only those are taken away.
        """
        middle = len(cohort.trials) // 2
        halves = [
            cohort.with_trials(trials)
            for trials in (cohort.trials[:middle], cohort.trials[middle:])
            if trials
        ]
        place = [planned.number for planned in self.cohorts].index(number)
        planned = self._planned(halves)
        return self._replace(cohorts=self.cohorts[:place] + planned + self.cohorts[place + 1 :])

    def _planned(self, cohorts: Sequence[Cohort]) -> list[PlannedCohort]:
        first = 1 + max((cohort.number for cohort in self.cohorts), default=0)
        return [
            PlannedCohort(
                number, as_json(c.program), [trial.key for trial in c.trials], c.begins, c.ends
            )
            for number, c in enumerate(cohorts, first)
        ]


def new_manifest(prepared: Prepared) -> Manifest:
    """The record of a search that has not begun."""
    return record_without_cohorts(prepared).with_cohorts(prepared.cohorts)


def extended_manifest(record: Manifest, prepared: Prepared, cohorts: Sequence[Cohort]) -> Manifest:
    """Adds cohorts to a record, with the launch that requested them."""
    now = record_without_cohorts(prepared)
    wider = record._replace(launch=now.launch, experiments=now.experiments)
    return wider.with_cohorts(cohorts)


def versions() -> dict[str, str]:
    """Version of each package that affects the bits."""
    others = {name: importlib.metadata.version(name) for name in _PACKAGES_THAT_MATTER}
    return {"jaxrank": jaxrank.__version__} | others


def record_without_cohorts(prepared: Prepared) -> Manifest:
    """The record of a search without its cohorts."""
    return Manifest(
        versions=versions(),
        device=prepared.device.kind,
        data=prepared.data.sha256,
        folds=[
            hashlib.sha256(np.ascontiguousarray(fold).data).hexdigest()
            for fold in prepared.split_data.splits_FM
        ],
        launch=as_json(prepared.launch),
        experiments=[as_json(dataclasses.asdict(e)) for e in prepared.experiments],
        cohorts=[],
        finished=False,
    )


def as_json(value: Any) -> Any:
    """The value as it is read back from a JSON file: tuples become lists."""
    return json.loads(json.dumps(value, default=np.generic.item))  # NumPy's numbers become Python's


def write_manifest(folder: Path, record: Manifest) -> None:
    cohorts = [cohort._asdict() for cohort in record.cohorts]
    rounds = [planned._asdict() for planned in record.rounds]
    rungs = [rung._asdict() for rung in record.rungs]
    content = record._asdict() | {"cohorts": cohorts, "rounds": rounds, "rungs": rungs}
    whole = {"format": _FORMAT, "sha256": _checksum(content), "search": content}
    atomic.write_text(folder / PLAN_JSON, json.dumps(whole, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Reads the record of the search in a folder; None if there is none.

    Raises:
      UserError: the record is damaged, was changed by hand, or has another format.
    """
    path = folder / PLAN_JSON
    try:
        whole = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    except ValueError:
        whole = None
    record = _parse(whole)
    if record is None:
        raise UserError(
            f"{path}: damaged, changed by hand, or of another version of jaxrank; this search "
            "can't be resumed: start it again in a new --workdir"
        )
    return record


def _parse(whole: Any) -> Manifest | None:
    """Parses the record from a whole document; None if the document is not a valid record."""
    if not isinstance(whole, dict) or whole.get("format") != _FORMAT:
        return None
    content = whole.get("search")
    if not isinstance(content, dict) or whole.get("sha256") != _checksum(content):
        return None
    for name in ("rounds", "rungs"):  # an older search has none
        content.setdefault(name, [])
    if {key: type(value) for key, value in content.items()} != _TYPES:
        return None
    try:
        cohorts = [
            PlannedCohort(**c | {"trials": [(n, f, s) for n, f, s in c["trials"]]})
            for c in content["cohorts"]
        ]
        rounds = [Round(**planned) for planned in content["rounds"]]
        rungs = [Rung(**rung) for rung in content["rungs"]]
    except (KeyError, TypeError, ValueError):
        return None
    if not all(isinstance(experiment, dict) for experiment in content["experiments"]):
        return None
    return Manifest(**content | {"cohorts": cohorts, "rounds": rounds, "rungs": rungs})


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cohorts_of(planned: Iterable[PlannedCohort], prepared: Prepared) -> dict[int, Cohort]:
    """Makes planned cohorts, by number; the planner's choices are read from the record."""
    trials = {trial.key: trial for trial in prepared.trials}
    folds = measure_folds(prepared.split_data)
    return {
        one.number: make_cohort(
            [trials[key] for key in one.trials],
            prepared.dataset,
            folds,
            prepared.profile,
            tuple(one.program["program_key"]["mlp_hidden_dims"]),
            one.program["epochs_per_dispatch"],
            one.begins,
            one.ends,
            one.num_slots,
        )
        for one in planned
    }
