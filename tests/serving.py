"""A server of our own in a process of its own, and raw requests to it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest


class Server:
    """What serves, and the file that it writes its log to."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.client = httpx.Client(base_url=url, timeout=60)
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def requests(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        return [json.loads(line) for line in self.log.splitlines(keepends=True) if line[0] == "{" and line[-1] == "\n"]

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.client.get(path, params=parameters)

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        return self.client.post(path, json=body, headers=headers)

    def raw(self, request: bytes, *, wait: float = 30) -> tuple[int, bytes]:
        """The status and all of the answer to these bytes; 0 where the connection was closed without one."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            connection.sendall(request)
            return answer_of(connection)

    def children(self) -> list[int]:
        """The ids of the processes that it started."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(one) for thread in threads for one in thread.read_text().split()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.client.close()
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """The status and the answer that comes, up to its end as Content-Length has it, or the connection's."""
    got = b""
    try:
        while True:
            piece = connection.recv(65536)
            got += piece
            head, found, body = got.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            if not piece or (found and length and len(body) >= int(length[1])):
                break
    except (ConnectionResetError, BrokenPipeError):
        pass
    status = re.match(rb"HTTP/1\.1 (\d{3})", got)
    return int(status[1]) if status else 0, got


@contextmanager
def serving(
    indexes: Path, *options: str, key: str | None = None, command: tuple[str, ...] = ("serve",)
) -> Iterator[Server]:
    """`semsearch serve`, or another command that serves, on a free port, until the end of the block."""
    environment = {k: v for k, v in os.environ.items() if k != "SEMSEARCH_API_KEY"}
    log = Path(tempfile.mkstemp(suffix=".log")[1])
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "semsearch", *command, "--indexes", str(indexes), "--port", "0", *options],
            stdout=subprocess.DEVNULL,
            stderr=file,
            env=environment | ({"SEMSEARCH_API_KEY": key} if key else {}),
        )
    deadline = time.monotonic() + 60
    while not (found := re.search(r"serving .* at (http://[^/\s]+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "it does not start"
        time.sleep(0.05)
    server = Server(process, found[1], log)
    try:
        yield server
    finally:
        if process.poll() is None:
            server.stop()
        log.unlink()


def query(path: str, **parameters: object) -> bytes:
    """A plain GET request."""
    return f"GET {path}?{urlencode(parameters)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def as_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def dicts(hits: list[Any]) -> Any:
    return as_json([dataclasses.asdict(hit) for hit in hits])


def assert_same(found: Any, expected: Any) -> None:
    """The same hits; scores to what float32 leaves of queries that are embedded together or not."""
    assert [{**hit, "score": 0, "parts": 0} for hit in found] == [{**hit, "score": 0, "parts": 0} for hit in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["parts"] == pytest.approx(other["parts"], abs=1e-5)
