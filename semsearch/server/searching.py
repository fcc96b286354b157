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
from typing import Any, NamedTuple, Protocol, cast

from semsearch.errors import SemsearchError
from semsearch.query.searcher import Searcher
from semsearch.server.limits import BATCHES, WORK_SECONDS
from semsearch.store.catalog import IndexInfo, describe_all, index_names
from semsearch.types import Hit

_HIT_FIELDS = tuple(field.name for field in dataclasses.fields(Hit))
# What `Searchers` takes.
Of = tuple[Path, Sequence[str], str | None, str | None]


class BusyError(SemsearchError):
    """What was asked for cannot be done now, but may be in a moment."""


class Answers(NamedTuple):
    """What was found.

    Attributes:
        model: The name of the model that it was found by.
        hits: Of each query its hits, as JSON.
        missing: As of `query.searcher.Answers`.
    """

    model: str
    hits: list[bytes]
    missing: tuple[int, ...] = ()


class Searching(Protocol):
    """Whoever searches; `at_once` is how many batches of queries are worth being at it at once."""

    at_once: int

    def search(self, name: str, queries: Sequence[str], options: dict[str, Any]) -> Answers:
        """As of `Searchers`."""

    def close(self) -> None:
        """End it."""


class Searchers:
    """The searchers of a folder's indexes, each opened when it is first asked for. Threads may share them."""

    at_once = BATCHES

    def __init__(
        self, indexes: Path, names: Sequence[str] = (), model: str | None = None, reranker: str | None = None
    ) -> None:
        """Search there.

        Args:
            indexes: The folder.
            names: Which indexes; all, also those that come later, if none is named.
            model: As of `Searcher`, for all of them.
            reranker: As of `Searcher`.
        """
        self.of: Of = indexes, tuple(names), model, reranker
        self._opened: dict[str, Searcher] = {}
        self._opening = threading.Lock()

    @property
    def can_rerank(self) -> bool:
        """Whether they have a reranker."""
        return self.of[3] is not None

    def names(self) -> list[str]:
        """The names of the indexes that are there, sorted."""
        indexes, names, *_ = self.of
        there = index_names(indexes)
        return [name for name in there if name in names] if names else there

    def describe(self) -> list[IndexInfo]:
        """What each of them says of itself."""
        names = set(self.names())
        return [one for one in describe_all(self.of[0]) if one.name in names]

    def get(self, name: str) -> Searcher:
        """The searcher of an index.

        Raises:
            SemsearchError: It cannot be opened.
        """
        with self._opening:
            if name not in self._opened:
                self._opened[name] = self._open(name)
            return self._opened[name]

    def _open(self, name: str) -> Searcher:
        indexes, _, model, reranker = self.of
        return Searcher(indexes / name, model=model, reranker=reranker)

    def search(self, name: str, queries: Sequence[str], options: dict[str, Any]) -> Answers:
        """What an index has for queries, by `Searcher.answers` with these options.

        Raises:
            SemsearchError: As of `Searcher`.
        """
        searcher = self.get(name)
        found = searcher.answers(queries, **options)
        return Answers(searcher.model, [encoded([as_dict(hit) for hit in hits]) for hits in found.hits], found.missing)

    def close(self) -> None:
        """Close them all."""
        for searcher in self._opened.values():
            searcher.close()
        self._opened.clear()


class SearchProcesses:
    """`Searchers` in processes of their own, as of the threads of one process only one runs Python at a time."""

    def __init__(self, count: int, searchers: Of) -> None:
        """Start them; each opens at once what is there.

        Args:
            count: How many.
            searchers: What `Searchers` takes.
        """
        self.at_once = count + 1
        self._processes = [_Process(searchers) for _ in range(count)]
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

    def __init__(self, searchers: Of) -> None:
        self._searchers = searchers
        self._process, self._connection = self._start()

    def _start(self) -> tuple[SpawnProcess, Connection]:
        # A forked one would have locks that other threads held.
        context = multiprocessing.get_context("spawn")
        connection, other = context.Pipe()
        with other:
            process = context.Process(
                target=_serve, args=(other, self._searchers), name="semsearch-search", daemon=True
            )
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


def _serve(connection: Connection, searchers: Of) -> None:
    """Answer until the server closes the connection, or has ended."""
    # A terminal and systemd send these to all; what is asked is finished.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    own = Searchers(*searchers)
    for name in own.names():
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
