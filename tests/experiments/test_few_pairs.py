"""Batch size, epochs and patience follow from steps, unless they are given."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import experiment

from jaxrank.configs import default
from jaxrank.experiments import few_pairs
from jaxrank.experiments.catalogue import read_catalogue
from jaxrank.experiments.few_pairs import AUTOMATIC, adapt_to_pairs, automatic_keys

ENOUGH = few_pairs.ENOUGH_PAIRS
CATALOGUE = [experiment(batch_size=size) for size in (64, 128, 256)]


@pytest.mark.parametrize("num_pairs", [ENOUGH, ENOUGH + 1, 10_000])
def test_the_catalogue_holds_where_pairs_are_enough(num_pairs: int) -> None:
    for e in CATALOGUE:
        assert adapt_to_pairs(e, AUTOMATIC, num_pairs, few_pairs.MIN_VAL_SERIES) == e


@given(num_pairs=st.integers(1, 3 * ENOUGH), validating=st.integers(1, 10))
def test_few_pairs_take_as_many_steps_as_enough_pairs(num_pairs: int, validating: int) -> None:
    for e in CATALOGUE:
        fitting = adapt_to_pairs(e, AUTOMATIC, num_pairs, validating)
        steps = -(-num_pairs // fitting.batch_size)
        wanted = -(-ENOUGH // e.batch_size)
        total = fitting.max_epochs * steps
        assert total >= e.max_epochs * wanted
        if validating < few_pairs.MIN_VAL_SERIES:  # a number of steps, to an epoch
            assert fitting.patience == 0
            assert total < e.max_epochs * max(steps, wanted) + steps
        elif num_pairs < ENOUGH:
            assert fitting.patience * steps >= max(few_pairs.FEWEST_STEPS, e.patience * wanted)
        assert min(few_pairs.SMALLEST_BATCH, e.batch_size) <= fitting.batch_size <= e.batch_size


def test_fifty_pairs_by_hand() -> None:
    """Batches of 8: 7 steps an epoch, where 2,000 pairs have 32; 192 steps of patience are 28."""
    fitting = adapt_to_pairs(experiment(batch_size=64), AUTOMATIC, 50, 5)
    assert (fitting.batch_size, fitting.max_epochs, fitting.patience) == (8, 138, 28)


def test_values_that_are_given_stay() -> None:
    e = experiment(batch_size=64)
    for name in AUTOMATIC:
        free = [other for other in AUTOMATIC if other != name]
        for validating in (1, 10):
            fitting = adapt_to_pairs(e, free, 50, validating)
            assert getattr(fitting, name) == getattr(e, name)
            assert fitting != e
        assert adapt_to_pairs(e, [], 50, 1) == e


def test_an_override_is_given() -> None:
    config = default.get_config()
    assert automatic_keys(config, "tiny_mlp", {}) == list(AUTOMATIC)
    assert automatic_keys(config, "tiny_mlp", {"patience": 6}) == ["batch_size", "max_epochs"]
    one = {"experiments.tiny_mlp.batch_size": 128, "linear.max_epochs": 30, "dropout": 0.1}
    assert automatic_keys(config, "tiny_mlp", one) == ["max_epochs", "patience"]
    assert automatic_keys(config, "simple_mlp", one) == list(AUTOMATIC)
    assert automatic_keys(config, "linear", one | {"patience": 6}) == ["batch_size", "patience"]


def test_what_a_config_changes_is_given() -> None:
    config = default.get_config()
    config.max_epochs = 31
    config.experiments.tiny_mlp.dropout = 0.1
    config.experiments.mine = {"patience": 6}
    assert automatic_keys(config, "simple_mlp", {}) == ["batch_size", "patience"]
    assert automatic_keys(config, "tiny_mlp", {}) == ["patience"]  # its entry says batch_size
    assert automatic_keys(config, "mine", {}) == ["batch_size"]


def test_what_a_table_says_is_given_even_where_it_is_as_in_the_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "experiment_name,mlp_hidden_dims,batch_size,learning_rate,max_epochs,patience\n"
        "tiny_mlp,128,128,5e-4,30,\n"
    )
    assert automatic_keys(read_catalogue(path), "tiny_mlp", {}) == ["patience"]
