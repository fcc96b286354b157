"""Lexical search: a tantivy index of the passages' words, ranked by BM25.

It holds nothing that the passages in the database do not: it is made of them, and can be made of them again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from numpy.typing import NDArray

from semsearch.errors import DamagedIndexError, SemsearchError, StorageError
from semsearch.store.analysis import analyzer, phrases, query_terms, searchable
from semsearch.store.catalog import LEXICAL
from semsearch.store.files import REMEDY, FileRecord, check_file, check_size, record_of, sync_folder, write_durably
from semsearch.store.manifest import Lexical
from semsearch.store.scored import NONE, Scored, best

# What a passage's words are of: ids and texts, from an id on.
Texts = Callable[[int], Iterable[tuple[int, str]]]
Ids = Sequence[int] | NDArray[np.int64]
_META = "meta.json"
_HEAP_BYTES = 64 * 2**20
_DELETED_AT_ONCE = 10_000
# It is written anew once this share of its passages is gone.
_GONE_SHARE = 0.1
# Of so few passages each is scored by itself, rather than the best of all looked through for them.
_FEW = 2000


def write_lexical(
    index: Path,
    old: Lexical | None,
    language: str,
    *,
    removed: Ids,
    texts: Texts,
    first_new: int,
    fully: bool = False,
) -> Lexical:
    """Write the lexical index of a new generation, beside that of the last one; it counts once the manifest names it.

    Args:
        index: The index folder.
        old: That of the last generation, which stays as it is.
        language: What words are stemmed by, as of `analysis.LANGUAGES`.
        removed: Passages of the last generation that are gone.
        texts: Of the passages that are there, in the order of their ids; as of `analysis.lexical_text`.
        first_new: The first id that the last generation does not have.
        fully: Whether nothing is kept of what is gone.

    Raises:
        StorageError: The disk refused.
    """
    if old is None or old.language != language or _is_due(index, old, len(removed), fully):
        return _write(index, None, language, (), texts(1))
    added = iter(texts(first_new))
    first = next(added, None)
    if first is None and not len(removed):
        return old
    return _write(index, old, language, removed, _chain(first, added))


def _chain(first: tuple[int, str] | None, rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    if first is not None:
        yield first
        yield from rest


def _is_due(index: Path, old: Lexical, removed: int, fully: bool) -> bool:
    """Whether it is better made of the passages again than changed."""
    folder = index / LEXICAL / old.uuid
    try:
        for name, record in old.files.items():
            # Lest a damaged file come under a sound hash.
            check_file(folder / name, record)
        segments = _segments(folder)
    except (DamagedIndexError, FileNotFoundError):
        return True
    count = sum(segment["max_doc"] for segment in segments)
    gone = removed + sum((segment["deletes"] or {}).get("num_deleted_docs", 0) for segment in segments)
    return len(segments) > 1 or gone > 0 if fully else gone > _GONE_SHARE * count


def _segments(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / _META).read_bytes())["segments"]
    return found


def _write(index: Path, old: Lexical | None, language: str, removed: Ids, added: Iterable[tuple[int, str]]) -> Lexical:
    name = uuid.uuid4().hex
    folder = index / LEXICAL / name
    folder.mkdir(parents=True)
    try:
        for file in old.files if old else ():
            _link(index / LEXICAL / (old.uuid if old else "") / file, folder / file)
        with _refused_by_disk(folder):
            _change(folder, language, removed, added)
        files = _kept(folder)
        for path in folder.iterdir():
            if path.name not in files:
                path.unlink()
        # The list of files is tantivy's private one; it gets the rights that files have here.
        listed = (folder / _META).read_bytes()
        (folder / _META).unlink()
        records = {_META: write_durably(folder / _META, lambda file: file.write(listed))}
        for file in files:
            if file != _META:
                # Files are never changed.
                records[file] = (old and old.files.get(file)) or _durable_record(folder / file)
        sync_folder(folder)
        sync_folder(folder.parent)
        sync_folder(index)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Lexical(name, language, records)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without
        shutil.copyfile(source, target)


def _change(folder: Path, language: str, removed: Ids, added: Iterable[tuple[int, str]]) -> None:
    opened = _opened(folder, language)
    # One thread: what is added in one order comes out in the same.
    writer = opened.writer(_HEAP_BYTES, 1)
    for start in range(0, len(removed), _DELETED_AT_ONCE):
        gone = [int(number) for number in removed[start : start + _DELETED_AT_ONCE]]
        # By a query: tantivy's deletion by a term takes a number for a signed one, and finds nothing.
        writer.delete_documents_by_query(tantivy.Query.term_set_query(opened.schema, "id", gone))
    for number, text in added:
        document = tantivy.Document()
        document.add_unsigned("id", number)
        document.add_text("text", searchable(text))
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()


def _opened(folder: Path, language: str) -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("id", indexed=True, fast=True)
    builder.add_text_field("text", tokenizer_name=language)
    opened = tantivy.Index(builder.build(), str(folder))
    opened.register_tokenizer(language, analyzer(language))
    return opened


def _kept(folder: Path) -> list[str]:
    """The files that the index consists of; tantivy leaves its locks behind, and what merging made dead."""
    kept = [_META]
    for segment in _segments(folder):
        stem, deletes = segment["segment_id"].replace("-", ""), segment["deletes"]
        for path in folder.glob(f"{stem}.*"):
            if path.suffix != ".del" or (deletes and path.name == f"{stem}.{deletes['opstamp']}.del"):
                kept.append(path.name)
    return sorted(kept)


def _durable_record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return record_of(path)


@contextmanager
def _refused_by_disk(folder: Path) -> Iterator[None]:
    """What tantivy cannot write, as an error of semsearch."""
    try:
        yield
    except (OSError, SemsearchError):  # the latter of what is read of the database
        raise
    except Exception as error:
        raise StorageError(f"cannot write {str(folder)!r}: {error}") from error
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise StorageError(f"cannot write {str(folder)!r}: {error}") from None


def _is_panic(error: BaseException) -> bool:
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

    def __init__(self, index: Path, lexical: Lexical, *, whole: bool) -> None:
        """Check and open it.

        Args:
            index: The index folder.
            lexical: What the manifest has of it.
            whole: Whether all files are hashed, or their lengths compared alone.

        Raises:
            DamagedIndexError: It is not what was written.
            FileNotFoundError: It is not there.
        """
        self._folder = index / LEXICAL / lexical.uuid
        self._files = lexical.files
        self.language = lexical.language
        for name, record in lexical.files.items():
            (check_file if whole else check_size)(self._folder / name, record)
        with self._understood():
            self._schema, self._searcher = self._open()
            self.count = int(self._searcher.num_docs)

    def _open(self) -> tuple[Any, Any]:
        # tantivy locks a folder that it reads, and watches it; so it gets one of its own, which is gone when all is
        # mapped: the index folder may be one that cannot be written.
        try:
            name = tempfile.mkdtemp(prefix="semsearch-")
        except OSError as error:
            raise StorageError(f"cannot make a temporary folder: {error.strerror}; set TMPDIR to one") from None
        try:
            for file in self._files:
                os.symlink((self._folder / file).resolve(), Path(name, file))
            opened = tantivy.Index.open(name)
            opened.config_reader("manual")
            opened.reload()
            return opened.schema, opened.searcher()
        finally:
            _remove_watched(name)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except BaseException as error:
            if not isinstance(error, ValueError | RuntimeError) and not _is_panic(error):
                raise
            raise DamagedIndexError(f"damaged index: {self._folder}: tantivy cannot read it; {REMEDY}") from None

    def parse(self, query: str) -> LexicalQuery | None:
        """What to search by; None for a query without a word."""
        terms = query_terms(query, self.language)
        if not terms:
            return None
        should = tantivy.Occur.Should
        scored = tantivy.Query.boolean_query([(should, self._term(term)) for term in terms])
        return LexicalQuery(terms, scored, self._phrases(phrases(query)[0]))

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
        with self._understood():
            return [int(self._searcher.doc_freq("text", term)) for term in query.terms]

    def having_phrases(self, query: LexicalQuery) -> NDArray[np.int64]:
        """The ids, ascending, of the passages that have all of the query's phrases."""
        return self._ids(query.phrases)

    def all_ids(self) -> NDArray[np.int64]:
        """The ids of all passages, ascending."""
        return self._ids(tantivy.Query.all_query())

    def _ids(self, query: Any) -> NDArray[np.int64]:
        return np.sort(self._best(query, max(1, self.count)).ids)

    def _best(self, query: Any, k: int) -> Scored:
        with self._understood():
            hits = self._searcher.search(query, k, count=False).hits
            ids = self._searcher.fast_field_values("id", [address for _, address in hits])
        return best(np.array(ids, np.int64), np.array([score for score, _ in hits], np.float64), k)


def _remove_watched(folder: str) -> None:
    """Remove a folder that a thread of tantivy's, when it begins to watch it, still puts a lock into."""
    for _ in range(100):
        with suppress(OSError):
            shutil.rmtree(folder)
            return
        time.sleep(0.001)


def _all_of(queries: Sequence[Any]) -> Any:
    return tantivy.Query.boolean_query([(tantivy.Occur.Must, query) for query in queries])
