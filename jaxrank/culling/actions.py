"""Writes decisions as XMP sidecars or as a folder of picks. Photos are only read."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from jaxrank.culling import sidecars
from jaxrank.culling.decisions import PICK, REJECT, STARS, label_of
from jaxrank.data.preference_tables import counted
from jaxrank.errors import UserError
from jaxrank.io import atomic

XMP, COPIES, LINKS = ACTIONS = ("xmp", "copies", "links")


class WriteResult(NamedTuple):
    """Result of writing decisions.

    Attributes:
      written: number of sidecars or files that were written.
      notes: sentences about sidecars that were not written.
    """

    written: int
    notes: list[str]


def write_sidecars(
    table: pd.DataFrame,
    files: Mapping[str, Sequence[str]],
    folder: Path,
    *,
    full: bool = False,
    rejects: bool = False,
) -> WriteResult:
    """Writes ratings of picks and alternates, and on demand of rejects, to XMP sidecars.

    A person's rating from a contact sheet takes precedence over the decision, and gets no label.
    A photo with a person's stars or flag is skipped unless the contact sheet changed it. In a burst
    whose pick a person made, no other photo gets stars either: three stars beside a person's one
    would reverse the order.

    Args:
      table: table of `Culled`.
      files: all files of each photo, by the photo's path.
      folder: folder of the photos.
      full: naming of the sidecars; see `sidecars.sidecar_paths`.
      rejects: whether candidates for rejection get the rating -1.
    """
    stars = {decision: STARS[decision] for decision in STARS if rejects or decision != REJECT}
    picked = table["marked"] & (table["decision"] == PICK)
    decided = picked.groupby(table["series"]).transform("any")
    rated: dict[Path, tuple[int, str]] = {}
    for row in table.assign(decided=decided).to_dict("records"):
        by_a_person = row["marked"] or (row["decided"] and row["decision"] != REJECT)
        if by_a_person and not row["changed"]:
            continue
        if pd.notna(row["rating"]):
            rating, label = int(row["rating"]), ""
        elif row["decision"] in stars:
            rating, label = stars[row["decision"]], label_of(row["decision"])
        else:
            continue
        if rating > 0 or (rating < 0 and rejects):
            rated |= {folder / name: (rating, label) for name in files[row["path"]]}
    found = sidecars.sidecar_paths(
        [folder / name for names in files.values() for name in names], full=full
    )
    written, developed, notes = 0, 0, list(found.notes)
    for photo, path in found.path_of.items():
        if photo in rated:
            rating, label = rated[photo]
            result = sidecars.write_marks(path, rating=rating, label=label, rejects=rejects)
            written += result.outcome in ("new", "merged")
            developed += result.outcome != "left" and not sidecars.is_raw(photo)
            if result.outcome == "left":
                notes.append(f"{path}: left as it is, {result.reason}")
    if developed:
        notes.append(
            f"{counted(developed, 'sidecar')} beside JPEG, HEIC or other photos that are not RAW: "
            "Lightroom and Bridge do not read those; darktable, digiKam and Immich do"
        )
    return WriteResult(written, notes)


def write_picks(
    table: pd.DataFrame, files: Mapping[str, Sequence[str]], folder: Path, out: Path, how: str
) -> WriteResult:
    """Copies or links the picks, with all their files, into a new folder.

    Raises:
      UserError: the folder exists and is not empty, it can't be written, or a file of a pick is a
        link that leads out of the folder of the photos.
    """
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not empty; name a new folder for the picks")
    names = [name for path in table.loc[table["decision"] == PICK, "path"] for name in files[path]]
    root = folder.resolve()
    for name in names:
        if not (folder / name).resolve().is_relative_to(root):
            raise UserError(f"{folder / name}: a link that leads out of the folder")
    with atomic.written_to(out), atomic.atomic_folder(out) as new:
        for name in names:
            target = new / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if how == LINKS:
                os.symlink((folder / name).absolute(), target)
            else:
                shutil.copy2(folder / name, target)
    return WriteResult(len(names), [])
