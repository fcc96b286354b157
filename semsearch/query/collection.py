"""What ranking asks of an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.models import Fingerprint
from semsearch.errors import SemsearchError
from semsearch.query.excerpt import Texts
from semsearch.query.facets import Facets
from semsearch.store.scored import Scored

T = TypeVar("T")
Vectors = NDArray[np.float32]


class SupersededError(SemsearchError):
    """A collection cannot answer any more, but one that is opened now can."""


@dataclass(frozen=True, slots=True)
class Look:
    """What there is for a query, before anything is searched.

    Attributes:
        passages: How many passages are looked through.
        having: How many of them have all of the query's phrases in quotes; None if it has none.
        frequencies: How many passages, of all, have each of the query's words; empty if it has none.
        counted: How many passages there are, as far as words are counted.
    """

    passages: int
    having: int | None
    frequencies: tuple[int, ...]
    counted: int


@dataclass(frozen=True, slots=True)
class Search:
    """One search.

    Attributes:
        text: What is looked for, in words; None to look for nothing by words.
        vector: The same as a normalized vector (dim,); None to look for nothing by it.
        best: How many passages by words at most.
        nearest: How many by the vector.
        filter: A condition on documents, as of `Searcher.search`; other passages are not looked through.
        phrases: Whether passages without the text's phrases in quotes are not looked through, either.
        effort: Of approximate search.
        frequencies: As of the text's `Look`.
    """

    text: str | None
    vector: Vectors | None
    best: int
    nearest: int
    filter: str | None
    phrases: bool
    effort: float
    frequencies: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: by words, with BM25 scores, and by the vector, with cosines."""

    best: Scored
    nearest: Scored


@dataclass(frozen=True, slots=True)
class Candidates:
    """Of passages, in the order in which they were asked for, what more a ranking needs.

    Attributes:
        documents: The document of each, (n,).
        vectors: The vector of each, (n, dim).
        means: Of each of the documents, ascending, once, its vector as of `Collection.document_vectors`, (m, dim);
            None if they are still to be asked for.
    """

    documents: NDArray[np.int64]
    vectors: Vectors
    means: Vectors | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Some passages: their ids (n,), vectors (n, dim), and paths as a filter sees them."""

    ids: NDArray[np.int64]
    vectors: Vectors
    paths: list[str]


class Collection(Texts, Protocol):
    """An index that is open. What ranking asks it asks for several queries at once. Threads may share it.

    Where its shards are elsewhere, each question may raise SupersededError.

    Attributes:
        generation: Higher with each commit.
        made_with: Its model.
        language: What words are stemmed by.
        missing: The numbers of its shards that it is to do without.
    """

    generation: int
    made_with: Fingerprint
    language: str
    missing: tuple[int, ...]

    def __len__(self) -> int:
        """How many passages it has."""

    def look(self, texts: Sequence[str | None], filter: str | None) -> list[Look]:
        """What there is for each of these queries, where a filter holds; None is one without words.

        Raises:
            InvalidInputError: The filter cannot be understood.
        """

    def find(self, searches: Sequence[Search]) -> list[Found]:
        """What each search finds."""

    def candidates(self, ids: NDArray[np.int64], means: bool = False) -> Candidates:
        """Of passages that are there what more a ranking needs.

        Args:
            ids: The passages.
            means: Whether vectors of some of the documents will be needed, so that those of all may come along where
                asking once more takes longer.

        Raises:
            DamagedIndexError: One of them is not there or not what was written.
        """

    def document_vectors(self, documents: Sequence[int]) -> Vectors:
        """The normalized means (n, dim) of the vectors of the passages of these documents."""

    def facets(self, filter: str | None, folder: str, type: str, date: str) -> Facets:
        """As of `FacetIndex.counted`."""

    def there(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of these passages that are there, ascending, each once."""

    def sample(self, places: NDArray[np.int64]) -> Sample:
        """The passages at these places, ascending, in the order of all ids."""

    def kept(self, make: Callable[[Collection], T]) -> T:
        """What this makes of the generation, made once."""

    def acquire(self) -> bool:
        """Have it stay open until it is released once more; False if it is closed already."""

    def release(self) -> None:
        """Give it up; the last one to do so closes it."""
