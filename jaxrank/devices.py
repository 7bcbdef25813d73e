"""Training devices: platform, kind, memory and number."""

import os
from contextlib import suppress
from typing import NamedTuple

import jax

from jaxrank import machine


class DeviceSpec(NamedTuple):
    """The properties of the training devices that a plan depends on.

    Attributes:
      kind: see `kind`.
      platform: `cpu`, `gpu` or `tpu`.
      memory: bytes of an accelerator (the limit of JAX's allocator), or those that this process
        may use of the machine's memory, which all CPU devices share. Never the free memory: a
        plan must not depend on the time of the launch.
    """

    kind: str
    platform: str
    memory: int


def spec() -> DeviceSpec:
    """The properties of this process's training devices."""
    stats = device().memory_stats() or {}
    total = stats.get("bytes_limit") or int(machine.memory_bytes())
    return DeviceSpec(kind(), platform(), total)


def memory_limit(fraction: float) -> int:
    """Bytes that training may use on one device: a fraction of the device's memory."""
    return int(spec().memory * fraction)


def device() -> jax.Device:
    """The first training device."""
    return jax.local_devices()[0]


def workers(most: int | None = None) -> list[jax.Device]:
    """The training devices: local devices of the same kind as the first one, at most `most`."""
    same = device().device_kind
    return [one for one in jax.local_devices() if one.device_kind == same][:most]


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
        jax.config.update("jax_num_cpu_devices", number or machine.usable_cores())


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
    """The kind of the training devices, which decides the bits of results.

    Such as `NVIDIA H100`, or `cpu: ` and the model: code for one model may give other bits than
    code for another one.
    """
    return f"cpu: {machine.cpu_model()}" if platform() == "cpu" else device().device_kind


def is_kind(here: str, recorded: str) -> bool:
    """Whether a file's kind of device is `here`; older files record any CPU as `cpu`."""
    return recorded == here or (recorded == "cpu" and here.startswith("cpu: "))


def platform() -> str:
    """The platform of the training devices: `cpu`, `gpu` or `tpu`."""
    return device().platform


def shares_memory() -> bool:
    """Whether all devices share the memory of the machine."""
    return platform() == "cpu"
