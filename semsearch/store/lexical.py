"""Lexical search: a tantivy index of the passages' words, ranked by BM25.

It holds nothing that the passages in the database do not: it is made of them, and can be made of them again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from numpy.typing import NDArray

from semsearch.errors import DamagedIndexError, StorageError
from semsearch.store.analysis import analyzer, phrases, query_terms, searchable
from semsearch.store.catalog import LEXICAL
from semsearch.store.files import REMEDY, check_file, check_size
from semsearch.store.manifest import Lexical
from semsearch.store.rest import REST, Rest, Statistics
from semsearch.store.scored import NONE, Scored, best, rounded

Ids = Sequence[int] | NDArray[np.int64]
META = "meta.json"
# Of so few passages each is scored by itself, rather than the best of all looked through for them.
_FEW = 2000
# BM25 scores count as equal that are the same with mantissas of so many bits: passages that have the same words equally
# often have the same score, but for what adding up costs, which in shards is not as in one index.
BITS = 13
# Passages looked at beyond those that are wanted, at first; and where so many were, no more are.
_BEYOND, _MOST = 64, 5000


def is_panic(error: BaseException) -> bool:
    """Whether it is tantivy giving up, which is no Exception."""
    return type(error).__module__ == "pyo3_runtime"


@dataclass(frozen=True, slots=True)
class LexicalQuery:
    """A query as lexical search takes it.

    Attributes:
        terms: Its words as stems, each once, in their order.
        scored: What gives a passage its score: any of the terms.
        phrases: What a passage has that has all of the phrases in quotes; None without any.
    """

    terms: tuple[str, ...]
    scored: Any
    phrases: Any


class LexicalReader:
    """The lexical index of a generation, for searching."""

    def __init__(self, index: Path, lexical: Lexical, *, whole: bool, rest: Rest | None = None) -> None:
        """Check and open it.

        Args:
            index: The index folder.
            lexical: What the manifest has of it.
            whole: Whether all files are hashed, or their lengths compared alone.
            rest: What stands for the rest of an index, if this is a shard of one: scores are then those of the index.

        Raises:
            DamagedIndexError: It is not what was written.
            FileNotFoundError: It is not there.
        """
        self._folder = index / LEXICAL / lexical.uuid
        self._rest = rest
        self.language = lexical.language
        folders = [(self._folder, lexical.files), *([(index / REST / rest.uuid, rest.files)] if rest else [])]
        for folder, files in folders:
            for name, record in files.items():
                (check_file if whole else check_size)(folder / name, record)
        with self._understood():
            self._schema, self._searcher = self._open(folders)
            # How many passages there are.
            self.count = int(self._searcher.num_docs) - (rest.passages if rest else 0)

    def _open(self, folders: Sequence[tuple[Path, Iterable[str]]]) -> tuple[Any, Any]:
        # tantivy locks a folder that it reads, and watches it; so it gets one of its own, which is gone when all is
        # mapped: the index folder may be one that cannot be written.
        try:
            name = tempfile.mkdtemp(prefix="semsearch-")
        except OSError as error:
            raise StorageError(f"cannot make a temporary folder: {error.strerror}; set TMPDIR to one") from None
        try:
            for folder, files in folders:
                for file in files:
                    if file != META:
                        os.symlink((folder / file).resolve(), Path(name, file))
            Path(name, META).write_bytes(_joined_meta([folder / META for folder, _ in folders]))
            opened = tantivy.Index.open(name)
            opened.config_reader("manual")
            opened.reload()
            return opened.schema, opened.searcher()
        finally:
            remove_watched(Path(name))

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except BaseException as error:
            if not isinstance(error, ValueError | RuntimeError) and not is_panic(error):
                raise
            raise DamagedIndexError(f"damaged index: {self._folder}: tantivy cannot read it; {REMEDY}") from None

    def parse(self, query: str, frequencies: Sequence[int] = ()) -> LexicalQuery | None:
        """What to search by; None for a query without a word.

        Args:
            query: What is looked for.
            frequencies: How many passages of the whole index have each of its words, which the scores of a shard need.
        """
        terms = query_terms(query, self.language)
        if not terms:
            return None
        words = [self._term(term) for term in terms]
        if self._rest and frequencies:
            own = Statistics(self._own_passages + self._rest.passages, 0)
            words = [
                tantivy.Query.boost_query(word, self._rest.all.idf(there) / own.idf(here)) if here else word
                for word, there, here in zip(words, frequencies, self._frequencies(terms), strict=True)
            ]
        scored = tantivy.Query.boolean_query([(tantivy.Occur.Should, word) for word in words])
        return LexicalQuery(terms, scored, self._phrases(phrases(query)[0]))

    def statistics(self) -> Statistics:
        """What BM25 goes by here."""
        passages = self._own_passages
        with self._understood():
            # tantivy says what the mean is where it explains a score, of any passage by any of its words.
            found = self._searcher.terms_with_prefix("text", "", None, 1)
            if not found:
                return Statistics(passages, 0)
            query = self._term(found[0][0])
            _, address = self._searcher.search(query, 1, count=False).hits[0]
            mean = _mean_of(json.loads(query.explain(self._searcher, address).to_json()))
        return Statistics(passages, round(mean * passages))

    @cached_property
    def _own_passages(self) -> int:
        with self._understood():
            return sum(segment["max_doc"] for segment in json.loads((self._folder / META).read_bytes())["segments"])

    def _term(self, term: str) -> Any:
        return tantivy.Query.term_query(self._schema, "text", term, "freq")

    def _phrases(self, quoted: Sequence[str]) -> Any:
        found = []
        for phrase in quoted:
            words = analyzer(self.language).analyze(searchable(phrase, compounds=False))
            if len(words) > 1:
                found.append(tantivy.Query.phrase_query(self._schema, "text", words))
            elif words:
                found.append(self._term(words[0]))
        return _all_of(found) if found else None

    def search(self, query: LexicalQuery, k: int, allowed: NDArray[np.int64] | None = None) -> Scored:
        """The k passages with the highest BM25 scores (k1 = 1.2, b = 0.75).

        Args:
            query: As of `parse`.
            k: How many at most.
            allowed: Ids, ascending, that are looked through alone.
        """
        if allowed is not None and len(allowed) <= _FEW:
            found = self.scores(query, allowed)
            return Scored(found.ids[:k], found.scores[:k])
        wanted = k if allowed is None else int(2 * k * self.count / len(allowed))
        while True:
            found = self._best(query.scored, min(wanted, self.count))
            more = len(found.ids) == wanted
            if allowed is not None:
                own = np.isin(found.ids, allowed)
                found = Scored(found.ids[own], found.scores[own])
            if len(found.ids) >= k or not more:
                return Scored(found.ids[:k], found.scores[:k])
            wanted *= 4

    def scores(self, query: LexicalQuery, ids: Ids) -> Scored:
        """The BM25 scores of those of these passages that have any of the terms."""
        if not len(ids):
            return NONE
        among = tantivy.Query.term_set_query(self._schema, "id", [int(number) for number in ids])
        return self._best(_all_of([query.scored, tantivy.Query.const_score_query(among, 0.0)]), len(ids))

    def frequencies(self, query: LexicalQuery) -> list[int]:
        """How many passages have each of the query's terms."""
        return self._frequencies(query.terms)

    def _frequencies(self, terms: Sequence[str]) -> list[int]:
        with self._understood():
            return [int(self._searcher.doc_freq("text", term)) for term in terms]

    def having_phrases(self, query: LexicalQuery) -> NDArray[np.int64]:
        """The ids, ascending, of the passages that have all of the query's phrases."""
        return self._ids(query.phrases)

    def all_ids(self) -> NDArray[np.int64]:
        """The ids of all passages, ascending."""
        return self._ids(tantivy.Query.all_query())

    def _ids(self, query: Any) -> NDArray[np.int64]:
        return np.sort(self._best(query, max(1, self.count)).ids)

    def _best(self, query: Any, k: int) -> Scored:
        # Of those that are as good as the last one tantivy takes what comes first in its files: so all of them are
        # looked at, unless they are very many.
        wanted = k + _BEYOND
        with self._understood():
            hits = self._searcher.search(query, wanted, count=False).hits
            while (
                len(hits) == wanted < _MOST * k and np.ptp(rounded(np.array([hits[k - 1][0], hits[-1][0]]), BITS)) == 0
            ):
                wanted *= 4
                hits = self._searcher.search(query, wanted, count=False).hits
            ids = self._searcher.fast_field_values("id", [address for _, address in hits])
        return best(np.array(ids, np.int64), np.array([score for score, _ in hits], np.float64), k, bits=BITS)


def _equal(*scores: float) -> bool:
    return len(np.unique(rounded(np.array(scores), BITS))) == 1


def remove_watched(folder: Path) -> None:
    """Remove a folder, if it is there, into which a thread of tantivy's that watches it may still put a lock."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.001)


def _all_of(queries: Sequence[Any]) -> Any:
    return tantivy.Query.boolean_query([(tantivy.Occur.Must, query) for query in queries])


def _joined_meta(paths: Sequence[Path]) -> bytes:
    """The list of segments that tantivy goes by, of several indexes as one."""
    first = paths[0].read_bytes()
    if len(paths) == 1:
        return first
    segments = [segment for path in paths for segment in json.loads(path.read_bytes())["segments"]]
    return json.dumps({**json.loads(first), "segments": segments}).encode()


def _mean_of(explained: dict[str, Any]) -> float:
    """How many words a passage has on average, from how a score came about."""
    if explained["description"].startswith("avgdl"):
        return float(explained["value"])
    return max((_mean_of(one) for one in explained.get("details", ())), default=0.0)
