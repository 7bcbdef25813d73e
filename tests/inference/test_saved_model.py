import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from small_data import card_of

from jaxrank.configs import default
from jaxrank.data.feature_store import Block, write_block
from jaxrank.errors import UserError
from jaxrank.experiments.hyperparameters import read_experiments
from jaxrank.inference.saved_model import load_model, save_model
from jaxrank.models import Scorer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    experiment = read_experiments(default.get_config(), ["tiny_mlp"], {})[0]
    experiment = dataclasses.replace(experiment, mlp_hidden_dims=(4,), blocks=("clip", "iqa"))
    params = Scorer((4,)).init(jax.random.key(0), np.zeros((1, 3), np.float32))
    folder = tmp_path / "mod\u00e8le 1"
    folder.mkdir()
    save_model(
        folder,
        card_of(experiment, fold=2, seed=1),
        {"clip": ("c0", "c1"), "iqa": ("sharpness",)},
        params,
        np.array([1, 2, 3], np.float32),
        np.array([1, 0.5, 2], np.float32),
        {"train": ["p"], "val": ["q"]},
    )
    return folder


def store(photos: list[str]) -> dict[str, Block]:
    rng = np.random.default_rng(0)
    return {
        "iqa": Block(photos, ["sharpness"], rng.standard_normal((len(photos), 1))),
        "clip": Block(photos[::-1], ["c0", "c1"], rng.standard_normal((len(photos), 2))),
    }


def test_a_loaded_model_scores_as_the_formula_says(saved: Path) -> None:
    model = load_model(saved)
    assert model.card.fold == 2
    assert model.card.experiment.mlp_hidden_dims == (4,)
    features = store(["p", "q", "r"])
    scores = model.score(features)
    assert set(scores.index) == {"p", "q", "r"}
    for photo, score in scores.items():
        clip = features["clip"].values[features["clip"].photos.index(photo)]
        iqa = features["iqa"].values[features["iqa"].photos.index(photo)]
        x = (np.concatenate([clip, iqa]) - model.mean_D) * model.inv_std_D
        weights = model.params["params"]
        hidden = np.maximum(x @ weights["kernel_0"].T + weights["bias_0"], 0)
        expected = hidden @ weights["kernel_1"].T
        assert score == pytest.approx(float(expected[0]), abs=1e-5)


def test_a_model_scores_a_store_by_its_folder_and_prints_briefly(
    saved: Path, tmp_path: Path
) -> None:
    model, features = load_model(saved), store(["p", "q"])
    for name, block in features.items():
        write_block(tmp_path / "store", name, block)
    np.testing.assert_allclose(model.score(tmp_path / "store"), model.score(features), atol=1e-6)
    assert len(repr(model)) < 1000


def test_a_record_that_contradicts_the_weights_is_refused(saved: Path) -> None:
    path = saved / "model.json"
    record = json.loads(path.read_text())
    for change in ({"mlp_hidden_dims": [5]}, {"mlp_hidden_dims": "4"}, {"mlp_hidden_dims": [-4]}):
        card = record["card"] | {"experiment": record["card"]["experiment"] | change}
        path.write_text(json.dumps(record | {"card": card}))
        with pytest.raises(
            UserError, match=r"can't be read|not have the shapes|not a model folder"
        ):
            load_model(saved)
    for blocks in ({}, {"iqa": "abc"}, {"iqa": ["a"]}):
        path.write_text(json.dumps(record | {"block_columns": blocks}))
        with pytest.raises(
            UserError, match=r"can't be read|not have the shapes|not a model folder"
        ):
            load_model(saved)


def test_photos_that_lack_a_block_are_not_scored_and_none_is_an_error(saved: Path) -> None:
    features = store(["p", "q"])
    features["iqa"] = features["iqa"]._replace(photos=["q", "x"])
    assert load_model(saved).score(features).index.tolist() == ["q"]
    features["iqa"] = features["iqa"]._replace(photos=["y", "x"])
    with pytest.raises(UserError, match="no photo has a row"):
        load_model(saved).score(features)


def test_features_that_are_not_the_models_are_refused(saved: Path) -> None:
    model = load_model(saved)
    features = store(["p"])
    with pytest.raises(UserError, match="reads block 'iqa'"):
        model.score({"clip": features["clip"]})
    other = features["clip"]._replace(columns=["c1", "c0"])
    with pytest.raises(UserError, match="block 'clip' does not have the columns"):
        model.score(features | {"clip": other})


@pytest.mark.parametrize("damage", ["folder", "json", "format", "params"])
def test_a_damaged_model_is_told_in_one_line(saved: Path, damage: str) -> None:
    if damage == "folder":
        saved = saved / "none"
    elif damage == "json":
        (saved / "model.json").write_text("{")
    elif damage == "format":
        (saved / "model.json").write_text('{"format": 0}')
    else:
        for file in (saved / "params").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
    with pytest.raises(UserError, match=r"not a model folder|can't be read"):
        load_model(saved)
