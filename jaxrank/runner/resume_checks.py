"""Checks that a launch continues a recorded search, and reports the first difference."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxrank import devices
from jaxrank.configs import SELECTED_ON
from jaxrank.data.inputs import EMBEDDED, IN_MEMORY
from jaxrank.errors import UserError
from jaxrank.experiments.config_files import check_config, make_config
from jaxrank.experiments.hyperparameters import choose_names
from jaxrank.runner.manifest import Manifest, as_json, cohorts_of, record_without_cohorts
from jaxrank.runner.prepare import Prepared


def resumed_options(record: Manifest, given: Mapping[str, Any], *, extend: bool) -> dict[str, Any]:
    """Options of `prepare` for a resumed search: the record's, updated by the given options.

    With `extend`, the experiments given are added to those of the search. `check_same` checks
    whether the options fit the search: it compares their effect.
    """
    options = {key: value for key, value in record.launch.items() if key != "mode"}
    for key in ("pairs", "features", "series"):
        if options.get(key) == IN_MEMORY and key not in given:
            raise UserError(f"the {key} of this search were in memory: pass them again")
        if options.get(key) == EMBEDDED:
            options[key] = None
    options |= given
    options["overrides"] = record.launch["overrides"] | dict(given.get("overrides", {}))
    options["config"] = check_config(
        given.get("config", make_config(record.launch["config"])), "config"
    )
    # What was selected on these data stays so, also if the rest comes from another configuration.
    if record.launch["config"].get(SELECTED_ON) == record.data:
        options["config"][SELECTED_ON] = record.data
    if record.rounds:  # the order of its entries is that of the proposals
        options["space"] = record.launch["space"]
    if extend or record.rounds:  # another catalogue may lack experiments of the search
        for name in record.launch["experiments"]:
            if name not in options["config"].experiments:
                changes = record.launch["config"]["experiments"][name]
                options["config"].experiments[name] = changes
    if "mode" in given or "experiments" in given:
        asked = choose_names(
            options["config"], options.pop("mode", "quick"), given.get("experiments", ())
        )
        known = record.launch["experiments"]
        options["experiments"] = [name for name in known if extend or name in asked]
        options["experiments"] += [name for name in asked if name not in known]
    return options


def check_same(folder: Path, record: Manifest, prepared: Prepared, *, extend: bool) -> None:
    """Raises an error if a launch is not the search of the record.

    Args:
      folder: folder of the search.
      record: record of the search.
      prepared: the prepared launch.
      extend: whether the launch may have more experiments and trials.

    Raises:
      UserError: the launch differs; the message has the first difference.
    """
    _refuse(folder, _other_search(record, prepared, extend))


def check_machine(folder: Path, record: Manifest, prepared: Prepared) -> None:
    """Raises an error if package versions or the kind of device differ from the record.

    Training would give other bits.

    Raises:
      UserError: the machine differs; the message has the first difference.
    """
    _refuse(folder, _other_machine(record, record_without_cohorts(prepared)))


def _refuse(folder: Path, differences: Iterator[str]) -> None:
    for difference in differences:
        raise UserError(
            f"{folder}: can't resume this search: {difference}; name a new --workdir for "
            "another search"
        )


def _other_search(record: Manifest, prepared: Prepared, extend: bool) -> Iterator[str]:
    now = record_without_cohorts(prepared)
    if now.data != record.data:
        yield "the pairs or features are not the same as when it was begun"
    if now.folds != record.folds:
        yield "it has another split (--split, --folds, --split_seed, --confirm_share)"
    known = {experiment["name"]: experiment for experiment in record.experiments}
    asked = {experiment["name"]: experiment for experiment in now.experiments}
    for name, old in known.items():
        if name not in asked:
            yield f"it has an experiment '{name}', which this launch lacks"
        for key, value in old.items():
            if asked[name][key] != value:
                here = asked[name][key]
                yield f"{key} of experiment '{name}' is {value!r} there and {here!r} here"
    for name in asked:
        if name not in known and not extend:
            yield f"it has no experiment '{name}' (--extend adds it)"
    there, here = set(record.trials), {trial.key for trial in prepared.trials}
    for name, fold, seed in sorted(there - here):
        yield f"it has fold {fold} and seed {seed} of '{name}', which this launch lacks"
    for name, fold, seed in sorted(here - there):
        if not extend:
            yield f"it has no fold {fold} and seed {seed} of '{name}' (--extend adds them)"
    if now.launch["device_profile"] != record.launch["device_profile"]:
        yield "it was planned with another --device_profile"
    cohorts = cohorts_of(record.cohorts, prepared)
    for planned in record.cohorts:
        older = {"num_slots": planned.num_slots}  # a record of an older version lacks it
        if as_json(cohorts[planned.number].program) != older | planned.program:
            yield f"cohort {planned.number} is planned differently"


def _other_machine(record: Manifest, now: Manifest) -> Iterator[str]:
    for package, version in record.versions.items():
        if now.versions[package] != version:
            yield (
                f"it was begun with {package} {version}, and this is {now.versions[package]}: "
                f"install {package}=={version}"
            )
    if not devices.is_kind(now.device, record.device):
        yield f"it was begun on '{record.device}', and this is '{now.device}'"
