"""Audits the data of a search in the background of its training."""

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


# Seconds between two checks for a signal while waiting for the audit.
_ASK_EVERY = 0.1


class _Cancelled(Exception):
    """The search has ended before its audit."""


def audit_of(
    folder: Path,
    prepared: Prepared,
    max_seconds: float,
    check_cancelled: Callable[[], None] = lambda: None,
) -> checks.Audit:
    """Reads the audit in the folder of a search, or makes a new one if it is not finished."""
    found = checks.read_audit(folder)
    if found is None or not found.finished:
        found = checks.audit(
            prepared.dataset.table,
            prepared.split_data,
            max_seconds=max_seconds,
            check_cancelled=check_cancelled,
        )
    return found


def _audit_in_thread(
    folder: Path, prepared: Prepared, max_seconds: float, check_cancelled: Callable[[], None]
) -> checks.Audit:
    """Audits the data and writes the audit to the folder.

    If the audit crashes, training continues and reports the crash.
    """
    start = time.perf_counter()
    try:
        found = audit_of(folder, prepared, max_seconds, check_cancelled)
    except _Cancelled:
        raise
    except Exception:
        log.warning("the audit crashed; this is a bug in jaxrank, please report it", exc_info=True)
        headline = "The audit crashed: it is not known whether labels and photos belong together."
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
    """Audits in a separate thread, so that training does not wait.

    The finding is logged as soon as it is available, and accompanies every result. Leaving the
    context waits for the audit, or cancels it if an error ends the search.
    """

    def __init__(self, folder: Path, prepared: Prepared, max_seconds: float, *, wanted: bool):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._cancelled = threading.Event()
        self._work = folder, prepared, max_seconds, self._check_cancelled
        self._wanted = wanted
        self._future: Future[checks.Audit] | None = None
        self._logged = False

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

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _Cancelled

    def begin(self) -> None:
        """Begins the audit, unless it has begun.

        The scheduler calls this only once training has begun, so as not to delay its start.
        """
        if self._wanted and self._future is None:
            self._future = self._pool.submit(_audit_in_thread, *self._work)

    def log_finding(self) -> None:
        """Logs the finding, if it is available and was not logged yet."""
        if self._logged or self._future is None or not self._future.done():
            return
        self._logged = True
        found = self._future.result()
        if found.verdict == case.PASS:
            log.info("audit: %s", found.headline)
            return
        for line in found.banner():
            log.warning(line)

    def is_done(self) -> bool:
        """Whether `with_caveat` returns at once."""
        self.begin()
        return self._future is None or self._future.done()

    def with_caveat(
        self, prepared: Prepared, stop_signal: Callable[[], int | None] = lambda: None
    ) -> Prepared:
        """Waits for the audit, and adds its finding to the caveats of all results.

        If a signal comes, returns at once without the caveat: files with caveats must not be
        written then.
        """
        self.begin()
        if self._future is None:
            return prepared
        while not wait([self._future], _ASK_EVERY).done:
            if stop_signal() is not None:
                return prepared
        caveat = self._future.result().caveat
        self.log_finding()
        if not caveat or caveat in prepared.data.caveats:
            return prepared
        return prepared._replace(data=prepared.data.with_caveat(caveat))
