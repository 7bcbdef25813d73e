"""Standard streams that are closed, full, or without a reader."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from jaxrank.errors import UserError
from jaxrank.io.printable import printable

if TYPE_CHECKING:
    from rich.console import Console


def open_closed_streams() -> None:
    """Opens /dev/null in place of closed standard streams.

    Otherwise the next opened file gets the descriptor of the closed stream, and any print, such as
    XLA's, is written into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    # Python sets a stream to None if it was closed at startup.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115, it stays open
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def silence(stream: TextIO) -> None:
    """Redirects a stream to /dev/null, including its unwritten text."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def warn(line: str) -> None:
    """Prints a line on stderr; silences stderr if it can't be written."""
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def announce(console: "Console", *lines: str) -> None:
    """Prints lines before there are results; a failure to print does not stop the work."""
    from jaxrank.reporting.fitted_table import show_lines

    with suppress(OSError):
        show_lines(console, *lines)


def discard_unwritten_output() -> None:
    """Drops text that could not be printed.

    Otherwise Python tries again at exit, and changes the exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            silence(stream)


@contextmanager
def printing(results: Path | str | None = None) -> Iterator[None]:
    """Flushes stdout after the body, and raises an error if it can't be written.

    Commands print within this context after their results are on disk.

    Args:
      results: path of the results, for the message; None where a command only prints.

    Raises:
      UserError: stdout can't be written, such as to a full disk.
      BrokenPipeError: stdout has no reader.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(sys.stdout)
        what = "the output" if results is None else f"the results are in {results}, but"
        raise UserError(f"{what} can't be printed ({error.strerror or error})") from None
