"""What the tables say of probabilities."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_data import make_data

import jaxrank
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


@pytest.mark.parametrize(
    ("votes", "words"),
    [
        (None, "it is not known how often people disagree"),
        (1, "it is not known how often people disagree"),
        (4, "every preference is 0, 1 or a tie, although pairs have several votes"),
    ],
)
def test_why_there_is_no_ceiling_depends_on_the_votes(
    tmp_path: Path, votes: int | None, words: str
) -> None:
    pairs, store = make_data(60)
    table = pairs.table.assign(preference=pairs.table["preference"].round())
    if votes is not None:
        table = table.assign(votes=votes)
    done = jaxrank.search(
        pairs._replace(table=table), store, workdir=tmp_path / "w", experiments=["tiny_mlp"],
        overrides={"max_epochs": 1}, audit="off",
    )  # fmt: skip
    (line,) = [note for note in done.notes if note.startswith("No ceiling")]
    assert words in line
