"""States of cohorts that have ended at a rung: `checkpoints/7.state.npz` in a search's folder.

Each state is one NumPy archive. The trials continue in other cohorts. When a round has ended, its
states are removed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.io import atomic, reading
from jaxrank.runner.manifest import Manifest, PlannedCohort
from jaxrank.training.checkpoint import Checkpoint, ContinuedTrials
from jaxrank.training.checkpointing import FOLDER
from jaxrank.training.state import RUNNING, FitResult

_SUFFIX = ".state.npz"


def write_state(folder: Path, planned: PlannedCohort, fitted: FitResult, data: str) -> None:
    """Writes the last state of a cohort, and which of its trials may continue.

    Args:
      folder: folder of the search.
      planned: the cohort, which ends at a rung.
      fitted: result of the cohort.
      data: see `manifest.Manifest.data_and_splits`.
    """
    assert fitted.packed is not None
    arrays: dict[str, Any] = {
        "epoch": np.array(len(fitted.history.running)),
        "packed": fitted.packed,
        "running": fitted.status_P == RUNNING,
    }
    arrays["content"] = np.array(_content(arrays, planned, data))
    atomic.make_folder(folder / FOLDER)
    with atomic.atomic_file(folder / FOLDER / f"{planned.number}{_SUFFIX}", "wb") as file:
        np.savez(file, **arrays)


def read_state(
    folder: Path, planned: PlannedCohort, data: str
) -> tuple[Checkpoint, np.ndarray] | None:
    """Reads the last state of a cohort, and which of its trials may continue, bool [P].

    Returns None if the file is missing, damaged or of another cohort, or if no trial could be
    trained.
    """
    path = folder / FOLDER / f"{planned.number}{_SUFFIX}"
    try:
        reading.check_file(path, reading.ARRAY)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        if str(arrays.pop("content")) != _content(arrays, planned, data):
            return None
        return Checkpoint(int(arrays["epoch"]), arrays["packed"]), arrays["running"]
    except Exception:  # NumPy raises many kinds of errors for damaged bytes
        return None


def parts_of(folder: Path, number: int, record: Manifest) -> list[ContinuedTrials]:
    """Parts of earlier cohorts from which a cohort continues at a rung."""
    (planned,) = (one for one in record.cohorts if one.number == number)
    parts = []
    for source in sources_of(planned, record):
        there = {key: place for place, key in enumerate(source.trials)}
        here = [place for place, key in enumerate(planned.trials) if key in there]
        state = read_state(folder, source, record.data_and_splits)
        assert state is not None, f"the state of cohort {source.number} was there a moment ago"
        places = [there[planned.trials[place]] for place in here]
        parts.append(ContinuedTrials(state[0], len(source.trials), places, here))
    return parts


def sources_of(planned: PlannedCohort, record: Manifest) -> list[PlannedCohort]:
    """Cohorts that have trained a cohort's trials to the rung where it begins."""
    return [
        one
        for one in record.cohorts
        if planned.begins and one.ends == planned.begins and set(one.trials) & set(planned.trials)
    ]


def damaged_sources(
    folder: Path, record: Manifest, finished: Mapping[int, list[TrialResult]], at_rung: int | None
) -> list[int]:
    """Numbers of finished cohorts whose states are needed but can't be read.

    States are needed by waiting cohorts, and to decide the rung that is reached next.
    """
    needed = {
        source.number: source
        for planned in record.cohorts
        if planned.number not in finished
        for source in sources_of(planned, record)
    }
    if at_rung is not None:
        in_round = set(record.rounds[-1].names) if record.rounds else None
        needed |= {
            one.number: one
            for one in record.cohorts
            if one.ends == at_rung
            and (in_round is None or any(name in in_round for name, _, _ in one.trials))
        }
    return [
        number
        for number, planned in needed.items()
        if number in finished
        and any(result.metrics.completed for result in finished[number])
        and read_state(folder, planned, record.data_and_splits) is None
    ]


def remove_states(folder: Path) -> None:
    """Removes all states, once no cohort will continue from them."""
    for path in (folder / FOLDER).glob(f"*{_SUFFIX}"):
        path.unlink()


def _content(arrays: Mapping[str, np.ndarray], planned: PlannedCohort, data: str) -> str:
    """Hash of the arrays and of the cohort and data that they belong to."""
    belongs = [data, planned.trials, planned.program, planned.begins, planned.ends]
    digest = hashlib.sha256(json.dumps(belongs, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
