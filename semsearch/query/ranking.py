"""Which passages answer a query, and in what order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from semsearch.query.fusion import CANDIDATES, DOCUMENTS, PASSAGE_SHARE, SCORED, bm25_weight, moved
from semsearch.query.snapshot import Snapshot
from semsearch.store.lexical import LexicalQuery

Vector = NDArray[np.float32]
# Ids and cosines, the best first.
Nearest = list[tuple[int, float]]
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
    nearest: Sequence[Nearest | None] = [None] * len(texts)
    queries = [vector for vector in vectors if vector is not None]
    if wanted.allowed is None and len(queries) > 1:
        depth = min(_depth(wanted), len(snapshot.vectors))
        nearest = snapshot.vectors.search_batch(np.stack(queries), depth, wanted.effort)
    for text, vector, near in zip(texts, vectors, nearest, strict=True):
        yield rank(snapshot, text, vector, wanted, near)


def _depth(wanted: Wanted) -> int:
    return max(CANDIDATES, wanted.k if wanted.per_document is None else 3 * wanted.k)


def rank(
    snapshot: Snapshot, text: str, vector: Vector | None, wanted: Wanted, nearest: Nearest | None = None
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
    found = snapshot.words.search(words, depth, wanted.allowed) if words and depth else []
    documents, _ = snapshot.database.documents_of([number for number, _ in found])
    kept = _kept([documents[number] for number, _ in found], wanted)
    ranked = [Ranked(found[at][0], documents[found[at][0]], found[at][1], {"bm25": found[at][1]}) for at in kept]
    return ranked, len(found) < depth


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
        nearest: Nearest | None,
    ) -> None:
        self._snapshot = snapshot
        self._vector = vector
        self._wanted = wanted
        self._by_documents = wanted.mode == "hybrid" and wanted.per_document is not None
        by_words = snapshot.words.search(words, max(depth, SCORED), wanted.allowed) if words and depth else []
        self._weight = 0.0
        if words and by_words:
            self._weight = bm25_weight(snapshot.words.frequencies(words), snapshot.words.count)
        if nearest is None:
            nearest = snapshot.vectors.search(vector, depth, wanted.allowed, wanted.effort)
        numbers = sorted({number for number, _ in [*by_words[:depth], *nearest]})
        documents, self._passages = snapshot.database.documents_of(numbers)
        bm25 = dict(by_words)
        # Of each candidate its id, its document, its BM25 score, (n,) each; and its vector, (n, dim).
        self._ids = np.array(numbers, np.int64)
        self._documents = np.array([documents[number] for number in numbers], np.int64)
        self._bm25 = np.array([bm25.get(number, 0.0) for number in numbers], np.float32)
        self._vectors = snapshot.vectors.vectors(self._ids)
        # Of documents the row of their vector among `_means`, (documents, dim).
        self._row_of: dict[int, int] = {}
        self._means = np.empty((0, len(vector)), np.float32)

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
            Ranked(int(self._ids[at]), int(self._documents[at]), float(scores[at]), self._explained(at, plain))
            for at in order[_kept(self._documents[order].tolist(), self._wanted)]
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
        best = list(dict.fromkeys(self._documents[order].tolist()))[: max(DOCUMENTS, 3 * self._wanted.k)]
        if lacking := [number for number in best if number not in self._row_of]:
            self._row_of |= zip(lacking, count(len(self._row_of)), strict=False)
            vectors = self._snapshot.document_vectors({number: self._passages[number] for number in lacking})
            self._means = np.concatenate([self._means, vectors])
        cosines = dict(zip(self._row_of, (self._means @ query).tolist(), strict=True))
        chosen = {number: cosines[number] for number in best}
        return np.array([chosen.get(number, -np.inf) for number in self._documents.tolist()], np.float32)

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
