"""Saved models: every file of a model damaged in every way."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from attack import (
    Attack,
    Inputs,
    case,
    fifo_left_alone,
    flip,
    little_memory,
    refuses,
    result_or_refusal,
    sparse,
)

import jaxrank
from jaxrank.io import seal

# The files of a model, all of them sealed.
FILES = (
    "model.json",
    "model.safetensors",
    "photos.json",
    "test_vectors.npz",
    "README.md",
    "checksums.json",
)


def emptied(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replaced(path: Path, other: Path) -> None:
    shutil.copy(other, path)


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "missing": lambda path, other: path.unlink(),
    "empty": emptied,
    "cut": cut,
    "flipped": lambda path, other: flip(path, 0.9),
    "other-model": replaced,
}


@pytest.fixture(scope="module")
def good(finished: Path) -> jaxrank.Model:
    return jaxrank.load_model(finished / "w" / "iqa_only" / "model")


def same_or_refused(read: Callable[[], Any], good: jaxrank.Model) -> None:
    """The content of a model is what was saved, or it is not loaded."""
    found = result_or_refusal(read)
    if found is not None:
        assert found.digest == good.digest
        assert (found.card, found.seen) == (good.card, good.seen)


@pytest.mark.parametrize(
    ("kind", "damage"),
    [case(f"{kind}-{damage}", kind, damage) for kind in FILES for damage in DAMAGES],
)
def test_a_damaged_model_is_refused(
    searched: Inputs,
    model: Path,
    good: jaxrank.Model,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    damage: str,
) -> None:
    other = searched.workdir / "linear" / "model" / kind
    DAMAGES[damage](model / kind, other)
    capfd.readouterr()
    same_or_refused(lambda: jaxrank.load_model(model), good)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", FILES)
def test_a_pipe_in_a_model_is_refused(model: Path, good: jaxrank.Model, kind: str) -> None:
    path = model / kind
    path.unlink()
    with fifo_left_alone(path):
        same_or_refused(lambda: jaxrank.load_model(model), good)


@pytest.mark.parametrize("kind", FILES)
def test_a_large_file_in_a_model_is_refused(model: Path, good: jaxrank.Model, kind: str) -> None:
    path = model / kind
    sparse(path, 1 << 29, head=path.read_bytes())
    with little_memory(1 << 28):
        same_or_refused(lambda: jaxrank.load_model(model), good)


VALUES: dict[str, Any] = {"null": None, "nan": float("nan"), "text": "\x1b[31m", "lists": [[1]]}
# The parts of a model.json, by the way to them.
PARTS: dict[str, Sequence[str]] = {
    "": ("format", "card", "blocks", "architecture", "weights_sha256", "formula"),
    "architecture": ("inputs", "hidden_dims", "normal_score_columns", "members", "layernorm"),
    "blocks 0": ("name", "columns", "recipe"),
    "card": ("experiment", "fold", "seeds", "epochs", "val_accuracy", "calibration", "evidence",
             "caveats"),
    "card experiment": ("mlp_hidden_dims", "activation", "use_layernorm", "l2_blocks", "loss",
                        "blocks", "name", "margin", "input_scaling"),
    "card calibration": ("slope", "pick_slope", "keep_gap", "num_pairs", "source"),
    "card evidence": ("accuracy", "baselines", "num_pairs", "audit"),
}  # fmt: skip


def edited(model: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = model / "model.json"
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        case(f"{where} {key} {value}", where, key, value, long=value not in ("null", "lists"))
        for where, keys in PARTS.items()
        for key in keys
        for value in VALUES
    ],
)
def test_a_forged_card_is_no_traceback(model: Path, where: str, key: str, value: str) -> None:
    """With checksums that are right again."""

    def edit(record: Any) -> None:
        for step in where.split():
            record = record[int(step) if step.isdigit() else step]
        record[key] = VALUES[value]

    edited(model, edit)
    seal.write_seal(model, seal.checksums(model))
    result_or_refusal(lambda: jaxrank.load_model(model))


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("architecture members", 10**12),
        ("architecture members", 10**400),
        ("architecture members", -1),
        ("architecture inputs", 10**12),
        ("card calibration slope", -1.0),
        ("card calibration slope", float("inf")),
        ("card calibration pick_slope", -1.0),
        ("card calibration slope", 10**400),
    ],
)
def test_a_number_that_can_not_be_is_refused(model: Path, where: str, number: float) -> None:
    def edit(record: Any) -> None:
        *steps, last = where.split()
        for step in steps:
            record = record[step]
        record[last] = number

    edited(model, edit)
    seal.write_seal(model, seal.checksums(model))
    refuses(lambda: jaxrank.load_model(model), str(model))


def rewritten(model: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Other weights, with hashes and checksums that are right again."""
    tensors = safetensors.numpy.load_file(model / "model.safetensors")
    edit(tensors)
    put(model, safetensors.numpy.save(tensors))


def put(model: Path, weights: bytes) -> None:
    (model / "model.safetensors").write_bytes(weights)
    sha256 = hashlib.sha256(weights).hexdigest()
    edited(model, lambda record: record.update(weights_sha256=sha256))
    seal.write_seal(model, seal.checksums(model))


def filled(name: str, value: float) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({name: np.full_like(tensors[name], value)})


def renamed(name: str, new: str) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({new: tensors.pop(name)})


KERNEL, MEAN = "member_0/kernel_0", "member_0/mean"
TENSORS: dict[str, Callable[[dict[str, Any]], object]] = {
    "nan": filled(KERNEL, np.nan),
    "infinite": filled(MEAN, np.inf),
    "no deviation": filled("deviation", 0),
    "negative deviation": filled("member_deviation", -1),
    "falling knots": lambda t: t.update({"member_0/knots": t["member_0/knots"][:, ::-1].copy()}),
    "float16": lambda t: t.update({KERNEL: t[KERNEL].astype(np.float16)}),
    "float64": lambda t: t.update({KERNEL: t[KERNEL].astype(np.float64)}),
    "int32": lambda t: t.update({KERNEL: t[KERNEL].view(np.int32)}),
    "bool": lambda t: t.update({MEAN: t[MEAN] > 0}),
    "a row more": lambda t: t.update({KERNEL: np.concatenate([t[KERNEL], t[KERNEL][:1]])}),
    "transposed": lambda t: t.update({"member_0/kernel_1": t["member_0/kernel_1"].T.copy()}),
    "missing": lambda t: t.pop(KERNEL),
    "another": lambda t: t.update({"member_0/kernel_9": t[KERNEL]}),
    "another member": renamed(KERNEL, "member_1/kernel_0"),
    "dots": renamed(KERNEL, "../../kernel_0"),
    "absolute": renamed(KERNEL, "/member_0/kernel_0"),
    "escape": renamed(KERNEL, "\x1b[31m"),
    "none": lambda t: t.clear(),
}


@pytest.mark.parametrize("name", TENSORS)
def test_weights_that_are_not_the_models_are_refused(model: Path, name: str) -> None:
    rewritten(model, lambda tensors: None)
    jaxrank.load_model(model)
    rewritten(model, TENSORS[name])
    refuses(lambda: jaxrank.load_model(model), "the weights can't be read")


def header_of(model: Path) -> tuple[dict[str, Any], bytes]:
    weights = (model / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(weights[:8], "little")
    return json.loads(weights[8:end]), weights[end:]


def with_header(text: str, numbers: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + numbers


def offsets(header: dict[str, Any], *places: int) -> str:
    return json.dumps(header | {KERNEL: header[KERNEL] | {"data_offsets": places}})


HEADERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "empty": lambda header: "",
    "no object": lambda header: "[]",
    "nested": lambda header: "[" * 100_000,
    "behind the end": lambda header: offsets(header, 1 << 40, (1 << 40) + 4),
    "backwards": lambda header: offsets(header, 8, 4),
    "overlapping": lambda header: offsets(header, *header[MEAN]["data_offsets"]),
    "huge shape": lambda header: json.dumps(
        header | {KERNEL: header[KERNEL] | {"shape": [1 << 62, 1 << 62]}}
    ),
    "unknown type": lambda header: json.dumps(
        header | {KERNEL: header[KERNEL] | {"dtype": "BF16"}}
    ),
    "one name twice": lambda header: (
        json.dumps(header)[:-1] + f', "{KERNEL}": {json.dumps(header[MEAN])}}}'
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_forged_header_of_weights_is_refused(model: Path, name: str) -> None:
    header, numbers = header_of(model)
    put(model, with_header(HEADERS[name](header), numbers))
    refuses(lambda: jaxrank.load_model(model), "the weights can't be read")


@pytest.mark.parametrize("size", [0, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_header_that_says_another_length_is_refused(model: Path, size: int) -> None:
    weights = (model / "model.safetensors").read_bytes()
    put(model, size.to_bytes(8, "little") + weights[8:])
    with little_memory(1 << 28):
        refuses(lambda: jaxrank.load_model(model), "the weights can't be read")


def test_a_key_that_stands_twice_is_what_the_last_says(model: Path) -> None:
    """As JSON is read everywhere; what then contradicts the rest is refused."""
    path = model / "model.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + ', "blocks": []}')
    seal.write_seal(model, seal.checksums(model))
    refuses(lambda: jaxrank.load_model(model), "not a model folder")


def test_a_seal_that_names_files_elsewhere_reads_none(model: Path) -> None:
    (model.parent / "secret").write_text("x")
    files = seal.checksums(model) | {"../secret": 0, "/etc/passwd": 0}
    seal.write_seal(model, files)
    refuses(lambda: jaxrank.load_model(model), "is missing")


@pytest.mark.parametrize("kind", FILES)
def test_a_link_is_what_it_leads_to(model: Path, good: jaxrank.Model, kind: str) -> None:
    """A cache of models may keep its files elsewhere; a circle is no file."""
    (model / kind).rename(model.parent / "elsewhere")
    (model / kind).symlink_to(model.parent / "elsewhere")
    assert jaxrank.load_model(model).digest == good.digest
    (model / kind).unlink()
    (model / kind).symlink_to(model / kind)
    refuses(lambda: jaxrank.load_model(model), str(model))


def test_an_export_writes_through_no_link(attack: Attack, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "cwd" / "model_scorer.py").symlink_to(tmp_path / "mine")
    attack.refused("export", f"--model={model}", names="model_scorer.py")
    assert (tmp_path / "mine").read_text() == "mine"


def test_an_edited_card_is_refused(model: Path) -> None:
    edited(model, lambda record: record["card"].update(val_accuracy=0.99))
    refuses(lambda: jaxrank.load_model(model), "model.json")


@pytest.mark.parametrize("command", ["rank", "evaluate", "export"])
@pytest.mark.parametrize(
    "kind",
    [
        case("no folder", "no folder"),
        case("file", "file"),
        case("circle", "circle"),
        case("empty", "empty"),
        case("json nested", "json nested"),
    ],
)
def test_no_model_is_one_line(attack: Attack, searched: Inputs, command: str, kind: str) -> None:
    path = searched.folder / "m"
    if kind == "file":
        path.write_text("x")
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "empty":
        path.mkdir()
    elif kind == "json nested":
        path.mkdir()
        (path / "model.json").write_text("[" * 100_000)
    out = searched.folder / "out"
    words = {
        "evaluate": [*searched.words, f"--workdir={out}"],
        "rank": [f"--features={searched.store}", f"--workdir={out}"],
        "export": [f"--out={out}"],
    }[command]
    attack.refused(command, f"--model={path}", *words, names=str(path))
