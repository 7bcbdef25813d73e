"""Search spaces: the values that each hyperparameter of a search may take.

An entry is a list of values, or text:

    1e-5..1e-2:log           a log-uniform range; whole numbers include both ends
    0.1..0.5                 a uniform range
    1e-5..1e-2:log:40        40 values, evenly spaced in the logarithm
    0,0.3,0.5                values; texts with commas are separated by |, as in 256|512,256
    0.5..0.99 if optimizer=sgd     only if another hyperparameter of the space has this value

If its condition does not hold, a hyperparameter has the config's value.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxrank.configs import CATALOGUE_KEYS
from jaxrank.errors import UserError, did_you_mean
from jaxrank.experiments.config_files import run_file
from jaxrank.experiments.hyperparameters import (
    COHORT,
    HYPERPARAMETERS,
    PROGRAM,
    SWITCH,
    HyperparameterError,
    make_experiment,
)

# All hyperparameters but labels (the seed may vary) and the initial model, which is a flag.
SEARCHABLE = [name for name in HYPERPARAMETERS if name not in ("name", "notes", "init_from")]
# Hyperparameters whose values may contain commas.
_WITH_COMMAS = ("blocks", "l2_blocks", "mlp_hidden_dims")
_LOG = "log"
_SWITCHES = {"true": True, "false": False}
# Significant digits of a value from a range: enough to compare, few enough to read.
_DIGITS = 4


class Choice(NamedTuple):
    """A list of values."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value at this share of the list, from 0 to below 1."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


class Range(NamedTuple):
    """All numbers from `low` to `high`.

    Attributes:
      log: whether values are uniform in the logarithm.
      whole: whether values are whole numbers, both ends included.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, share: float) -> Any:
        """The value at this share of the range, from 0 to 1."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        return self.rounded(value)

    def rounded(self, value: float) -> Any:
        """Rounds a value to few digits, inside the range."""
        nearest = round(value) if self.whole else float(f"{value:.{_DIGITS}g}")
        return min(max(nearest, self.low), self.high)


class Condition(NamedTuple):
    """A condition: another hyperparameter of the space has one of some values."""

    key: str
    values: tuple[Any, ...]


class Parameter(NamedTuple):
    """A hyperparameter of the space."""

    key: str
    values: Choice | Range
    condition: Condition | None

    @property
    def is_static(self) -> bool:
        """Whether another value may need another compiled program or cohort."""
        return HYPERPARAMETERS[self.key].effect in (PROGRAM, COHORT, SWITCH)

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether the hyperparameter's condition holds."""
        return self.condition is None or values.get(self.condition.key) in self.condition.values


class SearchSpace(NamedTuple):
    """The hyperparameters of a search, each after the one that its condition names."""

    parameters: tuple[Parameter, ...]

    @property
    def is_grid(self) -> bool:
        """Whether every hyperparameter has a list of values."""
        return all(isinstance(p.values, Choice) for p in self.parameters)

    def at(self, shares_D: Sequence[float] | np.ndarray) -> dict[str, Any]:
        """The values at a point of the unit cube, with one coordinate per hyperparameter."""
        values: dict[str, Any] = {}
        for parameter, share in zip(self.parameters, shares_D, strict=True):
            if parameter.active(values):
                values[parameter.key] = parameter.values.at(float(share))
        return values

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yields all combinations of a space of lists, each once."""
        seen = set()
        lists = [p.values.values for p in self.parameters if isinstance(p.values, Choice)]
        for combination in itertools.product(*lists):
            values: dict[str, Any] = {}
            for parameter, value in zip(self.parameters, combination, strict=True):
                if parameter.active(values):
                    values[parameter.key] = value
            if (point := tuple(values.items())) not in seen:
                seen.add(point)
                yield values


def read_space_file(path: str) -> dict[str, Any]:
    """Runs a file and returns the entries from its get_space()."""
    entries = run_file(path, "--space", "get_space")
    if not isinstance(entries, Mapping) or not all(isinstance(key, str) for key in entries):
        raise UserError(f"--space={path}: get_space() must return a dict, an entry by name")
    return dict(entries)


def parse_space(
    entries: Mapping[str, Any], config: ConfigDict, overrides: Mapping[str, Any] | None = None
) -> SearchSpace:
    """Parses the entries of a search space.

    Args:
      entries: a list of values or text by hyperparameter; see the docstring of this module.
      config: a checked config; every value must be valid with its other hyperparameters.
      overrides: see `hyperparameters.read_experiments`; every value must be valid with them.

    Raises:
      UserError: an entry is invalid; the message names the entry and the word.
    """
    if not entries:
        raise UserError("--space has no hyperparameter; give entries such as --space.dropout=0,0.3")
    defaults = {key: value for key, value in config.items() if key not in CATALOGUE_KEYS}
    for key in entries:
        if key not in SEARCHABLE:
            raise UserError(
                f"--space.{key}: not a hyperparameter of a space.{did_you_mean(key, SEARCHABLE)}"
            )
    forced = {key: value for key, value in (overrides or {}).items() if key in defaults}
    parsed = {
        key: _parameter(key, entry, entries, defaults, forced) for key, entry in entries.items()
    }
    ordered: dict[str, Parameter] = {}
    while len(ordered) < len(parsed):
        ready = [
            p
            for key, p in parsed.items()
            if key not in ordered and (p.condition is None or p.condition.key in ordered)
        ]
        if not ready:
            stuck = next(key for key in parsed if key not in ordered)
            raise UserError(f"--space.{stuck}={_shown(entries[stuck])}: conditions are circular")
        ordered |= {p.key: p for p in ready}
    for p in parsed.values():
        _check_condition(p, parsed, entries)
    return SearchSpace(tuple(ordered.values()))


def _parameter(
    key: str,
    entry: Any,
    entries: Mapping[str, Any],
    defaults: Mapping[str, Any],
    forced: Mapping[str, Any],
) -> Parameter:
    where = f"--space.{key}={_shown(entry)}"
    condition = None
    if isinstance(entry, str):
        body, has_condition, text = (part.strip() for part in entry.partition(" if "))
        if has_condition:
            condition = _condition(text, where, entries, defaults)
        values = _from_text(key, body, where, defaults[key])
    elif isinstance(entry, list | tuple):
        values = _choice(list(entry), where)
    else:
        raise UserError(f"{where}: give a list of values, or text such as '0,0.3' or '0.1..0.5'")
    ends = values.values if isinstance(values, Choice) else (values.low, values.high)
    checked = [_checked(key, value, where, defaults, forced) for value in ends]
    return Parameter(key, Choice(tuple(checked)) if isinstance(values, Choice) else values,
                     condition)  # fmt: skip


def _from_text(key: str, text: str, where: str, default: Any) -> Choice | Range:
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    if is_number and ".." in text:
        return _range(text, where, whole=isinstance(default, int))
    words = [word.strip() for word in _separated(key, text)]
    if is_number or isinstance(default, bool):
        return _choice([_scalar(word, where, default) for word in words], where)
    return _choice(words, where)


def _separated(key: str, text: str) -> list[str]:
    return text.split("|") if key in _WITH_COMMAS or "|" in text else text.split(",")


def _choice(values: list[Any], where: str) -> Choice:
    if len(values) < 2:
        hint = ""
        if "," in str(values):
            hint = "; commas belong to one text here, and | separates texts: '32|64|128,64'"
        raise UserError(f"{where}: give at least two values{hint}; --config.KEY=VALUE sets one")
    for place, value in enumerate(values):
        if any(type(value) is type(other) and value == other for other in values[:place]):
            raise UserError(f"{where}: '{_shown(value)}' appears twice")
    return Choice(tuple(values))


def _range(text: str, where: str, *, whole: bool) -> Choice | Range:
    ends, *words = text.split(":")
    low_text, _, high_text = ends.partition("..")
    low, high = (
        _scalar(word.strip(), where, 0 if whole else 0.0) for word in (low_text, high_text)
    )
    log, count = False, None
    for word in words:
        if word.strip() == _LOG:
            log = True
        elif re.fullmatch("[0-9]{1,6}", word.strip()) and int(word) >= 2:
            count = int(word)
        else:
            raise UserError(
                f"{where}: '{word}' is neither '{_LOG}' nor a number of values from 2 up"
            )
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{where}: '{ends}' is not a range; write LOW..HIGH with LOW below HIGH")
    if log and low <= 0:
        raise UserError(f"{where}: a :{_LOG} range begins above 0, not at '{low_text}'")
    values = Range(low, high, log, whole)
    if count is None:
        return values
    scale = np.geomspace if log else np.linspace
    numbers = dict.fromkeys(values.rounded(float(v)) for v in scale(low, high, count))
    return Choice(tuple(numbers))


def _scalar(word: str, where: str, default: Any) -> Any:
    """Converts a word to the type of the default."""
    if isinstance(default, bool):
        if word.lower() not in _SWITCHES:
            raise UserError(f"{where}: '{word}' is neither true nor false")
        return _SWITCHES[word.lower()]
    kind, need = (int, "a whole number") if isinstance(default, int) else (float, "a number")
    try:
        if "_" in word or not word.isascii():  # Python accepts 1_000 and other digits
            raise ValueError
        return kind(word)
    except ValueError:
        raise UserError(f"{where}: '{word}' is not {need}") from None


def _checked(
    key: str, value: Any, where: str, defaults: Mapping[str, Any], forced: Mapping[str, Any]
) -> Any:
    """Checks that an experiment can have a value; returns it in the type of its default."""
    if isinstance(value, np.generic):
        value = value.item()
    given = {**forced, key: value}
    try:
        make_experiment("space", given, defaults, given)
    except HyperparameterError as error:
        if error.key != key:  # a value of another key is wrong
            raise
        raise UserError(f"{where}: '{_shown(value)}' {error.need}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return float(value) if isinstance(defaults[key], float) else value


def _condition(
    text: str, where: str, entries: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Condition:
    key, equals, rest = (part.strip() for part in text.partition("="))
    if not equals or not rest:
        raise UserError(f"{where}: '{text}' is not a condition; write 'if KEY=VALUE'")
    if key not in entries:
        raise UserError(
            f"{where}: its condition names '{key}', which is not in the space."
            f"{did_you_mean(key, entries)}"
        )
    words = [word.strip() for word in _separated(key, rest)]
    default = defaults[key]
    if isinstance(default, str):
        return Condition(key, tuple(words))
    return Condition(key, tuple(_scalar(word, where, default) for word in words))


def _check_condition(
    parameter: Parameter, parsed: Mapping[str, Parameter], entries: Mapping[str, Any]
) -> None:
    if parameter.condition is None:
        return
    key, wanted = parameter.condition
    where = f"--space.{parameter.key}={_shown(entries[parameter.key])}"
    values = parsed[key].values
    if isinstance(values, Range):
        raise UserError(f"{where}: its condition names '{key}', which is a range, not a list")
    for value in wanted:
        if value not in values.values:
            hint = did_you_mean(str(value), map(str, values.values))
            raise UserError(f"{where}: '{key}' never is '{_shown(value)}'.{hint}")


def _shown(value: Any) -> str:
    return (",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))[:80]
