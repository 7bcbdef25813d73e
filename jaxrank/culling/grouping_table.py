"""Table of groups, for people to read and correct: series_id, image, kind, reason."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pandas as pd

from jaxrank.culling.grouping import Group, Kind
from jaxrank.culling.records import PhotoRecord
from jaxrank.data.series_ids import SERIES_COLUMNS, canonical_series_id
from jaxrank.errors import UserError, did_you_mean
from jaxrank.io import tables

COLUMNS = (*SERIES_COLUMNS, "kind", "reason")


def groups_table(groups: Sequence[Group]) -> pd.DataFrame:
    """The table with a row for each photo; a series is named after its first photo."""
    rows = [(g.photos[0], photo, g.kind, g.reason) for g in groups for photo in g.photos]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_groups(path: Path, records: Sequence[PhotoRecord]) -> tuple[list[Group], list[str]]:
    """Reads the groups of a table with series_id, image and, unless all are bursts, kind.

    A row may name a photo by any of its files. Photos without a row become single groups.

    Returns:
      The groups, in the table's order and then the photos without a row; notes on these photos,
      and on rows without a photo.

    Raises:
      UserError: the table has another form, or names none of the photos.
    """
    table = tables.read_table(path)
    for column in SERIES_COLUMNS:
        if column not in table.columns:
            need = f"a grouping has {','.join(SERIES_COLUMNS)}, and may have kind"
            raise tables.missing_column(path, column, need, table.columns)
    series = [canonical_series_id(text) for text in table.texts("series_id")]
    images, kind_of = table.distinct_photos("image"), _kinds(table, series)
    photo_of = {file: record.name for record in records for file in record.files}
    members: dict[str, list[str]] = {}
    row_of: dict[str, int] = {}
    unknown = []
    for row, image in enumerate(images):
        photo = photo_of.get(image)
        if photo is None:
            unknown.append(image)
        elif photo in row_of:
            raise UserError(
                f"{table.where(row)}: '{image}' is a file of the photo '{photo}', which "
                f"{table.place(row_of[photo])} has; name it once"
            )
        else:
            row_of[photo] = row
            members.setdefault(series[row], []).append(photo)
    if not members:
        raise UserError(
            f"{path}: none of the photos is in the table: it names photos such as '{images[0]}', "
            f"the photos have names such as '{records[0].name}'"
        )
    groups = [_group(kind_of[one], photos, path.name) for one, photos in members.items()]
    alone = [record.name for record in records if record.name not in row_of]
    groups += [Group("single", (name,), f"in no row of {path.name}") for name in alone]
    notes = []
    if alone:
        notes.append(f"photos in no row of {path.name}: {len(alone):,}, such as '{alone[0]}'")
    if unknown:
        notes.append(f"photos of {path.name} that are not in the folder: {len(unknown):,}, such as "
                     f"'{unknown[0]}'")  # fmt: skip
    return groups, notes


def _kinds(table: tables.Table, series: Sequence[str]) -> dict[str, Kind]:
    """Kind of each series, by its ID."""
    known: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    given = table.texts("kind") if "kind" in table.columns else ["burst"] * len(series)
    kind_of: dict[str, Kind] = {}
    for row, (one, kind) in enumerate(zip(series, given, strict=True)):
        if kind not in known:
            raise UserError(
                f"{table.where(row)}: unknown kind '{kind}'.{did_you_mean(kind, known)}"
            )
        if kind_of.setdefault(one, known[kind]) != kind:
            raise UserError(
                f"{table.where(row)}: the series '{one}' is of kind '{kind_of[one]}' in a row "
                f"above and '{kind}' here; give it one kind"
            )
    return kind_of


def _group(kind: Kind, photos: Sequence[str], source: str) -> Group:
    if kind == "burst" and len(photos) == 1:
        kind = "single"
    return Group(kind, tuple(photos), f"given by {source}")
