"""`launch.py train`: from flags to files."""

import json
import os
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

import jaxrank
from jaxrank.cli import main

SWITCHES = ("use_clip", "use_cnn_features", "use_iqa_features", "use_series_sampler")


@pytest.fixture
def words(tmp_path: Path, small_files: tuple[Path, Path]) -> list[str]:
    pairs, store = small_files
    return ["launch.py", "train", f"--pairs={pairs}", f"--features={store}",
            f"--workdir={tmp_path / 'w'}"]  # fmt: skip


def plan_of(
    capsys: pytest.CaptureFixture[str], words: list[str], name: str = "trained"
) -> tuple[list[str], list[str]]:
    """What a dry run prints of an experiment: shapes, and hyperparameters."""
    capsys.readouterr()
    with mock.patch.dict(os.environ, COLUMNS="200"):
        assert main([*words, "--dry_run"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shapes, numbers = (row[1:] for row in rows if row[:1] == [name])
    return shapes, numbers


def test_every_flag_reaches_the_files(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--mlp_hidden_dims=6,4", "--batch_size=24", "--learning_rate=3e-3", "--dropout=0.125",
             "--max_epochs=2", "--use_clip", "false", "--use_cnn_features=true",
             "--use_iqa_features=FALSE", "--use_series_sampler=true", "--config.margin=0.5",
             "--config.linear.max_epochs=1", "--num_seeds=2", "--seed=5", "--split_seed=1",
             "--folds=3"]  # fmt: skip
    assert main([*words, *flags]) == 0
    workdir = tmp_path / "w"
    config = json.loads((workdir / "config.json").read_text())
    found, linear, _ = config["experiments"]
    assert {key: found[key] for key in ("name", "mlp_hidden_dims", "batch_size", "learning_rate",
                                        "dropout", "max_epochs", "blocks", "sampler", "margin")
            } == {"name": "trained", "mlp_hidden_dims": [6, 4], "batch_size": 24,
                  "learning_rate": 0.003, "dropout": 0.125, "max_epochs": 2, "blocks": ["cnn"],
                  "sampler": "balanced", "margin": 0.5}  # fmt: skip
    # The reference is what it always is.
    assert (linear["name"], linear["blocks"]) == ("linear", ["clip", "cnn", "iqa"])
    assert (linear["learning_rate"], linear["margin"], linear["max_epochs"]) == (1e-4, 1.0, 1)
    launch = config["launch"]
    assert (launch["folds"], launch["num_seeds"], launch["seed"], launch["split_seed"]) == (
        3, 2, 5, 1)  # fmt: skip

    # The folder is that of a search.
    assert {path.name for path in workdir.iterdir()} == {
        "config.json", "environment.json", "splits.csv", "trials.csv", "summary.csv",
        "best_config.py", "best_config.json",
        "results.json", "training.log", "plan.json", "checkpoints", ".lock", "trained", "linear",
        "shuffled", "audit.json", "audit.txt", "leaderboard.txt", "leaderboard.png", "errors.csv",
        "reliability.png", "comparisons.csv", "final",
    }  # fmt: skip
    for name in ("trained", "linear"):
        assert {path.name for path in (workdir / name).iterdir()} == {
            "history.csv", "training_curves.png", "test_results.json", "predictions.csv",
            "predictions.parquet", "model"
        }  # fmt: skip
    trials = pd.read_csv(workdir / "trials.csv")
    trained = trials[trials["experiment_name"] == "trained"]
    assert list(zip(trained["fold"], trained["seed"], strict=True)) == [
        (fold, seed) for fold in range(3) for seed in (5, 6)
    ]
    assert trained["epochs_run"].le(2).all()
    summary = pd.read_csv(workdir / "summary.csv").set_index("experiment_name")
    assert set(summary.index) == {"trained", "linear", "shuffled", "chance", "position",
                                  "sharpness", "exposure", "colorfulness", "contrast",
                                  "best_heuristic", "signed_sum", "ridge",
                                  "trained (mean of 2 seeds)",
                                  "linear (mean of 2 seeds)"}  # fmt: skip
    assert (summary.loc["trained", "blocks"], summary.loc["trained", "mlp_hidden_dims"]) == (
        "cnn", "6,4")  # fmt: skip
    assert summary.loc["trained", "parameters"] == (5 + 1) * 6 + (6 + 1) * 4 + 4
    assert f"Results: {workdir}" in capsys.readouterr().out

    # It can be resumed as one, and not be trained over.
    assert main(["launch.py", "search", "--resume", f"--workdir={workdir}"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main([*words, *flags]) == 2
    assert "a search has been begun there" in capsys.readouterr().err

    # What it saved can be measured and can rank: the scores are those of its predictions.
    inputs = [word for word in words if word.startswith(("--pairs", "--features"))]
    model = f"--model={workdir / 'trained' / 'model'}"
    evaluated, ranked = tmp_path / "evaluated", tmp_path / "ranked"
    assert main(["launch.py", "evaluate", model, *inputs, f"--workdir={evaluated}"]) == 0
    series = f"--series={tmp_path / 'pairs.csv'}"
    assert main(["launch.py", "rank", model, inputs[1], series, f"--workdir={ranked}"]) == 0
    described = jaxrank.load_model(workdir / "trained" / "model").card
    then = pd.read_parquet(workdir / "trained" / "predictions.parquet")
    then = then[(then["fold"] == described.fold) & (then["seed"] == described.seeds[0])]
    now = pd.read_csv(evaluated / "predictions.csv").merge(then, on=["image_a", "image_b"])
    assert len(now) == len(then) > 100
    np.testing.assert_allclose(now["score_a_x"], now["score_a_y"], atol=1e-5)
    np.testing.assert_array_equal(now["correct_x"], now["correct_y"])
    assert set(zip(now["split_x"], now["split_y"], strict=True)) == {("new", "test"),
                                                                    ("val", "val")}  # fmt: skip
    rows = json.loads((evaluated / "metrics.json").read_text())["metrics"]
    accuracy = {row["split"]: row["accuracy"] for row in rows if row["scorer"] == "model"}
    loss = {row["split"]: row["loss"] for row in rows if row["scorer"] == "model"}
    mine = trained[(trained["fold"] == described.fold) & (trained["seed"] == described.seeds[0])]
    for split, part in (("new", "test"), ("val", "val"), ("train", "train")):
        assert accuracy[split] == pytest.approx(mine[f"{part}_accuracy"].item(), abs=1e-6)
        assert loss[split] == pytest.approx(mine[f"{part}_loss"].item(), abs=1e-5)
    ranking = pd.read_csv(ranked / "rankings.csv")
    assert ranking["pick"].sum() == ranking["series_id"].nunique() == 60
    best = ranking.groupby("series_id")["score"].transform("max") == ranking["score"]
    assert best[ranking["pick"]].all()


def test_without_flags_the_configs_values_hold(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_config = ["--batch_size=64", "--config.patience=6", "--max_epochs=30"]
    shapes, numbers = plan_of(capsys, [*words, "--config.patience=6", "--max_epochs=30"])
    given = plan_of(capsys, [*words, *of_config])[0]
    assert int(shapes[3]) < 32 < int(given[3]) <= 64  # few pairs
    assert shapes[:3] == ["1", "15", "256"]
    assert shapes[-2:] == ["margin_ranking", "random"]
    assert numbers == ["0.0001", "0.3", "0.0001", "1", "30", "6"]
    config = tmp_path / "mine.py"
    config.write_text(
        "from jaxrank.configs import default\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        "    config.dropout, config.mlp_hidden_dims, config.max_epochs = 0.75, '7', 8\n"
        "    config.use_clip = False\n"
        "    return config\n"
    )
    shapes, numbers = plan_of(capsys, [*words, f"--config={config}", "--max_epochs=9"])
    assert shapes[:3] == ["1", "9", "7"]
    assert (numbers[1], numbers[4]) == ("0.75", "9")  # a flag beats the file


@pytest.mark.parametrize(
    ("flags", "inputs", "hidden", "sampler"),
    [
        ("--use_clip=false", 5 + 4, "256", "random"),
        ("--use_clip false", 5 + 4, "256", "random"),
        ("--use_clip=FALSE --use_iqa_features False", 5, "256", "random"),
        ("--use_cnn_features false --use_clip=true", 6 + 4, "256", "random"),
        ("--use_clip=false --use_cnn_features=false", 4, "256", "random"),
        ("--use_series_sampler TRUE", 15, "256", "balanced"),
        ("--use_series_sampler=false --config.sampler=distinct", 15, "256", "distinct"),
        ("--config.sampler=balanced --use_series_sampler=true", 15, "256", "balanced"),
        ("--mlp_hidden_dims=", 15, "-", "random"),
        ("--mlp_hidden_dims 12,5", 15, "12,5", "random"),
        ("--config.blocks=cnn --use_iqa_features=true", 5 + 4, "256", "random"),
        ("-use_clip=false -mlp_hidden_dims=3", 5 + 4, "3", "random"),
        ("--use_clip=false --use_clip=true", 15, "256", "random"),  # the last one counts
    ],
)
def test_switches_and_shapes_mean_what_they_say(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    flags: str,
    inputs: int,
    hidden: str,
    sampler: str,
) -> None:
    shapes, _ = plan_of(capsys, [*words, *flags.split()])
    assert shapes[1:3] == [str(inputs), hidden]
    assert shapes[-1] == sampler


def test_numbers_mean_what_they_say(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--batch_size=5", "--learning_rate=0.5", "--dropout=0", "--max_epochs=4"]
    shapes, numbers = plan_of(capsys, [*words, *flags, "--config.patience=2"])
    assert shapes[3] == "5"
    assert numbers == ["0.5", "0", "0.0001", "1", "4", "2"]
    # The linear reference keeps its own.
    assert plan_of(capsys, [*words, *flags], "linear")[1] == plan_of(capsys, words, "linear")[1]


def take_away(store: Path, *blocks: str) -> None:
    manifest = store / "manifest.json"
    content = json.loads(manifest.read_text())
    for name in blocks:
        del content["blocks"][name]
    manifest.write_text(json.dumps(content))


def test_a_block_that_is_not_there_is_missed_only_when_asked_for(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take_away(tmp_path / "store", "clip")
    for flags in ([], ["--use_clip=false"], ["--use_cnn_features=true"]):
        assert plan_of(capsys, [*words, *flags])[0][1] == "9"
    assert main([*words, "--use_clip=true"]) == 2
    assert (
        "nothing is left to train: trained: the features have no block 'clip' (blocks: cnn,iqa)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (" ".join(f"--{name}=false" for name in SWITCHES[:3]),
         "nothing is left to train: trained: no block is left to read (blocks: clip"),
        *((f"--{name}=true --config.{name}=true",
           f"--{name} and --config.{name} are both given: give one of them") for name in SWITCHES),
        ("--dropout=0.1 --config.dropout=0.1", "--dropout and --config.dropout are both given"),
        ("--mlp_hidden_dims= --config.mlp_hidden_dims=3", "and --config.mlp_hidden_dims are both"),
        ("--batch_size=8 --config.batch_size=8", "--batch_size and --config.batch_size are both"),
        ("--max_epochs=8 --config.max_epochs=8", "--max_epochs and --config.max_epochs are both"),
        ("--learning_rate=1 --config.learning_rate=1", "and --config.learning_rate are both"),
        ("--use_series_sampler=true --config.sampler=distinct", "but sampler=distinct is given"),
        ("--use_clip=false --config.blocks=iqa", "but blocks=iqa is given too; give one of them"),
        ("--config.blocks=", "name at least one block"),
        ("--use_clip=maybe", "--use_clip=maybe: value should be one of <true|false>"),
        ("--use_clip=", "--use_clip=: value should be one of <true|false>"),
        ("--use_clip", "Missing value for flag --use_clip"),
        ("--use_clip --dropout=0.1", "value should be one of <true|false>"),
        ("--nouse_clip", "unknown flag '--nouse_clip'. Did you mean 'use_clip'?"),
        ("--mlp_hidden_dims=8,x", "mlp_hidden_dims=8,x: must be whole numbers"),
        ("--mlp_hidden_dims=0", "mlp_hidden_dims=0: must be whole numbers"),
        ("--batch_size=0", "batch_size=0: must be a whole number from 1 up"),
        ("--batch_size=1.5", "--batch_size=1.5: not a whole number"),
        ("--learning_rate=fast", "--learning_rate=fast: not a number"),
        ("--learning_rate=0", "learning_rate=0.0: must be above 0"),
        ("--learning_rate=nan", "learning_rate=nan: must be a finite number"),
        ("--dropout=1", "dropout=1.0: must be below 1"),
        ("--dropout=-0.5", "dropout=-0.5: must be a finite number, not negative"),
        ("--max_epochs=0", "max_epochs=0: must be a whole number from 1 up"),
        ("--config.droput=0.1", "Did you mean 'dropout'?"),
        ("--config.experiments.tiny_mlp.dropout=0", "unknown key 'tiny_mlp'. Known: trained"),
        ("--resume", "unknown flag '--resume'"),
        ("--experiments=tiny_mlp", "unknown flag '--experiments'"),
        ("false", "unexpected word 'false'"),
        ("--pairs=", "--pairs is empty"),
        ("--features=", "--features is empty"),
        ("--init_from=", "--init_from is empty"),
        ("--init_from={folder}", "not a model folder"),
        ("--workdir=", "--workdir=: not a usable name for a folder"),
        ("--workdir={folder}", "the folder is not empty; name a new one"),
        ("--workdir=/proc/jaxrank", "/proc/jaxrank: can't be written"),
        ("--min_reviewers=3", "--min_reviewers is for vote tables"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_status_2_and_writes_nothing(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: str,
    message: str,
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main([*words, *flags.format(folder=tmp_path).split()]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("jaxrank: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_help_lists_every_flag_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    for command, names in {
        "train": ("mlp_hidden_dims", "batch_size", "learning_rate", "dropout", "max_epochs",
                  *SWITCHES, "pairs", "features", "workdir", "config"),
        "evaluate": ("model", "pairs", "features", "workdir"),
        "rank": ("model", "features", "series", "workdir"),
    }.items():  # fmt: skip
        assert main(["launch.py", command, "--help"]) == 0
        out = capsys.readouterr().out
        for name in names:
            assert re.search(rf"\n  --{name}\s", out), name


def test_a_training_that_diverges_ends_with_status_1_in_a_new_folder_of_outputs(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Of the linear reference's shape: one program trains both, and one of them fails.
    flags = ["--learning_rate=1e38", "--max_epochs=2", "--mlp_hidden_dims=", "--batch_size=256",
             "--config.linear.max_epochs=1"]  # fmt: skip
    assert main([*words[:-1], *flags]) == 1
    assert "lower learning_rate=1e+38" in capsys.readouterr().out
    (workdir,) = (tmp_path / "outputs" / "train").glob("train_*")
    summary = pd.read_csv(workdir / "summary.csv").set_index("experiment_name")
    assert summary.loc["trained", "status"] == "failed"
    assert summary.loc["linear", "status"] == "completed"
