"""Cores and memory that a process may use, and the name of its CPU."""

import math
import os
import resource
from pathlib import Path

import pytest

from jaxrank import devices, machine
from jaxrank.extraction import workers

EPYC = """processor\t: 0
model name\t: AMD EPYC 7763  64-Core Processor
flags\t\t: fpu sse2 avx fma avx2

processor\t: 1
model name\t: another
flags\t\t: avx512f
"""
ICE_LAKE = "model name\t: Intel Xeon Platinum 8375C\nflags\t\t: avx avx2 avx512f\n"
GRAVITON = "Features\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n\n"


@pytest.mark.parametrize(
    ("version_2", "version_1", "expected"),
    [
        ("max 100000", None, 8),
        ("150000 100000", None, 2),
        ("20000 100000", None, 1),
        ("1600000 100000", None, 8),
        (None, ("-1", "100000"), 8),
        (None, ("300000", "100000"), 3),
        (None, None, 8),
        ("damaged", None, 8),
    ],
)
def test_quotas_of_containers_count_as_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version_2: str | None,
    version_1: tuple[str, str] | None,
    expected: int,
) -> None:
    files = [tmp_path / name for name in ("max", "quota", "period")]
    for path, text in zip(files, [version_2, *(version_1 or (None, None))], strict=True):
        if text is not None:
            path.write_text(text + "\n")
    monkeypatch.setattr(machine, "_QUOTAS", ((files[0],), (files[1], files[2])))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine.usable_cores() == expected
    monkeypatch.setattr(workers, "available_bytes", lambda: math.inf)
    assert workers.default_workers() == expected


def test_the_tightest_limit_of_memory_counts_for_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = tmp_path / "max", tmp_path / "limit_in_bytes"
    monkeypatch.setattr(machine, "MEMORY_LIMITS", limits)
    monkeypatch.setattr(machine, "physical_bytes", lambda: 9e9)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert machine.memory_bytes() == 9e9
    limits[0].write_text("max\n")
    limits[1].write_text(f"{2**63 - 4096}\n")  # no limit, in version 1
    assert machine.memory_bytes() == 9e9
    limits[1].write_text("8000000000\n")
    assert machine.memory_bytes() == 8e9
    limits[0].write_text("7000000000\n")
    assert machine.memory_bytes() == 7e9
    assert devices.spec().memory == 7 * 10**9
    monkeypatch.setattr(resource, "getrlimit", lambda _: (6 * 10**9, resource.RLIM_INFINITY))
    assert devices.spec().memory == 6 * 10**9


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (EPYC, "AMD EPYC 7763 64-Core Processor, avx2"),
        (ICE_LAKE, "Intel Xeon Platinum 8375C, avx512"),
        (GRAVITON, "0x41 0xd40, sve"),
    ],
)
def test_the_kind_of_a_cpu_names_what_compiled_code_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, expected: str
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", path)
    assert machine.cpu_model() == expected
    assert devices.kind() == f"cpu: {expected}"
    assert devices.workers()  # all of JAX's CPU devices, whatever their full name


def test_a_cpu_without_cpuinfo_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert machine.cpu_model()


def test_older_files_record_any_cpu_as_cpu() -> None:
    assert devices.is_kind("cpu: A, avx2", "cpu: A, avx2")
    assert devices.is_kind("cpu: A, avx2", "cpu")
    assert not devices.is_kind("cpu: A, avx2", "cpu: A, avx512")
    assert not devices.is_kind("NVIDIA H100", "cpu")
