"""Files are written as a whole or not at all; a folder has one writer."""

from pathlib import Path

import pytest

from jaxrank.io import atomic


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"
    atomic.write_text(path, "old")
    monkeypatch.setattr(atomic.os, "replace", _full_disk)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")
