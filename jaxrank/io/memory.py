"""The memory available to this process, and the allocation of large arrays."""

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

_ALIGNMENT = 64
_MEMINFO, _STATM = Path("/proc/meminfo"), Path("/proc/self/statm")
# A container's memory limit and usage: of control groups version 2, then version 1.
_CONTAINER = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def available_bytes() -> float:
    """Bytes of memory available to this process; infinite if unknown.

    Respects the limits of containers and of `ulimit -v`.
    """
    containers = (_of_container(*files) for files in _CONTAINER)
    return max(0.0, min([_of_machine(), _of_process(), *containers]))


def empty_rows(num_rows: int, num_columns: int, dtype: DTypeLike) -> np.ndarray:
    """Allocates an uninitialised array [rows, columns].

    The array begins at a multiple of 64 bytes, so that a CPU device of JAX uses it without a copy.
    """
    size = num_rows * num_columns * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(num_rows, num_columns)


def machine_bytes() -> float:
    """Total bytes of memory of this machine, not the free bytes; infinite if unknown."""
    return _built_in()


def _of_machine() -> float:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
        return math.inf
    except (OSError, ValueError):  # not Linux
        return _built_in()


def _of_process() -> float:
    try:
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        taken = int(_STATM.read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return math.inf
    return math.inf if limit == resource.RLIM_INFINITY else float(limit - taken)


def _built_in() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _of_container(limit: Path, taken: Path) -> float:
    try:
        return float(limit.read_text()) - float(taken.read_text())
    except (OSError, ValueError):  # no such container, or no limit ("max")
        return math.inf
