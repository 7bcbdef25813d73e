"""The options of a search: one list for Python, type checkers, flags and plan.json."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from absl import flags

import jaxrank
from jaxrank.commands import audit, search
from jaxrank.errors import UserError
from jaxrank.runner import prepare
from jaxrank.runner.options import FLAGS, SearchKeywords, SearchOptions


def test_the_keywords_of_type_checkers_are_the_options() -> None:
    names = {"pd": pd}  # which the module imports for type checkers only
    keywords = typing.get_type_hints(SearchKeywords, localns=names)
    assert keywords == typing.get_type_hints(SearchOptions, localns=names)
    assert not SearchKeywords.__required_keys__


@pytest.mark.parametrize("function", [jaxrank.search, prepare.prepare])
def test_help_shows_every_option_with_its_default(function: Callable[..., Any]) -> None:
    shown = inspect.signature(function).parameters
    defaults = {field.name: field.default for field in dataclasses.fields(SearchOptions)}
    assert {name: shown[name].default for name in defaults} == defaults
    assert not [p for p in shown.values() if p.kind is p.VAR_KEYWORD]


def test_flags_have_the_defaults_of_python() -> None:
    values = flags.FlagValues()
    search.define(values, ["search"])
    python = inspect.signature(jaxrank.search).parameters
    for name in (*FLAGS, "mode", "save_budget", "audit", "audit_seconds", "resume", "extend"):
        assert values[name].value == python[name].default, name
    values = flags.FlagValues()
    audit.define(values, ["audit"])
    python = inspect.signature(jaxrank.audit_data).parameters
    assert values["audit_seconds"].value == python["max_seconds"].default


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxrank.search(num_seed=3),  # type: ignore[call-arg]
         "search has no option 'num_seed'. Did you mean 'num_seeds'?"),
        (lambda: jaxrank.search(work_dir="w"),  # type: ignore[call-arg]
         "search has no option 'work_dir'. Did you mean 'workdir'?"),
        (lambda: prepare.prepare(fold=3),  # type: ignore[call-arg]
         "prepare has no option 'fold'. Did you mean 'folds'?"),
        (lambda: jaxrank.evaluate_model("m", min_reviewer=3),  # type: ignore[call-arg]
         "evaluate_model has no option 'min_reviewer'. Did you mean 'min_reviewers'?"),
        (lambda: jaxrank.rank_photos("m", serie="s.csv"),  # type: ignore[call-arg]
         "rank_photos has no option 'serie'. Did you mean 'series'?"),
        (lambda: jaxrank.audit_data("p", "f", seconds=3),  # type: ignore[call-arg]
         "audit_data has no option 'seconds'. Did you mean 'max_seconds'?"),
    ],
)  # fmt: skip
def test_an_unknown_keyword_names_the_nearest(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value) == message
