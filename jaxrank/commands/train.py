"""`train`: one configuration, as a search whose only experiment is called 'trained'."""

from typing import Any

from absl import flags
from ml_collections import ConfigDict

from jaxrank.commands.flags import define_value
from jaxrank.commands.search import (
    Config,
    define_config,
    define_training,
    options_given,
    refuse_several,
    run_search,
)
from jaxrank.commands.terminal import default_workdir
from jaxrank.configs import default
from jaxrank.errors import UserError

EXAMPLE = "--pairs=pairs.csv --features=store --mlp_hidden_dims=256,128"
# Name of the experiment, and its hyperparameters that have flags.
TRAINED = "trained"
CONFIGURATION = (
    "mlp_hidden_dims,batch_size,learning_rate,dropout,max_epochs,use_clip,use_cnn_features,"
    "use_iqa_features,use_series_sampler"
).split(",")


def define(values: flags.FlagValues, words: list[str]) -> Config:
    defaults = default.get_config()
    meanings = {
        "mlp_hidden_dims": "widths of the hidden layers, comma separated; empty is linear",
        "batch_size": "pairs in a batch",
        "learning_rate": "learning rate of the optimiser",
        "dropout": "share of units that are dropped",
        "max_epochs": "maximum number of epochs",
    }
    for name, meaning in meanings.items():
        define_value(values, name, defaults[name], meaning)
    # Enums instead of booleans: absl would parse '--use_clip false' as true.
    for name, meaning in {
        "use_clip": "read the block 'clip'",
        "use_cnn_features": "read the block 'cnn'",
        "use_iqa_features": "read the block 'iqa'",
        "use_series_sampler": "take one pair from each series in turn",
    }.items():
        flags.DEFINE_enum(
            name,
            str(defaults[name]).lower(),
            ["true", "false"],
            meaning,
            case_sensitive=False,
            flag_values=values,
        )
    define_training(
        values,
        "new folder for the results; 'search --resume --workdir=FOLDER' resumes a training that "
        "was interrupted",
    )
    for name in CONFIGURATION:
        refuse_several(words, name, defaults[name])
    return define_config(values, words, _only_trained)


def _only_trained(config: ConfigDict) -> ConfigDict:
    """Returns the config with only the experiment `trained`, which takes all typed values."""
    catalogue = {"experiments": {TRAINED: {}}, "modes": {TRAINED: (TRAINED,)}}
    return ConfigDict(config.to_dict() | catalogue)


def run(values: flags.FlagValues, config: Config) -> int:
    """Trains one configuration, and compares it with a linear scorer and baselines: a search
    whose only experiment is called 'trained'."""
    given = options_given(values, config) | {"config": config.values, "experiments": [TRAINED]}
    overrides = given.setdefault("overrides", {})
    for name in CONFIGURATION:
        if not values[name].present:
            continue
        if name in overrides:
            raise UserError(f"--{name} and --config.{name} are both given: give one of them")
        value: Any = values[name].value
        overrides[name] = value == "true" if name.startswith("use_") else value
    workdir = default_workdir("train") if values.workdir is None else values.workdir
    return run_search(given, workdir, values, resume=False, changes={})
