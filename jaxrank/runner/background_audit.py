"""The audit of a search's data, beside its training."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from jaxrank.audit import case, checks
from jaxrank.runner.prepare import Prepared

log = logging.getLogger("jaxrank")


# So often, in seconds, whoever waits for the audit asks whether to stop.
_ASK_EVERY = 0.1


class _Cancelled(Exception):
    """The search has ended without an audit."""


def audit_of(
    folder: Path,
    prepared: Prepared,
    max_seconds: float,
    go_on: Callable[[], None] = lambda: None,
) -> checks.Audit:
    """The audit in the folder of a search, or a new one."""
    found = checks.read_audit(folder)
    if found is None:
        found = checks.audit(
            prepared.dataset.table, prepared.split_data, max_seconds=max_seconds, go_on=go_on
        )
    return found


def _audit_in_thread(
    folder: Path, prepared: Prepared, max_seconds: float, go_on: Callable[[], None]
) -> checks.Audit:
    """An audit that is written to the folder; if it crashes, training continues and reports it."""
    start = time.perf_counter()
    try:
        found = audit_of(folder, prepared, max_seconds, go_on)
    except _Cancelled:
        raise
    except Exception:
        log.warning("the audit crashed; this is a bug in jaxrank, please report it", exc_info=True)
        headline = "The audit crashed: nobody knows whether labels and photos belong together."
        return checks.Audit(
            verdict=case.WARN,
            label="audit crashed",
            headline=headline,
            advice="Look at twenty pairs by eye.",
            evidence=[],
            facts={},
            verdicts={},
        )
    checks.write_audit(folder, found)
    log.info("the audit took %.1f s", time.perf_counter() - start)
    return found


class Auditor:
    """Audits in a thread of its own, so that training does not wait. What it finds stands in the
    log as soon as it is known, and beside every result. Leaving its context waits for it, or
    cancels it where an error ends the search."""

    def __init__(self, folder: Path, prepared: Prepared, max_seconds: float, *, wanted: bool):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._cancelled = threading.Event()
        self._work = folder, prepared, max_seconds, self._go_on
        self._wanted = wanted
        self._future: Future[checks.Audit] | None = None
        self._told = False

    def __enter__(self) -> "Auditor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._cancelled.set()
        self._pool.shutdown(cancel_futures=True)

    def _go_on(self) -> None:
        if self._cancelled.is_set():
            raise _Cancelled

    def begin(self) -> None:
        """Begins, if it was not begun: once training has, so as not to hold up its start."""
        if self._wanted and self._future is None:
            self._future = self._pool.submit(_audit_in_thread, *self._work)

    def tell(self) -> None:
        """Logs what was found, if that is known by now and was not logged yet."""
        if self._told or self._future is None or not self._future.done():
            return
        self._told = True
        found = self._future.result()
        if found.verdict == case.PASS:
            log.info("audit: %s", found.headline)
            return
        for line in found.banner():
            log.warning(line)

    def is_done(self) -> bool:
        """Whether `beside` returns at once."""
        self.begin()
        return self._future is None or self._future.done()

    def beside(
        self, prepared: Prepared, stop_signal: Callable[[], int | None] = lambda: None
    ) -> Prepared:
        """Waits for the audit; what it found becomes a caveat of all results.

        Returns at once, without a caveat, where a signal comes: nothing may be written then that
        has one.
        """
        self.begin()
        if self._future is None:
            return prepared
        while not wait([self._future], _ASK_EVERY).done:
            if stop_signal() is not None:
                return prepared
        caveat = self._future.result().caveat
        self.tell()
        if not caveat or caveat in prepared.data.caveats:
            return prepared
        return prepared._replace(data=prepared.data.with_caveat(caveat))
