"""The exported scorer: one file, NumPy alone, the scores of jaxrank."""

import ast
import dataclasses
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from small_data import card_of

from jaxrank.cli import main
from jaxrank.configs import default
from jaxrank.errors import UserError
from jaxrank.evaluation.ensembles import SINGLE, Combination
from jaxrank.experiments.hyperparameters import read_experiments
from jaxrank.inference import numpy_scorer
from jaxrank.inference.export import export_numpy
from jaxrank.inference.saved_model import Model, load_model, save_model
from jaxrank.io import seal
from jaxrank.scaling import fit_scaling
from jaxrank.training.state import InitialWeights

COLUMNS = {"clip": tuple(f"c{i}" for i in range(5)), "iqa": ("sharpness", "exposure")}
# Columns in units and places of their own, and one that never varies.
RAW = np.random.default_rng(0).standard_normal((60, 7)).astype(np.float32)
RAW = RAW * np.array([1, 2, 3, 1, 1, 1e3, 0], np.float32)
RAW = RAW + np.array([0, 1, 0, 0, 9, 5e3, 4], np.float32)


def model_of(num_members: int = 1, normal: Any = (5, 6), **changes: Any) -> Model:
    """Random weights of some architecture."""
    e = read_experiments(default.get_config(), ["tiny_mlp"], {})[0]
    e = dataclasses.replace(e, **{"blocks": ("clip", "iqa"), "mlp_hidden_dims": (6,)} | changes)
    card = card_of(e, seeds=tuple(range(num_members)), epochs=(1,) * num_members)
    members = []
    for k in range(num_members):
        params = card.scorer.init(jax.random.key(k), np.zeros((1, 7), np.float32))
        rng = np.random.default_rng(k)
        # Biases and linear scorers begin at zero, which would hide what is done with them.
        params = jax.tree.map(lambda leaf, rng=rng: leaf + rng.normal(size=leaf.shape), params)
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
        if e.loss == "davidson":
            params |= {"loss": {"log_ties": np.float32(0.5)}}
        members.append(InitialWeights(params, fit_scaling(RAW, np.arange(10 * k, 60), normal)))
    combination = SINGLE
    if num_members > 1:
        rng = np.random.default_rng(9)
        means, deviations = rng.normal(size=num_members), rng.uniform(0.5, 2, num_members)
        combination = Combination(means, deviations, 0.25, 0.75)
    seen = {"train": frozenset(["p"]), "val": frozenset[str]()}
    return Model(card, COLUMNS, tuple(members), combination, seen)


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "relu": {"activation": "relu"},
    "gelu": {"activation": "gelu", "mlp_hidden_dims": (8, 4)},
    "tanh": {"activation": "tanh"},
    "layernorm": {"use_layernorm": True},
    "length 1": {"l2_blocks": ("clip",)},
    "length 1, normal scores": {"l2_blocks": ("clip",), "normal": range(7)},
    "no normal scores": {"normal": ()},
    "linear": {"mlp_hidden_dims": ()},
    "ties": {"loss": "davidson"},
    "ensemble": {"num_members": 3},
    "all": {
        "num_members": 2, "use_layernorm": True, "l2_blocks": ("iqa", "clip"),
        "activation": "gelu", "normal": (0, 5),
    },
}  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", model_of(2), RAW)
    return tmp_path / "model"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_numpy_gives_the_scores_of_jaxrank(tmp_path: Path, name: str) -> None:
    model = model_of(**ARCHITECTURES[name])
    save_model(tmp_path / "m", model, RAW)
    others = RAW[::-1] * np.float32(1.3) - np.float32(0.2)  # beyond the training photos, too
    others[0] = 0
    expected = load_model(tmp_path / "m").score_rows(others)
    np.testing.assert_array_equal(expected, model.score_rows(others))
    found = numpy_scorer.score(numpy_scorer.load(tmp_path / "m"), others)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    with np.load(tmp_path / "m" / "test_vectors.npz") as vectors:
        assert vectors["inputs"].shape == (16, 7)
        assert {vectors[key].dtype.name for key in vectors} == {"float32"}
        np.testing.assert_array_equal(model.score_rows(vectors["inputs"]), vectors["scores"])


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"relu"}))
def test_architectures_that_are_compared_differ(name: str) -> None:
    plain = model_of(**ARCHITECTURES["relu"])
    if name != "ties":  # what it has learned of ties is no part of a score
        assert not np.allclose(
            plain.score_rows(RAW), model_of(**ARCHITECTURES[name]).score_rows(RAW)
        )


def test_an_ensembles_score_is_the_standardised_mean_of_its_members() -> None:
    model = model_of(2)
    single = [model._replace(members=(m,), combination=SINGLE) for m in model.members]
    first, second = (m.score_rows(RAW).astype(np.float64) for m in single)
    (m0, m1), (d0, d1) = model.combination.member_mean_K, model.combination.member_deviation_K
    mean = ((first - m0) / d0 + (second - m1) / d1) / 2
    np.testing.assert_allclose(model.score_rows(RAW), (mean - 0.25) / 0.75, rtol=1e-6, atol=1e-6)


def test_training_can_not_begin_from_an_ensemble() -> None:
    with pytest.raises(UserError, match="an ensemble of 2, and training begins from one network"):
        assert model_of(2).weights


def test_the_file_is_short_and_needs_numpy_alone(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["jaxrank", "export", f"--model={saved}"]) == 0
    assert "16 test vectors" in capsys.readouterr().out
    text = (tmp_path / "model_scorer.py").read_text()
    assert len(text.splitlines()) < 100
    modules = {
        name.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert modules - sys.stdlib_module_names == {"numpy"}
    words = [sys.executable, "-I", "model_scorer.py", str(saved)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert float(done.stdout.rsplit(maxsplit=1)[1]) < 1e-5


def test_an_export_never_takes_the_place_of_another_file(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "scorer.py"
    assert export_numpy(saved, out).difference < 1e-5
    export_numpy(saved, out)  # the same again
    out.write_text("mine")
    link = tmp_path / "link.py"
    link.symlink_to(out)
    for taken in (out, link, tmp_path):
        with pytest.raises(UserError, match="is there already; name a new file"):
            export_numpy(saved, taken)
    assert out.read_text() == "mine"


def test_a_default_path_that_exists_is_named_without_the_flag(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"{saved.name}_scorer.py"
    path.write_text("mine")
    with pytest.raises(UserError, match=f"^{path.name}: is there already; .* with --out$"):
        export_numpy(saved)
    assert path.read_text() == "mine"


def test_equal_models_have_equal_files(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", model_of(2), RAW)
    for path in sorted(saved.iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    before = (saved / "model.safetensors").read_bytes()
    save_model(tmp_path / "other", model_of(3), RAW)
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != before


def safetensors_of(header: str, numbers: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + numbers


GOOD = safetensors.numpy.save({"a": np.ones(2, np.float32), "b": np.ones(1)})
BAD = {
    "empty": b"",
    "no header": b"\x00" * 8,
    "a huge header": struct.pack("<Q", 2**60) + b"{}",
    "cut": GOOD[:-1],
    "longer": GOOD + b"0",
    "no numbers": safetensors_of('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
    "another type": safetensors_of(
        '{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}', b"0000"
    ),
    "a hole": safetensors_of('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"0" * 8),
    "another size": safetensors_of(
        '{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', b"0000"
    ),
    "a negative size": safetensors_of(
        '{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}', b"0000"
    ),
    "one name twice": safetensors_of(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        '"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"0" * 8
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_the_file_reads_safetensors_and_no_damaged_ones(name: str) -> None:
    found = numpy_scorer.read_tensors(GOOD)
    assert {k: v.tolist() for k, v in found.items()} == {"a": [1, 1], "b": [1]}
    is_short = name in ("cut", "no numbers", "another size")
    with pytest.raises((ValueError, KeyError), match="have its size" if is_short else None):
        numpy_scorer.read_tensors(BAD[name])


@pytest.mark.parametrize(
    ("key", "value"),
    [("members", 10**12), ("members", 0), ("members", 1), ("inputs", 6), ("hidden_dims", [5]),
     ("hidden_dims", [6, 6]), ("normal_score_columns", [])],
)  # fmt: skip
def test_the_file_refuses_weights_of_another_architecture(
    saved: Path, key: str, value: Any
) -> None:
    record = json.loads((saved / "model.json").read_text())
    numpy_scorer.load(saved)
    record["architecture"][key] = value
    (saved / "model.json").write_text(json.dumps(record))
    if key == "members" and value == 1:  # fewer are read than there are, but not their means
        match = "member_mean"
    elif key == "normal_score_columns":
        numpy_scorer.load(saved)  # nothing that it lacks
        return
    else:
        match = "members have|another shape|do not have the columns"
    with pytest.raises(ValueError, match=match):
        numpy_scorer.load(saved)


def test_damaged_test_vectors_are_told(saved: Path, tmp_path: Path) -> None:
    path = saved / "test_vectors.npz"
    for write in (
        lambda: path.write_bytes(b"PK"),
        lambda: np.savez_compressed(path, inputs=RAW, scores=RAW[:, 0]),
        lambda: np.savez(path, inputs=RAW[:, :3]),
        lambda: np.savez(path, inputs=RAW[:0]),
        lambda: np.savez(path, scores=RAW[:, 0]),
        lambda: np.savez(path, inputs=np.array([None], object), allow_pickle=True),
    ):
        write()
        seal.write_seal(saved, seal.checksums(saved))
        with pytest.raises(UserError, match=r"test_vectors\.npz: can't be read"):
            export_numpy(saved, tmp_path / "scorer.py")
    assert not (tmp_path / "scorer.py").exists()


def test_a_command_without_a_model_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--model="], ["--model=x", "--format=onnx"], ["--model=no_such_folder"]):
        assert main(["jaxrank", "export", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
