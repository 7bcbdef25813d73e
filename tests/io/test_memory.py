"""Free memory as Linux tells it, of the machine and of a container."""

from pathlib import Path

import pytest

from jaxrank.io import memory


def test_the_tighter_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, limit, taken = (tmp_path / name for name in ("meminfo", "max", "current"))
    machine.write_text("MemTotal:  9000 kB\nMemAvailable:  5000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", machine)
    monkeypatch.setattr(memory, "_CONTAINER", ((limit, taken),))
    assert memory.available_bytes() == 5000 * 1024  # in no container
    taken.write_text("1000000\n")
    limit.write_text("max\n")
    assert memory.available_bytes() == 5000 * 1024
    limit.write_text("3000000\n")
    assert memory.available_bytes() == 2_000_000
    limit.write_text("900000\n")
    assert memory.available_bytes() == 0


def test_without_such_files_the_built_in_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_CONTAINER", ())
    assert memory.available_bytes() > 10**6
