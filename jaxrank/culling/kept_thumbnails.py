"""Thumbnails of the contact sheet, kept as files, so that a second run decodes new photos only."""

import hashlib
import os
from pathlib import Path

from jaxrank.culling.contact_sheet import make_thumbnail
from jaxrank.extraction.decoding import BadPhoto
from jaxrank.extraction.photos import Photo, read_photo
from jaxrank.io import atomic

FOLDER = "thumbnails"


def kept_thumbnail(folder: Path, name: str, workdir: Path) -> bytes | None:
    """The thumbnail of a photo, made or read; None where it can't be read any more.

    A photo of another size or time of change is another photo.

    Raises:
      OSError: it can't be written.
    """
    path = folder / name
    try:
        status = os.stat(path)
    except OSError:
        return None
    identity = f"{name}\n{status.st_size}\n{status.st_mtime_ns}"
    kept = workdir / FOLDER / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.jpg"
    try:
        return kept.read_bytes()
    except OSError:  # it is not there yet
        pass
    try:
        made = make_thumbnail(read_photo(Photo(name, path), folder))
    except BadPhoto:
        return None
    atomic.make_folder(kept.parent)
    with atomic.atomic_file(kept, "wb") as file:
        file.write(made)
    return made
