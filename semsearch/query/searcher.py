"""The searcher: a query to the passages nearest to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from semsearch.encoder.encoder import Encoder
from semsearch.encoder.models import Fingerprint
from semsearch.errors import DamagedIndexError, InvalidInputError, ModelMismatchError
from semsearch.query.excerpt import is_stale
from semsearch.store.database import Database
from semsearch.store.files import REMEDY
from semsearch.store.segments import VectorReader, normalize
from semsearch.types import Hit


class Searcher:
    """A committed index, opened for searching; it stays as it was opened while others write.

    Example:
        >>> Searcher("indexes/corpus").search("my tap drips", k=3)
    """

    def __init__(self, path: str | os.PathLike[str], *, model: str | Encoder | None = None) -> None:
        """Open an index.

        Args:
            path: The index folder.
            model: Where the index's model is now, if not where it was when the index was made.

        Raises:
            IndexNotFoundError: No index there.
            DamagedIndexError, IndexFormatError: It cannot be read.
            ModelMismatchError: The model is not the one the index was made with.
            ModelError: The model cannot be had.
        """
        self._path = Path(path)
        self._database, self._vectors = self._open()
        try:
            head = self._database.head()
            self._root = Path(head.root)
            made_with = Fingerprint.from_json(head.fingerprint)
            self._encoder = model if isinstance(model, Encoder) else Encoder(model or made_with.model)
            _check_model(self._path, made_with, self._encoder.fingerprint)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._path.name

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._encoder.fingerprint.model

    @property
    def root(self) -> Path:
        """The folder that the hits' paths are relative to."""
        return self._root

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        per_document: int | None = 1,
        filter: str | None = None,
        effort: float = 1.0,
    ) -> list[Hit]:
        """The passages nearest to a query, the best first; a hit's score is the cosine.

        Args:
            query: What is looked for, in words.
            k: How many hits at most, at least 1.
            per_document: How many of them one document may have; None for any number.
            filter: A condition on documents, such as "path:docs/ and modified>=2026-01-01", as `store.filter_syntax`
                has it. The hits are the nearest of the passages for which it holds, however few these are.
            effort: Of approximate search, which large indexes use: more finds more of the nearest and takes longer.
                1 finds 99 of 100.

        Raises:
            InvalidInputError: An empty query, k or per_document below 1, an effort that is not above 0, or a filter
                that cannot be understood.
        """
        return self.search_batch([query], k, per_document=per_document, filter=filter, effort=effort)[0]

    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        per_document: int | None = 1,
        filter: str | None = None,
        effort: float = 1.0,
    ) -> list[list[Hit]]:
        """As `search`, for several queries, which are embedded together."""
        if isinstance(queries, str):
            raise InvalidInputError("search_batch takes a list of queries, got one string; put it into a list")
        for query in queries:
            if not isinstance(query, str) or not query.strip():
                raise InvalidInputError(f"the query is empty: {query!r}; say what to look for")
        for name, value in (("k", k), ("per_document", per_document)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInputError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not effort > 0:
            raise InvalidInputError(f"effort must be above 0, got {effort!r}")
        if not queries:
            return []
        allowed = None if filter is None else np.array(self._database.matching_ids(filter), np.int64)
        vectors = normalize(self._encoder.encode_query(queries))  # (n, dim)
        return [self._hits(self._nearest(vector, k, per_document, allowed, effort)) for vector in vectors]

    def close(self) -> None:
        """Close the index."""
        self._database.close()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> tuple[Database, VectorReader]:
        """Open the manifest and the segments that it names, once more if a writer removed them in between."""
        for attempt in (1, 2, 3):
            database = Database.open_for_reading(self._path)
            try:
                dim = Fingerprint.from_json(database.head().fingerprint).dim
                return database, VectorReader(self._path, database.segments(), dim)
            except FileNotFoundError as error:
                database.close()
                if attempt == 3:
                    raise DamagedIndexError(f"damaged index: {error.filename} is missing; {REMEDY}") from None
            except BaseException:
                database.close()
                raise
        raise AssertionError("unreachable")

    def _nearest(
        self,
        vector: NDArray[np.float32],
        k: int,
        per_document: int | None,
        allowed: NDArray[np.int64] | None,
        effort: float,
    ) -> list[tuple[int, float]]:
        """The k best passages, no more than `per_document` of one document, by widening the search."""
        there = len(self._vectors) if allowed is None else len(allowed)
        wanted = k if per_document is None else 4 * k
        while True:
            found = self._vectors.search(vector, min(wanted, there), allowed, effort)
            kept = found if per_document is None else self._thin(found, per_document)
            if len(kept) >= k or wanted >= there:
                return kept[:k]
            wanted *= 4

    def _thin(self, found: list[tuple[int, float]], per_document: int) -> list[tuple[int, float]]:
        stored = self._database.passages([passage_id for passage_id, _ in found])
        seen: dict[int, int] = {}
        kept = []
        for passage_id, score in found:
            document = stored[passage_id].document_id
            seen[document] = seen.get(document, 0) + 1
            if seen[document] <= per_document:
                kept.append((passage_id, score))
        return kept

    def _hits(self, nearest: list[tuple[int, float]]) -> list[Hit]:
        stored = self._database.passages([passage_id for passage_id, _ in nearest])
        hits = []
        for rank, (passage_id, score) in enumerate(nearest, 1):
            found = stored[passage_id]
            p = found.passage
            hits.append(
                Hit(
                    rank=rank,
                    score=score,
                    id=passage_id,
                    path=found.file.path,
                    title=found.title,
                    heading=p.heading,
                    line_start=p.line_start,
                    line_end=p.line_end,
                    char_start=p.char_start,
                    char_end=p.char_end,
                    page=p.page,
                    place=p.place,
                    stale=is_stale(self._root, found.file),
                    text=p.text,
                    metadata=found.metadata,
                )
            )
        return hits


def _check_model(index: Path, made_with: Fingerprint, given: Fingerprint) -> None:
    if differences := made_with.differences(given):
        raise ModelMismatchError(
            f"the index {index.name!r} was made with {made_with.model!r}, this is {given.model!r} with another "
            f"{', '.join(differences)}; give the same model with --model, or make the index anew"
        )
