"""What a search concludes agrees with its tables."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxrank
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.reporting.summary import INTERVAL_COLUMNS

SmallData = tuple[Preferences, dict[str, Block]]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Any:
    pairs, store = small_data
    table = pairs.table.assign(scene=np.where(np.arange(len(pairs.table)) % 3, "street", "=beach"))
    return jaxrank.search(
        table, store, experiments=["tiny_mlp", "iqa_only"], folds=3, num_seeds=2,
        overrides={"batch_size": 16, "learning_rate": 5e-3, "max_epochs": 6},
        workdir=tmp_path_factory.mktemp("concluded") / "w",
    )  # fmt: skip


def test_intervals_hold_their_means(searched: Any) -> None:
    summary = searched.summary.set_index("experiment_name")
    compared = summary.drop("shuffled")
    for part in ("val", "test"):
        # Folds differ in size by a pair or two, so the mean of the table is nearly that of pairs.
        assert (compared[f"{part}_ci_low"] <= compared[f"{part}_accuracy"] + 1e-9).all()
        assert (compared[f"{part}_accuracy"] <= compared[f"{part}_ci_high"] + 1e-9).all()
    assert summary.loc["shuffled", INTERVAL_COLUMNS].isna().all()
    assert compared.notna()[INTERVAL_COLUMNS].all(axis=None)  # baselines have intervals, too
    rule = summary.loc["sharpness"]
    assert rule["diff_to_sharpness"] == 0
    apart = compared["test_accuracy"] - rule["test_accuracy"]
    np.testing.assert_allclose(compared["diff_to_sharpness"], apart, atol=0.02)
    assert compared["share_first"].sum() == pytest.approx(1)
    assert compared.loc[compared["test_accuracy"].idxmax(), "tied_for_best"]
    assert not compared.loc["chance", "tied_for_best"]


def test_the_table_ends_in_a_paragraph_to_act_on(searched: Any) -> None:
    text = (searched.workdir / "leaderboard.txt").read_text()
    results = json.loads((searched.workdir / "results.json").read_text())
    chosen = results["conclusions"]["chosen"]
    against = ("Better than the baseline 'sharpness'", "No experiment is shown to be better")
    for beginning in (against, "Highest on the test pairs",
                      "Share of resamples ranked first", "Chosen by validation",
                      "A true difference of 3 points", f"{chosen} agrees with",
                      "As probabilities"):  # fmt: skip
        (line,) = (line for line in searched.notes if line.startswith(beginning))
        assert line in text
    assert searched.caveats == []  # the labels are linked, few as they are
    for name in ("leaderboard.png", "reliability.png"):
        assert (searched.workdir / name).read_bytes().startswith(b"\x89PNG")


def test_the_chosen_experiment_has_its_mistakes_and_categories(searched: Any) -> None:
    facts = json.loads((searched.workdir / "results.json").read_text())["conclusions"]
    summary = searched.summary.set_index("experiment_name")
    trained = summary.loc[["tiny_mlp", "iqa_only", "linear"]]
    assert trained.loc[facts["chosen"], "val_accuracy"] == pytest.approx(
        trained["val_accuracy"].max(), abs=0.01
    )
    errors = pd.read_csv(searched.workdir / "errors.csv")
    assert set(errors["kind"]) == {"pair", "series"}
    wrong = errors[errors["kind"] == "pair"]
    assert ((wrong["predicted"] > 0.5) != (wrong["preference"] > 0.5)).all()
    assert {(row["column"], row["category"]) for row in facts["categories"]} == {
        ("scene", "street"), ("scene", "=beach")
    }  # fmt: skip
    by_strength = {row["strength"]: row for row in facts["by_strength"]}
    assert by_strength["all"]["accuracy"] == pytest.approx(
        summary.loc[facts["chosen"], "test_accuracy"], abs=0.02
    )
    assert facts["ceilings"]["num_pairs"] == 328


def test_few_test_series_have_no_intervals(small_data: SmallData, tmp_path: Any) -> None:
    result = jaxrank.search(
        *small_data, experiments=["iqa_only"], overrides={"max_epochs": 1}, workdir=tmp_path / "w"
    )
    assert result.summary[["test_ci_low", "diff_ci_low", "share_first"]].isna().all(axis=None)
    assert any(line.startswith("Only 6 series test") for line in result.notes)
    page = (result.workdir / "leaderboard.txt").read_text()
    assert not re.search(r"\b(nan|inf)\b", page, re.IGNORECASE)
