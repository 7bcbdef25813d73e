"""Tables fit the terminal by whole columns; sentences wrap between words."""

import io

import pytest
from rich.console import Console

from jaxrank.reporting.fitted_table import Column, print_fitted, show_lines

COLUMNS = [
    Column("name", ["long_name_of_an_experiment", "b"], "left"),
    Column("accuracy", ["61.0%", "7.5%"]),
    Column("first", ["1" * 12, "2"], drop=1),
    Column("second", ["3" * 12, "4"], drop=2),
    Column("empty", ["", ""], drop=3),
]


def printed(width: int) -> str:
    file = io.StringIO()
    print_fitted(Console(file=file, width=width), COLUMNS, "all.csv")
    return file.getvalue()


def test_a_wide_terminal_shows_every_column_with_text() -> None:
    out = printed(100)
    assert "second" in out
    assert "empty" not in out
    assert "left out" not in out


@pytest.mark.parametrize(
    ("width", "left_out"), [(60, "second"), (45, "first, second"), (10, "first, second")]
)
def test_columns_are_left_out_in_order_and_cells_never_cut(width: int, left_out: str) -> None:
    out = printed(width)
    assert f"Columns left out (width {width}): {left_out} (see all.csv)" in " ".join(out.split())
    assert "long_name_of_an_experiment" in out
    assert "61.0%" in out
    assert "…" not in out


def test_numbers_are_aligned_on_the_right() -> None:
    lines = printed(100).splitlines()
    ends = {line.index(text) + len(text) for line in lines for text in ("61.0%", "7.5%")
            if text in line}  # fmt: skip
    assert len(ends) == 1


def test_words_are_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    file = io.StringIO()
    words = "a path such as /a/very/long/path/to/some/file.csv stays one word".split()
    show_lines(Console(file=file), " ".join(words))
    assert file.getvalue().split() == words
    assert len(file.getvalue().splitlines()) > 1
