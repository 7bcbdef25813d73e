"""Search spaces: text and lists to values, and mistakes named with their word."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxrank.configs import default
from jaxrank.errors import UserError
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS
from jaxrank.experiments.search_space import (
    SEARCHABLE,
    Choice,
    Range,
    SearchSpace,
    parse_space,
    read_space_file,
)


def space_of(**entries: Any) -> SearchSpace:
    return parse_space(entries, default.get_config())


@pytest.mark.parametrize(
    ("key", "entry", "values"),
    [
        ("dropout", "0,0.3, 0.5", Choice((0.0, 0.3, 0.5))),
        ("dropout", [0, 0.5], Choice((0.0, 0.5))),
        ("batch_size", "32,64", Choice((32, 64))),
        ("use_layernorm", "true,FALSE", Choice((True, False))),
        ("optimizer", "adamw,sgd", Choice(("adamw", "sgd"))),
        ("mlp_hidden_dims", "256|512,256|", Choice(("256", "512,256", ""))),
        ("blocks", ["clip", "clip,iqa"], Choice(("clip", "clip,iqa"))),
        ("learning_rate", "1e-5..1e-2:log", Range(1e-5, 1e-2, log=True, whole=False)),
        ("dropout", "0.1..0.5", Range(0.1, 0.5, log=False, whole=False)),
        ("batch_size", "16..256:log", Range(16, 256, log=True, whole=True)),
        ("learning_rate", "1e-4..1e-2:log:3", Choice((1e-4, 1e-3, 1e-2))),
        ("max_epochs", "10..30:3", Choice((10, 20, 30))),
    ],
)
def test_an_entry_is_read(key: str, entry: Any, values: Choice | Range) -> None:
    (parameter,) = space_of(**{key: entry}).parameters
    assert parameter.values == values


def test_every_hyperparameter_that_is_no_label_can_be_searched() -> None:
    entries = {
        "blocks": "clip|iqa", "l2_blocks": "|clip", "input_scaling": "auto,standard",
        "mlp_hidden_dims": "8|4", "activation": "relu,gelu", "use_layernorm": "true,false",
        "dropout": "0..0.5", "batch_size": "8..64", "optimizer": "adamw,sgd",
        "learning_rate": "1e-5..1e-2:log", "weight_decay": "0,0.1", "momentum": "0.5..0.9",
        "schedule": "constant,cosine", "warmup_epochs": "0..3", "loss": "logistic,davidson",
        "margin": "0.5..2", "sampler": "random,balanced", "max_epochs": "10..30",
        "patience": "3,6", "seed": "0,1", "feature_noise": "0..1", "mixup": "0,0.2",
        "label_smoothing": "0..0.2", "precision": "highest,bfloat16",
    }  # fmt: skip
    assert sorted(entries) == sorted(SEARCHABLE)
    assert set(HYPERPARAMETERS) - set(SEARCHABLE) == {"name", "notes", "init_from"}
    parsed = parse_space(entries, default.get_config())
    assert [p.key for p in parsed.parameters] == list(entries)


def test_a_point_of_the_unit_cube_has_values() -> None:
    space = space_of(
        learning_rate="1e-4..1e-2:log", batch_size="1..3", dropout="0,0.3", weight_decay="0..0.1"
    )
    values = space.at([0.5, 0.99, 0.49, 1 / 3])
    assert values == {
        "learning_rate": 1e-3, "batch_size": 3, "dropout": 0.0, "weight_decay": 0.03333,
    }  # fmt: skip
    # Both ends of whole numbers have the same share as the others.
    drawn = [space.at([0, share, 0, 0])["batch_size"] for share in (np.arange(300) + 0.5) / 300]
    assert [drawn.count(size) for size in (1, 2, 3)] == [100, 100, 100]


def test_a_hyperparameter_follows_its_condition() -> None:
    space = space_of(momentum="0.5..0.9 if optimizer=sgd", optimizer="adamw,sgd")
    assert [p.key for p in space.parameters] == ["optimizer", "momentum"]
    assert space.at([0.0, 0.5]) == {"optimizer": "adamw"}
    assert space.at([0.9, 0.5]) == {"optimizer": "sgd", "momentum": 0.7}


def test_a_grid_has_each_combination_once() -> None:
    space = space_of(optimizer="adamw,sgd", momentum="0.5,0.9 if optimizer=sgd", dropout=[0.0, 0.5])
    assert space.is_grid
    combinations = list(space.grid())
    assert len(combinations) == 2 * (1 + 2)
    assert {"optimizer": "adamw", "dropout": 0.5} in combinations
    assert len({tuple(sorted(c.items())) for c in combinations}) == len(combinations)
    assert not space_of(dropout="0..0.5").is_grid


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"lerning_rate": "0,1"}, "--space.lerning_rate: not a hyperparameter of a space. Did "
         "you mean 'learning_rate'?"),
        ({"dropout": "0,zero"}, "--space.dropout=0,zero: 'zero' is not a number"),
        ({"dropout": "0,1.5"}, "--space.dropout=0,1.5: '1.5' must be below 1"),
        ({"dropout": "0..1"}, "--space.dropout=0..1: '1.0' must be below 1"),
        ({"batch_size": "16,1_000"}, "'1_000' is not a whole number"),
        ({"learning_rate": "1e-5..1e-2:lg"}, "'lg' is neither 'log' nor a number of values"),
        ({"learning_rate": "0..1e-2:log"}, "a :log range begins above 0, not at '0'"),
        ({"learning_rate": "1e-2..1e-5"}, "'1e-2..1e-5' is not a range"),
        ({"optimizer": "adamw,sdg"}, "'sdg' unknown. Did you mean 'sgd'?"),
        ({"mlp_hidden_dims": "256,512"}, "give at least two values; commas belong to one text"),
        ({"dropout": "0.3"}, "give at least two values; --config.KEY=VALUE sets one"),
        ({"dropout": "0,0.3,0.0"}, "'0.0' appears twice"),
        ({"use_layernorm": "true,yes"}, "'yes' is neither true nor false"),
        ({"dropout": 0.3}, "give a list of values, or text"),
        ({"dropout": [0, "a"]}, "--space.dropout=0,a: 'a' must be of type float"),
        ({"momentum": "0..0.9 if optimiser=sgd", "optimizer": "adamw,sgd"},
         "its condition names 'optimiser', which is not in the space. Did you mean 'optimizer'?"),
        ({"momentum": "0..0.9 if optimizer=sdg", "optimizer": "adamw,sgd"},
         "'optimizer' never is 'sdg'. Did you mean 'sgd'?"),
        ({"momentum": "0..0.9 if dropout=0.1", "dropout": "0..0.5"}, "which is a range, not a"),
        ({"momentum": "0..0.9 if sgd"}, "'sgd' is not a condition; write 'if KEY=VALUE'"),
        ({"momentum": "0,0.9 if dropout=0", "dropout": "0,0.1 if momentum=0"}, "are circular"),
        ({}, "--space has no hyperparameter"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parse_space(entries, default.get_config())


def test_a_file_gives_the_entries(tmp_path: Path) -> None:
    path = tmp_path / "space.py"
    path.write_text("def get_space():\n    return {'dropout': [0, 0.3]}\n")
    assert read_space_file(str(path)) == {"dropout": [0, 0.3]}
    path.write_text("def get_space():\n    return [1]\n")
    with pytest.raises(UserError, match="must return a dict"):
        read_space_file(str(path))
    path.write_text("def space():\n    return {}\n")
    with pytest.raises(UserError, match=r"the file defines no get_space\(\)"):
        read_space_file(str(path))
    with pytest.raises(UserError, match=r"--space=.*none\.py: there is no such file"):
        read_space_file(str(tmp_path / "none.py"))
