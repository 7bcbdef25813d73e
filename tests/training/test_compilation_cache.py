"""The folder of compiled programs, and the settings of JAX that are refused."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from small_data import ROOT

from jaxrank.training import compilation_cache, jax_settings


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    update, before = jax.config.update, jax.config.values["jax_compilation_cache_dir"]
    update("jax_compilation_cache_dir", None)
    yield tmp_path / "jaxrank" / "compiled"
    update("jax_compilation_cache_dir", before)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Settings that JAX gets, by name."""
    settings: dict[str, object] = {}
    monkeypatch.setattr(compilation_cache.jax.config, "update", settings.__setitem__)
    return settings


@pytest.mark.parametrize("is_there", [False, True])
def test_only_the_user_can_enter_the_folder(
    cache: Path, chosen: dict[str, object], is_there: bool
) -> None:
    if is_there:  # of an earlier version, which made it as the umask says
        cache.mkdir(parents=True)
        cache.chmod(0o777)
    before = os.umask(0)
    try:
        assert compilation_cache.keep_compiled_programs() == ""
    finally:
        os.umask(before)
    assert chosen["jax_compilation_cache_dir"] == str(cache)
    assert [path.stat().st_mode & 0o777 for path in (cache.parent, cache)] == [0o700] * 2


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_somebody_else_may_have_put_there_is_not_used(
    cache: Path, chosen: dict[str, object], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    program = cache / "program"
    stranger = cache if what == "folder" else program
    if what == "link":
        program.symlink_to(cache.parent)
    else:
        program.write_text("")
        lstat = Path.lstat

        def of_another_user(path: Path) -> os.stat_result:
            status = list(lstat(path))
            if path == stranger:
                status[4] += 1
            return os.stat_result(status)

        monkeypatch.setattr(Path, "lstat", of_another_user)
    said = compilation_cache.keep_compiled_programs()
    assert f"are not used: {stranger} is a link or belongs to another user" in said
    assert not chosen


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [("JAX_PLATFORMS=nope", "JAX can't start .*'nope'"), ("JAX_ENABLE_X64=1", "32 bits")],
)
def test_settings_with_which_jax_can_not_compute_are_one_line(
    tmp_path: Path, setting: str, pattern: str
) -> None:
    """In every command that uses JAX."""
    commands = [["search"], ["rank", "--model=m"], ["evaluate", "--model=m"],
                ["profile", f"--device_profile={tmp_path / 'rates.json'}"]]  # fmt: skip
    code = (
        "import json, sys\n"
        "from jaxrank.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    print(main(['launch.py', *words]), flush=True)\n"
    )
    name, _, value = setting.partition("=")
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {name: value, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == ["2"] * len(commands), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("jaxrank: ")]
    assert len(lines) == len(commands)
    assert all(re.search(pattern, line) for line in lines), lines
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("installed", [True, False])
def test_kernels_of_gpus_are_deterministic_unless_xla_flags_say_otherwise(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = object() if installed else None
    monkeypatch.setattr(jax_settings.importlib.util, "find_spec", lambda name: found)
    wanted = "--xla_gpu_deterministic_ops=true"
    refused = "--xla_gpu_deterministic_ops=false"
    for given, expected in (
        ("", wanted),
        ("--xla_dump_to=d", f"--xla_dump_to=d {wanted}"),
        (refused, refused),
    ):
        monkeypatch.setenv("XLA_FLAGS", given)
        jax_settings.choose_deterministic_kernels()
        assert os.environ["XLA_FLAGS"] == (expected if installed else given)


@pytest.mark.long
def test_xla_knows_the_flag_of_deterministic_kernels(tmp_path: Path) -> None:
    """XLA ends the process for an unknown flag, on any platform."""
    code = "import jax; print(jax.numpy.ones(2).sum())"
    for flag, works in (("xla_gpu_deterministic_ops", True), ("xla_gpu_deterministic_opz", False)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=False,
            env=os.environ | {"XLA_FLAGS": f"--{flag}=true"},
        )
        assert (done.returncode == 0) == works


@pytest.mark.parametrize(("most", "dropped"), [("10", 1), ("100000000", 0), ("not a number", 0)])
def test_programs_are_dropped_before_the_process_has_too_many_memory_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str, dropped: int
) -> None:
    limit = tmp_path / "max_map_count"
    limit.write_text(most)
    maps = tmp_path / "maps"
    maps.write_text("a map\n" * 6)
    calls: list[int] = []
    monkeypatch.setattr(compilation_cache, "_MOST_MAPS", limit)
    monkeypatch.setattr(compilation_cache, "_MAPS", maps)
    monkeypatch.setattr(jax, "clear_caches", lambda: calls.append(1))
    compilation_cache.drop_programs_if_many()
    assert len(calls) == dropped
