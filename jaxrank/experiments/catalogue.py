"""Reads a catalogue from a table (CSV, JSON lines or parquet) with one experiment per row."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxrank.configs import CATALOGUE_KEYS, REFERENCES, default
from jaxrank.errors import UserError, did_you_mean
from jaxrank.experiments.config_files import make_config
from jaxrank.experiments.hyperparameters import (
    BLOCK_SWITCHES,
    HYPERPARAMETERS,
    HyperparameterError,
    check_name,
    make_experiment,
)
from jaxrank.io import tables

NAME = "experiment_name"
COLUMNS = [
    NAME,
    *(
        name
        for name in (*BLOCK_SWITCHES, "use_series_sampler", *HYPERPARAMETERS)
        if name not in ("name", "init_from")
    ),
]
# The only mode of such a catalogue: all its experiments.
MODE = "catalogue"
_SWITCHES = {"true": True, "false": False}


def read_catalogue(path: Path | str, config: ConfigDict | None = None) -> ConfigDict:
    """Reads a table of experiments into a config for `search(config=...)`.

    Args:
      path: path of the table, which has `experiment_name` and any hyperparameters. A missing
        column or an empty cell means the config's value; an empty cell of `mlp_hidden_dims` means a
        linear scorer.
      config: a config like the one of configs/default.py, which is the default. Its
        hyperparameters replace empty cells.

    Returns:
      A new config with the experiments of the table; `config` is unchanged.

    Raises:
      UserError: the table is not a valid catalogue; the message names row and column.
    """
    config = default.get_config() if config is None else config
    table = tables.read_table(path)
    if NAME not in table.columns:
        need = f"a catalogue has {NAME} and hyperparameters"
        raise tables.missing_column(path, NAME, need, table.columns)
    for column in table.columns:
        if column not in COLUMNS:
            hint = did_you_mean(column, COLUMNS)
            raise UserError(f"{path}: unknown column '{column}'.{hint}")
    defaults = {key: value for key, value in config.items() if key not in CATALOGUE_KEYS}
    names = table.texts(NAME)
    experiments: dict[str, dict[str, Any]] = {}
    for row, name in enumerate(names):
        if name in experiments or name in REFERENCES:
            reason = "is a reference's" if name in REFERENCES else "appears twice"
            raise UserError(f"{table.where(row, NAME)}: the name '{name}' {reason}")
        try:
            check_name(name)
        except UserError as error:
            raise UserError(f"{table.where(row, NAME)}: {error}") from None
        values = {
            column: _value(table, row, column, defaults[column])
            for column in table.columns
            if column != NAME and not _is_default(table, row, column)
        }
        try:
            make_experiment(name, values, defaults, values)
        except HyperparameterError as error:
            if error.key not in table.columns:  # the default is wrong, not the row
                raise UserError(f"{table.where(row)}: {error}; it is the config's") from None
            cell = _cell(table, row, error.key)[:40]
            raise UserError(f"{table.where(row, error.key)}: '{cell}' {error.need}") from None
        except UserError as error:
            raise UserError(f"{table.where(row)}: {error}") from None
        experiments[name] = values
    changed = config.to_dict() | {"experiments": experiments, "modes": {MODE: tuple(experiments)}}
    return make_config(changed)


def _cell(table: tables.Table, row: int, column: str) -> str:
    return table.rows[row][table.columns.index(column)].strip()


def _is_default(table: tables.Table, row: int, column: str) -> bool:
    return column != "mlp_hidden_dims" and not _cell(table, row, column)


def _value(table: tables.Table, row: int, column: str, default: Any) -> Any:
    """Converts a cell to the type of its default."""
    cell = _cell(table, row, column)
    where = table.where(row, column)
    if isinstance(default, bool):  # spreadsheet programs write TRUE
        if cell.lower() not in _SWITCHES:
            raise UserError(f"{where}: '{cell[:40]}' is neither true nor false")
        return _SWITCHES[cell.lower()]
    if isinstance(default, int):
        if not (cell.isascii() and cell.removeprefix("-").isdigit() and len(cell) < 20):
            raise UserError(f"{where}: '{cell[:40]}' is not a whole number")
        return int(cell)
    if isinstance(default, float):
        try:
            return _to_float(cell)
        except ValueError:
            raise UserError(f"{where}: '{cell[:40]}' is not a number") from None
    return cell


def _to_float(cell: str) -> float:
    if "_" in cell or not cell.isascii():  # float() accepts 1_000 and non-ASCII digits
        raise ValueError
    return float(cell)
