"""Human preferences between two photos of a series: read, checked, merged and filtered.

Two kinds of table, CSV, JSONL or parquet, are recognised by their columns:

- canonical: `series_id,image_a,image_b,preference`; further columns are kept;
- raw votes, as Photo Triage ships them: `series_id,compareFile1,compareFile2,LEFT,RIGHT`, where
  LEFT counts the votes for `compareFile1` and a pair can stand in both orders.

A pair list, as Photo Triage ships it too, is text without a header: six columns separated by
blanks, photos given by their numbers in the series.
"""

import os
import re
import string
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank.errors import UserError
from jaxrank.io import tables

CANONICAL_COLUMNS = ("series_id", "image_a", "image_b", "preference")
VOTE_COLUMNS = ("series_id", "compareFile1", "compareFile2", "LEFT", "RIGHT")
# Photos are counted from 1; rank 1 is the best of its series.
PAIR_LIST_COLUMNS = ("series_id", "number_a", "number_b", "preference", "rank_a", "rank_b")
# The files of a folder, by what they are in the official split.
PAIR_LISTS = {"train": "train_pairlist.txt", "val": "val_pairlist.txt"}
PHOTO_NAME = "{series:06d}-{number:02d}.JPG"
MIN_AGREEMENT = 0.7
MIN_REVIEWERS = 2

_VOTE_PHOTO = re.compile(r"(\d{1,18})-(\d{1,18})\.[A-Za-z0-9]+", re.ASCII)
_CATEGORY = "label"  # ends the names of columns of votes that say what a pair is about
_WHOLE_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_MOST_VOTES = 1e9  # far above any real number; sums of more would not be exact


class Preferences(NamedTuple):
    """Pairs ready for training: every photo pair once, every photo in one series.

    Attributes:
      table: `series_id` (text), `image_a`, `image_b`, `preference` (float in [0, 1], the share
        that prefers `image_a`), then the further columns of the file.
      notes: sentences about what was merged, contradicted or left out, for the log.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_preferences(
    path: Path | str,
    *,
    photo_name: str | None = None,
    min_agreement: float | None = None,
    min_reviewers: int | None = None,
) -> Preferences:
    """Reads a canonical table, a raw vote table, a pair list or the folder of two pair lists.

    Args:
      path: .jsonl, .ndjson or .parquet; any other file is CSV or a pair list, whichever it looks
        like. A folder holds the files of PAIR_LISTS; a further column `official_split` then says
        from which one a row comes.
      photo_name: for votes and pair lists, how a photo's name is built; by default PHOTO_NAME.
      min_agreement: for votes, the least share of a pair's votes on its majority's side; by
        default MIN_AGREEMENT.
      min_reviewers: for votes, the least number of votes for a pair; by default MIN_REVIEWERS.

    Raises:
      UserError: naming file, line and column, for anything that is not such a table.
    """
    path = Path(path)
    vote_options = {"min_agreement": min_agreement, "min_reviewers": min_reviewers}
    table, is_pair_list = _read(path)
    columns = set(table.columns)
    if is_pair_list:
        refuse_vote_options(str(path), **vote_options)
        named = _name_photos(table, PHOTO_NAME if photo_name is None else photo_name)
        return _from_canonical(named)
    if set(CANONICAL_COLUMNS) <= columns:
        refuse_vote_options(str(path), photo_name=photo_name, **vote_options)
        return _from_canonical(table)
    if set(VOTE_COLUMNS) <= columns:
        return _from_votes(
            table,
            PHOTO_NAME if photo_name is None else photo_name,
            MIN_AGREEMENT if min_agreement is None else min_agreement,
            MIN_REVIEWERS if min_reviewers is None else min_reviewers,
        )
    missing = [column for column in CANONICAL_COLUMNS if column not in columns]
    need = (
        f"a pair table has {','.join(CANONICAL_COLUMNS)} and a vote table {','.join(VOTE_COLUMNS)}"
    )
    raise tables.missing_column(path, missing[0], need, table.columns)


def read_all_votes(path: Path | str, photo_name: str | None = None) -> Preferences:
    """The pairs of a table, whatever its kind; of a vote table all, however few their votes."""
    kept: dict[str, Any] = {}
    table, is_pair_list = _read(Path(path))
    columns = set(table.columns)
    canonical = set(CANONICAL_COLUMNS) <= columns
    if not is_pair_list and not canonical and set(VOTE_COLUMNS) <= columns:
        kept = {"min_agreement": 0.0, "min_reviewers": 1}
    named = is_pair_list or not canonical
    return read_preferences(path, photo_name=photo_name if named else None, **kept)


def refuse_vote_options(where: str, **options: object) -> None:
    """An option that would change nothing is a mistake."""
    for name, value in options.items():
        if value is not None and name == "photo_name":
            raise UserError(
                f"--{name} is for vote tables and pair lists, but {where} holds the photos' names"
            )
        if value is not None:
            raise UserError(f"--{name} is for vote tables, but {where} holds no votes")


def _read(path: Path) -> tuple[tables.Table, bool]:
    """The file as a table, and whether it is a pair list."""
    if os.path.isdir(path):  # Path.is_dir raises for some names
        return _read_folder(path), True
    if path.suffix.lower() in tables.READERS:
        return tables.read_table(path), False
    text = tables.read_text(path)
    first = next((line.strip() for line in tables.text_lines(text) if line.strip()), "")
    # CSV has commas, and a header does not begin with a number.
    if "," not in first and (len(first.split()) == len(PAIR_LIST_COLUMNS) or first[:1].isdigit()):
        return tables.parse_blanks(path, text, PAIR_LIST_COLUMNS), True
    return tables.parse_csv(path, text), False


def _read_folder(folder: Path) -> tables.Table:
    both = tables.Table(folder, [*PAIR_LIST_COLUMNS, "official_split"], [], [])
    parts: list[Path] = []
    for split, name in PAIR_LISTS.items():
        if not (folder / name).is_file():
            raise UserError(
                f"{folder}: a folder given as pairs holds {' and '.join(PAIR_LISTS.values())}, but "
                f"{name} is not there; put it there or name a file"
            )
        text = tables.read_text(folder / name)
        table = tables.parse_blanks(folder / name, text, PAIR_LIST_COLUMNS)
        both.rows.extend([*row, split] for row in table.rows)
        both.lines.extend(table.lines)
        parts += [table.path] * len(table.rows)
    return both._replace(parts=parts)


def _name_photos(table: tables.Table, photo_name: str) -> tables.Table:
    """A pair list as a canonical table."""
    _check_pattern(photo_name)
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


def from_frame(frame: pd.DataFrame) -> Preferences:
    """Checks and merges a canonical table that is already in memory, as `read_preferences` does."""
    missing = [column for column in CANONICAL_COLUMNS if column not in frame.columns]
    if missing:
        need = f"a pair table has {','.join(CANONICAL_COLUMNS)}"
        columns = list(map(str, frame.columns))
        raise tables.missing_column("pairs (data frame)", missing[0], need, columns)
    names = list(map(str, frame.columns))
    if len(set(names)) < len(names):
        raise UserError("pairs: a column stands twice in the data frame")
    if frame.empty:
        raise UserError("pairs: the data frame has no rows")
    if frame["series_id"].dtype.kind == "f":
        raise UserError(
            "pairs, column 'series_id': ids are text or whole numbers, not decimal ones"
        )
    rows = frame.astype(object).where(frame.notna(), "").astype(str).values.tolist()
    lines = list(range(1, len(frame) + 1))
    return _from_canonical(tables.Table(Path("pairs (data frame)"), names, rows, lines))


def canonical_series_id(text: str) -> str:
    """A series id is text; a number loses its leading zeros, so `000012` and `12` are one."""
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else text


def _from_canonical(table: tables.Table) -> Preferences:
    frame = pd.DataFrame(
        {
            "series_id": [canonical_series_id(text) for text in table.texts("series_id")],
            "image_a": table.texts("image_a"),
            "image_b": table.texts("image_b"),
            "preference": table.numbers(["preference"])[:, 0],
        }
    )
    for column in table.columns:
        if column not in frame.columns:
            index = table.columns.index(column)
            frame[column] = [row[index] for row in table.rows]
    outside = np.flatnonzero((frame["preference"] < 0) | (frame["preference"] > 1))
    if len(outside):
        row = int(outside[0])
        raise UserError(
            f"{table.where(row, 'preference')}: {frame['preference'][row]:g} is not a share "
            "between 0 and 1"
        )
    _check_photos(frame, table)
    # A row given more than once counts the same each time: there are no numbers of voters here.
    merged, _, notes = _merge(frame, frame["preference"], 1 - frame["preference"], "rows")
    return Preferences(merged, notes)


def _from_votes(
    table: tables.Table, photo_name: str, min_agreement: float, min_reviewers: int
) -> Preferences:
    _check_pattern(photo_name)
    if not 0 <= min_agreement <= 1:
        raise UserError(f"--min_agreement={min_agreement:g} is not a share between 0 and 1")
    series_ids = [canonical_series_id(text) for text in table.texts("series_id")]
    frame = pd.DataFrame(
        {
            "series_id": series_ids,
            "image_a": _vote_photos(table, "compareFile1", series_ids, photo_name),
            "image_b": _vote_photos(table, "compareFile2", series_ids, photo_name),
        }
    )
    for place, name in enumerate(table.columns):
        if name.endswith(_CATEGORY):
            frame[name] = [cells[place] for cells in table.rows]
    votes = table.numbers(["LEFT", "RIGHT"])
    wrong = np.argwhere((votes < 0) | (votes > _MOST_VOTES) | (votes != np.floor(votes)))
    if len(wrong):
        row, column = (int(index) for index in wrong[0])
        raise UserError(
            f"{table.where(row, ('LEFT', 'RIGHT')[column])}: {votes[row, column]:g} is not a "
            "number of votes"
        )
    _check_photos(frame, table)

    merged, reviewers, merge_notes = _merge(frame, votes[:, 0], votes[:, 1], "vote rows")
    notes = list(merge_notes)
    agreement = np.maximum(merged["preference"], 1 - merged["preference"])
    # Shares such as 7/10 must not fall under 0.7 by rounding.
    kept = (reviewers >= max(min_reviewers, 1)) & (agreement >= min_agreement - 1e-9)
    if not kept.any():
        raise UserError(
            f"{table.path}: no pair has at least {min_reviewers} votes and {min_agreement:g} "
            "agreement; lower --min_reviewers or --min_agreement"
        )
    if not kept.all():
        notes.append(
            f"{int((~kept).sum()):,} of {len(kept):,} pairs left out: fewer than {min_reviewers} "
            f"votes or agreement below {min_agreement:g}"
        )
    merged["votes"] = reviewers.astype(int)
    return Preferences(merged[kept].reset_index(drop=True), tuple(notes))


def _check_pattern(photo_name: str) -> None:
    try:
        parsed = list(string.Formatter().parse(photo_name))
        fields = {field for _, field, _, _ in parsed if field is not None}
        # Only plain whole-number formats, such as 06d: nothing else can fail later.
        plain = all(re.fullmatch(r"(0?\d{1,2}d?)?", form or "") for _, _, form, _ in parsed)
    except ValueError as error:
        raise UserError(f"--photo_name={photo_name}: not a usable pattern ({error})") from None
    if fields != {"series", "number"} or not plain or any(part[3] for part in parsed):
        raise UserError(
            f"--photo_name={photo_name}: the pattern must name {{series}} and {{number}}, "
            f"and nothing else; the default is {PHOTO_NAME}"
        )


def _vote_photos(
    table: tables.Table, column: str, series_ids: list[str], photo_name: str
) -> list[str]:
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


def _check_photos(frame: pd.DataFrame, table: tables.Table) -> None:
    """A pair has two different photos, and a photo has one series (else a split would leak)."""
    same = np.flatnonzero(frame["image_a"] == frame["image_b"])
    if len(same):
        raise UserError(
            f"{table.where(int(same[0]))}: photo '{frame['image_a'][same[0]]}' is compared with "
            "itself"
        )
    photos = pd.concat([frame["image_a"], frame["image_b"]], ignore_index=True)
    series = pd.concat([frame["series_id"], frame["series_id"]], ignore_index=True)
    codes, names = pd.factorize(photos)
    first = np.full(len(names), len(photos))
    np.minimum.at(first, codes, np.arange(len(photos)))
    differs = np.flatnonzero(series.to_numpy() != series.to_numpy()[first[codes]])
    if len(differs):
        here = int(differs[0])
        there = int(first[codes[here]])
        raise UserError(
            f"{table.where(here % len(frame))}: photo '{photos[here]}' stands in series "
            f"{series[here]} and, on {table.place(there % len(frame))}, in series "
            f"{series[there]}; a photo belongs to one series"
        )


def _merge(
    frame: pd.DataFrame, for_a: np.ndarray, for_b: np.ndarray, what: str
) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """Sums the rows of a pair, in whichever order they name its photos.

    Args:
      frame: `series_id`, `image_a`, `image_b` and further columns.
      for_a, for_b: what each row says for either photo: votes, or shares.
      what: the rows' name in the notes.

    Returns:
      One row a pair, in the order and with the further columns of its first row, with its
      `preference` (one half where nobody voted); the sum of its votes or shares; notes on merges.
    """
    first, second = frame["image_a"].to_numpy(object), frame["image_b"].to_numpy(object)
    low, high = np.minimum(first, second), np.maximum(first, second)
    group, _ = pd.factorize(pd.MultiIndex.from_arrays([low, high]))
    is_first = ~pd.Series(group).duplicated().to_numpy()
    flipped = first != first[is_first][group]
    toward_a, toward_b = np.where(flipped, [for_b, for_a], [for_a, for_b])
    votes_a = np.bincount(group, weights=toward_a)
    votes = votes_a + np.bincount(group, weights=toward_b)
    merged = frame[is_first].reset_index(drop=True)
    merged["preference"] = np.divide(votes_a, votes, out=np.full(len(votes), 0.5), where=votes > 0)
    says_a = np.bincount(group, weights=toward_a > toward_b) > 0
    says_b = np.bincount(group, weights=toward_a < toward_b) > 0
    if is_first.all():
        return merged, votes, ()
    note = (
        f"{len(frame):,} {what} merged to {len(merged):,} pairs; "
        f"{int((says_a & says_b).sum()):,} of them were given in contradictory directions"
    )
    return merged, votes, (note,)
