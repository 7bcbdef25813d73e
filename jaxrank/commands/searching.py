"""`search`: flags, and what they mean to `conductor.search`."""

import re
import sys
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxrank.commands.console import make_console, silence_stdout
from jaxrank.config_files import check_key, load_config, with_every_key
from jaxrank.configs import CATALOGUE_KEYS
from jaxrank.errors import UserError


class Config(NamedTuple):
    """A launch's config before any flag has changed it, and the file that was typed, if any."""

    values: ConfigDict
    file: str | None


def define_search(values: flags.FlagValues, words: list[str]) -> Config:
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


def search(values: flags.FlagValues, config: Config) -> int:
    """Trains a catalogue of experiments side by side, each on the same pairs, and compares them
    with one-line rules."""
    given = _options_given(values, config)

    from jaxrank import stopping

    with stopping.signals_end_at_once():
        return _search_with(given, values)


def _search_with(given: dict[str, Any], values: flags.FlagValues) -> int:
    from absl import logging

    from jaxrank import conductor, launches, report, screen

    # Orbax logs a traceback of what it then raises, and that we tell in one line.
    logging.set_verbosity(logging.FATAL)
    console = make_console()
    resume = values.resume or values.extend or values.retry_failed
    changes = {"extend": values.extend, "retry_failed": values.retry_failed}
    if values.dry_run:
        folder = launches.find_workdir(values.workdir, resume=resume)
        ready = launches.plan_launch(folder, given, **changes)
        for line in ready.describe():
            print(line)
        screen.print_plan(console, ready.waiting_cohorts, ready.prepared.experiments)
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
        screen.print_summary(console, result.summary, result.caveats)
        for line in result.remarks:
            print(line)
        print(f"\nResults: {result.workdir}")
        if result.nothing_to_do:
            print("The search had been finished before: nothing to do.")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
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
