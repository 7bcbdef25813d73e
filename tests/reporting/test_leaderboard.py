"""What a search concludes agrees with its tables."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_data import make_data

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
    compared = summary.drop(["shuffled", "position"])
    for part in ("val", "test"):
        for bound, sign in (("low", 1), ("high", -1)):
            inside = sign * (summary[f"{part}_accuracy"] - summary[f"{part}_ci_{bound}"])
            assert (inside >= 0).all()
    # The control and the position are measured, and compared with nothing.
    differences = [column for column in INTERVAL_COLUMNS if "diff" in column or "best" in column]
    assert summary.loc[["shuffled", "position"], differences].isna().all(axis=None)
    rule = summary.loc["sharpness"]
    assert rule["diff_to_sharpness"] == 0
    apart = compared["test_accuracy"] - rule["test_accuracy"]
    np.testing.assert_allclose(compared["diff_to_sharpness"], apart, atol=1e-12)
    assert compared["share_first"].sum() == pytest.approx(1)
    assert compared.loc[compared["test_accuracy"].idxmax(), "tied_for_best"]
    assert not compared.loc["chance", "tied_for_best"]


def test_the_table_ends_in_a_paragraph_to_act_on(searched: Any) -> None:
    text = (searched.workdir / "leaderboard.txt").read_text()
    results = json.loads((searched.workdir / "results.json").read_text())
    chosen = results["conclusions"]["chosen"]
    against = ("Better than the strongest", "Better than chance (", "No experiment is shown")
    best = f"Best of 3 candidates (the reference linear is one): {chosen}"
    for beginning in (against, best, "The best may be ", "In brackets", "Power: ",
                      f"{chosen} agrees with", "As probabilities"):  # fmt: skip
        (line,) = (line for line in searched.notes if line.startswith(beginning))
        assert line in text
    assert searched.caveats == []  # the labels are linked, few as they are
    for name in ("leaderboard.png", "reliability.png"):
        assert (searched.workdir / name).read_bytes().startswith(b"\x89PNG")


def test_a_search_on_an_official_split_advises_no_folds(tmp_path: Path) -> None:
    pairs, store = make_data(60)
    number_M = pairs.table["series_id"].astype(int)
    table = pairs.table.assign(official_split=np.where(number_M < 40, "train", "val"))
    found = {
        split: jaxrank.search(
            table, store, experiments=["iqa_only"], split=split, audit="off",
            overrides={"max_epochs": 2}, workdir=tmp_path / split,
        )
        for split in ("official", "series")
    }  # fmt: skip
    for split, advised in (("official", False), ("series", True)):
        warning = [n for n in found[split].notes if n.startswith("WARNING: the choice among")]
        assert len(warning) == 1
        assert ("--folds" in warning[0]) == advised
        page = (tmp_path / split / "leaderboard.txt").read_text()
        assert ("--folds" in page) == advised


def test_tables_of_the_page_are_in_percent_and_at_most_80_columns_wide(searched: Any) -> None:
    page = (searched.workdir / "leaderboard.txt").read_text()
    titled = page.split("\n\n")
    tables = [block for _, block in itertools.pairwise(titled) if "\n" in block]
    names = [table.split()[0] for table in tables]
    assert names == ["name", "name", "name", "name", "strength", "alone", "column"]
    assert all(len(line) <= 80 for table in tables for line in table.splitlines())
    facts = json.loads((searched.workdir / "results.json").read_text())["conclusions"]
    row = facts["by_strength"][0]
    assert row["pairs_with_direction"] <= row["pairs"]
    shares = ("accuracy", "accuracy_error", "agreement", "agreement_ceiling", "way_to_ceiling")
    cells = [str(row["pairs"]), str(row["pairs_with_direction"]), str(row["series"])]
    cells += [f"{100 * row[name]:.1f}" for name in shares]
    assert tables[4].splitlines()[1].split() == ["all", *cells]


def test_the_chosen_experiment_has_its_mistakes_and_categories(searched: Any) -> None:
    facts = json.loads((searched.workdir / "results.json").read_text())["conclusions"]
    summary = searched.summary.set_index("experiment_name")
    trained = summary.loc[["tiny_mlp", "iqa_only", "linear"]]
    assert facts["chosen"] == trained["test_accuracy"].idxmax()  # with folds, by all test pairs
    errors = pd.read_csv(searched.workdir / "errors.csv")
    assert set(errors["kind"]) == {"pair", "series"}
    wrong = errors[errors["kind"] == "pair"]
    assert ((wrong["predicted"] > 0.5) != (wrong["preference"] > 0.5)).all()
    assert {(row["column"], row["category"]) for row in facts["categories"]} == {
        ("scene", "street"), ("scene", "=beach")
    }  # fmt: skip
    by_strength = {row["strength"]: row for row in facts["by_strength"]}
    accuracy = summary.loc[facts["chosen"], "test_accuracy"]
    assert by_strength["all"]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert facts["ceilings"]["num_pairs"] == 328


def test_one_accuracy_to_the_digit_in_every_file(searched: Any) -> None:
    """Pooled over pairs: folds differ in size, so a mean over folds would be another number."""
    summary = searched.summary.set_index("experiment_name")
    folder = searched.workdir
    page = (folder / "leaderboard.txt").read_text()
    results = json.loads((folder / "results.json").read_text())
    table = pd.read_csv(folder / "summary.csv").set_index("experiment_name")
    for name in ("tiny_mlp", "iqa_only", "linear"):
        pairs = pd.read_csv(folder / name / "predictions.csv")
        tested = pairs[(pairs["split"] == "test") & pairs["correct"].notna()]
        pooled = summary.loc[name, "test_accuracy"]
        assert pooled == pytest.approx(tested["correct"].mean(), abs=1e-12)
        weight = (2 * tested["preference"] - 1).abs()
        weighted = (tested["correct"] * weight).sum() / weight.sum()
        assert summary.loc[name, "test_weighted_accuracy"] == pytest.approx(weighted, abs=1e-5)
        row = next(r for r in results["summary"] if r["experiment_name"] == name)
        own = json.loads((folder / name / "test_results.json").read_text())
        assert row["test_accuracy"] == own["test_accuracy"] == pooled
        assert table.loc[name, "test_accuracy"] == pooled
        assert re.search(rf"\b{name} .*\b{100 * pooled:.1f} ", page)
    trials = searched.trials.groupby("experiment_name")["test_accuracy"].mean()
    assert trials["tiny_mlp"] != summary.loc["tiny_mlp", "test_accuracy"]
    assert f"{100 * summary.loc[results['conclusions']['chosen'], 'test_accuracy']:.1f}%" in page


def test_the_file_of_comparisons_has_every_family(searched: Any) -> None:
    rows = pd.read_csv(searched.workdir / "comparisons.csv")
    summary = searched.summary.set_index("experiment_name")
    assert set(rows["family"]) == {"baseline", "chance", "sharpness", "best", "all pairs"}
    to_chance = rows[rows["family"] == "chance"].set_index("name")
    for name in ("tiny_mlp", "linear"):
        assert to_chance.loc[name, "ci_low"] == summary.loc[name, "chance_ci_low"]
        difference = summary.loc[name, "test_accuracy"] - 0.5
        assert to_chance.loc[name, "difference"] == pytest.approx(difference)
    pairs = rows[rows["family"] == "all pairs"]
    entries = set(pairs["name"]) | set(pairs["against"])
    assert len(pairs) == len(entries) * (len(entries) - 1) / 2


def test_few_test_series_have_no_intervals(small_data: SmallData, tmp_path: Any) -> None:
    result = jaxrank.search(
        *small_data, experiments=["iqa_only"], overrides={"max_epochs": 1}, workdir=tmp_path / "w"
    )
    assert result.summary[["test_ci_low", "diff_ci_low", "share_first"]].isna().all(axis=None)
    assert any(line.startswith("Only 6 series test") for line in result.notes)
    page = (result.workdir / "leaderboard.txt").read_text()
    assert not re.search(r"\b(nan|inf)\b", page, re.IGNORECASE)
