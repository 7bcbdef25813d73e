"""Folders of searches: damaged plans, archives that were swapped, deleted files, odd names."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack import (
    Attack,
    Inputs,
    case,
    check_refusal,
    fifo_left_alone,
    flip,
    little_memory,
    sparse,
)

VALUES: dict[str, Any] = {"null": None, "text": "\x1b[31m", "lists": [[1]]}
KEYS = ("versions", "device", "data", "folds", "launch", "experiments", "cohorts", "finished")


def edit_plan(workdir: Path, edit: Callable[[dict[str, Any]], object], *, sealed: bool) -> None:
    path = workdir / "plan.json"
    whole = json.loads(path.read_text())
    edit(whole["search"])
    if sealed:  # with a checksum that is right again
        content = json.dumps(whole["search"], sort_keys=True)
        whole["sha256"] = hashlib.sha256(content.encode()).hexdigest()
    path.write_text(json.dumps(whole))


def resume(attack: Attack, searched: Inputs, *words: str) -> Any:
    return attack.run(
        "search", "--resume", f"--workdir={searched.workdir}", *words, writes=searched.workdir
    )


def resumes_or_refuses(attack: Attack, searched: Inputs, *words: str) -> None:
    answer = resume(attack, searched, *searched.words, *words)
    if answer.status:
        check_refusal(answer, str(searched.folder))


@pytest.mark.parametrize("key", KEYS)
def test_a_plan_that_was_changed_is_refused(attack: Attack, searched: Inputs, key: str) -> None:
    edit_plan(searched.workdir, lambda plan: plan.update({key: None}), sealed=False)
    check_refusal(resume(attack, searched), "plan.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [case(f"{key}-{value}", key, value, long=value == "lists") for key in KEYS for value in VALUES],
)
def test_a_plan_that_was_forged_is_no_traceback(
    attack: Attack, searched: Inputs, key: str, value: str
) -> None:
    edit_plan(searched.workdir, lambda plan: plan.update({key: VALUES[value]}), sealed=True)
    resumes_or_refuses(attack, searched, "--dry_run")


@pytest.mark.parametrize("key", [*KEYS, "more"])
def test_a_plan_with_other_keys_is_no_traceback(attack: Attack, searched: Inputs, key: str) -> None:
    def edit(plan: dict[str, Any]) -> None:
        if plan.pop(key, None) is None:
            plan[key] = 1

    edit_plan(searched.workdir, edit, sealed=True)
    resumes_or_refuses(attack, searched, "--dry_run")


BYTES = [
    case("empty", b""),
    case("null", b"null"),
    case("nested", b"[" * 100_000),
    case("utf-16", "{}".encode("utf-16")),
    case("zero bytes", bytes(100)),
    case("infinite", b'{"format": Infinity}'),
]


@pytest.mark.parametrize("data", BYTES)
def test_a_plan_that_is_none_is_refused(attack: Attack, searched: Inputs, data: bytes) -> None:
    (searched.workdir / "plan.json").write_bytes(data)
    check_refusal(resume(attack, searched), "plan.json")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # The results are written again, which takes seconds.
        case(f"{name}-{kind}", name, kind, long=name == "results.json" and kind != "pipe")
        for name in ("plan.json", "results.json", "checkpoints/1.npz")
        for kind in ("pipe", "8-GB", "folder", "circle")
    ],
)
def test_a_file_of_a_search_that_is_none_is_one_line(
    attack: Attack, searched: Inputs, name: str, kind: str
) -> None:
    path = searched.workdir / name
    head = path.read_bytes()
    path.unlink()
    words = ["--dry_run"] if name.startswith("checkpoints") else []
    if kind == "pipe":
        with fifo_left_alone(path):
            answer = resume(attack, searched, *words)
    elif kind == "8-GB":
        sparse(path, head=head)
        with little_memory():
            answer = resume(attack, searched, *words)
    else:
        if kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(path)
        answer = resume(attack, searched, *words)
    if answer.status:
        check_refusal(answer, str(searched.workdir))
    else:  # read again, or made again
        assert kind == "8-GB" or path.name in answer.out or path.is_file()


def archive(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        with np.load(path) as file:
            arrays = dict(file)
        edit(arrays)
        np.savez(path, **arrays)

    return change


def rows(text: object) -> Callable[[Path], object]:
    return archive(lambda a: a.update(rows=np.array(text)))


def swapped(path: Path) -> None:
    shutil.copy(path.with_name("2.npz"), path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def pickled(path: Path) -> None:
    np.savez(path, rows=np.array([None], dtype=object), allow_pickle=True)


def no_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, 1)


def mean_of(arrays: dict[str, Any]) -> str:
    """The name of an array of the only weights that an archive has."""
    return next(name for name in arrays if name.endswith("/scaling/mean_D"))


ARCHIVES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "flipped": lambda path: flip(path, 0.4),
    "swapped": swapped,
    "pickle": pickled,
    "no-archive": no_archive,
    "no-rows": archive(lambda a: a.pop("rows")),
    "no-scores": archive(lambda a: a.pop("scores")),
    "no-epochs": archive(lambda a: a.pop("epochs")),
    "rows-empty": rows("[]"),
    "rows-null": rows("null"),
    "rows-numbers": rows("[1]"),
    "rows-not-json": rows("{"),
    "rows-nested": rows("[" * 100_000),
    "rows-array": archive(lambda a: a.update(rows=np.zeros(3))),
    "scores-cut": archive(lambda a: a.update(scores=a["scores"][:, :-1])),
    "scores-flat": archive(lambda a: a.update(scores=a["scores"].ravel())),
    "scores-float64": archive(lambda a: a.update(scores=a["scores"].astype("f8"))),
    "scores-text": archive(lambda a: a.update(scores=a["scores"].astype("U9"))),
    "epochs-negative": archive(lambda a: a.update(epochs=-a["epochs"])),
    "epochs-huge": archive(lambda a: a.update(epochs=a["epochs"] + 2**40)),
    "epochs-float": archive(lambda a: a.update(epochs=a["epochs"] + 0.5)),
    "weights-cut": archive(lambda a: a.update({mean_of(a): a[mean_of(a)][:1]})),
    "weights-text": archive(lambda a: a.update({mean_of(a): a[mean_of(a)].astype("U9")})),
    "weights-none": archive(lambda a: a.pop(mean_of(a))),
    "history-short": archive(lambda a: a.update({"history/epoch": np.zeros(0)})),
}


@pytest.mark.parametrize("damage", ARCHIVES)
def test_a_damaged_archive_is_reported(attack: Attack, searched: Inputs, damage: str) -> None:
    path = searched.workdir / "checkpoints" / "1.npz"
    ARCHIVES[damage](path)
    answer = resume(attack, searched, "--dry_run")
    if answer.status:
        check_refusal(answer, "1.npz")
    else:
        assert "1.npz" in answer.out  # its trials are trained again


# Content that depends on the clock, or is appended to.
TIMED = ("environment.json", "training.log", "audit.json")
DELETED = (
    "trials.csv summary.csv results.json leaderboard.txt errors.csv splits.csv leaderboard.png "
    "reliability.png iqa_only/training_curves.png config.json environment.json training.log "
    "audit.json audit.txt iqa_only/history.csv iqa_only/predictions.csv "
    "iqa_only/predictions.parquet "
    "iqa_only/test_results.json shuffled/history.csv shuffled/predictions.csv "
    "shuffled/test_results.json iqa_only/model/model.json linear/model/model.safetensors"
).split()


def deleted_and_resumed(attack: Attack, searched: Inputs, names: list[str]) -> None:
    kept = {}
    for name in names:
        path = searched.workdir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            if path.name not in TIMED and path.suffix != ".png":
                kept[path] = path.read_bytes()
            path.unlink()
    answer = resume(attack, searched)
    assert answer.status == 0
    for name in names:
        assert (searched.workdir / name).exists(), name
    for path, content in kept.items():
        if path.name != "results.json" and "config" not in path.name:  # the paths are others
            assert path.read_bytes() == content, path


def test_deleted_files_of_a_finished_search_are_written_again(
    attack: Attack, searched: Inputs
) -> None:
    deleted_and_resumed(attack, searched, DELETED)


# The log of the training can't be made again, and nothing else is amiss where it alone was deleted.
@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in DELETED if name != "training.log"])
def test_each_deleted_file_of_a_finished_search_is_written_again(
    attack: Attack, searched: Inputs, name: str
) -> None:
    deleted_and_resumed(attack, searched, [name])


@pytest.mark.parametrize(
    "kept", ["summary.csv", case("predictions", "iqa_only/predictions.csv", long=True)]
)
def test_links_in_place_of_all_files_lead_nowhere(
    attack: Attack, searched: Inputs, kept: str
) -> None:
    """Each file is moved out and linked: a search that writes again replaces the links, or says
    that they are in its way."""
    outside = searched.folder / "outside"
    outside.mkdir()
    for number, path in enumerate(sorted(searched.workdir.rglob("*"))):
        if path.is_file() and "model" not in path.parts and path.name != ".lock":
            moved = outside / f"{number}-{path.name}"
            path.rename(moved)
            path.symlink_to(moved)
    (searched.workdir / kept).unlink()
    answer = resume(attack, searched)
    if answer.status:
        check_refusal(answer, str(searched.workdir))


NAMES: list[Any] = [
    case("file", "pairs.csv"),
    case("below a file", "pairs.csv/w"),
    case("device", "/dev/null"),
    case("proc", "/proc/self/w"),
    case("empty", ""),
    case("parent", ".."),
    case("root", "/"),
    case("300 letters", "x" * 300),
    case("10000 letters", "x/" * 5000),
    case("remote", "s3://bucket/w"),
    case("circle", "circle"),
    case("dangling", "dangling"),
    case("surrogate", "\udcff"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_workdir_that_can_be_none_is_refused(attack: Attack, inputs: Inputs, name: str) -> None:
    (inputs.folder / "circle").symlink_to(inputs.folder / "circle")
    (inputs.folder / "dangling").symlink_to("/nonexistent/w")
    path = inputs.folder / name if name.startswith(("circle", "dangl", "pairs")) else name
    attack.refused("search", *inputs.words, f"--workdir={path}", "--config.max_epochs=1")
