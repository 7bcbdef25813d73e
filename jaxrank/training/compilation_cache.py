"""Compiled programs: kept on disk, so that a search like an earlier one compiles nothing; dropped
from memory where they are too many."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import jax

from jaxrank.io.cache import cache_folder

# Compiled programs are code that is run: nobody else may write or replace them.
_PRIVATE = 0o700
# Memory maps of this process, and how many Linux allows, by default 65,530.
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


def keep_compiled_programs() -> str:
    """Makes JAX cache compiled programs in the user's cache folder, which only the user can enter.

    JAX's own options take precedence (JAX_COMPILATION_CACHE_DIR, or false for
    JAX_ENABLE_COMPILATION_CACHE). A folder that can't be written is not used. JAX finds an entry
    by a hash of the program, the compiler, its flags and the machine.

    Returns:
      A sentence why the folder is not used, if it has links or files of another user; else "".
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return ""
    try:
        folder = cache_folder() / "jaxrank" / "compiled"
    except RuntimeError:  # the user has no home folder
        return ""
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for private in (folder.parent, folder):
            private.mkdir(mode=_PRIVATE, exist_ok=True)
    try:
        stranger = _not_ours(folder)
    except OSError:  # missing, or can't be read
        return ""
    if stranger is not None:
        return (
            f"compiled programs in {folder} are not used: {stranger} is a link or belongs to "
            "another user; remove it"
        )
    if not os.access(folder, os.W_OK):
        return ""
    with suppress(OSError):  # earlier versions left the mode to the umask
        for private in (folder.parent, folder):
            private.chmod(_PRIVATE)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs too: a search compiles dozens of them besides those of its cohorts.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return ""


def drop_programs_if_many() -> None:
    """Drops compiled programs from memory if the process has half of the memory maps it may have.

    XLA maps several pieces of memory for each program, and JAX keeps all programs. Beyond the limit
    no thread starts and XLA crashes: a process came there after 36 searches of new shapes.
    """
    try:
        number, most = _MAPS.read_bytes().count(b"\n"), int(_MOST_MAPS.read_bytes())
    except (OSError, ValueError):  # not on Linux
        return
    if number > most / 2:
        jax.clear_caches()


def _not_ours(folder: Path) -> Path | None:
    """The first of the cache's folders and files that is a link or belongs to another user."""
    for path in (folder.parent, folder, *folder.iterdir()):
        status = path.lstat()
        if status.st_uid != os.getuid() or stat.S_ISLNK(status.st_mode):
            return path
    return None
