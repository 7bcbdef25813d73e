"""Command line: parses flags, runs one command, and prints errors in one line.

Heavy imports wait until a command's flags have been checked.
"""

import importlib
import re
import shlex
import sys

from absl import flags

from jaxrank._version import __version__
from jaxrank.commands import streams
from jaxrank.commands.terminal import define_output
from jaxrank.errors import AuditFailed, Stopped, UserError, did_you_mean, program

# To add a command, add a module to commands/ and its description in one line here.
COMMANDS = {
    "search": "train a catalogue of experiments and compare them with baselines",
    "train": "train one configuration",
    "audit": "check whether preferences and photos belong together",
    "evaluate": "evaluate a saved model on any pairs",
    "rank": "rank the photos of each series with a saved model, and pick the best",
    "export": "write a saved model's scorer as one file that needs NumPy alone",
    "cull": "pick the best photo of each burst of a folder; write XMP sidecars or copies",
    "extract": "make a feature store from photos: CLIP, a CNN, image-quality numbers",
    "features": "make or extend a feature store, from files of features or another store",
    "preferences": "make pairs from photos' stars and flags, or from another tool's comparisons",
    "profile": "measure the speed of this machine, for the plans of searches",
}
# Commands whose result can be printed as JSON.
_WITH_JSON = ("search", "train", "audit", "evaluate", "rank", "cull")
# Flag that may be given as a positional argument, and its name in the help, by command.
_NAMED_BY_PLACE = {"cull": ("photos", "FOLDER")}
# New names of commands and flags of version 0.1.
_RENAMED = {"calibrate": "profile"}
_RENAMED_FLAGS = {"--calibration": "--device_profile"}


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    Args:
      argv: words of the command line, the program's name first; by default `sys.argv`.

    Returns:
      0 for success, 1 if every experiment failed, 2 for a user error, 3 for a failed audit. When
      stopped: 130 for Ctrl-C, 141 if the output has no reader any more, 143 for SIGTERM.
    """
    argv = sys.argv if argv is None else argv
    streams.open_closed_streams()
    try:
        status = _dispatch(argv[1:])
        with streams.printing():
            return status
    except UserError as error:
        streams.warn("jaxrank: " + " ".join(str(error).split()))
        return 3 if isinstance(error, AuditFailed) else 2
    except Stopped as stopped:
        command = shlex.join(["search", "--resume", f"--workdir={stopped.folder}"])
        streams.warn(f"jaxrank: stopped, nothing is lost; resume with: {program()} {command}")
        return 128 + stopped.signal_number
    except KeyboardInterrupt:
        streams.warn("jaxrank: interrupted")
        return 130
    except BrokenPipeError:  # the reader of the output has gone, as in '| head'
        return 141
    finally:
        streams.discard_unwritten_output()


def _dispatch(words: list[str]) -> int:
    if not words or words[0].startswith("-") or words[0] == "help":
        return _about_program(words)
    for word in words:
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UserError(f"{word!r} is not UTF-8 text, and could not be written to the results")
    for word in words:  # absl's own flag, which would hide misspelt flags
        if word.lstrip("-").partition("=")[0] == "undefok" and word.startswith("-"):
            raise UserError("unknown flag '--undefok'")
    words = _with_new_names(words)
    command = words[0]
    if command not in COMMANDS:
        raise UserError(f"unknown command '{command}'.{did_you_mean(command, COMMANDS)}")
    module = importlib.import_module(f"jaxrank.commands.{command}")
    values = flags.FlagValues()
    define_output(values, json=command in _WITH_JSON)
    if {"--help", "-h", "-help"} & set(words[1:]):
        from jaxrank.commands import help

        module.define(values, [command])
        with streams.printing():
            _, argument = _NAMED_BY_PLACE.get(command, ("", ""))
            print(help.command_page(command, module, values, argument), end="")
        return 0
    try:
        config = module.define(values, words)
        leftover = values(words)[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname.split(".")[0]
        raise UserError(f"unknown flag '--{error.flagname}'.{did_you_mean(name, values)}") from None
    except (flags.Error, ValueError) as error:
        raise UserError(_reworded(str(error))) from None
    if len(leftover) == 1 and command in _NAMED_BY_PLACE:
        flag, _ = _NAMED_BY_PLACE[command]
        named = values[flag]
        if not named.present:
            named.parse(leftover.pop())
    if leftover:
        known = {}
        if "mode" in values:
            known = {f"--mode={mode}": mode for mode in config.values.modes}
        known |= {f"--{name}": name for name in values}
        near = [flag for flag, word in known.items() if word == leftover[0]]
        hint = f"did you mean {near[0]}?" if near else "flags are written --flag=value"
        raise UserError(f"unexpected word '{leftover[0]}': {hint}")
    return module.run(values, config)


def _about_program(words: list[str]) -> int:
    """Prints help, version or completion script, and returns the exit status."""
    first, _, shell = words[0].partition("=") if words else ("--help", "", "")
    if first == "--completion":
        text = _completion_script(shell)
    elif first in ("--version", "-version"):
        text = f"jaxrank {__version__}\n"
    elif first in ("--help", "-help", "-h", "help"):
        from jaxrank.commands import help

        text = help.usage(COMMANDS)
    else:
        raise UserError(f"flags come after a command: {program()} COMMAND {words[0]}")
    with streams.printing():
        print(text, end="")
    return 0 if words else 2


def _completion_script(shell: str) -> str:
    from jaxrank.commands.completion import completion_script

    defined = {command: command_flags(command) for command in COMMANDS}
    return completion_script(shell, COMMANDS, defined)


def command_flags(command: str) -> flags.FlagValues:
    """Returns the flags of a command, with their defaults."""
    values = flags.FlagValues()
    define_output(values, json=command in _WITH_JSON)
    importlib.import_module(f"jaxrank.commands.{command}").define(values, [command])
    return values


def _with_new_names(words: list[str]) -> list[str]:
    """Replaces old names of commands and flags by new ones, with a warning."""
    renamed = []
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if place:
            new = _RENAMED_FLAGS.get(name.replace("-", "--", 1) if name[:2] != "--" else name, name)
        else:
            new = _RENAMED.get(name, name)
        if new != name:
            streams.warn(
                f"jaxrank: '{name}' is now '{new}'; the old name will be removed in the next "
                "release"
            )
        renamed.append(f"{new}{equals}{value}")
    return renamed


def _reworded(message: str) -> str:
    message = re.sub(r"\('Non-boolean argument to boolean flag'.*", "give true or false", message)
    message = re.sub(r"invalid literal for int\(\).*", "not a whole number", message)
    message = re.sub(r"could not convert string to float.*", "not a number", message)
    one_of = re.search(r"Exactly one of \((.*), (.*)\) must have a value", message)
    return f"give one of --{one_of[1]} and --{one_of[2]}" if one_of else message
