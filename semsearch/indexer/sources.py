"""What an update has to look at: which files and documents are new, changed, gone or as they were."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath

from semsearch.corpus.chunking import Chunker
from semsearch.corpus.formats import ReadOptions, format_of
from semsearch.corpus.readers import read
from semsearch.corpus.walk import Skipped, SourceFile
from semsearch.encoder.encoder import Encoder
from semsearch.errors import InvalidInputError, UnreadableFileError
from semsearch.store.manifest import FileRow
from semsearch.store.parts import content_of
from semsearch.types import Document, Passage

# A file changed within the same tick of its file system's clock has the time that it had before. So a time is trusted
# only if it was this much in the past, in ns, when the file was read; FAT counts in two seconds.
_TICK_NS = 2_000_000_000


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
    document: Document
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
        unchanged: How many have the content that they had.
    """

    fresh: list[SourceFile] = field(default_factory=list)
    touched: list[FileRow] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    unchanged: int = 0


class Chunk:
    """Cuts documents for an encoder, whose tokenizer is not loaded before the first."""

    def __init__(self, encoder: Encoder) -> None:
        """Take note of the encoder."""
        self._encoder = encoder

    @cached_property
    def _chunker(self) -> Chunker:
        return Chunker(self._encoder.tokenizer.token_starts, self._encoder.max_tokens)

    def __call__(self, document: Document) -> tuple[Embedded, ...]:
        """The passages of a document."""
        return tuple(Embedded(passage, text, content_of(text)) for passage, text in self._chunker.chunk(document))


def compare(files: Iterable[SourceFile], known: Mapping[str, FileRow], changes: Changes) -> None:
    """Add to `changes` how files differ from what the index knows: by size and time first, then by content."""
    found = set()
    for file in files:
        found.add(file.name)
        row = known.get(file.name)
        if row and not row.given and _looks_unchanged(file, row):
            changes.unchanged += 1
            continue
        if row and not row.given:
            now = _row(file)
            if now.sha256 == row.sha256:
                changes.touched.append(replace(now, id=row.id))
                changes.unchanged += 1
                continue
        changes.fresh.append(file)
        if row:
            changes.gone.append(row.id)
    changes.gone += [row.id for name, row in known.items() if name not in found and not row.given]


def _looks_unchanged(file: SourceFile, row: FileRow) -> bool:
    same = (file.size, file.mtime_ns) == (row.size, row.mtime_ns)
    return same and row.mtime_ns + _TICK_NS <= row.seen_ns


def _row(file: SourceFile) -> FileRow:
    """What is known of a file that is about to be read; its id is not known yet."""
    seen_ns = time.time_ns()
    try:
        with file.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        digest = ""  # reading it will say why
    return FileRow(0, file.name, file.size, file.mtime_ns, seen_ns, digest, given=False)


def read_files(files: Iterable[SourceFile], chunk: Chunk) -> Iterator[Item]:
    """Read and cut files."""
    done = 0
    for file in files:
        done += file.size
        try:
            format_of(file.name)
            # The hash comes before the text: if the file changes in between, the next update reads it again.
            row = _row(file)
            empty = True
            for document in read(file, ReadOptions()):
                if passages := chunk(document):
                    empty = False
                    yield Read(row, document, passages, done)
            if empty:
                raise UnreadableFileError("empty")
        except UnreadableFileError as error:
            yield Skipped(file.name, str(error))


def read_documents(documents: Iterable[Document], known: Mapping[str, FileRow], chunk: Chunk) -> Iterator[Item]:
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
        elif passages := chunk(document):
            yield Read(FileRow(0, document.path, len(content), now, now, digest, True), document, passages, done)
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
