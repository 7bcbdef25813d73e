"""`rank`: ranking of each series' photos by a saved model or a baseline."""

import os
from pathlib import Path

from absl import flags

from jaxrank.commands.flags import define_model, define_strings, model_workdir
from jaxrank.commands.streams import printing
from jaxrank.commands.terminal import make_console, print_json, prints_json

EXAMPLE = "--model=outputs/search --features=store"


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    define_model(values)
    define_strings(
        values,
        {
            "series": "table with series_id,image, or a pair table (default: series.csv in the "
            "store's folder; without it all photos are one series)"
        },
    )
    flags.DEFINE_boolean(
        "all", False, "show all series, not only the first ones", flag_values=values
    )


def run(values: flags.FlagValues, config: None) -> int:
    """Gives every photo a score and orders the photos of each series; writes rankings.csv."""
    del config
    folder = model_workdir(values, "rank")

    from jaxrank.data.remote_inputs import local_features
    from jaxrank.inference.rank import rank_photos
    from jaxrank.io import atomic, tables
    from jaxrank.reporting.console import print_ranking
    from jaxrank.reporting.fitted_table import show_lines

    series, notes = values.series, []
    features = local_features(values.features)
    if series is None and features is not None:
        beside = Path(features) / "series.csv"
        if os.path.isfile(beside):
            series, notes = str(beside), [f"series from {beside}"]
    console = make_console(values)
    result = rank_photos(values.model, features, series, baseline=values.baseline)
    with atomic.written_to(folder):
        tables.write_frame(folder / "rankings.csv", result.table)
    notes += result.notes
    ranked = result.table[result.table["series_id"] != ""]
    with printing(folder / "rankings.csv"):
        if prints_json(values):
            document = {"workdir": str(folder), "caveats": result.caveats, "notes": notes}
            print_json(document | {"ranking": result.table.to_dict("records")})
        else:
            print_ranking(console, result.table, everything=values.all)
            counts = f"{len(result.table):,} photos, {ranked['series_id'].nunique():,} series"
            show_lines(console, counts, *notes, "", f"Results: {folder / 'rankings.csv'}")
    return 0
