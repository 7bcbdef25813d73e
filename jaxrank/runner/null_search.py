"""Null search: a search repeated on permuted preferences, to measure what it finds by chance.

The photos of each series are permuted, so with a split by whole series there is nothing to learn.
Seeds, space and rungs are the same, and so are the series and their splits unless pairs lack
features: the repeated search reads only the others, so series near a cut may move. Whatever it
reports about its selected experiment is chance.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxrank.data.dataset import Dataset, permutation_control
from jaxrank.data.feature_store import Block
from jaxrank.data.preference_tables import counted
from jaxrank.data.preferences import Preferences
from jaxrank.experiments.config_files import make_config
from jaxrank.io.documents import read_json
from jaxrank.reporting.summary import RESULTS_JSON, percent
from jaxrank.runner.manifest import Manifest
from jaxrank.runner.options import NONE, READING, ROUND_SIZE, SPACE_OPTIONS, SearchOptions
from jaxrank.runner.strategies import STRATEGIES

if TYPE_CHECKING:
    from jaxrank.runner.search_result import SearchResult

FOLDER = "null_search"


def permuted_inputs(dataset: Dataset) -> tuple[Preferences, dict[str, Block]]:
    """Pairs with permuted photos, and the unchanged features."""
    blocks = {
        name: Block(
            list(dataset.photos),
            list(columns),
            dataset.features_ND[:, dataset.column_indices([name])],
        )
        for name, columns in dataset.block_columns.items()
    }
    return Preferences(permutation_control(dataset).table), blocks


def options_of(record: Manifest) -> dict[str, Any]:
    """Options of `search` that repeat a trained search."""
    fields = {field.name for field in dataclasses.fields(SearchOptions)}
    options = {name: value for name, value in record.launch.items() if name in fields}
    proposed = {name for planned in record.rounds for name in planned.names}
    config = dict(options["config"])
    config["experiments"] = {
        name: values for name, values in config["experiments"].items() if name not in proposed
    }
    options |= {
        "config": make_config(config), "null_search": False, "predictions": NONE, "curves": NONE,
        "final": "", "track": "", **dict.fromkeys(READING),
    }  # fmt: skip
    del options["mode"]
    if not record.rounds:
        for name in ("space", *SPACE_OPTIONS):
            del options[name]
        return options
    learns = STRATEGIES[options["strategy"]].learns
    if options["round_size"] is None and (learns or options["time_budget"] is not None):
        options["round_size"] = ROUND_SIZE
    del options["experiments"]
    # The same number of experiments, without a time limit.
    return options | {
        "num_experiments": len(proposed), "time_budget": None, "optuna_journal": None,
    }  # fmt: skip


def notes_of(result: "SearchResult") -> tuple[list[str], dict[str, Any]]:
    """Findings of the repeated search: a sentence, and figures for `results.json`."""
    facts = read_json(result.workdir / RESULTS_JSON)["conclusions"].get("selected")
    if facts is None:
        return [f"Null search ({FOLDER}/): no experiment could be selected."], {}
    better = int((result.summary["baseline_ci_low"] > 0).sum())
    reported = f" ({percent(facts['expected'])} as reported)" if facts["expected"] else ""
    line = (
        f"Null search: of {counted(facts['num_candidates'], 'experiment')} on permuted "
        f"preferences, the selected one has accuracy {percent(facts['selecting'])} on the pairs "
        f"that selected it{reported}, and {better:,} {'is' if better == 1 else 'are'} "
        f"significantly better than the strongest baseline; any difference is chance ({FOLDER}/)."
    )
    return [line], facts | {"called_better": better}
