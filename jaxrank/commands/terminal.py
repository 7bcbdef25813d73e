"""Where a command prints."""

import datetime
import sys
from typing import TYPE_CHECKING

from jaxrank.commands.streams import silence

if TYPE_CHECKING:
    from rich.console import Console


def default_workdir(command: str) -> str:
    """A new folder, named by the time."""
    return f"outputs/{command}/{command}_{datetime.datetime.now():%Y%m%d_%H%M%S}"


def make_console() -> "Console":
    """Wide enough for the tables where the output is no terminal, such as a file."""
    from rich.console import Console

    class PatientConsole(Console):
        """Stops printing when its reader has gone, as in '| head'; the search continues."""

        def on_broken_pipe(self) -> None:
            silence(sys.stdout)

    console = PatientConsole()
    return console if console.is_terminal else PatientConsole(width=150)
