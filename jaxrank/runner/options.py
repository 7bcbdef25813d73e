"""The options of a search: one list for Python, the command line and plan.json.

The module imports nothing heavy, because the command line defines its flags from it.
"""

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from ml_collections import ConfigDict

from jaxrank.errors import refuse_unknown

if TYPE_CHECKING:
    import pandas as pd

Function = TypeVar("Function", bound=Callable[..., Any])
# The share of memory that training may use. The rest is for other programs, and for
# what the prediction of memory leaves out.
MEMORY_FRACTION = 0.5
SPLIT_SEED = 42
# The share of the time that checkpoints may take.
SAVE_BUDGET = 0.05
# Defaults for a space: Sobol points come in powers of two.
NUM_EXPERIMENTS = 64
ROUND_SIZE = 16
# Value of --folds for leave-one-series-out.
EACH_SERIES = "series"
# Series that a final model may be trained on.
USABLE, ALL_SERIES = FINAL_ON = ("usable", "all")
# Which predictions are written: of every trial and their means, the means, or none.
ALL, MEAN, NONE = PREDICTIONS = ("all", "mean", "none")
# Which experiments' learning curves are drawn.
BEST = "best"
CURVES = (BEST, ALL, NONE)
# Where to train: on the devices of this process, or on a cluster.
LOCAL, RAY = ENGINES = ("local", "ray")
# What an audit does with its finding: report it or raise an error. OFF: no audit.
WARN, REFUSE, OFF = AUDITS = ("warn", "refuse", "off")


def _option(default: Any, help: str = "", *, least: int | None = None, word: str = "") -> Any:
    """A dataclass field of an option; with a help text the option is also a flag.

    `least` is the smallest value of a whole number; `word` is accepted in place of a number.
    """
    return dataclasses.field(default=default, metadata={"help": help, "least": least, "word": word})


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Options of a search; the same options, data and device give the same search.

    Attributes:
      mode: name of a list of experiments in the config.
      experiments: names of experiments from the catalogue, instead of a mode.
      config: configuration as configs/default.py returns it; by default that configuration.
      overrides: hyperparameters of this search by key, such as "dropout" for all experiments and
        "experiments.tiny_mlp.dropout" for one.
      split: split strategy: 'series', 'official', 'random' or 'pretrain'; see docs/configure.md.
      folds: 0 for one 80/10/10 split, or for folds if the series are too few for it; K >= 3; or
        'series' for leave-one-series-out.
      only_folds: folds to train, counted from 0; by default all.
      num_seeds: number of seeds: seed, seed + 1, ...; each experiment is trained once in each fold
        with each seed.
      seed: first seed of training; the split does not depend on it.
      split_seed: seed of the split only.
      photo_name, min_agreement, min_reviewers, series: see `jaxrank.read_preferences`.
      init_from: folder of a saved model; every experiment but the references begins from it.
      memory_fraction: share of memory that training may use. It limits one cohort, and all cohorts
        that train in one memory: a device's own, on a CPU the host's with the features.
      final: entry of the table that becomes the final model, an experiment or a baseline; by
        default the selected experiment, or the strongest baseline if that is as good.
      final_on: series that train the final model. 'usable' leaves out the test series of a search
        without folds, and the series of `confirm_share`; 'all' uses all.
      predictions: 'all' writes the predictions of every trial and, for each pair, their means;
        'mean' writes the means; 'none' writes nothing.
      curves: experiments whose learning curves are drawn: 'best', the 20 with the highest
        validation accuracy; 'all'; 'none'. With more than 50 experiments, only these have a folder,
        with the saved model.
      rungs: epochs at which experiments are compared and some of them dropped; see docs/sweeps.md.
      null_search: repeat the search on permuted preferences, to report what it finds by chance.
      confirm_share: share of the series that is set aside before the search. The experiments tied
        for best are trained again with new seeds and measured on these series.
      confirm: maximum number of experiments to confirm.
      device_profile: device profile as `read_device_profile` returns it; by default the built-in
        profile.
      space: list of values, or text, for each hyperparameter; see docs/sweeps.md. The search then
        proposes its experiments itself, in rounds.
      strategy: 'grid', 'random', 'sobol', 'tpe' or 'gp'; by default a grid if the space has lists
        only, else Sobol points. The strategy's seed is `seed`.
      num_experiments: maximum number of experiments of the space; by default the whole grid; no
        maximum with a time budget; else 64.
      round_size: number of experiments proposed at a time; by default 16 for 'tpe', 'gp' and with a
        time budget, else all.
      time_budget: seconds after which no further round begins. It counts the time that a process
        trains a round. Once the end of the search is recorded, it is not decided again.
      optuna_journal: file that mirrors the search for optuna-dashboard.
      track: 'tensorboard', 'wandb' or both, comma separated; each gets every trial.
    """

    mode: str = "quick"
    experiments: Sequence[str] | str = ()
    config: ConfigDict | None = None
    overrides: Mapping[str, Any] | None = None
    split: str = _option(
        "series",
        "series: whole series; official: as the column official_split says (train, val, test; "
        "without test, val is tested); random: by pair, which leaks; pretrain: only the training "
        "series, by pair",
    )
    folds: int | str = _option(
        0,
        "number of cross-validation folds, split by series; 'series' for leave-one-series-out; 0 "
        "for one 80/10/10 split, or for folds below 50 series (default: 0)",
        least=0,
        word=EACH_SERIES,
    )
    only_folds: Sequence[int] = ()
    num_seeds: int = _option(
        1,
        "number of seeds; each experiment is trained once in each fold with each seed",
        least=1,
    )
    seed: int = _option(0, "first seed of training (default: 0)", least=0)
    split_seed: int = _option(SPLIT_SEED, "seed of the split", least=0)
    photo_name: str | None = _option(
        None,
        "votes and pair lists: how a photo's name is built (default: "
        "{series:06d}-{number:02d}.JPG)",
    )
    min_agreement: float | None = _option(
        None,
        "votes: leave out pairs with a smaller majority (default: 0.7; none for votes_a,votes_b)",
    )
    min_reviewers: int | None = _option(
        None, "votes: leave out pairs with fewer votes (default: 2; 1 for votes_a,votes_b)", least=1
    )
    series: "str | Path | pd.DataFrame | None" = _option(
        None,
        "pairs without series_id: table with series_id,image (default: series.csv in the store's "
        "folder)",
    )
    init_from: str | Path | None = _option(
        None, "folder of a saved model that training begins from"
    )
    memory_fraction: float = _option(
        MEMORY_FRACTION,
        "share of memory that training may use: of each device's own, on a CPU of the host's",
    )
    final: str = _option(
        "",
        "experiment or baseline that becomes the final model, final/ (default: the selected "
        "experiment, or the strongest baseline where that is as good)",
    )
    final_on: str = _option(
        USABLE,
        "series that train the final model: usable (without the test series of one split and the "
        "series of --confirm_share) or all",
    )
    predictions: str = _option(
        ALL,
        "predictions of validation and test pairs: all, of every trial and their means; mean; none",
    )
    curves: str = _option(
        BEST,
        "experiments that get learning curves (above 50 experiments: and a folder): best, the 20 "
        "with the highest validation accuracy; all; none",
    )
    rungs: Sequence[int] | str = _option(
        "",
        "epochs, such as 1,3,9, after which the search drops experiments that are significantly "
        "worse than the best or beyond the budget (a third continues from 1 to 3 epochs) "
        "(default: none)",
    )
    null_search: bool = _option(
        False, "repeat the search on permuted preferences, to report what it finds by chance"
    )
    confirm_share: float = _option(
        0.0,
        "share of the series that is set aside before the search, to confirm the experiments that "
        "are tied for best (default: 0)",
    )
    confirm: int = _option(5, "maximum number of experiments to confirm", least=1)
    device_profile: Mapping[str, Any] | None = None
    space: Mapping[str, Any] | None = None
    strategy: str = _option(
        "",
        "with --space: how experiments are proposed: grid, random, sobol, tpe or gp (default: grid "
        "if the space has only lists, else sobol)",
    )
    num_experiments: int | None = _option(
        None,
        "with --space: maximum number of experiments (default: the whole grid; no maximum with "
        "--time_budget; else 64)",
        least=1,
    )
    round_size: int | None = _option(
        None,
        "with --space: number of experiments proposed at a time (default: 16 for tpe, gp and "
        "--time_budget, else all)",
        least=1,
    )
    time_budget: float | None = _option(
        None, "with --space: seconds after which no further round begins (default: none)"
    )
    optuna_journal: str | Path | None = _option(
        None, "with --space: file that mirrors the search for optuna-dashboard (default: none)"
    )
    track: str = _option(
        "",
        "experiment trackers, comma separated, for which every trial is written as a run: "
        "tensorboard, wandb (default: none)",
    )

    @property
    def reading(self) -> dict[str, Any]:
        """Options of reading the pairs."""
        return {name: getattr(self, name) for name in READING}


class SearchKeywords(TypedDict, total=False):
    """The fields of `SearchOptions` as keywords, for type checkers.

    They are not parameters with defaults, because a resumed search keeps each option that is not
    given. A test compares names and types with the fields.
    """

    mode: str
    experiments: Sequence[str] | str
    config: ConfigDict | None
    overrides: Mapping[str, Any] | None
    split: str
    folds: int | str
    only_folds: Sequence[int]
    num_seeds: int
    seed: int
    split_seed: int
    photo_name: str | None
    min_agreement: float | None
    min_reviewers: int | None
    series: "str | Path | pd.DataFrame | None"
    init_from: str | Path | None
    memory_fraction: float
    final: str
    final_on: str
    predictions: str
    curves: str
    rungs: Sequence[int] | str
    null_search: bool
    confirm_share: float
    confirm: int
    device_profile: Mapping[str, Any] | None
    space: Mapping[str, Any] | None
    strategy: str
    num_experiments: int | None
    round_size: int | None
    time_budget: float | None
    optuna_journal: str | Path | None
    track: str


# The options of `preferences.read_preferences`.
READING = ("photo_name", "min_agreement", "min_reviewers", "series")
_FIELDS = {field.name: field for field in dataclasses.fields(SearchOptions)}
# Option names of version 0.1, and their new names.
_RENAMED = {"rates": "device_profile"}
# Options of a search with a space.
SPACE_OPTIONS = (
    "strategy", "num_experiments", "round_size", "time_budget", "optuna_journal",
)  # fmt: skip
# Options of a search of many experiments.
MANY_OPTIONS = ("rungs", "null_search")
# Options that are flags of the same name.
FLAGS = {name: field for name, field in _FIELDS.items() if field.metadata.get("help")}


def make_options(given: Mapping[str, Any]) -> SearchOptions:
    """Makes the options from keywords.

    Raises:
      UserError: a keyword is not an option.
    """
    check_keywords("prepare", given)
    options = dict(given)
    for old, new in _RENAMED.items():
        if old in options:
            text = (
                f"the option {old} is now {new}; the old name will be removed in the next release"
            )
            warnings.warn(text, FutureWarning, stacklevel=3)
            options[new] = options.pop(old)
    return SearchOptions(**options)


def check_keywords(function: str, given: Iterable[str], own: Iterable[str] = ()) -> None:
    """Raises a UserError for a keyword that is neither an option nor the function's own."""
    refuse_unknown(function, [name for name in given if name not in _RENAMED], [*_FIELDS, *own])


def with_options(function: Function) -> Function:
    """Shows the options in the signature of a function that takes them as `**options`."""
    own = inspect.signature(function)
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(SearchOptions).parameters.values()
    ]
    function.__signature__ = own.replace(parameters=[*parameters, *options])  # type: ignore[attr-defined]
    return function
