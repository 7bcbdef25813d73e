"""Files are written as a whole or not at all; a folder has one writer."""

from pathlib import Path

import pytest

from jaxrank import files


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"
    files.write_text(path, "old")
    monkeypatch.setattr(files.os, "replace", _full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")
