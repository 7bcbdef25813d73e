"""Decisions taken to where people work: sidecars, or a folder of picks. Photos are only read."""

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


class Done(NamedTuple):
    """What was written, and what could not be, in sentences."""

    written: int
    notes: list[str]


def write_sidecars(
    table: pd.DataFrame,
    files: Mapping[str, Sequence[str]],
    folder: Path,
    *,
    full: bool = False,
    rejects: bool = False,
) -> Done:
    """Rates picks and alternates, and rejects on demand, in XMP sidecars beside the photos.

    A rating that a person gave in a contact sheet comes before that of the decision, and has no
    label. Photos with a person's stars or flag get nothing but what was changed in a sheet. In a
    burst whose pick a person made, no other photo gets stars either: three of ours beside one of
    theirs would turn their order round.

    Args:
      table: of `Culled`.
      files: all files of each photo.
      folder: of the photos.
      full: see `sidecars.sidecar_paths`.
      rejects: candidates for rejection get -1.
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
    return Done(written, notes)


def write_picks(
    table: pd.DataFrame, files: Mapping[str, Sequence[str]], folder: Path, out: Path, how: str
) -> Done:
    """Puts the picks, with all their files, into a new folder, as copies or links.

    Raises:
      UserError: the folder is there and holds something.
    """
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there and not empty; name a new folder for the picks")
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
    return Done(len(names), [])
