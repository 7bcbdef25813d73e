"""A model names the flags that make its blocks of photos."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from photo_stores import SMALL, fill
from small_data import card_of, experiment

from jaxrank.cli import main
from jaxrank.data.feature_store import (
    Block,
    Extraction,
    Recipe,
    open_feature_store,
    recipe_of,
    write_block,
)
from jaxrank.data.merge import merge_stores
from jaxrank.errors import UserError
from jaxrank.evaluation.ensembles import SINGLE
from jaxrank.extraction import pipeline
from jaxrank.extraction.extractors import Options
from jaxrank.extraction.photos import list_folder
from jaxrank.extraction.pipeline import extract
from jaxrank.inference.saved_model import Model, load_model, save_model
from jaxrank.scaling import fit_scaling
from jaxrank.training.state import InitialWeights

EXTENDED = Options(blocks=("iqa",), values={"iqa": "extended"})


def save_reader_of(block: Block, folder: Path, name: str = "iqa") -> Path:
    """A saved linear model that reads a block."""
    recipe = recipe_of(block)
    assert recipe is not None
    width = len(block.columns)
    e = experiment("e", mlp_hidden_dims=(), blocks=(name,), input_scaling="standard")
    params = {"params": {"kernel_0": np.ones((1, width), np.float32)}}
    values = np.asarray(block.values, np.float32)
    weights = InitialWeights(params, fit_scaling(values, np.arange(len(values))))
    seen = {"train": frozenset[str](), "val": frozenset[str]()}
    card = card_of(e, recipes={name: recipe})
    model = Model(card, {name: tuple(block.columns)}, (weights,), SINGLE, seen)
    save_model(folder, model, values)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", 3)


def test_the_named_flags_make_what_the_model_reads(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(list_folder(photos), tmp_path / "then", EXTENDED)
    trained_on = open_feature_store(tmp_path / "then")["iqa"]
    model = save_reader_of(trained_on, tmp_path / "m")
    assert main(["jaxrank", "extract", f"--photos={photos}", "--blocks=iqa", "--iqa=classic",
                 f"--features={tmp_path / 'now'}"]) == 0  # fmt: skip
    capsys.readouterr()
    rank = ["jaxrank", "rank", f"--model={model}", f"--workdir={tmp_path / 'w'}"]
    assert main([*rank, f"--features={tmp_path / 'now'}"]) == 2
    error = capsys.readouterr().err
    flags = re.search(r"make it by: jaxrank extract (.*)\n", error)
    assert flags is not None
    assert error.startswith("jaxrank: block 'iqa' does not have the columns of the model's")
    words = [f"--photos={photos}", f"--features={tmp_path / 'right'}", *shlex.split(flags[1])]
    assert main(["jaxrank", "extract", *words]) == 0
    assert main([*rank, f"--features={tmp_path / 'right'}"]) == 0
    assert f"jaxrank extract {flags[1]}" in (model / "README.md").read_text()


def test_another_recipe_of_the_same_columns_is_told_with_flags(
    photos: Path, tmp_path: Path
) -> None:
    extract(list_folder(photos), tmp_path / "a", SMALL)
    block = open_feature_store(tmp_path / "a")["cnn"]
    model = load_model(save_reader_of(block, tmp_path / "m", "cnn"))
    assert len(model.score(tmp_path / "a")) == 3
    assert block.extraction is not None
    other = block.extraction._replace(recipe=dict(block.extraction.recipe) | {"layer": "other"})
    wanted = (
        r"was trained on \(test_resnet, random weights\); make it by: jaxrank extract "
        "--blocks=cnn --cnn_model=test_resnet --cnn_weights=none"
    )
    with pytest.raises(UserError, match=f"block 'cnn' .* was not made as the one that .*{wanted}$"):
        model.score({"cnn": block._replace(extraction=other)})
    with pytest.raises(UserError, match=r"block 'cnn', which the features lack; make it by: "):
        model.score({"iqa": block})


def test_cull_names_the_weights_before_they_are_fetched(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extract(list_folder(photos), tmp_path / "a", SMALL)
    block = open_feature_store(tmp_path / "a")["cnn"]
    assert block.extraction is not None
    options = dict(block.extraction.options) | {"cnn_weights": "pretrained"}
    published = block._replace(extraction=block.extraction._replace(options=options))
    words = ["jaxrank", "cull", str(photos), f"--workdir={tmp_path / 'w'}"]
    lines = []

    def extracted(*_: object, **__: object) -> None:
        lines.append(capsys.readouterr().out)
        raise UserError("no network here")

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(pipeline, "extract", extracted)
    for made in (published, block):
        model = save_reader_of(made, tmp_path / f"m{len(lines)}", "cnn")
        assert main([*words, f"--model={model}"]) == 2
    assert "weights pretrained of test_resnet: those that are not on this machine" in lines[0]
    assert "weights" not in lines[1]  # random ones


def test_stores_of_before_there_were_options_are_told_without_flags(
    photos: Path, tmp_path: Path
) -> None:
    extract(list_folder(photos), tmp_path / "a", EXTENDED)
    block = open_feature_store(tmp_path / "a")["iqa"]
    assert block.extraction is not None
    assert block.extraction.options == {"iqa": "extended"}
    old = block._replace(extraction=block.extraction._replace(options={}))
    assert recipe_of(old).key == recipe_of(block).key  # type: ignore[union-attr]
    model = load_model(save_reader_of(old, tmp_path / "m"))
    other = block.extraction._replace(recipe={"numbers": "extended", "version": 2})
    with pytest.raises(UserError, match=r"extract it with the same model, weights and options$"):
        model.score({"iqa": block._replace(extraction=other)})


def test_a_merged_store_keeps_the_options(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 3)):
        extract(list_folder(fill(tmp_path / f"photos {name}", 3, first)), tmp_path / name, EXTENDED)
    merge_stores(tmp_path / "a", tmp_path / "b")
    made = open_feature_store(tmp_path / "b")["iqa"].extraction
    assert made is not None
    assert (len(made.photos_sha256), made.options) == (6, {"iqa": "extended"})


def test_options_name_no_folder_and_are_quoted_for_a_shell(tmp_path: Path) -> None:
    weights = tmp_path / "my $(weights).pt"
    weights.write_bytes(b"")
    options = Options(blocks=("cnn",), device="cuda", values={"cnn_weights": str(weights)})
    found = options.of_block("cnn")
    assert found == {"device": "cuda", "cnn_model": "resnet50", "cnn_weights": "my $(weights).pt"}
    flags = Recipe("s", {}, found).flags("cnn")
    assert shlex.split(flags) == [
        "--blocks=cnn", "--device=cuda", "--cnn_model=resnet50", "--cnn_weights=my $(weights).pt"
    ]  # fmt: skip


@pytest.mark.parametrize("options", [3, ["a"], {"a b": "x"}, {"a": 3}, {"--a": "x"}])
def test_damaged_options_are_refused(tmp_path: Path, options: object) -> None:
    block = Block(["p"], ["c"], np.ones((1, 1), np.float32))
    write_block(tmp_path, "iqa", block._replace(extraction=Extraction({}, ["0" * 64])))
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    for given, is_sound in (({"iqa": "default"}, True), (options, False)):
        manifest["blocks"]["iqa"]["extraction"]["options"] = given
        path.write_text(json.dumps(manifest))
        if is_sound:
            open_feature_store(tmp_path)
        else:
            with pytest.raises(UserError, match="the entry of block 'iqa' is damaged"):
                open_feature_store(tmp_path)
