"""Device profiles: rates of a device, measured on small cohorts and stored in a file."""

import dataclasses
import datetime
import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrank import devices, train
from jaxrank.configs import default
from jaxrank.data import splits, synthetic
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.errors import UserError, program
from jaxrank.experiments.hyperparameters import Experiment, read_experiments
from jaxrank.io import atomic
from jaxrank.io.documents import read_json
from jaxrank.planning import costs, planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.costs import DeviceProfile, Work
from jaxrank.planning.trials import make_trials
from jaxrank.training import epoch
from jaxrank.training.arrays import cohort_rows
from jaxrank.training.jax_settings import require_usable_jax

_FORMAT = 3
_NUM_SERIES = 1000  # simulated; some 2,800 pairs
_EPOCHS = 5  # timed, after one that is not timed
# Blocks, hidden sizes, pairs in a batch, trials. Matrix products, memory traffic and steps must
# have different weights in these cohorts, else the three rates can't be separated.
_COHORTS: tuple[tuple[str, tuple[int, ...], int, int], ...] = (
    ("clip,cnn,iqa", (256,), 64, 1),
    ("clip,cnn,iqa", (512, 256), 64, 2),
    ("clip,cnn,iqa", (256,), 256, 1),
    ("clip", (128,), 128, 4),
    ("iqa", (32,), 64, 1),
    ("iqa", (32,), 64, 16),
)


class Timing(NamedTuple):
    """Times of one cohort."""

    shape: str
    work: Work  # of an epoch
    epoch_seconds: float
    compile_seconds: float


def profile_device() -> tuple[DeviceProfile, list[Timing]]:
    """Trains each of the cohorts for a few epochs, and fits the rates to the times."""
    require_usable_jax()
    simulated = synthetic.simulate(num_series=_NUM_SERIES)
    dataset = align(simulated.pairs, simulated.features)
    data = SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table))
    (base, *_) = read_experiments(default.get_config(), ["simple_mlp"], {})
    timings = []
    for blocks, dims, batch_size, num_trials in _COHORTS:
        experiment = dataclasses.replace(
            base, blocks=tuple(blocks.split(",")), mlp_hidden_dims=dims, batch_size=batch_size
        )
        timings.append(_time(experiment, num_trials, data))
    return fit_profile(timings), timings


def _time(experiment: Experiment, num_trials: int, data: SplitDataset) -> Timing:
    """Times a cohort on all devices at once, because the workers of a search run side by side."""
    trials = make_trials([experiment], [0], 0, num_trials)
    cohort = planner.make_cohort(
        trials,
        data.dataset,
        planner.measure_folds(data),
        costs.built_in_profile(),
        experiment.mlp_hidden_dims,
        epochs_per_dispatch=1,
    )
    using = devices.workers()
    together = threading.Barrier(len(using))
    with ThreadPoolExecutor(len(using)) as pool:
        times = list(pool.map(lambda one: _time_on(one, cohort, data, together), using))
    shape = f"{cohort.input_dim} inputs, hidden {experiment.hidden_dims_text}"
    return Timing(
        f"{shape}, {num_trials} trials, {experiment.batch_size} pairs a batch",
        cohort.epoch_work,
        float(np.median([epoch_seconds for epoch_seconds, _ in times])),
        float(np.median([compile_seconds for _, compile_seconds in times])),
    )


def _time_on(
    device: jax.Device, cohort: Cohort, data: SplitDataset, together: threading.Barrier
) -> tuple[float, float]:
    """Seconds per epoch and seconds of compilation, on one device."""
    begun = time.perf_counter()
    compiled = train.compile_cohort(cohort, data, device=device)
    compile_seconds = time.perf_counter() - begun
    rows = jax.device_put(cohort_rows(cohort, data, 0)[:, None], device)
    state, seconds = compiled.init(), []
    for _ in range(1 + _EPOCHS):
        together.wait()
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(
            epoch.cohort_epochs(compiled.static, compiled.inputs.data, compiled.arrays, state, rows)
        )
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds[1:])), compile_seconds


def fit_profile(timings: list[Timing]) -> DeviceProfile:
    """Fits rates by non-negative least squares of the relative errors of the predicted seconds."""
    from scipy.optimize import nnls  # takes 0.2 s, for which no search should wait

    work = np.array([timing.work for timing in timings])
    seconds = np.array([timing.epoch_seconds for timing in timings])
    # In units in which all three are near one, for the solver.
    scale = work.max(axis=0)
    cost, _ = nnls(work / scale / seconds[:, None], np.ones(len(timings)))
    # A fitted cost of zero is replaced by a small one: rates must be finite.
    per_unit = np.maximum(cost, 1e-6 * seconds.max()) / scale
    now = datetime.datetime.now().astimezone()
    return DeviceProfile(
        source=f"measured on {devices.kind()}, {now:%Y-%m-%d}",
        flops_per_second=float(1 / per_unit[0]),
        bytes_per_second=float(1 / per_unit[1]),
        step_seconds=float(per_unit[2]),
        compile_seconds=float(np.median([timing.compile_seconds for timing in timings])),
        side_by_side=costs.built_in_profile().side_by_side,
    )


def write_device_profile(path: Path, profile: DeviceProfile) -> None:
    content = {
        "format": _FORMAT,
        "device": devices.kind(),
        "profile": dataclasses.asdict(profile),
    }
    atomic.write_text(path, json.dumps(content, indent=1) + "\n")


def read_device_profile(path: Path | str, kind: str | None = None) -> dict[str, Any]:
    """Reads a device profile that the command `profile` wrote.

    Args:
      path: path of the file.
      kind: kind of the devices that train, as `jaxrank search --dry_run` prints it; by default the
        kind of this process's devices.

    Returns:
      The argument `device_profile` of `search`.

    Raises:
      UserError: the file was not written by the command `profile`, or not on this kind of device.
    """
    try:
        content = read_json(Path(path))
        profile = content["profile"]
        names = {field.name for field in dataclasses.fields(DeviceProfile)}
        sound = content["format"] == _FORMAT and profile.keys() == names
        for name in names - {"source", "side_by_side"}:
            sound = sound and isinstance(profile[name], float) and 0 < profile[name] < math.inf
        sound = sound and isinstance(profile["source"], str)
        sound = sound and isinstance(profile["side_by_side"], bool)
    except OSError as error:
        raise UserError(f"--device_profile={path}: can't be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise UserError(
            f"--device_profile={path}: not a file of '{program()} profile'; make a new one"
        )
    here = kind or devices.kind()
    if not devices.is_kind(here, content["device"]):
        raise UserError(
            f"--device_profile={path}: measured on '{content['device']}', and this is '{here}': "
            f"run '{program()} profile' here"
        )
    return profile
