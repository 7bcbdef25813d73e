"""Free memory as Linux tells it, of the machine and of a container, and what is given back."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrank.io import memory


def test_the_tighter_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, limit, taken = (tmp_path / name for name in ("meminfo", "max", "current"))
    container = memory._Container(limit, taken, tmp_path / "stat", ("inactive_file", "active_file"))
    info.write_text("MemTotal:  9000 kB\nMemAvailable:  5000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", info)
    monkeypatch.setattr(memory, "_CONTAINERS", (container,))
    assert memory.available_bytes() == 5000 * 1024  # in no container
    taken.write_text("1000000\n")
    limit.write_text("max\n")
    assert memory.available_bytes() == 5000 * 1024
    limit.write_text("3000000\n")
    assert memory.available_bytes() == 2_000_000
    limit.write_text("900000\n")
    assert memory.available_bytes() == 0


@pytest.mark.parametrize(("version", "prefix"), [(0, ""), (1, "total_")])
def test_cached_files_of_a_container_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, prefix: str
) -> None:
    known = memory._CONTAINERS[version]
    container = known._replace(
        limit=tmp_path / "limit", usage=tmp_path / "usage", statistics=tmp_path / "stat"
    )
    container.limit.write_text("900000\n")
    container.usage.write_text("800000\n")
    container.statistics.write_text(
        f"anon 100000\n{prefix}inactive_file 400000\n{prefix}active_file 200000\nother 5\n"
    )
    monkeypatch.setattr(memory, "_CONTAINERS", (container,))
    assert memory.available_bytes() == 700_000
    container.statistics.write_text("damaged")
    assert memory.available_bytes() == 100_000


def test_without_such_files_the_built_in_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_CONTAINERS", ())
    assert memory.available_bytes() > 10**6


# Frees every other array of 8 MB, after a larger one, and prints the MB that the process still has.
_GAPS = """
import sys
import numpy as np
from jaxrank.io import memory
if sys.argv[1] == "given_back":
    memory.give_back_freed_arrays()
np.ones(3_000_000)
kept = [np.ones(1_000_000) for _ in range(20)]
del kept[::2]
print(int(open("/proc/self/statm").read().split()[1]) * memory.machine.PAGE_BYTES // 10**6)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the option is glibc's")
def test_memory_between_arrays_is_given_back() -> None:
    left = {}
    for name in ("kept", "given_back"):
        command = [sys.executable, "-c", _GAPS, name]
        left[name] = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert left["given_back"] < left["kept"] - 50
