"""Which passages answer a query, and in what order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semsearch.query.fusion import CANDIDATES, DOCUMENTS, PASSAGE_SHARE, SCORED, bm25_weight, moved
from semsearch.query.snapshot import Snapshot
from semsearch.store.lexical import LexicalQuery
from semsearch.store.scored import NONE, Scored

Vector = NDArray[np.float32]
MODES = ("hybrid", "dense", "lexical")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a ranking.

    Attributes:
        k: Passages at most.
        mode: One of MODES.
        per_document: How many of them one document may have; None to rank passages without regard to documents.
        allowed: Ids, ascending, of the passages that are looked through; None for all.
        effort: Of approximate search.
    """

    k: int
    mode: str = "hybrid"
    per_document: int | None = 1
    allowed: NDArray[np.int64] | None = None
    effort: float = 1.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage with its score and what the score is made of."""

    passage: int
    document: int
    score: float
    parts: dict[str, float]


def rank_batch(
    snapshot: Snapshot, texts: Sequence[str], vectors: Sequence[Vector | None], wanted: Wanted
) -> Iterator[list[Ranked]]:
    """As `rank`, for several queries."""
    nearest: Sequence[Scored | None] = [None] * len(texts)
    queries = [vector for vector in vectors if vector is not None]
    if wanted.allowed is None and len(queries) > 1:
        depth = min(_depth(wanted), len(snapshot.vectors))
        nearest = snapshot.vectors.search_batch(np.stack(queries), depth, wanted.effort)
    for text, vector, near in zip(texts, vectors, nearest, strict=True):
        yield rank(snapshot, text, vector, wanted, near)


def _depth(wanted: Wanted) -> int:
    return max(CANDIDATES, wanted.k if wanted.per_document is None else 3 * wanted.k)


def rank(
    snapshot: Snapshot, text: str, vector: Vector | None, wanted: Wanted, nearest: Scored | None = None
) -> list[Ranked]:
    """The best passages for a query, the best first; of equal ones the one that was indexed earlier.

    Args:
        snapshot: What is searched.
        text: The query.
        vector: Its normalized vector (dim,); None if the mode does without.
        wanted: What is asked.
        nearest: What `snapshot.vectors` finds of it among all passages, if that is known already.
    """
    words = None
    if vector is None or wanted.mode != "dense":
        words = snapshot.words.parse(text)
        if words and words.phrases is not None:
            having = snapshot.words.having_phrases(words)
            allowed = having if wanted.allowed is None else np.intersect1d(having, wanted.allowed)
            if len(allowed):  # what nobody has said is looked for word by word
                wanted, nearest = replace(wanted, allowed=allowed), None
    there = len(snapshot.vectors) if wanted.allowed is None else len(wanted.allowed)
    depth = _depth(wanted)
    while True:
        at_most = min(depth, there)
        if vector is None:
            ranked, whole = _by_words(snapshot, words, wanted, at_most)
        else:
            ranked, whole = _Search(snapshot, vector, words, wanted, at_most, nearest).ranked(), False
        if len(ranked) >= wanted.k or whole or depth >= there:
            return ranked
        depth *= 4
        nearest = None


def _by_words(snapshot: Snapshot, words: LexicalQuery | None, wanted: Wanted, depth: int) -> tuple[list[Ranked], bool]:
    """The best by words alone, and whether there are no more."""
    found = snapshot.words.search(words, depth, wanted.allowed) if words and depth else NONE
    documents = snapshot.documents.of(found.ids)
    ranked = [
        Ranked(int(found.ids[at]), int(documents[at]), float(found.scores[at]), {"bm25": float(found.scores[at])})
        for at in _kept(documents.tolist(), wanted)
    ]
    return ranked, len(found.ids) < depth


def _kept(documents: Iterable[int], wanted: Wanted) -> list[int]:
    """Which places of a ranking stay, given the document of each: k, so many of a document at most."""
    seen: dict[int, int] = {}
    kept = []
    for at, document in enumerate(documents):
        seen[document] = seen.get(document, 0) + 1
        if wanted.per_document is None or seen[document] <= wanted.per_document:
            kept.append(at)
            if len(kept) == wanted.k:
                break
    return kept


class _Search:
    """One search by a vector, and by words if there are any."""

    def __init__(
        self,
        snapshot: Snapshot,
        vector: Vector,
        words: LexicalQuery | None,
        wanted: Wanted,
        depth: int,
        nearest: Scored | None,
    ) -> None:
        self._snapshot = snapshot
        self._vector = vector
        self._wanted = wanted
        self._by_documents = wanted.mode == "hybrid" and wanted.per_document is not None
        by_words = snapshot.words.search(words, max(depth, SCORED), wanted.allowed) if words and depth else NONE
        self._weight = 0.0
        if words and len(by_words.ids):
            self._weight = bm25_weight(snapshot.words.frequencies(words), snapshot.words.count)
        if nearest is None:
            nearest = snapshot.vectors.search(vector, depth, wanted.allowed, wanted.effort)
        # Of each candidate its id, its BM25 score, its document as a row of `_documents`, (n,) each, and its vector,
        # (n, dim).
        self._ids = np.union1d(by_words.ids[:depth], nearest.ids)
        self._bm25 = np.zeros(len(self._ids), np.float32)
        _, candidates, found = np.intersect1d(self._ids, by_words.ids, assume_unique=True, return_indices=True)
        self._bm25[candidates] = by_words.scores[found]
        self._documents, self._document = np.unique(snapshot.documents.of(self._ids), return_inverse=True)
        self._vectors = snapshot.vectors.vectors(self._ids)
        # The vectors of documents, (documents, dim), as far as they were needed.
        self._means = np.zeros((len(self._documents), len(vector)), np.float32)
        self._has_mean = np.zeros(len(self._documents), bool)

    def ranked(self) -> list[Ranked]:
        """The best k, or as many as there are among the candidates."""
        if not len(self._ids):
            return []
        plain = self._vectors @ self._vector
        scores = self._scores(self._vector)
        if self._weight:
            first = self._order(scores)[0]
            scores = self._scores(moved(self._vector, self._vectors[first]))
        order = self._order(scores)
        order = order[np.isfinite(scores[order])]
        return [
            Ranked(
                int(self._ids[at]),
                int(self._documents[self._document[at]]),
                float(scores[at]),
                self._explained(at, plain),
            )
            for at in order[_kept(self._document[order].tolist(), self._wanted)]
        ]

    def _scores(self, query: Vector) -> Vector:
        """Of each candidate (n,); not finite where its document is far behind."""
        self._cosines: Vector = self._vectors @ query
        lexical = np.float32(self._weight) * self._bm25
        if not self._by_documents:
            return self._cosines + lexical
        self._whole = self._document_cosines(query, self._order(self._cosines + lexical))
        scores: Vector = PASSAGE_SHARE * self._cosines + (1 - PASSAGE_SHARE) * self._whole + lexical
        return scores

    def _document_cosines(self, query: Vector, order: NDArray[np.int64]) -> Vector:
        """The cosine (n,) of each candidate's document as a whole; of those far behind in the order minus infinity."""
        found, at = np.unique(self._document[order], return_index=True)
        best = found[np.argsort(at)][: max(DOCUMENTS, 3 * self._wanted.k)]
        if len(lacking := best[~self._has_mean[best]]):
            self._means[lacking] = self._snapshot.document_vectors(self._documents[lacking].tolist())
            self._has_mean[lacking] = True
        cosines = np.full(len(self._documents), -np.inf, np.float32)
        cosines[best] = self._means[best] @ query
        return cosines[self._document]

    def _order(self, scores: Vector) -> NDArray[np.int64]:
        return np.lexsort((self._ids, -scores))

    def _explained(self, at: int, plain: Vector) -> dict[str, float]:
        parts = {"cosine": float(plain[at])}
        if self._weight:
            parts["moved_cosine"] = float(self._cosines[at])
        if self._by_documents:
            parts["document_cosine"] = float(self._whole[at])
        if self._weight:
            parts |= {"bm25": float(self._bm25[at]), "lexical": float(self._weight * self._bm25[at])}
        return parts
