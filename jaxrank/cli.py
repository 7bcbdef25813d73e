"""The command line: flags in, one function called, errors in one line.

Nothing heavy is imported before a command's flags are known to be right.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxrank.config_files import check_key, load_config, with_every_key
from jaxrank.configs import CATALOGUE_KEYS
from jaxrank.errors import UserError, did_you_mean

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


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0; 1 if every experiment failed; 2 for a
    user's mistake; 130 for Ctrl-C."""
    argv = sys.argv if argv is None else argv
    try:
        return _dispatch(argv[1:])
    except UserError as error:
        line = " ".join(str(error).split())
        print("jaxrank:", "".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxrank: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in '| head'
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(USAGE, end="")
        return 0 if words else 2
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
        known = {f"--mode={mode}": mode for mode in config.modes} if config else {}
        known |= {f"--{name}": name for name in values}
        near = [flag for flag, word in known.items() if word == leftover[0]]
        hint = f"did you mean {near[0]}?" if near else "flags are written --flag=value"
        raise UserError(f"unexpected word '{leftover[0]}': {hint}")
    return run(values, config)


def _in_plain_words(message: str) -> str:
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


def _define_search(values: flags.FlagValues, words: list[str]) -> ConfigDict:
    text = {
        "mode": ("quick", "a list of experiments: quick, full, regularization, features, "
                 "learning_rate"),
        "experiments": (None, "names from the catalogue, comma separated, instead of a mode"),
        "pairs": (None, "CSV of pairs or of votes; without it the embedded simulated data"),
        "features": (None, "folder of a feature store, see the command 'features'"),
        "workdir": (None, "new folder for the results (default: one named by the time, in "
                    "outputs/hyperparameter_search)"),
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
    flags.DEFINE_float(
        "min_agreement",
        None,
        "votes: leave out pairs with a smaller majority (default: 0.7)",
        flag_values=values,
    )
    flags.DEFINE_boolean("dry_run", False, "print the plan and end", flag_values=values)
    return _define_config(values, words)


def _define_config(values: flags.FlagValues, words: list[str]) -> ConfigDict:
    """Runs the config's file, defines --config.key=value for its keys and returns it as it was."""
    config = load_config(_take_config_file(words))
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
    return config


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


def _search(values: flags.FlagValues, config: ConfigDict) -> int:
    """Trains a catalogue of experiments side by side, each on the same pairs, and compares them
    with one-line rules."""
    if values["mode"].present and values.experiments is not None:
        raise UserError("--mode and --experiments are both given: give one of them")
    names = [name.strip() for name in (values.experiments or "").split(",") if name.strip()]
    if values.experiments is not None and not names:
        raise UserError("--experiments is empty: give names from the catalogue")

    from jaxrank import conductor, prepare, report

    console = _console()
    prepared = prepare.prepare(
        values.pairs,
        values.features,
        mode=values.mode,
        experiments=names,
        config=config,
        overrides=config_flags.get_override_values(values["config"]),
        folds=values.folds,
        num_seeds=values.num_seeds,
        seed=values.seed,
        split_seed=values.split_seed,
        photo_name=values.photo_name,
        min_agreement=values.min_agreement,
        min_reviewers=values.min_reviewers,
    )
    if values.dry_run:
        for line in prepare.describe(prepared):
            print(line)
        report.print_plan(console, prepared.cohorts, prepared.experiments)
        return 0
    result = conductor.run(prepared, values.workdir, console=console)
    report.print_summary(console, result.summary, simulated=prepared.data_facts["simulated"])
    for line in result.remarks:
        print(line)
    print(f"\nResults: {result.workdir}")
    trained = result.summary[result.summary["experiment_name"].isin(prepared.launch["experiments"])]
    # A script must notice when nothing that it asked for came out.
    return 0 if trained["status"].isin(["completed", "partial"]).any() else 1


def _console() -> "Console":
    """Wide enough for the tables where the output is no terminal, such as a file."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=130)


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
