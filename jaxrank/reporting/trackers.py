"""Experiment trackers: `--track=tensorboard,wandb` writes every trial as a separate run.

Runs are written from a search's records once the records are on disk. Trackers are write-only
copies: jaxrank never reads them back and never sends them anywhere. Failures are logged as
warnings.
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

# Subfolder of a search's folder; an experiment can't have this name.
FOLDER = "trackers"
# File beside a tracker's runs: the digest of each written run, by identity.
_WRITTEN = ".written.json"

log = logging.getLogger("jaxrank")


class Run(NamedTuple):
    """One trial in the form that trackers take.

    Attributes:
      identity: 16 hexadecimal digits of a hash of the data, the splits and the trial.
      name: readable name, and path below the tracker's folder.
      group: name of the search.
      hyperparameters: the experiment's hyperparameters, with the trial's fold and seed.
      epochs: metrics of each epoch from the first, by column of `history.csv`.
      completed: whether the trial has a result.
      result: values of the trial's row, by column of `trials.csv`.
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
        """Hash of the run without the trial's duration."""
        result = {k: v for k, v in self.result.items() if k != "duration_seconds"}
        content = json.dumps(self._replace(result=result), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


StopSignal: TypeAlias = Callable[[], int | None]
# Writers by tracker name, which is also the name of the package. Each writes runs below a folder,
# replaces earlier versions of these runs, and raises on failure; after a signal InterruptedError.
TRACKERS: dict[str, Callable[[Path, Sequence[Any], StopSignal], None]] = {
    "tensorboard": tensorboard_runs.write,
    "wandb": wandb_runs.write,
}


def chosen_trackers(text: str) -> list[str]:
    """Parses a comma-separated list of tracker names.

    Raises:
      UserError: there is no such tracker, or its package is not installed.
    """
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"--track={name}: unknown.{did_you_mean(name, TRACKERS)}")
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of this name is not the package
            raise UserError(f"--track={name} needs a package: pip install 'jaxrank[{name}]'")
    return names


def make_runs(results: Sequence[TrialResult], data: str, group: str) -> list[Run]:
    """Converts trial results to runs.

    Args:
      results: results of the trials.
      data: hash of the pairs, features and splits.
      group: name of the search.
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
    """Writes new and changed runs to each tracker; failures are logged as warnings.

    Args:
      folder: folder of the search.
      names: names of trackers.
      runs: runs of all trials so far.
      stop_signal: returns the signal received, if any. A signal ends the writing, and a later call
        writes the missing runs.
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
        except InterruptedError:  # the caller stops the search
            return
        except Exception as error:  # libraries raise their own types; the search has not failed
            log.warning(
                "--track=%s: not written (%s: %s)",
                *(name, type(error).__name__, error),
            )


def _read_written(path: Path) -> dict[str, str]:
    """Reads the digests by identity; empty if the file is missing or damaged."""
    try:
        found = documents.read_json(path)
    except (OSError, ValueError):
        return {}
    return dict(found) if isinstance(found, dict) else {}
