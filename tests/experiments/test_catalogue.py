"""Catalogues in tables: from cells to experiments, and from a file to a search."""

import json
import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
from bad_bytes import nearly, told_or_done
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from jaxrank import train
from jaxrank.cli import main
from jaxrank.configs import CATALOGUE_KEYS, default
from jaxrank.errors import UserError
from jaxrank.experiments.catalogue import COLUMNS, MODE, read_catalogue
from jaxrank.experiments.hyperparameters import Experiment, read_experiments
from jaxrank.inference.saved_model import load_model

HEADER = "experiment_name,mlp_hidden_dims,batch_size,learning_rate,max_epochs"
# Every column, with values that are not the config's.
WHOLE = {
    "experiment_name": "whole",
    "mlp_hidden_dims": "48,16",
    "batch_size": "32",
    "learning_rate": "2e-3",
    "max_epochs": "3",
    "dropout": "0.125",
    "use_clip": "false",
    "use_cnn_features": "TRUE",
    "use_iqa_features": "False",
    "use_series_sampler": "true",
    "input_scaling": "normal_scores",
    "sampler": "balanced",
    "loss": "davidson",
    "margin": "0.5",
    "weight_decay": "0",
    "optimizer": "sgd",
    "momentum": ".5",
    "activation": "gelu",
    "use_layernorm": "true",
    "seed": "11",
    "notes": "=mine",
    "blocks": "all",
    "l2_blocks": "clip",
    "schedule": "cosine",
    "warmup_epochs": "1.5",
    "patience": "9",
    "precision": "tf32",
    "feature_noise": "0.25",
    "mixup": "0.5",
    "label_smoothing": "0.125",
}
EMPTY = dict.fromkeys(WHOLE, "") | {"experiment_name": "empty"}


def experiments_of(path: Path, config: ConfigDict | None = None) -> dict[str, Experiment]:
    read = read_catalogue(path, default.get_config() if config is None else config)
    return {e.name: e for e in read_experiments(read, read.modes[MODE], {})}


def write(path: Path, *rows: dict[str, str]) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_every_column_reaches_its_experiment(tmp_path: Path) -> None:
    assert set(WHOLE) == set(COLUMNS)
    hyperparameters = set(default.get_config()) - set(CATALOGUE_KEYS)
    assert set(WHOLE) == {"experiment_name"} | hyperparameters
    whole = experiments_of(write(tmp_path / "c.csv", WHOLE, EMPTY))["whole"]
    changes = {
        "mlp_hidden_dims": (48, 16),
        "batch_size": 32,
        "learning_rate": 0.002,
        "max_epochs": 3,
        "dropout": 0.125,
        # All blocks but two; cnn, which is asked for by name, must be there.
        "blocks": ("all", "-clip", "cnn", "-iqa"),
        "input_scaling": "normal_scores",
        "sampler": "balanced",
        "loss": "davidson",
        "margin": 0.5,
        "weight_decay": 0.0,
        "optimizer": "sgd",
        "momentum": 0.5,
        "activation": "gelu",
        "use_layernorm": True,
        "seed": 11,
        "notes": "=mine",
        "l2_blocks": ("clip",),
        "schedule": "cosine",
        "warmup_epochs": 1.5,
        "patience": 9,
        "precision": "tf32",
        "feature_noise": 0.25,
        "mixup": 0.5,
        "label_smoothing": 0.125,
    }
    assert {key: getattr(whole, key) for key in changes} == changes
    assert type(whole.weight_decay) is float


def test_an_empty_cell_is_the_configs_value_and_no_hidden_layers(tmp_path: Path) -> None:
    config = default.get_config()
    config.margin, config.use_clip, config.notes = 0.25, False, "ours"
    config.linear.batch_size = 77
    config.batch_size, config.learning_rate, config.max_epochs = 24, 0.25, 4
    found = experiments_of(write(tmp_path / "c.csv", WHOLE, EMPTY), config)
    assert list(found) == ["whole", "empty", "linear", "shuffled"]
    empty = found["empty"]
    assert empty.mlp_hidden_dims == ()
    assert (empty.margin, empty.blocks, empty.notes) == (0.25, ("all", "-clip"), "ours")
    assert (empty.dropout, empty.sampler, empty.seed) == (0.3, "random", -1)
    assert (empty.batch_size, empty.learning_rate, empty.max_epochs) == (24, 0.25, 4)
    assert found["linear"].batch_size == 77  # the reference is not the table's
    # And so is a column that is not there.
    short = {key: EMPTY[key] for key in ("experiment_name", "mlp_hidden_dims")}
    assert experiments_of(write(tmp_path / "s.csv", short), config)["empty"] == empty


def test_the_columns_stand_in_any_order_and_cells_have_blanks(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "max_epochs, dropout,experiment_name ,batch_size,learning_rate,mlp_hidden_dims\r\n"
        ' 2 , 0.5 , a , 16 , 1e-3 ," 8 , 4 "\r\n\r\n'
    )
    found = experiments_of(path)["a"]
    assert (found.max_epochs, found.dropout, found.batch_size) == (2, 0.5, 16)
    assert (found.learning_rate, found.mlp_hidden_dims) == (0.001, (8, 4))


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("experiment_name", "", "the cell is empty"),
        ("experiment_name", "a b", "use letters, digits, '.', '_' and '-'"),
        ("experiment_name", "../a", "use letters, digits, '.', '_' and '-'"),
        ("experiment_name", "checkpoints", "the folder of that name is taken"),
        ("experiment_name", "linear", "the name 'linear' is a reference's"),
        ("experiment_name", "first", "the name 'first' appears twice"),
        ("mlp_hidden_dims", "8;4", "'8;4' must be whole numbers from 1 up, such as 512,256, or"),
        ("mlp_hidden_dims", "8,0", "'8,0' must be whole numbers"),
        ("mlp_hidden_dims", "8" * 5000, f"'{'8' * 40}' must be whole numbers"),
        ("mlp_hidden_dims", "-8", "'-8' must be whole numbers"),
        ("mlp_hidden_dims", "[8]", "'[8]' must be whole numbers"),
        ("batch_size", "64.0", "'64.0' is not a whole number"),
        ("batch_size", "1_000", "'1_000' is not a whole number"),
        ("batch_size", "\u0663", "'\u0663' is not a whole number"),
        ("batch_size", "0", "'0' must be a whole number from 1 up"),
        ("batch_size", "-4", "'-4' must be a whole number from 1 up"),
        ("batch_size", "9" * 18, "must be a whole number from 1 up"),
        ("batch_size", "9" * 5000, f"'{'9' * 40}' is not a whole number"),
        ("max_epochs", "-", "'-' is not a whole number"),
        ("max_epochs", "many", "'many' is not a whole number"),
        ("learning_rate", "1e-3x", "'1e-3x' is not a number"),
        ("learning_rate", "0.001,0.01", "'0.001,0.01' is not a number"),
        ("learning_rate", "1_0", "'1_0' is not a number"),
        ("learning_rate", "0", "'0' must be above 0"),
        ("learning_rate", "-1", "'-1' must be a finite number, not negative"),
        ("learning_rate", "nan", "'nan' must be a finite number"),
        ("dropout", "1", "'1' must be below 1"),
        ("dropout", "high", "'high' is not a number"),
        ("use_clip", "yes", "'yes' is neither true nor false"),
        ("use_cnn_features", "1", "'1' is neither true nor false"),
        ("use_iqa_features", "ture", "'ture' is neither true nor false"),
        ("use_series_sampler", "0", "'0' is neither true nor false"),
        ("use_layernorm", "none", "'none' is neither true nor false"),
        ("sampler", "ballanced", "'ballanced' unknown. Did you mean 'balanced'?"),
        ("loss", "hinge", "'hinge' unknown. Known: davidson, logistic, margin_ranking."),
        ("margin", "inf", "'inf' must be a finite number"),
        ("weight_decay", "-1e-9", "'-1e-9' must be a finite number, not negative"),
        ("optimizer", "adam", "'adam' unknown. Did you mean 'adamw'?"),
        ("momentum", "1.0", "'1.0' must be below 1"),
        ("activation", "RELU", "'RELU' unknown"),
        ("seed", "-2", "'-2' must be a whole number from 0 up, or -1 for the search's"),
        ("seed", "1.5", "'1.5' is not a whole number"),
        ("seed", "4294967296", "'4294967296' must be a whole number from 0 up"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_row_and_column(
    tmp_path: Path, column: str, cell: str, message: str
) -> None:
    first = WHOLE | {"experiment_name": "first"}
    second = WHOLE | {"use_series_sampler": "", column: cell}
    path = write(tmp_path / "c.csv", first, second)
    with pytest.raises(UserError) as error:
        read_catalogue(path, default.get_config())
    assert str(error.value).startswith(f"{path}, line 3, column '{column}': ")
    assert message in str(error.value)


def test_a_contradiction_names_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", EMPTY, WHOLE | {"sampler": "distinct"})
    with pytest.raises(UserError, match=r"line 3: use_series_sampler=true means sampler=balanced"):
        read_catalogue(path, default.get_config())
    config = default.get_config()
    config.blocks = "iqa"
    with pytest.raises(UserError, match=r"line 2: .*use_clip=false takes a block out of blocks=al"):
        read_catalogue(write(tmp_path / "c.csv", WHOLE | {"blocks": ""}), config)


def test_a_wrong_value_of_the_config_is_not_blamed_on_the_table(tmp_path: Path) -> None:
    config = default.get_config()
    config.patience = 0
    short = {key: WHOLE[key] for key in HEADER.split(",")}
    with pytest.raises(UserError, match=r"patience=0: must be .*; it is the config's"):
        read_catalogue(write(tmp_path / "c.csv", short), config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlp_hidden_dims,learning_rate,max_epochs\n4,1,1\n",
         "c.csv: column 'experiment_name' is missing; a catalogue has experiment_name and hyper"),
        (f"{HEADER},droput\na,4,16,1,1,0\n", "unknown column 'droput'. Did you mean 'dropout'?"),
        (f"{HEADER},\na,4,16,1,1,\n", "unknown column ''"),
        (f"{HEADER},dropout,dropout\na,4,16,1,1,0,0\n", "the column 'dropout' appears twice"),
        (f"{HEADER}\na,8,4,16,1,1\n", "line 2 ('a'): 6 cells, but the header has 5 columns"),
        (f"{HEADER}\n", "no rows below its header"),
        ("", "the file is empty"),
    ],
)  # fmt: skip
def test_a_table_that_is_no_catalogue_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read_catalogue(path, default.get_config())


def test_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    expected = experiments_of(write(tmp_path / "c.csv", WHOLE, EMPTY))
    pd.DataFrame([WHOLE, EMPTY]).to_parquet(tmp_path / "c.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in (WHOLE, EMPTY))
    (tmp_path / "c.jsonl").write_text(lines)
    for name in ("c.parquet", "c.jsonl"):
        assert experiments_of(tmp_path / name) == expected
    # Numbers and switches may be some; a null is an empty cell.
    typed = pd.DataFrame(
        {
            "experiment_name": ["a", "b"],
            "mlp_hidden_dims": [8, 16],
            "batch_size": [32, 64],
            "learning_rate": [0.1, 1e-4],
            "max_epochs": [1, 2],
            "use_clip": [False, True],
            "dropout": [0.25, None],
        }
    )
    typed.to_parquet(tmp_path / "typed.parquet")
    found = experiments_of(tmp_path / "typed.parquet")
    assert (found["a"].mlp_hidden_dims, found["a"].blocks) == ((8,), ("all", "-clip"))
    assert (found["a"].dropout, found["b"].dropout, found["b"].learning_rate) == (0.25, 0.3, 1e-4)
    (tmp_path / "typed.jsonl").write_text(
        '{"experiment_name": "a", "mlp_hidden_dims": 8, "batch_size": 32, "learning_rate": 0.1,'
        ' "max_epochs": 1, "use_clip": "false", "dropout": 0.25}\n'
    )
    assert experiments_of(tmp_path / "typed.jsonl")["a"] == found["a"]


def test_wrong_values_of_other_formats_are_placed_too(tmp_path: Path) -> None:
    wrong = WHOLE | {"loss": "hinge"}
    pd.DataFrame([EMPTY, wrong]).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "c.jsonl").write_text(json.dumps(EMPTY) + "\n\n" + json.dumps(wrong) + "\n")
    for name, place in (("c.parquet", "row 2"), ("c.jsonl", "line 3")):
        with pytest.raises(UserError, match=f"{name}, {place}, column 'loss': 'hinge' unknown"):
            read_catalogue(tmp_path / name, default.get_config())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_fuzz_of_catalogues(tmp_path: Path, suffix: str) -> None:
    rows = [dict.fromkeys(WHOLE, "") | row for row in (WHOLE, EMPTY)]
    path = tmp_path / f"c{suffix}"
    if suffix == ".csv":
        good = write(path, *rows).read_bytes()
    else:
        good = "".join(json.dumps(row) + "\n" for row in rows).encode()
    config = default.get_config()

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=nearly(good))
    def fuzz(data: bytes) -> None:
        path.write_bytes(data)

        def read() -> None:
            found = read_catalogue(path, config)
            # What has been read can be searched.
            assert read_experiments(found, list(found.experiments), {})

        told_or_done(read)

    fuzz()


cells = st.sampled_from(["", "0", "-1", "nan", "1e400", "true", "x", "8,8", "\u00b2", "1e", "+1"])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(COLUMNS), cells, max_size=3))
def test_any_cell_is_a_value_or_a_mistake_with_its_place(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    path = write(tmp_path / "c.csv", WHOLE | changes)
    message = f"{path}, line 2"
    try:
        found = experiments_of(path)
    except UserError as error:
        message = str(error)
    else:
        assert len(found) == 3
    assert message.startswith(f"{path}, line 2")


# From the file to the folder of a search.
TWO = f"{HEADER},seed,notes\nz,4,32,1e-3,1,7,mine\nb,,32,2e-3,2,,\n"


@pytest.fixture
def searching(tmp_path: Path, small_files: tuple[Path, Path]) -> list[str]:
    (tmp_path / "c.csv").write_text(TWO)
    pairs, store = small_files
    return ["launch.py", "search", f"--pairs={pairs}", f"--features={store}",
            f"--workdir={tmp_path / 'w'}", "--config.linear.max_epochs=1"]  # fmt: skip


def planned(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> tuple[str, dict[str, list[str]]]:
    """What a dry run prints, and of each experiment its learning rate and what follows."""
    capsys.readouterr()
    with mock.patch.dict(os.environ, COLUMNS="200"):
        assert main([*words, "--dry_run"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out[out.index("learning_rate") :].splitlines()[2:]]
    return out, {row[0]: row[1:] for row in rows if row}


def test_a_catalogue_takes_the_place_of_the_configs(
    searching: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given_as in ([f"--experiments_csv={tmp_path / 'c.csv'}"],
                     ["--experiments_csv", str(tmp_path / "c.csv")]):  # fmt: skip
        out, rows = planned(capsys, [*searching, *given_as, "--num_seeds=2"])
        assert "8 trials in 4 cohorts" in out
        assert list(rows) == ["z", "b", "linear", "shuffled"]  # in the order of the table
        assert (rows["z"][0], rows["z"][4]) == ("0.001", "1")
        assert (rows["b"][0], rows["b"][4]) == ("0.002", "2")


def test_experiments_choose_among_those_of_the_table(
    searching: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*searching, f"--experiments_csv={tmp_path / 'c.csv'}"]
    changes = ["--experiments=b", "--config.dropout=0.5", "--config.experiments.b.max_epochs=9"]
    _, rows = planned(capsys, [*words, *changes])
    assert list(rows) == ["b", "linear", "shuffled"]
    assert (rows["b"][1], rows["b"][4]) == ("0.5", "9")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--experiments=c", "experiment 'c' is not in the catalogue"),
        ("--experiments=tiny_mlp", "experiment 'tiny_mlp' is not in the catalogue. Known: b, z."),
        ("--experiments=", "--experiments is empty"),
        ("--mode=quick", "--mode and --experiments_csv are both given"),
        ("--config.experiments.tiny_mlp.dropout=0", "unknown key 'tiny_mlp'"),
        ("--experiments_csv=", "--experiments_csv is empty"),
        ("--experiments_csv=no.csv", "no.csv: can't be read (No such file"),
        ("--experiments_csv={folder}/store", "can't be read (it is a folder)"),
        ("--experiments_csv={folder}/wrong.csv", "wrong.csv, line 2, column 'batch_size': 'x' is"),
        ("--config={folder}/patience.py", "patience=0: must be a whole number"),
        (
            "--experiments_csv={folder}/rule.csv",
            "experiment 'sharpness' has the name of a baseline",
        ),
    ],
)
def test_a_mistake_is_one_line_status_2_and_writes_nothing(
    searching: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    (tmp_path / "wrong.csv").write_text(f"{HEADER}\na,4,x,1,1\n")
    (tmp_path / "rule.csv").write_text(f"{HEADER}\nsharpness,4,8,1,1\n")
    (tmp_path / "patience.py").write_text(
        "from jaxrank.configs import default\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        "    config.patience = 0\n"
        "    return config\n"
    )
    before = sorted(tmp_path.rglob("*"))
    typed = [f"--experiments_csv={tmp_path / 'c.csv'}", *words.format(folder=tmp_path).split()]
    assert main([*searching, *typed]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxrank: ")
    assert said.count("\n") == 1
    assert message in said
    assert sorted(tmp_path.rglob("*")) == before


def of_trials(folder: Path) -> dict[str, list[int]]:
    trials = pd.read_csv(folder / "trials.csv")
    assert set(trials["status"]) == {"completed"}
    return {name: rows["seed"].tolist() for name, rows in trials.groupby("experiment_name")}


def test_a_search_from_a_table_ends_goes_on_and_grows(
    searching: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workdir, table = tmp_path / "w", tmp_path / "c.csv"
    fit = train.fit
    fitted: list[list[Any]] = []

    def stopping_fit(cohort: Any, *args: Any, **kwargs: Any) -> Any:
        if fitted and not (workdir / "go_on").exists():
            raise KeyboardInterrupt
        fitted.append([trial.key for trial in cohort.trials])
        return fit(cohort, *args, **kwargs)

    monkeypatch.setattr(train, "fit", stopping_fit)
    words = [*searching, "--num_seeds=2", "--seed=3"]
    assert main([*words, f"--experiments_csv={table}"]) == 130
    assert len(fitted) == 1
    config = json.loads((workdir / "config.json").read_text())
    z, b, *_ = config["experiments"]
    assert (z["mlp_hidden_dims"], z["seed"], z["notes"]) == ([4], 7, "mine")
    assert (b["mlp_hidden_dims"], b["seed"], b["notes"]) == ([], -1, "")
    assert set(config["launch"]["config"]["experiments"]) == {"z", "b"}

    # Another table is another search; the same one may lie elsewhere, or be gone.
    table.write_text(TWO.replace("2e-3", "3e-3"))
    capsys.readouterr()
    assert main([*words, "--resume", f"--experiments_csv={table}"]) == 2
    assert "learning_rate of experiment 'b' is 0.002 there and 0.003 here" in (
        capsys.readouterr().err
    )
    table.unlink()
    (workdir / "go_on").touch()
    resume = ["launch.py", "search", "--resume", f"--workdir={workdir}"]
    assert main(resume) == 0
    assert sorted(key for cohort in fitted for key in cohort) == [  # each once
        ("b", 0, 3), ("b", 0, 4), ("linear", 0, 3), ("linear", 0, 4),
        ("shuffled", 0, 3), ("shuffled", 0, 4), ("z", 0, 7), ("z", 0, 8),
    ]  # fmt: skip
    assert of_trials(workdir) == {
        "b": [3, 4], "linear": [3, 4], "shuffled": [3, 4], "z": [7, 8]
    }  # fmt: skip
    summary = pd.read_csv(workdir / "summary.csv").set_index("experiment_name")
    assert summary.loc["z", "notes"] == "mine"
    assert summary.loc["z", "mlp_hidden_dims"] == 4

    # A finished search: with the flag and without, nothing is left to do.
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_text(TWO)
    for more in ([], [f"--experiments_csv={elsewhere}"], ["--experiments=b"]):
        capsys.readouterr()
        given_again = [*resume, *more]
        if more == ["--experiments=b"]:  # options that are given are compared
            assert main(given_again) == 2
            assert "it has an experiment 'z', which this launch lacks" in capsys.readouterr().err
        else:
            assert main(given_again) == 0
            assert "nothing to do" in capsys.readouterr().out

    # A longer table extends it, when that is asked for.
    elsewhere.write_text(TWO + "c,4,32,5e-3,1,,\n")
    assert main([*resume, f"--experiments_csv={elsewhere}"]) == 2
    assert "it has no experiment 'c' (--extend adds it)" in capsys.readouterr().err
    fitted.clear()
    assert main([*resume, "--extend", f"--experiments_csv={elsewhere}"]) == 0
    assert fitted == [[("c", 0, 3), ("c", 0, 4)]]
    assert of_trials(workdir) == {
        "b": [3, 4], "c": [3, 4], "linear": [3, 4], "shuffled": [3, 4], "z": [7, 8]
    }  # fmt: skip

    # So does a table of what is new: the search knows the others.
    elsewhere.write_text(TWO.splitlines()[0] + "\nd,4,32,5e-3,1,,\n")
    fitted.clear()
    assert main([*resume, "--extend", f"--experiments_csv={elsewhere}"]) == 0
    assert fitted == [[("d", 0, 3), ("d", 0, 4)]]
    assert set(of_trials(workdir)) == {"b", "c", "d", "linear", "shuffled", "z"}


def test_names_with_dots_are_searched_overridden_resumed_and_loaded(
    small_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, store = small_files
    workdir, table, file = tmp_path / "w", tmp_path / "c.csv", tmp_path / "c.py"
    table.write_text(f"{HEADER},blocks\nv-1.5,32,32,3e-3,3,iqa\n")
    words = ["launch.py", "search", f"--pairs={pairs}", f"--features={store}", "--audit=off",
             f"--workdir={workdir}", f"--experiments_csv={table}", "--folds=3",
             "--config.experiments.v-1.5.max_epochs=2"]  # fmt: skip
    assert main(words) == 0
    trained = load_model(workdir / "v-1.5" / "model").card.experiment
    assert (trained.name, trained.max_epochs) == ("v-1.5", 2)

    # So are those of a config file.
    file.write_text(
        "from jaxrank.configs import default\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        "    config.experiments['v1.6'] = config.experiments.iqa_only\n"
        "    return config\n"
    )
    more = [f"--config={file}", "--experiments=v1.6", "--config.experiments.v1.6.max_epochs=1",
            "--config.experiments.v1.6.batch_size=32"]  # fmt: skip
    assert main(["launch.py", "search", "--extend", f"--workdir={workdir}", *more]) == 0
    capsys.readouterr()
    assert set(of_trials(workdir)) == {"v-1.5", "v1.6", "linear", "shuffled"}


def test_a_block_that_a_row_asks_for_must_be_there(
    searching: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty cell does not ask for it."""
    manifest = tmp_path / "store" / "manifest.json"
    store = json.loads(manifest.read_text())
    del store["blocks"]["clip"]
    manifest.write_text(json.dumps(store))
    (tmp_path / "c.csv").write_text(
        f"{HEADER},use_clip\nasks,4,8,1,1,true\nsilent,4,8,1,1,\nwithout,4,8,1,1,false\n"
    )
    out, rows = planned(capsys, [*searching, f"--experiments_csv={tmp_path / 'c.csv'}"])
    assert "skipped asks: the features have no block 'clip' (blocks: cnn,iqa)" in out
    assert "4 trials in 3 cohorts" in out
    assert set(rows) >= {"silent", "without", "linear"}


def test_switches_of_json_lines_may_be_true_and_false(tmp_path: Path) -> None:
    row = {"experiment_name": "a", "mlp_hidden_dims": 8, "batch_size": 32, "learning_rate": 0.1,
           "max_epochs": 1, "use_clip": False, "use_layernorm": True}  # fmt: skip
    (tmp_path / "c.jsonl").write_text(json.dumps(row) + "\n")
    experiment = experiments_of(tmp_path / "c.jsonl")["a"]
    assert (experiment.blocks, experiment.use_layernorm) == (("all", "-clip"), True)
