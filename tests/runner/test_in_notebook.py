"""A notebook, executed: what it shows of a search, an evaluation, a ranking and an audit."""

from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from small_data import ROOT

# The data and options of other tests, whose compiled programs it shares.
CELLS = [
    f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from small_data import make_data
import jaxrank
preferences, store = make_data()
store["iqa"] = store["iqa"]._replace(caveat="<b>made up</b>")
""",
    """
result = jaxrank.search(
    preferences, store, workdir="<w>", experiments=["iqa_only"], folds=3, audit="off",
    overrides={"max_epochs": 3, "batch_size": 32, "learning_rate": 3e-3},
)
""",
    "result",
    "jaxrank.evaluate_model(result.workdir / 'iqa_only' / 'model', preferences, store)",
    "jaxrank.rank_photos(result.workdir / 'iqa_only' / 'model', store, preferences.table)",
    "jaxrank.audit_data(preferences, store, max_seconds=1)",
    "assert not any(name.split('.')[0] == 'ipywidgets' for name in sys.modules)",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """The outputs of each cell."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(folder / name))
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}})
        client.execute()  # raises where a cell does
    nbformat.write(notebook, folder / "executed.ipynb")
    return [cell.outputs for cell in notebook.cells]


def html_of(outputs: list[Any]) -> str:
    (output,) = outputs
    return str(output.data["text/html"])


def test_a_search_shows_its_progress_without_being_asked(executed: list[list[Any]]) -> None:
    bar = html_of(executed[1])
    assert "training" in bar
    assert "100%" in bar  # as it was last


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        (2, ["Search in &lt;w&gt;", ">iqa_only</td>", ">sharpness</td>", ">val acc</th>", "%</td>",
             "<li>Best of 2 candidates (the reference linear is one): "]),
        (3, ["Evaluation", ">model</td>", ">new</td>", ">top-1</th>", "<li>the model has seen "]),
        (4, ["Ranking", ">s0-0.jpg</td>", ">yes</td>", "The first 20 of ", " are in .table."]),
    ],
)  # fmt: skip
def test_a_result_is_a_table_between_caveats_and_notes(
    executed: list[list[Any]], cell: int, texts: list[str]
) -> None:
    shown = html_of(executed[cell])
    for text in texts:
        assert text in shown
    assert shown.index("block iqa: &lt;b&gt;made up&lt;/b&gt;</strong>") < shown.index("<table>")
    assert shown.index("</table>") < shown.index("<ul>")
    assert "<b>" not in shown
    assert "<script" not in shown


def test_an_audit_says_its_verdict_first(executed: list[list[Any]]) -> None:
    shown = html_of(executed[5])
    assert shown.startswith("<div><p><strong>Audit: ")
    assert "Features: block iqa: &lt;b&gt;made up&lt;/b&gt;.</li>" in shown


def test_nothing_but_the_search_writes_to_the_notebook(executed: list[list[Any]]) -> None:
    assert [len(outputs) for outputs in executed] == [0, 1, 1, 1, 1, 1, 0]
    assert {output.output_type for outputs in executed for output in outputs} == {
        "display_data", "execute_result"}  # fmt: skip
