"""Shards whose replicas are somewhere on a Ray cluster, as one index."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from semsearch.cluster.places import place_of
from semsearch.cluster.replica import Opened, Version
from semsearch.cluster.rpc import BROKEN, Client
from semsearch.errors import DamagedIndexError, IndexNotFoundError, SemsearchError, ShardUnavailableError, StorageError
from semsearch.query.collection import Candidates, Collection, Found, Look, Sample, Search, SupersededError
from semsearch.query.facets import Facets
from semsearch.query.sharded import ShardedSnapshot
from semsearch.query.sharing import Shared
from semsearch.store.catalog import IndexInfo, describe_shards
from semsearch.store.manifest import StoredPassage
from semsearch.store.shards import Shard, Shards
from semsearch.types import Root, root_of

# Seconds that a question may take altogether; and the first try, after which another replica may be asked, and each
# further one twice as long.
_ASK_SECONDS, _TRY_SECONDS = 20.0, 3.0
# Seconds in which a replica answers that does nothing else than that.
_PING_SECONDS = 2.0
# Seconds between two tries where a replica was lost, at first, and at most.
_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.02, 0.5
# Seconds between two looks at whether a shard without replicas has some again, or the manifest is another.
_LOOK_SECONDS = 1.0
# Seconds that a connection is used for, so that replicas that were added later come into use.
_CONNECTION_SECONDS = 30.0
_LOST = (RayActorError, ActorUnavailableError, BackPressureError)


class RemoteShard:
    """The replicas of a shard. Threads may share it."""

    def __init__(self, number: int, replicas: DeploymentHandle) -> None:
        self.number = number
        self.is_down = False
        self._replicas = replicas
        # Connections that nobody uses now; and when one may be made, as one that cannot be is not tried every time.
        self._free: list[Client] = []
        self._connect_from = 0.0

    def answer(self, version: Version, question: str, asked: tuple[Any, ...]) -> Any:
        """As of `ShardReplica.ask`; by a connection of its own to a replica, and by Ray Serve where there is none.

        Raises:
            ShardUnavailableError, SemsearchError: As of `ask`.
        """
        client = None if self.is_down else self._client()
        if client:
            try:
                outcome = client.ask((version, question, asked))
            except BROKEN:
                client.close()
            else:
                self._free.append(client)
                return _returned(outcome)
        return self.ask("ask", version, question, asked)

    def _client(self) -> Client | None:
        with suppress(IndexError):
            while client := self._free.pop():
                if client.age < _CONNECTION_SECONDS:
                    return client
                client.close()
        if time.monotonic() < self._connect_from:
            return None
        try:
            address = self._replicas.address.remote().result(timeout_s=_PING_SECONDS)
            if address:
                return Client(address, _TRY_SECONDS)
        except (TimeoutError, *BROKEN, *_LOST):
            pass
        self._connect_from = time.monotonic() + _LOOK_SECONDS
        return None

    def ask(self, method: str, *given: Any) -> Any:
        """What a replica answers, whichever; one that is lost meanwhile is not missed while there is another.

        Raises:
            ShardUnavailableError: There is none.
            SemsearchError: What the replica could not.
        """
        if self.is_down:
            raise self._unavailable()
        end = time.monotonic() + _ASK_SECONDS
        seconds, pause = _TRY_SECONDS, _PAUSE_SECONDS
        while time.monotonic() < end:
            answer = getattr(self._replicas, method).remote(*given)
            try:
                outcome = answer.result(timeout_s=min(seconds, end - time.monotonic()))
            except _LOST:
                time.sleep(pause)
                pause = min(2 * pause, _MOST_PAUSE_SECONDS)
                continue
            except TimeoutError:
                answer.cancel()
                seconds *= 2
                if not self.is_there():
                    break
                continue
            return _returned(outcome)
        self.is_down = True
        raise self._unavailable()

    def is_there(self) -> bool:
        """Whether a replica answers."""
        try:
            self._replicas.ping.remote().result(timeout_s=_PING_SECONDS)
        except (TimeoutError, *_LOST):
            return False
        return True

    def close(self) -> None:
        """Hang up."""
        while self._free:
            self._free.pop().close()

    def _unavailable(self) -> ShardUnavailableError:
        return ShardUnavailableError(
            f"no machine answers for the shard {self.number} of the index; try again when one does"
        )


def _returned(outcome: Any) -> Any:
    if isinstance(outcome, SemsearchError):
        raise outcome
    return outcome


class RemoteIndex:
    """An index whose shards are on a cluster; as of `Opening`."""

    def __init__(self, index: str, shards: Sequence[RemoteShard], *, allow_partial: bool) -> None:
        """Open it there.

        Args:
            index: Its folder, or its URL.
            shards: Its shards, by their numbers.
            allow_partial: Whether those that nobody answers for are done without.
        """
        self._index = index
        self._place = place_of(index)
        self._shards = shards
        self._allow_partial = allow_partial
        self._threads = ThreadPoolExecutor(len(shards), thread_name_prefix="open")
        # Counts what makes another collection out of the same manifest.
        self._changes = 0
        self._last: tuple[Shards, list[IndexInfo]] | None = None
        self._manifest = self._place.signs()
        self._closed = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="shards", daemon=True)
        self._watching.start()

    @property
    def name(self) -> str:
        """As of `Opening`."""
        return self._place.name

    def signs(self) -> object:
        """As of `Opening`."""
        return self._changes, self._manifest

    def open(self) -> ShardedSnapshot:
        """As of `Opening`.

        Raises:
            ShardUnavailableError: No machine answers for a shard, and it is not to be done without, or for none.
        """
        shards = self._place.read()
        try:
            return self._collection(shards)
        except (DamagedIndexError, IndexNotFoundError):
            # A writer may have removed a shard after the manifest was read; then there is another manifest.
            newer = self._place.read()
            if newer == shards:
                raise
            return self._collection(newer)

    def _collection(self, shards: Shards) -> ShardedSnapshot:
        self._check(shards)
        numbers = [number for number, shard in enumerate(shards.shards) if shard.generation]
        outcomes = list(self._threads.map(lambda number: self._opened(number, shards.shards[number]), numbers))
        failures = [one for one in outcomes if isinstance(one, ShardUnavailableError)]
        if failures and (not self._allow_partial or len(failures) == len(numbers)):
            raise failures[0]
        self._last = shards, [one.info for one in outcomes if isinstance(one, Opened)]
        root = root_of(shards.root)
        parts: dict[int, Collection] = {
            number: RemotePart(self, self._shards[number], root, one)
            for number, one in zip(numbers, outcomes, strict=True)
            if isinstance(one, Opened)
        }
        missing = tuple(sorted({*numbers} - {*parts}))
        return ShardedSnapshot(shards.generation, root, parts, missing, at_once=len(parts))

    def describe(self) -> IndexInfo:
        """What the index says of itself, without shards that are missing; it has been opened."""
        assert self._last
        return replace(describe_shards(Path(self.name), *self._last), path=self._index)

    def newer(self, than: Collection) -> ShardedSnapshot:
        """As of `Opening`."""
        return self.open()

    def ask(self, shard: RemoteShard, version: Version, question: str, asked: tuple[Any, ...]) -> Any:
        """What a shard answers.

        Raises:
            SupersededError: It has not this version open; or nobody answers for it, and it is done without then.
            SemsearchError: As of `RemoteShard.ask`.
        """
        try:
            return shard.answer(version, question, asked)
        except SupersededError:
            self._changes += 1
            raise
        except ShardUnavailableError as error:
            self._changes += 1
            if self._allow_partial:
                raise SupersededError(str(error)) from error
            raise

    def close(self) -> None:
        """End looking after the shards."""
        self._closed.set()
        self._watching.join()
        self._threads.shutdown()
        for shard in self._shards:
            shard.close()

    def _check(self, shards: Shards) -> None:
        if len(shards.shards) != len(self._shards):
            raise ShardUnavailableError(
                f"the index {self.name!r} has {len(shards.shards)} shards now, {len(self._shards)} are served; start "
                "the server anew"
            )

    def _opened(self, number: int, shard: Shard) -> Opened | ShardUnavailableError:
        try:
            opened = self._shards[number].ask("open", shard)
        except ShardUnavailableError as error:
            return error
        assert isinstance(opened, Opened)
        return opened

    def _watch(self) -> None:
        """See whether the manifest is another, and whether shards that nobody answered for are there again."""
        while not self._closed.wait(_LOOK_SECONDS):
            with suppress(StorageError):  # it is looked at again
                self._manifest = self._place.signs()
            for shard in self._shards:
                if shard.is_down and shard.is_there():
                    shard.is_down = False
                    self._changes += 1


class RemotePart(Shared):
    """One version of a shard that is open somewhere; as of `Collection`."""

    missing: tuple[int, ...] = ()

    def __init__(self, index: RemoteIndex, shard: RemoteShard, root: Root, opened: Opened) -> None:
        super().__init__()
        self.generation = opened.version.generation
        self.made_with = opened.made_with
        self.language = opened.language
        self.root = root
        self._index = index
        self._shard = shard
        self._opened = opened

    def __len__(self) -> int:
        return self._opened.passages

    def look(self, texts: Sequence[str | None], filter: str | None) -> list[Look]:
        """As of `Collection`."""
        looks: list[Look] = self._ask("look", list(texts), filter)
        return looks

    def find(self, searches: Sequence[Search]) -> list[Found]:
        """As of `Collection`."""
        found: list[Found] = self._ask("find", list(searches))
        return found

    def candidates(self, ids: NDArray[np.int64], means: bool = False) -> Candidates:
        """As of `Collection`."""
        candidates: Candidates = self._ask("candidates", ids, means)
        return candidates

    def document_vectors(self, documents: Sequence[int]) -> NDArray[np.float32]:
        """As of `Collection`."""
        vectors: NDArray[np.float32] = self._ask("document_vectors", list(documents))
        return vectors

    def passages(self, ids: Sequence[int]) -> dict[int, StoredPassage]:
        """As of `Collection`."""
        passages: dict[int, StoredPassage] = self._ask("passages", list(ids))
        return passages

    def neighbours(self, passage_id: int) -> list[int]:
        """As of `Collection`."""
        ids: list[int] = self._ask("neighbours", passage_id)
        return ids

    def passage_at(self, path: str, line: int) -> int | None:
        """As of `Collection`."""
        found: int | None = self._ask("passage_at", path, line)
        return found

    def facets(self, filter: str | None, folder: str, type: str, date: str) -> Facets:
        """As of `Collection`."""
        facets: Facets = self._ask("facets", filter, folder, type, date)
        return facets

    def there(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """As of `Collection`."""
        there: NDArray[np.int64] = self._ask("there", ids)
        return there

    def sample(self, places: NDArray[np.int64]) -> Sample:
        """As of `Collection`."""
        sample: Sample = self._ask("sample", places)
        return sample

    def _ask(self, question: str, *asked: Any) -> Any:
        return self._index.ask(self._shard, self._opened.version, question, asked)

    def _close(self) -> None:
        """Nothing is open here."""
