"""Words that the project's texts avoid: pages, docstrings, comments and messages.

Each has a term of the field, or a plain verb, that says the same. A word may be quoted: what is
between backticks is code and is not looked at.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_data import ROOT

# By the word, what is written instead.
EVERYWHERE = {
    r"go(es)? on|going on|went on": "resume, continue",
    r"lets? go of|letting go": "release",
    r"mend(s|ed|ing)?": "fix, repair",
    r"broke off|breaks off": "crashed, stopped",
    r"hand(s|ed|ing)? over": "pass, give",
    r"luck|luckily|luckiest|lucky": "chance, seed variance",
    r"speaks? (for|against|of)": "support, contradict",
    r"at hand": "available, sampled",
    r"knows? no": "has no, gives no",
    r"can't be told|cannot be told|told from|told apart": "distinguish, separate",
    r"while it learns": "train (running, with dropout)",
    r"bad photos?": "unreadable photo",
    r"conductor|remarks": "search, notes",
    r"that of which|what it took": "name the thing",
    r"renumbered photos": "permuted photos",
    r"nobody knows": "it is not known",
    r"says? nothing": "is unrelated to, does not score",
    r"for want of": "for lack of, out of time",
    r"too good to be true": "target leakage",
    r"stands? twice": "appears twice",
    r"stands? alone": "is alone",
    r"passed over": "skipped",
    r"tells? apart": "distinguish",
    r"made otherwise": "made with another recipe",
    r"is no (choice|condition|feature|range|text)": "is not a ...",
}
# Pages are read first, and are held to more.
IN_PAGES = {
    r"stands?|stood": "is, is printed, appears",
    r"tells|told": "report, show, print",
    r"a mistake of ours": "a bug in jaxrank",
}
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
MODULES = [
    *sorted((ROOT / "jaxrank").rglob("*.py")),
    *sorted((ROOT / "configs").rglob("*.py")),
    *sorted((ROOT / "docs").rglob("*.py")),
]
_TEXT = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))


def lines_of_page(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of prose: fenced blocks show what programs print, or are code."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def lines_of_module(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of comments and of all literals: docstrings, messages, help texts."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _TEXT:
            yield from enumerate(token.string.splitlines(), token.start[0])


def found(lines: Iterator[tuple[int, str]], words: dict[str, str]) -> list[str]:
    hits = []
    for number, line in lines:
        prose = re.sub(r"`[^`]*`", "", line)
        for word, better in words.items():
            if hit := re.search(rf"\b({word})\b", prose, re.IGNORECASE):
                hits.append(f"line {number}: '{hit[0]}': write {better}: {line.strip()[:80]}")
    return hits


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_are_in_plain_words(page: Path) -> None:
    assert found(lines_of_page(page), EVERYWHERE | IN_PAGES) == []


def test_docstrings_comments_and_messages_are_in_plain_words() -> None:
    hits = {name(module): found(lines_of_module(module), EVERYWHERE) for module in MODULES}
    assert {module: lines for module, lines in hits.items() if lines} == {}


def test_a_word_that_is_avoided_is_found(tmp_path: Path) -> None:
    page, module = tmp_path / "page.md", tmp_path / "module.py"
    page.write_text("The lock is let go of.\n\n```\ngoes on\n```\n`goes on` It goes on.\n")
    module.write_text('x = f"{1} is at hand"  # luck\n"""A page\nthat goes on."""\n')
    assert len(found(lines_of_page(page), EVERYWHERE)) == 1 + 1
    assert len(found(lines_of_module(module), EVERYWHERE)) == 3
