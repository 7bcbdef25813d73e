"""Starts Ray or connects to it; Ray is imported only when it is used."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jaxrank import devices, machine
from jaxrank.errors import UserError

if TYPE_CHECKING:
    from jaxrank.runner.engines.ray import RayCluster

_INSTALL = "--engine=ray needs Ray: python -m pip install 'jaxrank[ray]'"


@contextmanager
def ray_cluster(
    address: str | None = None, workers: int | None = None, gpus_per_worker: int | None = None
) -> Iterator["RayCluster"]:
    """Provides the machines of a Ray cluster as the `cluster` of `search`.

    Args:
      address: HOST:PORT of a cluster that this machine belongs to, or 'auto' for the cluster that
        runs here. By default Ray is started for this process, on the loopback interface, and ended
        with the context. If the process has already initialised Ray, that cluster is used.
      workers: number of processes that train at the same time, each on a device; by default one for
        each GPU, TPU chip or core of the cluster.
      gpus_per_worker: 1 or 0; by default 1 if the cluster has GPUs or TPU chips.

    Raises:
      UserError: Ray is missing or can't be reached, or the workers are not alike.
    """
    if address is not None and "://" in address:
        raise UserError(
            f"--ray_address={address}: give HOST:PORT or auto, on a machine of the cluster"
        )
    started = _start(address, workers)

    import ray

    from jaxrank.runner.engines.ray import RayCluster

    cluster = None
    try:
        cluster = RayCluster(workers, gpus_per_worker)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()
        if started:
            ray.shutdown()


def _start(address: str | None, num_workers: int | None) -> bool:
    """Starts Ray or connects to it; returns False if it was already initialised."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # Makes a Ray that starts here listen on the loopback interface only, also on Linux, despite
        # the variable's name. Ray reads the variable when it is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        import ray
    except ImportError:
        raise UserError(_INSTALL) from None
    if ray.is_initialized():
        return False
    if address is None and devices.is_jax_initialised():
        raise UserError(
            "JAX runs already in this process, and starting Ray now could hang: enter ray_cluster "
            "before anything asks JAX for its devices, or connect to a cluster by its address"
        )
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _own_signal_handlers():
        try:
            if address is None:
                cores = None if num_workers is None else max(num_workers, machine.usable_cores())
                ray.init("local", num_cpus=cores, include_dashboard=False, **quiet)
            else:
                ray.init(address, **quiet)
        except Exception as error:  # of many kinds, including plain Exception
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            where = "Ray can't start" if address is None else f"--ray_address={address}"
            raise UserError(f"{where}: {reason}") from None
    # Ray prints messages about lost workers to stdout, where tables and JSON are; the search logs
    # each lost worker itself.
    ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
    # Set only now: workers that were started here preallocate their GPU's memory. The driver, which
    # may share a GPU with a worker, must not.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return True


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Restores the SIGTERM handler, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
