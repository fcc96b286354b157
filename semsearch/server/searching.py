"""The searchers of a server: in its own process, or in others beside it."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import queue
import signal
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, cast

from semsearch.errors import SemsearchError
from semsearch.query.searcher import Searcher
from semsearch.server.limits import WORK_SECONDS
from semsearch.types import Hit

_HIT_FIELDS = tuple(field.name for field in dataclasses.fields(Hit))
# What `Searchers` takes.
Of = tuple[Path, str | None, str | None]


class BusyError(SemsearchError):
    """What was asked for cannot be done now, but may be in a moment."""


class Answers(NamedTuple):
    """What was found.

    Attributes:
        model: The name of the model that it was found by.
        hits: Of each query its hits, as JSON.
    """

    model: str
    hits: list[bytes]


class Searchers:
    """The searchers of a folder's indexes, each opened when it is first asked for. Threads may share them."""

    def __init__(self, indexes: Path, model: str | None, reranker: str | None) -> None:
        """Search there.

        Args:
            indexes: The folder.
            model: As of `Searcher`, for all of them.
            reranker: As of `Searcher`.
        """
        self._indexes = indexes
        self._model = model
        self._reranker = reranker
        self._opened: dict[str, Searcher] = {}
        self._opening = threading.Lock()

    def get(self, name: str) -> Searcher:
        """The searcher of an index.

        Raises:
            SemsearchError: It cannot be opened.
        """
        with self._opening:
            if name not in self._opened:
                self._opened[name] = Searcher(self._indexes / name, model=self._model, reranker=self._reranker)
            return self._opened[name]

    def search(self, name: str, queries: Sequence[str], options: dict[str, Any]) -> Answers:
        """What an index has for queries, by `Searcher.search_batch` with these options.

        Raises:
            SemsearchError: As of `Searcher`.
        """
        searcher = self.get(name)
        found = searcher.search_batch(queries, **options)
        return Answers(searcher.model, [encoded([as_dict(hit) for hit in hits]) for hits in found])

    def close(self) -> None:
        """Close them all."""
        for searcher in self._opened.values():
            searcher.close()
        self._opened.clear()


class SearchProcesses:
    """`Searchers` in processes of their own, as of the threads of one process only one runs Python at a time."""

    def __init__(self, count: int, searchers: Of, names: Sequence[str]) -> None:
        """Start them.

        Args:
            count: How many.
            searchers: What `Searchers` takes.
            names: Indexes that each process opens at once.
        """
        self._processes = [_Process(searchers, tuple(names)) for _ in range(count)]
        # Who was at it last has most of what is read at hand.
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()
        for process in self._processes:
            self._idle.put(process)

    def search(self, name: str, queries: Sequence[str], options: dict[str, Any]) -> Answers:
        """As of `Searchers`.

        Raises:
            SemsearchError: As of `Searcher`.
            BusyError: The process that searched took too long, or has ended, and the one after it, too.
        """
        process = self._idle.get()
        try:
            return process.search(name, queries, options)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.end()


class _Process:
    """One process, started anew when it has ended."""

    def __init__(self, searchers: Of, names: tuple[str, ...]) -> None:
        self._begin = searchers, names
        self._process, self._connection = self._start()

    def _start(self) -> tuple[SpawnProcess, Connection]:
        # A forked one would have locks that other threads held.
        context = multiprocessing.get_context("spawn")
        connection, other = context.Pipe()
        with other:
            process = context.Process(target=_serve, args=(other, *self._begin), name="semsearch-search", daemon=True)
            process.start()
        return process, connection

    def search(self, *asked: Any) -> Answers:
        for _ in range(2):
            try:
                if self._connection.closed:
                    self._process, self._connection = self._start()
                self._connection.send(asked)
                in_time = self._connection.poll(WORK_SECONDS)
                outcome = self._connection.recv() if in_time else None
            except (EOFError, OSError):  # it has ended, as when the system has no memory left
                self._kill()
                continue
            if outcome is None:
                self._kill()
                raise BusyError(f"it took longer than {WORK_SECONDS:.0f} s; ask for less, or try again later")
            if isinstance(outcome, Exception):
                raise outcome
            return cast(Answers, outcome)
        raise BusyError("the process that searched has ended; try again in a moment")

    def _kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self) -> None:
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, searchers: Of, names: Sequence[str]) -> None:
    """Answer until the server closes the connection, or has ended."""
    # A terminal and systemd send these to all; what is asked is finished.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    own = Searchers(*searchers)
    for name in names:
        with suppress(SemsearchError):  # as whoever asks for it is told
            own.search(name, ["ready"], {"k": 1})
    with suppress(EOFError, OSError):
        while True:
            connection.send(_outcome(own, connection.recv()))


def _outcome(searchers: Searchers, asked: Any) -> Answers | Exception:
    try:
        return searchers.search(*asked)
    except SemsearchError as error:
        return error
    except Exception as error:
        told = RuntimeError(f"the process that searched failed: {error!r}")
        told.add_note(traceback.format_exc())
        return told


def as_dict(hit: Hit) -> dict[str, Any]:
    """A hit as JSON has it."""
    # `dataclasses.asdict` copies all that is in it, which takes longer than to write it.
    return {name: getattr(hit, name) for name in _HIT_FIELDS}


def encoded(value: Any) -> bytes:
    """A value as JSON."""
    # A file's name may have what is no character; JSON has an escape for it.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
