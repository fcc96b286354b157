"""What ranking asks of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semsearch.store.scored import Scored

Vectors = NDArray[np.float32]


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
    """

    text: str | None
    vector: Vectors | None
    best: int
    nearest: int
    filter: str | None
    phrases: bool
    effort: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: by words, with BM25 scores, and by the vector, with cosines."""

    best: Scored
    nearest: Scored


@dataclass(frozen=True, slots=True)
class Candidates:
    """Of passages, in the order in which they were asked for, the documents (n,) and the vectors (n, dim)."""

    documents: NDArray[np.int64]
    vectors: Vectors


class Collection(Protocol):
    """An index that is open. What is asked is asked for several queries at once."""

    def look(self, texts: Sequence[str | None], filter: str | None) -> list[Look]:
        """What there is for each of these queries, where a filter holds; None is one without words.

        Raises:
            InvalidInputError: The filter cannot be understood.
        """

    def find(self, searches: Sequence[Search]) -> list[Found]:
        """What each search finds."""

    def candidates(self, ids: NDArray[np.int64]) -> Candidates:
        """Of passages that were found what more a ranking needs.

        Raises:
            DamagedIndexError: One of them is not there or not what was written.
        """

    def document_vectors(self, documents: Sequence[int]) -> Vectors:
        """The normalized means (n, dim) of the vectors of the passages of these documents."""
