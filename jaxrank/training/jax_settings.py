"""Settings of JAX, from the environment or a script, with which nothing can be computed."""

import jax

from jaxrank.errors import UserError


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
