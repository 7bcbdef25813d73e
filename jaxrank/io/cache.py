"""The system's cache folder, for files that can be made again."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The system's usual folder for the caches of applications.

    Raises:
      RuntimeError: the user has no home folder.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
