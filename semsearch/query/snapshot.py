"""One generation of an index, opened for searching."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.models import Fingerprint
from semsearch.errors import DamagedIndexError
from semsearch.query.collection import Candidates, Found, Look, Sample, Search
from semsearch.query.facets import FacetIndex, Facets
from semsearch.query.sharing import Shared
from semsearch.store.database import Database
from semsearch.store.documents import Documents
from semsearch.store.files import REMEDY
from semsearch.store.lexical import LexicalReader
from semsearch.store.manifest import Head, StoredPassage
from semsearch.store.rest import Rest
from semsearch.store.scored import NONE, Scored
from semsearch.store.segments import HASHED_BYTES, VectorReader
from semsearch.types import root_of

# Of a document with more passages so many, evenly spaced, stand for all.
_MEAN_OF = 64
# Filters whose passages are kept: the next page, or the next letter that is typed, has the same.
_SELECTIONS = 4
# Documents whose vectors are kept, as many queries have the same among the best: 15 MB of them.
_MEANS = 10_000


class Snapshot(Shared):
    """A generation, which stays as it was opened while others write. Threads may share it."""

    missing: tuple[int, ...] = ()

    def __init__(self, index: Path, rest: Rest | None = None) -> None:
        """Open the last generation that was committed.

        Args:
            index: The index folder.
            rest: As of `LexicalReader`.

        Raises:
            IndexNotFoundError: No index there.
            DamagedIndexError, IndexFormatError: It cannot be read.
        """
        super().__init__()
        self._rest = rest
        # The ids that `_allowed` gave.
        self._selections: dict[tuple[str | None, str | None], NDArray[np.int64]] = {}
        # Of documents that were asked for, their vectors.
        self._means: dict[int, NDArray[np.float32]] = {}
        self.generation = 0
        while True:
            self.database = Database.open_for_reading(index)
            try:
                head = self.database.head()
                failed, self.generation = self.generation, head.generation
                self._open(index, head)
                return
            except (DamagedIndexError, FileNotFoundError) as error:
                self.database.close()
                # A writer may have removed a file after the manifest was read; then there is a newer generation.
                if self.generation != failed:
                    continue
                if isinstance(error, FileNotFoundError):
                    raise DamagedIndexError(f"damaged index: {error.filename} is missing; {REMEDY}") from None
                raise
            except BaseException:
                self.database.close()
                raise

    def _open(self, index: Path, head: Head) -> None:
        self.root = root_of(head.root)
        self.made_with = Fingerprint.from_json(head.fingerprint)
        segments = self.database.segments()
        self.vectors = VectorReader(index, segments, self.made_with.dim)
        self.documents = Documents(self.database, max((one.last_passage_id for one in segments), default=0))
        if head.lexical is None:
            raise DamagedIndexError(f"damaged index: {index} has no lexical index; {REMEDY}")
        total = sum(record.size for record in head.lexical.files.values())
        self.words = LexicalReader(index, head.lexical, whole=total <= HASHED_BYTES, rest=self._rest)
        self.language = head.lexical.language

    def __len__(self) -> int:
        return len(self.vectors)

    def look(self, texts: Sequence[str | None], filter: str | None) -> list[Look]:
        """As of `Collection`."""
        return [self._look(text, filter) for text in texts]

    def _look(self, text: str | None, filter: str | None) -> Look:
        allowed = self._allowed(filter, None)
        there = len(self.vectors) if allowed is None else len(allowed)
        words = None if text is None else self.words.parse(text)
        if words is None:
            return Look(there, None, (), self.words.count)
        having = None if words.phrases is None else self._allowed(filter, text)
        frequencies = tuple(self.words.frequencies(words))
        return Look(there, None if having is None else len(having), frequencies, self.words.count)

    def find(self, searches: Sequence[Search]) -> list[Found]:
        """As of `Collection`."""
        nearest = [NONE] * len(searches)
        # What looks through everything is searched for together.
        together = defaultdict[tuple[int, float], list[int]](list)
        for number, one in enumerate(searches):
            if one.vector is not None:
                allowed = self._allowed(one.filter, one.text if one.phrases else None)
                if allowed is None:
                    together[one.nearest, one.effort].append(number)
                else:
                    nearest[number] = self.vectors.search(one.vector, one.nearest, allowed, one.effort)
        for (k, effort), numbers in together.items():
            vectors = np.stack([vector for number in numbers if (vector := searches[number].vector) is not None])
            for number, found in zip(numbers, self.vectors.search_batch(vectors, k, effort), strict=True):
                nearest[number] = found
        return [Found(self._best(one), own) for one, own in zip(searches, nearest, strict=True)]

    def _best(self, search: Search) -> Scored:
        words = None if search.text is None or not search.best else self.words.parse(search.text, search.frequencies)
        if words is None:
            return NONE
        allowed = self._allowed(search.filter, search.text if search.phrases else None)
        return self.words.search(words, search.best, allowed)

    def _allowed(self, filter: str | None, having: str | None) -> NDArray[np.int64] | None:
        """The ids, ascending, of the passages for which a filter holds and that have all of a text's phrases."""
        if filter is None and having is None:
            return None
        allowed = self._selections.get((filter, having))
        if allowed is None:
            allowed = self._select(filter, having)
            if len(self._selections) >= _SELECTIONS:
                self._selections = {}
            self._selections[filter, having] = allowed
        return allowed

    def _select(self, filter: str | None, having: str | None) -> NDArray[np.int64]:
        if having is None:
            return np.array(self.database.matching_ids(filter or ""), np.int64)
        words, allowed = self.words.parse(having), self._allowed(filter, None)
        found = self.words.having_phrases(words) if words else np.empty(0, np.int64)
        return found if allowed is None else np.intersect1d(found, allowed)

    def candidates(self, ids: NDArray[np.int64], means: bool = False) -> Candidates:
        """As of `Collection`."""
        return Candidates(self.documents.of(ids), self.vectors.vectors(ids))

    def passages(self, ids: Sequence[int]) -> dict[int, StoredPassage]:
        """As of `Collection`."""
        return self.database.passages(ids)

    def neighbours(self, passage_id: int) -> list[int]:
        """As of `Collection`."""
        return self.database.neighbours(passage_id)

    def passage_at(self, path: str, line: int) -> int | None:
        """As of `Collection`."""
        return self.database.passage_at(path, line)

    def facets(self, filter: str | None, folder: str, type: str, date: str) -> Facets:
        """As of `Collection`."""
        matching = None
        if filter is not None:
            statement, values = self.database.matching_documents(filter)
            matching = np.array([row[0] for row in self.database.rows(statement, values)], np.int64)
        return self.kept(_facet_index).counted(matching, folder, type, date)

    def there(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """As of `Collection`."""
        return np.intersect1d(ids, self.vectors.ids())

    def sample(self, places: NDArray[np.int64]) -> Sample:
        """As of `Collection`."""
        ids = self.vectors.ids()[places]
        paths = self.database.paths_of(ids.tolist())
        return Sample(ids, self.vectors.vectors(ids), [paths[number] for number in ids.tolist()])

    def document_vectors(self, documents: Sequence[int]) -> NDArray[np.float32]:
        """As of `Collection`."""
        kept = self._means
        found = {document: kept[document] for document in documents if document in kept}
        if lacking := [document for document in documents if document not in found]:
            passages = self.documents.passages(lacking)
            chosen = [_spread([number for run in passages[document] for number in run]) for document in lacking]
            counts = np.array([len(some) for some in chosen])
            vectors = self.vectors.vectors(np.array([number for some in chosen for number in some], np.int64))
            sums = np.add.reduceat(vectors, np.cumsum(counts) - counts, axis=0)
            norms = np.linalg.norm(sums, axis=1, keepdims=True)
            means = dict(zip(lacking, sums / np.maximum(norms, np.finfo(np.float32).tiny), strict=True))
            found |= means
            if len(kept) + len(means) > _MEANS:
                self._means = {}
            self._means.update(means)
        return np.stack([found[document] for document in documents])

    def _close(self) -> None:
        self.database.close()


def _facet_index(snapshot: Snapshot) -> FacetIndex:
    return FacetIndex(snapshot.database)


def _spread(passages: Sequence[int]) -> Sequence[int]:
    if len(passages) <= _MEAN_OF:
        return passages
    return [passages[number * len(passages) // _MEAN_OF] for number in range(_MEAN_OF)]
