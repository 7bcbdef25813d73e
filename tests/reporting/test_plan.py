"""The plan of `--dry_run`."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from jaxrank.configs import default
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS, read_experiments
from jaxrank.reporting.console import _PLAN_COLUMNS, _PLAN_ELSEWHERE, _unusual, _why


@pytest.mark.parametrize("key", [*HYPERPARAMETERS])
def test_every_hyperparameter_that_is_not_the_default_is_shown(key: str) -> None:
    """Also one that is new: no list names them all."""
    usual = read_experiments(default.get_config(), ["simple_mlp"], {})[0]
    assert _unusual(usual) == ""
    value = getattr(usual, key)
    others = [word for word in HYPERPARAMETERS[key].choices if word != value]
    changed = others[0] if others else ("clip", "iqa") if isinstance(value, tuple) else 3
    changes: dict[str, Any] = {key: changed}
    shown = _unusual(dataclasses.replace(usual, **changes))
    if key in (*_PLAN_COLUMNS, *_PLAN_ELSEWHERE):
        assert shown == ""
    else:
        text = "clip,iqa" if isinstance(changed, tuple) else changed
        assert shown == f"{key}={text}"


def test_a_note_names_the_first_of_many_padded_experiments() -> None:
    names = [f"c{number:03}" for number in range(400)]
    cohort: Any = SimpleNamespace(
        padded=names, program_key=SimpleNamespace(mlp_hidden_dims=(512, 256)), ends=None
    )
    note = _why(cohort)
    assert note.startswith("c000, c001, ")
    assert note.endswith(" and 392 more padded to 512,256: cheaper than compiling apart")
    assert len(note) < 120


def test_a_note_says_that_a_cohort_is_planned_to_its_rung() -> None:
    """Its time is that of the first rung, and not of the whole search."""
    cohort: Any = SimpleNamespace(padded=[], ends=3)
    assert _why(cohort) == "up to the rung at epoch 3; further cohorts are planned there"
    assert _why(SimpleNamespace(padded=[], ends=None)) == ""  # type: ignore[arg-type]
