"""Standard streams that are closed, full, or that nobody reads."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_data import ROOT

LAUNCH = ROOT / "launch.py"


def launched(words: list[str], streams: str) -> subprocess.CompletedProcess[str]:
    """A command whose streams a shell has changed."""
    command = shlex.join([sys.executable, "-W", "error", str(LAUNCH), *words])
    return subprocess.run(
        ["sh", "-c", f"exec {command} {streams}"], capture_output=True, text=True, check=False
    )


@pytest.fixture
def block(tmp_path: Path) -> list[str]:
    """Words that make a store's block of an array."""
    np.save(tmp_path / "values.npy", np.ones((2, 3), np.float32))
    (tmp_path / "names.txt").write_text("a.jpg\nb.jpg\n")
    files = [f"--from_npy={tmp_path / 'values.npy'}", f"--names={tmp_path / 'names.txt'}"]
    return ["features", *files, "--block=x", f"--features={tmp_path / 'store'}"]


FULL = "can't be printed (No space left on device)\n"


@pytest.mark.parametrize(
    ("streams", "status", "error"),
    [
        (">&- 2>&- <&-", 0, ""),
        (">/dev/full", 2, f"jaxrank: the results are in STORE, but {FULL}"),
        (">/dev/full 2>/dev/full", 2, ""),
    ],
)
def test_results_are_written_whatever_becomes_of_the_output(
    block: list[str], tmp_path: Path, streams: str, status: int, error: str
) -> None:
    done = launched(block, streams)
    assert (done.returncode, done.stderr) == (
        status, error.replace("STORE", str(tmp_path / "store"))
    )  # fmt: skip
    assert (tmp_path / "store" / "manifest.json").is_file()
    assert (tmp_path / "store" / ".lock").read_bytes() == b""


@pytest.mark.parametrize(
    ("words", "streams", "status", "error"),
    [
        (["search", "--help"], ">/dev/full", 2, f"jaxrank: the output {FULL}"),
        (["--help"], ">&-", 0, ""),
        (["serch"], "2>/dev/full", 2, ""),
        (["calibrate", "--help"], "2>&- >&-", 0, ""),  # it is renamed, which is reported
    ],
)
def test_a_stream_that_can_not_be_written_is_one_line(
    words: list[str], streams: str, status: int, error: str
) -> None:
    done = launched(words, streams)
    assert (done.returncode, done.stderr) == (status, error)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_a_command_quietly(block: list[str], stream: str) -> None:
    ours, gone = os.pipe()
    os.close(ours)
    other = "stderr" if stream == "stdout" else "stdout"
    words = block if stream == "stdout" else ["serch"]
    done = subprocess.run(
        [sys.executable, str(LAUNCH), *words],
        text=True,
        check=False,
        **{stream: gone, other: subprocess.PIPE},  # type: ignore[call-overload]
    )
    os.close(gone)
    assert done.returncode == (141 if stream == "stdout" else 2)
    assert not getattr(done, other)


def test_a_search_without_streams_writes_its_results_and_nothing_into_its_lock(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    workdir = tmp_path / "w"
    words = [f"--pairs={small_files[0]}", f"--features={small_files[1]}", f"--workdir={workdir}"]
    words += ["--experiments=iqa_only", "--config.max_epochs=1"]
    done = launched(["search", *words], ">&- 2>&- <&-")
    assert done.returncode == 0
    assert (workdir / "results.json").is_file()
    assert (workdir / ".lock").read_bytes() == b""
