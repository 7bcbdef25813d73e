"""The reference of all commands, in Markdown, from the flags that they define."""

import importlib
import inspect
import re

from absl import flags

from jaxrank.cli import COMMANDS, command_flags
from jaxrank.commands.help import flag_text, grouped


def command_pages() -> str:
    """A section for each command: what it does, an example, its flags by purpose."""
    return "\n\n".join(_section(command) for command in COMMANDS)


def _section(command: str) -> str:
    module = importlib.import_module(f"jaxrank.commands.{command}")
    values = command_flags(command)
    about = " ".join((inspect.getdoc(module.run) or "").split())
    parts = [f"## {command}", _escaped(about)]
    parts.append(f"```shell\njaxrank {command} {module.EXAMPLE}\n```")
    for title, names in grouped(values).items():
        parts.append(f"**{title}**")
        parts += [_definition(values[name]) for name in names]
    return "\n\n".join(parts)


def _definition(flag: flags.Flag) -> str:
    value = "" if flag.boolean else "=" + "|".join(getattr(flag.parser, "enum_values", ["VALUE"]))
    return f"`--{flag.name}{value}`\n: {_escaped(flag_text(flag))}"


def _escaped(text: str) -> str:
    """Text in which no character is markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", text)
