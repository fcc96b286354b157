"""What is counted and logged of each request."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semsearch.server.service import Service

_logger = logging.getLogger("semsearch.access")
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
# What others are counted as, so that a stranger's methods and paths make no new series.
_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS"})
_OTHER = "other"


class Metrics:
    """The measurements of one server, in Prometheus' terms."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        labels = ("method", "path", "status")
        self._requests = Counter("semsearch_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "semsearch_request_seconds", "Time to answer.", ("path",), registry=self._registry, buckets=_BUCKETS
        )
        in_flight = Gauge("semsearch_in_flight", "Requests worked on or waiting for it.", registry=self._registry)
        in_flight.set_function(lambda: service.in_flight)
        self.queries = Counter("semsearch_queries", "Queries searched by.", ("mode",), registry=self._registry)
        self.embedded = Counter("semsearch_embedded_texts", "Texts embedded on request.", registry=self._registry)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method if method in _METHODS else _OTHER, path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)


class Observed:
    """ASGI middleware that counts and logs each request, a line of JSON each; what was asked is not in it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, size = 500, 0

        async def noted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - started
            path = scope["path"] if scope["path"] in self._paths else _OTHER
            self._metrics.observe(scope["method"], path, status, seconds)
            if _logger.isEnabledFor(logging.INFO):
                line = {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "client": (scope.get("client") or [""])[0],
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "bytes": size,
                    "ms": round(1000 * seconds, 1),
                }
                _logger.info("%s", json.dumps(line))
