"""Small data and small cohorts that the tests share: no test needs the embedded set's size."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxrank.configs import default
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation.calibration import Calibration
from jaxrank.evaluation.trial_results import COMPLETED, TrialResult, metrics_of
from jaxrank.experiments.hyperparameters import Experiment, read_experiments
from jaxrank.inference.model_card import ModelCard
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.costs import DeviceProfile
from jaxrank.planning.trials import Trial
from jaxrank.training import arrays, epoch
from jaxrank.training.arrays import CohortInputs, DeviceData, ProgramSpec, TrialArrays
from jaxrank.training.state import EpochMetrics, TrainState

ROOT = Path(__file__).parents[1]
PHOTO_TRIAGE = ROOT.parent / "shared" / "phototriage"


IQA_COLUMNS = ("sharpness", "exposure", "colorfulness", "contrast")


TINY = "jaxrank-tiny"


TINY_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


def make_data(num_series: int = 60, seed: int = 0) -> tuple[Preferences, dict[str, Block]]:
    """Series of 2 to 5 photos, all pairs, a linear quality in three small blocks."""
    rng = np.random.default_rng(seed)
    rows, photos, quality = [], [], []
    for s in range(num_series):
        names = [f"s{s}-{i}.jpg" for i in range(rng.integers(2, 6))]
        photos += names
        appeal = rng.standard_normal(len(names))
        quality += list(appeal)
        for i in range(len(names)):
            for j in range(i + 1, len(names)):
                share = 1 / (1 + np.exp(appeal[j] - appeal[i]))
                rows.append((str(s), names[i], names[j], round(float(share), 3)))
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    store = {}
    for name, dim in {"clip": 6, "cnn": 5, "iqa": 4}.items():
        values = rng.standard_normal((len(photos), dim)).astype(np.float32) * 2 + 1
        values[:, 0] += 2 * np.array(quality, np.float32)
        columns = IQA_COLUMNS if name == "iqa" else [f"{name}_{i}" for i in range(dim)]
        store[name] = Block(photos, list(columns), values)
    return Preferences(table), store


def paired(
    values: np.ndarray, columns: Sequence[str] | None = None, preference: Any = 0.7
) -> Dataset:
    """Photos by twos, in one block: of 2k and 2k + 1 series k, whose preference is one number or
    one a series."""
    photos = [f"p{i:03d}.jpg" for i in range(len(values))]
    table = pd.DataFrame(
        {
            "series_id": [str(k) for k in range(len(photos) // 2)],
            "image_a": photos[::2],
            "image_b": photos[1::2],
            "preference": preference,
        }
    )
    names = [f"c{i}" for i in range(values.shape[1])] if columns is None else list(columns)
    return align(Preferences(table), {"iqa": Block(photos, names, values.astype(np.float32))})


def experiment(name: str = "e", **changes: Any) -> Experiment:
    base = read_experiments(default.get_config(), ["tiny_mlp"], {})[0]
    small: dict[str, Any] = {
        "mlp_hidden_dims": (8, 6),
        "batch_size": 16,
        "blocks": ("clip", "cnn", "iqa"),
    }
    return dataclasses.replace(base, name=name, **(small | changes))


# Trials of one cohort that differ in everything that may differ: experiment, fold, seed.
TRIALS = [
    Trial(experiment("a"), 0, 0),
    Trial(experiment("b", learning_rate=2e-3, dropout=0.5), 0, 0),
    Trial(experiment("b", learning_rate=2e-3, dropout=0.5), 1, 0),
    Trial(experiment("b", learning_rate=2e-3, dropout=0.5), 1, 1),
    Trial(experiment("c", weight_decay=0.1, margin=2.0, dropout=0.0), 2, 3),
]


# Another one, in which everything is switched on that a program can have.
EVERYTHING: dict[str, Any] = {
    "optimizer": "sgd",
    "activation": "gelu",
    "use_layernorm": True,
    "l2_blocks": ("clip",),
    "loss": "davidson",
    "sampler": "series_aware",
    "feature_noise": 0.1,
    "mixup": 0.2,
}


AUGMENTED_TRIALS = [
    Trial(experiment("a", **EVERYTHING, learning_rate=0.05), 0, 0),
    Trial(experiment("b", **EVERYTHING, learning_rate=0.1, schedule="cosine", max_epochs=3), 1, 1),
    Trial(experiment("c", **EVERYTHING | {"mixup": 0.9}, learning_rate=0.1, momentum=0.5), 1, 1),
    Trial(experiment("d", **EVERYTHING, learning_rate=0.1, warmup_epochs=1.0), 2, 0),
    Trial(experiment("e", **EVERYTHING, learning_rate=0.1, label_smoothing=0.3), 2, 0),
]


# Rates of a machine on which a compilation costs nothing, so that smaller cohorts always pay and
# padding never does; and the other way round.
ALWAYS_PAYS = DeviceProfile("test", 1e9, 1e9, 1e-9, 1e-30, side_by_side=True)


# Both train side by side, as an accelerator does; a CPU by itself trains one after the other.
NEVER_PAYS = DeviceProfile("test", 1e9, 1e9, 1e-9, 1e30, side_by_side=True)


def compiled() -> int:
    """How many programs of an epoch have been compiled."""
    return epoch.cohort_epochs._cache_size()  # type: ignore[attr-defined]


def cohorts_of(
    trials: Sequence[Trial], dataset: Dataset, parts: np.ndarray, at_once: int = 100
) -> list[Cohort]:
    """Cohorts that train side by side."""
    (whole,) = planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**40, NEVER_PAYS
    )
    limit = whole.with_trials(trials[:at_once]).memory_bytes
    return planner.make_cohorts(
        trials, SplitDataset(dataset=dataset, splits_FM=parts), limit, NEVER_PAYS
    )


def inputs_of(cohort: Cohort, dataset: Dataset, parts: np.ndarray) -> CohortInputs:
    return arrays.make_inputs(
        cohort, SplitDataset(dataset=dataset, splits_FM=parts), range(len(parts))
    )


def one_epoch(
    static: ProgramSpec,
    data: DeviceData,
    trial_arrays: TrialArrays,
    state: TrainState,
    rows_PSB: Any,
) -> tuple[TrainState, EpochMetrics]:
    """A dispatch of one epoch: metrics [P]."""
    state, metrics = epoch.cohort_epochs(static, data, trial_arrays, state, rows_PSB[:, None])
    return state, EpochMetrics(*(leaf[:, 0] for leaf in metrics))


def result_of(trial: Trial, scores: Any, status: str = COMPLETED, **measured: float) -> TrialResult:
    """The result of a trial that was never trained."""
    metrics = dataclasses.replace(
        metrics_of(trial, epochs_run=1, seconds=0.0), status=status, measured=measured
    )
    return TrialResult(trial, metrics, pd.DataFrame(), scores, None)


def card_of(experiment: Experiment, **changes: Any) -> ModelCard:
    """The card of a model that was never trained."""
    values: dict[str, Any] = {
        "fold": 0, "seeds": (0,), "epochs": (1,), "val_accuracy": 0.5,
        "calibration": Calibration(slope=1.0, pick_slope=1.0),
    }  # fmt: skip
    return ModelCard(experiment=experiment, **values | changes)
