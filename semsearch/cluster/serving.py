"""Indexes on Ray Serve: replicas of their shards, and routers that answer as `semsearch serve` does."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.serve.schema import ApplicationStatus

from semsearch.cluster.connection import Connection, own_host
from semsearch.cluster.places import place_of
from semsearch.cluster.remote import RemoteIndex, RemoteShard
from semsearch.cluster.replica import ShardReplica
from semsearch.errors import ClusterError, InvalidInputError, StoreError
from semsearch.query.searcher import Searcher
from semsearch.server.app import create_app
from semsearch.server.limits import WORK_SECONDS
from semsearch.server.run import is_any
from semsearch.server.searching import Searchers
from semsearch.server.service import Service
from semsearch.store.catalog import IndexInfo
from semsearch.store.database import DATABASE

_APPLICATION, _ROUTER = "semsearch", "router"
# Questions that a replica, and requests that a router, may have at once; what is more waits with whoever asks.
_QUESTIONS, _REQUESTS = 64, 1024
# Seconds between two looks of Ray Serve at a replica, and until one that does not answer is replaced.
_CHECK_SECONDS, _CHECK_TIMEOUT = 2.0, 10.0
# Seconds that what is under way has when a replica is told to end, and between two looks at whether something is.
_END_SECONDS, _UNDER_WAY_SECONDS = 5.0, 0.5
# Seconds for Ray Serve to listen, and between two looks at whether it does.
_START_SECONDS, _LOOK_SECONDS = 15.0, 0.2
# Seconds between two words about what is waited for.
_TELL_SECONDS = 10.0
# Bytes of memory that a replica has to have beside its shard.
_BESIDE = 300 << 20
# Batches of queries that a router has at it at once: with more of them fewer are asked together.
_AT_ONCE = 2
_OPENBLAS = {"env_vars": {"OPENBLAS_NUM_THREADS": "1"}}  # of many questions each has few multiplications


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served.

    Attributes:
        indexes: The folder of the indexes, which all nodes share, or its URL.
        names: Those that are served.
        replicas: How many each shard has, and how many routers there are; no two of a kind on one node.
        allow_partial: Whether shards that no node answers for are done without.
        model, reranker: As of `Searcher`.
        threads, waiting: As of `Service`, for each router.
        hosts, origins, api_key: As of `Guard`.
    """

    indexes: str
    names: tuple[str, ...]
    replicas: int
    allow_partial: bool
    model: str | None
    reranker: str | None
    threads: int
    waiting: int
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    api_key: str | None

    def index(self, name: str) -> str:
        """The folder of an index, or its URL."""
        return f"{self.indexes}/{name}"


@contextmanager
def deployed(
    connection: Connection, serving: Serving, host: str, port: int, tell: Callable[[str], None]
) -> Iterator[None]:
    """Have indexes served by a cluster.

    Args:
        connection: That to the cluster.
        serving: What and how.
        host: The address that each node listens on.
        port: The port.
        tell: Is told what is waited for.

    Raises:
        InvalidInputError: An index is not in shards, or there are more replicas than nodes.
        StoreError: It cannot be read.
        ClusterError: Ray Serve did not start them.
    """
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    if serving.replicas > nodes:
        raise InvalidInputError(
            f"{serving.replicas} replicas need as many nodes, as no two are on one; the cluster has {nodes}"
        )
    shards = [shard for name in serving.names for shard in _shards_of(serving, name)]
    try:
        options = HTTPOptions(host=host, port=port, request_timeout_s=WORK_SECONDS + _END_SECONDS)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(proxy_location="EveryNode", http_options=options)
        target = serve.RunTarget(_router(serving).bind(*shards), name=_APPLICATION, route_prefix="/")
        serve.run_many([target], wait_for_applications_running=False)
    except (RayError, RuntimeError, ValueError) as error:
        raise ClusterError(f"Ray Serve does not start: {error}") from error
    try:
        _wait(serving, tell)
        _see(host, port)
        yield
    finally:
        connection.hush()
        if not connection.is_lost:
            serve.delete(_APPLICATION)
            if not serve.status().applications:
                serve.shutdown()


def _wait(serving: Serving, tell: Callable[[str], None]) -> None:
    """Wait until a router answers, and each shard, if none may be missing."""
    told = time.monotonic()
    while True:
        application = serve.status().applications.get(_APPLICATION)
        if application is None:
            time.sleep(_LOOK_SECONDS)
            continue
        if application.status == ApplicationStatus.DEPLOY_FAILED:
            raise ClusterError(f"Ray Serve does not start: {application.message}")
        waiting = [
            f"{name}: {one.message}" if one.message else name
            for name, one in application.deployments.items()
            if not one.replica_states.get("RUNNING") and (name == _ROUTER or not serving.allow_partial)
        ]
        if application.deployments and not waiting:
            return
        if time.monotonic() > told + _TELL_SECONDS:
            told = time.monotonic()
            tell(f"waiting for {'; '.join(waiting)}")
        time.sleep(_LOOK_SECONDS)


def _see(host: str, port: int) -> None:
    """See that the routers can be reached: Ray Serve, where it ran before, still listens where it did."""
    own = "127.0.0.1" if is_any(host) else host
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            with socket.create_connection((own, port), _CHECK_SECONDS):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise ClusterError(
                    f"Ray Serve does not listen at {own}:{port}, perhaps as it was started with another port; see "
                    f"`serve status`, and give that one, or stop it with `serve shutdown` ({error})"
                ) from None
            time.sleep(_LOOK_SECONDS)


def _shards_of(serving: Serving, name: str) -> list[Any]:
    """The deployments of an index's shards."""
    index = serving.index(name)
    if (Path(index) / DATABASE).exists():
        raise InvalidInputError(
            f"the index {name!r} is not in shards; make it anew, in a cluster or with --shards, under another name"
        )
    place = place_of(index)
    return [
        serve.deployment(
            ShardReplica,
            name=_deployment(name, number),
            **_replicas(serving.replicas, _QUESTIONS),
            ray_actor_options={
                "num_cpus": 0,
                "memory": _BESIDE + place.size(shard),
                "runtime_env": _OPENBLAS,
            },
        ).bind(index, own_host)
        for number, shard in enumerate(place.read().shards)
    ]


def _replicas(count: int, at_once: int) -> dict[str, Any]:
    """The options of a deployment with so many replicas, each of which is asked so much at once."""
    return {
        "num_replicas": count,
        "max_replicas_per_node": 1,
        "max_ongoing_requests": at_once,
        "health_check_period_s": _CHECK_SECONDS,
        "health_check_timeout_s": _CHECK_TIMEOUT,
        "graceful_shutdown_timeout_s": _END_SECONDS,
        "graceful_shutdown_wait_loop_s": _UNDER_WAY_SECONDS,
    }


def _deployment(index: str, number: int) -> str:
    return f"{index}-{number}"


def _router(serving: Serving) -> Any:
    """The deployment of the routers."""

    def app() -> Any:
        service = Service(ClusterSearchers(serving), threads=serving.threads, waiting=serving.waiting)
        return create_app(service, hosts=serving.hosts, origins=serving.origins, api_key=serving.api_key)

    return serve.deployment(
        serve.ingress(app)(),
        name=_ROUTER,
        **_replicas(serving.replicas, _REQUESTS),
        ray_actor_options={"num_cpus": 0, "runtime_env": _OPENBLAS},
    )


class ClusterSearchers(Searchers):
    """The searchers of a router; as of `Searchers`."""

    at_once = _AT_ONCE

    def __init__(self, serving: Serving) -> None:
        """Search what is served."""
        super().__init__(Path(serving.indexes), serving.names, serving.model, serving.reranker)
        self._serving = serving
        self._remote: dict[str, RemoteIndex] = {}

    def names(self) -> list[str]:
        """As of `Searchers`."""
        return sorted(self._serving.names)

    def describe(self) -> list[IndexInfo]:
        """As of `Searchers`."""
        return [self._described(name) for name in self.names()]

    def _described(self, name: str) -> IndexInfo:
        index = self._serving.index(name)
        try:
            self.get(name)
            return self._remote[name].describe()
        except StoreError as error:
            return IndexInfo(name, index, error=str(error))

    def _open(self, name: str) -> Searcher:
        index = self._serving.index(name)
        if name not in self._remote:
            shards = [
                RemoteShard(number, serve.get_deployment_handle(_deployment(name, number), _APPLICATION))
                for number in range(len(place_of(index).read().shards))
            ]
            self._remote[name] = RemoteIndex(index, shards, allow_partial=self._serving.allow_partial)
        return Searcher(self._remote[name], model=self._serving.model, reranker=self._serving.reranker)

    def close(self) -> None:
        """As of `Searchers`."""
        super().close()
        for remote in self._remote.values():
            remote.close()
