"""The tables of docs/configure.md have the experiments and hyperparameters of the code."""

import re

import pytest
from small_data import ROOT

from jaxrank.configs import CATALOGUE_KEYS, REFERENCES, default
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS

CONFIG = default.get_config()
DEFAULTS = {key: value for key, value in CONFIG.items() if key not in CATALOGUE_KEYS}
# What the page calls the limits of a number: which of PROBES they accept.
PROBES = (-2, -1, 0, 0.5, 1)
LIMITS = {
    "above 0": {0.5, 1},
    "0 or more": {0, 0.5, 1},
    "0 or more, below 1": {0, 0.5},
    "whole, 1 or more": {1},
    "whole, 0 or more, or -1": {-1, 0, 1},
}


def rows(heading: str) -> list[list[str]]:
    """Cells of all tables of a section, without their heads."""
    page = (ROOT / "docs" / "configure.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"^\|-.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [line.strip("| ").split(" | ") for table in tables for line in table.splitlines()]


def test_experiments_and_modes_are_those_of_the_catalogue() -> None:
    found = {row[0].strip("`"): row[1:] for row in rows("Experiments")}
    assert set(found) == {*CONFIG.experiments, *REFERENCES}
    for name, (changes, *modes) in found.items():
        expected = (CONFIG[name] if name in REFERENCES else CONFIG.experiments[name]).to_dict()
        expected.pop("notes", None)
        assert {*re.findall("`(.*?)`", changes)} == {f"{k}={v}" for k, v in expected.items()}
        if name not in REFERENCES:
            members = {mode for mode, names in CONFIG.modes.items() if name in names}
            assert {*re.findall("`(.*?)`", modes[0])} == members


HYPERPARAMETER_ROWS = [
    (name, *cells)
    for names, *cells in rows("Hyperparameters")
    for name in re.findall("`(.*?)`", names)
]


def test_every_hyperparameter_has_a_row() -> None:
    assert sorted(row[0] for row in HYPERPARAMETER_ROWS) == sorted(DEFAULTS)


@pytest.mark.parametrize("row", HYPERPARAMETER_ROWS, ids=lambda row: row[0])
def test_defaults_and_values_are_those_of_the_code(row: tuple[str, ...]) -> None:
    name, default_cell, values, _ = row
    usual, known = DEFAULTS[name], HYPERPARAMETERS.get(name)
    assert default_cell == (f"`{usual}`" if usual != "" else "empty")
    if isinstance(usual, bool):
        assert values == "`True`, `False`"
    elif known is not None and known.choices:
        assert values == ", ".join(f"`{choice}`" for choice in known.choices)
    elif known is not None and known.limits:
        probes = PROBES if isinstance(usual, float) else [p for p in PROBES if p != 0.5]
        valid = {value for value in probes if all(passes(value) for passes, _ in known.limits)}
        assert valid == LIMITS[values]
