"""A shard, opened on a node of a Ray cluster; it answers a router's questions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from semsearch.cluster.places import place_of
from semsearch.cluster.rpc import Address, Server
from semsearch.encoder.models import Fingerprint
from semsearch.encoder.processors import processors
from semsearch.errors import DamagedIndexError, IndexNotFoundError, SemsearchError
from semsearch.query.collection import Candidates, SupersededError
from semsearch.query.sharded import open_shard
from semsearch.query.snapshot import Snapshot
from semsearch.store.catalog import IndexInfo, describe
from semsearch.store.database import Database
from semsearch.store.shards import Shard, shard_path

# Generations that stay open: while some routers have seen a commit, others have not.
_GENERATIONS = 2
# What may be asked.
QUESTIONS = frozenset(
    "look find candidates document_vectors passages neighbours passage_at facets there sample".split()
)


@dataclass(frozen=True, slots=True)
class Version:
    """What is open of a shard.

    Attributes:
        shard: As the manifest had it.
        generation: Its own, that of the manifest or a later one.
    """

    shard: Shard
    generation: int

    @property
    def key(self) -> tuple[int, str]:
        """What tells it from others of the same shard."""
        assert self.shard.rest
        return self.generation, self.shard.rest.uuid


@dataclass(frozen=True, slots=True)
class Opened:
    """What a router knows of a shard: what is open, as of `Collection`; `info` is what `semsearch info` says."""

    version: Version
    made_with: Fingerprint
    language: str
    passages: int
    info: IndexInfo


class ShardReplica:
    """One of the replicas of a shard."""

    def __init__(self, index: str, own_host: Callable[[], str]) -> None:
        """Set up; a shard is opened when a router asks for it.

        Args:
            index: The folder of the index, which all nodes share, or its URL.
            own_host: Gives the address that other nodes know this one by.
        """
        self._place = place_of(index)
        self._open: dict[tuple[int, str], Snapshot] = {}
        # The names of the shards that these are of; in an object store one that has changed has another.
        self._names: dict[tuple[int, str], str] = {}
        self._opening = threading.Lock()
        self._threads = ThreadPoolExecutor(2 * processors(), thread_name_prefix="shard")
        self._server: Server | None = None
        with suppress(OSError):  # where it cannot listen it is asked by Ray Serve
            self._server = Server(own_host(), lambda asked: _outcome(self._answer, *asked))

    async def ping(self) -> None:
        """Be there."""

    async def address(self) -> Address | None:
        """Where it answers to the arguments of `ask`, too, as that does; None if nowhere."""
        return self._server.address if self._server else None

    async def open(self, shard: Shard) -> Opened | SemsearchError:
        """Open the last generation of a shard.

        Args:
            shard: As the manifest has it.
        """
        opened: Opened | SemsearchError = await self._run(self._opened, shard)
        return opened

    async def ask(self, version: Version, question: str, asked: tuple[Any, ...]) -> Any:
        """What a shard answers; a SemsearchError if it cannot.

        Args:
            version: The one that is to answer, and no other.
            question: One of QUESTIONS.
            asked: The question's arguments, as of `Collection`.
        """
        return await self._run(self._answer, version, question, asked)

    async def _run(self, work: Any, *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _outcome, work, *given)

    def _opened(self, shard: Shard) -> Opened:
        folder = shard_path(self._place.local(shard), shard.name)
        with Database.open_for_reading(folder) as database:
            version = Version(shard, database.head().generation)
        version, snapshot = self._acquired(version)
        try:
            return Opened(version, snapshot.made_with, snapshot.language, len(snapshot), describe(folder))
        finally:
            snapshot.release()

    def _answer(self, version: Version, question: str, asked: tuple[Any, ...]) -> Any:
        if question not in QUESTIONS:
            raise ValueError(f"a shard cannot be asked for {question!r}")
        try:
            there, snapshot = self._acquired(version)
        except (
            DamagedIndexError,
            IndexNotFoundError,
        ) as error:  # whoever opens what there is now is told what is wrong
            raise SupersededError(str(error)) from error
        try:
            if there.generation != version.generation:
                raise SupersededError(f"of the shard {version.shard.name!r} there is a newer generation")
            answer = getattr(snapshot, question)(*asked)
            return _with_means(answer, snapshot) if question == "candidates" and asked[1] else answer
        finally:
            snapshot.release()

    def _acquired(self, version: Version) -> tuple[Version, Snapshot]:
        """This version, or what there is in its place; to be released."""
        with self._opening:
            if version.key not in self._open:
                snapshot = open_shard(self._place.local(version.shard), version.shard)
                version = replace(version, generation=snapshot.generation)
                if version.key in self._open:
                    snapshot.release()
                else:
                    self._keep(version, snapshot)
            snapshot = self._open[version.key]
            snapshot.acquire()
            return version, snapshot

    def _keep(self, version: Version, snapshot: Snapshot) -> None:
        self._open[version.key] = snapshot
        self._names[version.key] = version.shard.name
        for old in list(self._open)[:-_GENERATIONS]:
            self._open.pop(old).release()
            self._names.pop(old)
        self._place.forget({*self._names.values()})

    def __del__(self) -> None:
        with suppress(Exception):
            self._threads.shutdown(wait=False)
            if self._server:
                self._server.close()


def _with_means(candidates: Candidates, snapshot: Snapshot) -> Candidates:
    return replace(candidates, means=snapshot.document_vectors(np.unique(candidates.documents).tolist()))


def _outcome(work: Callable[..., Any], *given: Any) -> Any:
    try:
        return work(*given)
    except SemsearchError as error:  # raised, it would come wrapped into one of Ray's
        return error
