"""The manifest of an index: one SQLite database, whose transaction is the commit."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
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
from semsearch.store.analysis import lexical_text
from semsearch.store.files import REMEDY, FileRecord
from semsearch.store.manifest import (
    FileRow,
    Head,
    Segment,
    StoredPassage,
    head_digest,
    path_of,
    row_check,
    runs_of,
    stored_path,
)
from semsearch.store.seal import read_seal
from semsearch.types import Passage, Root, root_of

DATABASE = "index.db"
FORMAT_VERSION = 4
APPLICATION_ID = 0x53454D53  # "SEMS"
# What the disk or the folder is to blame for; any other error of SQLite tells of a damaged database.
_DISK = {
    sqlite3.SQLITE_FULL: NO_SPACE,
    sqlite3.SQLITE_READONLY: NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: NOT_WRITABLE,
    sqlite3.SQLITE_PERM: NOT_WRITABLE,
    sqlite3.SQLITE_IOERR: "",
    sqlite3.SQLITE_BUSY: "",
    sqlite3.SQLITE_LOCKED: "",
    sqlite3.SQLITE_PROTOCOL: "",
    sqlite3.SQLITE_INTERRUPT: "",
}
FILE_COLUMNS = "id, path, size, mtime_ns, seen_ns, sha256, given"
DOCUMENT_COLUMNS = "id, file_id, title, metadata, passages"
# In the order of the class.
PASSAGE_FIELDS = tuple(field.name for field in fields(Passage))
PASSAGE_COLUMNS = f"id, document_id, {', '.join(PASSAGE_FIELDS)}, content"
_SOME = 500
# Of the database, at most; SQLite's own 2 MiB hold too little of a large one from query to query.
_CACHE_KIB = 32 * 1024


class Database:
    """A connection to the manifest of one index."""

    def __init__(self, index: Path, connection: sqlite3.Connection) -> None:
        """Wrap a connection; `open_for_reading` makes one."""
        self._index = index
        self._connection = connection
        # A filter calls back into Python, with SQLite's own lock held: who waits for that lock with the interpreter's
        # would wait for ever.
        self._lock = threading.Lock()
        self._filters = False

    @classmethod
    def open_for_reading(cls, index: Path) -> Database:
        """Open a committed index; a writer beside it neither waits nor is waited for.

        What is read through it is one generation, however many are committed meanwhile.

        Raises:
            IndexNotFoundError: No index there, or none whose first build was finished.
            IndexFormatError: Written by a newer or an older semsearch.
            DamagedIndexError: The database or its seal is not what was written.
        """
        last = None
        while True:
            database = cls._snapshot(index)
            try:
                generation, seal = database.head().generation, read_seal(index)
            except BaseException:
                database.close()
                raise
            if seal.allows(generation):
                return database
            database.close()
            # Another generation may have been committed in between; then the next look finds others.
            if last == (generation, seal.generation):
                break
            last = generation, seal.generation
        raise DamagedIndexError(
            f"damaged index: {index / DATABASE} is of generation {generation}, its seal of {seal.generation}; "
            f"a part of what was committed is lost; {REMEDY}"
        )

    @classmethod
    def _snapshot(cls, index: Path) -> Database:
        path = index / DATABASE
        if not path.is_file():
            raise IndexNotFoundError(f"no index at {str(index)!r}; make one with: semsearch index FOLDER")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with translated(index):
            try:
                connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
                version = version_of(connection)
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
                version = version_of(connection)
        if version == (0, 0):
            connection.close()
            raise IndexNotFoundError(
                f"the index at {str(index)!r} was never finished; go on with: semsearch index FOLDER"
            )
        try:
            check_version(index, version)
        except BaseException:
            connection.close()
            raise
        with translated(index):
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            # One read transaction for as long as it is open.
            connection.execute("BEGIN")
        return cls(index, connection)

    def copy_to(self, target: Path) -> None:
        """Write this generation of the database to a file of its own."""
        with translated(self._index), closing(sqlite3.connect(target)) as copy:
            self._connection.backup(copy)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def head(self) -> Head:
        """What is known of this generation as a whole.

        Raises:
            DamagedIndexError: It, or the list of segments, is not what was written.
        """
        return self._head_and_segments()[0]

    def segments(self) -> list[Segment]:
        """The segments of this generation, in the order of their passages; else as `head`."""
        return self._head_and_segments()[1]

    def _head_and_segments(self) -> tuple[Head, list[Segment]]:
        heads = self._rows("SELECT content, sha256 FROM head")
        segments = [
            Segment(*(*row[:6], FileRecord(*row[6:8]), FileRecord(*row[8:]) if row[8] is not None else None))
            for row in self._rows(
                "SELECT uuid, kind, count, first_passage_id, ids, dead, size, sha256, front_size, front_sha256 "
                "FROM segments ORDER BY first_passage_id"
            )
        ]
        try:
            sound = len(heads) == 1 and head_digest(heads[0][0], segments) == heads[0][1]
        except (AttributeError, TypeError):  # what is damaged may be of any type
            sound = False
        if not sound:
            raise self.damaged("what it says of the index as a whole")
        return Head.from_json(heads[0][0]), segments

    @property
    def root(self) -> Root:
        """What the files' paths are relative to."""
        return root_of(self.head().root)

    def passages(self, ids: Sequence[int]) -> dict[int, StoredPassage]:
        """The passages of these ids.

        Raises:
            DamagedIndexError: One of them is not there or not what was written.
        """
        found: dict[int, StoredPassage] = {}
        for rows in self._joined(ids):
            for row in rows:
                file, document, passage = row[:8], row[8:14], row[14:]
                for name, one in (("file", file), ("document", document), ("passage", passage)):
                    if row_check(one[:-1]) != one[-1]:
                        raise self.damaged(f"{name} {one[0]}")
                found[passage[0]] = StoredPassage(
                    document[0],
                    FileRow.of(file[:-1]),
                    document[2],
                    # NaN and the infinities are Python's alone, and would make what is printed no JSON.
                    json.loads(document[3], parse_constant=lambda _: None),
                    Passage(*passage[2:-2]),
                )
        if missing := set(ids) - found.keys():
            raise DamagedIndexError(
                f"damaged index: {self._index / DATABASE} lacks passage {min(missing)}, which has a vector; {REMEDY}"
            )
        return found

    def _joined(self, ids: Sequence[int]) -> Iterator[list[Any]]:
        columns = ", ".join(
            f"{table}.{column}"
            for table, names in (("f", FILE_COLUMNS), ("d", DOCUMENT_COLUMNS), ("p", PASSAGE_COLUMNS))
            for column in (*names.split(", "), "row_check")
        )
        for start in range(0, len(ids), _SOME):
            some = ids[start : start + _SOME]
            yield self._rows(
                f"SELECT {columns} FROM passages p JOIN documents d ON d.id = p.document_id "
                f"JOIN files f ON f.id = d.file_id WHERE p.id IN ({','.join('?' * len(some))})",
                some,
            )

    def document_ids(self, passage_ids: Sequence[int]) -> dict[int, int]:
        """The documents of those of these passages that are there, as the passages have them, unchecked."""
        return dict(self._some("SELECT id, document_id FROM passages WHERE id IN", passage_ids))

    def passages_of(self, document_ids: Sequence[int]) -> dict[int, list[range]]:
        """The ids, ascending, of all passages of those of these documents that are there.

        Raises:
            DamagedIndexError: One of them is not what was written.
        """
        found = {}
        for row in self._some(f"SELECT {DOCUMENT_COLUMNS}, row_check FROM documents WHERE id IN", document_ids):
            if row_check(row[:-1]) != row[-1]:
                raise self.damaged(f"document {row[0]}")
            found[row[0]] = runs_of(row[4])
        return found

    def _some(self, statement: str, ids: Sequence[int]) -> Iterator[Any]:
        for start in range(0, len(ids), _SOME):
            some = ids[start : start + _SOME]
            yield from self._rows(f"{statement} ({','.join('?' * len(some))})", some)

    def neighbours(self, passage_id: int) -> list[int]:
        """The ids of the passages of a passage's document, in the order of its text; none if it is not there."""
        rows = self._rows(
            "SELECT id FROM passages WHERE document_id = (SELECT document_id FROM passages WHERE id = ?) "
            "ORDER BY char_start",
            (passage_id,),
        )
        return [row[0] for row in rows]

    def passage_at(self, path: str, line: int) -> int | None:
        """The id of the passage that a file's line is in, or else of the nearest before it; None if it has none."""
        rows = self._rows(
            "SELECT p.id FROM passages p JOIN documents d ON d.id = p.document_id JOIN files f ON f.id = d.file_id "
            "WHERE f.path = ? ORDER BY p.line_start > ?, p.line_end < ?, abs(p.line_start - ?), p.char_start LIMIT 1",
            (stored_path(path), line, line, line),
        )
        return rows[0][0] if rows else None

    def passage_ids(self, file_id: int) -> list[tuple[int, bytes]]:
        """The ids and contents of a file's passages."""
        return self._rows(
            "SELECT p.id, p.content FROM passages p JOIN documents d ON d.id = p.document_id WHERE d.file_id = ?",
            (file_id,),
        )

    def texts(self, first_id: int) -> Iterator[tuple[int, str]]:
        """The ids, from this one on, and the texts that passages are found by."""
        statement = (
            "SELECT p.id, d.title, p.heading, p.text FROM passages p JOIN documents d ON d.id = p.document_id "
            "WHERE p.id >= ? ORDER BY p.id"
        )
        for number, title, heading, text in self.rows(statement, (first_id,)):
            yield number, lexical_text(title, heading, text)

    def headings_and_texts(self) -> Iterator[tuple[str, str, str]]:
        """Of each passage its document's `_id`, as a record has it, or else its path, its heading and its text."""
        statement = (
            "SELECT f.path, d.metadata, p.heading, p.text FROM passages p JOIN documents d ON d.id = p.document_id "
            "JOIN files f ON f.id = d.file_id ORDER BY p.id"
        )
        for path, metadata, heading, text in self.rows(statement):
            yield str(json.loads(metadata).get("_id", path_of(path))), heading, text

    def matching_ids(self, condition: str) -> list[int]:
        """The ids, ascending, of the passages of the documents for which a filter holds.

        Raises:
            InvalidInputError: It is no filter.
        """
        documents, values = self.matching_documents(condition)
        statement = f"SELECT id FROM passages WHERE document_id IN ({documents}) ORDER BY id"
        return [row[0] for row in self._rows(statement, values)]

    def matching_documents(self, condition: str) -> tuple[str, list[object]]:
        """A statement that selects the ids of the documents for which a filter holds, and its values.

        Raises:
            InvalidInputError: It is no filter.
        """
        from semsearch.store.filter_syntax import parse_filter  # most queries do without
        from semsearch.store.filters import register

        where, values = parse_filter(condition).where()
        with self._lock:
            if not self._filters:
                register(self._connection)
                self._filters = True
        return f"SELECT d.id FROM documents d JOIN files f ON f.id = d.file_id WHERE {where}", values

    def document_files(self) -> Iterator[tuple[int, str, int]]:
        """Of each document its id, its path as a filter sees it, and its time, in nanoseconds since 1970."""
        return self.rows(
            "SELECT d.id, ltrim(f.path, '/'), f.mtime_ns FROM documents d JOIN files f ON f.id = d.file_id"
        )

    def paths_of(self, ids: Sequence[int]) -> dict[int, str]:
        """The paths, as a filter sees them, of these passages."""
        statement = (
            "SELECT p.id, ltrim(f.path, '/') FROM passages p JOIN documents d ON d.id = p.document_id "
            "JOIN files f ON f.id = d.file_id WHERE p.id IN"
        )
        return dict(self._some(statement, ids))

    def files(self) -> Iterator[FileRow]:
        """Every file.

        Raises:
            DamagedIndexError: One is not what was written.
        """
        for row in self.rows(f"SELECT {FILE_COLUMNS}, row_check FROM files"):
            if row_check(row[:-1]) != row[-1]:
                raise self.damaged(f"file {row[0]}")
            yield FileRow.of(row[:-1])

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with translated(self._index), self._lock:
            return self._connection.execute(statement, values).fetchall()

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Generator[Any, None, None]:
        """The rows of a query, one after the other."""
        with translated(self._index):
            with self._lock:
                cursor = self._connection.execute(statement, values)
            while True:
                with self._lock:
                    some = cursor.fetchmany(_SOME)
                if not some:
                    return
                yield from some

    def damaged(self, what: str) -> DamagedIndexError:
        """What to raise where this is not what was written."""
        return DamagedIndexError(f"damaged index: {self._index / DATABASE}: {what} is not what was written; {REMEDY}")


def version_of(connection: sqlite3.Connection) -> tuple[int, int]:
    """A database's application id and format; (0, 0) where nothing was ever committed."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return int(application), int(version)


def check_version(index: Path, version: tuple[int, int]) -> None:
    """Refuse the database of another program or of another format.

    Raises:
        IndexFormatError, DamagedIndexError: It is one.
    """
    if version[0] != APPLICATION_ID:
        raise DamagedIndexError(f"damaged index: {index / DATABASE} is not a database that semsearch made; {REMEDY}")
    if version[1] != FORMAT_VERSION:
        remedy = "upgrade semsearch, or " if version[1] > FORMAT_VERSION else ""
        raise IndexFormatError(
            f"the index at {str(index)!r} has format {version[1]}, this semsearch reads format {FORMAT_VERSION}; "
            f"{remedy}{REMEDY}"
        )


@contextmanager
def translated(index: Path) -> Iterator[None]:
    """SQLite's errors as semsearch's."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the low byte of the whole code
        if primary in _DISK:
            raise StorageError(f"cannot use {str(index / DATABASE)!r}: {error}{_DISK[primary]}") from error
        raise DamagedIndexError(f"damaged index: {index / DATABASE}: {error}; {REMEDY}") from error
    except UnicodeDecodeError as error:  # in a message of SQLite's about what it found
        raise DamagedIndexError(f"damaged index: {index / DATABASE} is not what was written; {REMEDY}") from error
