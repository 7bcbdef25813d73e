"""Config files: run, checked, and their keys compared with what a user typed.

A config file is a Python program that its user chose to run; nothing else in jaxrank executes
what it reads.
"""

import os
import runpy
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxrank.configs import CATALOGUE_KEYS, REFERENCES, default
from jaxrank.errors import UserError, did_you_mean

# Said of several values, such as 1e-3,3e-3.
ONE_VALUE = (
    "an experiment has one value; to compare several, make an experiment of each: a row of "
    "search --experiments_csv=FILE, or an entry of 'experiments' in a --config file"
)


def load_config(path: str | None) -> ConfigDict:
    """The default config, or what the file's get_config() returns.

    Raises:
      UserError: the file raises, or returns no usable config.
    """
    if path is None:
        return default.get_config()
    if not os.path.isfile(path):
        raise UserError(f"--config={path}: there is no such file")
    try:
        get_config = runpy.run_path(path).get("get_config")
        if get_config is None:
            raise UserError(f"--config={path}: the file defines no get_config()")
        config = get_config()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"--config={path}: get_config() failed: {type(error).__name__}: {error}"
        ) from None
    return check_config(config, f"--config={path}")


def check_config(config: Any, where: str) -> ConfigDict:
    """The config, if it has the keys of configs/default.py and no others."""
    if not isinstance(config, ConfigDict):
        raise UserError(f"{where}: not a ConfigDict, but {type(config).__name__}")
    values = config.to_dict()
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
    modes = values["modes"]
    if not isinstance(modes, dict) or not all(_is_names(names) for names in modes.values()):
        raise UserError(f"{where}: 'modes' must hold one tuple of experiment names a mode")
    return make_config(values)


def make_config(values: Mapping[str, Any]) -> ConfigDict:
    """A config in which the names of experiments may hold dots."""
    return ConfigDict(values, allow_dotted_keys=True)


def _is_names(names: Any) -> bool:
    texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return texts and len(names) > 0


def with_every_key(config: ConfigDict) -> ConfigDict:
    """A copy in which every experiment and reference has all hyperparameters, so that each can be
    set on the command line."""
    values = config.to_dict()
    defaults = {key: value for key, value in values.items() if key not in CATALOGUE_KEYS}
    for name, changes in values["experiments"].items():
        values["experiments"][name] = defaults | changes
    for name in REFERENCES:
        values[name] = defaults | values[name]
    return make_config(values)


def key_parts(path: str) -> list[str]:
    """KEY, REFERENCE.KEY or experiments.NAME.KEY in parts. A name may hold dots, a key does not."""
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
                    f"--config.{path}: the reference is no experiment of the catalogue; write "
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
