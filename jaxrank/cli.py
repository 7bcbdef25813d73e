"""The command line: flags in, one function called, errors in one line.

Nothing heavy is imported before a command's flags are known to be right.
"""

import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxrank.config_files import check_key, load_config, with_every_key
from jaxrank.configs import CATALOGUE_KEYS
from jaxrank.errors import Stopped, UserError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

USAGE = """\
jaxrank learns which photo of a series people prefer, and says how sure that is.

    launch.py COMMAND --flag=value     (or: jaxrank COMMAND --flag=value)

Commands:
  search     train a catalogue of experiments side by side and compare them
  features   make or extend a feature store from a CSV file

'launch.py COMMAND --help' lists a command's flags.
"""


class Config(NamedTuple):
    """A launch's config before any flag has changed it, and the file that was typed, if any."""

    values: ConfigDict
    file: str | None


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0; 1 if every experiment failed; 2 for a
    user's mistake; 130 for Ctrl-C, 143 for SIGTERM."""
    argv = sys.argv if argv is None else argv
    try:
        return _dispatch(argv[1:])
    except UserError as error:
        line = " ".join(str(error).split())
        print("jaxrank:", "".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)
        return 2
    except Stopped as stopped:
        command = shlex.join(["launch.py", "search", "--resume", f"--workdir={stopped.folder}"])
        print(f"jaxrank: stopped, nothing is lost; go on with: {command}", file=sys.stderr)
        return 128 + stopped.signal_number
    except KeyboardInterrupt:
        print("jaxrank: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in '| head'
        _silence_stdout()
        return 141


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(USAGE, end="")
        return 0 if words else 2
    for word in words:
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UserError(f"{word!r} is not UTF-8 text, and could not be written to the results")
    command = words[0]
    if command not in _COMMANDS:
        raise UserError(f"unknown command '{command}'.{did_you_mean(command, _COMMANDS)}")
    define, run = _COMMANDS[command]
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
        known = {f"--mode={mode}": mode for mode in config.values.modes} if config else {}
        known |= {f"--{name}": name for name in values}
        near = [flag for flag, word in known.items() if word == leftover[0]]
        hint = f"did you mean {near[0]}?" if near else "flags are written --flag=value"
        raise UserError(f"unexpected word '{leftover[0]}': {hint}")
    return run(values, config)


def _in_plain_words(message: str) -> str:
    message = re.sub(r"\('Non-boolean argument to boolean flag'.*", "give true or false", message)
    message = re.sub(r"invalid literal for int\(\).*", "not a whole number", message)
    return re.sub(r"could not convert string to float.*", "not a number", message)


def _flag_list(values: flags.FlagValues) -> str:
    lines = []
    for name in sorted(values):
        flag = values[name]
        shown = flag.default not in (None, False) and name != "config"
        note = f" (default: {flag.default})" if shown else ""
        lines.append(f"  --{name}: {flag.help}{note}")
    return "\n".join(lines)


def _define_search(values: flags.FlagValues, words: list[str]) -> Config:
    text = {
        "mode": ("quick", "a list of experiments: quick, full, regularization, features, "
                 "learning_rate"),
        "experiments": (None, "names from the catalogue, comma separated, instead of a mode"),
        "pairs": (None, "CSV of pairs or of votes; without it the embedded simulated data"),
        "features": (None, "folder of a feature store, see the command 'features'"),
        "workdir": (None, "new folder for the results (default: one named by the time, in "
                    "outputs/hyperparameter_search); with --resume, the search to go on with"),
        "photo_name": (None, "votes: how a photo's name is built (default: "
                       "{series:06d}-{number:02d}.JPG)"),
    }  # fmt: skip
    for name, (start, meaning) in text.items():
        flags.DEFINE_string(name, start, meaning, flag_values=values)
    whole = {
        "folds": (0, 0, "cross-validation by series: so many folds, each tested once, the next one "
                  "validating; 0, the default, is one 80/10/10 split"),
        "num_seeds": (1, 1, "trials of each experiment and fold"),
        "seed": (0, 0, "first seed of training (default: 0)"),
        "split_seed": (42, 0, "seed of the split"),
        "min_reviewers": (None, 1, "votes: leave out pairs with fewer votes (default: 2)"),
    }  # fmt: skip
    for name, (first, least, meaning) in whole.items():
        flags.DEFINE_integer(name, first, meaning, lower_bound=least, flag_values=values)
    flags.DEFINE_list(
        "only_folds",
        None,
        "train these folds only, comma separated, counted from 0 (default: all of --folds)",
        flag_values=values,
    )
    shares = {
        "min_agreement": (None, "votes: leave out pairs with a smaller majority (default: 0.7)"),
        "save_budget": (0.05, "share of the time that checkpoints may take"),
    }
    for name, (share, meaning) in shares.items():
        flags.DEFINE_float(name, share, meaning, flag_values=values)
    switches = {
        "dry_run": "print the plan and end",
        "resume": "go on with the search in --workdir (default: the newest), with its options; "
                  "where there is none, begin one",
        "extend": "resume a finished search and add what it lacks of --experiments or --mode, "
                  "--num_seeds and --only_folds",
        "retry_failed": "resume, and train failed trials again",
    }  # fmt: skip
    for name, meaning in switches.items():
        flags.DEFINE_boolean(name, False, meaning, flag_values=values)
    return _define_config(values, words)


def _define_config(values: flags.FlagValues, words: list[str]) -> Config:
    """Runs the config's file, defines --config.key=value for its keys and returns it as it was."""
    file = _take_config_file(words)
    config = load_config(file)
    # A copy: the flags change it, and the linear reference reads what the file says.
    flagged = with_every_key(config)
    for word in words:
        match = re.match(r"--?(?:no)?config\.([^=]*)", word)
        if match:
            check_key(flagged, match[1])
    meaning = (
        "Python file with a get_config() (default: configs/default.py). --config.KEY=VALUE holds "
        "for every experiment, --config.experiments.NAME.KEY=VALUE for one. KEY: "
        + ", ".join(key for key in config if key not in CATALOGUE_KEYS)
    )
    config_flags.DEFINE_config_dict("config", flagged, meaning, flag_values=values, sys_argv=words)
    return Config(config, file)


def _take_config_file(words: list[str]) -> str | None:
    """Removes --config=FILE or --config FILE from the words and returns the file."""
    for place, word in enumerate(words):
        name, equals, path = word.partition("=")
        if name in ("--config", "-config"):
            if not equals and place + 1 < len(words):
                path = words.pop(place + 1)
            del words[place]
            return path
    return None


def _search(values: flags.FlagValues, config: Config) -> int:
    """Trains a catalogue of experiments side by side, each on the same pairs, and compares them
    with one-line rules."""
    given = _options_given(values, config)

    from jaxrank import stopping

    with stopping.signals_end_at_once():
        return _search_with(given, values)


def _search_with(given: dict[str, Any], values: flags.FlagValues) -> int:
    from absl import logging

    from jaxrank import conductor, launches, report

    # Orbax logs a traceback of what it then raises, and that we tell in one line.
    logging.set_verbosity(logging.FATAL)
    console = _console()
    resume = values.resume or values.extend or values.retry_failed
    changes = {"extend": values.extend, "retry_failed": values.retry_failed}
    if values.dry_run:
        folder = launches.find_workdir(values.workdir, resume=resume)
        ready = launches.plan_launch(folder, given, **changes)
        for line in ready.describe():
            print(line)
        report.print_plan(console, ready.waiting_cohorts, ready.prepared.experiments)
        return 0
    result = conductor.search(
        **given,
        workdir=values.workdir,
        resume=resume,
        **changes,
        save_budget=values.save_budget,
        catch_signals=True,
        console=console,
    )
    try:
        report.print_summary(console, result.summary, simulated=result.simulated)
        for line in result.remarks:
            print(line)
        print(f"\nResults: {result.workdir}")
        if result.nothing_to_do:
            print("The search had been finished before: nothing to do.")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence_stdout()
        raise UserError(
            f"the results are in {result.workdir}, but can't be printed ({error.strerror})"
        ) from None
    if result.nothing_to_do:
        return 0
    # A script must notice when nothing that it asked for came out.
    return 1 if report.nothing_came_out(result.summary) else 0


def _options_given(values: flags.FlagValues, config: Config) -> dict[str, Any]:
    """The options of `prepare.prepare` that were typed: a resumed search has the others."""
    if values["mode"].present and values.experiments is not None:
        raise UserError("--mode and --experiments are both given: give one of them")
    names = (
        "mode,pairs,features,folds,num_seeds,seed,split_seed,photo_name,min_agreement,min_reviewers"
    ).split(",")
    given = {name: values[name].value for name in names if values[name].present}
    if values.experiments is not None:
        given["experiments"] = [w.strip() for w in values.experiments.split(",") if w.strip()]
        if not given["experiments"]:
            raise UserError("--experiments is empty: give names from the catalogue")
    if values.only_folds is not None:
        if not all(re.fullmatch("[0-9]{1,9}", word.strip()) for word in values.only_folds):
            raise UserError(f"--only_folds={','.join(values.only_folds)}: not whole numbers")
        given["only_folds"] = [int(word) for word in values.only_folds]
    if config.file is not None:
        given["config"] = config.values
    overrides = config_flags.get_override_values(values["config"])
    if overrides:
        given["overrides"] = overrides
    return given


def _console() -> "Console":
    """Wide enough for the tables where the output is no terminal, such as a file."""
    from rich.console import Console

    class PatientConsole(Console):
        """Falls silent when its reader has gone, as in '| head': the search goes on."""

        def on_broken_pipe(self) -> None:
            _silence_stdout()

    console = PatientConsole()
    return console if console.is_terminal else PatientConsole(width=130)


def _silence_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _define_features(values: flags.FlagValues, words: list[str]) -> None:
    del words  # no config here
    for name, meaning in {
        "from_csv": "first column the photo's name, the others the block's columns",
        "block": "name of the block, such as clip, cnn or iqa",
        "features": "folder of the store; made when there is none",
    }.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)


def _features(values: flags.FlagValues, config: None) -> int:
    """Adds a block to a feature store, or replaces it, from a CSV file."""
    del config
    for name in ("from_csv", "block", "features"):
        if not values[name].value:
            raise UserError(f"--{name} is missing: features needs --from_csv, --block, --features")

    from jaxrank import features

    block = features.read_block_csv(values.from_csv)
    replaced = features.write_block(values.features, values.block, block)
    what = "replaced" if replaced else "new"
    print(
        f"{values.features}: {what} block '{values.block}' of {len(block.photos):,} photos and "
        f"{len(block.columns):,} columns ({', '.join(block.columns[:4])}"
        f"{', ...' if len(block.columns) > 4 else ''})"
    )
    return 0


# Each command: defines its flags, given the words, and returns its config; runs with both.
_COMMANDS: dict[str, tuple[Callable, Callable]] = {
    "search": (_define_search, _search),
    "features": (_define_features, _features),
}
