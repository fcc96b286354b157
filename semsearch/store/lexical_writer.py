"""Writing a lexical index: one folder a generation, whose unchanged files are those of the one before."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tantivy

from semsearch.errors import DamagedIndexError, SemsearchError, StorageError
from semsearch.store.analysis import analyzer, searchable
from semsearch.store.catalog import LEXICAL
from semsearch.store.files import FileRecord, check_file, record_of, sync_folder, write_durably
from semsearch.store.lexical import META, Ids, is_panic, remove_watched
from semsearch.store.manifest import Lexical
from semsearch.store.rest import REST, WORD, Rest, Statistics, filling

# What a passage's words are of: ids and texts, from an id on.
Texts = Callable[[int], Iterable[tuple[int, str]]]
_HEAP_BYTES = 64 * 2**20
_DELETED_AT_ONCE = 10_000
# It is written anew once this share of its passages is gone.
_GONE_SHARE = 0.1


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
        return _write(index / LEXICAL, None, language, (), texts(1))
    added = iter(texts(first_new))
    first = next(added, None)
    if first is None and not len(removed):
        return old
    return _write(index / LEXICAL, old, language, removed, _chain(first, added))


def write_rest(shard: Path, language: str, own: Statistics, everything: Statistics) -> Rest:
    """Write what stands in a shard for the rest of its index; it counts once a manifest names it.

    Args:
        shard: The shard's folder.
        language: As of `write_lexical`.
        own: Of the shard.
        everything: Of the index.

    Raises:
        StorageError: The disk refused.
    """
    passages, words = filling(own, everything)
    each = -(-words // passages)
    texts = ((0, f"{WORD} " * max(0, min(each, words - each * number))) for number in range(passages))
    as_it_is = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
    written = _write(shard / REST, None, language, (), texts, as_it_is)
    return Rest(written.uuid, written.files, passages, everything)


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
    found: list[dict[str, Any]] = json.loads((folder / META).read_bytes())["segments"]
    return found


def _write(
    parent: Path,
    old: Lexical | None,
    language: str,
    removed: Ids,
    added: Iterable[tuple[int, str]],
    tokenizer: Any = None,
) -> Lexical:
    name = uuid.uuid4().hex
    folder = parent / name
    # tantivy watches the folder that it writes to, and may put a lock into it when all is done.
    watched = parent / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        watched.mkdir()
        for file in old.files if old else ():
            _link(parent / (old.uuid if old else "") / file, watched / file)
        with _refused_by_disk(watched):
            _change(_opened(watched, language, tokenizer or analyzer(language)), removed, added)
        # The list of files is tantivy's private one; it gets the rights that files have here.
        listed = (watched / META).read_bytes()
        records = {META: write_durably(folder / META, lambda file: file.write(listed))}
        for file in _kept(watched):
            (watched / file).rename(folder / file)
            # Files are never changed.
            records[file] = (old and old.files.get(file)) or _durable_record(folder / file)
        sync_folder(folder)
        sync_folder(parent)
        sync_folder(parent.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        remove_watched(watched)
    return Lexical(name, language, records)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without
        shutil.copyfile(source, target)


def _change(opened: Any, removed: Ids, added: Iterable[tuple[int, str]]) -> None:
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


def _opened(folder: Path, language: str, tokenizer: Any) -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("id", indexed=True, fast=True)
    builder.add_text_field("text", tokenizer_name=language)
    opened = tantivy.Index(builder.build(), str(folder))
    opened.register_tokenizer(language, tokenizer)
    return opened


def _kept(folder: Path) -> list[str]:
    """The files that the index consists of beside META; tantivy leaves its locks behind, and what merging made dead."""
    kept = []
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
        if not is_panic(error):
            raise
        raise StorageError(f"cannot write {str(folder)!r}: {error}") from None
