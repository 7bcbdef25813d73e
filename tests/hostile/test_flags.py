"""Each flag of each command with values that it can't have."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from attack import Attack, Inputs, case

from jaxrank.cli import COMMANDS

VALUES = {
    "empty": "",
    "nonsense": "nonsense",
    "minus": "-1",
    "huge": "1e400",
    "digits": "9" * 30,
    "nan": "nan",
    "letters": "\u5199\U0001f4f7\u202e",
    "escape": "a\x1b[31mb",
}
# The rest goes the same ways through the code.
SHORT = ("nonsense", "escape")
# `train` has the flags of `search` and those of its own; `profile` only names a file.
_OWN = {"train"}
# Folders and files that a command makes by any name.
WRITTEN = ("workdir",)


def flags_of(command: str) -> list[str]:
    values = flags.FlagValues()
    importlib.import_module(f"jaxrank.commands.{command}").define(values, [command])
    return sorted(name for name in values if name not in ("config", "features", "model"))


def cases() -> list[Any]:
    searched = set(flags_of("search"))
    found = []
    for command in COMMANDS:
        for flag in flags_of(command):
            if command == "profile" or flag in WRITTEN or (command in _OWN and flag in searched):
                continue
            for value in VALUES:
                name = f"{command}-{flag}-{value}"
                found.append(case(name, command, flag, value, long=value not in SHORT))
    return found


def words_of(command: str, inputs: Inputs) -> list[str]:
    """A command that is right, and has little to do or nothing."""
    empty = inputs.folder / "empty"
    empty.mkdir()
    return {
        "search": [*inputs.words, "--dry_run"],
        "train": [*inputs.words, "--dry_run"],
        "audit": [*inputs.words, f"--workdir={inputs.workdir}"],
        "evaluate": [*inputs.words, f"--model={empty}", f"--workdir={inputs.workdir}"],
        "export": [f"--model={empty}"],
        "rank": [f"--features={inputs.store}", f"--model={empty}", f"--workdir={inputs.workdir}"],
        "extract": [f"--photos={empty}", f"--features={inputs.folder / 'new'}"],
        "features": [f"--from_csv={inputs.pairs}", "--block=x", f"--features={inputs.store}"],
        "cull": [f"--photos={empty}", f"--workdir={inputs.workdir}"],
        "preferences": [f"--from_ratings={empty}", "--series=folder", "--out=p.csv"],
    }[command]


@pytest.mark.parametrize(("command", "flag", "value"), cases())
def test_a_flag_of_any_value_is_a_result_or_one_line(
    attack: Attack, inputs: Inputs, command: str, flag: str, value: str
) -> None:
    words = [word for word in words_of(command, inputs) if not word.startswith(f"--{flag}=")]
    attack.answers(command, *words, f"--{flag}={VALUES[value]}", writes=inputs.workdir)


@pytest.mark.parametrize("value", ["", "a/\x1b[31m", "/", "/dev/null", "x" * 300])
def test_a_profile_has_a_file_that_can_be_made(attack: Attack, value: str) -> None:
    attack.refused("profile", f"--device_profile={value}", names="--device_profile")


@pytest.mark.parametrize(
    "words",
    [
        case("two dashes", ["search", "--", "word"]),
        case("one dash", ["search", "-"]),
        case("equals", ["search", "--="]),
        case("no name", ["search", "--=x"]),
        case("flagfile", ["search", "--flagfile=/etc/passwd"]),
        case("undefok", ["search", "--undefok=x", "--x=1"]),
        case("unknown with an escape", ["search", "--\x1b[31m=1"]),
        case("unknown command", ["\x1b[31m"]),
        case("empty command", [""]),
        case("command like a module", ["terminal"]),
        case("command like a path", ["../cli"]),
        case("private", ["__init__"]),
        case("surrogate", ["search", "--pairs=\udcff"]),
        case("config key twice over", ["search", "--config.a.b.c.d=1"]),
        case("config without a key", ["search", "--config.=1"]),
        case("config dunder", ["search", "--config.__class__=1"]),
        case("config list index", ["search", "--config.blocks[0]=1"]),
        case("only a word", ["search", "x" * 10_000]),
    ],
)
def test_words_that_are_no_command_are_refused(attack: Attack, words: list[str]) -> None:
    attack.refused(*words)


CONFIG_VALUES = {"empty": "", "nonsense": "nonsense", "huge": "1e400", "digits": "9" * 30}


def config_cases() -> list[Any]:
    from jaxrank.configs import CATALOGUE_KEYS, default

    keys = [key for key in default.get_config() if key not in CATALOGUE_KEYS]
    return [
        case(f"{key}-{value}", key, value, long=value not in ("nonsense", "digits"))
        for key in keys
        for value in CONFIG_VALUES
    ]


@pytest.mark.parametrize(("key", "value"), config_cases())
def test_a_hyperparameter_of_any_text_is_a_plan_or_one_line(
    attack: Attack, inputs: Inputs, key: str, value: str
) -> None:
    words = [*inputs.words, "--dry_run", "--experiments=iqa_only"]
    answer = attack.answers("search", *words, f"--config.{key}={CONFIG_VALUES[value]}")
    assert "nan" not in answer.out.split()
    assert not list(Path.cwd().iterdir())
