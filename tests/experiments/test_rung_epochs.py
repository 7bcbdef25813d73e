"""The epochs of --rungs."""

from typing import Any

import pytest
from small_data import experiment

from jaxrank.errors import UserError
from jaxrank.experiments.rungs import check_rungs, read_rungs, without_references


def test_rungs_are_typed_or_given() -> None:
    assert read_rungs(" 1, 3,9 ") == read_rungs([1, 3, 9]) == read_rungs((1, 3, 9)) == [1, 3, 9]
    assert read_rungs("") == read_rungs([]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("3,1", "--rungs=3,1: give increasing numbers of epochs"),
        ([0, 1], "--rungs=0,1: give increasing numbers of epochs"),
        ("1,1", "--rungs=1,1: give increasing numbers of epochs"),
        ("1,x", "--rungs=1,x: not whole numbers of epochs"),
        ([1.5], "--rungs=1.5: not whole numbers of epochs"),
    ],
)
def test_other_words_are_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_rungs(given)


def test_some_rung_is_below_the_last_epoch() -> None:
    mine = [experiment("a", max_epochs=8), experiment("b", max_epochs=4)]
    reference = experiment("linear", max_epochs=100)
    assert [e.name for e in without_references([*mine, reference])] == ["a", "b"]
    check_rungs([7, 9], [*mine, reference])
    with pytest.raises(UserError, match="--rungs=8,9: none is below max_epochs=8"):
        check_rungs([8, 9], [*mine, reference])
