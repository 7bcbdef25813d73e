"""`evaluate` and `rank`: what a saved model says of pairs and photos."""

import os
from pathlib import Path

from absl import flags

from jaxrank.commands.console import default_workdir, make_console
from jaxrank.errors import UserError

READING = ("photo_name", "min_agreement", "min_reviewers")
# Rows of a ranking that are shown.
_SHOWN = 12


def define_evaluate(values: flags.FlagValues, words: list[str]) -> None:
    del words  # no config here
    _define_common(values)
    define_pairs(values)


def define_pairs(values: flags.FlagValues) -> None:
    """The flags of pairs, and of how votes are read."""
    for name, meaning in {
        "pairs": "pairs or votes, as for 'search'; without it the embedded simulated data",
        "photo_name": "votes and pair lists: how a photo's name is built (default: "
        "{series:06d}-{number:02d}.JPG)",
    }.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_float(
        "min_agreement",
        None,
        "votes: leave out pairs with a smaller majority (default: 0.7)",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "min_reviewers",
        None,
        "votes: leave out pairs with fewer votes (default: 2)",
        lower_bound=1,
        flag_values=values,
    )


def define_rank(values: flags.FlagValues, words: list[str]) -> None:
    del words  # no config here
    _define_common(values)
    flags.DEFINE_string(
        "series",
        None,
        "table with series_id,image, or a pair table (default: series.csv in the store's folder; "
        "without it all photos are one series)",
        flag_values=values,
    )


def _define_common(values: flags.FlagValues) -> None:
    for name, meaning in {
        "model": "folder of a saved model: EXPERIMENT/model in the folder of a search",
        "features": "folder of a feature store; without it the embedded simulated photos",
        "workdir": "new folder for the results (default: one named by the time, in outputs/)",
    }.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)


def evaluate(values: flags.FlagValues, config: None) -> int:
    """Measures a saved model on any pairs, apart for photos that it has seen, with the one-line
    rules beside it; writes predictions.csv and metrics.json."""
    del config
    folder = _begin(values, "evaluate")

    from jaxrank.inference.evaluate import evaluate_model
    from jaxrank.io import atomic, documents, tables
    from jaxrank.reporting import console

    reading = {name: values[name].value for name in READING}
    result = evaluate_model(values.model, values.pairs, values.features, **reading)
    metrics = result.metrics.to_dict("records")
    with atomic.written_to(folder):
        tables.write_frame(folder / "predictions.csv", result.predictions)
        facts = {"model": values.model, "pairs": values.pairs, "features": values.features}
        documents.write_json(
            folder / "metrics.json", facts | {"notes": result.notes, "metrics": metrics}
        )
    console.print_metrics(make_console(), result.metrics)
    print(*result.notes, f"\nResults: {folder}", sep="\n")
    return 0


def rank(values: flags.FlagValues, config: None) -> int:
    """Gives every photo a score and orders the photos of each series; writes rankings.csv."""
    del config
    folder = _begin(values, "rank")

    from jaxrank.inference.rank import rank_photos
    from jaxrank.io import atomic, tables
    from jaxrank.reporting import console

    series, notes = values.series, []
    if series is None and values.features is not None:
        beside = Path(values.features) / "series.csv"
        if os.path.isfile(beside):
            series, notes = str(beside), [f"series from {beside}"]
    result = rank_photos(values.model, values.features, series)
    with atomic.written_to(folder):
        tables.write_frame(folder / "rankings.csv", result.table)
    console.print_ranking(make_console(), result.table.head(_SHOWN))
    ranked = result.table[result.table["series_id"] != ""]
    print(
        f"{len(result.table):,} photos, {ranked['series_id'].nunique():,} series",
        *([] if len(result.table) <= _SHOWN else [f"the first {_SHOWN} photos are shown"]),
        *notes,
        *result.notes,
        f"\nResults: {folder / 'rankings.csv'}",
        sep="\n",
    )
    return 0


def _begin(values: flags.FlagValues, command: str) -> Path:
    """The folder for the results; it is not made yet."""
    for name in ("model", "pairs", "features", "series", "workdir"):
        if name in values and values[name].value == "":
            raise UserError(f"--{name} is empty")
    if values.model is None:
        raise UserError(
            "--model is missing: give the folder of a saved model, EXPERIMENT/model of a search"
        )

    from jaxrank.launches import find_workdir

    return find_workdir(values.workdir or default_workdir(command), resume=False)
