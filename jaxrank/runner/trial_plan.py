"""Selects the experiments that a search trains, and makes their trials."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.errors import UserError
from jaxrank.experiments.few_pairs import adapt_to_pairs, automatic_keys
from jaxrank.experiments.hyperparameters import (
    ALL_BLOCKS,
    Experiment,
    choose_names,
    read_experiments,
    resolve_blocks,
)
from jaxrank.inference.saved_model import Model
from jaxrank.planning.trials import Trial, make_trials
from jaxrank.runner.options import SearchOptions
from jaxrank.runner.splitting import aside_pairs
from jaxrank.runner.warm_start import begin_from

MOST_TRIALS = 100_000


def read_catalogue(
    options: SearchOptions, config: ConfigDict
) -> tuple[list[str], list[Experiment]]:
    """Names of a search's experiments, and the experiments themselves with the references."""
    # Checks the whole catalogue for typos, including experiments that do not run.
    read_experiments(config, list(config.experiments), {})
    names = choose_names(config, options.mode, options.experiments)
    return names, read_experiments(config, names, options.overrides or {})


class PlannedTrials(NamedTuple):
    """Experiments of a search and their trials; `notes`: values changed because pairs are few."""

    experiments: list[Experiment]
    skipped: dict[str, str]
    trials: list[Trial]
    start: Model | None
    notes: list[str]


def plan_trials(
    options: SearchOptions,
    config: ConfigDict,
    names: Sequence[str],
    wanted: Sequence[Experiment],
    data: SplitDataset,
) -> PlannedTrials:
    dataset = data.dataset
    resolved = [resolve_blocks(e, list(dataset.block_columns)) for e in wanted]
    resolved, notes = _with_enough_steps(resolved, config, options.overrides or {}, data)
    skipped = _skipped(resolved, wanted, dataset)
    trained_folds = _trained_folds(options.only_folds, data.num_folds)
    start = None
    if not set(names) <= set(skipped):
        of_trained = dataclasses.replace(data, splits_FM=data.splits_FM[trained_folds])
        # With split=pretrain, pairs that no fold uses are not set aside for confirmation.
        aside = aside_pairs(data) if options.confirm_share else np.empty(0, int)
        start, resolved = begin_from(options.init_from, resolved, skipped, of_trained, aside)
    trained = [e for e in resolved if e.name not in skipped]
    trials = _make_trials(trained, trained_folds, options)
    return PlannedTrials(resolved, skipped, trials, start, notes)


def _with_enough_steps(
    experiments: Sequence[Experiment],
    config: ConfigDict,
    overrides: Mapping[str, Any],
    data: SplitDataset,
) -> tuple[list[Experiment], list[str]]:
    """Adapts the experiments to the number of pairs, with a note if that changed any.

    The fewest pairs and series of any fold count. Trials of several folds share a program, and
    training more folds later must not change it.
    """
    series_M = data.dataset.series_M
    folds = range(data.num_folds)
    num_pairs = min(len(data.rows(fold, splits.TRAIN)) for fold in folds)
    validating = min(len(np.unique(series_M[data.rows(f, splits.VALIDATION)])) for f in folds)
    fitting = [
        adapt_to_pairs(e, automatic_keys(config, e.name, overrides), num_pairs, validating)
        for e in experiments
    ]
    if fitting == list(experiments):
        return fitting, []
    where = "a fold" if data.num_folds > 1 else "the split"
    return fitting, [
        f"few data: {num_pairs:,} training pairs and {validating} validation series in {where}; "
        "batch_size, max_epochs and patience follow from steps, where they are not given "
        "(config.json has them; a patience of 0 trains max_epochs without early stopping)"
    ]


def _trained_folds(only_folds: Sequence[int], num_folds: int) -> list[int]:
    outside = [fold for fold in only_folds if not 0 <= fold < num_folds]
    if outside:
        raise UserError(f"--only_folds: there is no fold {outside[0]}; folds count from 0")
    return sorted(set(only_folds)) or list(range(num_folds))


def _make_trials(
    trained: Sequence[Experiment], folds: Sequence[int], options: SearchOptions
) -> list[Trial]:
    refuse_many_trials(len(trained) * len(folds) * options.num_seeds, options)
    return make_trials(trained, folds, options.seed, options.num_seeds)


def refuse_many_trials(num_trials: int, options: SearchOptions) -> None:
    """Raises a UserError for more trials than one search may have."""
    if num_trials <= MOST_TRIALS:
        return
    where, advice = f"--num_seeds={options.num_seeds}", ""
    if options.space is not None:
        where = f"--space with {where}"
        advice = "; give its lists fewer values, or a smaller --num_experiments"
    raise UserError(
        f"{where}: {num_trials:,} trials are more than one search may have ({MOST_TRIALS:,})"
        + advice
    )


def _skipped(
    resolved: Sequence[Experiment], wanted: Sequence[Experiment], dataset: Dataset
) -> dict[str, str]:
    """Reason for each experiment that can't be trained, by name."""
    known = list(dataset.block_columns)
    has = ",".join(known)
    skipped = {}
    for e, as_written in zip(resolved, wanted, strict=True):
        missing = [b for b in e.blocks if b not in known]
        missing += [b for b in as_written.l2_blocks if b not in (*known, ALL_BLOCKS)]
        if missing:
            skipped[e.name] = f"the features have no block '{missing[0]}' (blocks: {has})"
        elif not e.blocks:
            skipped[e.name] = f"no block is left to read (blocks: {has})"
        elif e.use_layernorm and len(dataset.column_indices(e.blocks)) < 3:
            skipped[e.name] = "use_layernorm leaves nothing of fewer than 3 columns"
    return skipped
