"""An index as one file, and back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from semsearch.errors import DamagedIndexError, IndexConflictError, InvalidInputError, StorageError
from semsearch.store.analysis import check_language
from semsearch.store.ann import Vectors, check_factory, stored_vectors
from semsearch.store.catalog import LOCK
from semsearch.store.database import DATABASE, Database
from semsearch.store.files import UNFINISHED, HashingFile, check_file, remove, sync_folder, write_durably
from semsearch.store.lexical_writer import write_lexical
from semsearch.store.manifest import Segment
from semsearch.store.seal import SEAL, Seal, sealed_files, write_seal
from semsearch.store.segments import BLOCK_ROWS, all_ids, segment_path, write_segment
from semsearch.store.shards import is_in_shards
from semsearch.store.verify import verify
from semsearch.store.writable import check_schema
from semsearch.store.writer import open_writer

# All that a file may hold; whatever else stands in it is a reason to refuse the whole.
_NAMES = re.compile(rf"{re.escape(DATABASE)}|{re.escape(SEAL)}|segments/[0-9a-f]{{32}}\.faiss")
_BLOCK = 2**20


def export_index(index: Path, target: Path) -> None:
    """Write a generation of an index to a tar file; writers and readers go on meanwhile.

    Raises:
        InvalidInputError: The file is there already, or the index is in shards.
        StoreError: The index cannot be read, or the disk refused.
    """
    if target.exists():
        raise InvalidInputError(f"{str(target)!r} is there already; choose another name or remove it")
    if is_in_shards(index):
        raise InvalidInputError(f"the index {index.name!r} is in shards, and is no single file; copy {str(index)!r}")
    unfinished = target.with_name(target.name + UNFINISHED)
    database = Database.open_for_reading(index)
    try:
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".semsearch-") as name:
            copy = Path(name)
            database.copy_to(copy / DATABASE)
            write_seal(copy, Seal(database.head().generation, sealed_files(copy, DATABASE)))
            paths = [segment_path(index, segment.uuid) for segment in database.segments()]
            with tarfile.open(unfinished, "w") as archive:
                for path in (copy / SEAL, copy / DATABASE):
                    archive.add(path, path.name, filter=_anonymous)
                for path in paths:
                    archive.add(path, f"segments/{path.name}", filter=_anonymous)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, target)
        sync_folder(target.absolute().parent)
    except FileNotFoundError as error:
        raise DamagedIndexError(f"damaged index: {error.filename} is missing; see: semsearch verify") from error
    except OSError as error:
        raise StorageError.of(f"cannot write {str(target)!r}", error) from error
    finally:
        database.close()
        with contextlib.suppress(OSError):
            remove(unfinished)


def import_index(source: Path, index: Path) -> None:
    """Make an index of an exported file, which may come from anyone: it is checked whole before it is an index.

    Raises:
        IndexConflictError: There is an index of that name.
        InvalidInputError: The file is no exported index, or holds what does not belong there.
        DamagedIndexError: What it holds is not what was written.
        StorageError: The disk refused.
    """
    if index.exists():
        raise IndexConflictError(
            f"{str(index)!r} is there already; choose another name with --name, or delete it first"
        )
    unfinished = index.with_name(f".{index.name}{UNFINISHED}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "segments").mkdir(parents=True)
        try:
            _extract(source, unfinished)
            check_schema(unfinished)
            _build_anew(unfinished)
            if problem := next(verify(unfinished), None):
                raise DamagedIndexError(f"{str(source)!r} holds a damaged index: {problem}")
            for name in (f"{DATABASE}-wal", f"{DATABASE}-shm"):  # of having been read
                remove(unfinished / name)
            sync_folder(unfinished)
            os.rename(unfinished, index)
            sync_folder(index.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise StorageError.of(f"cannot make {str(index)!r} of {str(source)!r}", error) from error


def _build_anew(index: Path) -> None:
    """Make the lexical index of the passages, and approximate segments anew of their vectors.

    Of a stranger's FAISS would take more apart than can be checked, and tantivy, too.

    Raises:
        DamagedIndexError: A segment is not what was written.
    """
    with open_writer(index) as writer:
        head, database = writer.head, writer.database
        if not head or not head.lexical:
            raise DamagedIndexError(f"damaged index: {index / DATABASE} says nothing of a lexical index")
        dim = int(json.loads(head.fingerprint)["dim"])
        with writer.transaction():
            made = [
                segment if segment.front is None else _made_anew(index, segment, dim) for segment in database.segments()
            ]
            language = check_language(head.lexical.language)
            lexical = write_lexical(index, None, language, removed=(), texts=database.texts, first_new=1)
            database.set_head(replace(head, generation=writer.generation + 1, lexical=lexical), made)
        writer.sweep(keep_parts=False)


def _made_anew(index: Path, segment: Segment, dim: int) -> Segment:
    path = segment_path(index, segment.uuid)
    try:
        check_file(path, segment.file)
        check_factory(segment.kind, dim)
        vectors = stored_vectors(np.memmap(path, np.uint8, "r"), segment.count, dim)
    except (FileNotFoundError, ValueError) as error:
        raise DamagedIndexError(f"damaged index: {path}: {error}") from None

    def blocks() -> Iterator[Vectors]:
        for start in range(0, segment.count, BLOCK_ROWS):
            yield vectors[start : start + BLOCK_ROWS].astype(np.float32)

    made = write_segment(index, blocks, all_ids(segment), dim, index_type=segment.kind)
    return replace(made, dead=segment.dead)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what is of no use elsewhere: owner, rights, time."""
    plain = tarfile.TarInfo(member.name)
    plain.size, plain.mode = member.size, 0o644
    return plain


def _extract(source: Path, folder: Path) -> None:
    seen: set[str] = set()
    try:
        # Read from front to end: no offset in the file leads elsewhere.
        with tarfile.open(source, "r|") as archive:
            for member in archive:
                if member.type != tarfile.REGTYPE or member.sparse or not _NAMES.fullmatch(member.name):
                    raise InvalidInputError(f"{str(source)!r} is no exported index: it holds {member.name!r:.200}")
                if member.name in seen:
                    raise InvalidInputError(f"{str(source)!r} is no exported index: it holds {member.name!r} twice")
                seen.add(member.name)
                content = archive.extractfile(member)
                if content:
                    write_durably(folder / member.name, _copier(content))
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInputError(f"{str(source)!r} is no exported index, or not whole: {error}") from None
    if not {DATABASE, SEAL} <= seen:
        raise InvalidInputError(f"{str(source)!r} is no exported index: it lacks {DATABASE} or {SEAL}")
    (folder / LOCK).touch()


def _copier(content: IO[bytes]) -> Callable[[HashingFile], None]:
    def copy(file: HashingFile) -> None:
        while block := content.read(_BLOCK):
            file.write(block)

    return copy
