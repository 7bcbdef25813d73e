"""Few pairs: `max_epochs`, `patience` and `batch_size` derived from a number of steps.

The catalogue's values are for thousands of pairs. Fewer pairs make fewer steps per epoch, and
weights then stay near their initial values. So an experiment on fewer pairs takes as many steps as
on ENOUGH_PAIRS.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxrank.configs import REFERENCES, default
from jaxrank.experiments.config_files import key_parts
from jaxrank.experiments.hyperparameters import Experiment

# Hyperparameters derived from the number of steps, unless they are set explicitly.
AUTOMATIC = ("batch_size", "max_epochs", "patience")
# With so many training pairs an epoch has enough steps: 8 of the catalogue's largest batches.
ENOUGH_PAIRS = 2_000
SMALLEST_BATCH = 8
# Early stopping selects the best of many epochs. With fewer validation series, chance decides: a
# series of 28 pairs leaves the accuracy of an epoch uncertain by 10 points and more.
MIN_VAL_SERIES = 5
# With fewer steps, early stopping judges the initial weights, not training.
FEWEST_STEPS = 100


def automatic_keys(config: ConfigDict, name: str, overrides: Mapping[str, Any]) -> list[str]:
    """The hyperparameters of AUTOMATIC that are not set explicitly for an experiment.

    A hyperparameter is set explicitly by

    - an override;
    - a value of the config that differs from configs/default.py;
    - the experiment's entry of the catalogue, if the entry differs from configs/default.py. This
      holds for every new experiment in a catalogue from a table.

    Args:
      config: a checked config.
      name: name of an experiment of the config's catalogue, or of a reference.
      overrides: see `hyperparameters.read_experiments`.
    """
    usual = default.get_config()
    own = config if name in REFERENCES else config.experiments
    others = usual if name in REFERENCES else usual.experiments
    given = {key for key in AUTOMATIC if config[key] != usual[key]}
    if name not in others or own[name].to_dict() != others[name].to_dict():
        given |= set(own[name])
    for path in overrides:
        *group, key = key_parts(path)
        if group[-1:] == [name] or (not group and name not in REFERENCES):
            given.add(key)
    return [key for key in AUTOMATIC if key not in given]


def adapt_to_pairs(
    experiment: Experiment, free: Collection[str], num_pairs: int, num_val_series: int
) -> Experiment:
    """Adapts an experiment to the number of pairs; returns it unchanged if there are enough.

    Args:
      experiment: an experiment with the catalogue's values.
      free: names of the hyperparameters that may change, see `automatic_keys`.
      num_pairs: training pairs of the fold that has fewest.
      num_val_series: validation series of the fold that has fewest. Below MIN_VAL_SERIES, a
        fixed number of steps is trained without early stopping, which `patience` 0 means.
    """
    few = num_pairs < ENOUGH_PAIRS
    stops_early = num_val_series >= MIN_VAL_SERIES or "patience" not in free
    if stops_early and not few:
        return experiment
    wanted = -(-ENOUGH_PAIRS // experiment.batch_size)  # steps per epoch
    values = {name: getattr(experiment, name) for name in AUTOMATIC}
    if few and "batch_size" in free:
        least = min(SMALLEST_BATCH, experiment.batch_size)
        values["batch_size"] = max(least, experiment.batch_size * num_pairs // ENOUGH_PAIRS)
    steps = -(-num_pairs // values["batch_size"])
    if "max_epochs" in free:
        least = experiment.max_epochs if few else 1
        values["max_epochs"] = max(least, -(-experiment.max_epochs * wanted // steps))
    if "patience" in free:
        patience = -(-max(experiment.patience * wanted, FEWEST_STEPS) // steps)
        values["patience"] = patience if stops_early else 0
    return dataclasses.replace(experiment, **values)
