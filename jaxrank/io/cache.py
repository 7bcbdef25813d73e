"""The folder in which this system keeps what can be made again."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Where this system wants an application's cache.

    Raises:
      RuntimeError: the user has no home.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
