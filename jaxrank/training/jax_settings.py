"""Settings of JAX: those that keep promises, and those with which nothing can be computed."""

import importlib.util
import os

import jax

from jaxrank.errors import UserError

# What JAX installs beside itself to use a GPU.
_GPU_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")
_DETERMINISTIC = "--xla_gpu_deterministic_ops"


def choose_deterministic_kernels() -> None:
    """Has XLA use the same kernels of a GPU in each run, so that a resumed search ends in the same
    bits: none whose sums depend on the order of threads, none that a timing chose.

    Changes nothing where JAX runs already, where no GPU can be used, or where XLA_FLAGS has the
    option: `false` lets XLA choose kernels by timing, which it remembers beside the compiled
    programs (jax_persistent_cache_enable_xla_caches).
    """
    given = os.environ.get("XLA_FLAGS", "")
    if _DETERMINISTIC not in given and any(map(importlib.util.find_spec, _GPU_PLUGINS)):
        os.environ["XLA_FLAGS"] = f"{given} {_DETERMINISTIC}=true".lstrip()


def require_usable_jax() -> None:
    """Refuses unusable settings before any work is done.

    Raises:
      UserError: JAX finds no device, computes with 64 bits, or runs as several processes that are
        one program.
    """
    try:
        jax.local_devices()
    except Exception as error:  # of many kinds, by platform
        chosen = jax.config.values["jax_platforms"]
        reason = (str(error).splitlines() or [""])[0][:200]
        hint = f"; set JAX_PLATFORMS, now '{chosen}', to what is here" if chosen else ""
        raise UserError(f"JAX can't start ({type(error).__name__}: {reason}){hint}") from None
    if jax.config.values["jax_enable_x64"]:
        raise UserError(
            "JAX_ENABLE_X64 is set: jaxrank computes with 32 bits, with 64 its results would be "
            "others; unset it"
        )
    if jax.process_count() > 1:
        raise UserError(
            f"JAX runs as {jax.process_count()} processes that are one program "
            "(jax.distributed): one search would run in each; start one process with "
            "--engine=ray, or processes without jax.distributed, each with its own devices and "
            "--workdir"
        )
