"""Damaged indexes: `verify` always tells, and a query gives an error or the true hits.

By default some of the bytes are tried; `pytest --all-points tests/test_damage.py` tries each of them.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import small_checkpoint

from semsearch import Encoder, Indexer, Searcher, SemsearchError
from semsearch.errors import StoreError
from semsearch.store.verify import verify

Hits = list[tuple[str, str, int, str]]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(str(small_checkpoint(tmp_path_factory.mktemp("model"), "bert")), precision="float32")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """An index of several segments, with rows that are gone in one of them."""
    folder = tmp_path_factory.mktemp("damage")
    notes = folder / "notes"
    notes.mkdir()
    for number in range(12):
        (notes / f"{number}.md").write_text(
            f"---\nnumber: {number}\n---\n# Well {number}\n\nIts water rose {number} feet."
        )
    indexer = Indexer(folder / "index", model=encoder)
    indexer.update(notes)
    (notes / "3.md").unlink()
    (notes / "late.md").write_text("# Late\n\nIt came late.")
    indexer.update(notes)
    assert len(list((folder / "index" / "segments").iterdir())) == 2
    return folder / "index"


@pytest.fixture
def index(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


@pytest.fixture(scope="module")
def truth(sound: Path, encoder: Encoder) -> Hits:
    found = hits(sound, encoder)
    assert len(found) == 12
    return found


def hits(index: Path, encoder: Encoder) -> Hits:
    with Searcher(index, model=encoder) as searcher:
        return [
            (hit.path, hit.title, hit.char_start, f"{hit.text} {hit.metadata} {hit.score:.5f}")
            for hit in searcher.search("water", k=20)
        ]


def files_of(index: Path) -> list[Path]:
    found = sorted(path for path in index.rglob("*") if path.is_file())
    return [path for path in found if not path.name.endswith(("-shm", "-wal"))]  # of readers, and rebuilt by them


def is_told(index: Path, encoder: Encoder, truth: Hits, what: object) -> None:
    with contextlib.suppress(StoreError):
        assert list(verify(index)), f"verify finds nothing: {what}"
    with contextlib.suppress(SemsearchError):
        assert hits(index, encoder) == truth, f"wrong hits: {what}"


def flips(size: int, stride: int) -> Iterator[tuple[int, int]]:
    """Places, and which bits of the byte there are turned around."""
    return ((place, (1 << place % 8) if place % 3 else 0xFF) for place in range(0, size, stride))


@pytest.mark.slow
def test_a_flipped_byte(index: Path, encoder: Encoder, truth: Hits, request: pytest.FixtureRequest) -> None:
    tried = 0
    for path in files_of(index):
        data = path.read_bytes()
        stride = 1 if request.config.getoption("--all-points") else 7 if len(data) < 1000 else 211
        for place, bits in flips(len(data), stride):
            with path.open("r+b") as file:
                file.seek(place)
                file.write(bytes([data[place] ^ bits]))
            is_told(index, encoder, truth, (path.name, place, bits))
            with path.open("r+b") as file:
                file.seek(place)
                file.write(data[place : place + 1])
            tried += 1
    assert tried > 500
    assert list(verify(index)) == []
    assert hits(index, encoder) == truth


def test_a_file_cut_off_removed_or_made_longer(index: Path, encoder: Encoder, truth: Hits) -> None:
    for path in files_of(index):
        data = path.read_bytes()
        cuts = {0, 1, len(data) // 2, len(data) - 1} if data else set()
        # In the lock there is a note on its holder, or on one that was killed.
        longer = [] if path.name == "write.lock" else [data + b"\0"]
        for damaged in [*(data[:cut] for cut in cuts), *longer, None]:
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            is_told(index, encoder, truth, (path.name, None if damaged is None else len(damaged)))
            path.write_bytes(data)
    assert list(verify(index)) == []


def test_a_null_where_a_value_belongs(index: Path, encoder: Encoder, truth: Hits) -> None:
    """As a flipped byte makes it, of which SQLite takes no notice; once in a row that counts, once in all."""
    path = index / "index.db"
    data = path.read_bytes()
    for table in ("head", "segments", "files", "documents", "passages"):
        with contextlib.closing(sqlite3.connect(path)) as database:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[3] and not row[5]]
        assert columns
        for column, rows in itertools.product(columns, ("rowid = (SELECT min(rowid) FROM {})", "true")):
            set_to("NULL", path, table, column, rows.format(table))
            is_told(index, encoder, truth, (table, column, rows))
            path.write_bytes(data)
    assert list(verify(index)) == []


def test_bytes_where_a_text_belongs(index: Path, encoder: Encoder, truth: Hits) -> None:
    """As a flipped bit of a value's type makes it."""
    path = index / "index.db"
    data = path.read_bytes()
    for table in ("head", "segments", "files", "documents", "passages"):
        with contextlib.closing(sqlite3.connect(path)) as database:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[2] == "TEXT" and row[3]]
        for column in columns:
            if (table, column) in (("files", "path"), ("segments", "uuid")):
                continue  # their index would have the text still, which integrity_check tells
            set_to(f"CAST({column} AS BLOB)", path, table, column, f"rowid = (SELECT min(rowid) FROM {table})")
            is_told(index, encoder, truth, (table, column))
            path.write_bytes(data)


def set_to(value: str, path: Path, table: str, column: str, rows: str) -> None:
    """Set a column to what it must not be; the schema says afterwards what it said before."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        [(schema,)] = database.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
        rewrite = "UPDATE sqlite_schema SET sql = ? WHERE name = ?"
        database.execute("PRAGMA writable_schema = ON")
        database.execute(rewrite, (schema.replace("NOT NULL", "").replace("STRICT", ""), table))
        database.execute("PRAGMA writable_schema = RESET")
        database.execute(f"UPDATE {table} SET {column} = {value} WHERE {rows}")
        database.execute("PRAGMA writable_schema = ON")
        database.execute(rewrite, (schema, table))
        kind = value.split(" AS ")[-1].rstrip(")").lower()
        assert database.execute(f"SELECT count(*) FROM {table} WHERE typeof({column}) = ?", (kind,)).fetchone() != (0,)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_swapped_files(index: Path, encoder: Encoder, truth: Hits) -> None:
    for one, other in itertools.combinations(files_of(index), 2):
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
        is_told(index, encoder, truth, (one.name, other.name))
        one.write_bytes(first)
        other.write_bytes(second)
    assert list(verify(index)) == []


def test_an_older_state_of_a_file(index: Path, encoder: Encoder, truth: Hits, tmp_path: Path) -> None:
    """A database that lost its last generation is consistent in itself, and told nevertheless."""
    before = {path: path.read_bytes() for path in files_of(index)}
    Indexer(index, model=encoder).remove("5.md")
    after = hits(index, encoder)
    assert after != truth
    for name in ("index.db", "index.seal"):
        now = (index / name).read_bytes()
        (index / name).write_bytes(before[index / name])
        with pytest.raises(StoreError):
            hits(index, encoder)
        is_told(index, encoder, after, name)
        (index / name).write_bytes(now)
    assert hits(index, encoder) == after


def test_a_writer_does_not_build_upon_damage(index: Path, encoder: Encoder) -> None:
    path = index / "index.db"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"index\.db"):
        Indexer(index, model=encoder).remove("5.md")
    assert path.read_bytes() == data
