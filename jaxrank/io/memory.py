"""The memory available to this process, and the allocation of large arrays."""

import contextlib
import ctypes
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from jaxrank import machine

_ALIGNMENT = 64
# glibc's mallopt option of the size from which memory is mapped, and its value here, in bytes.
_M_MMAP_THRESHOLD, _MAPPED_FROM = -3, 1 << 20
_MEMINFO, _STATM = Path("/proc/meminfo"), Path("/proc/self/statm")


class _Container(NamedTuple):
    """Files of a container's memory, and the names of its cached files in `statistics`.

    Usage includes cached files, which the kernel drops when memory is short.
    """

    limit: Path
    usage: Path
    statistics: Path
    cached: tuple[str, str]


_V2, _V1 = machine.MEMORY_LIMITS
_CONTAINERS = (
    _Container(
        _V2,
        _V2.with_name("memory.current"),
        _V2.with_name("memory.stat"),
        ("inactive_file", "active_file"),
    ),
    _Container(
        _V1,
        _V1.with_name("memory.usage_in_bytes"),
        _V1.with_name("memory.stat"),
        ("total_inactive_file", "total_active_file"),
    ),
)


def available_bytes() -> float:
    """Bytes of memory available to this process; infinite if unknown.

    Respects the limits of containers and of `ulimit -v`.
    """
    return max(0.0, min([_of_machine(), _of_process(), *map(_of_container, _CONTAINERS)]))


def give_back_freed_arrays() -> None:
    """Makes glibc return the memory of large arrays to the system as soon as they are freed.

    By default it keeps freed arrays of up to 32 MiB for the thread that freed them, and the gaps
    between those that remain: a search of 5,000 trials took 1.6 GB instead of 1.4. Has no effect
    with other C libraries. It is for the whole process, so only commands call it.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)


def empty_rows(num_rows: int, num_columns: int, dtype: DTypeLike) -> np.ndarray:
    """Allocates an uninitialised array [rows, columns].

    The array begins at a multiple of 64 bytes, so that a CPU device of JAX uses it without a copy.
    """
    size = num_rows * num_columns * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(num_rows, num_columns)


def _of_machine() -> float:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
        return math.inf
    except (OSError, ValueError):  # not Linux
        return machine.physical_bytes()


def _of_process() -> float:
    try:
        taken = int(_STATM.read_text().split()[0]) * machine.PAGE_BYTES
    except (OSError, ValueError):  # not Linux
        return math.inf
    return machine.address_space_bytes() - taken


def _of_container(container: _Container) -> float:
    limit = machine.limit_bytes(container.limit)
    try:
        return limit - float(container.usage.read_text()) + _cached(container)
    except (OSError, ValueError):  # no such container
        return math.inf


def _cached(container: _Container) -> float:
    """Bytes of cached files; 0 if unknown."""
    try:
        entries = (line.split() for line in container.statistics.read_text().splitlines())
        return float(sum(int(size) for name, size in entries if name in container.cached))
    except (OSError, ValueError):
        return 0.0
