"""Progress of a running search: its log and its progress bar."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxrank.data.preference_tables import counted
from jaxrank.io import atomic, notebook
from jaxrank.io.printable import printable
from jaxrank.planning.cohort import Cohort
from jaxrank.reporting.fitted_table import show_lines

# Minimum time between two updates of the bar in a notebook.
_NOTEBOOK_SECONDS = 0.5

# Maximum number of cohorts that the bar names.
_NAMED = 4

log = logging.getLogger("jaxrank")


class _Shown(NamedTuple):
    """State of a running cohort after its last dispatch."""

    cohort: Cohort
    epochs: int
    num_running: int


class _ConsoleHandler(logging.Handler):
    """Prints log lines on the progress bar's console, so that they do not overwrite the bar."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the line is in the log file
            show_lines(self._console, record.getMessage())


class _Formatter(logging.Formatter):
    """Escapes unprintable characters: names come from users, and terminals show logs."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _FileHandler(logging.FileHandler):
    """Raises errors of writing the log; the base class would print a traceback instead."""

    def _open(self) -> TextIOWrapper:
        return atomic.open_to_append(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:
        raise


@contextmanager
def logging_to(path: Path, console: Console | None) -> Iterator[None]:
    file = _FileHandler(path)
    file.setFormatter(_Formatter("%(asctime)s %(message)s"))
    handlers: list[logging.Handler] = [file]
    if console is not None:
        handlers.append(_ConsoleHandler(console))
    level, propagate = log.level, log.propagate
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # absl has its own handler on the root logger
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
        log.setLevel(level)
        log.propagate = propagate


@contextmanager
def progress_bar(
    cohorts: Sequence[Cohort], console: Console | None
) -> Iterator[Callable[[int, Cohort, int, int], None]]:
    """Shows a progress bar over all cohorts, measured in predicted seconds.

    Yields a function to call after every dispatch of a cohort. Its arguments are the cohort's
    number, the cohort, its finished epochs and its running trials. A cohort that stops early counts
    as complete.

    In a notebook the same bar is an output of the cell. rich's own notebook display would need
    ipywidgets.
    """
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=console is None or not console.is_terminal,
        transient=True,
    )
    task = bar.add_task("", total=sum(cohort.seconds for cohort in cohorts))
    in_notebook = console is None and notebook.is_notebook()
    show_again = notebook.show_changing(bar) if in_notebook else lambda: None
    shown_at = time.monotonic()
    behind = 0.0  # predicted seconds of finished cohorts
    running: dict[int, _Shown] = {}

    def show(number: int, cohort: Cohort, epochs: int, num_running: int) -> None:
        nonlocal behind, shown_at
        running[number] = _Shown(cohort, epochs, num_running)
        if not num_running:
            del running[number]
            behind += cohort.seconds
        begun = sum(s.cohort.share_done(s.epochs) * s.cohort.seconds for s in running.values())
        bar.update(task, completed=behind + begun, description=_description(list(running.values())))
        if not num_running or time.monotonic() > shown_at + _NOTEBOOK_SECONDS:
            shown_at = time.monotonic()
            show_again()

    with bar:
        yield show
    bar.update(task, description="")
    show_again()


def _description(running: Sequence[_Shown]) -> str:
    """Describes the running cohorts: one cohort in detail, several by name and epoch."""
    if len(running) == 1:
        (one,) = running
        trials = counted(one.num_running, "trial")
        return f"{one.cohort.label}: epoch {one.epochs}, {trials} running"
    names = [f"{one.cohort.trials[0].experiment.name} {one.epochs}" for one in running[:_NAMED]]
    more = len(running) - _NAMED
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
