"""The standard streams of a command: closed, full, or without a reader."""

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

    Otherwise the next file that is opened gets the number of the closed stream, and whatever
    prints, such as XLA, writes into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    # Python has no object for a stream that was closed when it started.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115, it stays open
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def silence(stream: TextIO) -> None:
    """Sends what is printed on a stream from now on to /dev/null, its unwritten text included."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def warn(line: str) -> None:
    """Prints a line on stderr; does without where that can't be written."""
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def announce(console: "Console", *lines: str) -> None:
    """Prints lines before there are results, which are not lost because these can't be printed."""
    from jaxrank.reporting.fitted_table import show_lines

    with suppress(OSError):
        show_lines(console, *lines)


def give_up_unwritten_text() -> None:
    """Drops what could not be printed: Python tries again at its end, and would change the exit
    status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            silence(stream)


@contextmanager
def printing(results: Path | str | None = None) -> Iterator[None]:
    """Prints what a command has to say after its results are on disk.

    Args:
      results: where they are; None where a command only prints.

    Raises:
      UserError: stdout can't be written, such as to a full disk.
      BrokenPipeError: nobody reads it.
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
