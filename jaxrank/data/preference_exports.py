"""Reads comparisons of other tools and published data sets as rows winner,loser.

Each reader accepts one documented format and refuses every other one. Ties are left out.

- Label Studio (`<Pairwise>` tag): its JSON export, https://labelstud.io/tags/pairwise.
- Pick-a-Pic (Kirstain et al. 2023, arXiv:2305.01569): parquet files of the data set.
- HPD v2 (Wu et al. 2023, arXiv:2306.09341): train.json and test.json.
"""

import hashlib
import itertools
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxrank.data.preference_tables import counted
from jaxrank.errors import UserError
from jaxrank.io import documents, tables

# Largest number of photos in one ranking: every two of them make a pair.
_MOST_RANKED = 100


class Comparisons(NamedTuple):
    """Comparisons of two photos.

    Attributes:
      table: `winner`, `loser` and, if the source has prompts, `series_id`, one for each prompt.
      notes: sentences about omitted entries.
    """

    table: tables.Table
    notes: list[str]


def read_label_studio(path: Path | str) -> Comparisons:
    """Reads the annotations of a Label Studio project whose tasks show two photos side by side.

    A photo's name is its path below the folder of local files, the name of the uploaded file, or
    else the text in the task.

    Raises:
      UserError: the file has another form; the message names the task.
    """
    path, rows, lines = Path(path), [], []
    cancelled = ties = 0
    for number, task in _entries(path, "task"):
        where = f"{path}, task {number}"
        data, annotations = _fields(where, task, data=dict, annotations=list)
        for annotation in annotations:
            if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
                raise UserError(f"{where}: an annotation has no list 'result'; export as JSON")
            if annotation.get("was_cancelled"):
                cancelled += 1
                continue
            for result in annotation["result"]:
                if not isinstance(result, dict) or result.get("type") != "pairwise":
                    continue
                left, right, selected = _pairwise(where, data, result)
                if selected not in ("left", "right"):
                    ties += 1
                    continue
                rows.append([left, right] if selected == "left" else [right, left])
                lines.append(number)
    if not rows:
        raise UserError(
            f"{path}: no task has an annotation of the type 'pairwise' that selects left or right"
        )
    notes = _left_out(cancelled, "cancelled annotation") + _left_out(ties, "tie")
    return Comparisons(tables.Table(path, ["winner", "loser"], rows, lines, "task"), notes)


def _pairwise(where: str, data: dict[str, Any], result: dict[str, Any]) -> tuple[str, str, object]:
    """The left photo, the right photo, and the selected side."""
    value, to_name = _fields(where, result, value=dict, to_name=str)
    if "selected" not in value:
        raise UserError(f"{where}: the result has no value 'selected'")
    names = to_name.split(",")
    keys = [_key_of(name, data) for name in names]
    if len(keys) != 2 or None in keys or keys[0] == keys[1]:
        raise UserError(
            f"{where}: the objects '{to_name[:80]}' are not two keys of 'data' "
            f"({', '.join(map(str, data))[:80]}), and their numbers do not match either; rename "
            "the keys like the objects"
        )
    photos = [data[key] for key in keys if key is not None]
    for photo in photos:
        if not isinstance(photo, str) or not photo.strip() or not tables.is_text(photo):
            raise UserError(f"{where}: {photo!a:.40} is not the name of a photo")
    left, right = map(_uploaded, photos)
    return left, right, value["selected"]


def _key_of(name: str, data: dict[str, Any]) -> str | None:
    """The key of a task's data that an object shows; None if it is not clear.

    This is the key of the same name, else the only key that ends with the same number, such as
    `image1` for `img-1`.
    """
    if name in data:
        return name
    number = re.search(r"[0-9]+$", name)
    alike = [key for key in data if number and re.search(rf"(?<![0-9]){number[0]}$", key)]
    return alike[0] if len(alike) == 1 else None


def _uploaded(url: str) -> str:
    """A photo's name from its Label Studio URL."""
    parts = urllib.parse.urlsplit(url)
    if parts.path == "/data/local-files/":
        return "".join(urllib.parse.parse_qs(parts.query).get("d", [url])[:1])
    uploaded = re.fullmatch(r"/data/upload/[0-9]+/[0-9a-f]{8}-(.+)", parts.path)
    return urllib.parse.unquote(uploaded[1]) if uploaded else url


_PICK_A_PIC = ("caption", "image_0_uid", "image_1_uid", "label_0", "label_1")


def read_pick_a_pic(path: Path | str) -> Comparisons:
    """Reads a parquet file of Pick-a-Pic; photos are named by their uid, and a prompt is a series.

    Raises:
      UserError: a column is missing, a value is invalid, or no row prefers a photo. Valid labels
        are 1 and 0, 0 and 1, 0.5 and 0.5.
    """
    path = Path(path)
    found = tables.read_arrow(path, (*_PICK_A_PIC, "has_label"))
    for column in _PICK_A_PIC:
        if column not in found.column_names:
            need = f"a file of Pick-a-Pic has {','.join(_PICK_A_PIC)}"
            raise tables.missing_column(path, column, need, found.column_names)
    cells = [found[column].to_pylist() for column in _PICK_A_PIC]
    labelled = found["has_label"].to_pylist() if "has_label" in found.column_names else ()
    rows, lines = [], []
    ties = unlabelled = 0
    for number, (caption, *uids, label_0, label_1) in enumerate(zip(*cells, strict=True), start=1):
        where = f"{path}, row {number}"
        if labelled and not labelled[number - 1]:
            unlabelled += 1
            continue
        if (label_0, label_1) not in ((1, 0), (0, 1), (0.5, 0.5)):
            raise UserError(
                f"{where}: label_0 and label_1 are {label_0!r:.20} and {label_1!r:.20}; known are "
                "1 and 0, 0 and 1, 0.5 and 0.5"
            )
        for text in (caption, *uids):
            if not isinstance(text, str) or not tables.is_text(text) or not text.strip():
                raise UserError(f"{where}: {text!a:.40} is neither a prompt nor a photo's uid")
        if label_0 == label_1:
            ties += 1
            continue
        rows.append([*(uids if label_0 == 1 else uids[::-1]), _prompt_id(caption)])
        lines.append(number)
    if not rows:
        raise UserError(f"{path}: no row prefers one photo")
    notes = _left_out(unlabelled, "row", " without a label") + _left_out(ties, "tie")
    table = tables.Table(path, ["winner", "loser", "series_id"], rows, lines, "row")
    return Comparisons(table, notes)


def read_hpd(path: Path | str) -> Comparisons:
    """Reads train.json or test.json of HPD v2; a prompt is a series.

    An entry of train.json has two images and the preferred one. An entry of test.json has images
    and their ranks; the lowest rank is the best.

    Raises:
      UserError: the file has another form; the message names the entry.
    """
    path, rows, lines = Path(path), [], []
    ties = 0
    for number, entry in _entries(path, "entry"):
        where = f"{path}, entry {number}"
        # The data set's description has file_path for train.json, its files have image_path.
        key = "file_path" if "file_path" in entry else "image_path"
        (prompt, photos) = _fields(where, entry, prompt=str, **{key: list})
        scores = _scores(where, entry)
        if len(scores) > _MOST_RANKED:
            raise UserError(f"{where}: {len(scores):,} ranks; HPD v2 ranks nine photos")
        if len(scores) != len(photos) or not all(
            isinstance(photo, str) and photo.strip() and tables.is_text(photo) for photo in photos
        ):
            raise UserError(f"{where}: '{key}' is not a list of {len(scores)} names of photos")
        for a, b in itertools.combinations(range(len(photos)), 2):
            if scores[a] == scores[b]:
                ties += 1
                continue
            better, worse = (a, b) if scores[a] > scores[b] else (b, a)
            rows.append([photos[better], photos[worse], _prompt_id(prompt)])
            lines.append(number)
    if not rows:
        raise UserError(f"{path}: no entry prefers one photo")
    table = tables.Table(path, ["winner", "loser", "series_id"], rows, lines, "entry")
    return Comparisons(table, _left_out(ties, "tie"))


def _scores(where: str, entry: dict[str, Any]) -> list[float]:
    """The human score of each photo of an entry: higher is better."""
    if "human_preference" in entry:
        (found,) = _fields(where, entry, human_preference=list)
        if sorted(map(repr, found)) != ["0", "1"]:
            raise UserError(f"{where}: human_preference={found!r:.40} is neither [1, 0] nor [0, 1]")
        return list(map(float, found))
    (found,) = _fields(where, entry, rank=list)
    if not all(type(rank) in (int, float) and abs(rank) < 1e9 for rank in found):
        raise UserError(f"{where}: rank={found!r:.40} is not a list of numbers")
    return [-float(rank) for rank in found]


def _prompt_id(prompt: str) -> str:
    return f"prompt {hashlib.sha256(prompt.encode()).hexdigest()[:12]}"


def _entries(path: Path, noun: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of a JSON file's list, numbered from 1."""
    try:
        found = documents.read_json(path)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({tables.reason(error)})") from None
    if not isinstance(found, list) or not found:
        raise UserError(f"{path}: not a list with an object for each {noun}")
    for number, entry in enumerate(found, start=1):
        if not isinstance(entry, dict):
            raise UserError(f"{path}, {noun} {number}: not an object")
        yield number, entry


def _fields(where: str, entry: dict[str, Any], **types: type) -> Iterable[Any]:
    """The values of an object's keys, checked against their types."""
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
    for key, kind in types.items():
        value = entry.get(key)
        if not isinstance(value, kind) or (isinstance(value, str) and not tables.is_text(value)):
            raise UserError(f"{where}: the key '{key}' is missing, or is not {names[kind]}")
    return [entry[key] for key in types]


def _left_out(number: int, noun: str, of: str = "") -> list[str]:
    return [f"{counted(number, noun)}{of} left out"] if number else []
