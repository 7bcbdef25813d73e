"""Commands and Python of the README and the tutorials run; commands of all pages name known flags.

A block that is not run says why in a comment above it: `<!-- not run: REASON -->`.
"""

import importlib
import inspect
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from photo_files import exif, scene
from small_data import ROOT

import jaxrank
from jaxrank.cli import COMMANDS, command_flags, main
from jaxrank.culling import sidecars
from jaxrank.experiments.catalogue import read_catalogue

RUN_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))]
ALL_PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages whose searches are too slow for each run.
LONG_PAGES = ["docs/tutorials/sweep.md"]
# What makes a search small; the searches of the pages take minutes.
SMALL = ["--experiments=iqa_only", "--config.max_epochs=1"]
# Rows of a table of experiments that are trained; a sweep has hundreds.
FEW_ROWS = 3
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a page; `reason` is why it is not run, or empty.

    The kind is `console`, `python`, `text`, or `csv FILE` for a table that is written to FILE.
    """

    kind: str
    text: str
    reason: str

    @property
    def commands(self) -> list[str]:
        """The lines behind prompts, with continuation lines."""
        text = self.text.replace("\\\n", " ")
        return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


def blocks(page: Path) -> list[Block]:
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["kind"], m["text"], m["reason"] or "") for m in found]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def readers_folder(
    tmp_path: Path, small_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """What the pages call `my_pairs.csv`, `my_features`, `photos`, which have stars, and
    `new_photos`, which have none; all small."""
    pairs, store = small_files
    pairs.rename(tmp_path / "my_pairs.csv")
    store.rename(tmp_path / "my_features")
    for folder, bursts in (("photos", 12), ("new_photos", 3)):
        (tmp_path / folder).mkdir()
        for burst in range(bursts):
            for shot in range(3):
                photo = tmp_path / folder / f"IMG_{burst:02d}{shot}.jpg"
                taken = exif(taken=f"2026:06:01 10:{burst:02d}:0{shot}", camera="made")
                scene(burst).rotate(0.5 * shot).save(photo, exif=taken)
                if folder == "photos":
                    sidecars.write_marks(photo.with_suffix(".xmp"), rating=(5, 3, 1)[shot])
    monkeypatch.chdir(tmp_path)
    search = jaxrank.search

    def small_search(*args: Any, **options: Any) -> jaxrank.SearchResult:
        small = {"experiments": ["iqa_only"], "overrides": {"max_epochs": 1}}
        return search(*args, **options | small)

    monkeypatch.setattr(jaxrank, "search", small_search)
    return tmp_path


def small(words: list[str]) -> list[str]:
    """A search of one epoch, or, if its experiments are what the page is about, of few of them."""
    if words[1] != "search" or {"--resume", "--extend"} & set(words):
        return words
    table = next((w.partition("=")[2] for w in words if w.startswith("--experiments_csv=")), None)
    if table is None:
        return [*words, *SMALL]
    rows = Path(table).read_text(encoding="utf-8").splitlines()
    first = Path(table).with_suffix(".first.csv")
    first.write_text("\n".join(rows[: 1 + FEW_ROWS]), encoding="utf-8")
    return [*words, f"--experiments_csv={first}"]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.long] if name(page) in LONG_PAGES else [])
        for page in RUN_PAGES
    ],
    ids=name,
)
def test_commands_and_python_of_a_page_run(
    page: Path, readers_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = 0
    for block in blocks(page):
        if block.reason:
            continue
        if block.kind.startswith("csv "):
            (readers_folder / block.kind.removeprefix("csv ")).write_text(block.text)
        if block.kind == "python":
            exec(compile(block.text, name(page), "exec"), {"__name__": "page"})
            ran += 1
        for command in block.commands:
            words = shlex.split(command)
            assert words[0] == "jaxrank", f"not run: mark it in {page}: {command}"
            status = main(small(words))
            assert status == 0, (command, capsys.readouterr().err)
            ran += 1
    assert ran >= 3


def test_the_sweep_has_500_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test that runs the page trains few of them."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "tutorials" / "sweep.md"
    code = next(block.text for block in blocks(page) if block.kind == "python")
    exec(compile(code, name(page), "exec"), {"__name__": "page"})
    assert len(read_catalogue("mine.csv").experiments) == 500


@pytest.mark.parametrize("page", RUN_PAGES, ids=name)
def test_no_block_of_a_page_is_forgotten(page: Path) -> None:
    """A command outside of a `console` block would not run."""
    for block in blocks(page):
        assert block.kind.split(" ")[0] in ("console", "python", "text", "csv"), block
        if block.kind == "console":
            assert block.commands, block
        elif block.kind != "python":
            assert not re.search(r"^(\$ |jaxrank [a-z]|make |pip )", block.text, re.MULTILINE)


@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_flags_of_a_page_exist(page: Path) -> None:
    for block in blocks(page):
        lines = block.commands
        if block.kind in ("shell", "text"):
            lines = [line for line in block.text.splitlines() if re.match(r"jaxrank [a-z]", line)]
        for line in lines:
            words = shlex.split(line, comments=True)
            if words[0] != "jaxrank" or not words[1:] or words[1].startswith("-"):
                continue
            command = words[1]
            assert command in COMMANDS, line
            values = command_flags(command)
            known = set(values) | {"help"}
            for word in words[2:]:
                flag = word.removeprefix("--").partition("=")[0].partition(".")[0]
                if word.startswith("--"):
                    assert flag in known or flag.removeprefix("no") in known, line


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "python_api.md").read_text(encoding="utf-8")
    names = [name for name in dir(jaxrank) if not name.startswith("_")]
    assert len(names) > 20
    missing = [name for name in names if f":: jaxrank.{name}\n" not in page]
    assert missing == []


def test_public_docstrings_name_no_private_module() -> None:
    """A reader of the reference has neither the module nor its functions."""
    modules = {path.stem for path in (ROOT / "jaxrank").rglob("*.py")}
    hits = []
    for public in (name for name in dir(jaxrank) if not name.startswith("_")):
        text = " ".join((inspect.getdoc(getattr(jaxrank, public)) or "").split())
        named = re.findall(r"`(\w+)\.(?!json|csv|npz|py\b)\w+`|see `(\w+)`", text)
        hits += [(public, a or b) for a, b in named if (a or b) in modules]
    assert hits == []


def test_every_flag_is_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    text = importlib.import_module("command_pages").command_pages()
    for command in COMMANDS:
        section = text.split(f"## {command}\n")[1].split("\n## ")[0]
        for flag in command_flags(command):
            assert f"`--{flag}" in section, (command, flag)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
