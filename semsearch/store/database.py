"""The manifest of an index: one SQLite database, whose transaction is the commit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semsearch.errors import (
    NO_SPACE,
    NOT_WRITABLE,
    DamagedIndexError,
    IndexFormatError,
    IndexNotFoundError,
    StorageError,
)
from semsearch.store.files import FileRecord, Segment
from semsearch.types import Document, Passage

DATABASE = "index.db"
FORMAT_VERSION = 1
_APPLICATION_ID = 0x53454D53  # "SEMS"
_REMEDIES = {
    sqlite3.SQLITE_FULL: NO_SPACE,
    sqlite3.SQLITE_READONLY: NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: NOT_WRITABLE,
    sqlite3.SQLITE_PERM: NOT_WRITABLE,
}

# A passage id is never reused (AUTOINCREMENT), so that it never means two things to two readers.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL
) STRICT;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL REFERENCES files, title TEXT NOT NULL, metadata TEXT NOT NULL
) STRICT;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document_id INTEGER NOT NULL REFERENCES documents, text TEXT NOT NULL,
    char_start INTEGER NOT NULL, char_end INTEGER NOT NULL, line_start INTEGER NOT NULL, line_end INTEGER NOT NULL,
    page INTEGER, heading TEXT NOT NULL
) STRICT;
CREATE TABLE segments (
    uuid TEXT PRIMARY KEY, kind TEXT NOT NULL, count INTEGER NOT NULL, first_passage_id INTEGER NOT NULL,
    size INTEGER NOT NULL, sha256 TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage with what is known of its document."""

    document_id: int
    path: str
    title: str
    metadata: dict[str, Any]
    passage: Passage


class Database:
    """A connection to the manifest of one index."""

    def __init__(self, index: Path, connection: sqlite3.Connection) -> None:
        """Wrap a connection; `open_for_reading` and `open_for_writing` make one."""
        self._index = index
        self._connection = connection

    @classmethod
    def open_for_reading(cls, index: Path) -> Database:
        """Open a committed index; a writer beside it neither waits nor is waited for.

        Raises:
            IndexNotFoundError: No index there, or none whose first build was finished.
            IndexFormatError: Written by a newer semsearch.
            DamagedIndexError: index.db is no SQLite database.
        """
        path = index / DATABASE
        if not path.is_file():
            raise IndexNotFoundError(f"no index at {str(index)!r}; make one with: semsearch index FOLDER")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with _translated(index):
            try:
                connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
                version = _version(connection)
            except sqlite3.OperationalError:
                # A folder that may not be written has no room for the write-ahead log's shared memory. Where the
                # log itself is empty, the database is whole without it, and can be taken as it stands.
                log = path.with_name(f"{DATABASE}-wal")
                if log.exists() and log.stat().st_size:
                    raise StorageError(
                        f"cannot use {str(path)!r}: {log.name} holds what a writer left to be applied, and the folder "
                        f"may not be written{NOT_WRITABLE}"
                    ) from None
                connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, check_same_thread=False)
                version = _version(connection)
        if version == (0, 0):
            connection.close()
            raise IndexNotFoundError(
                f"the index at {str(index)!r} was never finished; make it with: semsearch index FOLDER"
            )
        _check_version(index, version)
        with _translated(index):
            # One read transaction for as long as it is open: what it reads is one generation, come what may.
            connection.execute("BEGIN")
        return cls(index, connection)

    @classmethod
    def open_for_writing(cls, index: Path) -> Database:
        """Open, or make, the manifest for the one writer.

        Raises:
            IndexFormatError: Written by a newer semsearch.
            DamagedIndexError: index.db is no SQLite database.
            StorageError: The disk refused.
        """
        with _translated(index):
            connection = sqlite3.connect(index / DATABASE, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            version = _version(connection)
        if version != (0, 0):
            _check_version(index, version)
        return cls(index, connection)

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever committed."""
        return _version(self._connection) == (0, 0)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written within is committed as one, or, after any error, not at all."""
        with _translated(self._index):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def clear(self) -> None:
        """Make the tables if there are none, else empty them; passage ids go on from where they were."""
        if self.is_new:
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        for table in ("passages", "documents", "files", "segments", "meta"):
            self._connection.execute(f"DELETE FROM {table}")

    def next_passage_id(self) -> int:
        """The first id that no passage ever had."""
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'passages'").fetchone()
        return int(row[0]) + 1 if row else 1

    def add_file(self, path: str, size: int, mtime_ns: int, sha256: str) -> int:
        """Add a file that was read; returns its id."""
        row = "INSERT INTO files (path, size, mtime_ns, sha256) VALUES (?, ?, ?, ?)"
        return _id(self._connection.execute(row, (path, size, mtime_ns, sha256)))

    def add_document(self, file_id: int, document: Document) -> int:
        """Add a document of a file; returns its id."""
        row = "INSERT INTO documents (file_id, title, metadata) VALUES (?, ?, ?)"
        return _id(self._connection.execute(row, (file_id, document.title, json.dumps(document.metadata))))

    def add_passages(self, first_id: int, passages: Iterable[tuple[int, Passage]]) -> None:
        """Add passages, each with its document's id, under the ids from `first_id` on."""
        rows = (
            (
                first_id + i,
                document_id,
                p.text,
                p.char_start,
                p.char_end,
                p.line_start,
                p.line_end,
                p.page,
                p.heading,
            )
            for i, (document_id, p) in enumerate(passages)
        )
        self._connection.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def add_segment(self, segment: Segment) -> None:
        """Name a segment whose file is on disk."""
        self._connection.execute(
            "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?)",
            (segment.uuid, segment.kind, segment.count, segment.first_passage_id, *_record(segment.file)),
        )

    def set_meta(self, values: dict[str, str]) -> None:
        """Set what is known of the index as a whole."""
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def meta(self) -> dict[str, str]:
        """What is known of the index as a whole."""
        return dict(self._rows("SELECT key, value FROM meta"))

    def segments(self) -> list[Segment]:
        """The segments of this generation, in the order of their passages."""
        rows = self._rows(
            "SELECT uuid, kind, count, first_passage_id, size, sha256 FROM segments ORDER BY first_passage_id"
        )
        return [Segment(row[0], row[1], row[2], row[3], FileRecord(row[4], row[5])) for row in rows]

    def count(self, table: str) -> int:
        """How many files, documents or passages there are."""
        if table not in ("files", "documents", "passages"):
            raise ValueError(f"no such table: {table!r}")
        return int(self._rows(f"SELECT count(*) FROM {table}")[0][0])

    def passages(self, ids: Sequence[int]) -> dict[int, StoredPassage]:
        """The passages of these ids.

        Raises:
            DamagedIndexError: One of them is not there.
        """
        found: dict[int, StoredPassage] = {}
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            rows = self._rows(
                "SELECT p.id, p.document_id, f.path, d.title, d.metadata, p.text, p.char_start, p.char_end, "
                "p.line_start, p.line_end, p.heading, p.page FROM passages p JOIN documents d ON d.id = p.document_id "
                f"JOIN files f ON f.id = d.file_id WHERE p.id IN ({','.join('?' * len(some))})",
                some,
            )
            for passage_id, document_id, path, title, metadata, *span in rows:
                found[passage_id] = StoredPassage(document_id, path, title, json.loads(metadata), Passage(*span))
        if missing := set(ids) - found.keys():
            raise DamagedIndexError(
                f"damaged index: {self._index / DATABASE} lacks passage {min(missing)}, which has a vector; "
                "delete the index and make it anew"
            )
        return found

    def document_ids(self, passage_ids: Sequence[int]) -> dict[int, int]:
        """The document of each passage."""
        found: dict[int, int] = {}
        for start in range(0, len(passage_ids), 500):
            some = passage_ids[start : start + 500]
            marks = ",".join("?" * len(some))
            found.update(self._rows(f"SELECT id, document_id FROM passages WHERE id IN ({marks})", some))
        return found

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with _translated(self._index):
            return self._connection.execute(statement, values).fetchall()


def _version(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return int(application), int(version)


def _check_version(index: Path, version: tuple[int, int]) -> None:
    if version[0] != _APPLICATION_ID:
        raise DamagedIndexError(f"damaged index: {index / DATABASE} is not a database that semsearch made")
    if version[1] > FORMAT_VERSION:
        raise IndexFormatError(
            f"the index at {str(index)!r} has format {version[1]}, this semsearch reads up to {FORMAT_VERSION}; "
            "upgrade semsearch, or delete the index and make it anew"
        )


def _id(cursor: sqlite3.Cursor) -> int:
    return int(cursor.lastrowid or 0)


def _record(file: FileRecord) -> tuple[int, str]:
    return file.size, file.sha256


@contextmanager
def _translated(index: Path) -> Iterator[None]:
    """SQLite's errors as semsearch's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        remedy = _REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")  # the low byte is the primary code
        raise StorageError(f"cannot use {str(index / DATABASE)!r}: {error}{remedy}") from error
    except sqlite3.DatabaseError as error:
        raise DamagedIndexError(
            f"damaged index: {index / DATABASE}: {error}; delete the index and make it anew"
        ) from error
