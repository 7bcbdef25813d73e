"""Signal handlers that stop a search without losing work."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_STDERR = 2
_SHOW_CURSOR = "\x1b[?25h"  # the progress bar hides it


@contextmanager
def signals_end_at_once(describe: Callable[[], str] = lambda: "interrupted") -> Iterator[None]:
    """Ends the program with one line on Ctrl-C or SIGTERM, while there is nothing to save.

    An exception would not work: libraries that are being loaded swallow it, or crash.

    Args:
      describe: returns the line; called when the signal comes.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        with suppress(OSError):
            os.write(_STDERR, f"\njaxrank: {describe()}\n".encode(errors="replace"))
        os._exit(128 + number)

    with _handled_by(end):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def signals_caught() -> Iterator[Callable[[], int | None]]:
    """Keeps a Ctrl-C or SIGTERM from ending the program; a second Ctrl-C ends it at once.

    Works in the main thread only.

    Yields:
      A function that returns the number of the first signal that came, or None.
    """
    came: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)
        # The system's own handler: Python's would wait for the compiled program to return.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        line = "\njaxrank: saving and stopping; Ctrl-C now ends at once\n"
        # Not print: the signal may have interrupted a print.
        with suppress(OSError):
            shown = line + _SHOW_CURSOR if os.isatty(_STDERR) else line
            os.write(_STDERR, shown.encode())

    with _handled_by(catch):
        yield lambda: came[0] if came else None
