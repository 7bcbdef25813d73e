"""Splits that a reader must be warned of, and models that begin from another one."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_data import compiled

import jaxrank
from jaxrank import train
from jaxrank.cli import main
from jaxrank.data import splits
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.experiments.hyperparameters import default_experiment
from jaxrank.planning.cohort import Cohort
from jaxrank.reporting import best_config
from jaxrank.runner import prepare
from jaxrank.training import state

SmallData = tuple[Preferences, dict[str, Block]]
TINY: dict[str, Any] = {
    "experiments": ["tiny_mlp"],
    "overrides": {"mlp_hidden_dims": "8", "learning_rate": 5e-3, "max_epochs": 3},
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    """The folder of a model that was trained on half-known labels of training series."""
    workdir = tmp_path_factory.mktemp("pretrained") / "w"
    jaxrank.search(*small_data, workdir=workdir, split="pretrain", **TINY)
    return workdir / "tiny_mlp" / "model"


def cohort_of_tiny_mlp(ready: prepare.Prepared) -> Cohort:
    (cohort,) = [c for c in ready.cohorts if c.trials[0].experiment.name == "tiny_mlp"]
    return cohort


def test_training_begins_as_the_model_that_is_named(
    pretrained: Path, small_data: SmallData
) -> None:
    """With steps of nearly nothing, the scores stay those of the model, scaling included."""
    still = {"mlp_hidden_dims": "8", "learning_rate": 1e-12, "max_epochs": 1}
    model = jaxrank.load_model(pretrained)
    ready = prepare.prepare(
        *small_data, experiments=["tiny_mlp"], overrides=still, init_from=pretrained, num_seeds=2
    )
    assert [len(cohort.trials) for cohort in ready.cohorts] == [2, 2, 2]  # the references are alone
    fitted = train.fit(cohort_of_tiny_mlp(ready), ready.split_data, start=ready.initial_weights)
    expected = model.score(small_data[1])[ready.dataset.photos]
    np.testing.assert_allclose(fitted.scores_PN[0], expected, atol=1e-5)
    anew = prepare.prepare(*small_data, experiments=["tiny_mlp"], overrides=still)
    fresh = train.fit(cohort_of_tiny_mlp(anew), anew.split_data)
    assert np.abs(fresh.scores_PN[0] - expected.to_numpy()).max() > 0.1


def test_a_model_may_be_tuned_with_another_loss(pretrained: Path, small_data: SmallData) -> None:
    changes = {"loss": "davidson", "max_epochs": 2}
    ready = prepare.prepare(
        *small_data,
        experiments=["tiny_mlp"],
        overrides=TINY["overrides"] | changes,
        init_from=pretrained,
    )
    fitted = train.fit(cohort_of_tiny_mlp(ready), ready.split_data, start=ready.initial_weights)
    assert fitted.status_P.tolist() == [state.STOPPED]
    assert float(fitted.best_params["loss"]["log_ties"][0]) != 0


def test_tuning_is_compiled_once_with_a_loss_that_learns_too(
    pretrained: Path, small_data: SmallData
) -> None:
    changes = {"loss": "davidson", "margin": 1.25}
    ready = prepare.prepare(
        *small_data,
        experiments=["tiny_mlp"],
        overrides=TINY["overrides"] | changes,
        init_from=pretrained,
        split_seed=42,
        seed=5,
    )
    before = compiled()
    train.fit(cohort_of_tiny_mlp(ready), ready.split_data, start=ready.initial_weights)
    assert compiled() <= before + 1


def test_folds_are_pretrained_one_by_one(
    small_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--pairs={small_files[0]}", f"--features={small_files[1]}", "--folds=3",
             "--max_epochs=1", "--mlp_hidden_dims=8"]  # fmt: skip
    first = tmp_path / "first"
    start = f"--init_from={first / 'trained' / 'model'}"
    one = ["launch.py", "train", *words, "--only_folds=1"]
    assert main([*one, "--split=pretrain", f"--workdir={first}"]) == 0
    assert main([*one, start, f"--workdir={tmp_path / 'second'}"]) == 0
    capsys.readouterr()
    all_folds = ["launch.py", "train", *words, start, f"--workdir={tmp_path / 'third'}"]
    assert main(all_folds) == 2
    assert "with --only_folds=K in both" in capsys.readouterr().err


def test_what_the_first_model_saw_the_second_has_seen(
    pretrained: Path, small_data: SmallData, tmp_path: Path
) -> None:
    result = jaxrank.search(*small_data, workdir=tmp_path / "w", init_from=pretrained, **TINY)
    first, second = (
        jaxrank.load_model(folder) for folder in (pretrained, result.workdir / "tiny_mlp" / "model")
    )
    assert first.seen["train"] <= second.seen["train"]
    assert first.seen["val"] <= second.seen["val"]
    reference = jaxrank.load_model(result.workdir / "linear" / "model")
    assert not first.seen["val"] <= reference.seen["val"]
    plain = jaxrank.search(*small_data, workdir=tmp_path / "plain", **TINY)
    rows, plain_rows = (r.summary.set_index("experiment_name") for r in (result, plain))
    assert rows.loc["linear", "val_loss"] == plain_rows.loc["linear", "val_loss"]
    assert rows.loc["tiny_mlp", "val_loss"] != plain_rows.loc["tiny_mlp", "val_loss"]


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_a_configuration_says_that_its_search_began_from_a_model(digest: str) -> None:
    begun = dataclasses.replace(default_experiment("a"), init_from=digest, notes="mine")
    note = "mine; selected in a search with --init_from: give that model again"
    values = best_config.config_values(begun)
    assert values["notes"] == (note if digest else "mine")
    assert best_config.config_values(dataclasses.replace(begun, notes=note))["notes"] == note


def test_a_model_that_knows_the_answers_is_refused(
    pretrained: Path, small_data: SmallData, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"has seen .* test photos, such as 's"):
        prepare.prepare(*small_data, init_from=pretrained, split_seed=7, **TINY)
    # One that trained on this split's validation series: it has seen no test photo.
    parts = splits.split_pairs(small_data[0].table)[0]
    rest = Preferences(small_data[0].table[parts != splits.TEST].reset_index(drop=True))
    jaxrank.search(rest, small_data[1], workdir=tmp_path / "w", split="random", **TINY)
    with pytest.raises(UserError, match=r"has seen .* val photos"):
        prepare.prepare(*small_data, init_from=tmp_path / "w" / "tiny_mlp" / "model", **TINY)


def test_a_model_that_knows_series_set_aside_is_refused(
    pretrained: Path, small_data: SmallData, tmp_path: Path
) -> None:
    options = TINY | {"confirm_share": 0.2}
    with pytest.raises(UserError, match=r"has seen .* set-aside photos, .* and --confirm_share"):
        prepare.prepare(*small_data, init_from=pretrained, **options)
    jaxrank.search(*small_data, workdir=tmp_path / "w", **options)
    prepare.prepare(*small_data, init_from=tmp_path / "w" / "tiny_mlp" / "model", **options)


def test_a_model_of_another_shape_is_refused(pretrained: Path, small_data: SmallData) -> None:
    pairs, store = small_data

    def refused(store: dict[str, Block], **changes: Any) -> str:
        overrides = TINY["overrides"] | changes
        with pytest.raises(UserError) as error:
            prepare.prepare(
                pairs, store, experiments=["tiny_mlp"], overrides=overrides, init_from=pretrained
            )
        return str(error.value)

    assert "mlp_hidden_dims=[8], but experiment 'tiny_mlp' has [9]" in refused(
        store, mlp_hidden_dims="9"
    )
    assert "activation=relu" in refused(store, activation="tanh")
    assert "use_layernorm=False" in refused(store, use_layernorm=True)
    assert "l2_blocks=[]" in refused(store, l2_blocks="clip")
    assert "does not read the columns" in refused(store, blocks="clip,iqa")
    other = store["iqa"]._replace(columns=["a", "b", "c", "d"])
    assert "does not read the columns" in refused(store | {"iqa": other})


def test_a_search_from_a_model_goes_on_from_that_model_only(
    pretrained: Path, small_data: SmallData, tmp_path: Path
) -> None:
    own = tmp_path / "model"
    shutil.copytree(pretrained, own)
    options = {"workdir": tmp_path / "w", "init_from": own, **TINY}
    whole = jaxrank.search(*small_data, **options)
    # A model that has moved is the same model.
    moved = own.rename(tmp_path / "moved")
    again = jaxrank.search(*small_data, **options | {"init_from": moved, "resume": True})
    assert again.nothing_to_do
    more = jaxrank.search(
        *small_data, workdir=tmp_path / "w", init_from=moved, extend=True, num_seeds=2
    )
    assert len(more.trials) == len(whole.trials) + 3
    jaxrank.search(*small_data, workdir=tmp_path / "x", split="pretrain", seed=9, **TINY)
    with pytest.raises(UserError, match="init_from of experiment 'tiny_mlp' is"):
        jaxrank.search(
            *small_data,
            workdir=tmp_path / "w",
            init_from=tmp_path / "x" / "tiny_mlp" / "model",
            extend=True,
            num_seeds=3,
        )


@pytest.mark.parametrize("split", ["random", "pretrain"])
def test_a_split_that_leaks_is_called_so_wherever_results_are(
    split: str,
    small_files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caveat = splits.CAVEATS[split]
    assert "leaks" in caveat
    workdir = tmp_path / "w"
    words = [f"--pairs={small_files[0]}", f"--features={small_files[1]}", f"--workdir={workdir}"]
    assert main(["launch.py", "train", *words, f"--split={split}", "--max_epochs=1"]) == 0
    out = capsys.readouterr().out
    assert caveat in out.split("trials in")[0]  # before anything is trained
    assert caveat in out.split("done in")[1]  # and above the table
    assert caveat in (workdir / "training.log").read_text()
    assert pd.read_csv(workdir / "summary.csv")["notes"].str.contains(caveat).all()
    for path in ("results.json", "trained/test_results.json", "trained/model/model.json"):
        assert caveat in repr(json.loads((workdir / path).read_text()))
    parts = pd.read_csv(workdir / "splits.csv", dtype={"series_id": str})
    assert parts.columns.tolist() == ["series_id", "image_a", "image_b", "fold", "split"]
    torn = parts.groupby("series_id")["split"].nunique()
    assert (torn > 1).any()
    # What is measured on the model later says it too.
    assert main(["launch.py", "rank", f"--model={workdir / 'trained' / 'model'}",
                 f"--features={small_files[1]}", f"--workdir={tmp_path / 'r'}"]) == 0  # fmt: skip
    assert caveat in capsys.readouterr().out


def test_the_official_split_tests_the_val_list(photo_triage: Path) -> None:
    """The real lists, with a feature that says nothing: no photo may be missing."""
    pairs = jaxrank.read_preferences(photo_triage)
    photos = sorted({*pairs.table["image_a"], *pairs.table["image_b"]})
    block = Block(photos, ["noise"], np.random.default_rng(0).standard_normal((len(photos), 1)))
    ready = prepare.prepare(pairs, {"iqa": block}, split="official", experiments=["iqa_only"])
    table, parts = ready.dataset.table, ready.split_data.splits_FM[0]
    np.testing.assert_array_equal(parts == splits.TEST, table["official_split"] == "val")
    train_series, val_series, test_series = (
        set(table["series_id"][parts == part]) for part in splits.MEASURED
    )
    assert not train_series & val_series
    assert not test_series & (train_series | val_series)
    assert len(val_series) == len(train_series | val_series) // 10
