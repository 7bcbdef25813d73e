"""The command line: flags in, one function called, errors in one line.

Nothing heavy is imported before a command's flags are known to be right.
"""

import importlib
import inspect
import re
import shlex
import sys

from absl import flags

from jaxrank.commands.terminal import silence_stdout
from jaxrank.errors import AuditFailed, Stopped, UserError, did_you_mean

# A new command is a module in commands/ and a row here: what it does, in one line.
COMMANDS = {
    "search": "train a catalogue of experiments side by side and compare them",
    "train": "train one configuration",
    "audit": "tell whether preferences and photos belong together",
    "evaluate": "measure a saved model on any pairs",
    "rank": "order the photos of each series by a saved model, and pick the best",
    "extract": "make a feature store of photos: CLIP, a CNN, image-quality numbers",
    "features": "make or extend a feature store, from a CSV, .npy or safetensors file, or another "
    "store",
    "profile": "measure this machine, so that plans predict its times",
}
# Commands and flags of version 0.1.
_RENAMED = {"calibrate": "profile"}
_RENAMED_FLAGS = {"--calibration": "--device_profile"}


def _usage() -> str:
    rows = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "jaxrank learns which photo of a series people prefer, and says how sure that is.",
            "",
            "    launch.py COMMAND --flag=value     (or: jaxrank COMMAND --flag=value)",
            "",
            "Commands:",
            *rows,
            "",
            "'launch.py COMMAND --help' lists a command's flags.",
            "",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0; 1 if every experiment failed; 2 for a
    user's mistake; 3 for a failed audit; 130 for Ctrl-C, 143 for SIGTERM."""
    argv = sys.argv if argv is None else argv
    try:
        return _dispatch(argv[1:])
    except UserError as error:
        line = " ".join(str(error).split())
        print("jaxrank:", "".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)
        return 3 if isinstance(error, AuditFailed) else 2
    except Stopped as stopped:
        command = shlex.join(["launch.py", "search", "--resume", f"--workdir={stopped.folder}"])
        print(f"jaxrank: stopped, nothing is lost; resume with: {command}", file=sys.stderr)
        return 128 + stopped.signal_number
    except KeyboardInterrupt:
        print("jaxrank: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in '| head'
        silence_stdout()
        return 141


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(_usage(), end="")
        return 0 if words else 2
    for word in words:
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UserError(f"{word!r} is not UTF-8 text, and could not be written to the results")
    words = _with_new_names(words)
    command = words[0]
    if command not in COMMANDS:
        raise UserError(f"unknown command '{command}'.{did_you_mean(command, COMMANDS)}")
    module = importlib.import_module(f"jaxrank.commands.{command}")
    define, run = module.define, module.run
    values = flags.FlagValues()
    if {"--help", "-h", "-help"} & set(words[1:]):
        define(values, [command])
        print(
            f"launch.py {command} --flag=value ...\n\n{inspect.getdoc(run)}\n\n{_flag_list(values)}"
        )
        return 0
    try:
        config = define(values, words)
        leftover = values(words)[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname.split(".")[0]
        raise UserError(f"unknown flag '--{error.flagname}'.{did_you_mean(name, values)}") from None
    except (flags.Error, ValueError) as error:
        raise UserError(_in_plain_words(str(error))) from None
    if leftover:
        known = {}
        if "mode" in values:
            known = {f"--mode={mode}": mode for mode in config.values.modes}
        known |= {f"--{name}": name for name in values}
        near = [flag for flag, word in known.items() if word == leftover[0]]
        hint = f"did you mean {near[0]}?" if near else "flags are written --flag=value"
        raise UserError(f"unexpected word '{leftover[0]}': {hint}")
    return run(values, config)


def _with_new_names(words: list[str]) -> list[str]:
    """What was typed, with the names of this version; a name of the last one is reported."""
    renamed = []
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if place:
            new = _RENAMED_FLAGS.get(name.replace("-", "--", 1) if name[:2] != "--" else name, name)
        else:
            new = _RENAMED.get(name, name)
        if new != name:
            print(
                f"jaxrank: '{name}' is now '{new}'; the old name goes with the next release",
                file=sys.stderr,
            )
        renamed.append(f"{new}{equals}{value}")
    return renamed


def _in_plain_words(message: str) -> str:
    message = re.sub(r"\('Non-boolean argument to boolean flag'.*", "give true or false", message)
    message = re.sub(r"invalid literal for int\(\).*", "not a whole number", message)
    message = re.sub(r"could not convert string to float.*", "not a number", message)
    one_of = re.search(r"Exactly one of \((.*), (.*)\) must have a value", message)
    return f"give one of --{one_of[1]} and --{one_of[2]}" if one_of else message


def _flag_list(values: flags.FlagValues) -> str:
    lines = []
    for name in sorted(values):
        flag = values[name]
        shown = flag.default not in (None, False)
        note = f" (default: {flag.default})" if shown else ""
        lines.append(f"  --{name}: {flag.help}{note}")
    return "\n".join(lines)
