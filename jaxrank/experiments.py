"""Experiments: from a config's text and numbers to checked, frozen values.

A config (see configs/default.py) holds one value a hyperparameter, `experiments` (what each
experiment of the catalogue changes), `modes` (lists of experiments) and `linear` (what the linear
reference changes). An override beats the catalogue, and the catalogue beats the config's values.
"""

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxrank.configs import CATALOGUE_KEYS
from jaxrank.errors import UserError, did_you_mean
from jaxrank.losses import LOSSES
from jaxrank.sampling import SAMPLERS

LINEAR = "linear"
ALL_BLOCKS = "all"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A named configuration. The shapes it implies (hidden sizes, batch size, blocks), its loss
    and its sampler are static: they name a cohort. The other numbers are traced."""

    name: str
    mlp_hidden_dims: tuple[int, ...]
    batch_size: int
    learning_rate: float
    dropout: float
    weight_decay: float
    margin: float
    loss: str
    sampler: str
    blocks: tuple[str, ...]
    max_epochs: int
    patience: int
    notes: str

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
        if name == LINEAR:
            raise UserError("the linear reference always runs; name other experiments")
        if name not in config.experiments:
            raise UserError(
                f"experiment '{name}' is not in the catalogue."
                f"{did_you_mean(name, config.experiments)}"
            )
    return list(dict.fromkeys(names))


def read_experiments(
    config: ConfigDict, names: Sequence[str], overrides: Mapping[str, Any]
) -> list[Experiment]:
    """The named experiments with the overrides applied, then the linear reference.

    Args:
      config: checked by `config_files.check_config`.
      names: in its catalogue.
      overrides: `KEY` holds for every named experiment and beats the catalogue;
        `experiments.NAME.KEY` holds for one and beats both; `linear.KEY` holds for the linear
        reference, which `KEY` leaves alone: a yardstick that changed with what it measures would
        be none.
    """
    defaults = {key: value for key, value in config.items() if key not in CATALOGUE_KEYS}
    general, special = _sort_overrides(overrides, [*names, LINEAR])
    experiments = []
    for name in [*names, LINEAR]:
        forced = special[name] if name == LINEAR else general | special[name]
        changes = config.linear if name == LINEAR else config.experiments[name]
        merged = defaults | changes.to_dict() | forced
        for key in merged:
            if key not in defaults:
                raise UserError(
                    f"experiment '{name}': unknown key '{key}'.{did_you_mean(key, defaults)}"
                )
        experiments.append(_experiment(name, merged, defaults, sampler_set="sampler" in forced))
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
            case ["linear", key]:
                special[LINEAR][key] = value
            case ["experiments", name, _]:
                raise UserError(f"override '{path}': '{name}' is not among the experiments to run")
            case _:
                raise UserError(f"override '{path}': write KEY, experiments.NAME.KEY or linear.KEY")
    return general, special


def _experiment(
    name: str, values: dict[str, Any], defaults: dict[str, Any], sampler_set: bool
) -> Experiment:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"experiment name {name[:40]!r}: use letters, digits, '_' and '-', "
            "beginning with a letter or a digit"
        )

    if name == "checkpoints":
        raise UserError("experiment name 'checkpoints': the folder of that name is taken")

    def wrong(key: str, need: str) -> UserError:
        return UserError(f"experiment '{name}', {key}={values[key]}: {need}")

    for key, value in values.items():
        kind = type(defaults[key])
        number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
        if number and (kind is float or (kind is int and isinstance(value, numbers.Integral))):
            values[key] = kind(value)  # also NumPy's numbers
        elif type(value) is not kind:
            raise wrong(key, f"must be of type {kind.__name__}, as in the config")
    for key in ("learning_rate", "dropout", "weight_decay", "margin"):
        if not math.isfinite(values[key]) or values[key] < 0:
            raise wrong(key, "must be a finite number, not negative")
    if values["learning_rate"] == 0:
        raise wrong("learning_rate", "must be above 0")
    if np.float32(values["dropout"]) >= 1:
        raise wrong("dropout", "must be below 1 (it is the share of units that are dropped)")
    for key in ("batch_size", "max_epochs", "patience"):
        if not 1 <= values[key] < 2**31:
            raise wrong(key, "must be a whole number from 1 up")
    for key, known in (("loss", LOSSES), ("sampler", SAMPLERS)):
        if values[key] not in known:
            raise wrong(key, f"unknown.{did_you_mean(values[key], known)}")
    if values.pop("use_series_sampler"):
        if sampler_set and values["sampler"] != "balanced":
            raise UserError(
                f"use_series_sampler=true means sampler=balanced, but sampler={values['sampler']} "
                "is given too; give one of them"
            )
        values["sampler"] = "balanced"
    dims = _words(values["mlp_hidden_dims"])
    if not all(re.fullmatch("[0-9]{1,9}", d) and int(d) > 0 for d in dims):
        raise wrong("mlp_hidden_dims", "must be whole numbers from 1 up, such as 512,256, or empty")
    blocks = _words(values["blocks"])
    if not blocks or (ALL_BLOCKS in blocks and len(blocks) > 1):
        raise wrong("blocks", "name at least one block, or 'all' alone")
    values["mlp_hidden_dims"] = tuple(map(int, dims))
    values["blocks"] = tuple(dict.fromkeys(blocks))
    return Experiment(name=name, **values)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")] if text.strip() else []
