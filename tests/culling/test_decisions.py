"""Picks, alternates, rejects: by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from jaxrank.culling.decisions import (
    ALTERNATE,
    PICK,
    REJECT,
    UNDECIDED,
    decide,
    is_ours,
    label_of,
    reasons,
)


def ranked(*rows: tuple[str, bool, float, bool | None], **numbers: list[float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["series_id", "pick", "p_best", "keep"])
    return table.astype({"keep": "boolean"}).assign(**numbers)


SURE_AND_NOT = ranked(
    ("1", True, 0.8, True),
    ("1", False, 0.15, True),
    ("1", False, 0.05, False),
    ("2", True, 0.4, True),
    ("2", False, 0.35, True),
    ("2", False, 0.25, False),
)


def test_only_a_sure_series_has_a_pick() -> None:
    assert decide(SURE_AND_NOT, 0.8).tolist() == [
        *(PICK, ALTERNATE, REJECT),
        *(UNDECIDED, UNDECIDED, REJECT),
    ]
    assert decide(SURE_AND_NOT, 0.3).tolist()[3:] == [PICK, ALTERNATE, REJECT]
    assert PICK not in set(decide(SURE_AND_NOT, math.inf))


def test_a_baseline_picks_the_first_and_a_model_worse_than_chance_nothing() -> None:
    table = ranked(("1", True, math.nan, None), ("1", False, math.nan, None))
    assert decide(table, math.inf, has_model=False).tolist() == [PICK, UNDECIDED]
    table = ranked(("1", True, math.nan, True), ("1", False, math.nan, False))
    assert decide(table, 0.1).tolist() == [UNDECIDED, UNDECIDED]


def test_what_cull_wrote_is_told_from_a_persons_marks() -> None:
    assert is_ours(5, label_of(PICK))
    assert is_ours(-1, label_of(REJECT))
    for rating, label in ((4, label_of(PICK)), (5, ""), (5, "Red"), (None, label_of(PICK))):
        assert not is_ours(rating, label)


def test_reasons_are_the_largest_differences_to_the_first() -> None:
    table = ranked(
        ("1", True, 0.8, True),
        ("1", False, 0.15, True),
        ("2", True, 0.5, True),
        ("2", False, 0.5, True),
        sharpness=[0.9, 0.5, 0.40, 0.39],
        exposure=[0.5, 0.6, 0.5, 0.5],
        noise=[1.0, 1.0, math.nan, 1.0],
    )
    first, second, *same = reasons(table, ["sharpness", "exposure", "noise"])
    assert first == "worse exposed by 10 points of 100, sharper by a factor of 1.49 than the next"
    assert second == (
        "better exposed by 10 points of 100, less sharp by a factor of 1.49 than the first"
    )
    assert same == ["", ""]
    alone = reasons(table.iloc[:1], ["sharpness"])
    assert alone.tolist() == [""]
    assert not np.isnan(table["sharpness"]).any()


def test_badly_blurred_photos_do_not_hide_the_difference_that_made_the_pick() -> None:
    rows = [("1", True, 0.6, True), ("1", False, 0.3, True), ("1", False, 0.1, True)]
    sharpness = [np.log(1000), np.log(500), np.log(1.001)]
    table = ranked(*rows, sharpness=sharpness, exposure=[0.8, 0.8, 0.9])
    first, second, _ = reasons(table, ["sharpness", "exposure"])
    assert first == "sharper by a factor of 2 than the next"
    assert second == "less sharp by a factor of 2 than the first"


@pytest.mark.parametrize(
    ("column", "difference", "is_classic", "reason"),
    [
        ("sharpness", np.log(99), False, "sharper by a factor of 99 than the next"),
        ("sharpness", np.log(101), False, "sharper by a factor over 100 than the next"),
        # Variances of 3 and 0: the factor is of 1 + the variance.
        ("sharpness", np.log1p(3) - np.log1p(0), False, "sharper by a factor of 4 than the next"),
        ("sharpness", -20.0, False, "less sharp by a factor over 100 than the next"),
        ("sharpness", 0.0412, True, "sharper by 4.1 points of 100 than the next"),
        ("exposure", 1.0, False, "better exposed by 100 points of 100 than the next"),
        ("colorfulness", 21.6, False, "more colourful by 22 points than the next"),
    ],
)
def test_reasons_have_units(column: str, difference: float, is_classic: bool, reason: str) -> None:
    table = ranked(("1", True, 0.8, True), ("1", False, 0.2, True), **{column: [difference, 0.0]})
    first, _ = reasons(table, [column], is_classic=is_classic)
    assert first == reason
