"""Config files: runs and checks them, and looks up the keys that a user typed.

A config file is a Python program that its user chose to run. No other module of jaxrank executes
the files that it reads.
"""

import numbers
import os
import runpy
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxrank.configs import CATALOGUE_KEYS, REFERENCES, SELECTED_ON, default
from jaxrank.errors import UserError, did_you_mean

# Error for several values, such as 1e-3,3e-3.
ONE_VALUE = (
    "an experiment has one value; to compare several, make an experiment of each: a row of "
    "search --experiments_csv=FILE, or an entry of 'experiments' in a --config file"
)


def load_config(path: str | None) -> ConfigDict:
    """Loads the default config, or the config of a Python or JSON file.

    Args:
      path: a Python file with get_config(), a JSON file whose values replace default values, or
        None for the default config.

    Raises:
      UserError: the file can't be read, raises, or gives no usable config.
    """
    if path is None:
        return default.get_config()
    if path.endswith(".json"):
        return check_config(_changed_default(path), f"--config={path}")
    return check_config(run_file(path, "--config", "get_config"), f"--config={path}")


def run_file(path: str, flag: str, function: str) -> Any:
    """Runs a Python file and returns the result of one of its functions without arguments.

    Raises:
      UserError: the file is missing, raises, or does not define the function.
    """
    if not os.path.isfile(path):
        raise UserError(f"{flag}={path}: there is no such file")
    try:
        found = runpy.run_path(path).get(function)
        if found is None:
            raise UserError(f"{flag}={path}: the file defines no {function}()")
        return found()
    except UserError:
        raise
    except BaseException as error:  # also SystemExit and KeyboardInterrupt
        reason = traceback.format_exception_only(error)[-1].strip()
        raise UserError(f"{flag}={path}: {function}() failed: {reason}") from None


def _changed_default(path: str) -> ConfigDict:
    """The default config with the values of a JSON file, such as a search's best_config.json."""
    try:
        from jaxrank.io.documents import read_json  # loads pandas: not needed for --help

        values = read_json(Path(path))
    except (OSError, ValueError) as error:
        raise UserError(f"--config={path}: can't be read ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"--config={path}: not an object of keys and values")
    return make_config(default.get_config().to_dict() | values)


def check_config(config: Any, where: str) -> ConfigDict:
    """Checks a config: it has the keys of configs/default.py and no others, with valid types."""
    if not isinstance(config, ConfigDict):
        raise UserError(f"{where}: not a ConfigDict, but {type(config).__name__}")
    # A search that was begun by an older version has no such key.
    values = {SELECTED_ON: ""} | _read_values(config, where)
    known = default.get_config()
    for key in known:
        if key not in values:
            raise UserError(
                f"{where}: the key '{key}' is missing; begin with the default: 'from "
                "jaxrank.configs import default' and 'config = default.get_config()'"
            )
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'.{did_you_mean(key, known)}")
    catalogue = values["experiments"]
    if not isinstance(catalogue, dict) or not all(isinstance(v, dict) for v in catalogue.values()):
        raise UserError(f"{where}: 'experiments' must hold one dict an experiment")
    for name in REFERENCES:
        if not isinstance(values[name], dict):
            raise UserError(f"{where}: '{name}' must be a dict")
    values[SELECTED_ON] = _as_type_of("", values[SELECTED_ON], f"{where}: the key '{SELECTED_ON}'")
    modes = values["modes"]
    if not isinstance(modes, dict) or not all(_is_names(names) for names in modes.values()):
        raise UserError(f"{where}: 'modes' must hold one tuple of experiment names a mode")
    for name, changes in [*catalogue.items(), *((name, values[name]) for name in REFERENCES)]:
        for key, value in changes.items():
            if not _is_plain(value):
                raise UserError(
                    f"{where}: experiment '{name}': the key '{key}' is of type "
                    f"{type(value).__name__}; give a number, true or false, or text"
                )
    hyperparameters = {key: value for key, value in known.items() if key not in CATALOGUE_KEYS}
    for key, wanted in hyperparameters.items():
        values[key] = _as_type_of(wanted, values[key], f"{where}: the key '{key}'")
    return make_config(values)


def make_config(values: Mapping[str, Any]) -> ConfigDict:
    """Makes a config in which the names of experiments may contain dots."""
    return ConfigDict(values, allow_dotted_keys=True)


def _read_values(config: ConfigDict, where: str) -> dict[str, Any]:
    """Converts a config to nested dicts, without references to other fields.

    Raises:
      UserError: a required value is missing, a key is not text, or the config contains itself.
    """
    try:
        keys = list(config)
    except TypeError:  # the iteration sorts the keys
        raise UserError(f"{where}: a key is not text") from None
    values = {}
    for key in keys:
        try:
            value = config[key]
            values[key] = value.to_dict() if isinstance(value, ConfigDict) else value
        except Exception as error:  # a placeholder without a value; keys that can't be sorted
            raise UserError(f"{where}: the key {key!r} has no usable value ({error})") from None
    try:
        _refuse_other_keys(values, where)
    except RecursionError:
        raise UserError(f"{where}: the config holds itself") from None
    return values


def _refuse_other_keys(values: Mapping[Any, Any], where: str) -> None:
    for key, value in values.items():
        if not isinstance(key, str):
            raise UserError(f"{where}: the key {key!r} is not text")
        if isinstance(value, Mapping):
            _refuse_other_keys(value, f"{where}: in '{key}'")


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | numbers.Real | np.bool_)


def _as_type_of(wanted: Any, value: Any, where: str) -> Any:
    """Converts a hyperparameter to the type of its default; NumPy numbers become Python numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if type(wanted) is float and type(value) is int:
        with suppress(OverflowError):
            return float(value)
    if type(value) is not type(wanted):
        raise UserError(
            f"{where} is {shown(value)!r} of type {type(value).__name__}; it must be of type "
            f"{type(wanted).__name__}, such as {wanted!r}"
        )
    return value


def shown(value: object) -> str:
    """A value as text of at most 80 characters."""
    try:
        return str(value)[:80]
    except ValueError:  # Python does not print integers of more than 4,300 digits
        return "a huge number"


def _is_names(names: Any) -> bool:
    texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return texts and len(names) > 0


def with_every_key(config: ConfigDict) -> ConfigDict:
    """Copies a config, with all hyperparameters in every experiment and reference.

    Each hyperparameter of an experiment can then be set on the command line.
    """
    values = config.to_dict()
    defaults = {key: value for key, value in values.items() if key not in CATALOGUE_KEYS}
    for name, changes in values["experiments"].items():
        values["experiments"][name] = defaults | changes
    for name in REFERENCES:
        values[name] = defaults | values[name]
    return make_config(values)


def key_parts(path: str) -> list[str]:
    """Splits KEY, REFERENCE.KEY or experiments.NAME.KEY; a name may have dots, a key does not."""
    group, _, rest = path.partition(".")
    name, dot, key = rest.rpartition(".")
    return [group, name, key] if group == "experiments" and dot else path.split(".")


def value_at(config: ConfigDict, path: str) -> Any:
    """The value of --config.PATH.

    Raises:
      UserError: the config has no such key, or a flag can't set it.
    """
    node: Any = config
    for key in key_parts(path):
        if not isinstance(node, ConfigDict) or key not in node:
            if path.startswith(tuple(f"experiments.{name}." for name in REFERENCES)):
                raise UserError(
                    f"--config.{path}: the reference is not an experiment of the catalogue; write "
                    f"--config.{path.removeprefix('experiments.')}"
                )
            known = node.keys() if isinstance(node, ConfigDict) else config.keys()
            raise UserError(f"--config.{path}: unknown key '{key}'.{did_you_mean(key, known)}")
        node = node[key]
    if isinstance(node, ConfigDict):
        raise UserError(f"--config.{path}: set a key below it: --config.{path}.KEY=VALUE")
    if path.startswith("modes."):
        raise UserError(f"--config.{path}: name experiments with --experiments=a,b instead")
    return node
