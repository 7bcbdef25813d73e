"""Describes a prepared search in sentences, for the log and the screen."""

from jaxrank import devices
from jaxrank.data import splits
from jaxrank.data.inputs import SIMULATED
from jaxrank.data.preference_tables import counted
from jaxrank.machine import usable_cores
from jaxrank.planning import host_memory
from jaxrank.runner.prepare import Prepared

_SPLIT_WORDS = {
    splits.SERIES: "split by series",
    splits.OFFICIAL: "split by series, as published",
    splits.RANDOM: "split by pair",
    splits.PRETRAIN: "training series split by pair",
}


def describe(prepared: Prepared) -> list[str]:
    """Describes the data and the plan in sentences, for the log and the screen."""
    facts, num_folds = prepared.data, prepared.split_data.num_folds
    blocks = ", ".join(f"{name} ({dim})" for name, dim in facts.blocks.items())
    kind = SIMULATED if facts.simulated else f"data: {facts.pairs}"
    split = f"{num_folds} folds" if num_folds > 1 else "one split"
    trained_folds = prepared.trained_folds
    if len(trained_folds) < num_folds:
        split += f" (only {', '.join(map(str, trained_folds))} trained)"
    trials = sum(len(cohort.trials) for cohort in prepared.cohorts)
    return [
        f"{kind}: {facts.pairs_used:,} pairs ({facts.pairs_with_direction:,} with a "
        f"direction) of {facts.series:,} series, {facts.photos:,} photos, blocks {blocks}",
        *facts.notes,
        f"{_SPLIT_WORDS[prepared.launch['split']]}, {split}, split seed "
        f"{prepared.launch['split_seed']}; 'all' blocks means " + ", ".join(facts.blocks),
        *filter(None, [splits.CAVEATS[prepared.launch["split"]]]),
        *(f"skipped {name}: {reason}" for name, reason in prepared.skipped.items()),
        f"{counted(trials, 'trial')} in {counted(len(prepared.cohorts), 'cohort')} on "
        f"{prepared.device.kind}, "
        f"{usable_cores()} cores; {host_memory.describe(prepared.host_memory)}",
    ]


def describe_workers(wanted: int | None) -> str:
    """Number of devices that train, and the reason if it is less than `wanted`."""
    number = len(devices.workers(wanted))
    line = f"{number} workers" if number > 1 else "1 worker"
    if wanted is None or wanted <= number:
        return line
    return (
        f"{line}, not {wanted}: JAX has no more devices (of a CPU, set jax_num_cpu_devices before "
        "JAX begins to run)"
    )
