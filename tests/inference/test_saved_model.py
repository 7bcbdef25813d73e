import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from small_data import card_of

from jaxrank.configs import default
from jaxrank.data.feature_store import Block, write_block
from jaxrank.errors import UserError
from jaxrank.evaluation.ensembles import SINGLE
from jaxrank.experiments.hyperparameters import read_experiments
from jaxrank.inference.saved_model import Model, load_model, save_model
from jaxrank.io import seal
from jaxrank.models import Scorer
from jaxrank.scaling import fit_scaling
from jaxrank.training.state import InitialWeights


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    experiment = read_experiments(default.get_config(), ["tiny_mlp"], {})[0]
    experiment = dataclasses.replace(experiment, mlp_hidden_dims=(4,), blocks=("clip", "iqa"))
    params = Scorer((4,)).init(jax.random.key(0), np.zeros((1, 3), np.float32))
    fitted_on = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    scaling = fit_scaling(fitted_on, np.arange(20), [0, 1, 2])
    folder = tmp_path / "mod\u00e8le 1"
    folder.mkdir()
    columns = {"clip": ("c0", "c1"), "iqa": ("sharpness",)}
    seen = {"train": frozenset(["p"]), "val": frozenset(["q"])}
    weights = InitialWeights(params, scaling)
    model = Model(card_of(experiment, fold=2, seeds=(1,)), columns, (weights,), SINGLE, seen)
    save_model(folder, model, fitted_on)
    return folder


FILES = {
    "model.safetensors", "model.json", "photos.json", "test_vectors.npz", "README.md",
    "checksums.json",
}  # fmt: skip


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
        x = model.weights.scaling.apply(np.concatenate([clip, iqa])[None])[0]
        weights = model.weights.params["params"]
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
        for dims in (record["architecture"]["hidden_dims"], change["mlp_hidden_dims"]):
            architecture = record["architecture"] | {"hidden_dims": dims}
            path.write_text(json.dumps(record | {"card": card, "architecture": architecture}))
            reseal(saved)
            refusal(saved)
    clip, iqa = record["blocks"]
    wrong: list[Any] = [
        [],
        {},
        [clip],
        [clip, clip],
        [clip, iqa | {"columns": "abc"}],
        [clip, iqa, 3],
    ]
    for blocks in wrong:
        path.write_text(json.dumps(record | {"blocks": blocks}))
        reseal(saved)
        assert "not a model folder" in refusal(saved)
    for part in ({"members": 2}, {"inputs": 4}, {"normal_score_columns": [0]}, {"layernorm": True}):
        architecture = record["architecture"] | part
        path.write_text(json.dumps(record | {"architecture": architecture}))
        reseal(saved)
        assert any(words in refusal(saved) for words in ("can't be read", "not a model folder"))


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


def reseal(folder: Path) -> None:
    seal.write_seal(folder, seal.checksums(folder))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


def test_what_is_no_model_is_told_in_one_line(saved: Path) -> None:
    assert "not a model folder" in refusal(saved / "none")
    (saved / "model.json").unlink()
    assert "not a model folder" in refusal(saved)


@pytest.mark.parametrize("number", [4, 5, 7])
def test_a_model_of_another_version_is_refused(saved: Path, number: int) -> None:
    """Formats before 5 had no seal, those before 6 no such weights."""
    (saved / "model.json").write_text(json.dumps({"format": number, "card": {}}))
    if number < 6:
        (saved / "model.safetensors").unlink()
        (saved / "params" / "d").mkdir(parents=True)
        (saved / "params" / "d" / "0").write_text("weights")
    if number > 4:
        reseal(saved)
    else:
        (saved / seal.CHECKSUMS).unlink()
    expected = f"a model of another version of jaxrank (format '{number}', not 6); train it again"
    assert expected in refusal(saved)


def test_a_flipped_bit_in_any_file_is_told_before_anything_is_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("safetensors.numpy.load")
    monkeypatch.delattr("jaxrank.inference.saved_model.read_json")
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert {path.name for path in files} == FILES
    assert all(path.stat().st_size for path in files)
    for path in files:
        good = path.read_bytes()
        for place in {0, len(good) // 2, len(good) - 1}:
            bad = bytearray(good)
            bad[place] ^= 1 << (place % 8)
            path.write_bytes(bad)
            refused = refusal(saved)
            assert "damaged since it was saved" in refused
            if path.name != seal.CHECKSUMS:
                assert f"(the file {path.relative_to(saved).as_posix()} has changed)" in refused
        path.write_bytes(good)


@pytest.mark.parametrize("name", sorted(FILES - {"model.json", seal.CHECKSUMS}))
def test_a_missing_file_is_told_and_an_added_one_is_not_read(saved: Path, name: str) -> None:
    (saved / ".git").mkdir()
    (saved / ".git" / "config").write_text("")
    (saved / ".gitattributes").write_text("")
    load_model(saved)
    (saved / name).unlink()
    assert f"(the file {name} is missing)" in refusal(saved)


def test_a_seal_that_is_gone_or_no_seal_is_told(saved: Path) -> None:
    for text in (
        "{",
        "[]",
        "{}",
        '{"files": {}}',
        '{"files": 3}',
        '{"files": {"a": null}, "b": 1}',
    ):
        (saved / seal.CHECKSUMS).write_text(text)
        assert "(checksums.json is damaged)" in refusal(saved)
    (saved / seal.CHECKSUMS).unlink()
    assert "(checksums.json is missing)" in refusal(saved)


def test_hyperparameters_that_a_model_lacks_have_their_defaults(saved: Path) -> None:
    """A model outlives a new hyperparameter, but not the loss of one that says what it computes."""
    before = load_model(saved)
    path = saved / "model.json"
    record = json.loads(path.read_text())
    for name in ("mixup", "patience", "sampler"):
        del record["card"]["experiment"][name]
    path.write_text(json.dumps(record))
    reseal(saved)
    found = load_model(saved)
    assert found.card.experiment.patience == default.get_config().patience
    assert found.card.experiment.mlp_hidden_dims == (4,)
    assert found.digest == before.digest
    del record["card"]["experiment"]["activation"]
    path.write_text(json.dumps(record))
    reseal(saved)
    assert "not a model folder" in refusal(saved)


def test_a_model_without_normal_scores_has_no_knots(saved: Path) -> None:
    model = load_model(saved)
    plain = fit_scaling(np.eye(3, dtype=np.float32), np.arange(3))
    standard = dataclasses.replace(model.card.experiment, input_scaling="standard")
    card = dataclasses.replace(model.card, experiment=standard)
    members = (model.weights._replace(scaling=plain),)
    save_model(saved, model._replace(card=card, members=members), np.zeros((1, 3), np.float32))
    loaded = load_model(saved)
    assert loaded.card.experiment.input_scaling == "standard"
    assert "member_0/knots" not in safetensors.numpy.load_file(saved / "model.safetensors")
    features = store(["p", "q", "r"])
    expected = model._replace(members=members).score(features)
    np.testing.assert_array_equal(loaded.score(features), expected)
    assert loaded.digest != model.digest


def test_the_knots_are_part_of_the_model(saved: Path) -> None:
    model = load_model(saved)
    scaling = model.weights.scaling
    assert scaling.knots_JK.shape == (3, 256)
    changed = model.weights._replace(scaling=scaling._replace(knots_JK=scaling.knots_JK + 1))
    moved = model._replace(members=(changed,))
    assert moved.digest != model.digest
    features = store(["p", "q", "r"])
    assert not np.array_equal(moved.score(features), model.score(features))
