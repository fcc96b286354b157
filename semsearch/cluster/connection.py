"""The connection to a Ray cluster."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from typing import Any

# Ray warns that it will no longer hide GPUs from tasks that ask for none, unless this says so already.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# It tells tracebacks of tasks whose results nobody takes; what such a task fails of, the next one says.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")

import ray
from ray._private import ray_constants
from ray.exceptions import RayError

from semsearch.errors import ClusterError

# Seconds that a cluster has to answer, which Ray itself would wait for without an end.
_ANSWER_SECONDS, _JOIN_SECONDS = 5.0, 60.0
# Seconds between two looks at whether the head is there, and that it may be gone, which for Ray are 60: it then ends
# the process itself.
_LOOK_SECONDS, _GONE_SECONDS = 3.0, 45.0
# The cluster that this machine is a node of.
OWN = "auto"


class Connection:
    """That of a driver to a cluster.

    Attributes:
        is_lost: Whether `see` gave it up.
    """

    def __init__(self) -> None:
        """Take over the one that Ray has made."""
        self._leaving: threading.Thread | None = None
        self._hushed = ExitStack()
        self._head = ray.get_runtime_context().gcs_address
        self._seen = self._looked = time.monotonic()
        self.is_lost = False

    def hush(self) -> None:
        """Have Ray say nothing from now on: what is ended on purpose it tells of as of what failed."""
        self._hushed.enter_context(redirect_stdout(None))

    def see(self) -> None:
        """See that the head is there; to be called now and then.

        Raises:
            ClusterError: It has been gone for so long that it is given up.
        """
        if time.monotonic() < self._looked + _LOOK_SECONDS:
            return
        host, _, port = self._head.rpartition(":")
        there = _answers(host.strip("[]"), port)
        self._looked = time.monotonic()
        if there:
            self._seen = self._looked
        elif self._looked > self._seen + _GONE_SECONDS:
            self.is_lost = True
            raise ClusterError(
                f"the head of the Ray cluster at {self._head} has not answered for {_GONE_SECONDS:.0f} s; start it and "
                "the nodes again, and then this command"
            )

    def leave(self) -> None:
        """Begin to leave the cluster, which Ray takes a quarter of a second for, and waits."""
        self._leaving = threading.Thread(target=ray.shutdown, name="ray-shutdown")
        self._leaving.start()

    def close(self) -> None:
        """Have left."""
        if not self._leaving:
            self.leave()
        if self._leaving:
            self._leaving.join()
        self._hushed.close()


@contextmanager
def connected(address: str) -> Iterator[Connection]:
    """Be a driver of a cluster, which this machine is a node of.

    Args:
        address: The head's, as HOST:PORT; or OWN.

    Yields:
        The connection, to leave the cluster before the end.

    Raises:
        ClusterError: No cluster answers there, this machine cannot join it, or it fails of what it is asked for.
    """
    options: dict[str, Any] = {}
    if address != OWN:
        host = _reached(address)
        if _is_loopback(host):
            options["_node_ip_address"] = host
            if not _answers(ray.util.get_node_ip_address(), address.rpartition(":")[2]):
                # Ray would take another address of this machine for it, at which nobody is.
                ray_constants.ENABLE_RAY_CLUSTER = False
    failed: list[BaseException] = []

    def join() -> None:
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except BaseException as error:
            failed.append(error)

    joining = threading.Thread(target=join, name="ray-init", daemon=True)
    joining.start()
    joining.join(_JOIN_SECONDS)
    if joining.is_alive():
        raise ClusterError(f"the Ray cluster at {address!r} does not let this machine in for {_JOIN_SECONDS:.0f} s")
    if failed:
        told = " ".join(str(failed[0]).split())
        raise ClusterError(
            f"cannot join the Ray cluster at {address!r}; is this machine a node of it, as `ray start` makes it? {told}"
        )
    # On stdout Ray says which nodes were lost, among what is asked for.
    try:
        with redirect_stdout(sys.stderr), closing(Connection()) as connection:
            yield connection
    except RayError as error:
        raise ClusterError(f"the Ray cluster at {address!r} failed: {' '.join(str(error).split())}") from error


def own_host() -> str:
    """The address that the other nodes know this one by."""
    own = ray.get_runtime_context().get_node_id()
    return next(str(node["NodeManagerAddress"]) for node in ray.nodes() if node["NodeID"] == own)


def _reached(address: str) -> str:
    """The host of an address that answers."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ClusterError(f"the address of a Ray cluster is HOST:PORT, as of 10.0.0.1:6379, or auto; got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClusterError(
            f"no Ray cluster answers at {address!r}: {reason}; start its head with: ray start --head --port {port}"
        ) from None
    return host


def _answers(host: str, port: str) -> bool:
    try:
        socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
