"""Experiments: converts a config's text and numbers to checked, frozen values.

A config (see configs/default.py) holds one value per hyperparameter. It also holds `experiments`
(the changes of each experiment of the catalogue), `modes` (lists of experiments), `linear` and
`shuffled` (the changes of the references). An override beats the catalogue, which beats the
config's values.
"""

import dataclasses
import math
import numbers
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from ml_collections import ConfigDict

from jaxrank.configs import CATALOGUE_KEYS, REFERENCES, default
from jaxrank.errors import UserError, did_you_mean
from jaxrank.experiments.config_files import ONE_VALUE, key_parts, shown
from jaxrank.io.tables import is_text
from jaxrank.losses import LOSSES
from jaxrank.models import ACTIVATIONS, PRECISIONS
from jaxrank.sampling import SAMPLERS
from jaxrank.scaling import INPUT_SCALINGS

LINEAR, SHUFFLED = REFERENCES
ALL_BLOCKS = "all"
# The switches of single blocks.
BLOCK_SWITCHES = {"use_clip": "clip", "use_cnn_features": "cnn", "use_iqa_features": "iqa"}
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
# Folders of a search that are not experiments.
_FOLDERS = ("checkpoints", "final", "predictions", "trackers")
# Suffixes of the files of a search, in whose folder each experiment has a folder.
_FILE_ENDINGS = (".py", ".csv", ".html", ".json", ".log", ".parquet", ".png", ".txt")

# How a hyperparameter affects the compiled program.
# TRACED: an input of the program; trials with different values train together at no cost.
TRACED = "traced"
# SWITCH: traced, but whether it is above 0 is compiled in, because its use costs time.
SWITCH = "switch"
# PROGRAM: compiled in. COHORT: not compiled in, but shapes the data or batches of all trials.
PROGRAM, COHORT = "program", "cohort"
# LABEL: no effect on the program.
LABEL = "label"

# A test of a value, and the error's text about valid values.
Limit: TypeAlias = tuple[Callable[[Any], bool], str]
_SIZE: Limit = (
    lambda v: math.isfinite(v) and v >= 0,
    "must be a finite number, not negative",
)
_ABOVE_ZERO: Limit = (lambda v: v > 0, "must be above 0")
_COUNT: Limit = (lambda v: 1 <= v < 2**31, "must be a whole number from 1 up")
_SEED: Limit = (
    lambda v: -1 <= v < 2**31,
    "must be a whole number from 0 up, or -1 for the search's",
)


def _share_of(what: str) -> Limit:
    # Tested in float32, as it will be used: 0.99999999 becomes 1.
    return lambda v: bool(np.float32(v) < 1), f"must be below 1 (it is the share of {what})"


class Hyperparameter(NamedTuple):
    """The properties of a hyperparameter besides its type.

    Attributes:
      effect: TRACED, SWITCH, PROGRAM, COHORT or LABEL.
      limits: limits that a value must satisfy.
      choices: valid words, if the value is one of a few words.
    """

    effect: str
    limits: tuple[Limit, ...] = ()
    choices: Collection[str] = ()


def _field(
    effect: str,
    *limits: Limit,
    choices: Collection[str] = (),
    **default: Any,
) -> Any:
    record = Hyperparameter(effect, limits, choices)
    return dataclasses.field(metadata={"hyperparameter": record}, **default)


class HyperparameterError(UserError):
    """An invalid value of a hyperparameter; callers can add where the value was written."""

    def __init__(self, name: str, key: str, value: object, need: str):
        super().__init__(f"experiment '{name}', {key}={shown(value)}: {need}")
        self.key, self.need = key, need


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A named configuration: the single table of hyperparameters.

    Each line declares one hyperparameter. Its default and its meaning are in configs/default.py;
    training/step.py uses its value.

    `blocks` are block names; before `resolve_blocks` also "all", and "-clip" for all blocks but
    clip. `seed` is -1 for the seed of the search. `init_from` is the content hash of the model
    that training starts from, or empty.
    """

    name: str = _field(LABEL)
    blocks: tuple[str, ...] = _field(COHORT)
    l2_blocks: tuple[str, ...] = _field(COHORT)
    input_scaling: str = _field(COHORT, choices=INPUT_SCALINGS)
    mlp_hidden_dims: tuple[int, ...] = _field(PROGRAM)
    activation: str = _field(PROGRAM, choices=ACTIVATIONS)
    use_layernorm: bool = _field(PROGRAM)
    dropout: float = _field(TRACED, _SIZE, _share_of("units that are dropped"))
    batch_size: int = _field(COHORT, _COUNT)
    precision: str = _field(PROGRAM, choices=PRECISIONS)
    optimizer: str = _field(PROGRAM, choices=OPTIMIZERS)
    learning_rate: float = _field(TRACED, _SIZE, _ABOVE_ZERO)
    weight_decay: float = _field(TRACED, _SIZE)
    momentum: float = _field(TRACED, _SIZE, _share_of("the last step that is kept"))
    schedule: str = _field(TRACED, choices=SCHEDULES)
    warmup_epochs: float = _field(TRACED, _SIZE)
    loss: str = _field(PROGRAM, choices=LOSSES)
    margin: float = _field(TRACED, _SIZE)
    sampler: str = _field(COHORT, choices=SAMPLERS)
    max_epochs: int = _field(TRACED, _COUNT)
    patience: int = _field(TRACED, _COUNT)
    seed: int = _field(LABEL, _SEED)
    feature_noise: float = _field(SWITCH, _SIZE)
    mixup: float = _field(SWITCH, _SIZE)
    label_smoothing: float = _field(TRACED, _SIZE, _share_of("labels that are taken as unknown"))
    notes: str = _field(LABEL)
    init_from: str = _field(COHORT, default="")

    @property
    def is_control(self) -> bool:
        """Whether the experiment is the permutation control, see `dataset.permutation_control`."""
        return self.name == SHUFFLED

    @property
    def hidden_dims_text(self) -> str:
        return ",".join(map(str, self.mlp_hidden_dims))


HYPERPARAMETERS: dict[str, Hyperparameter] = {
    field.name: field.metadata["hyperparameter"] for field in dataclasses.fields(Experiment)
}


def with_effect(*effects: str) -> list[str]:
    """The names of the hyperparameters with these effects."""
    return [name for name, known in HYPERPARAMETERS.items() if known.effect in effects]


def choose_names(config: ConfigDict, mode: str, names: Sequence[str] | str) -> list[str]:
    """The names of a launch's experiments: `names` if given, else the experiments of the mode."""
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
      config: a config checked by `config_files.check_config`.
      names: names of experiments in the config's catalogue.
      overrides: values by path. `KEY` applies to every named experiment and beats the catalogue.
        `experiments.NAME.KEY` applies to one experiment and beats both. `linear.KEY` and
        `shuffled.KEY` apply to a reference, which `KEY` does not change: a reference must not
        change with the experiments that are compared with it.
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


def default_experiment(name: str) -> Experiment:
    """An experiment with the hyperparameters of configs/default.py."""
    config = default.get_config()
    defaults = {key: value for key, value in config.items() if key not in CATALOGUE_KEYS}
    return make_experiment(name, {}, defaults, {})


def _sort_overrides(
    overrides: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Separates the overrides of all experiments from the overrides of each experiment."""
    general: dict[str, Any] = {}
    special: dict[str, dict[str, Any]] = {name: {} for name in names}
    for path, value in overrides.items():
        match key_parts(path):
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
    """Raises UserError if `name` can't be the name of an experiment and of its folder."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"experiment name {name[:40]!r}: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit and not ending with '.'"
        )
    suffix = next((one for one in _FILE_ENDINGS if name.lower().endswith(one)), None)
    if suffix is not None:
        raise UserError(
            f"experiment name '{name}': {suffix} is a suffix of the search's own files; use a name "
            f"that does not end with {', '.join(_FILE_ENDINGS)}"
        )
    if name in _FOLDERS:
        raise UserError(f"experiment name '{name}': the folder of that name is taken")


def make_experiment(
    name: str,
    explicit: Mapping[str, Any],
    defaults: Mapping[str, Any],
    forced: Mapping[str, Any] | None = None,
) -> Experiment:
    """Makes a checked experiment.

    Args:
      name: name of the experiment.
      explicit: values that are set for the experiment; all keys are hyperparameters.
      defaults: default value of every hyperparameter.
      forced: the values of `explicit` that were set for this launch, which beat the catalogue.

    Raises:
      HyperparameterError: a value is invalid.
      UserError: the name is invalid, or two values contradict each other.
    """
    check_name(name)
    values = _typed(name, {**defaults, **explicit}, defaults)
    for key in filter(values.__contains__, HYPERPARAMETERS):
        _check(name, key, values[key])
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


def _check(name: str, key: str, value: Any) -> None:
    known = HYPERPARAMETERS[key]
    for passes, need in known.limits:
        if not passes(value):
            raise HyperparameterError(name, key, value, need)
    if known.choices and value not in known.choices:
        need = ONE_VALUE if "," in value else f"unknown.{did_you_mean(value, known.choices)}"
        raise HyperparameterError(name, key, value, need)


def _typed(name: str, values: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the values to the types of the defaults; NumPy numbers become Python numbers."""
    for key, value in values.items():
        kind = type(defaults[key])
        number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
        if number and (kind is float or (kind is int and isinstance(value, numbers.Integral))):
            try:
                values[key] = kind(value)
            except OverflowError:
                raise HyperparameterError(name, key, value, "is too large") from None
        elif type(value) is not kind:
            need = f"must be of type {kind.__name__}, as in the config"
            raise HyperparameterError(name, key, value, need)
        elif kind is str and not is_text(value):
            raise HyperparameterError(name, key, repr(value[:40]), "must be text")
    return values


def _chosen_blocks(
    name: str, text: str, switches: Mapping[str, bool], explicit: Mapping[str, Any]
) -> tuple[str, ...]:
    """The value of `Experiment.blocks`, from its text and the switches of single blocks."""
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
                blocks.append(block)  # set explicitly, so the block must exist
        elif blocks[0] == ALL_BLOCKS:
            blocks.append(f"-{block}")
        else:
            raise UserError(
                f"experiment '{name}': {key}=false takes a block out of blocks=all, but "
                f"blocks={text} is given too; give one of them"
            )
    return tuple(dict.fromkeys(blocks))


def resolve_blocks(experiment: Experiment, block_names: Sequence[str]) -> Experiment:
    """Replaces the words for an experiment's blocks with block names, in the store's order.

    Blocks that the store lacks are kept at the end: the caller has to report them.
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
