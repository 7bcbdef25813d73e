"""The machine: its CPU, and the cores and memory that this process may use.

The limits of containers and of `ulimit` count. They are constants, because plans depend on them;
`io.memory` has the free memory.
"""

import itertools
import math
import os
import platform
import resource
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# A container's memory limit: of control groups version 2, then version 1.
MEMORY_LIMITS = (_CGROUP / "memory.max", _CGROUP / "memory" / "memory.limit_in_bytes")
# A container's CPU quota and its period: both in one file of version 2, in two files of version 1.
_QUOTAS = (
    (_CGROUP / "cpu.max",),
    (_CGROUP / "cpu" / "cpu.cfs_quota_us", _CGROUP / "cpu" / "cpu.cfs_period_us"),
)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CPUINFO = Path("/proc/cpuinfo")
# The widest vector instructions that a CPU may have, by their flag in /proc/cpuinfo.
_VECTORS = {
    "amx_tile": "amx", "avx512f": "avx512", "avx2": "avx2", "avx": "avx", "sve2": "sve2",
    "sve": "sve", "asimd": "neon",
}  # fmt: skip


def usable_cores() -> int:
    """The number of cores that this process may use; a fraction of a core counts as one."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, *(math.ceil(min(_quota(files), cores)) for files in _QUOTAS)))


def memory_bytes() -> float:
    """Bytes of memory that this process may use, free or not; infinite if unknown."""
    return min(physical_bytes(), address_space_bytes(), *map(limit_bytes, MEMORY_LIMITS))


def physical_bytes() -> float:
    """Bytes of the machine's memory; infinite if unknown."""
    try:
        return float(PAGE_BYTES * os.sysconf("SC_PHYS_PAGES"))
    except (OSError, ValueError):
        return math.inf


def address_space_bytes() -> float:
    """The limit of `ulimit -v`; infinite if there is none."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else float(limit)


def limit_bytes(path: Path) -> float:
    """A container's limit, from its file; infinite if there is no container or no limit."""
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # the text "max" is no number
        return math.inf


def _quota(files: tuple[Path, ...]) -> float:
    """A container's CPU time per time, in cores; infinite if there is no quota."""
    try:
        quota, period = map(float, " ".join(path.read_text() for path in files).split())
    except (OSError, ValueError):
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def cpu_model() -> str:
    """What compiled code depends on: the CPU's model and its widest vector instructions.

    Such as `AMD EPYC 7763 64-Core Processor, avx2`. XLA generates code for the CPU that it runs on.
    """
    field = _cpu_fields()
    part = " ".join(field[name] for name in ("CPU implementer", "CPU part") if name in field)  # ARM
    model = field.get("model name") or part or platform.processor() or platform.machine()
    flags = (field.get("flags") or field.get("Features", "")).split()
    widest = [name for flag, name in _VECTORS.items() if flag in flags][:1]
    return ", ".join([model, *widest])


def _cpu_fields() -> dict[str, str]:
    """The description of the first core in /proc/cpuinfo; empty if there is none."""
    try:
        with _CPUINFO.open(errors="replace") as file:
            lines = list(itertools.takewhile(str.strip, file))
    except OSError:  # not Linux
        return {}
    pairs = (line.partition(":") for line in lines)
    return {" ".join(name.split()): " ".join(value.split()) for name, _, value in pairs}
