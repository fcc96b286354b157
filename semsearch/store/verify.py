"""Everything that can be checked of an index without its model."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import pairwise, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semsearch.errors import DamagedIndexError, IndexNotFoundError
from semsearch.store.catalog import LEXICAL, LOCK
from semsearch.store.database import DATABASE, DOCUMENT_COLUMNS, FILE_COLUMNS, PASSAGE_COLUMNS, Database
from semsearch.store.files import FileRecord, check_file
from semsearch.store.lexical import LexicalReader
from semsearch.store.manifest import Head, Segment, row_check, runs_of
from semsearch.store.rest import REST
from semsearch.store.seal import read_seal, sealed_files
from semsearch.store.segments import BLOCK_ROWS, SegmentReader, all_ids, live_ids
from semsearch.store.shards import is_in_shards, read_shards, shard_path

# The length of a vector of 16-bit numbers differs from 1 by less.
_NORM_TOLERANCE = 1e-3
_TABLES = {"files": FILE_COLUMNS, "documents": DOCUMENT_COLUMNS, "passages": PASSAGE_COLUMNS}
_BELONGING = "SELECT document_id, id FROM passages ORDER BY document_id, id"
_ORPHANS = {
    "documents": "SELECT id FROM documents WHERE file_id NOT IN (SELECT id FROM files)",
    "passages": "SELECT id FROM passages WHERE document_id NOT IN (SELECT id FROM documents)",
}


def verify(index: Path) -> Iterator[str]:
    """Check files against their hashes, the database against itself, passages, vectors and words against each other.

    Args:
        index: The index folder.

    Yields:
        What is wrong, a line each; nothing for a sound index.

    Raises:
        IndexNotFoundError, IndexFormatError: There is no index that could be checked.
        DamagedIndexError: So much is wrong that nothing more can be told.
        StorageError: It cannot be read.
    """
    if is_in_shards(index):
        yield from _shard_problems(index)
        return
    database = Database.open_for_reading(index)
    try:
        yield from _seal_problems(index, database.head())
        yield from _database_problems(database)
        yield from _segment_problems(index, database)
        yield from _lexical_problems(index, database)
    finally:
        database.close()
    if not (index / LOCK).exists():
        yield f"{index / LOCK} is missing; the next update makes it again"


def _shard_problems(index: Path) -> Iterator[str]:
    for shard in read_shards(index).shards:
        if not shard.generation:
            continue
        folder = shard_path(index, shard.name)
        try:
            yield from verify(folder)
            with Database.open_for_reading(folder) as database:
                generation = database.head().generation
            if generation < shard.generation:
                yield f"{folder} is of generation {generation}, {shard.generation} was committed"
            if rest := shard.rest:
                for name, record in rest.files.items():
                    check_file(folder / REST / rest.uuid / name, record)
        except (DamagedIndexError, IndexNotFoundError) as error:
            yield str(error)
        except FileNotFoundError as error:
            yield f"{error.filename} is missing"


def _seal_problems(index: Path, head: Head) -> Iterator[str]:
    while True:
        seal = read_seal(index)
        # While a writer is at work, or where one was stopped, the files may be between two generations.
        sealed = seal.files if seal.generation == head.generation else None
        found = _found(index) if sealed else {}
        if read_seal(index) == seal:  # else a writer came in between
            break
    for name in sorted((sealed or {}).keys() | found.keys()):
        if sealed and sealed.get(name) != found.get(name):
            yield f"{index / name} is not what was written"


def _found(index: Path) -> dict[str, FileRecord]:
    try:
        return sealed_files(index, DATABASE)
    except FileNotFoundError:
        return {}


def _database_problems(database: Database) -> Iterator[str]:
    for (line,) in database.rows("PRAGMA integrity_check"):
        if line != "ok":
            yield f"{DATABASE}: {line}"
    head = database.head()
    for table, columns in _TABLES.items():
        count = 0
        for row in database.rows(f"SELECT {columns}, row_check FROM {table} ORDER BY id"):
            count += 1
            if row_check(row[:-1]) != row[-1]:
                yield f"{DATABASE}: {table}: row {row[0]} is not what was written"
        expected = getattr(head, table)
        if count != expected:
            yield f"{DATABASE}: there are {count} {table}, {expected} were written"
    with closing(_listed(database)) as listed, closing(database.rows(_BELONGING)) as stored:
        agree = all(one == other for one, other in zip_longest(listed, stored))
    if not agree:
        yield f"{DATABASE}: documents and passages do not agree on which belong together"
    for table, statement in _ORPHANS.items():
        for (number,) in database.rows(statement):
            yield f"{DATABASE}: {table}: row {number} belongs to nothing"


def _listed(database: Database) -> Generator[tuple[int, int] | None, None, None]:
    """Documents with each of their passages, by what the documents say; None for one that says nothing sound."""
    for document, stored in database.rows("SELECT id, passages FROM documents ORDER BY id"):
        try:
            # One after the other, as a stranger may have written anything.
            yield from ((document, number) for run in runs_of(stored) for number in run)
        except (ValueError, TypeError, AttributeError):
            yield None


def _segment_problems(index: Path, database: Database) -> Iterator[str]:
    segments, dim = database.segments(), int(json.loads(database.head().fingerprint)["dim"])
    live: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for segment in segments:
        if problem := _id_problem(segment):
            yield f"segment {segment.uuid}: {problem}"
            continue
        try:
            reader = SegmentReader(index, segment, dim, whole=True)
        except DamagedIndexError as error:
            yield str(error)
            continue
        except FileNotFoundError as error:
            yield f"{error.filename} is missing"
            continue
        live.append(live_ids(segment))
        for start in range(0, segment.count, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, segment.count))
            norms = np.linalg.norm(reader.vectors(rows), axis=1)
            for row in rows[~(np.abs(norms - 1) < _NORM_TOLERANCE)]:
                yield f"segment {segment.uuid}: vector {row} has length {norms[row - start]:.4f} instead of 1"
    for one, other in pairwise(segments):
        if one.last_passage_id >= other.first_passage_id:
            yield f"segments {one.uuid} and {other.uuid} have passages in common"
    with_vectors = np.concatenate(live)
    passages = np.fromiter((row[0] for row in database.rows("SELECT id FROM passages ORDER BY id")), np.int64)
    if lacking := len(np.setdiff1d(passages, with_vectors)):
        yield f"{lacking} passages have no vector"
    if lacking := len(np.setdiff1d(with_vectors, passages)):
        yield f"{lacking} vectors have no passage"


def _lexical_problems(index: Path, database: Database) -> Iterator[str]:
    lexical = database.head().lexical
    if lexical is None:
        yield "there is no lexical index"
        return
    for path in sorted((index / LEXICAL / lexical.uuid).glob("*")):
        if path.name not in lexical.files:
            yield f"{path} does not belong there"
    try:
        found = LexicalReader(index, lexical, whole=True).all_ids()
    except DamagedIndexError as error:
        yield str(error)
        return
    except FileNotFoundError as error:
        yield f"{error.filename} is missing"
        return
    passages = np.fromiter((row[0] for row in database.rows("SELECT id FROM passages ORDER BY id")), np.int64)
    if lacking := len(np.setdiff1d(passages, found)):
        yield f"{lacking} passages are not in the lexical index"
    if lacking := len(np.setdiff1d(found, passages)):
        yield f"{lacking} passages are in the lexical index alone"


def _id_problem(segment: Segment) -> str:
    if segment.count < 1 or (segment.ids is not None and len(segment.ids) != 4 * segment.count):
        return "its vectors have no ids"
    if segment.dead is not None and len(segment.dead) != (segment.count + 7) // 8:
        return "what is gone of it is not known"
    if (np.diff(all_ids(segment)) < 1).any():
        return "its ids do not ascend"
    return ""
