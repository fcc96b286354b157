"""The indexer: files to documents, passages, vectors, and one commit."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semsearch.corpus.chunking import Chunker
from semsearch.corpus.readers import read
from semsearch.corpus.walk import Skipped, SourceFile, Walk, walk
from semsearch.encoder.encoder import Encoder
from semsearch.encoder.models import DEFAULT_MODEL
from semsearch.errors import IndexConflictError, NothingToIndexError, StorageError, UnreadableFileError
from semsearch.store.catalog import LOCK, sweep, write_lock
from semsearch.store.database import DATABASE, Database
from semsearch.store.files import sync_folder
from semsearch.store.segments import SEGMENT_ROWS, normalize, write_segment
from semsearch.types import Document, Passage


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is; the sizes are in bytes."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int
    passages: int


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What a build did; `files_indexed + files_skipped == files_found`. `skipped` has folders too."""

    index: str
    path: str
    model: str
    precision: str
    files_found: int
    files_indexed: int
    files_skipped: int
    documents: int
    passages: int
    took_ms: int
    skipped: tuple[Skipped, ...]


class Indexer:
    """The one writer of an index."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        model: str | Encoder = DEFAULT_MODEL,
        precision: str = "auto",
        device: str = "auto",
    ) -> None:
        """Set up; nothing is read or written yet.

        Args:
            path: The index folder, made if it is not there.
            model: A model's folder or Hugging Face name, or an Encoder.
            precision: As of Encoder; an Encoder that is given has its own.
            device: As of Encoder.
        """
        self._path = Path(path)
        self._model = model
        self._precision = precision
        self._device = device

    def update(
        self,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> IndexSummary:
        """Make the index hold what `source` holds now, all of it in one commit or none of it.

        Args:
            source: A folder or a file, or several.
            progress: Called now and then while it goes on.

        Raises:
            SourceNotFoundError: A source is not there.
            NothingToIndexError: No document could be read.
            ModelError: The model cannot be had or used.
            IndexConflictError: The index was made of another source.
            IndexLockedError: Another process is writing it.
            StoreError: It is damaged, of a newer format, or the disk refused.
        """
        started = time.monotonic()
        sources = [source] if isinstance(source, str | os.PathLike) else list(source)
        found = walk([Path(one) for one in sources])
        if not found.files:
            raise NothingToIndexError(_nothing(sources, found.skipped))
        encoder = self._model
        if not isinstance(encoder, Encoder):
            encoder = Encoder(encoder, precision=self._precision, device=self._device)
        existed = self._path.exists()
        try:
            (self._path / "segments").mkdir(parents=True, exist_ok=True)
            sync_folder(self._path)
            with write_lock(self._path):
                try:
                    build = self._build(sources, found, encoder, progress)
                except BaseException:
                    self._remove_if_never_committed()
                    raise
        except OSError as error:
            raise StorageError.of(f"cannot write {str(self._path)!r}", error) from error
        finally:
            if not existed and not (self._path / DATABASE).exists():
                shutil.rmtree(self._path, ignore_errors=True)
        skipped = (*found.skipped, *build.skipped)
        files_skipped = sum(not one.path.endswith("/") for one in skipped)
        return IndexSummary(
            self._path.name,
            str(self._path),
            encoder.fingerprint.model,
            encoder.precision,
            build.files + files_skipped,
            build.files,
            files_skipped,
            build.documents,
            build.passages,
            round((time.monotonic() - started) * 1000),
            tuple(sorted(skipped, key=lambda one: one.path)),
        )

    def _build(
        self,
        sources: Sequence[str | os.PathLike[str]],
        found: Walk,
        encoder: Encoder,
        progress: Callable[[Progress], None] | None,
    ) -> _Build:
        database = Database.open_for_writing(self._path)
        try:
            if not database.is_new:
                sweep(self._path, database)
                root = database.meta()["root"]
                if root != str(found.root):
                    raise IndexConflictError(
                        f"the index {self._path.name!r} was made of {root!r}, not of {str(found.root)!r}; choose "
                        f"another name with --name, or remove it with: semsearch delete {self._path.name}"
                    )
            build = _Build(self._path, database, encoder)
            with database.transaction():
                database.clear()
                build.run(found.files, progress)
                if not build.passages:
                    raise NothingToIndexError(_nothing(sources, [*found.skipped, *build.skipped]))
                database.set_meta(
                    {
                        "fingerprint": encoder.fingerprint.to_json(),
                        "precision": encoder.precision,
                        "root": str(found.root),
                        "built": datetime.now(UTC).isoformat(timespec="seconds"),
                    }
                )
            sweep(self._path, database)
            return build
        finally:
            database.close()

    def _remove_if_never_committed(self) -> None:
        database = Database.open_for_writing(self._path)
        new = database.is_new
        if not new:
            sweep(self._path, database)
        database.close()
        if new:
            for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", LOCK):
                (self._path / name).unlink(missing_ok=True)
            shutil.rmtree(self._path / "segments", ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Read:
    """A passage on its way to be embedded, with what it came from."""

    file: SourceFile
    sha256: str
    document: Document
    passage: Passage


class _Build:
    """One build under way, within the transaction that commits it."""

    def __init__(self, path: Path, database: Database, encoder: Encoder) -> None:
        self.files = self.documents = self.passages = 0
        self.skipped: list[Skipped] = []
        self._path = path
        self._database = database
        self._encoder = encoder
        self._chunker = Chunker(encoder.tokenizer.token_spans, encoder.max_tokens)
        self._segment_first_id = 0
        self._vectors: list[NDArray[np.float32]] = []
        # Passages that the encoder has taken and whose vectors are not here yet. The encoder reads ahead in a thread of
        # its own, so `_passages_of` writes nothing to the database.
        self._taken: deque[_Read] = deque()
        self._file: SourceFile | None = None
        self._document: Document | None = None
        self._file_id = self._document_id = 0

    def run(self, files: Sequence[SourceFile], progress: Callable[[Progress], None] | None) -> None:
        self._segment_first_id = self._database.next_passage_id()
        total = sum(file.size for file in files)
        sizes = {file.name: done for file, done in zip(files, accumulate(file.size for file in files), strict=True)}
        if progress:
            progress(Progress(0, len(files), 0, total, 0))
        for vectors in self._encoder.encode_document_stream(self._passages_of(files)):
            last = self._add(vectors)
            if progress:
                seen = self.files + len(self.skipped)
                progress(Progress(seen, len(files), sizes[last.name], total, self.passages))
        self._seal()
        if progress:
            progress(Progress(len(files), len(files), total, total, self.passages))

    def _passages_of(self, files: Sequence[SourceFile]) -> Iterator[str]:
        """What is to be embedded for each passage, which is then in `_taken`."""
        for file in files:
            empty = True
            sha256 = ""
            try:
                for document in read(file):
                    for passage, embedded in self._chunker.chunk(document):
                        if empty:
                            with file.path.open("rb") as content:
                                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
                            empty = False
                        self._taken.append(_Read(file, sha256, document, passage))
                        yield embedded
                if empty:
                    raise UnreadableFileError("empty")
            except UnreadableFileError as error:
                self.skipped.append(Skipped(file.name, str(error)))

    def _add(self, vectors: NDArray[np.float32]) -> SourceFile:
        """Add the passages that these vectors are of; returns the last one's file."""
        first = self._segment_first_id + sum(map(len, self._vectors))
        rows = []
        for _ in vectors:
            one = self._taken.popleft()
            if one.file is not self._file:
                self._file = one.file
                self._file_id = self._database.add_file(one.file.name, one.file.size, one.file.mtime_ns, one.sha256)
                self.files += 1
            if one.document is not self._document:
                self._document = one.document
                self._document_id = self._database.add_document(self._file_id, one.document)
                self.documents += 1
            rows.append((self._document_id, one.passage))
        self._database.add_passages(first, rows)
        self._vectors.append(normalize(vectors))
        self.passages += len(rows)
        if sum(map(len, self._vectors)) >= SEGMENT_ROWS:
            self._seal()
        return one.file

    def _seal(self) -> None:
        """Write the vectors so far as a segment."""
        if self._vectors:
            vectors = np.concatenate(self._vectors)
            self._database.add_segment(write_segment(self._path, vectors, self._segment_first_id))
            self._segment_first_id += len(vectors)
            self._vectors.clear()


def _nothing(sources: Sequence[object], skipped: Iterable[Skipped]) -> str:
    reasons = [f"{one.path}: {one.reason}" for one in skipped]
    some = f"; skipped {'; '.join(reasons[:3])}{f' and {len(reasons) - 3} more' if len(reasons) > 3 else ''}"
    where = ", ".join(repr(str(one)) for one in sources)
    return f"nothing to index in {where}{some if reasons else ': no file there'}"
