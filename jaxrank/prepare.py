"""Everything that a search needs before it trains: data read and checked, split, planned."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrank import baselines
from jaxrank.configs import REFERENCES, default
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, align, content_hash
from jaxrank.data.inputs import SIMULATED, FeaturesInput, PairsInput, block_caveats, load_inputs
from jaxrank.errors import UserError
from jaxrank.experiments.config_files import check_config
from jaxrank.experiments.hyperparameters import (
    ALL_BLOCKS,
    Experiment,
    choose_names,
    read_experiments,
    resolve_blocks,
)
from jaxrank.inference.saved_model import SEEN, Model, load_model
from jaxrank.planning import costs, planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial, make_trials
from jaxrank.training.state import InitialWeights

MOST_TRIALS = 100_000
# Half: other programs, and what a prediction of memory leaves out, need the rest.
MEMORY_FRACTION = 0.5
_SPLIT_WORDS = {
    splits.SERIES: "split by series",
    splits.OFFICIAL: "split by series, as published",
    splits.RANDOM: "split by pair",
    splits.PRETRAIN: "training series split by pair",
}


class Prepared(NamedTuple):
    """A search that is ready to run.

    Attributes:
      dataset, parts: the aligned pairs and, int8 [F, M], the part of every pair in every fold.
      data_facts: what the data are, for the log and the files.
      experiments: all, with their blocks resolved; the references are the last.
      skipped: by experiment, why it can't be trained.
      trials: of the experiments that are not skipped, in the order of the tables.
      cohorts: the plan.
      profile: that it was made with.
      ceiling_scores_N: for simulated data, the best possible score of each photo.
      start: the model that the experiments, but for the references, begin from.
      launch: the options: with them, `prepare` gives the same again.
    """

    dataset: Dataset
    parts: np.ndarray
    data_facts: dict[str, Any]
    experiments: list[Experiment]
    skipped: dict[str, str]
    trials: list[Trial]
    cohorts: list[Cohort]
    profile: costs.DeviceProfile
    ceiling_scores_N: np.ndarray | None
    start: Model | None
    launch: dict[str, Any]

    @property
    def initial_weights(self) -> InitialWeights | None:
        """What the experiments, but for the references, begin from; None: at random."""
        return None if self.start is None else self.start.weights

    @property
    def trained_folds(self) -> list[int]:
        """Rules are compared on the same ones."""
        return sorted({trial.fold for trial in self.trials})


def prepare(
    pairs: PairsInput = None,
    features: FeaturesInput = None,
    *,
    mode: str = "quick",
    experiments: Sequence[str] | str = (),
    config: ConfigDict | None = None,
    overrides: Mapping[str, Any] | None = None,
    split: str = splits.SERIES,
    folds: int = 0,
    only_folds: Sequence[int] = (),
    num_seeds: int = 1,
    seed: int = 0,
    split_seed: int = splits.SPLIT_SEED,
    photo_name: str | None = None,
    min_agreement: float | None = None,
    min_reviewers: int | None = None,
    init_from: Path | str | None = None,
    memory_fraction: float = MEMORY_FRACTION,
    profile: Mapping[str, Any] | None = None,
) -> Prepared:
    """Reads and checks everything that a search needs, and plans it; writes nothing.

    Args:
      pairs, features: see `conductor.search`.
      mode: a list of experiments in the config.
      experiments: names from the catalogue, instead of a mode.
      config: as configs/default.py returns it, which is the default.
      overrides: hyperparameters of this launch; see `hyperparameters.read_experiments`.
      split: see `splits.split_pairs`.
      folds: 0 for one 80/10/10 split, or K >= 3.
      only_folds: train these folds, which count from 0; by default all.
      num_seeds: trials of each experiment and fold; their seeds are seed, seed + 1, ...
      seed: of training only.
      split_seed: of the split only.
      photo_name, min_agreement, min_reviewers: see `preferences.read_preferences`.
      init_from: a saved model's folder; every experiment but the references begins from it.
      memory_fraction: the share of the device's memory that one cohort may take.
      profile: of the machine, as `read_calibration` returns them; by default those built in.
    """
    reading = {
        "photo_name": photo_name,
        "min_agreement": min_agreement,
        "min_reviewers": min_reviewers,
    }
    if num_seeds < 1 or seed < 0 or split_seed < 0:
        raise UserError(
            f"num_seeds={num_seeds}, seed={seed}, split_seed={split_seed}: at least one seed is "
            "needed, and none may be negative"
        )
    if not 0 < memory_fraction <= 1:
        raise UserError(f"--memory_fraction={memory_fraction:g} is not a share above 0, up to 1")
    config = default.get_config() if config is None else check_config(config, "config")
    read_experiments(config, list(config.experiments), {})  # also those that do not run: no typos
    names = choose_names(config, mode, experiments)
    wanted = read_experiments(config, names, overrides or {})

    checked, store, source, best_scores = load_inputs(pairs, features, reading)
    dataset = align(checked, store)
    # The pair table is split, not what the features leave of it: another block in the store must
    # not move a series to another part.
    whole = splits.split_pairs(checked.table, split, folds=folds, split_seed=split_seed)
    parts = whole[:, dataset.kept_M]
    _check_parts(dataset, parts)

    rules = baselines.heuristic_scores(dataset)
    for name in names:
        if name in rules:
            raise UserError(f"experiment '{name}' has the name of a rule in the table; rename it")
    resolved = [resolve_blocks(e, list(dataset.block_columns)) for e in wanted]
    skipped = _skipped(resolved, wanted, dataset)
    trained = [e for e in resolved if e.name not in skipped]
    if set(names) <= set(skipped):
        raise UserError(
            "nothing is left to train: "
            + "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        )
    outside = [fold for fold in only_folds if not 0 <= fold < len(parts)]
    if outside:
        raise UserError(f"--only_folds: there is no fold {outside[0]}; folds count from 0")
    trained_folds = sorted(set(only_folds)) or list(range(len(parts)))
    start = None
    if init_from is not None:
        start = load_model(init_from)
        _check_start(start, init_from, trained, dataset, parts[trained_folds])
        resolved, trained = (
            [
                e if e.name in REFERENCES else dataclasses.replace(e, init_from=start.digest)
                for e in es
            ]
            for es in (resolved, trained)
        )
    num_trials = len(trained) * len(trained_folds) * num_seeds
    if num_trials > MOST_TRIALS:
        raise UserError(
            f"--num_seeds={num_seeds}: {num_trials:,} trials are more than one search may have "
            f"({MOST_TRIALS:,})"
        )
    trials = make_trials(trained, trained_folds, seed, num_seeds)
    planned_with = costs.built_in_profile() if profile is None else costs.DeviceProfile(**profile)
    limit = memory_limit(memory_fraction)
    cohorts = planner.make_cohorts(trials, dataset, parts, limit, planned_with)
    directed = int((dataset.preference_M != 0.5).sum())
    facts = source | {
        "simulated": best_scores is not None,
        "caveats": [SIMULATED] * (best_scores is not None)
        + list(filter(None, [splits.CAVEATS[split], *block_caveats(store)])),
        "sha256": content_hash(dataset),
        "pairs_used": len(dataset.table),
        "pairs_with_direction": directed,
        "series": len(dataset.series_ids),
        "photos": len(dataset.photos),
        "blocks": {name: len(columns) for name, columns in dataset.block_columns.items()},
        "notes": list(dataset.notes),
    }
    launch = {
        "mode": None if experiments else mode,
        "experiments": names,
        "pairs": _absolute(pairs, source["pairs"]),
        "features": _absolute(features, source["features"]),
        "config": config.to_dict(),
        "overrides": dict(overrides or {}),
        "split": split,
        "folds": folds,
        "only_folds": list(only_folds),
        "num_seeds": num_seeds,
        "seed": seed,
        "split_seed": split_seed,
        **reading,
        "init_from": None if init_from is None else str(Path(init_from).absolute()),
        "memory_fraction": memory_fraction,
        "profile": dataclasses.asdict(planned_with),
    }
    ceiling = None if best_scores is None else best_scores[dataset.photos].to_numpy()
    return Prepared(
        dataset,
        parts,
        facts,
        resolved,
        skipped,
        trials,
        cohorts,
        planned_with,
        ceiling,
        start,
        launch,
    )


def _absolute(given: object, otherwise: str) -> str:
    return str(Path(given).absolute()) if isinstance(given, str | Path) else otherwise


def _check_parts(dataset: Dataset, parts: np.ndarray) -> None:
    """Every part of every fold needs a pair that can be right or wrong."""
    directed = dataset.preference_M != 0.5
    if not directed.any():
        raise UserError("every preference is exactly 0.5: no pair says which photo is better")
    for fold in range(len(parts)):
        for part in splits.MEASURED:
            name = splits.PART_NAMES[part]
            if not directed[splits.fold_rows(parts, fold, part)].any():
                raise UserError(
                    f"fold {fold} has no {name} pair with features and a preference other than "
                    f"0.5; {len(dataset.series_ids)} series with features do not fill this split"
                )


def _skipped(
    resolved: Sequence[Experiment], wanted: Sequence[Experiment], dataset: Dataset
) -> dict[str, str]:
    """By experiment, why it can't be trained."""
    known = list(dataset.block_columns)
    has = ",".join(known)
    skipped = {}
    for e, as_written in zip(resolved, wanted, strict=True):
        missing = [b for b in e.blocks if b not in known]
        missing += [b for b in as_written.l2_blocks if b not in (*known, ALL_BLOCKS)]
        if missing:
            skipped[e.name] = f"the feature store has no block '{missing[0]}' (it has {has})"
        elif not e.blocks:
            skipped[e.name] = f"no block is left to read (the feature store has {has})"
        elif e.use_layernorm and len(dataset.column_indices(e.blocks)) < 3:
            skipped[e.name] = "use_layernorm leaves nothing of fewer than 3 columns"
    return skipped


def _check_start(
    start: Model,
    folder: Path | str,
    experiments: Sequence[Experiment],
    dataset: Dataset,
    parts: np.ndarray,
) -> None:
    """Refuses to begin from a model of another shape, or from one that knows the answers."""
    for e in experiments:
        if e.name in REFERENCES:
            continue
        shape = {
            "mlp_hidden_dims": list(e.mlp_hidden_dims),
            "activation": e.activation,
            "use_layernorm": e.use_layernorm,
            "l2_blocks": list(e.l2_blocks),
        }
        for key, value in shape.items():
            if start.description[key] != value:
                raise UserError(
                    f"--init_from={folder}: the model has {key}={start.description[key]}, but "
                    f"experiment '{e.name}' has {value}; give it the same {key}"
                )
        if start.block_columns != {name: dataset.block_columns[name] for name in e.blocks}:
            raise UserError(
                f"--init_from={folder}: experiment '{e.name}' does not read the columns that the "
                f"model reads (blocks {','.join(start.block_columns)})"
            )
        recipes = start.description.get("recipes", {})
        for name in {*e.blocks} & {*recipes} & {*dataset.recipes}:
            if recipes[name] != dataset.recipes[name]:
                raise UserError(
                    f"--init_from={folder}: block '{name}' was not made as the one that the model "
                    "was trained on"
                )
    train, val = (start.seen[how] for how in SEEN)
    for part, known in ((splits.TEST, train | val), (splits.VALIDATION, train)):
        photos = dataset.photos[np.unique(dataset.pair_rows_M2[(parts == part).any(axis=0)])]
        leaked = [photo for photo in photos if photo in known]
        if leaked:
            raise UserError(
                f"--init_from={folder}: the model has seen {len(leaked):,} of the "
                f"{len(photos):,} {splits.PART_NAMES[part]} photos, such as '{leaked[0]}'; "
                "pretrain with --split=pretrain and the same --split_seed and --folds"
                + (", with --only_folds=K in both" if len(parts) > 1 else "")
            )


def memory_limit(fraction: float = MEMORY_FRACTION) -> int:
    """Bytes that one cohort may take: a share of the accelerator's memory or of the machine's.

    Of the size that was built in, never of what is free now: a plan must not depend on the hour.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(total * fraction)


def describe(prepared: Prepared) -> list[str]:
    """The data and the plan in sentences, for the log and the screen."""
    facts, num_folds = prepared.data_facts, len(prepared.parts)
    blocks = ", ".join(f"{name} ({dim})" for name, dim in facts["blocks"].items())
    kind = SIMULATED if facts["simulated"] else f"data: {facts['pairs']}"
    split = f"{num_folds} folds" if num_folds > 1 else "one split"
    trained_folds = sorted({trial.fold for trial in prepared.trials})
    if len(trained_folds) < num_folds:
        split += f" (only {', '.join(map(str, trained_folds))} trained)"
    trials = sum(len(cohort.trials) for cohort in prepared.cohorts)
    device = jax.local_devices()[0]
    size = prepared.dataset.features_ND.nbytes / 2**20
    return [
        f"{kind}: {facts['pairs_used']:,} pairs ({facts['pairs_with_direction']:,} with a "
        f"direction) of {facts['series']:,} series, {facts['photos']:,} photos, blocks {blocks}",
        *facts["notes"],
        f"{_SPLIT_WORDS[prepared.launch['split']]}, {split}, split seed "
        f"{prepared.launch['split_seed']}; 'all' blocks means " + ", ".join(facts["blocks"]),
        *filter(None, [splits.CAVEATS[prepared.launch["split"]]]),
        *(f"skipped {name}: {reason}" for name, reason in prepared.skipped.items()),
        f"{trials} trials in {len(prepared.cohorts)} cohorts on {device.device_kind}, "
        f"{os.cpu_count()} cores; {size:,.0f} MiB of features",
    ]
