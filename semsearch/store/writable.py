"""The manifest as the one writer has it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from semsearch.errors import DamagedIndexError, StorageError
from semsearch.store.database import (
    APPLICATION_ID,
    DATABASE,
    DOCUMENT_COLUMNS,
    FILE_COLUMNS,
    FORMAT_VERSION,
    PASSAGE_COLUMNS,
    PASSAGE_FIELDS,
    Database,
    check_version,
    translated,
    version_of,
)
from semsearch.store.manifest import FileRow, Head, Segment, head_digest, row_check, stored_ids
from semsearch.types import Passage

# A passage id is never reused (AUTOINCREMENT), so that it never means two things to two readers. `content` is a hash of
# what was embedded; `row_check` of the other columns.
_SCHEMA = """
CREATE TABLE head (content TEXT NOT NULL, sha256 TEXT NOT NULL) STRICT;
CREATE TABLE segments (
    uuid TEXT PRIMARY KEY, kind TEXT NOT NULL, count INTEGER NOT NULL, first_passage_id INTEGER NOT NULL,
    ids BLOB, dead BLOB, size INTEGER NOT NULL, sha256 TEXT NOT NULL, front_size INTEGER, front_sha256 TEXT
) STRICT;
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    seen_ns INTEGER NOT NULL, sha256 TEXT NOT NULL, given INTEGER NOT NULL, row_check INTEGER NOT NULL
) STRICT;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL REFERENCES files, title TEXT NOT NULL, metadata TEXT NOT NULL,
    passages TEXT NOT NULL, row_check INTEGER NOT NULL
) STRICT;
CREATE INDEX documents_of_file ON documents (file_id);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document_id INTEGER NOT NULL REFERENCES documents, text TEXT NOT NULL,
    char_start INTEGER NOT NULL, char_end INTEGER NOT NULL, line_start INTEGER NOT NULL, line_end INTEGER NOT NULL,
    heading TEXT NOT NULL, page INTEGER, place TEXT NOT NULL, content BLOB NOT NULL, row_check INTEGER NOT NULL
) STRICT;
CREATE INDEX passages_of_document ON passages (document_id)
"""
# Passages that lost their document and may get another.
_RELEASED = """
CREATE TEMP TABLE released (id INTEGER PRIMARY KEY, content BLOB);
CREATE INDEX temp.released_content ON released (content)
"""


def check_schema(index: Path) -> None:
    """Refuse a database with anything else in it than what semsearch makes: a view or a trigger, say.

    Raises:
        DamagedIndexError: It has.
    """
    with translated(index), closing(sqlite3.connect(":memory:")) as plain:
        for statement in _SCHEMA.split(";"):
            plain.execute(statement)
        uri = f"{(index / DATABASE).resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as given:
            given.execute("PRAGMA trusted_schema = OFF")
            found, expected = (
                one.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
                for one in (given, plain)
            )
    if found != expected:
        raise DamagedIndexError(f"damaged index: {index / DATABASE} has other tables than an index has; do not use it")


class WritableDatabase(Database):
    """The manifest of an index, for the one writer."""

    @classmethod
    def open(cls, index: Path) -> WritableDatabase:
        """Open, or make, the manifest.

        Raises:
            IndexFormatError: Written by a newer or an older semsearch.
            DamagedIndexError: index.db is no SQLite database.
            StorageError: The disk refused.
        """
        with translated(index):
            connection = sqlite3.connect(index / DATABASE, isolation_level=None)
            try:
                version = version_of(connection)
                if version != (0, 0):
                    check_version(index, version)
                if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                    raise StorageError(
                        f"cannot use {str(index / DATABASE)!r}: it takes no write-ahead log; "
                        "choose a folder on a local disk"
                    )
                connection.execute("PRAGMA synchronous = FULL")
            except BaseException:
                connection.close()
                raise
        return cls(index, connection)

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever committed."""
        with translated(self._index):
            return version_of(self._connection) == (0, 0)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written within is committed as one, or, after any error, not at all."""
        with translated(self._index):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if self.is_new:
                    self._script(_SCHEMA)
                    self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self._connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
                self._connection.execute("DROP TABLE IF EXISTS temp.released")
                self._script(_RELEASED)
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def checkpoint(self) -> None:
        """Bring the log into the database, as far as no reader stands in the way, which is not waited for."""
        [(waits,)] = self._rows("PRAGMA busy_timeout")
        self._rows("PRAGMA busy_timeout = 0")
        self._rows("PRAGMA wal_checkpoint(TRUNCATE)")
        self._rows(f"PRAGMA busy_timeout = {waits}")

    def vacuum(self) -> None:
        """Write the database as small as it goes; what it says stays the same."""
        self._rows("VACUUM")

    def next_id(self, table: str) -> int:
        """The first id that no row of the table has; of passages, that none ever had."""
        if table == "passages":
            rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'passages'")
        else:
            rows = self._rows(f"SELECT max(id) FROM {table}")
        return int(rows[0][0] or 0) + 1 if rows else 1

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self._rows(f"SELECT count(*) FROM {table}")[0][0])

    def put_file(self, file: FileRow) -> None:
        """Add a file, or renew what is known of it."""
        values = file.values()
        self._insert("INSERT OR REPLACE INTO files", FILE_COLUMNS, [values])

    def add_document(
        self, document_id: int, file_id: int, title: str, metadata: Mapping[str, Any], passages: Iterable[int]
    ) -> None:
        """Add a document of a file, with the ids of its passages."""
        values = document_id, file_id, title, json.dumps(metadata), stored_ids(passages)
        self._insert("INSERT INTO documents", DOCUMENT_COLUMNS, [values])

    def put_passages(self, passages: Iterable[tuple[int, int, Passage, bytes]]) -> None:
        """Add passages, or give those that lost theirs a new document: each its id, its document's, its content."""
        rows = (
            (number, document, *(getattr(p, name) for name in PASSAGE_FIELDS), content)
            for number, document, p, content in passages
        )
        self._insert("INSERT OR REPLACE INTO passages", PASSAGE_COLUMNS, rows)

    def release(self, file_ids: Sequence[int], *, reusable: bool) -> None:
        """Take files out with their documents; their passages may be taken up again if they are `reusable`."""
        content = "content" if reusable else "NULL"
        for file_id in file_ids:
            self._connection.execute(
                f"INSERT INTO released SELECT id, {content} FROM passages WHERE document_id IN "
                "(SELECT id FROM documents WHERE file_id = ?)",
                (file_id,),
            )
            self._connection.execute("DELETE FROM documents WHERE file_id = ?", (file_id,))
            self._connection.execute("DELETE FROM files WHERE id = ?", (file_id,))

    def release_documents(self, condition: str) -> int:
        """Take the documents out for which a filter holds, for good; returns their number.

        Of a file that still has others, the next update reads all again.

        Raises:
            InvalidInputError: It is no filter.
        """
        documents, values = self.matching_documents(condition)
        gone = self._rows(f"SELECT id, file_id FROM documents WHERE id IN ({documents})", values)
        files = {file_id for _, file_id in gone}
        for document_id, _ in gone:
            self._connection.execute(
                "INSERT INTO released SELECT id, NULL FROM passages WHERE document_id = ?", (document_id,)
            )
            self._connection.execute("DELETE FROM documents WHERE id = ?", (document_id,))
        for row in [row for row in self.files() if row.id in files]:
            left = self._rows("SELECT 1 FROM documents WHERE file_id = ? LIMIT 1", (row.id,))
            if left:
                self.put_file(replace(row, seen_ns=0, sha256=""))
            else:
                self._connection.execute("DELETE FROM files WHERE id = ?", (row.id,))
        return len(gone)

    def take_up(self, content: bytes) -> int | None:
        """The id of a released passage with this content, which is then no longer released."""
        found = self._connection.execute("SELECT id FROM released WHERE content = ? LIMIT 1", (content,)).fetchone()
        if found is None:
            return None
        self._connection.execute("DELETE FROM released WHERE id = ?", found)
        return int(found[0])

    def remove_released(self) -> list[int]:
        """Remove the passages that nobody took up; returns their ids, ascending."""
        ids = [row[0] for row in self._rows("SELECT id FROM released ORDER BY id")]
        self._connection.execute("DELETE FROM passages WHERE id IN (SELECT id FROM released)")
        self._connection.execute("DELETE FROM released")
        return ids

    def set_head(self, head: Head, segments: Sequence[Segment]) -> None:
        """Set what is known of the generation as a whole, and its segments."""
        self._connection.execute("DELETE FROM head")
        self._connection.execute("DELETE FROM segments")
        for one in segments:
            self._connection.execute(
                "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    one.uuid,
                    one.kind,
                    one.count,
                    one.first_passage_id,
                    one.ids,
                    one.dead,
                    one.file.size,
                    one.file.sha256,
                    one.front.size if one.front else None,
                    one.front.sha256 if one.front else None,
                ),
            )
        content = head.to_json()
        self._connection.execute("INSERT INTO head VALUES (?, ?)", (content, head_digest(content, segments)))

    def _insert(self, statement: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
        marks = ", ".join("?" * (columns.count(",") + 2))
        checked = ((*row, row_check(row)) for row in rows)
        self._connection.executemany(f"{statement} ({columns}, row_check) VALUES ({marks})", checked)

    def _script(self, statements: str) -> None:
        for statement in statements.split(";"):
            self._connection.execute(statement)
