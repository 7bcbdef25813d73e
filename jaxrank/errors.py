"""User-facing exceptions and did-you-mean suggestions."""

import difflib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class UserError(Exception):
    """An error that the user can fix; its one-line message has the error, its place and a remedy.

    The command line prints the message without a traceback and exits with status 2. Any other
    exception is a bug in jaxrank and keeps its traceback.
    """


class AuditFailed(UserError):
    """Labels that seem unrelated to their photos, in a search with `audit="refuse"`.

    The exit status is 3.
    """


class Stopped(Exception):
    """A signal stopped a search, which has saved all that it needs to resume."""

    def __init__(self, folder: Path, signal_number: int):
        super().__init__(f"{folder}: stopped; resume it")
        self.folder = folder
        self.signal_number = signal_number


def program() -> str:
    """The name of this program in hints: as it was started, or as it is installed."""
    folder, name = os.path.split(sys.argv[0] if sys.argv else "")
    if name == "__main__.py" and os.path.basename(folder) == "jaxrank":
        return "python -m jaxrank"
    return name if name == "launch.py" else "jaxrank"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?` for the nearest known word, else the list of known words."""
    words = sorted(known)
    return suggestion(word, words) or f" Known: {', '.join(words)}."


def suggestion(word: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?` for the nearest known word, else an empty text."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def refuse_unknown(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises UserError for an unknown keyword; the message suggests the nearest known keyword."""
    names = set(known)
    for name in given:
        if name not in names:
            raise UserError(f"{function} has no option '{name}'.{did_you_mean(name, names)}")


def suggests_keywords(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorates a function to raise UserError with a suggestion for an unknown keyword.

    Python itself would raise a TypeError.
    """
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        refuse_unknown(function.__name__, keywords, known)
        return function(*args, **keywords)

    return checked
