"""What the tables say of probabilities."""

import numpy as np
import pandas as pd
import pytest

from jaxrank.reporting.agreement import with_probability_note

SUMMARY = pd.DataFrame({"experiment_name": ["a", "b", "c"], "notes": ["", "simulated", ""]})


@pytest.mark.parametrize(
    ("chosen", "log_loss", "notes"),
    [
        ("a", 0.872, ["log loss 0.872", "simulated", ""]),
        ("b", 0.872, ["", "simulated; probabilities worse than chance (log loss 0.872", ""]),
        ("b", 0.693, ["", "simulated", ""]),
        ("b", np.nan, ["", "simulated", ""]),
        (None, None, ["", "simulated", ""]),
    ],
)
def test_the_selected_row_says_where_its_log_loss_is_above_chance(
    chosen: str | None, log_loss: float | None, notes: list[str]
) -> None:
    facts = {} if chosen is None else {"chosen": chosen, "reliability": {"log_loss": log_loss}}
    found = with_probability_note(SUMMARY, facts)["notes"].tolist()
    for note, expected in zip(found, notes, strict=True):
        assert expected in note
        assert bool(note) == bool(expected)
        assert ("worse than chance" in note) == ("log loss" in expected)
