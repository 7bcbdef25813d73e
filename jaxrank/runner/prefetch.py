"""Cohorts loaded in the background, while others train."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from jaxrank import train
from jaxrank.planning.cohort import Cohort, ProgramKey
from jaxrank.runner.manifest import PlannedCohort, cohort_of
from jaxrank.runner.prepare import Prepared
from jaxrank.training.arrays import CohortInputs, make_inputs


class Prefetcher:
    """Compiles the programs of the cohorts to come, some of them at once, and puts what they share
    on the device once. Leaving its context ends it."""

    def __init__(self, prepared: Prepared):
        self._prepared = prepared
        # XLA compiles a program mostly on one core; the others are for training.
        self._num_threads = max(1, (os.cpu_count() or 1) // 2)
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="load")
        self._loads: dict[int, Future[train.CompiledCohort]] = {}
        self._feeds: dict[tuple, CohortInputs] = {}
        self._lock = threading.Lock()  # two cohorts must not make the same feed

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, waiting: Sequence[PlannedCohort]) -> None:
        """Begins to load the first waiting cohorts, and drops inputs that none of them reads."""
        for planned in waiting[: 1 + self._num_threads]:
            if planned.number not in self._loads:
                cohort = cohort_of(planned, self._prepared)
                self._loads[planned.number] = self._pool.submit(self.load, cohort)
        needed = {_columns(cohort_of(planned, self._prepared).program_key) for planned in waiting}
        with self._lock:
            self._feeds = {key: feed for key, feed in self._feeds.items() if key in needed}

    def loaded(self, number: int) -> train.CompiledCohort:
        """The cohort of this number, once it is loaded; what went wrong is raised here."""
        return self._loads.pop(number).result()

    def load(self, cohort: Cohort) -> train.CompiledCohort:
        prepared = self._prepared
        with self._lock:
            key = _columns(cohort.program_key)
            if key not in self._feeds:
                self._feeds[key] = make_inputs(
                    cohort,
                    prepared.split_data,
                    prepared.trained_folds,
                    prepared.initial_weights,
                )
            feed = self._feeds[key]
        return train.compile_cohort(
            cohort,
            prepared.split_data,
            start=prepared.initial_weights,
            feed=feed,
        )


def _columns(key: ProgramKey) -> tuple:
    """What of the features a cohort reads, and how they are scaled."""
    return key.blocks, key.l2_blocks, key.input_scaling, key.init_from
