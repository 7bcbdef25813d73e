"""JAX settings: deterministic GPU kernels, and a check for unusable settings."""

import importlib.util
import os

import jax

from jaxrank.errors import UserError

# Packages with which JAX can use a GPU.
_GPU_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")
_DETERMINISTIC = "--xla_gpu_deterministic_ops"


def choose_deterministic_kernels() -> None:
    """Makes XLA use deterministic GPU kernels, so that a resumed search ends in the same bits.

    Kernels whose sums depend on the order of threads, or that are chosen by timing, are excluded.

    Has no effect if JAX already runs, without a GPU plugin, or if XLA_FLAGS has the option. With
    `false` XLA chooses kernels by timing, and keeps its choice with the compiled programs
    (jax_persistent_cache_enable_xla_caches).
    """
    given = os.environ.get("XLA_FLAGS", "")
    if _DETERMINISTIC not in given and any(map(importlib.util.find_spec, _GPU_PLUGINS)):
        os.environ["XLA_FLAGS"] = f"{given} {_DETERMINISTIC}=true".lstrip()


def require_usable_jax() -> None:
    """Checks that JAX starts and has usable settings, before any work is done.

    Raises:
      UserError: JAX finds no device, computes with 64 bits, or runs as one program in several
        processes.
    """
    try:
        jax.local_devices()
    except Exception as error:  # its type depends on the platform
        chosen = jax.config.values["jax_platforms"]
        reason = (str(error).splitlines() or [""])[0][:200]
        hint = f"; set JAX_PLATFORMS, now '{chosen}', to an available platform" if chosen else ""
        raise UserError(f"JAX can't start ({type(error).__name__}: {reason}){hint}") from None
    if jax.config.values["jax_enable_x64"]:
        raise UserError(
            "JAX_ENABLE_X64 is set: jaxrank computes with 32 bits, and results with 64 bits would "
            "differ; unset it"
        )
    if jax.process_count() > 1:
        raise UserError(
            f"JAX runs as {jax.process_count()} processes that are one program "
            "(jax.distributed): one search would run in each; start one process with "
            "--engine=ray, or processes without jax.distributed, each with its own devices and "
            "--workdir"
        )
