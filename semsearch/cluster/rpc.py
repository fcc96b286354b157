"""Questions from process to process, for which Ray Serve takes ten times as long."""

from __future__ import annotations

import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

# Seconds after which a server gives up a client that says nothing, which has another by then.
_SILENT_SECONDS = 60.0
# Seconds until a server that could not take a client tries again.
_PAUSE_SECONDS = 0.1
_WAITING = 128
# What makes of a connection that it is of no use any more.
BROKEN = (OSError, EOFError, AuthenticationError)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and the key that it and its clients have in common."""

    host: str
    port: int
    key: bytes = field(repr=False)


class Server:
    """Answers clients that have its key, each in a thread of its own."""

    def __init__(self, host: str, answer: Callable[[Any], Any]) -> None:
        """Listen at any free port.

        Args:
            host: The address of this machine at which to listen.
            answer: Gives the answer to what is asked; if it raises, the client is hung up on.

        Raises:
            OSError: It cannot listen there.
        """
        self._answer = answer
        self._closed = threading.Event()
        self._socket = socket.create_server((host, 0), backlog=_WAITING)
        self.address = Address(host, self._socket.getsockname()[1], secrets.token_bytes(32))
        threading.Thread(target=self._listen, name="listen", daemon=True).start()

    def close(self) -> None:
        """Take no more clients."""
        self._closed.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # else who waits for one goes on waiting
        self._socket.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), name="client", daemon=True).start()
            except (OSError, RuntimeError):  # closed; or of files or threads there are too many for now
                self._closed.wait(_PAUSE_SECONDS)

    def _serve(self, client: socket.socket) -> None:
        with suppress(Exception), _connection(client, _SILENT_SECONDS) as connection:
            deliver_challenge(connection, self.address.key)
            answer_challenge(connection, self.address.key)
            while True:
                connection.send(self._answer(connection.recv()))


class Client:
    """A connection to a server, for one thread at a time."""

    def __init__(self, address: Address, seconds: float) -> None:
        """Connect.

        Args:
            address: The server's.
            seconds: That connecting may take, and the server be silent.

        Raises:
            OSError, EOFError, AuthenticationError: There is none, or it has another key.
        """
        self._connection = _connection(socket.create_connection((address.host, address.port), seconds), seconds)
        self._since = time.monotonic()
        try:
            answer_challenge(self._connection, address.key)
            deliver_challenge(self._connection, address.key)
        except BROKEN:
            self.close()
            raise
        except Exception as error:  # it speaks of something else
            self.close()
            raise AuthenticationError(f"no server of ours at {address.host}:{address.port}") from error

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._since

    def ask(self, asked: Any) -> Any:
        """The server's answer.

        Raises:
            OSError, EOFError: There is none; the connection is to be closed.
        """
        self._connection.send(asked)
        return self._connection.recv()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _connection(of: socket.socket, seconds: float) -> Connection:
    """What sends and receives whole messages over a socket, and gives up when nothing moves for so many seconds."""
    with closing(of):
        of.settimeout(None)  # a socket with a time-out of Python's own does not block, as a Connection needs
        span = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        of.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
        of.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)
        of.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a long answer waits for its head's receipt
        return Connection(of.detach())
