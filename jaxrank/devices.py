"""The devices that train: platform, kind, memory, and how many there are."""

import os
from contextlib import suppress
from typing import NamedTuple

import jax


class DeviceSpec(NamedTuple):
    """The devices that train, as far as a plan depends on them.

    Attributes:
      kind: what they call themselves, such as `cpu` or `NVIDIA H100`.
      platform: `cpu`, `gpu` or `tpu`.
      memory: bytes of an accelerator, or of the machine, which all devices of a CPU share. The size
        that was built in, never what is free now: a plan must not depend on the hour.
    """

    kind: str
    platform: str
    memory: int


def spec() -> DeviceSpec:
    """The devices of this process."""
    stats = device().memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return DeviceSpec(kind(), platform(), total)


def memory_limit(fraction: float) -> int:
    """Bytes that training may take on one device of this process."""
    return int(spec().memory * fraction)


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


def jax_runs() -> bool:
    """Whether JAX has begun to run, since when it refuses another number of CPU devices."""
    name = "jax_num_cpu_devices"
    number = jax.config.values[name]
    try:
        jax.config.update(name, number + 2)
    except RuntimeError:
        return True
    jax.config.update(name, number)
    return False


def kind() -> str:
    """What the devices that train call themselves, such as `cpu` or `NVIDIA H100`."""
    return device().device_kind


def platform() -> str:
    """`cpu`, `gpu` or `tpu`."""
    return device().platform


def shares_memory() -> bool:
    """Whether all devices use one memory, that of the machine."""
    return platform() == "cpu"
