"""Thumbnails of the contact sheet, cached as files so that a second run decodes only new photos."""

import hashlib
import os
from pathlib import Path

from jaxrank.culling.contact_sheet import make_thumbnail
from jaxrank.extraction.decoding import UnreadablePhoto
from jaxrank.extraction.photos import Photo, read_photo
from jaxrank.io import atomic

FOLDER = "thumbnails"


def kept_thumbnail(folder: Path, name: str, workdir: Path) -> bytes | None:
    """Returns a photo's thumbnail, cached or newly made; None for an unreadable photo.

    A photo whose size or modification time has changed gets a new thumbnail.

    Raises:
      OSError: the thumbnail can't be written.
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
    except OSError:  # not cached yet
        pass
    try:
        made = make_thumbnail(read_photo(Photo(name, path), folder))
    except UnreadablePhoto:
        return None
    atomic.make_folder(kept.parent)
    with atomic.atomic_file(kept, "wb") as file:
        file.write(made)
    return made
