"""Escape sequences in names and sentences: none reaches a terminal, a log or a page."""

import contextlib
import io
from pathlib import Path

import pandas as pd
import pytest
from attack import (
    ESCAPES,
    Attack,
    Inputs,
    case,
    good_block,
    good_frame,
    is_clean,
    make_inputs,
)

from jaxrank.cli import main
from jaxrank.data import feature_store

ALL = "".join(ESCAPES.values())
# What the search printed.
SAID = "said.txt"
PAGES = (".log", ".txt", ".html", ".md")


def hostile_frame(text: str) -> pd.DataFrame:
    frame = good_frame()
    for column in ("series_id", "image_a", "image_b"):
        frame[column] = f"x{text}" + frame[column]
    return frame


def hostile_store(folder: Path, frame: pd.DataFrame, text: str) -> None:
    block = good_block(frame, (f"a{text}", "sharpness"))
    block = block._replace(caveat=f"caveat {text}", source=f"source {text}")
    feature_store.write_block(folder, "iqa", block)


@pytest.fixture(scope="module")
def searched_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search whose names and sentences hold all escape sequences."""
    folder = tmp_path_factory.mktemp("escapes")
    made = make_inputs(folder, hostile_frame(ALL))
    hostile_store(made.store, hostile_frame(ALL), ALL)
    words = ["search", *made.words, f"--workdir={made.workdir}", "--experiments=iqa_only"]
    words += ["--config.max_epochs=1", "--config.mlp_hidden_dims=4", f"--config.notes=note {ALL}"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        assert main(["jaxrank", *words]) == 0
    (folder / SAID).write_text(said.getvalue(), encoding="utf-8")
    return folder


FILES = (SAID, "training.log", "leaderboard.txt", "audit.txt", "html")


@pytest.mark.parametrize("name", FILES)
def test_no_escape_sequence_is_in_a_page(searched_names: Path, name: str) -> None:
    pages = [p for p in searched_names.rglob("*") if p.suffix in PAGES]
    for page in pages:
        if page.name == name or page.suffix == f".{name}":
            assert is_clean(page.read_text(encoding="utf-8").replace("\t", " ")), page


@pytest.mark.parametrize("name", ["predictions.csv", "summary.csv"])
def test_tables_keep_names_as_they_are(searched_names: Path, name: str) -> None:
    (path,) = [p for p in (searched_names / "w").rglob(name) if "linear" not in p.parts][:1]
    text = path.read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if line.startswith(("=", "@", "+"))]
    if name == "predictions.csv":
        found = pd.read_csv(path, dtype=str)
        assert {*found["image_a"]} <= {*hostile_frame(ALL)["image_a"]}


@pytest.mark.parametrize(
    "command",
    [case(name, name) for name in ("search-again", "rank", "evaluate", "audit", "dry-run")],
)
def test_no_escape_sequence_is_on_a_stream(
    searched_names: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    store, pairs = searched_names / "store", searched_names / "pairs.csv"
    model = searched_names / "w" / "iqa_only" / "model"
    data, out = [f"--pairs={pairs}", f"--features={store}"], f"--workdir={tmp_path / 'out'}"
    words = {
        "search-again": ["search", "--resume", f"--workdir={searched_names / 'w'}"],
        "rank": ["rank", f"--model={model}", f"--features={store}", out],
        "evaluate": ["evaluate", f"--model={model}", *data, out],
        "audit": ["audit", *data, out],
        "dry-run": ["search", "--dry_run", *data],
    }[command]  # fmt: skip
    capfd.readouterr()
    assert main(["jaxrank", *words]) == 0
    shown = capfd.readouterr()
    assert is_clean(shown.out), repr(shown.out)
    assert is_clean(shown.err), repr(shown.err)


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        case(f"{place}-{kind}".replace(" ", "-"), place, kind, long=kind in ("bell", "backspace"))
        for place in ("column", "path", "caveat", "photo", "series", "name")
        for kind in ESCAPES
    ],
)  # fmt: skip
def test_each_escape_sequence_in_each_place(
    attack: Attack, inputs: Inputs, place: str, kind: str
) -> None:
    text = ESCAPES[kind]
    frame = good_frame()
    if place == "column":
        table = inputs.folder / "b.csv"
        table.write_text(f"image,a{text}\np,1\nq,2\n", encoding="utf-8")
        words = [f"--from_csv={table}", "--block=x", f"--features={inputs.store}"]
        attack.works("features", *words, writes=inputs.store)
        return
    if place == "name":
        attack.answers("search", *inputs.words, "--dry_run", f"--experiments=a{text}")
        return
    if place == "path":
        pairs = inputs.folder / f"p{text}.csv"
        frame.to_csv(pairs, index=False)
        attack.works("search", f"--pairs={pairs}", f"--features={inputs.store}", "--dry_run")
        return
    if place == "caveat":
        block = good_block(frame)._replace(caveat=f"c{text}")
        feature_store.write_block(inputs.store, "iqa", block)
    elif place == "photo":  # one without features, which is named
        frame.loc[0, "image_a"] = f"a{text}"
    else:
        frame["series_id"] = f"a{text}" + frame["series_id"]
        frame.loc[0, "image_a"] = "unknown"
    frame.to_csv(inputs.pairs, index=False)
    attack.works("search", *inputs.words, "--dry_run")
