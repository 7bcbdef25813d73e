"""Decisions taken to where people work: sidecars, or a folder of picks. Photos are only read."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from jaxrank.culling import sidecars
from jaxrank.culling.decisions import ALTERNATE, PICK, REJECT
from jaxrank.errors import UserError
from jaxrank.io import atomic

XMP, COPIES, LINKS = ACTIONS = ("xmp", "copies", "links")
# Stars of a decision; a person's own rating comes before it.
STARS = {PICK: 5, ALTERNATE: 3}
REJECTED = -1


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

    Args:
      table: of `Culled`.
      files: all files of each photo.
      folder: of the photos.
      full: see `sidecars.sidecar_paths`.
      rejects: candidates for rejection get -1.
    """
    stars = STARS | ({REJECT: REJECTED} if rejects else {})
    rated: dict[Path, int] = {}
    for row in table.to_dict("records"):
        own = row["rating"]
        rating = int(own) if pd.notna(own) else stars.get(row["decision"], 0)
        if rating and (rating > 0 or rejects):
            rated |= {folder / name: rating for name in files[row["path"]]}
    found = sidecars.sidecar_paths(
        [folder / name for names in files.values() for name in names], full=full
    )
    written, notes = 0, list(found.notes)
    # Of files that share a sidecar each has the same decision, so each is written once.
    for photo, path in found.path_of.items():
        if photo in rated:
            result = sidecars.write_marks(path, rating=rated[photo], rejects=rejects)
            written += result.outcome in ("new", "merged")
            if result.outcome == "left":
                notes.append(f"{path}: left as it is, {result.reason}")
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
    with atomic.written_to(out):
        for name in names:
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if how == LINKS:
                os.symlink((folder / name).absolute(), target)
            else:
                part = target.with_name(f".{target.name}.part")
                shutil.copy2(folder / name, part)
                os.replace(part, target)
    return Done(len(names), [])
