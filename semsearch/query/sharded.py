"""An index in shards, asked as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from semsearch.errors import DamagedIndexError, IndexNotFoundError, ShardUnavailableError
from semsearch.query.collection import Candidates, Collection, Found, Look, Sample, Search
from semsearch.query.facets import Facets, joined
from semsearch.query.sharing import Shared
from semsearch.query.snapshot import Snapshot
from semsearch.store.files import REMEDY
from semsearch.store.lexical import BITS
from semsearch.store.manifest import StoredPassage
from semsearch.store.scored import Scored, best
from semsearch.store.shards import Shard, Shards, read_shards, shard_path
from semsearch.types import Root, root_of

T = TypeVar("T")
# A passage's or document's number in the whole is its shard's, shifted so far, and its own in the shard.
_SHIFT = 40
_OWN = (1 << _SHIFT) - 1
# Shards that are asked at once at most, where this machine answers for them.
_THREADS = 16


class ShardedSnapshot(Shared):
    """Several collections as one, whose passages follow each other; as of `Collection`."""

    def __init__(
        self,
        generation: int,
        root: Root,
        parts: Mapping[int, Collection],
        missing: tuple[int, ...] = (),
        *,
        at_once: int,
    ) -> None:
        """Have these shards, which are closed with it.

        Args:
            generation: Of the whole.
            root: What the files' names are relative to.
            parts: The shards that have passages, at least one, by their numbers, ascending.
            missing: The numbers of those that have passages, too, and are not here.
            at_once: How many are asked at once.
        """
        super().__init__()
        self.root = root
        self.missing = missing
        self._parts = dict(parts)
        first = next(iter(self._parts.values()))
        self.generation = generation + sum(part.generation for part in self._parts.values())
        self.made_with = first.made_with
        self.language = first.language
        self._lengths = [len(part) for part in self._parts.values()]
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="shard")

    @classmethod
    def open(cls, index: Path) -> ShardedSnapshot:
        """The last generation of an index whose shards are on this machine.

        Raises:
            IndexNotFoundError: No index in shards is there.
            DamagedIndexError, IndexFormatError: It cannot be read.
        """
        failed = None
        while True:
            shards = read_shards(index)
            try:
                parts = _opened(index, shards)
                return cls(shards.generation, root_of(shards.root), parts, at_once=min(len(parts), _THREADS))
            except DamagedIndexError:
                # A writer may have removed something after the manifest was read; then there is a newer generation.
                if shards.generation == failed or shards.generation == read_shards(index).generation:
                    raise
                failed = shards.generation

    def __len__(self) -> int:
        return sum(self._lengths)

    def look(self, texts: Sequence[str | None], filter: str | None) -> list[Look]:
        """As of `Collection`."""
        looks = self._each(lambda part: part.look(texts, filter))
        return [_joined_look(of_query) for of_query in zip(*looks, strict=True)]

    def find(self, searches: Sequence[Search]) -> list[Found]:
        """As of `Collection`."""
        found = list(zip(self._parts, self._each(lambda part: part.find(searches)), strict=True))
        return [
            Found(
                _joined([(number, of_part[at].best) for number, of_part in found], search.best, bits=BITS),
                _joined([(number, of_part[at].nearest) for number, of_part in found], search.nearest),
            )
            for at, search in enumerate(searches)
        ]

    def candidates(self, ids: NDArray[np.int64], means: bool = False) -> Candidates:
        """As of `Collection`."""
        documents = np.empty(len(ids), np.int64)
        vectors = np.empty((len(ids), self.made_with.dim), np.float32)
        brought = []  # by shard, ascending, as the documents then are
        for number, places, found in self._of_each(ids, lambda part, own: part.candidates(own, means)):
            documents[places] = found.documents + (number << _SHIFT)
            vectors[places] = found.vectors
            brought.append(found.means)
        each = [of_shard for of_shard in brought if of_shard is not None]
        return Candidates(documents, vectors, np.concatenate(each) if each and len(each) == len(brought) else None)

    def document_vectors(self, documents: Sequence[int]) -> NDArray[np.float32]:
        """As of `Collection`."""
        vectors = np.empty((len(documents), self.made_with.dim), np.float32)
        numbers = np.array(documents, np.int64)
        for _, places, found in self._of_each(numbers, lambda part, own: part.document_vectors(own.tolist())):
            vectors[places] = found
        return vectors

    def passages(self, ids: Sequence[int]) -> dict[int, StoredPassage]:
        """As of `Collection`."""
        each = self._of_each(np.array(ids, np.int64), lambda part, own: part.passages(own.tolist()))
        return {
            _whole(number, passage): replace(stored, document_id=_whole(number, stored.document_id))
            for number, _, found in each
            for passage, stored in found.items()
        }

    def neighbours(self, passage_id: int) -> list[int]:
        """As of `Collection`."""
        number = passage_id >> _SHIFT
        if number in self.missing:
            raise ShardUnavailableError(f"the passage {passage_id} is in a shard that no machine answers for now")
        part = self._parts.get(number)
        return [_whole(number, one) for one in part.neighbours(passage_id & _OWN)] if part else []

    def passage_at(self, path: str, line: int) -> int | None:
        """As of `Collection`."""
        for number, found in zip(self._parts, self._each(lambda part: part.passage_at(path, line)), strict=True):
            if found is not None:
                return _whole(number, found)
        if self.missing:
            raise ShardUnavailableError(f"{path!r} may be in a shard that no machine answers for now")
        return None

    def facets(self, filter: str | None, folder: str, type: str, date: str) -> Facets:
        """As of `Collection`."""
        return joined(self._each(lambda part: part.facets(filter, folder, type, date)))

    def there(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """As of `Collection`."""
        each = self._of_each(np.unique(ids), lambda part, own: part.there(own))
        return np.concatenate([np.empty(0, np.int64), *(found + (number << _SHIFT) for number, _, found in each)])

    def sample(self, places: NDArray[np.int64]) -> Sample:
        """As of `Collection`."""
        firsts = np.cumsum(self._lengths) - self._lengths  # (shards,)
        of_each = np.split(places, np.searchsorted(places, firsts[1:]))
        own = [some - first for some, first in zip(of_each, firsts, strict=True)]
        answers = self._threads.map(lambda part, some: part.sample(some), self._parts.values(), own)
        samples = [
            replace(answer, ids=answer.ids + (number << _SHIFT))
            for number, answer in zip(self._parts, answers, strict=True)
        ]
        return Sample(
            np.concatenate([one.ids for one in samples]),
            np.concatenate([one.vectors for one in samples]),
            [path for one in samples for path in one.paths],
        )

    def _each(self, ask: Callable[[Collection], T]) -> list[T]:
        """What each shard answers, in their order."""
        return list(self._threads.map(ask, self._parts.values()))

    def _of_each(
        self, ids: NDArray[np.int64], ask: Callable[[Collection, NDArray[np.int64]], T]
    ) -> list[tuple[int, NDArray[np.intp], T]]:
        """What the shards that these ids are of answer: a shard's number, where its ids stand among these, its answer.

        Args:
            ids: In the whole.
            ask: Is given a shard and its ids, as they are in it.
        """
        numbers = ids >> _SHIFT
        here = [number for number in np.unique(numbers).tolist() if number in self._parts]
        places = [np.flatnonzero(numbers == number) for number in here]
        answers = self._threads.map(lambda number, own: ask(self._parts[number], ids[own] & _OWN), here, places)
        return list(zip(here, places, answers, strict=True))

    def _close(self) -> None:
        self._threads.shutdown()
        for part in self._parts.values():
            part.release()


def _opened(index: Path, shards: Shards) -> dict[int, Collection]:
    parts: dict[int, Collection] = {}
    try:
        for number, shard in enumerate(shards.shards):
            if shard.generation:
                parts[number] = open_shard(index, shard)
    except BaseException:
        for part in parts.values():
            part.release()
        raise
    return parts


def open_shard(index: Path, shard: Shard) -> Snapshot:
    """The last generation of one shard, which has files.

    Raises:
        DamagedIndexError, IndexFormatError: It is missing, older than what was committed, or cannot be read.
    """
    folder = shard_path(index, shard.name)
    try:
        snapshot = Snapshot(folder, shard.rest)
    except IndexNotFoundError:
        raise DamagedIndexError(f"damaged index: the shard {str(folder)!r} is missing; {REMEDY}") from None
    if snapshot.generation < shard.generation:
        snapshot.release()
        raise DamagedIndexError(
            f"damaged index: the shard {str(folder)!r} is of generation {snapshot.generation}, {shard.generation} was "
            f"committed; {REMEDY}"
        )
    return snapshot


def _whole(number: int, own: int) -> int:
    return (number << _SHIFT) | own


def _joined_look(looks: Sequence[Look]) -> Look:
    having = [one.having for one in looks if one.having is not None]
    return Look(
        sum(one.passages for one in looks),
        sum(having) if having else None,
        tuple(map(sum, zip(*(one.frequencies for one in looks), strict=True))),
        sum(one.counted for one in looks),
    )


def _joined(found: Sequence[tuple[int, Scored]], k: int, *, bits: int | None = None) -> Scored:
    ids = np.concatenate([one.ids + (number << _SHIFT) for number, one in found])
    return best(ids, np.concatenate([one.scores for _, one in found]), k, bits=bits)
