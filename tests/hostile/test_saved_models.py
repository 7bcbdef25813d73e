"""Saved models: every file of a model damaged in every way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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

# What Orbax leaves behind where it fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# The files of a model by what is the same in every model: names in d/ are random.
FILES = {
    "model.json": "model.json",
    "photos.json": "photos.json",
    "_METADATA": "params/_METADATA",
    "_CHECKPOINT_METADATA": "params/_CHECKPOINT_METADATA",
    "commit_success.txt": "params/commit_success.txt",
    "manifest": "params/manifest.ocdbt",
    "data": "params/d/*",
    "manifest-0": "params/ocdbt.process_0/manifest.ocdbt",
    "data-0-first": "params/ocdbt.process_0/d/*",
    "data-0-last": "params/ocdbt.process_0/d/*",
}


def file_of(model: Path, kind: str) -> Path:
    found = sorted(model.glob(FILES[kind]))
    if not found:
        pytest.skip("this version of jaxrank or Orbax writes no such file")
    return found[-1 if kind.endswith("last") else 0]


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
    other = file_of(searched.workdir / "linear" / "model", kind)
    DAMAGES[damage](file_of(model, kind), other)
    capfd.readouterr()
    same_or_refused(lambda: jaxrank.load_model(model), good)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", FILES)
def test_a_pipe_in_a_model_is_refused(model: Path, good: jaxrank.Model, kind: str) -> None:
    path = file_of(model, kind)
    path.unlink()
    with fifo_left_alone(path):
        same_or_refused(lambda: jaxrank.load_model(model), good)


# Not the files of arrays: TensorStore ends the process where memory is short.
@pytest.mark.parametrize(
    "kind",
    [
        case(kind, kind)
        for kind in ("model.json", "photos.json", "_METADATA", "_CHECKPOINT_METADATA")
    ],
)
def test_a_large_file_in_a_model_is_refused(model: Path, good: jaxrank.Model, kind: str) -> None:
    path = file_of(model, kind)
    sparse(path, 1 << 29, head=path.read_bytes())
    with little_memory(1 << 28):
        same_or_refused(lambda: jaxrank.load_model(model), good)


VALUES: dict[str, Any] = {"null": None, "nan": float("nan"), "text": "\x1b[31m", "lists": [[1]]}
CARD = ("experiment", "fold", "seed", "best_epoch", "val_accuracy", "slope", "caveats", "recipes")
FUNCTION = ("mlp_hidden_dims", "activation", "use_layernorm", "l2_blocks", "loss", "blocks", "name")


def edited(model: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = model / "model.json"
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        case(f"{key}-{value}", where, key, value, long=value not in ("null", "lists"))
        for where, keys in (
            ("record", ("format", "card", "block_columns")),
            ("card", CARD),
            ("experiment", FUNCTION),
        )
        for key in keys
        for value in VALUES
    ],
)
def test_a_forged_card_is_no_traceback(model: Path, where: str, key: str, value: str) -> None:
    """With checksums that are right again."""

    def edit(record: dict[str, Any]) -> None:
        card = record["card"]
        part = {"record": record, "card": card, "experiment": card["experiment"]}[where]
        part[key] = VALUES[value]

    edited(model, edit)
    seal.write_seal(model, seal.checksums(model))
    result_or_refusal(lambda: jaxrank.load_model(model))


def test_an_edited_card_is_refused(model: Path) -> None:
    edited(model, lambda record: record["card"].update(val_accuracy=0.99))
    refuses(lambda: jaxrank.load_model(model), "model.json")


@pytest.mark.parametrize("command", ["rank", "evaluate"])
@pytest.mark.parametrize(
    "kind",
    [
        case("no folder", "no folder"),
        case("file", "file"),
        case("circle", "circle"),
        case("the search", "the search"),
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
    elif kind == "the search":
        path = searched.workdir
    elif kind == "empty":
        path.mkdir()
    elif kind == "json nested":
        path.mkdir()
        (path / "model.json").write_text("[" * 100_000)
    words = searched.words if command == "evaluate" else [f"--features={searched.store}"]
    out = searched.folder / "out"
    attack.refused(command, f"--model={path}", *words, f"--workdir={out}", names=str(path))
