"""The answer of a search with a space: its configuration, its outcomes, what mattered."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_data import experiment, make_data

import jaxrank
from jaxrank.configs import default
from jaxrank.errors import UserError
from jaxrank.experiments.config_files import load_config
from jaxrank.reporting.best_config import BEST_CONFIG_JSON, BEST_CONFIG_PY
from jaxrank.reporting.hyperparameter_effects import differing, followed, level_names
from jaxrank.reporting.summary import SUMMARY_COLUMNS
from jaxrank.runner import rounds
from jaxrank.runner.prepare import SELECTED_HERE, prepare

SPACE = {"learning_rate": [3e-4, 3e-2], "weight_decay": [0.0, 0.1], "schedule": "constant,cosine"}
DATA = make_data(100)
# Few pairs: what follows from steps must follow again from the configuration.
SMALL: dict[str, Any] = {
    "overrides": {"max_epochs": 3, "mlp_hidden_dims": "8", "activation": "tanh"}
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("answer") / "w"
    return jaxrank.search(*DATA, space=SPACE, audit="off", workdir=folder, **SMALL)


@pytest.mark.parametrize("name", [BEST_CONFIG_PY, BEST_CONFIG_JSON])
def test_the_configuration_trains_what_was_selected(searched: Any, name: str) -> None:
    selected = searched.summary.set_index("experiment_name")["outcome"]
    (name_there,) = selected[selected == "selected"].index
    assert name_there.startswith("e0")
    (there,) = (e for e in searched.experiments if e["name"] == name_there)
    config = load_config(str(searched.workdir / name))
    here, *references = prepare(*DATA, config=config).experiments
    assert here.name == f"best_{name_there}"
    assert dataclasses.asdict(here) | {"name": name_there} == there
    # The references do not take the values of the experiment.
    assert [dataclasses.asdict(e) for e in references] == searched.experiments[-2:]


@pytest.mark.parametrize("name", [BEST_CONFIG_PY, BEST_CONFIG_JSON])
def test_the_data_that_selected_a_configuration_are_recognised(searched: Any, name: str) -> None:
    config = load_config(str(searched.workdir / name))
    assert SELECTED_HERE in prepare(*DATA, config=config).data.caveats
    assert SELECTED_HERE in prepare(*DATA, config=config, folds=3).data.caveats
    assert SELECTED_HERE not in prepare(*make_data(99), config=config).data.caveats
    assert SELECTED_HERE not in searched.caveats


def test_a_search_by_the_configuration_warns_in_its_tables(searched: Any, tmp_path: Path) -> None:
    config = load_config(str(searched.workdir / BEST_CONFIG_PY))
    again = jaxrank.search(*DATA, config=config, audit="off", workdir=tmp_path / "w")
    assert SELECTED_HERE in (tmp_path / "w" / "leaderboard.txt").read_text()
    assert again.summary["notes"].str.contains(SELECTED_HERE, regex=False).all()
    # Also after other experiments were added, from a configuration that knows nothing of it.
    wider = jaxrank.search(
        *DATA, config=default.get_config(), overrides=SMALL["overrides"], experiments=["tiny_mlp"],
        audit="off", workdir=tmp_path / "w", resume=True, extend=True,
    )  # fmt: skip
    assert SELECTED_HERE in wider.caveats


@pytest.mark.parametrize("name", [BEST_CONFIG_PY, BEST_CONFIG_JSON])
def test_another_search_has_a_space_around_the_configuration(searched: Any, name: str) -> None:
    config = load_config(str(searched.workdir / name))
    given, _ = rounds.begin({"config": config, "space": {"dropout": [0.0, 0.5]}})
    first, second, *references = prepare(*DATA, **given).experiments
    assert (first.name, first.dropout, second.dropout) == ("e0001", 0.0, 0.5)
    assert first.activation == second.activation == "tanh"
    assert [dataclasses.asdict(e) for e in references] == searched.experiments[-2:]


def test_the_summary_has_what_differs_and_why_each_ended(searched: Any) -> None:
    summary = searched.summary.set_index("experiment_name")
    assert list(searched.summary.columns) == [*SUMMARY_COLUMNS, "weight_decay", "schedule"]
    assert summary.loc["e0008", "schedule"] == "cosine"
    mine = summary.loc[[f"e{number:04d}" for number in range(1, 9)], "outcome"]
    assert mine.str.fullmatch(r"(selected|(tied|worse) \([+-]\d+\.\d points\))").all()
    assert (summary["outcome"] == "selected").sum() == 1
    read = pd.read_csv(searched.workdir / "summary.csv")
    assert list(read.columns) == list(searched.summary.columns)
    again = jaxrank.search(*DATA, workdir=searched.workdir, resume=True)
    pd.testing.assert_frame_equal(again.summary, searched.summary, check_dtype=False)


def test_the_effects_are_those_of_the_table(searched: Any) -> None:
    effects = pd.read_csv(searched.workdir / "effects.csv")
    assert effects["key"].drop_duplicates().tolist() == [
        "learning_rate",
        "weight_decay",
        "schedule",
    ]
    rows = searched.summary[searched.summary["experiment_name"].str.match("e0")]
    for key, group in effects.groupby("key"):
        means = rows["val_accuracy"].groupby(rows[key].map(str))
        for _, effect in group.iterrows():
            # A whole grid: the mean of the experiments with a value is its expectation.
            level = effect["level"] if key == "schedule" else str(float(effect["level"]))
            mine = means.get_group(level)
            assert effect["accuracy"] == pytest.approx(mine.mean(), abs=1e-6)
            assert effect["num_experiments"] == len(mine) == 4
            assert effect["low"] <= effect["difference"] <= effect["high"]
    (note,) = (note for note in searched.notes if "is noise" in note)
    assert note.startswith("Of the variance among 8 experiments, at least ")
    assert note in (searched.workdir / "leaderboard.txt").read_text()
    facts = json.loads((searched.workdir / "results.json").read_text())["conclusions"]
    assert set(facts["explained"]) == set(effects["key"])
    assert sum(one["share"] for one in facts["ped_anova"].values()) == pytest.approx(1)
    assert 0 <= facts["noise_share"] <= 1


def test_a_choice_on_few_series_is_warned_of(searched: Any) -> None:
    (warning,) = (note for note in searched.notes if note.startswith("WARNING: the choice"))
    assert "among 9 experiments rests on 10 series" in warning


def test_numbers_of_many_values_are_grouped() -> None:
    numbers = [float(n) for n in np.geomspace(1, 128, 8)]
    assert level_names(numbers) == [
        *["1 to 2"] * 2, *["4 to 8"] * 2, *["16 to 32"] * 2, *["64 to 128"] * 2,
    ]  # fmt: skip
    assert level_names([1, 2, None, 1]) == ["1", "2", None, "1"]
    assert level_names([True, False]) == ["yes", "no"]
    assert level_names(["", "8,4"]) == ["-", "8,4"]


def test_what_varies_with_another_hyperparameter_is_not_estimated(tmp_path: Path) -> None:
    """With few pairs, patience follows from the batch size."""
    space = SPACE | {"batch_size": [8, 256]}
    del space["schedule"]
    result = jaxrank.search(*DATA, space=space, audit="off", workdir=tmp_path / "w", **SMALL)
    assert len({e["patience"] for e in result.experiments if e["name"].startswith("e0")}) == 2
    effects = pd.read_csv(tmp_path / "w" / "effects.csv")
    assert set(effects["key"]) == {"learning_rate", "weight_decay", "batch_size"}
    assert "Not estimated: patience, which varies with batch_size." in result.notes


def test_what_is_confounded_varies_with_the_first() -> None:
    values: dict[str, list[Any]] = {
        "batch_size": [8, 8, 16, 32, 64], "learning_rate": [0.1, 0.1, 0.2, 0.3, 0.4],
        "max_epochs": [40, 40, 30, 30, 30], "patience": [6, 7, 7, 7, 7],
    }  # fmt: skip
    assert followed(values) == {"learning_rate": "batch_size", "max_epochs": "batch_size"}
    alone = {key: values[key] for key in ("learning_rate", "max_epochs")}
    assert followed(alone) == {}


def test_what_means_nothing_is_not_compared() -> None:
    experiments = [
        experiment("a", optimizer="adamw", momentum=0.5),
        experiment("b", optimizer="sgd", momentum=0.6, seed=3),
        experiment("c", optimizer="sgd", momentum=0.9, notes="n"),
    ]
    assert differing(experiments) == {
        "optimizer": ["adamw", "sgd", "sgd"], "momentum": [None, 0.6, 0.9],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not an object of keys and values"),
        ("{", "can't be read"),
        ('{"droput": 0.3}', "unknown key 'droput'. Did you mean 'dropout'"),
        ('{"dropout": "much"}', "it must be of type float"),
    ],
)
def test_a_damaged_configuration_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(str(path))
