"""`preferences`: pairs for `search`, from marks on photos or another tool's comparisons."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from jaxrank.commands.flags import define_strings, refuse_empty
from jaxrank.commands.streams import announce, printing
from jaxrank.commands.terminal import make_console
from jaxrank.errors import UserError, program, suggestion

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = "--from_ratings=photos --features=store --out=pairs.csv"
_MARKS = ("from_ratings", "changes")
_EXPORTS = ("from_winners", "from_label_studio", "from_pick_a_pic", "from_hpd")
_FOLDER = "folder"


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    define_strings(
        values,
        {
            "from_ratings": "folder of photos: stars and flags, of XMP sidecars and of the photos",
            "changes": "a contact sheet's table with path,series,decision,rating; alone or beside "
            "--from_ratings",
            "from_winners": "table with winner,loser, one vote a row",
            "from_label_studio": "JSON export of a project with the tag Pairwise",
            "from_pick_a_pic": "parquet file of Pick-a-Pic",
            "from_hpd": "train.json or test.json of HPD v2",
            "series": "table with series_id,image, a pair table, or folder (sub-folders are "
            "series); default: the store's series.csv, what the source has, else photos that "
            "comparisons join",
            "features": "folder of a feature store, whose series.csv is read",
            "out": "the pair table that is written, a .csv file",
        },
    )


def run(values: flags.FlagValues, config: None) -> int:
    """Makes a pair table for search: from stars and flags that people gave the photos of a series
    in Lightroom, darktable, digiKam and others, and from decisions in a contact sheet; or from
    another tool's comparisons. Photos and sidecars are not changed."""
    del config
    source = _check_flags(values)

    from jaxrank.data.preference_tables import counted
    from jaxrank.io import atomic, tables
    from jaxrank.reporting.fitted_table import show_lines

    console = make_console(values)
    if source in _MARKS:
        if values.from_ratings is not None:
            announce(console, f"marks of the photos in {values.from_ratings}")
        table, lines = _pairs_of_marks(values)
    else:
        table, lines = _pairs_of_export(values, source)
    out = Path(values.out)
    with atomic.written_to(out.parent):
        tables.write_frame(out, table)
    number = f"{counted(len(table), 'pair')} in {table['series_id'].nunique():,} series"
    store = values.features or "STORE"
    use = f"{program()} search --pairs={values.out} --features={store}"
    with printing(out):
        show_lines(console, *lines, "", f"Preferences: {values.out}, {number}", f"Next: {use}")
    return 0


def _pairs_of_marks(values: flags.FlagValues) -> "tuple[pd.DataFrame, list[str]]":
    from jaxrank.culling.marked_pairs import (
        pairs_of_sources,
        read_sheet,
        report,
        sources_of_marks,
    )
    from jaxrank.culling.marks import marks_in_folder

    sheet = None if values.changes is None else read_sheet(values.changes)
    series_of, notes = _series(values, None if sheet is None else sheet.series_of)
    if sheet is not None and sheet.unused:
        if values.from_ratings is None or not series_of:
            raise UserError(sheet.unused)
        notes.append(sheet.unused)
    sources = []
    if values.from_ratings is not None:
        found = marks_in_folder(Path(values.from_ratings), list(series_of))
        sources += sources_of_marks(found.marks)
        notes += found.notes
    if sheet is not None:
        sources += sheet.sources
        without = [photo for photo in sheet.series_of if photo not in series_of]
        if without:
            notes.append(
                f"{len(without):,} of {len(sheet.series_of):,} photos of {values.changes} are in "
                f"no series, such as '{without[0]}'"
            )
    where = Path(values.from_ratings or values.changes)
    pairs = pairs_of_sources(where, series_of, sources)
    return pairs.table, [*notes, *report(pairs)]


def _series(
    values: flags.FlagValues, of_sheet: dict[str, str] | None
) -> tuple[dict[str, str], list[str]]:
    """Returns the series of each photo, and notes."""
    from jaxrank.culling.marks import list_photos
    from jaxrank.data.series import read_series
    from jaxrank.extraction import bursts

    if values.series == _FOLDER:
        names, notes = list_photos(Path(values.from_ratings))
        grouped = bursts.by_folder(names)
        series_of = {name: s for s, members in grouped.series.items() for name in members}
        return series_of, [*notes, *grouped.notes]
    path = values.series
    if path is None and values.features is None and of_sheet is None:
        return _bursts(Path(values.from_ratings)), ["series are bursts, as cull groups them"]
    if path is None and values.features is not None:
        beside = Path(values.features) / "series.csv"
        if os.path.isfile(beside):
            path = beside
        elif of_sheet is None:
            raise UserError(f"{beside}: there is none; give --series=FILE or --series={_FOLDER}")
    if path is None:
        assert of_sheet is not None  # ensured by _check_flags
        return of_sheet, [f"series from {values.changes}"]
    if not os.path.exists(path):
        raise UserError(
            f"--series={path}: neither the file of a table, nor {_FOLDER}."
            f"{suggestion(str(path), (_FOLDER,))}"
        )
    table = read_series(path)
    return dict(zip(table["image"], table["series_id"], strict=True)), [f"series from {path}"]


def _bursts(folder: Path) -> dict[str, str]:
    """The series of each photo of a burst: the burst's first photo."""
    from jaxrank.culling.decisions import BURST
    from jaxrank.culling.grouping import group_photos
    from jaxrank.culling.records import read_records

    groups = group_photos(read_records(folder).records)
    return {name: g.photos[0] for g in groups if g.kind == BURST for name in g.photos}


def _pairs_of_export(values: flags.FlagValues, source: str) -> "tuple[pd.DataFrame, list[str]]":
    from jaxrank.data import preference_exports, preferences
    from jaxrank.io import tables

    path = str(values[source].value)
    notes: list[str] = []
    if source == "from_winners":
        table = tables.read_table(path)
        for column in ("winner", "loser"):
            if column not in table.columns:
                need = "a list of winners has winner,loser"
                raise tables.missing_column(path, column, need, table.columns)
    else:
        read = {
            "from_label_studio": preference_exports.read_label_studio,
            "from_pick_a_pic": preference_exports.read_pick_a_pic,
            "from_hpd": preference_exports.read_hpd,
        }[source]
        table, notes = read(path)
        if values.series is not None and "series_id" in table.columns:
            table = table.without_column("series_id")
    found = preferences.from_table(table, values.series or values.features)
    return found.table, [*notes, *found.notes]


def _check_flags(values: flags.FlagValues) -> str:
    """Returns the first source flag; raises UserError for missing or contradictory flags."""
    refuse_empty(values, values)
    given = [name for name in (*_MARKS, *_EXPORTS) if values[name].present]
    exports = [name for name in given if name in _EXPORTS]
    if not given or (exports and len(given) > 1):
        raise UserError(
            f"give one of {', '.join(f'--{name}' for name in (*_MARKS, *_EXPORTS))}, not "
            f"{' and '.join(f'--{name}' for name in given) or 'none of them'}"
        )
    if values.out is None:
        raise UserError("--out is missing: the pair table that is written, such as pairs.csv")
    if not values.out.lower().endswith(".csv"):
        raise UserError(f"--out={values.out}: the pairs are written as CSV; give a name.csv")
    for name in (*given, "series"):
        read = values[name].value
        if read is not None and os.path.realpath(read) == os.path.realpath(values.out):
            raise UserError(f"--out={values.out}: --{name} reads that file; give another name")
    if values.from_ratings is None and values.series == _FOLDER:
        raise UserError(f"--series={_FOLDER} needs the photos: --from_ratings=FOLDER")
    return given[0]
