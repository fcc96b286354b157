"""Which passages answer a query, and in what order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semsearch.query.collection import Candidates, Collection, Found, Look, Search
from semsearch.query.fusion import CANDIDATES, DOCUMENTS, PASSAGE_SHARE, SCORED, bm25_weight, moved

Vector = NDArray[np.float32]
MODES = ("hybrid", "dense", "lexical")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a ranking.

    Attributes:
        k: Passages at most.
        mode: One of MODES.
        per_document: How many of them one document may have; None to rank passages without regard to documents.
        filter: As of `Search`.
        effort: As of `Search`.
    """

    k: int
    mode: str = "hybrid"
    per_document: int | None = 1
    filter: str | None = None
    effort: float = 1.0

    @property
    def by_documents(self) -> bool:
        """Whether documents are scored as a whole, too."""
        return self.mode == "hybrid" and self.per_document is not None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage with its score and what the score is made of."""

    passage: int
    document: int
    score: float
    parts: dict[str, float]


def rank(
    collection: Collection, texts: Sequence[str], vectors: Sequence[Vector | None], wanted: Wanted
) -> list[list[Ranked]]:
    """Of each query the best passages, the best first; of equal ones the one that was indexed earlier.

    Args:
        collection: What is searched.
        texts: The queries.
        vectors: The normalized vector (dim,) of each; None if the mode does without.
        wanted: What is asked.

    Raises:
        InvalidInputError: The filter cannot be understood.
        DamagedIndexError: What is read is not what was written.
    """
    looks = _looks(collection, texts, wanted)
    rankings = [_Ranking(*of, wanted) for of in zip(texts, vectors, looks, strict=True)]
    under_way = rankings
    while under_way:
        found = collection.find([one.search() for one in under_way])
        ids = np.unique(np.concatenate([one.take(own) for one, own in zip(under_way, found, strict=True)]))
        candidates = collection.candidates(ids, wanted.by_documents)
        for one in under_way:
            one.begin(ids, candidates)
        means = _means(collection, under_way, _brought(candidates))
        for one in under_way:
            one.score(means)
        moving = [one for one in under_way if one.move()]
        means = _means(collection, moving, means)
        for one in moving:
            one.score(means)
        under_way = [one for one in under_way if one.needs_more()]
    return [one.ranked for one in rankings]


def _looks(collection: Collection, texts: Sequence[str], wanted: Wanted) -> list[Look]:
    if wanted.mode == "dense" and wanted.filter is None:  # nothing is to be counted
        return [Look(len(collection), None, (), 0)] * len(texts)
    return collection.look([None if wanted.mode == "dense" else text for text in texts], wanted.filter)


def _brought(candidates: Candidates) -> dict[int, Vector]:
    """The vectors of documents that came along, by document."""
    if candidates.means is None:
        return {}
    return dict(zip(np.unique(candidates.documents).tolist(), candidates.means, strict=True))


def _means(collection: Collection, rankings: Sequence[_Ranking], known: dict[int, Vector]) -> dict[int, Vector]:
    """The vectors of the documents that these need, by document."""
    needed = list(dict.fromkeys(number for one in rankings for number in one.documents() if number not in known))
    if not needed:
        return known
    return known | dict(zip(needed, collection.document_vectors(needed), strict=True))


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


class _Ranking:
    """The ranking of one query's passages, by its vector or by words or by both."""

    def __init__(self, text: str, vector: Vector | None, look: Look, wanted: Wanted) -> None:
        self._text = text if look.frequencies else None
        self._vector = vector
        self._frequencies = look.frequencies
        self._wanted = wanted
        # What nobody has said is looked for word by word.
        self._phrases = bool(look.having)
        self._there = look.having if look.having else look.passages
        self._weight_of_words = bm25_weight(look.frequencies, look.counted)
        self._by_documents = wanted.by_documents
        self._depth = max(CANDIDATES, wanted.k if wanted.per_document is None else 3 * wanted.k)
        self.ranked: list[Ranked] = []

    def search(self) -> Search:
        """What is to be searched for."""
        depth = min(self._depth, self._there)
        best = 0 if self._text is None or not depth else depth if self._vector is None else max(depth, SCORED)
        nearest = 0 if self._vector is None else depth
        wanted = self._wanted
        return Search(
            self._text, self._vector, best, nearest, wanted.filter, self._phrases, wanted.effort, self._frequencies
        )

    def take(self, found: Found) -> NDArray[np.int64]:
        """The candidates, (n,), among what was found."""
        self._best = found.best
        self._ids = np.union1d(found.best.ids[: self._depth], found.nearest.ids)
        return self._ids

    def begin(self, ids: NDArray[np.int64], candidates: Candidates) -> None:
        """Have what is known of these passages, ascending, among them the candidates."""
        at = np.searchsorted(ids, self._ids)
        # Of each candidate its document as a row of `_documents`, (n,), and its vector, (n, dim).
        self._documents, self._document = np.unique(candidates.documents[at], return_inverse=True)
        self._vectors = candidates.vectors[at]
        self._bm25 = np.zeros(len(self._ids), np.float32)
        _, own, found = np.intersect1d(self._ids, self._best.ids, assume_unique=True, return_indices=True)
        self._bm25[own] = self._best.scores[found]
        self._weight = self._weight_of_words if len(self._best.ids) else 0.0
        if self._vector is not None:
            self._look_from(self._vector)
            self._plain = self._cosines

    def _look_from(self, query: Vector) -> None:
        self._query = query
        self._cosines: Vector = self._vectors @ query
        self._passage_scores = self._cosines + np.float32(self._weight) * self._bm25
        # The documents of the best passages are scored as a whole, the others are left out.
        found, at = np.unique(self._document[self._order(self._passage_scores)], return_index=True)
        self._whole_ones = found[np.argsort(at)][: max(DOCUMENTS, 3 * self._wanted.k)]

    def documents(self) -> list[int]:
        """Those whose vectors are needed to score."""
        if self._vector is None or not self._by_documents:
            return []
        found: list[int] = self._documents[self._whole_ones].tolist()
        return found

    def score(self, means: dict[int, Vector]) -> None:
        """Score the candidates (n,), those of a document that is far behind with minus infinity."""
        if self._vector is None:
            self._scores = self._bm25
        elif not self._by_documents or not len(self._ids):
            self._scores = self._passage_scores
        else:
            cosines = np.full(len(self._documents), -np.inf, np.float32)
            cosines[self._whole_ones] = np.stack([means[number] for number in self.documents()]) @ self._query
            self._whole = cosines[self._document]
            lexical = np.float32(self._weight) * self._bm25
            self._scores = PASSAGE_SHARE * self._cosines + (1 - PASSAGE_SHARE) * self._whole + lexical

    def move(self) -> bool:
        """Look from nearer to the passage that is best now, if words were found; then they are to be scored anew."""
        if self._vector is None or not self._weight:
            return False
        self._look_from(moved(self._vector, self._vectors[self._order(self._scores)[0]]))
        return True

    def needs_more(self) -> bool:
        """Rank; whether there may be more than was looked at, and they are needed."""
        order = self._order(self._scores)
        order = order[np.isfinite(self._scores[order])]
        self.ranked = [self._ranked(at) for at in order[_kept(self._document[order].tolist(), self._wanted)]]
        whole = self._vector is None and len(self._best.ids) < self._depth
        if len(self.ranked) >= self._wanted.k or whole or self._depth >= self._there:
            return False
        self._depth *= 4
        return True

    def _order(self, scores: Vector) -> NDArray[np.int64]:
        return np.lexsort((self._ids, -scores))

    def _ranked(self, at: int) -> Ranked:
        document = int(self._documents[self._document[at]])
        return Ranked(int(self._ids[at]), document, float(self._scores[at]), self._explained(at))

    def _explained(self, at: int) -> dict[str, float]:
        if self._vector is None:
            return {"bm25": float(self._bm25[at])}
        parts = {"cosine": float(self._plain[at])}
        if self._weight:
            parts["moved_cosine"] = float(self._cosines[at])
        if self._by_documents:
            parts["document_cosine"] = float(self._whole[at])
        if self._weight:
            parts |= {"bm25": float(self._bm25[at]), "lexical": float(self._weight * self._bm25[at])}
        return parts
