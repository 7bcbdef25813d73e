"""Checks the options of a search, before data are read and against the data."""

from collections.abc import Sequence

from jaxrank import baselines
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset
from jaxrank.errors import UserError, did_you_mean
from jaxrank.experiments.hyperparameters import LINEAR
from jaxrank.reporting.trackers import chosen_trackers
from jaxrank.runner.options import CURVES, FINAL_ON, PREDICTIONS, SearchOptions

# Largest share of the series that may be set aside.
_MOST_ASIDE = 0.5


def check_options(options: SearchOptions) -> None:
    """Raises a UserError if an option is invalid by itself."""
    _check_numbers(options)
    _check_words(options)


def check_names(options: SearchOptions, names: Sequence[str], dataset: Dataset) -> None:
    """Raises a UserError if an experiment is named like a baseline, or `final` is unknown."""
    _refuse_names_of_baselines(names, dataset)
    _check_final(options, names, dataset)


def _check_numbers(options: SearchOptions) -> None:
    seeds = {name: getattr(options, name) for name in ("num_seeds", "seed", "split_seed")}
    if options.num_seeds < 1 or options.seed < 0 or options.split_seed < 0:
        raise UserError(
            ", ".join(f"{name}={value}" for name, value in seeds.items())
            + ": at least one seed is needed, and none may be negative"
        )
    if not 0 <= options.confirm_share <= _MOST_ASIDE:
        raise UserError(
            f"--confirm_share={options.confirm_share:g} is not a share from 0 to {_MOST_ASIDE}"
        )
    for name in ("confirm_share", "null_search"):
        if getattr(options, name) and options.split not in (splits.SERIES, splits.OFFICIAL):
            raise UserError(f"--{name} needs whole series, and --split={options.split} cuts them")
    if not 0 < options.memory_fraction <= 1:
        raise UserError(
            f"--memory_fraction={options.memory_fraction:g} is not a share above 0, up to 1"
        )


def _check_words(options: SearchOptions) -> None:
    known = {"final_on": FINAL_ON, "predictions": PREDICTIONS, "curves": CURVES}
    for name, words in known.items():
        word = getattr(options, name)
        if word not in words:
            raise UserError(f"--{name}={word}: unknown.{did_you_mean(word, words)}")
    chosen_trackers(options.track)


def _refuse_names_of_baselines(names: Sequence[str], dataset: Dataset) -> None:
    taken = {*baselines.RESERVED, *baselines.heuristic_scores(dataset)}
    for name in names:
        if name in taken:
            raise UserError(
                f"experiment '{name}' has the name of a baseline in the table; rename it"
            )


def _check_final(options: SearchOptions, names: Sequence[str], dataset: Dataset) -> None:
    known = [*names, LINEAR, *baselines.saved_names(dataset)]
    if options.final and options.final not in known:
        raise UserError(
            f"--final={options.final}: neither an experiment of this search nor a baseline that "
            f"scores photos.{did_you_mean(options.final, known)}"
        )
