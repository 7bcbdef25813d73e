"""What surrounds a command: streams, settings, folders that can't be written, signals."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from attack import Attack, Inputs, case
from small_data import ROOT

from jaxrank.training import compilation_cache


def launched(words: list[str], streams: str = "", **variables: str) -> tuple[int, str]:
    command = shlex.join([sys.executable, str(ROOT / "launch.py"), *words])
    done = subprocess.run(
        ["sh", "-c", f"exec {command} {streams}"],
        capture_output=True, text=True, check=False, env=os.environ | variables,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("streams", "status"),
    [
        (">&-", 0),
        (">&- 2>&- <&-", 0),
        (">/dev/full", 2),
        case("both full", ">/dev/full 2>/dev/full", 2),
    ],
)
def test_streams_that_can_not_be_written_are_no_traceback(streams: str, status: int) -> None:
    found, said = launched(["--help"], streams)
    assert found == status
    assert "Traceback" not in said
    assert "Exception" not in said
    assert said.count("\n") <= 1


def test_a_platform_that_jax_does_not_know_is_one_line(inputs: Inputs) -> None:
    words = ["search", *inputs.words, "--dry_run"]
    status, said = launched(words, JAX_PLATFORMS="nope")
    assert status == 2
    assert "Traceback" not in said
    assert "JAX_PLATFORMS" in said.splitlines()[-1]


@pytest.fixture
def wide_numbers() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("command", ["search", "rank", "evaluate"])
def test_64_bits_are_one_line(
    attack: Attack, searched: Inputs, wide_numbers: None, command: str
) -> None:
    model, out = searched.workdir / "iqa_only" / "model", searched.folder / "out"
    words = {
        "search": searched.words,
        "rank": [f"--features={searched.store}", f"--model={model}"],
        "evaluate": [*searched.words, f"--model={model}"],
    }[command]
    attack.refused(command, *words, f"--workdir={out}", names="JAX_ENABLE_X64")


@pytest.fixture
def no_cache_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What JAX is told, where nobody has told it of a cache before."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    settings: dict[str, object] = {}
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "linux")
        patched.setattr(jax.config, "update", settings.__setitem__)
        yield settings
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize("umask", [0, 0o077, 0o277])
def test_compiled_programs_are_the_users_alone(
    no_cache_chosen: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = os.umask(umask)
    try:
        assert not compilation_cache.keep_compiled_programs()
    finally:
        os.umask(before)
    folder = tmp_path / "jaxrank" / "compiled"
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("what", ["other owner", "link", "file", "no home", "read-only"])
def test_a_cache_that_is_nobodys_or_anothers_is_not_used(
    no_cache_chosen: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/self" if what == "read-only" else str(tmp_path))
    folder = tmp_path / "jaxrank" / "compiled"
    folder.parent.mkdir()
    if what == "other owner":
        folder.mkdir()
        monkeypatch.setattr(os, "getuid", lambda: 123_456)
    elif what == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif what == "file":
        folder.write_text("x")
    elif what == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", no_home)
    compilation_cache.keep_compiled_programs()
    assert "jax_compilation_cache_dir" not in no_cache_chosen


@pytest.mark.parametrize(
    "command",
    ["search", "audit", "rank", "evaluate", "export", "features", "extract", "preferences"],
)
def test_a_folder_that_can_not_be_written_is_one_line(
    attack: Attack, searched: Inputs, command: str
) -> None:
    model = searched.workdir / "iqa_only" / "model"
    photos = searched.folder / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"x")
    winners = searched.folder / "winners.csv"
    winners.write_text("winner,loser\na,b\n")
    out, store = "--workdir=/proc/self/w", "--features=/proc/self/s"
    words = {
        "search": [*searched.words, out],
        "audit": [*searched.words, out],
        "rank": [f"--features={searched.store}", f"--model={model}", out],
        "evaluate": [*searched.words, f"--model={model}", out],
        "export": [f"--model={model}", "--out=/proc/self/scorer.py"],
        "features": [f"--from_store={searched.store}", store],
        "extract": [f"--photos={photos}", store, "--blocks=iqa"],
        "preferences": [f"--from_winners={winners}", "--out=/proc/self/s/p.csv"],
    }[command]
    attack.refused(command, *words, names="/proc/self")


# A command that is interrupted in the middle of a step; a step that goes on would end with 1.
INTERRUPTED = """
import os, sys, time
from jaxrank.audit import checks
from jaxrank.cli import main
from jaxrank.runner import final_report
def stop(*_):
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(60)
    os._exit(1)
if sys.argv[2] == "report":
    final_report.write_sections = stop
else:
    checks.CHECKS["reference"] = stop
sys.exit(main(["launch.py", *sys.argv[3:]]))
"""


@pytest.mark.parametrize(
    ("number", "step"),
    [
        case("ctrl-c-audit", signal.SIGINT, "audit"),
        case("term-audit", signal.SIGTERM, "audit", long=True),
        case("ctrl-c-report", signal.SIGINT, "report", long=True),
        case("term-report", signal.SIGTERM, "report", long=True),
    ],
)
def test_a_signal_ends_a_command_between_its_steps(inputs: Inputs, number: int, step: str) -> None:
    command = ["audit"] if step == "audit" else [
        "search", "--experiments=iqa_only", "--config.max_epochs=1", "--audit=off"
    ]  # fmt: skip
    words = [*command, *inputs.words, f"--workdir={inputs.workdir}"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(int(number)), step, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + number, done.stderr
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    if step == "report":
        assert list((inputs.workdir / "checkpoints").glob("*.npz"))  # what was trained is kept
