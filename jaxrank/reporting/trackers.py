"""Experiment trackers: `--track=tensorboard,wandb` writes every trial as a run of its own.

What a tracker shows is made of a search's records, when these are on the disk. A tracker is a
mirror: nothing reads it back, nothing is sent anywhere, and one that fails is a warning.
"""

import dataclasses
import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxrank.errors import UserError, did_you_mean
from jaxrank.evaluation.trial_results import HISTORY_METRICS, TrialResult
from jaxrank.io import atomic, documents
from jaxrank.reporting import tensorboard_runs, wandb_runs

# In the folder of a search; an experiment can't have this name.
FOLDER = "trackers"
# Beside a tracker's files: the digest of each run that was written, by identity.
_WRITTEN = ".written.json"

log = logging.getLogger("jaxrank")


class Run(NamedTuple):
    """A trial as trackers show it.

    Attributes:
      identity: 16 hexadecimal digits, of the data, the splits and the trial.
      name: for people, and a path below the tracker's folder.
      group: the search.
      hyperparameters: of the experiment, with the trial's fold and seed.
      epochs: a dict for each, from the first one on, by column of `history.csv`.
      completed: whether the trial has a result.
      result: by column of `trials.csv`.
    """

    identity: str
    name: str
    group: str
    hyperparameters: Mapping[str, bool | int | float | str]
    epochs: Sequence[Mapping[str, float]]
    completed: bool
    result: Mapping[str, float | str]

    @property
    def digest(self) -> str:
        """A hash of all but the time that the trial took."""
        result = {k: v for k, v in self.result.items() if k != "duration_seconds"}
        content = json.dumps(self._replace(result=result), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


StopSignal: TypeAlias = Callable[[], int | None]
# Each writes runs below a folder, in place of earlier ones of the same identity, and raises what
# went wrong. By name, which is that of the package, too.
TRACKERS: dict[str, Callable[[Path, Sequence[Any], StopSignal], None]] = {
    "tensorboard": tensorboard_runs.write,
    "wandb": wandb_runs.write,
}


def chosen_trackers(text: str) -> list[str]:
    """The names in a comma-separated list.

    Raises:
      UserError: there is no such tracker, or its package is not installed.
    """
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"--track={name}: unknown.{did_you_mean(name, TRACKERS)}")
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of this name is no package
            raise UserError(f"--track={name} needs a package: pip install 'jaxrank[{name}]'")
    return names


def make_runs(results: Sequence[TrialResult], data: str, group: str) -> list[Run]:
    """The runs of trials.

    Args:
      results: of the trials.
      data: a hash of the pairs, features and splits.
      group: the search.
    """
    return [_run(result, data, group) for result in results]


def _run(result: TrialResult, data: str, group: str) -> Run:
    trial = result.trial
    values = dataclasses.asdict(trial.experiment)
    values |= {"name": trial.experiment.name, "fold": trial.fold, "seed": trial.seed}
    plain = {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in values.items()}
    identity = hashlib.sha256(json.dumps([data, plain], sort_keys=True).encode()).hexdigest()
    metrics = result.metrics
    row = {name: value for name, value in metrics.as_row().items() if name not in values}
    del row["experiment_name"]
    numbers = {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
    return Run(
        identity=identity[:16],
        name=f"{trial.experiment.name}/fold{trial.fold}-seed{trial.seed}",
        group=group,
        hyperparameters=plain,
        epochs=[
            dict(zip(HISTORY_METRICS, map(float, history_C), strict=True))
            for history_C in result.history_EC
        ],
        completed=metrics.completed,
        result={name: value for name, value in numbers.items() if value is not None},
    )


def record_runs(
    folder: Path, names: Sequence[str], runs: Sequence[Run], stop_signal: StopSignal
) -> None:
    """Writes those runs that each tracker does not have yet; what goes wrong is a warning.

    Args:
      folder: of the search.
      names: of trackers.
      runs: of all trials so far.
      stop_signal: a signal ends the writing, and a later call writes what is missing.
    """
    for name in names:
        place = folder / FOLDER / name
        try:
            written = _read_written(place / _WRITTEN)
            new = [run for run in runs if written.get(run.identity) != run.digest]
            if new and stop_signal() is None:
                atomic.make_folder(folder / FOLDER)
                atomic.make_folder(place)
                TRACKERS[name](place, new, stop_signal)
                written |= {run.identity: run.digest for run in new}
                documents.write_json(place / _WRITTEN, written)
        except Exception as error:  # a library's own kinds; the search itself has not failed
            log.warning(
                "--track=%s: not written (%s: %s)",
                *(name, type(error).__name__, error),
            )


def _read_written(path: Path) -> dict[str, str]:
    """The digests by identity; none where there is no file, or a damaged one."""
    try:
        found = documents.read_json(path)
    except (OSError, ValueError):
        return {}
    return dict(found) if isinstance(found, dict) else {}
