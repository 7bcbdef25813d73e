"""The recipes of examples/cluster: sound shell, and commands that jaxrank has."""

import re
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_data import ROOT

from jaxrank.cli import command_flags

CLUSTER = ROOT / "examples" / "cluster"
RECIPES = ["kuberay.yaml", "skypilot.yaml", "slurm.sh"]


def shell(name: str) -> str:
    """The commands of a recipe."""
    text = (CLUSTER / name).read_text(encoding="utf-8")
    if name.endswith(".sh"):
        return text
    recipe: dict[str, Any] = yaml.safe_load(text)
    return recipe["run"] if "run" in recipe else recipe["spec"]["entrypoint"]


def test_every_recipe_is_checked() -> None:
    assert sorted(path.name for path in CLUSTER.iterdir()) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_sound_shell(name: str) -> None:
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "shellcheck", "--shell=bash", "-"],
        input=shell(name),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", RECIPES)
def test_searches_of_recipes_have_known_flags(name: str) -> None:
    text = shell(name).replace("\\\n", " ")
    (line,) = re.findall(r"^\s*jaxrank (search .*)", text, re.MULTILINE)
    command, *words = shlex.split(re.split(r" &$| \|\| ", line.strip())[0])
    known = set(command_flags(command))
    flags = [word.removeprefix("--").partition("=")[0] for word in words if word[:2] == "--"]
    assert {"resume", "workers", "engine", "ray_address", "gpus_per_worker"} <= set(flags)
    assert set(flags) <= known
