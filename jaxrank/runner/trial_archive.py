"""Results of finished cohorts, one NumPy archive each: `checkpoints/7.npz` in a search's folder."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxrank.evaluation.trial_results import HISTORY_METRICS, TrialMetrics, TrialResult
from jaxrank.io import atomic, reading
from jaxrank.planning.trials import Trial
from jaxrank.scaling import Scaling
from jaxrank.training.checkpointing import FOLDER
from jaxrank.training.state import InitialWeights


def write_results(folder: Path, number: int, results: Sequence[TrialResult], data: str) -> None:
    """Writes a cohort's results as one NumPy archive, without pickle.

    Rows are stored as JSON, the rest as arrays.

    Args:
      folder: folder of the search.
      number: number of the cohort.
      results: results of the cohort's trials, in their order.
      data: hash of the pairs, features and splits; see `manifest.Manifest.data_and_splits`.
    """
    history_CE = np.concatenate([r.history_EC for r in results]).T
    arrays: dict[str, Any] = {
        "identity": np.array(_identity([r.trial for r in results], data)),
        "rows": np.array(json.dumps([dataclasses.asdict(r.metrics) for r in results])),
        "scores": np.stack([r.scores_N for r in results]),
        "epochs": np.array([len(r.history_EC) for r in results]),
    }
    arrays |= {
        f"history/{column}": values_E
        for column, values_E in zip(HISTORY_METRICS, history_CE, strict=True)
    }
    for place, result in enumerate(results):
        if result.weights is not None:
            tree = {
                "params": result.weights.params,
                "scaling": result.weights.scaling._asdict(),
            }
            arrays |= {f"{place}/{k}": leaf for k, leaf in flatten_dict(tree, sep="/").items()}
    arrays["content"] = np.array(_content(arrays))
    atomic.make_folder(folder / FOLDER)
    with atomic.atomic_file(folder / FOLDER / f"{number}.npz", "wb") as file:
        np.savez(file, **arrays)


def read_results(
    folder: Path, cohorts: Mapping[int, Sequence[Trial]], data: str
) -> tuple[dict[int, list[TrialResult]], list[str]]:
    """Reads the results of the finished cohorts of a search.

    Args:
      folder: folder of the search.
      cohorts: trials of each cohort, by number.
      data: hash that the results were written with, see `write_results`.

    Returns:
      Results by cohort number, and a sentence for each file that can't be read.
    """
    found, notes = {}, []
    for number, trials in cohorts.items():
        path = folder / FOLDER / f"{number}.npz"
        try:
            found[number] = _read_archive(path, trials, data)
        except FileNotFoundError:
            continue
        except Exception as error:  # NumPy raises many kinds of errors for damaged bytes
            notes.append(f"{path} can't be read ({error}): its trials are trained again")
    return found, notes


def _identity(trials: Sequence[Trial], data: str) -> str:
    """Hash of the trials and data that results belong to.

    Names alone would not do: another search may use the same names.
    """
    described = [[dataclasses.asdict(t.experiment), t.fold, t.seed] for t in trials]
    text = json.dumps([data, described], sort_keys=True, default=np.generic.item)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of all arrays of an archive.

    ZIP's own checksums don't detect an array that is replaced as a whole.
    """
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # no copy
    return found.hexdigest()


def _read_archive(path: Path, trials: Sequence[Trial], data: str) -> list[TrialResult]:
    """Reads what `write_results` wrote for these trials.

    Raises:
      Exception: of many kinds, also for an archive of other trials or of another search.
    """
    reading.check_file(path, reading.ARRAY)
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = dict(archive)
    if str(arrays.pop("content")) != _content(arrays):
        raise ValueError("its content has changed")
    if str(arrays["identity"]) != _identity(trials, data):
        raise ValueError("it has the results of other trials")
    rows = json.loads(str(arrays["rows"]))
    history_EC = np.stack([arrays[f"history/{column}"] for column in HISTORY_METRICS], axis=1)
    weights = _weights(arrays)
    ends = np.cumsum(arrays["epochs"])
    results = []
    for place, (trial, row, end) in enumerate(zip(trials, rows, ends, strict=True)):
        results.append(
            TrialResult(
                trial,
                TrialMetrics(**row),
                history_EC[end - arrays["epochs"][place] : end],
                arrays["scores"][place],
                weights.get(place),
            )
        )
    return results


def _weights(arrays: Mapping[str, np.ndarray]) -> dict[int, InitialWeights]:
    """Weights by a trial's index in the archive, for the trials whose weights were kept."""
    trees: dict[int, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        place, _, leaf = name.partition("/")
        if place.isdigit():
            trees.setdefault(int(place), {})[leaf] = array
    parts = {place: unflatten_dict(tree, sep="/") for place, tree in trees.items()}
    return {p: InitialWeights(t["params"], Scaling(**t["scaling"])) for p, t in parts.items()}
