import dataclasses
from typing import Any

import numpy as np
import pytest

from jaxrank.configs import default
from jaxrank.errors import UserError
from jaxrank.experiments.config_files import make_config
from jaxrank.experiments.hyperparameters import (
    Experiment,
    check_name,
    choose_names,
    read_experiments,
)

# The catalogue as it was asked for: dims, batch size, learning rate, blocks, dropout.
CATALOGUE = {
    "baseline": ((512, 256), 64, 1e-4, "all", 0.3),
    "simple_mlp": ((256,), 64, 1e-4, "all", 0.3),
    "tiny_mlp": ((128,), 128, 5e-4, "all", 0.3),
    "clip_only": ((256,), 128, 5e-4, "clip", 0.3),
    "cnn_only": ((256,), 128, 5e-4, "cnn", 0.3),
    "iqa_only": ((32,), 256, 1e-3, "iqa", 0.3),
    "high_dropout": ((512, 256), 64, 1e-4, "all", 0.5),
    "larger_batches": ((256,), 256, 1e-3, "all", 0.3),
    "high_lr": ((256,), 128, 1e-3, "all", 0.3),
    "low_lr": ((256,), 128, 5e-5, "all", 0.3),
}


def read(overrides: dict[str, Any], names: tuple[str, ...] = ("tiny_mlp",)) -> list[Experiment]:
    return read_experiments(default.get_config(), names, overrides)


def test_the_catalogue_is_the_stated_one() -> None:
    *experiments, linear, shuffled = read({}, tuple(CATALOGUE))
    assert {e.name: (e.mlp_hidden_dims, e.batch_size, e.learning_rate, e.blocks[0], e.dropout)
            for e in experiments} == CATALOGUE  # fmt: skip
    for e in experiments:
        assert (e.max_epochs, e.patience, e.weight_decay) == (30, 6, 1e-4)
        assert (e.loss, e.margin, e.sampler) == ("margin_ranking", 1.0, "random")
    assert (linear.name, linear.mlp_hidden_dims, linear.blocks) == ("linear", (), ("all",))
    tiny = next(e for e in experiments if e.name == "tiny_mlp")
    same = dataclasses.replace(tiny, name="shuffled", notes=shuffled.notes)
    assert shuffled == same  # they share a program
    assert [e.name for e in (*experiments, linear, shuffled) if e.is_control] == ["shuffled"]


def test_the_modes_are_the_stated_ones() -> None:
    config = default.get_config()
    assert choose_names(config, "quick", ()) == ["simple_mlp", "tiny_mlp", "clip_only"]
    assert choose_names(config, "regularization", ()) == [
        "high_dropout", "larger_batches", "tiny_mlp"]  # fmt: skip
    assert choose_names(config, "features", ()) == ["clip_only", "cnn_only", "iqa_only"]
    assert choose_names(config, "learning_rate", ()) == ["simple_mlp", "high_lr", "low_lr"]
    assert choose_names(config, "full", ()) == list(CATALOGUE)
    assert choose_names(config, "quick", ["low_lr", "low_lr"]) == ["low_lr"]


def test_an_override_beats_the_catalogue_and_leaves_the_reference_alone() -> None:
    tiny, linear, _ = read({"learning_rate": 1, "max_epochs": np.int64(2)})
    assert (tiny.learning_rate, tiny.max_epochs) == (1.0, 2)
    assert isinstance(tiny.learning_rate, float)
    assert linear == read({})[-2]


def test_an_override_of_one_experiment_beats_that_of_all() -> None:
    overrides = {
        "experiments.tiny_mlp.dropout": 0.1,
        "dropout": 0.2,
        "linear.max_epochs": 3,
    }
    tiny, simple, linear, _ = read(overrides, ("tiny_mlp", "simple_mlp"))
    assert (tiny.dropout, simple.dropout, linear.dropout) == (0.1, 0.2, 0.0)
    assert (tiny.max_epochs, linear.max_epochs) == (30, 3)
    with pytest.raises(UserError, match="not among the experiments to run"):
        read({"experiments.high_lr.dropout": 0.1})
    with pytest.raises(UserError, match="write KEY, experiments"):
        read({"modes.quick": "x"})


def test_the_series_sampler_flag_is_the_balanced_sampler() -> None:
    assert read({"use_series_sampler": True})[0].sampler == "balanced"
    assert read({"use_series_sampler": True, "sampler": "balanced"})[0].sampler == "balanced"
    with pytest.raises(UserError, match="give one of them"):
        read({"use_series_sampler": True, "sampler": "random"})


@pytest.mark.parametrize("dims", ["", " ", "7", "512, 256"])
def test_hidden_sizes_are_read_from_text(dims: str) -> None:
    expected = tuple(int(d) for d in dims.split(",")) if dims.strip() else ()
    assert read({"mlp_hidden_dims": dims})[0].mlp_hidden_dims == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", 0.0, "must be above 0"),
        ("learning_rate", float("nan"), "finite number"),
        ("learning_rate", float("inf"), "finite number"),
        ("learning_rate", -1.0, "not negative"),
        ("learning_rate", "fast", "of type float"),
        ("dropout", 1.0, "below 1"),
        ("dropout", 0.99999999, "below 1"),
        ("dropout", -0.1, "not negative"),
        ("weight_decay", -1e-9, "not negative"),
        ("margin", float("inf"), "finite"),
        ("batch_size", 0, "from 1 up"),
        ("batch_size", 2.5, "of type int"),
        ("batch_size", True, "of type int"),
        ("max_epochs", 0, "from 1 up"),
        ("patience", -3, "from 1 up"),
        ("loss", "hinge", "Known: davidson, logistic, margin_ranking"),
        ("sampler", "ballanced", "Did you mean 'balanced'"),
        ("mlp_hidden_dims", "12,x", "whole numbers"),
        ("mlp_hidden_dims", "0", "whole numbers"),
        ("mlp_hidden_dims", "9" * 5000, "whole numbers"),
        ("blocks", "", "at least one block"),
        ("blocks", "all,iqa", "'all' alone"),
        ("use_series_sampler", "yes", "of type bool"),
        ("lerning_rate", 1.0, "unknown key 'lerning_rate'. Did you mean 'learning_rate'"),
    ],
)
def test_a_wrong_value_names_experiment_key_and_what_it_must_be(
    key: str, value: Any, message: str
) -> None:
    with pytest.raises(UserError) as error:
        read({key: value})
    assert "experiment 'tiny_mlp'" in str(error.value)
    assert key in str(error.value)
    assert message in str(error.value)


def test_unknown_experiments_and_modes_name_the_nearest() -> None:
    config = default.get_config()
    with pytest.raises(UserError, match="Did you mean 'tiny_mlp'"):
        choose_names(config, "quick", ["tiny_mpl"])
    with pytest.raises(UserError, match="Did you mean 'quick'"):
        choose_names(config, "qick", ())


@pytest.mark.parametrize(
    "name", ["", "a/b", "a b", "=1+1", "-x", "x" * 101, ".x", "..", "x.", "x/../y", "x\n"]
)
def test_an_experiments_name_is_a_safe_name_of_a_folder(name: str) -> None:
    config = default.get_config()
    values = config.to_dict()
    values["experiments"][name] = {}
    with pytest.raises(UserError, match="use letters, digits"):
        read_experiments(make_config(values), [name], {})


@pytest.mark.parametrize("name", ["v1.5", "a..b", "x", "1e-3", "0.1", "x.csvs"])
def test_an_experiments_name_may_hold_dots(name: str) -> None:
    config = default.get_config()
    config.experiments[name] = {"dropout": 0.25}
    overrides = {"dropout": 0.5, f"experiments.{name}.margin": 0.125}
    found, *_ = read_experiments(config, [name], overrides)
    assert (found.name, found.dropout, found.margin) == (name, 0.5, 0.125)


@pytest.mark.parametrize("name", ["summary.csv", "Plan.JSON", "checkpoints"])
def test_an_experiments_name_is_not_that_of_a_file_of_the_search(name: str) -> None:
    with pytest.raises(UserError, match=r"a suffix of the search's own files|is taken"):
        check_name(name)


def test_experiments_are_frozen_and_hashable() -> None:
    first, second = read({})[0], read({})[0]
    assert hash(first) == hash(second)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "other"  # type: ignore[misc]
