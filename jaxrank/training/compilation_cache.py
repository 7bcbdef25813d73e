"""Compiled programs kept on disk, so that a search like an earlier one compiles nothing."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import jax


def keep_compiled_programs() -> None:
    """Has JAX keep what it compiles in the user's cache folder.

    Whoever has set JAX's own option (JAX_COMPILATION_CACHE_DIR, or false for
    JAX_ENABLE_COMPILATION_CACHE) has decided otherwise; a folder that can't be written is done
    without. JAX finds an entry by a hash of the program, the compiler, its flags and the machine.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = cache_folder() / "jaxrank" / "compiled"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Also the small ones: a search compiles some dozens besides those of its cohorts.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cache_folder() -> Path:
    """Where this system wants an application's cache."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
