"""What an update has to look at: which files and documents are new, changed, gone or as they were."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from semsearch.corpus.chunking import Chunker
from semsearch.corpus.formats import format_of
from semsearch.corpus.walk import Skipped, SourceFile
from semsearch.encoder.encoder import Encoder
from semsearch.encoder.processors import processors
from semsearch.errors import InvalidInputError, UnreadableFileError
from semsearch.indexer.files import digest_of
from semsearch.indexer.pool import Readers, WorkerPool
from semsearch.indexer.settings import Settings
from semsearch.indexer.worker import ENDS, answers_of, setup_of
from semsearch.store.analysis import lexical_text
from semsearch.store.manifest import FileRow
from semsearch.store.parts import content_of
from semsearch.types import Document, Passage

# A file changed within the same tick of its file system's clock has the time that it had before. So a time is trusted
# only if it was this much in the past, in ns, when the file was read; FAT counts in two seconds.
_TICK_NS = 2_000_000_000
# Bytes of text that are read here sooner than a process for it has started.
_LITTLE = 64 * 2**10
# More processes than these are never waited for.
_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Embedded:
    """A passage, what is embedded for it, and the hash of that."""

    passage: Passage
    text: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """A document that was read, with the row of its file and its passages; `done` is bytes of the source so far."""

    file: FileRow
    title: str
    metadata: Mapping[str, Any]
    passages: tuple[Embedded, ...]
    done: int


# What reading gives; None for a document that is as it was.
Item = Read | Skipped | None


@dataclass(slots=True)
class Changes:
    """How files differ from what the index knows of them.

    Attributes:
        fresh: Files that are new or changed, still to be read.
        touched: Rows of files whose content is as it was, but not what is known of them.
        gone: Ids of the rows that files no longer stand behind, or other content.
        changed: How many of the fresh the index knows with another content.
        unchanged: How many have the content that they had.
    """

    fresh: list[SourceFile] = field(default_factory=list)
    touched: list[FileRow] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    changed: int = 0
    unchanged: int = 0


class Reading:
    """Reads files and cuts documents for an encoder, whose tokenizer is not loaded before the first."""

    def __init__(self, encoder: Encoder, settings: Settings, readers: Readers | None = None) -> None:
        """Take note of the encoder, of how to read, and of what keeps the processes that do, if anything does."""
        self._encoder = encoder
        self._settings = settings
        self._readers = readers

    @cached_property
    def _chunker(self) -> Chunker:
        return Chunker(self._encoder.tokenizer.token_starts, self._encoder.max_tokens, **self._settings.cutting)

    def chunk(self, document: Document) -> tuple[Embedded, ...]:
        """The passages of a document."""
        return tuple(_embedded(document.title, passage, text) for passage, text in self._chunker.chunk(document))

    def read(self, files: Sequence[SourceFile]) -> Generator[Item, None, None]:
        """Read and cut files, in processes of their own unless it is a little text."""
        done = 0
        row = None
        with closing(self._answers(files)) as answers:
            for file, (kind, *values) in answers:
                if kind == "file":
                    seen_ns, sha256 = values
                    row = FileRow(0, file.name, file.size, file.mtime_ns, seen_ns, sha256, given=False)
                elif kind == "document" and row:
                    title, metadata, passages = values
                    found = tuple(_embedded(title, Passage(*passage), text) for passage, text in passages)
                    yield Read(row, title, metadata, found, done + file.size)
                elif kind == "skipped":
                    yield Skipped(file.name, values[0])
                done += file.size if kind in ENDS else 0

    def _answers(self, files: Sequence[SourceFile]) -> Generator[tuple[SourceFile, Sequence[Any]], None, None]:
        if sum(file.size for file in files) <= _LITTLE and all(map(_is_text, files)):
            for file in files:
                for answer in answers_of(file, self._settings.read_options, self._chunker):
                    yield file, answer
            return
        encoder, settings = self._encoder, self._settings
        _ = self._chunker  # which refuses settings that cannot be used
        setup = setup_of(encoder.tokenizer, encoder.max_tokens, settings.cutting, settings.read_options)
        given = setup, min(_PROCESSES, processors(), len(files))
        with self._readers.pool(*given) if self._readers else WorkerPool(*given) as pool:
            yield from pool.read(files)


def _embedded(title: str, passage: Passage, text: str) -> Embedded:
    return Embedded(passage, text, content_of(text, lexical_text(title, passage.heading, passage.text)))


def _is_text(file: SourceFile) -> bool:
    try:
        return not format_of(file.name).libraries
    except UnreadableFileError:  # it is not read at all
        return True


def compare(files: Iterable[SourceFile], known: Mapping[str, FileRow], changes: Changes, *, trust: bool) -> None:
    """Add to `changes` how files differ from what the index knows: by size and time first, then by content.

    Without `trust` all that is known was read in another way, and every file is read again.
    """
    found = set()
    for file in files:
        found.add(file.name)
        row = known.get(file.name)
        if row and trust and not row.given and looks_unchanged(file, row):
            changes.unchanged += 1
            continue
        if row and trust and not row.given:
            seen_ns, sha256 = digest_of(file)
            if sha256 == row.sha256:
                changes.touched.append(
                    FileRow(row.id, file.name, file.size, file.mtime_ns, seen_ns, sha256, given=False)
                )
                changes.unchanged += 1
                continue
        changes.fresh.append(file)
        if row:
            changes.changed += 1
            changes.gone.append(row.id)
    changes.gone += [row.id for name, row in known.items() if name not in found and not row.given]


def looks_unchanged(file: SourceFile, row: FileRow) -> bool:
    """Whether a file has the size and time that it had when it was read."""
    same = (file.size, file.mtime_ns) == (row.size, row.mtime_ns)
    return same and row.mtime_ns + _TICK_NS <= row.seen_ns


def read_documents(
    documents: Iterable[Document], known: Mapping[str, FileRow], reading: Reading
) -> Generator[Item, None, None]:
    """Cut documents that were given; None for one that is as it was.

    Raises:
        InvalidInputError: Something that is no document, or two of one path.
    """
    seen: set[str] = set()
    done = 0
    for document in documents:
        content = _checked(document)
        if document.path in seen:
            raise InvalidInputError(f"two documents have the path {document.path!r}; give each its own")
        seen.add(document.path)
        done += len(content)
        now, digest = time.time_ns(), hashlib.sha256(content).hexdigest()
        row = known.get(document.path)
        if row and row.given and row.sha256 == digest:
            yield None
        elif passages := reading.chunk(document):
            row = FileRow(0, document.path, len(content), now, now, digest, given=True)
            yield Read(row, document.title, document.metadata, passages, done)
        else:
            yield Skipped(document.path, "empty")


def _checked(document: object) -> bytes:
    """All that a document holds, as bytes."""
    if not isinstance(document, Document):
        raise InvalidInputError(
            f"a source must be a path or a Document, got {type(document).__name__}: {document!r:.80}"
        )
    path = document.path
    if not isinstance(path, str) or not path or PurePosixPath(path).is_absolute() or "\0" in path:
        raise InvalidInputError(f"a document's path must be relative and not empty, got {path!r:.80}")
    for name in ("text", "title"):
        if not isinstance(getattr(document, name), str):
            raise InvalidInputError(
                f"the {name} of the document {path!r} is no string: {getattr(document, name)!r:.80}"
            )
    try:
        metadata = json.dumps(dict(document.metadata), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"the metadata of the document {path!r} is not JSON: {error}") from None
    try:
        "".join((path, document.title, document.text)).encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"the document {path!r:.80} has a lone surrogate, no character: {error.reason}"
        ) from None
    parts = (
        document.title,
        metadata,
        document.headings,
        document.body_start,
        document.markup,
        document.line_numbers,
        document.parts,
    )
    return f"{parts!a}\n{document.text}".encode()
