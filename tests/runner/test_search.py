"""Searches from end to end, on small data."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import jaxrank
from jaxrank import train
from jaxrank.cli import main
from jaxrank.data import feature_store, inputs, splits
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.evaluation.evaluator import baseline_metrics, make_evaluator
from jaxrank.experiments.hyperparameters import check_name
from jaxrank.reporting.console import print_summary
from jaxrank.reporting.summary import SUMMARY_COLUMNS
from jaxrank.runner import prepare

QUICK: dict[str, Any] = {
    "experiments": ["tiny_mlp", "clip_only", "iqa_only"],
    "overrides": {"max_epochs": 4, "batch_size": 32, "learning_rate": 3e-3},
    "folds": 3,
    "num_seeds": 2,
}
SmallData = tuple[Preferences, dict[str, Block]]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> tuple[Path, str]:
    """The same search from the command line: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("launched")
    pairs, store = small_data
    pairs.table.to_csv(folder / "pairs.csv", index=False)
    for name, block in store.items():
        feature_store.write_block(folder / "store", name, block)
    workdir = folder / "a folder"
    words = [f"--pairs={folder / 'pairs.csv'}", f"--features={folder / 'store'}",
             f"--workdir={workdir}", "--experiments=tiny_mlp,clip_only,iqa_only", "--folds=3",
             "--num_seeds=2", "--config.max_epochs=4", "--config.batch_size=32",
             "--config.learning_rate=3e-3"]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["launch.py", "search", *words]) == 0
    return workdir, out.getvalue()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Any:
    workdir = tmp_path_factory.mktemp("search") / "w"
    return jaxrank.search(small_data[0].table, small_data[1], workdir=workdir, **QUICK)


def test_every_file_is_there_with_its_columns(searched: Any) -> None:
    workdir = searched.workdir
    tops = {"config.json", "environment.json", "splits.csv", "trials.csv", "summary.csv",
            "results.json", "training.log", "plan.json", "checkpoints", ".lock", "audit.json",
            "audit.txt", "leaderboard.txt", "leaderboard.png", "errors.csv",
            "reliability.png", "comparisons.csv", "final", "best_config.py",
            "best_config.json"}  # fmt: skip
    experiments = {"tiny_mlp", "clip_only", "iqa_only", "linear", "shuffled"}
    assert {path.name for path in workdir.iterdir()} == tops | experiments
    for name in tops:  # no experiment can be called so
        with pytest.raises(UserError, match="experiment name"):
            check_name(name)
    for name in experiments:
        files = {"history.csv", "training_curves.png", "test_results.json", "predictions.csv",
                 "predictions.parquet"}  # fmt: skip
        # Nobody should rank photos by a control.
        files |= set() if name == "shuffled" else {"model"}
        assert {path.name for path in (workdir / name).iterdir()} == files
        assert (workdir / name / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    header = (workdir / "summary.csv").read_text().splitlines()[0]
    assert header == (
        "experiment_name,status,error,mlp_hidden_dims,batch_size,learning_rate,dropout,blocks,"
        "num_seeds,num_folds,epochs_run,best_epoch,train_accuracy,val_accuracy,val_loss,"
        "test_accuracy,test_loss,val_top1_hit,test_top1_hit,val_kendall_tau,test_kendall_tau,"
        "val_weighted_accuracy,test_weighted_accuracy,train_val_gap,parameters,duration_seconds,"
        "val_ci_low,val_ci_high,test_ci_low,test_ci_high,"
        "diff_to_sharpness,diff_ci_low,diff_ci_high,share_first,"
        "test_weighted_ci_low,test_weighted_ci_high,diff_to_baseline,baseline_ci_low,"
        "baseline_ci_high,diff_to_chance,chance_ci_low,chance_ci_high,diff_to_best,best_ci_low,"
        "best_ci_high,tied_for_best,notes,outcome,dropped_at_epoch"
    )
    header = (workdir / "tiny_mlp" / "predictions.csv").read_text().splitlines()[0]
    assert header == "series_id,image_a,image_b,preference,score_a,score_b,correct,split,trials"
    for path in workdir.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    assert not [path for path in workdir.rglob("*") if path.name.endswith(".tmp")]


def test_the_mean_of_seeds_is_a_row(searched: Any) -> None:
    rows = searched.summary.set_index("experiment_name")
    one, mean = rows.loc["tiny_mlp"], rows.loc["tiny_mlp (mean of 2 seeds)"]
    assert (mean["status"], mean["num_seeds"], mean["num_folds"]) == ("ensemble", 2, 3)
    note = "mean of the standardised scores of the seeds of each fold, never selected"
    assert mean["notes"].startswith(note)
    assert mean["parameters"] == 2 * one["parameters"]
    for name in ("mlp_hidden_dims", "batch_size", "learning_rate", "blocks"):
        assert mean[name] == one[name]
    figures = ["val_accuracy", "test_accuracy", "test_top1_hit", "test_ci_low", "share_first"]
    assert np.isfinite(mean[figures].astype(float)).all()
    assert len(searched.trials) == 5 * 3 * 2  # none of an ensemble
    assert not any("mean of" in line for line in searched.notes if line.startswith("Chosen"))


def test_48_pairs_are_not_hardly_trained(tmp_path: Path) -> None:
    """Nobody has asked for folds, epochs or batches."""
    names = [[f"{s}-{i}.jpg" for i in range(4)] for s in range(8)]
    rng = np.random.default_rng(0)
    rows = [
        (str(s), photos[a], photos[b], rng.uniform())
        for s, photos in enumerate(names)
        for a in range(4)
        for b in range(a)
    ]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    values = rng.standard_normal((32, 4)).astype(np.float32)
    photos = [photo for series in names for photo in series]
    store = {"iqa": Block(photos, ["sharpness", "exposure", "colorfulness", "contrast"], values)}
    found = jaxrank.search(
        table, store, workdir=tmp_path / "w", experiments=["iqa_only"], audit="off"
    )
    assert len(table) == 48
    assert not any("Hardly trained" in line for line in found.notes)
    assert any("8 series are too few for an 80/10/10 split" in n for n in found.data_notes)
    iqa_only = found.trials[found.trials["experiment_name"] == "iqa_only"]
    assert iqa_only["fold"].tolist() == list(range(8))
    assert (iqa_only["epochs_run"] == 48).all()  # 5 steps each, as 8 of 2,000 pairs
    assert (iqa_only["best_epoch"] == 48).all()
    config = json.loads((tmp_path / "w" / "config.json").read_text())
    assert config["experiments"][0]["batch_size"] == 8
    again = jaxrank.search(workdir=tmp_path / "w", resume=True)
    assert again.nothing_to_do


def test_rules_and_the_linear_reference_stand_in_the_same_table(searched: Any) -> None:
    summary = pd.read_csv(searched.workdir / "summary.csv")
    assert set(summary["experiment_name"]) == {
        "tiny_mlp", "clip_only", "iqa_only", "linear", "shuffled", "chance", "position",
        "sharpness", "exposure", "colorfulness", "contrast", "best_heuristic", "signed_sum",
        "ridge", "tiny_mlp (mean of 2 seeds)",
        "clip_only (mean of 2 seeds)", "iqa_only (mean of 2 seeds)",
        "linear (mean of 2 seeds)"}  # fmt: skip
    ridge = summary[summary["experiment_name"] == "ridge"].iloc[0]
    assert ridge["status"] == "baseline"
    assert ridge["test_accuracy"] > 0.6  # the data have a linear quality
    assert summary["val_accuracy"].is_monotonic_decreasing
    linear = summary[summary["experiment_name"] == "linear"].iloc[0]
    assert (linear["parameters"], linear["blocks"]) == (15, "clip,cnn,iqa")
    assert linear["val_accuracy"] > 0.6  # the data have a linear quality


def test_the_tables_agree_with_the_predictions(searched: Any) -> None:
    """Summary, trials and predictions are three views of the same scores."""
    trials = pd.read_csv(searched.workdir / "trials.csv")
    assert len(trials) == 5 * 3 * 2
    for name, rows in trials.groupby("experiment_name"):
        frame = pd.read_parquet(searched.workdir / name / "predictions.parquet")
        frame["split"] = frame["split"].astype(str)
        means = frame.groupby(["fold", "seed", "split"])["correct"].mean()
        for row in rows.to_dict("records"):
            assert row["val_accuracy"] == pytest.approx(means[row["fold"], row["seed"], "val"])
            assert row["test_accuracy"] == pytest.approx(means[row["fold"], row["seed"], "test"])
        history = pd.read_csv(searched.workdir / name / "history.csv")
        for row in rows.to_dict("records"):
            mine = history[(history["fold"] == row["fold"]) & (history["seed"] == row["seed"])]
            assert mine["epoch"].tolist() == list(range(1, row["epochs_run"] + 1))
            chosen = mine[mine["epoch"] == row["best_epoch"]]["val_accuracy"].iloc[0]
            assert chosen == mine["val_accuracy"].max()
            assert chosen == pytest.approx(row["val_accuracy"])


def test_of_each_pair_the_mean_of_the_trials_that_test_it_is_a_row(searched: Any) -> None:
    keys = ["series_id", "image_a", "image_b"]
    for name in ("tiny_mlp", "shuffled"):
        folder = searched.workdir / name
        whole = pd.read_parquet(folder / "predictions.parquet").astype(dict.fromkeys(keys, str))
        tested = whole[whole["split"] == "test"].groupby(keys)
        mean = pd.read_csv(folder / "predictions.csv", dtype={"series_id": str}).set_index(keys)
        assert len(mean) == len(tested) == 328
        assert set(mean["split"]) == {"test"}  # in some fold each pair tests
        assert set(mean["trials"]) == {2}
        columns = ["score_a", "score_b", "correct"]
        expected = tested[columns].mean().loc[mean.index]
        np.testing.assert_allclose(mean[columns], expected, rtol=1e-6)
        assert mean["correct"].nunique() == 3  # both seeds, one, none


def test_the_splits_file_says_who_was_tested(searched: Any) -> None:
    table = pd.read_csv(searched.workdir / "splits.csv", dtype={"series_id": str})
    found = pd.read_parquet(searched.workdir / "clip_only" / "predictions.parquet")
    assert set(found["split"]) == {"val", "test"}
    for (fold, part), rows in found.groupby(["fold", "split"], observed=True):
        listed = table[(table["fold"] == fold) & (table["split"] == part)]["series_id"]
        assert set(rows["series_id"]) == set(listed)


def test_a_saved_model_gives_the_scores_of_the_predictions(
    searched: Any, small_data: SmallData
) -> None:
    model = jaxrank.load_model(searched.workdir / "tiny_mlp" / "model")
    scores = model.score(small_data[1])
    frame = pd.read_parquet(searched.workdir / "tiny_mlp" / "predictions.parquet")
    mine = frame[(frame["fold"] == model.card.fold) & (frame["seed"] == model.card.seeds[0])]
    assert len(mine) > 20
    np.testing.assert_allclose(scores[mine["image_a"]], mine["score_a"], atol=1e-5)
    np.testing.assert_allclose(scores[mine["image_b"]], mine["score_b"], atol=1e-5)
    trials = searched.trials[searched.trials["experiment_name"] == "tiny_mlp"]
    assert model.card.val_accuracy == pytest.approx(trials["val_accuracy"].max())


def test_train_accuracy_and_losses_are_those_of_the_chosen_parameters(
    searched: Any, small_data: SmallData
) -> None:
    """Recomputed from the saved model: without dropout, on the right pairs, with the margin."""
    table = small_data[0].table
    parts = pd.read_csv(searched.workdir / "splits.csv", dtype={"series_id": str})
    for name in ("tiny_mlp", "iqa_only"):
        model = jaxrank.load_model(searched.workdir / name / "model")
        fold, seed = model.card.fold, model.card.seeds[0]
        rows = searched.trials[searched.trials["experiment_name"] == name]
        row = rows[(rows["fold"] == fold) & (rows["seed"] == seed)].iloc[0]
        scores = model.score(small_data[1])
        difference = scores[table["image_a"]].to_numpy() - scores[table["image_b"]].to_numpy()
        y = np.sign(table["preference"].to_numpy() - 0.5)
        part_of = parts[parts["fold"] == fold].set_index("series_id")["split"]
        part = part_of[table["series_id"]].to_numpy()
        for split in ("train", "val", "test"):
            used = (part == split) & (y != 0)
            hinge = np.maximum(0, 1 - y * difference)[used].mean()
            right = (np.sign(difference) == y)[used].mean()
            assert row[f"{split}_loss"] == pytest.approx(hinge, abs=1e-4)
            assert row[f"{split}_accuracy"] == pytest.approx(right, abs=1e-6)
        # The running means of training are others: of the loss in every trial, of the accuracy,
        # which can be the same share of few pairs by chance, in some.
        history = pd.read_csv(searched.workdir / name / "history.csv")
        both = rows.merge(history, left_on=["fold", "seed", "best_epoch"],
                          right_on=["fold", "seed", "epoch"])  # fmt: skip
        assert len(both) == len(rows)
        assert (both["running_train_loss"] - both["train_loss"]).abs().min() > 1e-4
        assert (both["running_train_accuracy"] - both["train_accuracy"]).abs().max() > 1e-6


def test_the_split_does_not_depend_on_the_features(small_data: SmallData) -> None:
    pairs, store = small_data
    block = store["iqa"]
    kept = [
        place for place, photo in enumerate(block.photos) if not photo.startswith(("s1-", "s4"))
    ]
    fewer = {"iqa": Block([block.photos[i] for i in kept], block.columns, block.values[kept])}
    whole, part = prepare.prepare(pairs, {"iqa": block}), prepare.prepare(pairs, fewer)
    assert 40 < len(part.dataset.series_ids) < len(whole.dataset.series_ids)
    np.testing.assert_array_equal(
        whole.split_data.splits_FM[:, part.dataset.kept_M], part.split_data.splits_FM
    )


def without_times(path: Path) -> pd.DataFrame:
    return pd.read_csv(path).drop(columns="duration_seconds")


def test_two_runs_of_one_seed_are_equal_and_of_another_seed_are_not(
    searched: Any, launched: tuple[Path, str], small_data: SmallData, tmp_path: Path
) -> None:
    first = without_times(searched.workdir / "summary.csv")
    pd.testing.assert_frame_equal(first, without_times(launched[0] / "summary.csv"))
    other = jaxrank.search(*small_data, workdir=tmp_path / "other", seed=7, **QUICK)
    assert not first.equals(without_times(other.workdir / "summary.csv"))
    np.testing.assert_array_equal(
        (searched.workdir / "splits.csv").read_bytes(), (other.workdir / "splits.csv").read_bytes()
    )  # --seed is of training only


def test_permuting_the_test_labels_changes_only_test_columns(
    small_data: SmallData, tmp_path: Path
) -> None:
    """One fold, so that no series is test here and training there."""
    one_fold = QUICK | {"experiments": ["tiny_mlp"], "folds": 0, "num_seeds": 1}
    before = jaxrank.search(*small_data, workdir=tmp_path / "before", **one_fold).summary
    pairs, store = small_data
    series = np.unique(pairs.table["series_id"])
    parts = splits.split_series(series)
    tested = pairs.table["series_id"].isin(series[parts[0] == splits.TEST]).to_numpy()
    table = pairs.table.copy()
    table.loc[tested, "preference"] = table.loc[tested, "preference"].to_numpy()[::-1]
    after = jaxrank.search(table, store, workdir=tmp_path / "after", **one_fold).summary
    of_test = ("test_", "diff_", "share_first", "tied_for_best", "outcome", "duration_seconds")
    columns = [c for c in SUMMARY_COLUMNS if not c.startswith(of_test)]
    pd.testing.assert_frame_equal(before[columns], after[columns])
    assert not before["test_accuracy"].equals(after["test_accuracy"])


def test_a_sick_experiment_has_a_row_with_its_reason_and_the_others_stand(
    small_data: SmallData, tmp_path: Path
) -> None:
    config = prepare.default.get_config()
    config.experiments["sick"] = {"mlp_hidden_dims": "128", "batch_size": 128, "learning_rate": 1e9}
    result = jaxrank.search(
        *small_data, config=config, experiments=["tiny_mlp", "sick"], workdir=tmp_path / "w"
    )
    rows = result.summary.set_index("experiment_name")
    assert rows.loc["sick", "status"] == "failed"
    assert "not a finite number in epoch" in rows.loc["sick", "error"]
    assert np.isnan(rows.loc["sick", "val_accuracy"])
    assert rows.loc["tiny_mlp", "status"] == "completed"
    assert not (tmp_path / "w" / "sick" / "model").exists()
    alone = jaxrank.search(*small_data, experiments=["tiny_mlp"], workdir=tmp_path / "alone")
    same = alone.summary.set_index("experiment_name").loc["tiny_mlp"]
    assert rows.loc["tiny_mlp", "val_accuracy"] == pytest.approx(same["val_accuracy"])


def test_an_experiment_without_its_block_is_skipped_and_said(
    small_data: SmallData, tmp_path: Path
) -> None:
    pairs, store = small_data
    result = jaxrank.search(
        pairs, {"iqa": store["iqa"]}, experiments=["clip_only", "iqa_only", "tiny_mlp"],
        workdir=tmp_path / "w", overrides={"max_epochs": 1},
    )  # fmt: skip
    rows = result.summary.set_index("experiment_name")
    assert rows.loc["clip_only", "status"] == "skipped"
    assert rows.loc["clip_only", "error"] == "the features have no block 'clip' (blocks: iqa)"
    assert rows.loc["iqa_only", "status"] == "completed"
    assert "skipped clip_only" in (tmp_path / "w" / "training.log").read_text()
    lines = printed(result)
    (header,) = (line for line in lines if line.startswith("experiment "))
    assert "patience" in header
    (skipped,) = (line for line in lines if line.startswith("clip_only "))
    # Nothing was trained with its hyperparameters, which few pairs changed.
    assert re.fullmatch(r"clip_only +clip +\[\d\]", skipped)


def printed(result: Any) -> list[str]:
    """The lines of the table on a wide screen."""
    screen = io.StringIO()
    print_summary(Console(file=screen, width=400), result.summary, result.experiments, [], top=10)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_the_table_says_that_position_is_not_compared(searched: Any) -> None:
    lines = printed(searched)
    (position,) = (line for line in lines if line.startswith("position "))
    about = "baseline 'the first photo wins': describes the table of pairs; not compared"
    assert f"{position.split()[-1]} {about}" in lines


def test_the_command_line_gives_what_python_gives(
    searched: Any, launched: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, out = launched
    assert str(workdir) in out
    assert "Best of 4 candidates (the reference linear is one): " in out
    pd.testing.assert_frame_equal(
        without_times(workdir / "summary.csv"), without_times(searched.workdir / "summary.csv")
    )
    assert main(["launch.py", "search", f"--workdir={workdir}"]) == 2
    assert "a search has been begun there" in capsys.readouterr().err


def test_simulated_data_are_called_so_wherever_they_show(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def small() -> Any:
        return jaxrank.simulate(0, 60)

    monkeypatch.setattr(inputs, "simulate", small)
    words = ["--experiments=iqa_only", "--config.max_epochs=1", f"--workdir={tmp_path / 'w'}"]
    assert main(["launch.py", "search", *words]) == 0
    out = capsys.readouterr().out
    assert "SIMULATED data" in out
    assert "the ceiling is known" in out
    results = json.loads((tmp_path / "w" / "results.json").read_text())
    assert results["data"]["simulated"] is True
    summary = pd.read_csv(tmp_path / "w" / "summary.csv")
    assert summary["notes"].str.contains("SIMULATED data").all()
    prepared = prepare.prepare(experiments=["iqa_only"])
    assert prepared.ceiling_scores_N is not None
    evaluator = make_evaluator(prepared.split_data)
    ceiling = baseline_metrics(prepared.ceiling_scores_N, evaluator)
    assert ceiling["train_accuracy"] > 0.6


def test_a_trials_duration_is_its_share_of_the_cohorts(
    small_data: SmallData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fit = train.fit

    def ten_seconds(*arguments: Any, **options: Any) -> Any:
        return fit(*arguments, **options)._replace(seconds=10.0)

    monkeypatch.setattr(train, "fit", ten_seconds)
    options = QUICK | {"experiments": ["iqa_only"], "overrides": {"max_epochs": 1}}
    result = jaxrank.search(*small_data, workdir=tmp_path / "w", **options)
    assert set(result.trials["duration_seconds"]) == {10.0 / 6}  # 3 folds x 2 seeds


def test_pairs_without_any_direction_are_told(small_data: SmallData) -> None:
    pairs, store = small_data
    with pytest.raises(UserError, match=r"every preference is exactly 0\.5"):
        prepare.prepare(Preferences(pairs.table.assign(preference=0.5)), store)


def test_an_unwritable_workdir_is_a_users_mistake(small_data: SmallData, tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("x")
    with pytest.raises(UserError, match="can't be used"):
        jaxrank.search(*small_data, workdir=occupied, **QUICK)


def test_the_real_tables_score_as_they_are_known_to(photo_triage: Path, tmp_path: Path) -> None:
    """57% from four image-quality numbers on the preferences, chance on the permuted votes."""
    block = jaxrank.read_block_csv(photo_triage / "iqa.csv")
    scores = {}
    for name in ("pairs", "votes"):
        result = jaxrank.search(
            photo_triage / f"{name}.csv", {"iqa": block}, experiments=["iqa_only"], folds=5,
            num_seeds=3, workdir=tmp_path / name,
        )  # fmt: skip
        scores[name] = result.summary.set_index("experiment_name")["test_accuracy"]
    assert 0.555 <= scores["pairs"]["iqa_only"] <= 0.62
    assert 0.47 <= scores["votes"]["iqa_only"] <= 0.53
    assert scores["pairs"]["sharpness"] == pytest.approx(0.556, abs=0.004)
    assert scores["votes"]["sharpness"] == pytest.approx(0.497, abs=0.004)  # by fold, its sign too


def test_experiments_that_hardly_trained_are_said(small_data: SmallData, tmp_path: Path) -> None:
    still = {"learning_rate": 1e-12, "max_epochs": 2, "batch_size": 64}
    result = jaxrank.search(
        *small_data, experiments=["tiny_mlp"], overrides=still, workdir=tmp_path / "w"
    )
    said = "\n".join(result.notes)
    pairs = small_data[0].table
    in_train = splits.split_pairs(pairs)[0] == splits.TRAIN
    steps = 2 * -(-int(in_train.sum()) // 64)
    assert f"Hardly trained, with fewer than 100 steps a trial: tiny_mlp ({steps})" in said


def test_a_search_that_learned_says_neither(small_data: SmallData, tmp_path: Path) -> None:
    overrides = {"batch_size": 4, "learning_rate": 5e-3, "max_epochs": 10}
    overrides |= {f"linear.{key}": value for key, value in overrides.items()}
    result = jaxrank.search(
        *small_data, experiments=["tiny_mlp"], overrides=overrides, workdir=tmp_path / "w"
    )
    assert result.summary["status"].iloc[0] == "completed"  # the best row is a trained one
    assert not any(line.startswith("Hardly") for line in result.notes)


def test_resume_says_that_there_was_nothing_to_go_on_with(
    searched: Any, small_data: SmallData, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"experiments": ["iqa_only"], "overrides": {"max_epochs": 1}}
    jaxrank.search(*small_data, workdir=tmp_path / "w", resume=True, **options)
    assert "no search to resume" in (tmp_path / "w" / "training.log").read_text()
    assert "no search to resume" not in (searched.workdir / "training.log").read_text()


def test_the_log_counts_in_the_singular(small_data: SmallData, tmp_path: Path) -> None:
    options: dict[str, Any] = {"experiments": ["iqa_only"], "overrides": {"max_epochs": 1}}
    jaxrank.search(*small_data, workdir=tmp_path / "w", **options)
    assert " (iqa_only): 1 trial, 1 epoch of " in (tmp_path / "w" / "training.log").read_text()
