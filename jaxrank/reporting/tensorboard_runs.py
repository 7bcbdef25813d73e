"""TensorBoard tracker (extra `tensorboard`): event files, written without TensorFlow."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxrank.io import atomic

if TYPE_CHECKING:
    from jaxrank.reporting.trackers import Run

# Prefixes of the tags of epoch metrics and of trial results.
EPOCH, RESULT = "epoch", "result"


def write(folder: Path, runs: "Sequence[Run]", stop_signal: Callable[[], int | None]) -> None:
    """Writes an event file for each run, into a folder named after the run.

    Raises:
      InterruptedError: a signal ended the writing.
    """
    for run in runs:
        if stop_signal() is not None:
            raise InterruptedError("stopped by a signal")
        place = folder / run.name
        atomic.make_folder(place.parent)
        shutil.rmtree(place, ignore_errors=True)
        atomic.make_folder(place)
        _write_run(place, run)


def _write_run(folder: Path, run: "Run") -> None:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    now = time.time()
    numbers = {k: v for k, v in run.result.items() if not isinstance(v, str)}
    # The group is the run's identity: the dashboard shows runs of one group as one row.
    begin = hparams_pb(dict(run.hyperparameters), run.identity, now)
    writer = EventFileWriter(str(folder))
    try:
        writer.add_event(_event(begin, 0, now))
        for epoch, values in enumerate(run.epochs, start=1):
            writer.add_event(_event(_scalars(EPOCH, values), epoch, now))
        best = int(numbers.get("best_epoch", 0))
        writer.add_event(_event(_scalars(RESULT, numbers), best, now))
        writer.add_event(_event(_end(run.completed, now), 0, now))
    finally:
        writer.close()


def _event(summary: Any, step: int, now: float) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(summary=summary, step=step, wall_time=now)


def _scalars(kind: str, values: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(
        value=[Summary.Value(tag=f"{kind}/{name}", simple_value=v) for name, v in values.items()]
    )


def _end(completed: bool, now: float) -> Any:
    """Returns the summary of the run's end status; the library's own function needs TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_SUCCESS if completed else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=now)
    about = metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=end)
    )
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR
    )
    return Summary(value=[value])
