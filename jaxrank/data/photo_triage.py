"""Photo Triage's file formats: pair lists, and photos that are numbered within their series.

A pair list is text without a header, in six columns separated by blanks. Photos are given by their
numbers in the series.
"""

import re
import string
from pathlib import Path

from jaxrank.data.series_ids import canonical_series_id
from jaxrank.errors import UserError
from jaxrank.io import tables

# Photos are numbered from 1; rank 1 is the best photo of its series.
PAIR_LIST_COLUMNS = ("series_id", "number_a", "number_b", "preference", "rank_a", "rank_b")
# The files of a folder by their part of the official split.
PAIR_LISTS = {"train": "train_pairlist.txt", "val": "val_pairlist.txt"}
PHOTO_NAME = "{series:06d}-{number:02d}.JPG"

_VOTE_PHOTO = re.compile(r"(\d{1,18})-(\d{1,18})\.[A-Za-z0-9]+", re.ASCII)
_WHOLE_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


def read_folder(folder: Path) -> tables.Table:
    """Reads the pair lists of a folder as one table, with a further column `official_split`."""
    rows: list[list[str]] = []
    lines: list[int] = []
    parts: list[Path] = []
    for split, name in PAIR_LISTS.items():
        if not (folder / name).is_file():
            raise UserError(
                f"{folder}: a folder given as pairs holds {' and '.join(PAIR_LISTS.values())}, but "
                f"{name} is not there; put it there or name a file"
            )
        text = tables.read_text(folder / name)
        table = tables.parse_blanks(folder / name, text, PAIR_LIST_COLUMNS)
        rows.extend([*row, split] for row in table.rows)
        lines.extend(table.lines)
        parts += [table.path] * len(table.rows)
    columns = [*PAIR_LIST_COLUMNS, "official_split"]
    return tables.Table(folder, columns, rows, lines, parts=parts)


def name_photos(table: tables.Table, photo_name: str) -> tables.Table:
    """Converts a pair list to a canonical table."""
    check_pattern(photo_name)
    series = _whole_numbers(table, "series_id", 0)
    photos = [
        [photo_name.format(series=s, number=n) for s, n in zip(series, numbers, strict=True)]
        for numbers in (_whole_numbers(table, column, 1) for column in ("number_a", "number_b"))
    ]
    for column in ("rank_a", "rank_b"):
        _whole_numbers(table, column, 1)
    rows = [[row[0], a, b, *row[3:]] for row, a, b in zip(table.rows, *photos, strict=True)]
    return table._replace(
        columns=["series_id", "image_a", "image_b", *table.columns[3:]], rows=rows
    )


def _whole_numbers(table: tables.Table, column: str, least: int) -> list[int]:
    values = []
    for row, cell in enumerate(table.texts(column)):
        if not _WHOLE_NUMBER.fullmatch(cell) or int(cell) < least:
            raise UserError(
                f"{table.where(row, column)}: {cell[:40]!r} is not a whole number from {least} up"
            )
        values.append(int(cell))
    return values


def check_pattern(photo_name: str) -> None:
    """Raises UserError for a pattern that does not name a photo by series and number."""
    try:
        parsed = list(string.Formatter().parse(photo_name))
        fields = {field for _, field, _, _ in parsed if field is not None}
        # Only plain whole-number formats, such as 06d: other formats may fail later.
        plain = all(re.fullmatch(r"(0?\d{1,2}d?)?", form or "") for _, _, form, _ in parsed)
    except ValueError as error:
        raise UserError(f"--photo_name={photo_name}: not a usable pattern ({error})") from None
    if fields != {"series", "number"} or not plain or any(part[3] for part in parsed):
        raise UserError(
            f"--photo_name={photo_name}: the pattern must name {{series}} and {{number}}, "
            f"and nothing else; the default is {PHOTO_NAME}"
        )


def vote_photos(
    table: tables.Table, column: str, series_ids: list[str], photo_name: str
) -> list[str]:
    """The names of the photos in a column of a vote table."""
    names = []
    for row, cell in enumerate(table.texts(column)):
        match = _VOTE_PHOTO.fullmatch(cell)
        if match is None:
            raise UserError(
                f"{table.where(row, column)}: {cell[:40]!r} is not SERIES-NUMBER.JPG, "
                "such as 12-3.JPG"
            )
        if canonical_series_id(match[1]) != series_ids[row]:
            raise UserError(
                f"{table.where(row, column)}: photo {cell!r} is not of series {series_ids[row]}"
            )
        names.append(photo_name.format(series=int(match[1]), number=int(match[2])))
    return names
