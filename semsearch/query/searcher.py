"""The searcher: a query to the passages that answer it."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.encoder import Encoder
from semsearch.encoder.models import Fingerprint
from semsearch.encoder.reranker import Reranker
from semsearch.errors import InvalidInputError, ModelMismatchError
from semsearch.query.batching import Batching
from semsearch.query.collection import Collection, SupersededError
from semsearch.query.excerpt import Excerpt, excerpt_of, find_passage
from semsearch.query.facets import Facets
from semsearch.query.opening import FolderOpening, Opening
from semsearch.query.projection import Map, map_of, places_of
from semsearch.query.ranking import MODES, Wanted, rank
from semsearch.query.reranking import RERANKED, reranked
from semsearch.query.results import hits_of
from semsearch.query.similar import similar_in
from semsearch.store.segments import normalize
from semsearch.types import Hit, Root

T = TypeVar("T")
# Collections that are asked for one answer, as each may be superseded meanwhile.
_TRIES = 5


class Answers(NamedTuple):
    """The hits of each query; and the numbers of the shards that were not looked through, as none answered for them."""

    hits: list[list[Hit]]
    missing: tuple[int, ...]


class Searcher:
    """An index, opened for searching; threads may share it, and it follows what is committed meanwhile.

    Example:
        >>> Searcher("indexes/corpus").search("my tap drips", k=3)
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Opening,
        *,
        model: str | Encoder | None = None,
        reranker: str | Reranker | None = None,
    ) -> None:
        """Open an index.

        Args:
            path: The index folder; or how an index that is elsewhere is opened.
            model: Where the index's model is now, if not where it was when the index was made.
            reranker: A cross-encoder, by its folder or Hugging Face name, that orders the first 50 hits anew.

        Raises:
            IndexNotFoundError: No index there.
            DamagedIndexError, IndexFormatError: It cannot be read.
            ModelMismatchError: The model is not the one the index was made with.
            ModelError: The model cannot be had.
        """
        self._index = FolderOpening(Path(path)) if isinstance(path, str | os.PathLike) else path
        self._model = model
        self._reranker = Reranker(reranker) if isinstance(reranker, str) else reranker
        self._lock = threading.Lock()
        self._signs = self._index.signs()
        self._snapshot = self._index.open()
        try:
            self._encoder = self._encoder_for(self._snapshot.made_with)
        except BaseException:
            self.close()
            raise
        self._encode = _encoding(self._encoder)

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._index.name

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._encoder.fingerprint.model

    @property
    def encoder(self) -> Encoder:
        """The model itself."""
        return self._encoder

    @property
    def root(self) -> Root:
        """What the hits' paths are relative to."""
        return self._snapshot.root

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of the shards that are done without now; none unless they are on a cluster."""
        return self._snapshot.missing

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        mode: str = "hybrid",
        per_document: int | None = 1,
        filter: str | None = None,
        min_score: float | None = None,
        rerank: bool = True,
        rerank_weight: float = 1.0,
        effort: float = 1.0,
    ) -> list[Hit]:
        """The passages that answer a query, the best first.

        Args:
            query: What is looked for, in words. Where a passage has what stands in double quotes, just so, others are
                left out (not in dense mode).
            k: How many hits at most, at least 1.
            mode: "hybrid" for meaning and words together, as `query.fusion` says; "dense" for meaning alone, by the
                cosine; "lexical" for words alone, by BM25 with k1 = 1.2 and b = 0.75.
            per_document: How many of them one document may have. None ranks passages without regard to their documents;
                else, in hybrid mode, the cosine of the whole document counts, too.
            filter: A condition on documents, such as "path:docs/ and modified>=2026-01-01", as `store.filter_syntax`
                has it. The hits are the best of the passages for which it holds, however few these are.
            min_score: Hits below this score are left out.
            rerank: Whether the reranker, if there is one, orders the hits.
            rerank_weight: The reranker's share of the score, 0 to 1.
            effort: Of approximate search, which large indexes use: more finds more of the nearest and takes longer.
                1 finds 99 of 100.

        Raises:
            InvalidInputError: An empty query, an unknown mode, k or per_document below 1, an effort that is not above
                0, or a filter that cannot be understood.
            StoreError: The index, or what was committed since, cannot be read.
        """
        return self.search_batch(
            [query],
            k,
            mode=mode,
            per_document=per_document,
            filter=filter,
            min_score=min_score,
            rerank=rerank,
            rerank_weight=rerank_weight,
            effort=effort,
        )[0]

    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        mode: str = "hybrid",
        per_document: int | None = 1,
        filter: str | None = None,
        min_score: float | None = None,
        rerank: bool = True,
        rerank_weight: float = 1.0,
        effort: float = 1.0,
    ) -> list[list[Hit]]:
        """As `search`, for several queries, which are embedded together."""
        return self.answers(
            queries,
            k,
            mode=mode,
            per_document=per_document,
            filter=filter,
            min_score=min_score,
            rerank=rerank,
            rerank_weight=rerank_weight,
            effort=effort,
        ).hits

    def answers(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        mode: str = "hybrid",
        per_document: int | None = 1,
        filter: str | None = None,
        min_score: float | None = None,
        rerank: bool = True,
        rerank_weight: float = 1.0,
        effort: float = 1.0,
    ) -> Answers:
        """As `search_batch`, with what was not looked through, which is nothing unless shards are on a cluster."""
        _check(queries, k, mode, per_document, min_score, rerank_weight, effort)
        if not queries:
            return Answers([], ())

        def work(snapshot: Collection) -> Answers:
            reranker = self._reranker if rerank else None
            wanted = Wanted(max(k, RERANKED) if reranker else k, mode, per_document, filter, effort)
            vectors = [None] * len(queries) if mode == "lexical" else [*normalize(np.stack(self._encode(queries)))]
            answers = []
            for query, ranked in zip(queries, rank(snapshot, queries, vectors, wanted), strict=True):
                if reranker:
                    ranked = reranked(snapshot, query, ranked, reranker, rerank_weight)
                kept = [one for one in ranked if min_score is None or one.score >= min_score]
                answers.append(hits_of(snapshot, query, kept[:k]))
            return Answers(answers, snapshot.missing)

        return self._ask(work)

    def similar(
        self, target: str, k: int = 10, *, filter: str | None = None, effort: float = 1.0, from_here: bool = True
    ) -> list[Hit]:
        """The documents nearest to one that is there, or to one of its passages: as `query.similar.similar`.

        Args:
            target: A hit's id, `PATH` or `PATH:LINE`.
            k: How many hits at most.
            filter: As of `search`.
            effort: As of `search`.
            from_here: Whether the path may be one that opens from the current folder, too, not only one as in a hit.
        """
        return self._ask(
            lambda snapshot: similar_in(
                snapshot, self.name, target, k, filter=filter, effort=effort, from_here=from_here
            )
        )

    def excerpt(self, target: int | str, context: int = 1) -> Excerpt:
        """A passage in its surroundings: as `query.show.excerpt`.

        Args:
            target: A hit's id; or `PATH` or `PATH:LINE`, the path as in a hit.
            context: Passages of the same document that are shown before and after it.

        Raises:
            NoSuchPassageError: There is no such passage, or none any more.
        """

        def work(snapshot: Collection) -> Excerpt:
            number, _ = find_passage(snapshot, self.name, str(target), from_here=False)
            return excerpt_of(snapshot, number, context)

        return self._ask(work)

    def facets(self, filter: str | None = None, *, folder: str = "", type: str = "", date: str = "") -> Facets:
        """How many documents there are by folder, type and date, as a search can be narrowed to them.

        Args:
            filter: As of `search`; other documents are not counted.
            folder: What is chosen, with a slash behind: "docs/". The folders in it are counted.
            type: What is chosen: "md".
            date: What is chosen: "2026" or "2026-03". The months or days in it are counted.

        Raises:
            InvalidInputError: The filter cannot be understood.
        """
        return self._ask(lambda snapshot: snapshot.facets(filter, folder, type, date))

    def map(self) -> Map:
        """Each passage, or of more than 20,000 a sample, as a place in the plane; made once for each generation."""
        return self._ask(lambda snapshot: snapshot.kept(map_of))

    def places(self, ids: Sequence[int]) -> dict[int, tuple[float, float]]:
        """Where on the map passages are, by their ids; of those that have no dot, where the one most like it is."""
        return self._ask(lambda snapshot: places_of(snapshot, snapshot.kept(map_of), ids))

    def close(self) -> None:
        """Close the index."""
        self._snapshot.release()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, work: Callable[[Collection], T]) -> T:
        """What this makes of the last generation; of a newer one if that cannot answer to the end."""
        for _ in range(_TRIES - 1):
            with suppress(SupersededError), self._current() as snapshot:
                return work(snapshot)
        with self._current() as snapshot:
            return work(snapshot)

    @contextmanager
    def _current(self) -> Iterator[Collection]:
        """The last generation that was committed, which stays open until it is done with."""
        with self._lock:
            signs = self._index.signs()
            if signs != self._signs:
                self._follow()
                self._signs = signs
            snapshot = self._snapshot
            if not snapshot.acquire():
                raise InvalidInputError(f"the searcher of {self.name!r} is closed; make another")
        try:
            yield snapshot
        finally:
            snapshot.release()

    def _follow(self) -> None:
        """Open what was committed since, if anything was."""
        snapshot = self._index.newer(self._snapshot)
        if snapshot is None:
            return
        try:
            if self._encoder.fingerprint.differences(snapshot.made_with):
                self._encoder = self._encoder_for(snapshot.made_with)
                self._encode = _encoding(self._encoder)
        except BaseException:
            snapshot.release()
            raise
        self._snapshot, last = snapshot, self._snapshot
        last.release()

    def _encoder_for(self, made_with: Fingerprint) -> Encoder:
        encoder = self._model if isinstance(self._model, Encoder) else Encoder(self._model or made_with.model)
        if differences := made_with.differences(encoder.fingerprint):
            raise ModelMismatchError(
                f"the index {self.name!r} was made with {made_with.model!r}, this is {encoder.fingerprint.model!r} "
                f"with another {', '.join(differences)}; give the same model with --model, or make the index anew"
            )
        return encoder


def _encoding(encoder: Encoder) -> Batching[str, NDArray[np.float32]]:
    return Batching(lambda texts: list(encoder.encode_query(texts)))


def _check(
    queries: Sequence[str],
    k: int,
    mode: str,
    per_document: int | None,
    min_score: float | None,
    rerank_weight: float,
    effort: float,
) -> None:
    if isinstance(queries, str):
        raise InvalidInputError("search_batch takes a list of queries, got one string; put it into a list")
    for query in queries:
        if not isinstance(query, str) or not query.strip():
            raise InvalidInputError(f"the query is empty: {query!r}; say what to look for")
    if mode not in MODES:
        raise InvalidInputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    for name, value in (("k", k), ("per_document", per_document)):
        if name == "per_document" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"{name} must be a whole number of at least 1, got {value!r}")
    if min_score is not None and math.isnan(min_score):
        raise InvalidInputError(f"min_score must be a number, got {min_score!r}")
    if not 0 <= rerank_weight <= 1:
        raise InvalidInputError(f"rerank_weight must be 0 to 1, got {rerank_weight!r}")
    if not effort > 0:
        raise InvalidInputError(f"effort must be above 0, got {effort!r}")
