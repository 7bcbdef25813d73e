"""`rank`: the photos of each series in the order of a saved model."""

import os
from pathlib import Path

from absl import flags

from jaxrank.commands.flags import define_model, define_strings, model_workdir
from jaxrank.commands.streams import printing
from jaxrank.commands.terminal import make_console

# Rows of a ranking that are shown.
_SHOWN = 12


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # no config here
    define_model(values)
    define_strings(
        values,
        {
            "series": "table with series_id,image, or a pair table (default: series.csv in the "
            "store's folder; without it all photos are one series)"
        },
    )


def run(values: flags.FlagValues, config: None) -> int:
    """Gives every photo a score and orders the photos of each series; writes rankings.csv."""
    del config
    folder = model_workdir(values, "rank")

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
    ranked = result.table[result.table["series_id"] != ""]
    with printing(folder / "rankings.csv"):
        console.print_ranking(make_console(), result.table.head(_SHOWN))
        print(
            f"{len(result.table):,} photos, {ranked['series_id'].nunique():,} series",
            *([] if len(result.table) <= _SHOWN else [f"the first {_SHOWN} photos are shown"]),
            *notes,
            *result.notes,
            f"\nResults: {folder / 'rankings.csv'}",
            sep="\n",
        )
    return 0
