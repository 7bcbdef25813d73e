"""A small search of nine cohorts, and what makes two of them the same: shared by the tests of all
engines."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import jaxrank
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.planning.costs import DeviceProfile
from jaxrank.runner import device_profile

SmallData = tuple[Preferences, dict[str, Block]]
# A device on which every trial is worth a cohort of its own, and compiling costs little.
SLOW = DeviceProfile("test", 1e5, 1e6, 1e-1, 1.0, side_by_side=False)
OPTIONS: dict[str, Any] = {
    "experiments": ["iqa_only"],
    "overrides": {"max_epochs": 6, "batch_size": 32, "learning_rate": 3e-3},
    "folds": 3,
    "audit": "off",
}
NUM_TRIALS = 9  # with the references


def arrays_of(workdir: Path) -> dict[str, np.ndarray]:
    """All results of all cohorts, but how long they took."""
    found: dict[str, np.ndarray] = {}
    for path in sorted((workdir / "checkpoints").glob("*.npz")):
        with np.load(path) as archive:
            found |= {f"{path.stem}/{name}": archive[name] for name in archive.files}
    return {
        name: array
        for name, array in found.items()
        if name.split("/")[-1] not in ("rows", "content")
    }


def tables_of(workdir: Path) -> list[str]:
    """What a search says, but how long it took."""
    results = json.loads((workdir / "results.json").read_text())
    for row in results["trials"]:
        del row["duration_seconds"]
    for row in results["summary"]:
        row.pop("duration_seconds", None)
    return [json.dumps(results[name]) for name in ("summary", "trials")]


def assert_same_search(one: Path, other: Path) -> None:
    assert tables_of(one) == tables_of(other)
    first, second = arrays_of(one), arrays_of(other)
    assert first.keys() == second.keys()
    assert len(first) > NUM_TRIALS
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)
    for path in one.glob("*/predictions.csv"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def search_on_one(workdir: Path, small_data: SmallData) -> Path:
    """The search on one device."""
    jaxrank.search(*small_data, workdir=workdir, device_profile=vars(SLOW), **OPTIONS)
    assert len(list((workdir / "checkpoints").glob("*.npz"))) == NUM_TRIALS
    return workdir


def words_of_search(pairs: Path, store: Path, folder: Path) -> list[str]:
    """The same search as flags; its device profile is written into a folder."""
    profile = folder / "profile.json"
    device_profile.write_device_profile(profile, SLOW)
    words = [f"--pairs={pairs}", f"--features={store}", f"--device_profile={profile}"]
    words += [f"--config.{key}={value}" for key, value in OPTIONS["overrides"].items()]
    return [*words, "--experiments=iqa_only", "--folds=3", "--audit=off"]
