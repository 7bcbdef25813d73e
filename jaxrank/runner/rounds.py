"""Rounds: a search with a space proposes experiments, trains them, and proposes the next.

plan.json holds the proposals and results of each round. The next round follows from them alone, so
a killed search proposes it again, bit for bit.
"""

import dataclasses
import importlib.metadata
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrank.configs import REFERENCES, default
from jaxrank.errors import UserError
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.experiments.config_files import check_config, key_parts, make_config
from jaxrank.experiments.rungs import read_rungs
from jaxrank.experiments.search_space import Choice, SearchSpace, parse_space
from jaxrank.planning.trials import TrialKey
from jaxrank.runner import optuna_study, rungs
from jaxrank.runner.manifest import Manifest, Round, as_json, cohorts_of, extended_manifest
from jaxrank.runner.options import (
    NUM_EXPERIMENTS,
    ROUND_SIZE,
    SPACE_OPTIONS,
    SearchOptions,
    make_options,
)
from jaxrank.runner.prepare import Prepared, with_experiments
from jaxrank.runner.strategies import GRID, STRATEGIES, Observation, choose_strategy
from jaxrank.runner.trial_plan import MOST_TRIALS, refuse_many_trials

# Reasons why no round follows.
ALL_TRIED, ENOUGH, OUT_OF_TIME = "the space has no more", "num_experiments", "time_budget"
# Options that may be changed when a finished search is extended.
_EXTENDED = ("num_experiments", "time_budget")

log = logging.getLogger("jaxrank")


def begin(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Round]]:
    """Options of a new search and, if it has a space, its first round.

    The options then include the experiments of the first round.

    Raises:
      UserError: the space, or an option that needs one, is invalid.
    """
    options = make_options({k: v for k, v in given.items() if k not in ("pairs", "features")})
    if options.space is None:
        for name in SPACE_OPTIONS:
            if given.get(name):
                raise UserError(f"--{name} needs a --space")
        return dict(given), []
    for name in ("mode", "experiments"):
        if given.get(name):
            raise UserError(f"--space and --{name} are both given: a space proposes all")
    config = (
        default.get_config() if options.config is None else check_config(options.config, "config")
    )
    space = parse_space(options.space, config, options.overrides)
    _check_numbers(options)
    if options.optuna_journal is not None:
        optuna_study.check_journal(Path(options.optuna_journal))
    chosen = dataclasses.replace(options, strategy=choose_strategy(options.strategy, space))
    _check_grid(space, chosen)
    first = _propose(space, chosen, [])
    catalogue = config.to_dict()["experiments"]
    for name in first.names:
        if name in catalogue:
            raise UserError(f"experiment '{name}': a space gives such names to its own; rename it")
    catalogue |= dict(zip(first.names, first.values, strict=True))
    changed = {
        "config": make_config(config.to_dict() | {"experiments": catalogue}),
        "experiments": first.names,
        "strategy": chosen.strategy,
    }
    return dict(given) | changed, [first]


def _check_numbers(options: SearchOptions) -> None:
    for path in options.overrides or {}:
        if len(key_parts(path)) == 1 and path in (options.space or {}):
            raise UserError(f"--space.{path} and --config.{path} are both given: give one of them")
    if options.time_budget is not None and not options.time_budget > 0:
        raise UserError(f"--time_budget={options.time_budget:g} is not above 0")
    for name in ("num_experiments", "round_size"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= MOST_TRIALS:
            raise UserError(f"--{name}={value}: give a number from 1 to {MOST_TRIALS:,}")


def _check_grid(space: SearchSpace, options: SearchOptions) -> None:
    limited = options.num_experiments is not None or options.time_budget is not None
    if options.strategy == GRID and not limited and _num_points(space) > MOST_TRIALS:
        raise UserError(
            f"--space has more than {MOST_TRIALS:,} combinations; give its lists fewer values, or "
            "--num_experiments"
        )


def _num_points(space: SearchSpace) -> int:
    """Number of combinations of a space of lists; at most one above MOST_TRIALS."""
    return sum(1 for _ in itertools.islice(space.grid(), MOST_TRIALS + 1))


def check_rest(record: Manifest, prepared: Prepared) -> None:
    """Checks that later rounds can be trained, before the first one is.

    Args:
      record, prepared: a search with a space and its rounds so far.

    Raises:
      UserError: the search would have too many trials, or the largest experiment of the space does
        not fit in memory.
    """
    space, options = _space_and_options(record)
    done = sum(len(planned.names) for planned in record.rounds)
    total = done + _num_left(options, record.rounds)
    if space.is_grid:
        total = min(total, _num_points(space))
    if options.num_experiments is not None or options.time_budget is None:
        per_experiment = len(prepared.trained_folds) * options.num_seeds
        refuse_many_trials((total + len(REFERENCES)) * per_experiment, options)
    if total > done and (largest := _largest(space)):
        with_experiments(prepared, largest, ())


def _largest(space: SearchSpace) -> dict[str, dict[str, Any]]:
    """Experiments, by name, with all layers of a space and its largest batch."""
    sizes: dict[str, Sequence[Any]] = {}
    for key, values, _ in space.parameters:
        if key == "mlp_hidden_dims" and isinstance(values, Choice):
            sizes[key] = values.values
        if key == "batch_size":
            sizes[key] = [max(values.values) if isinstance(values, Choice) else values.high]
    combinations = [*itertools.product(*sizes.values())] if sizes else []
    return {
        f"largest_of_space_{place}": dict(zip(sizes, values, strict=True))
        for place, values in enumerate(combinations, 1)
    }


def following(
    record: Manifest,
    prepared: Prepared,
    results: Mapping[TrialKey, TrialResult],
    seconds: float,
) -> tuple[Manifest, Prepared]:
    """Records the results of a search's rounds and adds the next round, if any.

    Results of earlier rounds may have changed: trials that had failed, or more seeds.

    Args:
      record, prepared: the search, with all of its trials trained.
      results: results of all trials.
      seconds: duration of the last round.
    """
    if not record.rounds:
        return record, prepared
    space, options = _space_and_options(record)
    done = _with_results(record, results)
    _write_journal(prepared, space, done)
    if done[-1].ended:
        return record, prepared
    if record.rounds[-1].accuracies is None:
        done[-1] = done[-1]._replace(seconds=seconds)
    ended, proposed = _next(space, options, done)
    if ended:
        done[-1] = done[-1]._replace(ended=ended)
        log.info("no further round: %s%s", ended, _untried(space, done))
        return record._replace(rounds=done), prepared
    assert proposed is not None
    log.info("round %d: %d experiments", len(done) + 1, len(proposed.names))
    before = len(prepared.cohorts)
    added = dict(zip(proposed.names, proposed.values, strict=True))
    # Not the cohorts that `prepare` has planned: a resumed search plans all rounds at once.
    known = [*cohorts_of(record.cohorts, prepared).values()]
    wider = with_experiments(prepared, added, known)
    grown = extended_manifest(record, wider, wider.cohorts[before:])
    return grown._replace(rounds=[*done, proposed]), wider


def _with_results(record: Manifest, results: Mapping[TrialKey, TrialResult]) -> list[Round]:
    """The rounds of a search with the accuracies and rungs of their experiments."""
    by_name: dict[str, list[TrialResult]] = {}
    for result in results.values():
        by_name.setdefault(result.trial.experiment.name, []).append(result)
    ended_at = {name: ending.epoch for name, ending in rungs.endings(record).items()}
    return [
        planned._replace(
            accuracies=[_accuracy(by_name.get(name, [])) for name in planned.names],
            dropped_at=[ended_at.get(name) for name in planned.names],
        )
        for planned in record.rounds
    ]


def _write_journal(prepared: Prepared, space: SearchSpace, done: Sequence[Round]) -> None:
    """Mirrors the rounds for optuna-dashboard, if asked for; a failure is logged as a warning."""
    path = prepared.launch["optuna_journal"]
    if path is None:
        return
    try:
        optuna_study.write_journal(Path(path), space, history_of(done))
    except (OSError, UserError) as error:  # the search itself is recorded
        log.warning("--optuna_journal=%s: not written (%s)", path, error)


def check_same(record: Manifest, given: Mapping[str, Any], *, extend: bool) -> None:
    """Raises an error if a resumed search gets another space, space options or rungs.

    Raises:
      UserError: an option differs; the message has the first difference.
    """
    if "rungs" in given and read_rungs(given["rungs"]) != (record.launch.get("rungs") or []):
        raise UserError("can't resume this search with other --rungs")
    if given.get("optuna_journal") is not None:
        if not record.rounds:
            raise UserError("--optuna_journal needs a --space")
        optuna_study.check_journal(Path(given["optuna_journal"]))
    for name in ("space", *SPACE_OPTIONS):
        if name not in given or name == "optuna_journal":
            continue
        here, there = as_json(given[name]), record.launch.get(name)
        if here == there or (extend and name in _EXTENDED and record.rounds):
            continue
        more = " (--extend changes it)" if name in _EXTENDED and record.rounds else ""
        raise UserError(f"can't resume this search with another --{name}{more}")
    wanted = record.rounds[-1].versions if record.rounds else {}
    ended = record.rounds and record.rounds[-1].ended
    for package, version in wanted.items():
        if (not ended or extend) and _versions([package])[package] != version:
            raise UserError(
                f"this search proposes its experiments with {package} {version}, but here is "
                f"{_versions([package])[package]}: install {package}=={version}"
            )


def reopened(record: Manifest, prepared: Prepared) -> Manifest:
    """Reopens a finished search if its `num_experiments` or `time_budget` has changed.

    Raises:
      UserError: see `check_rest`.
    """
    changed = {name: prepared.launch[name] for name in _EXTENDED}
    if all(record.launch.get(name) == value for name, value in changed.items()):
        return record
    last = record.rounds[-1]._replace(ended="")
    rounds = [*record.rounds[:-1], last]
    longer = record._replace(rounds=rounds, launch=record.launch | changed, finished=False)
    check_rest(longer, prepared)
    return longer


def history_of(rounds: Sequence[Round]) -> list[Observation]:
    """Observations of all experiments so far, in order."""
    return [
        Observation(values, accuracy, epoch)
        for planned in rounds
        for values, accuracy, epoch in zip(
            planned.values,
            planned.accuracies or (),
            planned.dropped_at or [None] * len(planned.values),
            strict=True,
        )
    ]


def space_of(record: Manifest) -> SearchSpace:
    """The space of a search that has one."""
    return _space_and_options(record)[0]


def _space_and_options(record: Manifest) -> tuple[SearchSpace, SearchOptions]:
    fields = {field.name for field in dataclasses.fields(SearchOptions)}
    options = SearchOptions(**{k: v for k, v in record.launch.items() if k in fields})
    config = make_config(record.launch["config"])
    return parse_space(options.space or {}, config), options


def _next(
    space: SearchSpace, options: SearchOptions, done: Sequence[Round]
) -> tuple[str, Round | None]:
    """Reason why no round follows, or the next round."""
    budget = options.time_budget
    if budget is not None and sum(planned.seconds for planned in done) >= budget:
        return OUT_OF_TIME, None
    if _num_left(options, done) <= 0:
        return ENOUGH, None
    proposed = _propose(space, options, done)
    return ("", proposed) if proposed.names else (ALL_TRIED, None)


def _untried(space: SearchSpace, done: Sequence[Round]) -> str:
    """Names the compiled-in values that no experiment has; empty if there are none.

    Consecutive experiments share them (`strategies.SHARE_A_PROGRAM`), so a few have few of them.
    """
    tried = [values for planned in done for values in planned.values]
    left = [
        f"{p.key}={value or 'none'}"
        for p in space.parameters
        if p.is_static and isinstance(p.values, Choice)
        for value in p.values.values
        if all(values.get(p.key) != value for values in tried)
    ]
    return f"; not tried: {', '.join(left)}" if left else ""


def _num_left(options: SearchOptions, done: Sequence[Round]) -> int:
    most = options.num_experiments
    if most is None:
        unlimited = options.strategy == GRID or options.time_budget is not None
        most = MOST_TRIALS if unlimited else NUM_EXPERIMENTS
    return most - sum(len(planned.names) for planned in done)


def _propose(space: SearchSpace, options: SearchOptions, done: Sequence[Round]) -> Round:
    strategy = STRATEGIES[options.strategy]
    size = options.round_size
    if size is None and (strategy.learns or options.time_budget is not None):
        size = ROUND_SIZE
    left = _num_left(options, done)
    n = left if size is None else min(size, left)
    values = strategy.propose(space, n, history_of(done), options.seed)
    first = 1 + sum(len(planned.names) for planned in done)
    names = [f"e{number:04d}" for number in range(first, first + len(values))]
    return Round(names, values, _versions(strategy.packages))


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def _accuracy(results: Sequence[TrialResult]) -> float | None:
    completed = [r.metrics.measured["val_accuracy"] for r in results if r.metrics.completed]
    return float(np.mean(completed)) if completed else None
