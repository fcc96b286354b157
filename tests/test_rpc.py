"""Questions between processes: only who has the key asks or answers, and what is lost is seen."""

from __future__ import annotations

import errno
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from semsearch.cluster.rpc import BROKEN, Address, Client, Server

HOST = "127.0.0.1"


def echo(asked: Any) -> Any:
    return "echo", asked


@pytest.fixture
def server() -> Iterator[Server]:
    with closing(Server(HOST, echo)) as server:
        yield server


def asked_once(address: Address, asked: Any) -> Any:
    with closing(Client(address, 5)) as client:
        return client.ask(asked)


def test_what_is_sent_arrives(server: Server) -> None:
    large = np.random.default_rng(0).standard_normal((3000, 384), np.float32)
    with closing(Client(server.address, 5)) as client:
        assert client.ask(("text", None, {"a": [1.5, -1]})) == ("echo", ("text", None, {"a": [1.5, -1]}))
        np.testing.assert_array_equal(client.ask(large)[1], large)
        assert client.ask("again") == ("echo", "again")


def test_clients_are_served_at_once() -> None:
    together = threading.Barrier(8)

    def answer(asked: int) -> int:
        together.wait(10)
        return -asked

    with closing(Server(HOST, answer)) as server, ThreadPoolExecutor(8) as threads:
        assert [*threads.map(lambda number: asked_once(server.address, number), range(8))] == [*range(0, -8, -1)]


def test_who_has_not_the_key_is_not_served(server: Server) -> None:
    with pytest.raises(AuthenticationError):
        Client(replace(server.address, key=secrets.token_bytes(32)), 5)
    with socket.create_connection((HOST, server.address.port), 5) as stranger:
        challenge = stranger.recv(1000)
        stranger.sendall(challenge)  # no answer to it
        assert b"echo" not in stranger.recv(1000)
        assert stranger.recv(1000) == b""
    assert asked_once(server.address, 1) == ("echo", 1)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request", b"#CHALLENGE#" + 20 * b"0"], ids=["other", "challenge"])
def test_a_server_that_has_not_the_key_is_not_heard(said: bytes) -> None:
    def rogue(listening: socket.socket) -> None:
        client, _ = listening.accept()
        with suppress(OSError, EOFError), Connection(client.detach()) as connection:
            connection.send_bytes(said)
            connection.recv_bytes()
            connection.send_bytes(b"#WELCOME#")
            connection.recv_bytes()
            connection.send_bytes(16 * b"0")
            connection.recv_bytes()

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=rogue, args=(listening,))
        thread.start()
        with pytest.raises(AuthenticationError):
            Client(Address(HOST, listening.getsockname()[1], secrets.token_bytes(32)), 5)
        thread.join(5)
        assert not thread.is_alive()


def test_who_is_not_answered_is_hung_up_on() -> None:
    def answer(asked: int) -> Any:
        return 1 // asked if asked < 2 else lambda: None  # which cannot be sent

    with closing(Server(HOST, answer)) as server:
        for asked in (0, 2):
            with closing(Client(server.address, 5)) as client:
                assert client.ask(1) == 1
                with pytest.raises(EOFError):
                    client.ask(asked)


def test_a_silent_server_is_given_up() -> None:
    go_on = threading.Event()
    with closing(Server(HOST, lambda asked: go_on.wait(30))) as server, closing(Client(server.address, 0.3)) as client:
        started = time.monotonic()
        with pytest.raises(BROKEN):
            client.ask(1)
        assert 0.2 < time.monotonic() - started < 10
        go_on.set()


def test_a_server_without_files_for_now_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = server._socket
    failures = iter([OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()])

    def accept() -> tuple[socket.socket, Any]:
        for failure in failures:
            raise failure
        return listening.accept()

    monkeypatch.setattr(
        server, "_socket", SimpleNamespace(accept=accept, shutdown=listening.shutdown, close=listening.close)
    )
    for number in range(3):  # the first is taken by what was under way
        assert asked_once(server.address, number) == ("echo", number)
    assert not [*failures]
    server.close()


def test_a_closed_server_takes_no_clients(server: Server) -> None:
    server.close()
    with pytest.raises(OSError, match="refused"):
        Client(server.address, 5)


def test_an_address_does_not_show_its_key(server: Server) -> None:
    assert repr(server.address.key) not in repr(server.address)
