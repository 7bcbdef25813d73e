"""Flags that several commands share, and their checks."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jaxrank.audit import SECONDS
from jaxrank.commands.terminal import default_workdir
from jaxrank.errors import UserError
from jaxrank.runner.options import ENGINES, FLAGS, LOCAL


def define_strings(values: flags.FlagValues, meanings: Mapping[str, str]) -> None:
    """Defines text flags without defaults, given their help texts by name."""
    for name, meaning in meanings.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)


def define_options(values: flags.FlagValues, names: Iterable[str]) -> None:
    """Defines the flags of search options; see `SearchOptions`."""
    for name in names:
        field = FLAGS[name]
        default: Any = field.default
        words, least = field.metadata["help"], field.metadata["least"]
        if word := field.metadata["word"]:
            parser = _NumberOrWord(word, least)
            flags.DEFINE(parser, name, default, words, flag_values=values)
        elif isinstance(default, bool):
            flags.DEFINE_boolean(name, default, words, flag_values=values)
        elif isinstance(default, str):
            flags.DEFINE_string(name, default, words, flag_values=values)
        elif "int" in str(field.type):
            flags.DEFINE_integer(name, default, words, lower_bound=least, flag_values=values)
        elif "float" in str(field.type):
            flags.DEFINE_float(name, default, words, flag_values=values)
        else:
            flags.DEFINE_string(name, default, words, flag_values=values)


class _NumberOrWord(flags.IntegerParser):
    """Parses a whole number or one given word."""

    def __init__(self, word: str, least: int | None):
        super().__init__(lower_bound=least)
        self._word = word

    def parse(self, argument: Any) -> Any:
        if argument == self._word:
            return argument
        if isinstance(argument, str) and not re.fullmatch(r"\s*[+-]?[0-9]+\s*", argument):
            raise ValueError(f"not a whole number, nor '{self._word}'")
        return super().parse(argument)


def define_value(values: flags.FlagValues, name: str, default: Any, meaning: str) -> None:
    """Defines a flag whose type is that of its default."""
    by_type: dict[type, Callable[..., Any]] = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    define = by_type.get(type(default), flags.DEFINE_string)
    define(name, default, meaning, flag_values=values)


def define_audit_seconds(values: flags.FlagValues) -> None:
    flags.DEFINE_float(
        "audit_seconds", SECONDS, "seconds that the audit may take", flag_values=values
    )
    flags.register_validator(
        "audit_seconds", lambda seconds: seconds > 0, "must be above 0", flag_values=values
    )


DECODERS = "processes that decode photos (default: one per core, fewer where memory is short)"
TRAINERS = "devices that train at the same time (default: all; of a CPU, each core is a device)"
# Flags that need --engine=ray.
OF_RAY = ("ray_address", "gpus_per_worker")


def about_weights(names: Sequence[str]) -> str:
    """A line on weights that may be downloaded, before they are."""
    return (
        f"weights {', '.join(names)}: those that are not on this machine are fetched, which may "
        "take a minute"
    )


def define_workers(values: flags.FlagValues, meaning: str) -> None:
    """Defines --workers.

    Args:
      values: flags to which --workers is added.
      meaning: help text, DECODERS or TRAINERS.
    """
    flags.DEFINE_integer(
        "workers",
        None,
        meaning,
        lower_bound=1,
        upper_bound=256,
        flag_values=values,
    )


def define_engine(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
        "engine",
        LOCAL,
        ENGINES,
        "where to train: local, the devices of this machine; ray, the machines of a Ray cluster "
        "(see docs/machines.md)",
        flag_values=values,
    )
    flags.DEFINE_string(
        "ray_address",
        None,
        "with --engine=ray: HOST:PORT of a cluster, or auto for that of this machine (default: "
        "start Ray here, for this search)",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "gpus_per_worker",
        None,
        "with --engine=ray: 1 or 0 (default: 1 where the cluster has GPUs)",
        lower_bound=0,
        upper_bound=1,
        flag_values=values,
    )


def refuse_empty(values: flags.FlagValues, names: Iterable[str]) -> None:
    """Raises UserError for empty values, such as those of unset shell variables."""
    for name in names:
        if name in values and values[name].value in ("", []):
            raise UserError(f"--{name} is empty")


# Help text of --model.
MODEL_HELP = "folder of a search, for its final model, or of a saved model, EXPERIMENT/model there"


def define_model(values: flags.FlagValues) -> None:
    """Defines the flags of every command that applies a saved model."""
    define_strings(
        values,
        {
            "model": MODEL_HELP,
            "baseline": "in place of a model: signed_sum, or an image-quality number whose "
            "direction is known, such as sharpness; needs no preferences",
            "features": "folder of a feature store, or a file: .parquet, .npz or .csv; without "
            "it the embedded simulated photos",
            "workdir": "new folder for the results (default: one named by the time, in outputs/)",
        },
    )


def model_workdir(values: flags.FlagValues, command: str) -> Path:
    """Returns the folder for the results of a command that applies a model.

    The folder is not created yet.

    Raises:
      UserError: a flag is empty, neither model nor baseline is given, or the folder can't be used.
    """
    refuse_empty(values, ("model", "baseline", "pairs", "features", "series", "workdir"))
    if values.model is None and values.baseline is None:
        raise UserError(
            "--model is missing: give the folder of a search or of a saved model, or "
            "--baseline=signed_sum, which needs none"
        )

    from jaxrank.runner.resume import find_workdir

    return find_workdir(values.workdir or default_workdir(command), resume=False)
