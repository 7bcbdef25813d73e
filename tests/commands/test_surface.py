"""What every command line has: help, version, JSON, quiet, completion, and names of the program."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrank.cli import COMMANDS, command_flags, main
from jaxrank.commands import help as help_pages
from jaxrank.errors import program


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_a_purpose(command: str) -> None:
    assert "Other" not in help_pages.grouped(command_flags(command))


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_of_the_help_are_values_that_the_flag_takes(command: str) -> None:
    texts = [help_pages.flag_text(flag) for flag in command_flags(command)._flags().values()]
    assert not [text for text in texts if "(default: )" in text or "['" in text]


def test_train_does_not_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jaxrank", "train", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "'search --resume --workdir=FOLDER' resumes a training" in words


@pytest.mark.parametrize(
    ("command", "usage"),
    [("cull", "jaxrank cull FOLDER --flag=value ..."), ("rank", "jaxrank rank --flag=value ...")],
)
def test_the_usage_has_the_positional_argument(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jaxrank", command, "--help"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == usage


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [60, 80])
def test_help_fits_the_terminal(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["jaxrank", command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example:" in out
    for line in out.splitlines():
        indent = len(line) - len(line.lstrip())
        # A word that is longer than the line is not broken.
        assert len(line) <= width or len(line.split()) == 1 or indent == 2, line


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    import jaxrank

    assert main(["jaxrank", "--version"]) == 0
    assert capsys.readouterr().out == f"jaxrank {jaxrank.__version__}\n"


def test_a_flag_before_the_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jaxrank", "--quiet", "search"]) == 2
    assert "flags come after a command: jaxrank COMMAND --quiet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("/some/where/launch.py", "launch.py"),
        ("/usr/bin/jaxrank", "jaxrank"),
        ("/site-packages/jaxrank/__main__.py", "python -m jaxrank"),
        ("/site-packages/pytest/__main__.py", "jaxrank"),
        ("", "jaxrank"),
    ],
)
def test_hints_name_the_program_as_it_was_started(
    started: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert program() == name


def test_the_module_can_be_run() -> None:
    words = [sys.executable, "-m", "jaxrank", "features"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("jaxrank: give one of --from_csv")


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word; it splits words at '='."""
    line = " ".join(words)
    split = [part for word in words for part in word.replace("=", " = ").split(" ")]
    split = [part for part in split if part] + ([""] if line.endswith(("=", " ")) else [])
    quoted = " ".join(f"'{word}'" for word in split)
    code = (
        f"source '{script}'; COMP_LINE='{line}'; COMP_POINT={len(line)}; COMP_WORDS=({quoted}); "
        f'COMP_CWORD={len(split) - 1}; compopt() {{ :; }}; _jaxrank; echo "${{COMPREPLY[*]}}"'
    )
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run([bash, "-c", code], capture_output=True, text=True).stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="this machine has no bash")
def test_bash_completes_commands_flags_and_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jaxrank", "--completion=bash"]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    assert complete(script, "jaxrank", "se") == ["search"]
    assert complete(script, "jaxrank", "search", "--only") == ["--only_folds="]
    assert complete(script, "jaxrank", "search", "--resu") == ["--resume"]
    assert complete(script, "jaxrank", "search", "--audit=re") == ["refuse"]
    (tmp_path / "pairs.csv").touch()
    found = complete(script, "jaxrank", "search", f"--pairs={tmp_path}/pai")
    assert found == [f"{tmp_path}/pairs.csv"]


def test_zsh_gets_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jaxrank", "--completion=zsh"]) == 0
    script = capsys.readouterr().out
    for command in COMMANDS:
        for name in command_flags(command):
            assert f"--{name}" in script
    if zsh := shutil.which("zsh"):
        assert subprocess.run([zsh, "-n"], input=script, text=True).returncode == 0


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jaxrank", "--completion=fish"]) == 2
    assert "bash, zsh" in capsys.readouterr().err


def test_json_is_one_document_and_the_log_is_elsewhere(
    small_files: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs, store = small_files
    data = [f"--pairs={pairs}", f"--features={store}", "--json"]
    search = ["jaxrank", "search", *data, "--experiments=iqa_only", "--config.max_epochs=1"]
    assert main([*search, f"--workdir={tmp_path / 's'}"]) == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["workdir"] == str(tmp_path / "s")
    assert {row["experiment_name"] for row in document["summary"]} >= {"iqa_only", "chance"}
    assert document["notes"] == json.loads((tmp_path / "s" / "results.json").read_text())["notes"]
    assert "cohort 1 of" in err
    model = f"--model={tmp_path / 's' / 'iqa_only' / 'model'}"
    for command, key in (("evaluate", "metrics"), ("audit", "verdict"), ("rank", "ranking")):
        words = data if command != "rank" else data[1:]
        words = [*words, *([] if command == "audit" else [model])]
        main(["jaxrank", command, *words, f"--workdir={tmp_path / command}"])
        assert json.loads(capfd.readouterr().out)[key]


def test_quiet_prints_nothing_and_writes_everything(
    small_files: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs, store = small_files
    words = [f"--pairs={pairs}", f"--features={store}", "--quiet", f"--workdir={tmp_path / 'a'}"]
    main(["jaxrank", "audit", *words])
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "a" / "audit.txt").exists()
    assert main(["jaxrank", "audit", *words]) == 2
    assert capfd.readouterr().err.startswith("jaxrank: ")


def test_colours_and_jumps_in_names_stay_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "f.csv"
    table.write_text("image,\x1b[31mred\x1b]0;title\x07\na,1\nb,2\n")
    words = ["--block=iqa", f"--from_csv={table}", f"--features={tmp_path / 's'}"]
    assert main(["jaxrank", "features", *words]) == 0
    out = capfd.readouterr().out
    assert r"\x1b[31mred" in out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert os.listdir(tmp_path / "s")
