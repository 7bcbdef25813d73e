"""The devices that train: platform, kind, memory, and how many there are."""

import os
from contextlib import suppress

import jax


def device() -> jax.Device:
    """The first device that trains."""
    return jax.local_devices()[0]


def workers(most: int | None = None) -> list[jax.Device]:
    """The devices that train: those of this process that are of the first one's kind, the first
    `most` of them."""
    return [one for one in jax.local_devices() if one.device_kind == kind()][:most]


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def show_cores_as_devices(number: int | None = None) -> None:
    """Has JAX show a CPU as several devices, one for each usable core unless a number is given.

    Changes nothing where JAX has begun to run, or where its own option or XLA_FLAGS has said how
    many there are.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if jax.config.values["jax_num_cpu_devices"] > 0:
        return
    with suppress(RuntimeError):  # JAX runs already
        jax.config.update("jax_num_cpu_devices", number or usable_cores())


def kind() -> str:
    """What the devices that train call themselves, such as `cpu` or `NVIDIA H100`."""
    return device().device_kind


def platform() -> str:
    """`cpu`, `gpu` or `tpu`."""
    return device().platform


def shares_memory() -> bool:
    """Whether all devices use one memory, that of the machine."""
    return platform() == "cpu"


def memory_limit(fraction: float) -> int:
    """Bytes that training may take on one device: a share of the accelerator's memory, or of the
    machine's, which all devices of a CPU share.

    Of the size that was built in, never of what is free now: a plan must not depend on the hour.
    """
    stats = device().memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(total * fraction)
