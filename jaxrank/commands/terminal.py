"""Consoles, verbosity and JSON output of commands."""

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
    """Defines the output flags of every command.

    Args:
      values: flags to which the flags are added.
      json: whether the command's result can be printed as JSON.
    """
    if json:
        flags.DEFINE_boolean(
            "json",
            False,
            "print the result as one JSON document on stdout, everything else on stderr",
            flag_values=values,
        )
    flags.DEFINE_boolean(
        "quiet", False, "print only errors, and the document of --json", flag_values=values
    )
    flags.DEFINE_integer(
        "verbosity",
        0,
        "-1: results only; 0: progress and log; 1: also the log lines of libraries (default: 0)",
        lower_bound=-1,
        upper_bound=1,
        flag_values=values,
    )


def default_workdir(command: str) -> str:
    """Returns a folder for the results, named by the time."""
    return f"outputs/{command}/{command}_{datetime.datetime.now():%Y%m%d_%H%M%S}"


def make_console(values: flags.FlagValues) -> "Console":
    """Returns the console for results: stdout, stderr with --json, silent with --quiet.

    Its width is that of the terminal or COLUMNS, or 80 columns without either.

    Raises:
      UserError: --quiet contradicts --verbosity.
    """
    from rich.console import Console

    class EagerConsole(Console):
        """Ends the command when its reader has gone; the results are on disk by then."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    if values.quiet and values.verbosity > 0:
        raise UserError("--quiet and --verbosity are both given: give one of them")
    return EagerConsole(stderr=prints_json(values), quiet=values.quiet)


def log_console(values: flags.FlagValues) -> "Console | None":
    """Returns the console for progress and log lines; None with --quiet or --verbosity=-1."""
    from rich.console import Console

    class PatientConsole(Console):
        """Stops printing when its reader has gone, as with `| head`; the work continues."""

        def on_broken_pipe(self) -> None:
            silence(sys.stderr if self.stderr else sys.stdout)

    if values.quiet or values.verbosity < 0:
        return None
    return PatientConsole(stderr=prints_json(values))


def set_verbosity_of_libraries(values: flags.FlagValues) -> None:
    """Enables the logs of libraries with --verbosity=1.

    They are off by default: errors are reported anyway, and Orbax would log them a second time.
    """
    from absl import logging as absl_logging

    talkative = values.verbosity > 0
    absl_logging.set_verbosity("INFO" if talkative else "FATAL")
    logging.getLogger().setLevel("INFO" if talkative else "CRITICAL")


def prints_json(values: flags.FlagValues) -> bool:
    return "json" in values and bool(values.json)


def print_json(document: object) -> None:
    """Prints a command's result as one JSON document; numbers that are not finite become null."""
    from jaxrank.io.documents import strict_json

    print(strict_json(document), end="")
