"""Files that a search writes before it trains: options, environment, splits."""

import dataclasses
import datetime
import importlib.metadata
import platform
from pathlib import Path

import jax

import jaxrank
from jaxrank.data import splits
from jaxrank.io import documents, tables
from jaxrank.machine import usable_cores
from jaxrank.runner.resume import Workspace

ENVIRONMENT_JSON = "environment.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")


def write_records(folder: Path, ready: Workspace, workers: str) -> None:
    """Writes the files that precede training: config, environment, splits."""
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
        return  # keeps the environment of the training
    documents.write_json(
        folder / ENVIRONMENT_JSON,
        {
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": usable_cores(),
            "devices": [f"{d.platform}: {d.device_kind}" for d in jax.local_devices()],
            "workers": workers,
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    )
