"""Prepares a search: reads, checks and splits the data, and plans the training."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
from ml_collections import ConfigDict

from jaxrank import baselines, devices
from jaxrank.configs import SELECTED_ON, default
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align, content_hash
from jaxrank.data.inputs import (
    IN_MEMORY,
    SIMULATED,
    FeaturesInput,
    Inputs,
    PairsInput,
    block_caveats,
    load_inputs,
)
from jaxrank.devices import DeviceSpec
from jaxrank.errors import UserError
from jaxrank.experiments.config_files import check_config, make_config
from jaxrank.experiments.hyperparameters import (
    Experiment,
)
from jaxrank.experiments.rungs import check_rungs, read_rungs, without_references
from jaxrank.inference.saved_model import Model
from jaxrank.io.remote import is_url
from jaxrank.machine import memory_bytes
from jaxrank.planning import costs, host_memory, planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.runner.option_checks import check_names, check_options
from jaxrank.runner.options import (
    SearchKeywords,
    SearchOptions,
    make_options,
    with_options,
)
from jaxrank.runner.splitting import aside_pairs, set_aside, split_data
from jaxrank.runner.trial_plan import plan_trials, read_catalogue
from jaxrank.training.jax_settings import require_usable_jax
from jaxrank.training.state import InitialWeights

SELECTED_HERE = (
    "the configuration was selected on these data by an earlier search: its accuracy here may be "
    "too high"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSummary:
    """Description of the data, for the log and the files.

    Attributes:
      pairs, features: sources of the pairs and of the features.
      simulated: whether the data are the embedded simulated data.
      caveats: what a reader of any result must know.
      sha256: hash of the data, see `dataset.content_hash`.
      pairs_used, pairs_with_direction, series, photos: counts.
      blocks: number of columns of each block.
      notes: sentences on what was left out of the tables, and on the split.
    """

    pairs: str
    features: str
    simulated: bool
    caveats: list[str]
    sha256: str
    pairs_used: int
    pairs_with_direction: int
    series: int
    photos: int
    blocks: dict[str, int]
    notes: list[str]

    def with_caveat(self, caveat: str) -> "DataSummary":
        """Returns a copy with one more caveat, before the others."""
        return dataclasses.replace(self, caveats=[caveat, *self.caveats])


class Prepared(NamedTuple):
    """A search that is ready to run.

    Attributes:
      split_data: the aligned pairs and their splits.
      data: description of the data.
      experiments: all experiments, with their blocks resolved; the references come last.
      skipped: reason for each experiment that can't be trained, by name.
      trials: trials of the experiments that are not skipped, in the order of the tables.
      cohorts: the planned cohorts.
      profile: device profile that the plan was made with.
      ceiling_scores_N: for simulated data, the best possible score of each photo.
      start: saved model that all experiments except the references begin from.
      device: device that the plan is for.
      launch: options as stored in plan.json; with them, `prepare` returns the same again.
    """

    split_data: SplitDataset
    data: DataSummary
    experiments: list[Experiment]
    skipped: dict[str, str]
    trials: list[Trial]
    cohorts: list[Cohort]
    profile: costs.DeviceProfile
    ceiling_scores_N: np.ndarray | None
    start: Model | None
    device: DeviceSpec
    launch: dict[str, Any]

    @property
    def dataset(self) -> Dataset:
        return self.split_data.dataset

    @property
    def host_memory(self) -> host_memory.HostMemory:
        """Predicted memory of the host."""
        return host_memory.predict(self.dataset, self.cohorts)

    @property
    def cohort_limit(self) -> int:
        """Bytes of the device's memory that one cohort may take."""
        return _cohort_limit(
            self.device, self.dataset, self.launch["memory_fraction"], self.profile
        )

    @property
    def initial_weights(self) -> InitialWeights | None:
        """Weights that all experiments except the references begin from; None: random weights."""
        return None if self.start is None else self.start.weights

    @property
    def trained_folds(self) -> list[int]:
        """Folds that are trained; baselines are compared on the same folds."""
        return sorted({trial.fold for trial in self.trials})


@with_options
def prepare(
    pairs: PairsInput = None,
    features: FeaturesInput = None,
    *,
    device: DeviceSpec | None = None,
    has_plan: bool = False,
    **options: Unpack[SearchKeywords],
) -> Prepared:
    """Reads and checks the inputs of a search, and plans it; writes no file.

    Args:
      pairs, features: see `runner.search.search`.
      device: kind and memory of the devices that train; by default those of this process.
      has_plan: whether the search has been planned before, so that the memory was checked. The
        trials of all its rounds together may need more than each round.
      **options: see `SearchOptions`.
    """
    require_usable_jax()
    device = devices.spec() if device is None else device
    chosen = make_options(options)
    check_options(chosen)
    config = (
        default.get_config() if chosen.config is None else check_config(chosen.config, "config")
    )
    names, wanted = read_catalogue(chosen, config)

    inputs = load_inputs(pairs, features, chosen.reading)
    dataset = align(inputs.pairs, inputs.features)
    data, split_notes = split_data(inputs.pairs.table, dataset, chosen)
    if chosen.confirm_share:
        data = set_aside(data, chosen.confirm_share, chosen.split_seed)
        num_aside = len(np.unique(dataset.series_M[aside_pairs(data)]))
        split_notes = [*split_notes, f"{num_aside:,} series are set aside to confirm the choice"]

    check_names(chosen, names, dataset)
    planned = plan_trials(chosen, config, names, wanted, data)
    if set(names) <= set(planned.skipped):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in planned.skipped.items())
        raise UserError(f"nothing is left to train: {reasons}")
    given = chosen.device_profile
    profile = (
        costs.built_in_profile(device.platform) if given is None else costs.DeviceProfile(**given)
    )
    limit = _cohort_limit(device, dataset, chosen.memory_fraction, profile)
    if has_plan:
        limit = sys.maxsize
    rungs = read_rungs(chosen.rungs)
    if rungs:
        check_rungs(rungs, planned.experiments)
    cohorts = _first_cohorts(planned.trials, data, limit, profile, rungs)
    if not has_plan:
        refuse_too_much(dataset, cohorts, chosen.memory_fraction)
    best = inputs.best_score
    return Prepared(
        split_data=data,
        data=_summarise(
            inputs, dataset, chosen.split, [*split_notes, *planned.notes], config[SELECTED_ON]
        ),
        experiments=planned.experiments,
        skipped=planned.skipped,
        trials=planned.trials,
        cohorts=cohorts,
        profile=profile,
        ceiling_scores_N=None if best is None else best[dataset.photos].to_numpy(),
        start=planned.start,
        device=device,
        launch=_launch(pairs, features, inputs, chosen, config, names, profile),
    )


def refuse_too_much(dataset: Dataset, cohorts: Sequence[Cohort], memory_fraction: float) -> None:
    """Raises a UserError if cohorts need more host memory than a search may use."""
    needed = host_memory.predict(dataset, cohorts)
    host_memory.refuse_too_much(needed, dataset, memory_fraction * memory_bytes())


def with_experiments(
    prepared: Prepared, added: Mapping[str, Mapping[str, Any]], known: Sequence[Cohort]
) -> Prepared:
    """Adds experiments, by name, to a search's catalogue, and their cohorts after the others.

    The data stay the same. The new cohorts share the programs of known ones where possible.
    """
    config = prepared.launch["config"]
    catalogue = config["experiments"] | {name: dict(values) for name, values in added.items()}
    config = check_config(make_config(config | {"experiments": catalogue}), "config")
    names = [*prepared.launch["experiments"], *added]
    launch = prepared.launch | {"config": config.to_dict(), "experiments": names}
    fields = {field.name for field in dataclasses.fields(SearchOptions)}
    chosen = SearchOptions(
        **{key: value for key, value in launch.items() if key in fields} | {"config": config}
    )
    _, wanted = read_catalogue(chosen, config)
    planned = plan_trials(chosen, config, names, wanted, prepared.split_data)
    before = {trial.key for trial in prepared.trials}
    more = [trial for trial in planned.trials if trial.key not in before]
    rungs = read_rungs(chosen.rungs)
    cohorts = _first_cohorts(
        more, prepared.split_data, prepared.cohort_limit, prepared.profile, rungs, known
    )
    return prepared._replace(
        experiments=planned.experiments,
        skipped=planned.skipped,
        trials=planned.trials,
        cohorts=[*prepared.cohorts, *cohorts],
        launch=launch,
    )


def _first_cohorts(
    trials: Sequence[Trial],
    data: SplitDataset,
    limit: int,
    profile: costs.DeviceProfile,
    rungs: Sequence[int],
    known: Sequence[Cohort] = (),
) -> list[Cohort]:
    """First cohorts of the trials; cohorts of trials that take part in rungs end at the first.

    They share the programs of known cohorts where possible.
    """
    names = {e.name for e in without_references([t.experiment for t in trials])} if rungs else set()
    to_end = [trial for trial in trials if trial.experiment.name not in names]
    to_rung = [trial for trial in trials if trial.experiment.name in names]
    cohorts = []
    if to_end:
        cohorts += planner.make_cohorts(to_end, data, limit, profile, known=known)
    if to_rung:
        cohorts += planner.make_cohorts(to_rung, data, limit, profile, rungs[0], known)
    return cohorts


def _cohort_limit(
    device: DeviceSpec, dataset: Dataset, memory_fraction: float, profile: costs.DeviceProfile
) -> int:
    """Bytes of the device's memory that one cohort may take.

    On a CPU this is the host's memory, which also holds the features; see `Cohort.data_bytes`.
    """
    limit = int(device.memory * memory_fraction)
    return limit if profile.side_by_side else limit - dataset.features_ND.nbytes


def _summarise(
    inputs: Inputs, dataset: Dataset, split: str, notes: Sequence[str], selected_on: str
) -> DataSummary:
    simulated, sha256 = inputs.best_score is not None, content_hash(dataset)
    caveats = [
        *[SIMULATED] * simulated,
        splits.CAVEATS[split],
        *[SELECTED_HERE] * (selected_on == sha256),
        *block_caveats(inputs.features),
    ]
    return DataSummary(
        pairs=inputs.pairs_source,
        features=inputs.features_source,
        simulated=simulated,
        caveats=list(filter(None, caveats)),
        sha256=sha256,
        pairs_used=len(dataset.table),
        pairs_with_direction=int((dataset.preference_M != 0.5).sum()),
        series=len(dataset.series_ids),
        photos=len(dataset.photos),
        blocks={name: len(columns) for name, columns in dataset.block_columns.items()},
        notes=[*dataset.notes, *baselines.missing_notes(dataset), *notes],
    )


def _launch(
    pairs: PairsInput,
    features: FeaturesInput,
    inputs: Inputs,
    options: SearchOptions,
    config: ConfigDict,
    names: list[str],
    profile: costs.DeviceProfile,
) -> dict[str, Any]:
    """Inputs and options as stored in plan.json."""
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {
        "pairs": _absolute(pairs, inputs.pairs_source),
        "features": _absolute(features, inputs.features_source),
        **given,
        "mode": None if options.experiments else options.mode,
        "experiments": names,
        "config": config.to_dict(),
        "overrides": dict(options.overrides or {}),
        "only_folds": list(options.only_folds),
        "rungs": read_rungs(options.rungs),
        "space": None if options.space is None else dict(options.space),
        "optuna_journal": _absolute(options.optuna_journal, None),
        "series": _absolute(options.series, None if options.series is None else IN_MEMORY),
        "init_from": _absolute(options.init_from, None),
        "device_profile": dataclasses.asdict(profile),
    }


def _absolute(given: object, otherwise: Any) -> Any:
    if is_url(given):
        return given
    return str(Path(given).absolute()) if isinstance(given, str | Path) else otherwise
