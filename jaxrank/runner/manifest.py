"""The record of a search, `plan.json`: what it is, so that a later run can resume it.

It is replaced as a whole and carries its own checksum: it is either complete and untouched, or no
record. Which trials form a cohort is read from it, not planned again: another machine's memory,
or a cohort that had to be halved, does not change what is resumed.
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
# Of the fields of `Manifest` in JSON.
_TYPES = {
    "versions": dict, "device": str, "data": str, "folds": list, "launch": dict,
    "experiments": list, "cohorts": list, "finished": bool, "files": list, "rounds": list,
    "rungs": list,
}  # fmt: skip
# Another version of one of these may train other bits.
_PACKAGES_THAT_MATTER = ("jax", "jaxlib", "flax", "optax", "numpy")


class PlannedCohort(NamedTuple):
    """Trials to train together.

    Attributes:
      number: names the cohort's files; never given twice in a search.
      program: of `Cohort`.
      trials: their keys.
      begins, ends: of `Cohort`.
    """

    number: int
    program: dict[str, Any]
    trials: list[TrialKey]
    begins: int = 0
    ends: int | None = None


class Round(NamedTuple):
    """Experiments that a strategy proposed at a time.

    Attributes:
      names, values: of the experiments; their hyperparameters of the space.
      versions: of the packages that may change what is proposed.
      accuracies: mean validation accuracy of each experiment, None where no trial has completed;
        None altogether while the round trains.
      dropped_at: the rung that has dropped each experiment, None where none has.
      seconds: that the process took which ended the round.
      ended: why no round follows; empty where one may.
    """

    names: list[str]
    values: list[dict[str, Any]]
    versions: dict[str, str]
    accuracies: list[float | None] | None = None
    dropped_at: list[int | None] | None = None
    seconds: float = 0.0
    ended: str = ""


class Rung(NamedTuple):
    """What came of a rung.

    Attributes:
      round: that it belongs to, from 0.
      epoch: the rung.
      next_epoch: the next rung, or the last epoch of the experiments that have entered.
      survivors, worse, by_budget: experiments that continue; that were separated from the best;
        that the budget has dropped.
      failed: that lack a completed trial in some fold.
    """

    round: int
    epoch: int
    next_epoch: int
    survivors: list[str]
    worse: list[str]
    by_budget: list[str]
    failed: list[str]

    @property
    def entrants(self) -> list[str]:
        return [*self.survivors, *self.worse, *self.by_budget, *self.failed]


class Manifest(NamedTuple):
    """What a search is.

    Attributes:
      versions: by package, of those that matter to the bits.
      device: the kind that trains.
      data: `dataset.content_hash`.
      folds: a hash of the splits of each fold.
      launch: the options, see `prepare.Prepared`.
      experiments: every value, the linear reference included.
      cohorts: in the order in which they are trained; of a trial that stands in two, the later
        counts.
      finished: whether the tables have been written.
      files: that were there then, relative to the folder; see `resume.list_files`.
      rounds: of a search with a space, what was proposed and what came of it.
      rungs: that were decided, in this order.
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
        """A hash of what is the same for all trials: pairs, features and splits."""
        return _checksum([self.data, self.folds])

    @property
    def identity(self) -> str:
        """A hash of what a running cohort rests on. Later rounds follow from the first."""
        later = {name for planned in self.rounds[1:] for name in planned.names}
        first = [e for e in self.experiments if e["name"] not in later]
        return _checksum([self.data, self.folds, first])

    def with_cohorts(self, cohorts: Sequence[Cohort]) -> "Manifest":
        """The record with further cohorts at the end."""
        return self._replace(cohorts=self.cohorts + self._planned(cohorts), finished=False)

    def with_halves(self, number: int, cohort: Cohort) -> "Manifest":
        """The record with this cohort, which did not fit in memory, cut in two."""
        middle = len(cohort.trials) // 2
        halves = [
            cohort.with_trials(trials)
            for trials in (cohort.trials[:middle], cohort.trials[middle:])
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
    """The record with more to train, and with the launch that asked for it."""
    now = record_without_cohorts(prepared)
    wider = record._replace(launch=now.launch, experiments=now.experiments)
    return wider.with_cohorts(cohorts)


def versions() -> dict[str, str]:
    """By package, of those that matter to the bits."""
    others = {name: importlib.metadata.version(name) for name in _PACKAGES_THAT_MATTER}
    return {"jaxrank": jaxrank.__version__} | others


def record_without_cohorts(prepared: Prepared) -> Manifest:
    """All of a record but its cohorts."""
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
    """The value as it comes back from a file: tuples become lists."""
    return json.loads(json.dumps(value, default=np.generic.item))  # NumPy's numbers become Python's


def write_manifest(folder: Path, record: Manifest) -> None:
    cohorts = [cohort._asdict() for cohort in record.cohorts]
    rounds = [planned._asdict() for planned in record.rounds]
    rungs = [rung._asdict() for rung in record.rungs]
    content = record._asdict() | {"cohorts": cohorts, "rounds": rounds, "rungs": rungs}
    whole = {"format": _FORMAT, "sha256": _checksum(content), "search": content}
    atomic.write_text(folder / PLAN_JSON, json.dumps(whole, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The record of the search in this folder; None where there is none.

    Raises:
      UserError: it is damaged, or changed by hand.
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
    """The record in a whole document; None where it is none."""
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
    """The cohorts as they are trained, by number: what the plan has chosen is read from the
    record."""
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
        )
        for one in planned
    }
