"""Where a command prints, and how much."""

import datetime
import logging
import sys
from typing import TYPE_CHECKING

from absl import flags

from jaxrank.commands.streams import silence
from jaxrank.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def define_output(values: flags.FlagValues, *, json: bool) -> None:
    """The flags on output that every command has; `json` where its result can be a document."""
    if json:
        flags.DEFINE_boolean(
            "json",
            False,
            "print the result as one JSON document on stdout, everything else on stderr",
            flag_values=values,
        )
    flags.DEFINE_boolean(
        "quiet", False, "print errors only, and what --json asks for", flag_values=values
    )
    flags.DEFINE_integer(
        "verbosity",
        0,
        "-1: results only; 0: progress and log; 1: the log lines of libraries, too",
        lower_bound=-1,
        upper_bound=1,
        flag_values=values,
    )


def default_workdir(command: str) -> str:
    """A new folder, named by the time."""
    return f"outputs/{command}/{command}_{datetime.datetime.now():%Y%m%d_%H%M%S}"


def make_console(values: flags.FlagValues) -> "Console":
    """Where people read results: stdout; stderr beside --json; nowhere with --quiet.

    As wide as the terminal, or as COLUMNS says; 80 columns where there is neither.

    Raises:
      UserError: --quiet contradicts --verbosity.
    """
    from rich.console import Console

    class EagerConsole(Console):
        """Without a reader a command ends, as its results are on disk."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    if values.quiet and values.verbosity > 0:
        raise UserError("--quiet and --verbosity are both given: give one of them")
    return EagerConsole(stderr=prints_json(values), quiet=values.quiet)


def log_console(values: flags.FlagValues) -> "Console | None":
    """Where progress and log lines go; None where they are not wanted."""
    from rich.console import Console

    class PatientConsole(Console):
        """Stops printing when its reader has gone, as in '| head'; the work continues."""

        def on_broken_pipe(self) -> None:
            silence(sys.stderr if self.stderr else sys.stdout)

    if values.quiet or values.verbosity < 0:
        return None
    return PatientConsole(stderr=prints_json(values))


def set_verbosity_of_libraries(values: flags.FlagValues) -> None:
    """By default libraries log nothing: what they raise is reported, and Orbax logs it too."""
    from absl import logging as absl_logging

    talkative = values.verbosity > 0
    absl_logging.set_verbosity("INFO" if talkative else "FATAL")
    logging.getLogger().setLevel("INFO" if talkative else "CRITICAL")


def prints_json(values: flags.FlagValues) -> bool:
    return "json" in values and bool(values.json)


def print_json(document: object) -> None:
    """The result of a command as one document on stdout; numbers that are not finite are null."""
    from jaxrank.io.documents import strict_json

    print(strict_json(document), end="")
