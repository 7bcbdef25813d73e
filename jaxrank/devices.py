"""The devices that train: platform, kind, memory."""

import os

import jax


def device() -> jax.Device:
    """The device that trains."""
    return jax.local_devices()[0]


def kind() -> str:
    """What the device that trains calls itself, such as `cpu` or `NVIDIA H100`."""
    return device().device_kind


def platform() -> str:
    """`cpu`, `gpu` or `tpu`."""
    return device().platform


def memory_limit(fraction: float) -> int:
    """Bytes that one cohort may take: a share of the accelerator's memory or of the machine's.

    Of the size that was built in, never of what is free now: a plan must not depend on the hour.
    """
    stats = device().memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(total * fraction)
