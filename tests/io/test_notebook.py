"""Results as HTML, outside a notebook."""

import numpy as np
import pandas as pd

from jaxrank.io import notebook


def test_every_text_is_escaped_and_every_kind_of_cell_is_shown() -> None:
    table = pd.DataFrame(
        {
            "<i>": ["<b>", "b & c"],
            "acc": [0.5, np.nan],
            "score": [1.23456, np.nan],
            "pairs": pd.array([1234, None], "Int64"),
            "pick": [True, False],
        }
    )
    shown = notebook.result_html(
        "<title>", caveats=["<caveat>"], table=table, shares=["acc"], notes=["<note>"]
    )
    for text in ("<title>", "<caveat>", "<note>", "<i>", "<b>", "b & c"):
        assert text not in shown
    for text in ("&lt;title&gt;", "&lt;caveat&gt;", "&lt;note&gt;", "&lt;i&gt;", "&lt;b&gt;",
                 ">50.0%<", ">1.235<", ">1,234<", ">yes<", ">b &amp; c<"):  # fmt: skip
        assert text in shown
    assert "nan" not in shown
    assert "<NA>" not in shown


def test_a_long_table_is_cut_and_says_where_the_rest_is() -> None:
    table = pd.DataFrame({"experiment": [f"e{i}" for i in range(21)]})
    shown = notebook.result_html("t", caveats=[], table=table, rest=".summary", notes=[])
    assert ">e19<" in shown
    assert ">e20<" not in shown
    assert "The first 20 of 21 rows; all are in .summary." in shown
    assert "first" not in notebook.result_html("t", caveats=[], table=table.head(20), notes=[])


def test_a_test_is_no_notebook() -> None:
    assert not notebook.is_notebook()
