"""`search`: its flags, many shared with `train`, and their conversion to search options."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from jaxrank.commands.flags import (
    OF_RAY,
    TRAINERS,
    define_audit_seconds,
    define_engine,
    define_options,
    define_strings,
    define_value,
    define_workers,
    refuse_empty,
)
from jaxrank.commands.streams import printing, warn
from jaxrank.commands.terminal import (
    log_console,
    make_console,
    print_json,
    prints_json,
    set_verbosity_of_libraries,
)
from jaxrank.configs import CATALOGUE_KEYS
from jaxrank.errors import UserError
from jaxrank.experiments.config_files import (
    ONE_VALUE,
    load_config,
    value_at,
    with_every_key,
)
from jaxrank.runner.options import (
    AUDITS,
    FLAGS,
    MANY_OPTIONS,
    RAY,
    SAVE_BUDGET,
    SPACE_OPTIONS,
    WARN,
)

if TYPE_CHECKING:
    from rich.console import Console

    from jaxrank.runner.engines.interface import Cluster
    from jaxrank.runner.search_result import SearchResult

EXAMPLE = "--pairs=pairs.csv --features=store --folds=5"
# Default of --top: number of experiments shown.
TOP = 20
# Options that are passed on only if typed; a resumed search keeps the others.
_GIVEN = ("pairs", "features", *FLAGS)


class Config(NamedTuple):
    """A launch's config before flags change it, and the file of --config, if given."""

    values: ConfigDict
    file: str | None


def define(values: flags.FlagValues, words: list[str]) -> Config:
    text = {
        "mode": ("quick", "a list of experiments: quick, full, regularization, features, "
                 "learning_rate"),
        "experiments": (None, "names from the catalogue, comma separated, instead of a mode"),
        "experiments_csv": (None, "a catalogue of your own: a column experiment_name, "
                            "and any hyperparameters such as mlp_hidden_dims, learning_rate"),
    }  # fmt: skip
    for name, (start, meaning) in text.items():
        flags.DEFINE_string(name, start, meaning, flag_values=values)
    switches = {
        "resume": "resume the search in --workdir (default: the newest), with its options; "
                  "where there is none, begin one",
        "extend": "resume a finished search and add what it lacks of --experiments or --mode, "
                  "--num_seeds and --only_folds",
        "retry_failed": "resume, and train failed trials again",
    }  # fmt: skip
    for name, meaning in switches.items():
        flags.DEFINE_boolean(name, False, meaning, flag_values=values)
    define_training(values, "new folder for the results, or that of the search to resume")
    define_options(values, (*MANY_OPTIONS, *SPACE_OPTIONS))
    _define_space(values, words)
    path = _read_flag(words, "experiments_csv")
    if path == "":
        raise UserError("--experiments_csv is empty")
    return define_config(values, words, lambda config: _read_catalogue(config, path))


def define_training(values: flags.FlagValues, workdir: str) -> None:
    """Defines the flags of every command that trains.

    Args:
      values: flags to which the flags are added.
      workdir: help text of --workdir.
    """
    text = {
        "pairs": "pairs, votes, ratings, picks or winners, known by their columns: CSV, JSON "
                 "lines, parquet, a six-column pair list, or a folder with train_pairlist.txt and "
                 "val_pairlist.txt; without it the embedded simulated data",
        "features": "folder of a feature store, see the command 'features', or a file: .parquet, "
                    ".npz or .csv",
        "workdir": workdir + " (default: one named by the time, in outputs/)",
        "device_profile": "file of the command 'profile', to plan with (default: built-in rates)",
    }  # fmt: skip
    define_strings(values, text)
    define_options(values, [n for n in FLAGS if n not in (*MANY_OPTIONS, *SPACE_OPTIONS)])
    define_workers(values, TRAINERS)
    define_engine(values)
    flags.DEFINE_float(
        "save_budget",
        SAVE_BUDGET,
        "share of the time that checkpoints may take",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "audit",
        WARN,
        AUDITS,
        "check whether preferences and photos belong together: warn prints the finding with every "
        "result, refuse does not train if the audit fails, off skips the audit",
        flag_values=values,
    )
    define_audit_seconds(values)
    flags.DEFINE_list(
        "only_folds",
        None,
        "train these folds only, comma separated, counted from 0 (default: all of --folds)",
        flag_values=values,
    )
    flags.DEFINE_boolean("dry_run", False, "print the plan and end", flag_values=values)
    flags.DEFINE_integer(
        "top",
        TOP,
        "number of experiments shown, those with the highest validation accuracy",
        lower_bound=1,
        flag_values=values,
    )


def _define_space(values: flags.FlagValues, words: list[str]) -> None:
    """Defines --space, and --space.KEY for each key on the command line."""
    meaning = (
        "Python file with a get_space(): a dict of hyperparameters and their values. "
        "--space.KEY=VALUES adds one: 1e-5..1e-2:log, 0.1..0.5, 0,0.3,0.5, 256|512,256, and "
        "'0.5..0.99 if optimizer=sgd'"
    )
    define_strings(values, {"space": meaning})
    for word in words:
        typed = re.match(r"--?(space\.[^=]*)", word)
        if typed and typed[1] not in values:
            define_strings(values, {typed[1]: "see --space"})


def _space_given(values: flags.FlagValues) -> dict[str, Any] | None:
    """Returns the entries of --space and --space.KEY; None without any of these flags."""
    from jaxrank.experiments.search_space import read_space_file

    refuse_empty(values, ("space",))
    prefix = "space."
    typed = {
        name.removeprefix(prefix): values[name].value for name in values if name.startswith(prefix)
    }
    return typed or None if values.space is None else read_space_file(values.space) | typed


def _read_catalogue(config: ConfigDict, path: str | None) -> ConfigDict:
    if path is None:
        return config

    from jaxrank.experiments.catalogue import read_catalogue

    return read_catalogue(path, config)


def _read_flag(words: list[str], name: str) -> str | None:
    """Reads a flag that the definition of others depends on; its last occurrence counts.

    Runs before the flags are parsed. Returns None if the flag is not given.
    """
    found = None
    for place, word in enumerate(words):
        flag, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == name:
            found = value if equals else (words[place + 1 : place + 2] or [""])[0]
    return found


def define_config(
    values: flags.FlagValues, words: list[str], change: Callable[[ConfigDict], ConfigDict]
) -> Config:
    """Loads the config, and defines --config and --config.KEY for each key on the command line.

    Args:
      values: flags to which the flags are added.
      words: words of the command line.
      change: function that changes the config, such as its catalogue.

    Returns:
      The changed config, without the values of flags.
    """
    file = _read_flag(words, "config")
    config = change(load_config(file))
    known = with_every_key(config)
    for word in words:
        typed = re.match(r"--?(?:no)?(config\.[^=]*)", word)
        if typed and typed[1] not in values:
            default = value_at(known, typed[1].removeprefix("config."))
            refuse_several(words, typed[1], default)
            define_value(values, typed[1], default, "see --config")
    meaning = (
        "Python file with a get_config(), or JSON file such as a search's best_config.json "
        "(default: configs/default.py). --config.KEY=VALUE holds for every experiment, "
        "--config.experiments.NAME.KEY=VALUE for one, --config.linear.KEY=VALUE and "
        "--config.shuffled.KEY=VALUE for the references. KEY: "
        + ", ".join(key for key in config if key not in CATALOGUE_KEYS)
    )
    flags.DEFINE_string("config", None, meaning, flag_values=values)
    return Config(config, file)


def refuse_several(words: list[str], name: str, default: Any) -> None:
    """Raises UserError for several values, such as 1e-3,3e-3, where a number is expected."""
    text = _read_flag(words, name) or ""
    if isinstance(default, int | float) and "," in text and not text.startswith("-"):
        raise UserError(f"--{name}={text}: {ONE_VALUE}")


def run(values: flags.FlagValues, config: Config) -> int:
    """Trains a catalogue of experiments on the same pairs, and compares them with baselines."""
    if values["mode"].present:
        for name in ("experiments", "experiments_csv"):
            if values[name].value is not None:
                raise UserError(f"--mode and --{name} are both given: give one of them")
    given = options_given(values, config)
    if values["mode"].present:
        given["mode"] = values.mode
    if values.experiments is not None:
        given["experiments"] = [w.strip() for w in values.experiments.split(",") if w.strip()]
        if not given["experiments"]:
            raise UserError("--experiments is empty: give names from the catalogue")
    if values.experiments_csv is not None:
        given["config"] = config.values
        from jaxrank.experiments.catalogue import MODE

        # A ConfigDict sorts the keys of its experiments; the mode keeps the order of the table.
        given.setdefault("experiments", list(config.values.modes[MODE]))
    if (space := _space_given(values)) is not None:
        for name in ("mode", "experiments", "experiments_csv"):
            if values[name].present:
                raise UserError(f"--space and --{name} are both given: a space proposes all")
        given["space"] = space
    resume = values.resume or values.extend or values.retry_failed
    changes = {"extend": values.extend, "retry_failed": values.retry_failed}
    return run_search(given, values.workdir, values, resume, changes)


def run_search(
    given: dict[str, Any],
    workdir: str | None,
    values: flags.FlagValues,
    resume: bool,
    changes: dict[str, Any],
) -> int:
    from jaxrank.runner import signals

    folder: Path | None = None

    def describe_end() -> str:
        if folder is None or not has_plan(folder):
            return "interrupted"
        return f"interrupted, nothing is lost; resume with 'search --resume --workdir={folder}'"

    with signals.signals_end_at_once(describe_end), _cluster(values) as cluster:
        from jaxrank.io import memory
        from jaxrank.runner.device_profile import read_device_profile
        from jaxrank.runner.resume import find_workdir, has_plan
        from jaxrank.runner.search import search
        from jaxrank.training import compilation_cache, jax_settings

        jax_settings.choose_deterministic_kernels()
        memory.give_back_freed_arrays()
        if reason := compilation_cache.keep_compiled_programs():
            warn(f"jaxrank: {reason}")
        # Not earlier: reading the profile initialises JAX to get the kind of device.
        if values.device_profile is not None:
            kind = None if cluster is None else cluster.device.kind
            given["device_profile"] = read_device_profile(values.device_profile, kind)
        set_verbosity_of_libraries(values)
        console = make_console(values)
        if values.dry_run:
            device = None if cluster is None else cluster.device
            return _print_plan(
                values, console, given, workdir, resume, changes | {"device": device}
            )
        folder = find_workdir(workdir, resume=resume)
        result = search(
            **given,
            workdir=folder,
            resume=resume,
            **changes,
            save_budget=values.save_budget,
            audit=values.audit,
            audit_seconds=values.audit_seconds,
            workers=values.workers if cluster is None else None,
            cluster=cluster,
            catch_signals=True,
            console=log_console(values),
        )
        return _print_result(values, console, result)


@contextmanager
def _cluster(values: flags.FlagValues) -> "Iterator[Cluster | None]":
    """Yields the cluster of --engine=ray; None where the devices of this process train."""
    refuse_empty(values, OF_RAY)
    if values.engine == RAY:
        from jaxrank.runner.engines.cluster import ray_cluster

        with ray_cluster(values.ray_address, values.workers, values.gpus_per_worker) as cluster:
            yield cluster
        return
    for name in OF_RAY:
        if values[name].present:
            raise UserError(f"--{name} needs --engine=ray")

    from jaxrank import devices

    devices.split_cpu_into_devices(values.workers)
    yield None


def _print_plan(
    values: flags.FlagValues,
    console: "Console",
    given: dict[str, Any],
    workdir: str | None,
    resume: bool,
    changes: dict[str, Any],
) -> int:
    from jaxrank.reporting.console import print_plan
    from jaxrank.reporting.fitted_table import show_lines
    from jaxrank.runner.resume import find_workdir, plan_search

    folder = find_workdir(workdir, resume=resume)
    ready = plan_search(folder, given, **changes)
    with printing():
        show_lines(console, *ready.describe())
        print_plan(console, ready.waiting_cohorts, ready.prepared.experiments, values.top)
    return 0


def _print_result(values: flags.FlagValues, console: "Console", result: "SearchResult") -> int:
    from jaxrank.reporting import summary
    from jaxrank.reporting.console import print_summary
    from jaxrank.reporting.fitted_table import show_lines

    with printing(result.workdir):
        if prints_json(values):
            tables = {
                name: getattr(result, name).to_dict("records") for name in ("summary", "trials")
            }
            print_json(result._asdict() | tables | {"workdir": str(result.workdir)})
        else:
            print_summary(console, result.summary, result.experiments, result.caveats, values.top)
            show_lines(console, *result.notes, "", f"Results: {result.workdir}")
        if result.nothing_to_do:
            show_lines(console, "The search had been finished before: nothing to do.")
    if result.nothing_to_do:
        return 0
    # Scripts rely on the exit status to notice that no requested experiment was trained.
    return 1 if summary.no_experiment_completed(result.summary) else 0


def options_given(values: flags.FlagValues, config: Config) -> dict[str, Any]:
    """Returns the typed options of `search` and `train`, as keywords of `prepare.prepare`.

    Options that were not typed are absent: a resumed search keeps its values.
    """
    given = {name: values[name].value for name in _GIVEN if name in values and values[name].present}
    refuse_empty(values, ("pairs", "features", "series", "init_from"))
    if config.file is not None:
        given["config"] = config.values
    if values.only_folds is not None:
        if not all(re.fullmatch("[0-9]{1,9}", word.strip()) for word in values.only_folds):
            raise UserError(f"--only_folds={','.join(values.only_folds)}: not whole numbers")
        given["only_folds"] = [int(word) for word in values.only_folds]
    prefix = "config."
    overrides = {
        name.removeprefix(prefix): values[name].value for name in values if name.startswith(prefix)
    }
    if overrides:
        given["overrides"] = overrides
    return given
