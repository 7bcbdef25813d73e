"""Writes decisions as XMP sidecars or as a folder of picks. Photos are only read."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from jaxrank.culling import sidecars
from jaxrank.culling.decisions import PICK, REJECT, STARS, label_of
from jaxrank.culling.human_decisions import decided_by_person
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
    """Writes ratings of picks and alternates, optionally of rejects, to XMP sidecars.

    A person's rating from a contact sheet takes precedence over the decision, and gets no label.
    A photo with a person's stars or flag is skipped unless the contact sheet changed it. In a burst
    in which a person has given stars or a pick, no other photo gets stars either: three stars
    beside a person's one would reverse the order. Stars of an earlier run that this run does not
    give are set to rating 0.

    Args:
      table: table of `Culled`.
      files: all files of each photo, by the photo's path.
      folder: folder of the photos.
      full: naming of the sidecars; see `sidecars.sidecar_paths`.
      rejects: whether candidates for rejection get the rating -1.
    """
    rated = {
        folder / name: mark
        for path, mark in _wanted_marks(table, rejects).items()
        for name in files[path]
    }
    found = sidecars.sidecar_paths(
        [folder / name for names in files.values() for name in names], full=full
    )
    written, developed, kept, notes = 0, 0, 0, list(found.notes)
    for photo, path in found.path_of.items():
        rating, label = rated.get(photo, (0, ""))
        result = sidecars.write_marks(path, rating=rating, label=label, rejects=rejects)
        written += result.outcome in ("new", "merged")
        if not rating:
            continue
        if result.outcome == "left":
            notes.append(f"{path}: left as it is, {result.reason}")
        else:
            developed += not sidecars.is_raw(photo)
            if result.outcome == "unchanged":
                kept += sidecars.read_marks(result.path).rating != rating
    if kept:
        notes.append(
            f"{counted(kept, 'sidecar')} not changed: a person's own stars or label are in the file"
        )
    if developed:
        notes.append(
            f"{counted(developed, 'sidecar')} beside JPEG, HEIC or other photos that are not RAW: "
            "Lightroom and Bridge do not read those; darktable, digiKam and Immich do"
        )
    return WriteResult(written, notes)


def _wanted_marks(table: pd.DataFrame, rejects: bool) -> dict[str, tuple[int, str]]:
    """Rating and label of the photos that get any, by path; see `write_sidecars`."""
    stars = {decision: STARS[decision] for decision in STARS if rejects or decision != REJECT}
    is_pick = table["decision"] == PICK
    has_stars = (table["marked"] | table["changed"].ne("")) & (table["rating"].fillna(0) > 0)
    liked = (decided_by_person(table) & is_pick) | has_stars
    touched = liked.groupby(table["series"]).transform("any")
    wanted: dict[str, tuple[int, str]] = {}
    for row in table.assign(touched=touched).to_dict("records"):
        rating = stars.get(row["decision"], 0)
        label = label_of(row["decision"]) if rating else ""
        if not row["changed"] and (row["marked"] or (row["touched"] and rating > 0)):
            continue
        if pd.notna(row["rating"]):
            rating, label = int(row["rating"]), ""
        if rating > 0 or (rating < 0 and rejects):
            wanted[row["path"]] = rating, label
    return wanted


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
