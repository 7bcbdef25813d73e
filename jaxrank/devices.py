"""Training devices: platform, kind, memory and number."""

import os
from contextlib import suppress
from typing import NamedTuple

import jax


class DeviceSpec(NamedTuple):
    """The properties of the training devices that a plan depends on.

    Attributes:
      kind: device kind that JAX reports, such as `cpu` or `NVIDIA H100`.
      platform: `cpu`, `gpu` or `tpu`.
      memory: bytes of an accelerator (the limit of JAX's allocator), or of the machine, whose
        memory all CPU devices share. The total, never the free memory: a plan must not depend on
        the time of the launch.
    """

    kind: str
    platform: str
    memory: int


def spec() -> DeviceSpec:
    """The properties of this process's training devices."""
    stats = device().memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return DeviceSpec(kind(), platform(), total)


def memory_limit(fraction: float) -> int:
    """Bytes that training may use on one device: a fraction of the device's memory."""
    return int(spec().memory * fraction)


def device() -> jax.Device:
    """The first training device."""
    return jax.local_devices()[0]


def workers(most: int | None = None) -> list[jax.Device]:
    """The training devices: local devices of the same kind as the first one, at most `most`."""
    return [one for one in jax.local_devices() if one.device_kind == kind()][:most]


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split_cpu_into_devices(number: int | None = None) -> None:
    """Splits a CPU into several JAX devices, by default one for each usable core.

    Changes nothing if JAX is already initialised, or if its own option or XLA_FLAGS sets the number
    of devices.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if jax.config.values["jax_num_cpu_devices"] > 0:
        return
    with suppress(RuntimeError):  # JAX is already initialised
        jax.config.update("jax_num_cpu_devices", number or usable_cores())


def is_jax_initialised() -> bool:
    """Whether JAX is initialised; from then on it refuses another number of CPU devices."""
    name = "jax_num_cpu_devices"
    number = jax.config.values[name]
    try:
        jax.config.update(name, number + 2)
    except RuntimeError:
        return True
    jax.config.update(name, number)
    return False


def kind() -> str:
    """The kind of the training devices, such as `cpu` or `NVIDIA H100`."""
    return device().device_kind


def platform() -> str:
    """The platform of the training devices: `cpu`, `gpu` or `tpu`."""
    return device().platform


def shares_memory() -> bool:
    """Whether all devices share the memory of the machine."""
    return platform() == "cpu"
