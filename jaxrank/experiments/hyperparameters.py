"""Experiments: from a config's text and numbers to checked, frozen values.

A config (see configs/default.py) holds one value a hyperparameter, `experiments` (what each
experiment of the catalogue changes), `modes` (lists of experiments), `linear` and `shuffled` (what
the references change). An override beats the catalogue, which beats the config's values.
"""

import dataclasses
import math
import numbers
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxrank.configs import CATALOGUE_KEYS, REFERENCES
from jaxrank.errors import UserError, did_you_mean
from jaxrank.losses import LOSSES
from jaxrank.models import ACTIVATIONS
from jaxrank.sampling import SAMPLERS

LINEAR, SHUFFLED = REFERENCES
ALL_BLOCKS = "all"
# The switches of single blocks.
BLOCK_SWITCHES = {"use_clip": "clip", "use_cnn_features": "cnn", "use_iqa_features": "iqa"}
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine")
_CHOICES: dict[str, Collection[str]] = {
    "loss": LOSSES,
    "sampler": SAMPLERS,
    "activation": ACTIVATIONS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}


# What a number must be: a test, and its words.
_SIZE = (lambda v: math.isfinite(v) and v >= 0, "must be a finite number, not negative")
_COUNT = (lambda v: 1 <= v < 2**31, "must be a whole number from 1 up")


def _share_of(what: str) -> tuple[Callable[[Any], bool], str]:
    # As it will be used: 0.99999999 is 1 in 32 bits.
    return lambda v: bool(np.float32(v) < 1), f"must be below 1 (it is the share of {what})"


_LIMITS: dict[str, tuple[tuple[Callable[[Any], bool], str], ...]] = {
    "learning_rate": (_SIZE, (lambda v: v > 0, "must be above 0")),
    "dropout": (_SIZE, _share_of("units that are dropped")),
    "momentum": (_SIZE, _share_of("the last step that is kept")),
    "label_smoothing": (_SIZE, _share_of("labels that are taken as unknown")),
    "weight_decay": (_SIZE,),
    "margin": (_SIZE,),
    "warmup_epochs": (_SIZE,),
    "feature_noise": (_SIZE,),
    "mixup": (_SIZE,),
    "batch_size": (_COUNT,),
    "max_epochs": (_COUNT,),
    "patience": (_COUNT,),
    "seed": (
        (lambda v: -1 <= v < 2**31, "must be a whole number from 0 up, or -1 for the launch's"),
    ),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class HyperparameterError(UserError):
    """A hyperparameter that can't be; who knows where it was written can say so."""

    def __init__(self, name: str, key: str, value: object, need: str):
        super().__init__(f"experiment '{name}', {key}={value}: {need}")
        self.key, self.need = key, need


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A named configuration; configs/default.py says what each value means.

    `blocks` are names; before `resolve_blocks` also "all", and "-clip" for all but that.
    `seed` is -1 for that of the launch. `init_from` is the content hash of the model that
    training starts from, or empty.
    """

    name: str
    blocks: tuple[str, ...]
    l2_blocks: tuple[str, ...]
    mlp_hidden_dims: tuple[int, ...]
    activation: str
    use_layernorm: bool
    dropout: float
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    schedule: str
    warmup_epochs: float
    loss: str
    margin: float
    sampler: str
    max_epochs: int
    patience: int
    seed: int
    feature_noise: float
    mixup: float
    label_smoothing: float
    notes: str
    init_from: str = ""

    @property
    def renumbered(self) -> bool:
        """Whether it is the control, which learns from `dataset.permutation_control` pairs."""
        return self.name == SHUFFLED

    @property
    def hidden_dims_text(self) -> str:
        return ",".join(map(str, self.mlp_hidden_dims))


def choose_names(config: ConfigDict, mode: str, names: Sequence[str] | str) -> list[str]:
    """The experiments of a launch: `names` where given, else those of the mode."""
    if isinstance(names, str):
        names = names.split(",")
    if not names:
        if mode not in config.modes:
            raise UserError(f"--mode={mode}: unknown mode.{did_you_mean(mode, config.modes)}")
        names = config.modes[mode]
    for name in names:
        if name in REFERENCES:
            raise UserError(f"the reference '{name}' always runs; name other experiments")
        if name not in config.experiments:
            raise UserError(
                f"experiment '{name}' is not in the catalogue."
                f"{did_you_mean(name, config.experiments)}"
            )
    return list(dict.fromkeys(names))


def read_experiments(
    config: ConfigDict, names: Sequence[str], overrides: Mapping[str, Any]
) -> list[Experiment]:
    """The named experiments with the overrides applied, then the references.

    Args:
      config: checked by `config_files.check_config`.
      names: in its catalogue.
      overrides: `KEY` holds for every named experiment and beats the catalogue;
        `experiments.NAME.KEY` holds for one and beats both; `linear.KEY` and `shuffled.KEY` hold
        for a reference, which `KEY` leaves alone: a evaluator that changed with what it measures
        would be none.
    """
    defaults = {key: value for key, value in config.items() if key not in CATALOGUE_KEYS}
    general, special = _sort_overrides(overrides, [*names, *REFERENCES])
    experiments = []
    for name in [*names, *REFERENCES]:
        forced = special[name] if name in REFERENCES else general | special[name]
        changes = config[name] if name in REFERENCES else config.experiments[name]
        explicit = changes.to_dict() | forced
        for key in explicit:
            if key not in defaults:
                raise UserError(
                    f"experiment '{name}': unknown key '{key}'.{did_you_mean(key, defaults)}"
                )
        experiments.append(make_experiment(name, explicit, defaults, forced))
    return experiments


def _sort_overrides(
    overrides: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The overrides that hold for every experiment, and those of each."""
    general: dict[str, Any] = {}
    special: dict[str, dict[str, Any]] = {name: {} for name in names}
    for path, value in overrides.items():
        match path.split("."):
            case [key]:
                general[key] = value
            case ["experiments", name, key] if name in special:
                special[name][key] = value
            case [name, key] if name in REFERENCES:
                special[name][key] = value
            case ["experiments", name, _]:
                raise UserError(f"override '{path}': '{name}' is not among the experiments to run")
            case _:
                raise UserError(f"override '{path}': write KEY, experiments.NAME.KEY or linear.KEY")
    return general, special


def check_name(name: str) -> None:
    """An experiment's name is that of a folder."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"experiment name {name[:40]!r}: use letters, digits, '_' and '-', "
            "beginning with a letter or a digit"
        )
    if name == "checkpoints":
        raise UserError("experiment name 'checkpoints': the folder of that name is taken")


def make_experiment(
    name: str,
    explicit: Mapping[str, Any],
    defaults: Mapping[str, Any],
    forced: Mapping[str, Any] | None = None,
) -> Experiment:
    """A checked experiment.

    Args:
      name: of the experiment.
      explicit: what was said for it; the keys are known.
      defaults: every hyperparameter.
      forced: what of it was said for this launch: beats the catalogue.

    Raises:
      HyperparameterError: a value can't be, or contradicts another.
    """
    check_name(name)
    values = _typed(name, {**defaults, **explicit}, defaults)
    for key, rules in _LIMITS.items():
        for passes, need in rules:
            if not passes(values[key]):
                raise HyperparameterError(name, key, values[key], need)
    for key, known in _CHOICES.items():
        if values[key] not in known:
            hint = did_you_mean(values[key], known)
            raise HyperparameterError(name, key, values[key], f"unknown.{hint}")
    if values.pop("use_series_sampler"):
        if "sampler" in (forced or {}) and values["sampler"] != "balanced":
            raise UserError(
                f"use_series_sampler=true means sampler=balanced, but sampler={values['sampler']} "
                "is given too; give one of them"
            )
        values["sampler"] = "balanced"
    dims = _words(values["mlp_hidden_dims"])
    if not all(re.fullmatch("[0-9]{1,9}", d) and int(d) > 0 for d in dims):
        need = "must be whole numbers from 1 up, such as 512,256, or empty"
        raise HyperparameterError(name, "mlp_hidden_dims", values["mlp_hidden_dims"], need)
    values["mlp_hidden_dims"] = tuple(map(int, dims))
    switches = {key: values.pop(key) for key in BLOCK_SWITCHES}
    values["blocks"] = _chosen_blocks(name, values["blocks"], switches, explicit)
    values["l2_blocks"] = tuple(dict.fromkeys(_words(values["l2_blocks"])))
    return Experiment(name=name, **values)


def _typed(name: str, values: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values in the types of the defaults; NumPy's numbers become Python's."""
    for key, value in values.items():
        kind = type(defaults[key])
        number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
        if number and (kind is float or (kind is int and isinstance(value, numbers.Integral))):
            values[key] = kind(value)
        elif type(value) is not kind:
            need = f"must be of type {kind.__name__}, as in the config"
            raise HyperparameterError(name, key, value, need)
    return values


def _chosen_blocks(
    name: str, text: str, switches: Mapping[str, bool], explicit: Mapping[str, Any]
) -> tuple[str, ...]:
    """The blocks as `Experiment` has them, from their text and the switches of single blocks."""
    blocks = _words(text)
    if (
        not blocks
        or (ALL_BLOCKS in blocks and len(blocks) > 1)
        or any(b[:1] == "-" for b in blocks)
    ):
        raise HyperparameterError(name, "blocks", text, "name at least one block, or 'all' alone")
    for key, block in BLOCK_SWITCHES.items():
        if switches[key]:
            if key in explicit:
                blocks.append(block)  # asked for by name, so it must be there
        elif blocks[0] == ALL_BLOCKS:
            blocks.append(f"-{block}")
        else:
            raise UserError(
                f"experiment '{name}': {key}=false takes a block out of blocks=all, but "
                f"blocks={text} is given too; give one of them"
            )
    return tuple(dict.fromkeys(blocks))


def resolve_blocks(experiment: Experiment, block_names: Sequence[str]) -> Experiment:
    """The experiment with the names of its blocks, in the order of the store's.

    A block that the store lacks stays among them, at the end: it is for the caller to say so.
    """

    words, l2_words = experiment.blocks, experiment.l2_blocks
    named = [word for word in words if word != ALL_BLOCKS and not word.startswith("-")]
    wanted = [
        b for b in block_names if b in named or (ALL_BLOCKS in words and f"-{b}" not in words)
    ]
    blocks = (*wanted, *(b for b in named if b not in block_names))
    l2_blocks = blocks if ALL_BLOCKS in l2_words else (b for b in blocks if b in l2_words)
    return dataclasses.replace(experiment, blocks=blocks, l2_blocks=tuple(l2_blocks))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")] if text.strip() else []
