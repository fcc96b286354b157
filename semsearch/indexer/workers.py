"""Processes that each build one shard after the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import cast

from semsearch.corpus.walk import Skipped, Walk
from semsearch.encoder.encoder import Encoder
from semsearch.encoder.processors import keep_to
from semsearch.errors import (
    DamagedIndexError,
    IndexNotFoundError,
    NothingToIndexError,
    SemsearchError,
    StorageError,
)
from semsearch.indexer.indexer import Indexer
from semsearch.indexer.pool import Readers
from semsearch.indexer.report import IndexSummary, Progress
from semsearch.indexer.settings import Settings
from semsearch.store.database import Database
from semsearch.store.files import REMEDY
from semsearch.store.lexical import LexicalReader
from semsearch.store.rest import Statistics

# A process may end so often, as when the system has no memory left, before it is given up.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Job:
    """A shard to bring up to date.

    Attributes:
        folder: The shard's.
        found: Its files, and what was left out among them.
        model, precision, device: As of `Encoder`.
        index_type, settings: As of `Indexer`.
    """

    folder: Path
    found: Walk
    model: str
    precision: str
    device: str
    index_type: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Built:
    """A shard that is up to date.

    Attributes:
        generation: Its own; 0 if it has no document, and is to be no index any more.
        fingerprint: Of the model, as of `Head`.
        language: What its words are stemmed by.
        statistics: What BM25 goes by there.
        summary: Of what was done; None if nothing was, or where it has no document.
        removed: How many files it had, where it has no document any more.
        skipped: What was left out.
        name: Of the shard's folder, if it is another than before.
    """

    generation: int
    fingerprint: str
    language: str
    statistics: Statistics
    summary: IndexSummary | None
    removed: int
    skipped: tuple[Skipped, ...]
    name: str | None = None


class Builder:
    """Builds shards in this process; its models stay loaded from one to the next, and the processes that read stay."""

    def __init__(self) -> None:
        self._encoders: dict[tuple[str, str, str], Encoder] = {}
        self._readers = Readers()

    def build(self, job: Job, progress: Callable[[Progress], None]) -> Built:
        """Bring a shard up to date.

        Raises:
            SemsearchError: As of `Indexer.update`.
        """
        of = (job.model, job.precision, job.device)
        if of not in self._encoders:
            self._encoders[of] = Encoder(job.model, precision=job.precision, device=job.device)
        indexer = Indexer(
            job.folder,
            model=self._encoders[of],
            index_type=job.index_type,
            settings=job.settings,
            readers=self._readers,
        )
        job.folder.mkdir(parents=True, exist_ok=True)
        try:
            summary = indexer.update(job.found, progress=progress)
        except NothingToIndexError as error:
            removed = 0
            with suppress(IndexNotFoundError), Database.open_for_reading(job.folder) as database:
                removed = database.head().files
            skipped = cast("tuple[Skipped, ...]", error.skipped)
            return Built(0, "", "", Statistics(0, 0), None, removed, skipped)
        return replace(built_in(job.folder), summary=summary, skipped=summary.skipped)

    def close(self) -> None:
        """End the processes that read."""
        self._readers.close()


def built_in(shard: Path) -> Built:
    """A shard as it is.

    Raises:
        StoreError: It cannot be read.
    """
    with Database.open_for_reading(shard) as database:
        head = database.head()
    if head.lexical is None:
        raise DamagedIndexError(f"damaged index: {shard} has no lexical index; {REMEDY}")
    statistics = LexicalReader(shard, head.lexical, whole=False).statistics()
    return Built(head.generation, head.fingerprint, head.lexical.language, statistics, None, 0, ())


def build_all(
    jobs: Sequence[Job], workers: int, progress: Callable[[int, Progress], None] = lambda *_: None
) -> list[Built]:
    """Bring shards up to date, so many at a time, in processes of their own if it is more than one.

    Args:
        jobs: What is to be done.
        workers: How many processes.
        progress: Is given a job's number and how far it is.

    Raises:
        SemsearchError: As of `Indexer.update`; those under way are stopped then, and go on where they were next time.
        StorageError: A process ended again and again.
    """
    if workers > 1:
        return _Run(jobs, workers, progress).built()
    with closing(Builder()) as builder:
        return [builder.build(job, partial(progress, number)) for number, job in enumerate(jobs)]


def largest_first(jobs: Sequence[Job]) -> list[int]:
    """The numbers of jobs in an order in which none is begun that takes long when all others are done."""
    return sorted(range(len(jobs)), key=lambda number: -sum(file.size for file in jobs[number].found.files))


class _Run:
    """Jobs, and the processes that do them."""

    def __init__(self, jobs: Sequence[Job], workers: int, progress: Callable[[int, Progress], None]) -> None:
        self._jobs = jobs
        self._progress = progress
        self._processes = [_Process(own) for own in _processors(min(workers, len(jobs)))]
        self._waiting = deque(largest_first(jobs))
        self._under_way: dict[Connection, tuple[_Process, int]] = {}
        self._tries = [0] * len(jobs)
        self._built: dict[int, Built] = {}

    def built(self) -> list[Built]:
        """What became of each job, when all are done."""
        try:
            while len(self._built) < len(self._jobs):
                self._give_out()
                for connection in wait(list(self._under_way)):
                    self._hear(cast(Connection, connection))
        finally:
            for process in self._processes:
                process.end()
        return [self._built[number] for number in range(len(self._jobs))]

    def _give_out(self) -> None:
        for process in self._processes:
            if self._waiting and process.is_idle:
                number = self._waiting.popleft()
                self._under_way[process.begin(self._jobs[number])] = process, number

    def _hear(self, connection: Connection) -> None:
        process, number = self._under_way[connection]
        try:
            said = connection.recv()
        except (EOFError, OSError):
            del self._under_way[connection]
            process.end()
            self._try_again(number)
            return
        if isinstance(said, Progress):
            self._progress(number, said)
            return
        del self._under_way[connection]
        process.is_idle = True
        if isinstance(said, SemsearchError):
            raise said
        self._built[number] = said

    def _try_again(self, number: int) -> None:
        self._tries[number] += 1
        if self._tries[number] == _TRIES:
            raise StorageError(
                f"the process that builds {str(self._jobs[number].folder)!r} ends before it is done; is there memory "
                "left for it? give fewer --workers"
            )
        self._waiting.appendleft(number)


class _Process:
    """One process, started with its first job, and anew when it has ended."""

    def __init__(self, processors: set[int] | None) -> None:
        self._processors = processors
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self.is_idle = True

    def begin(self, job: Job) -> Connection:
        """Begin with a job; what is said of it comes by the connection."""
        self.is_idle = False
        if self._connection is None:
            context = multiprocessing.get_context("spawn")
            self._connection, other = context.Pipe()
            with other:
                self._process = context.Process(target=_serve, args=(other, self._processors), daemon=True)
                self._process.start()
        with suppress(OSError):  # where it has ended, reading tells
            self._connection.send(job)
        return self._connection

    def end(self) -> None:
        """End it, whatever it is at."""
        if self._process and self._connection:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = self._connection = None
        self.is_idle = True


def _processors(count: int) -> list[set[int] | None]:
    """The processors that each of so many processes may use; None for all of them."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    there = sorted(os.sched_getaffinity(0))
    if count > len(there):
        return [None] * count
    return [set(there[number * len(there) // count : (number + 1) * len(there) // count]) for number in range(count)]


def _serve(connection: Connection, processors: set[int] | None) -> None:
    """Build what comes, until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which whoever waits for this process gets, too
    if processors:
        keep_to(processors)
    with closing(Builder()) as builder, suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            try:
                connection.send(builder.build(job, connection.send))
            except SemsearchError as error:
                connection.send(error)


def part_of(found: Walk, first: str, end: str | None) -> Walk:
    """What a walk found from one name on, up to another."""

    def own(name: str) -> bool:
        return first <= name and (end is None or name < end)

    return replace(
        found,
        files=[one for one in found.files if own(one.name)],
        skipped=[one for one in found.skipped if own(one.path)],
    )
