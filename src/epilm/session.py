"""Join a running Ray cluster or start a local one; end only what was started here."""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from epilm.config import Config
from epilm.errors import EpilmError

_KNOCK_S = 10.0


class RayConfig(Config):
    """Where a stage runs. Nothing else in a recipe changes between a laptop and a cluster."""

    address: str = "local"
    """``local`` starts a Ray here and ends it; ``auto`` joins the cluster of this machine or of ``ray job submit``;
    ``host:port`` or ``ray://host:port`` joins that one."""
    num_cpus: int | None = None
    """Logical CPUs of a local Ray; by default twice the machine's, so that training never starves the data tasks."""
    object_store_gb: float | None = None
    """Object store of a local Ray in GB; Ray's default where absent."""
    dashboard: bool = False
    """Start the dashboard (127.0.0.1) with a local Ray."""


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Run the body with Ray connected; a Ray that was connected before is used and left as it is.

    Raises:
        EpilmError: no cluster answers at ``config.address``.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    if ray.is_initialized():
        yield
        return
    if config.address == "local":
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away
        # a relative temp path or a proxy variable is of no use to a Ray that lives on this machine alone
        try:
            ray.init(
                address="local",
                num_cpus=config.num_cpus or 2 * (os.cpu_count() or 1),
                include_dashboard=config.dashboard,
                dashboard_host="127.0.0.1",
                object_store_memory=int(config.object_store_gb * 1e9) if config.object_store_gb else None,
                logging_level=logging.WARNING,
                log_to_driver=False,
            )
        except Exception as error:  # Ray raises bare Exceptions where its processes do not come up
            raise EpilmError(
                f"Ray did not start on this machine: {error} A busy machine may need another try; else check free memory "
                "and disk in /tmp, or lower ray.num_cpus and ray.object_store_gb."
            ) from error
    else:
        try:
            _knock(config.address)
            ray.init(address=config.address, logging_level=logging.WARNING)
        except (OSError, RuntimeError, ValueError) as error:
            raise EpilmError(
                f"ray.address={config.address!r}: no Ray cluster answers ({error}). "
                "Start one (`ray start --head`), submit with `ray job submit`, or use ray.address=local."
            ) from error
    importlib.import_module("ray.data")  # its import sets up its loggers, so they are turned down after it

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # logs the traceback of what is raised here anyway
    logging.getLogger("ray.data._internal.execution.streaming_executor_state").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at ``host:port``; Ray itself would try for minutes."""
    place = re.fullmatch(r"(?:ray://)?\[?(?P<host>[^/]+?)\]?:(?P<port>\d+)", address)
    if place is not None:
        socket.create_connection((place["host"], int(place["port"])), timeout=_KNOCK_S).close()
