"""The indexes of a folder: find, describe, lock, sweep, delete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semsearch.errors import (
    AmbiguousIndexError,
    IndexLockedError,
    IndexNotFoundError,
    InvalidInputError,
    StorageError,
    StoreError,
)
from semsearch.store.database import DATABASE, Database

LOCK = "write.lock"


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What `list` and `info` show; `error` is None, or what is wrong and the rest unknown."""

    name: str
    path: str
    model: str = ""
    dim: int = 0
    precision: str = ""
    files: int = 0
    documents: int = 0
    passages: int = 0
    segments: int = 0
    bytes: int = 0
    source: str = ""
    built: str = ""
    error: str | None = None


def check_name(name: str) -> str:
    """The name, if it can be that of an index.

    Raises:
        InvalidInputError: It is empty, hidden, or not the name of one folder.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise InvalidInputError(
            f"{name!r} cannot be the name of an index: give one folder's name that does not start with a dot"
        )
    return name


def index_names(indexes: Path) -> list[str]:
    """The names of the indexes in a folder, sorted; none if the folder is not there."""
    return sorted(path.parent.name for path in indexes.glob(f"*/{DATABASE}"))


def find_index(indexes: Path, name: str | None) -> Path:
    """The folder of the named index, or of the only one there is.

    Raises:
        IndexNotFoundError: No index, or none of that name.
        AmbiguousIndexError: Several, and none was named.
    """
    names = index_names(indexes)
    if name is not None:
        if check_name(name) in names:
            return indexes / name
        known = f"there are: {', '.join(names)}" if names else "there are none"
        raise IndexNotFoundError(f"no index {name!r} in {str(indexes)!r}; {known}")
    if not names:
        raise IndexNotFoundError(f"no index in {str(indexes)!r}; make one with: semsearch index FOLDER")
    if len(names) > 1:
        raise AmbiguousIndexError(f"several indexes in {str(indexes)!r}: {', '.join(names)}; choose one with -i NAME")
    return indexes / names[0]


def describe(index: Path) -> IndexInfo:
    """What an index says of itself, without opening its vectors.

    Raises:
        StoreError: It cannot be read.
    """
    database = Database.open_for_reading(index)
    try:
        meta = database.meta()
        fingerprint = json.loads(meta["fingerprint"])
        return IndexInfo(
            index.name,
            str(index),
            fingerprint["model"],
            fingerprint["dim"],
            meta.get("precision", "float32"),
            database.count("files"),
            database.count("documents"),
            database.count("passages"),
            len(database.segments()),
            sum(path.stat().st_size for path in index.rglob("*") if path.is_file()),
            meta["root"],
            meta["built"],
        )
    finally:
        database.close()


def describe_all(indexes: Path) -> list[IndexInfo]:
    """Every index of a folder; one that cannot be read is there with its error."""
    described = []
    for name in index_names(indexes):
        try:
            described.append(describe(indexes / name))
        except StoreError as error:
            described.append(IndexInfo(name, str(indexes / name), error=str(error)))
    return described


@contextmanager
def write_lock(index: Path) -> Iterator[None]:
    """Be the one writer of an index.

    Raises:
        IndexLockedError: Another process is.
    """
    from filelock import FileLock, Timeout  # readers do without

    lock = FileLock(index / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise IndexLockedError(
            f"another process is writing the index at {str(index)!r}; wait until it has finished"
        ) from None
    try:
        yield
    finally:
        lock.release()


def sweep(index: Path, database: Database) -> None:
    """Remove the segment files that no row names: what a crash or an older generation left."""
    named = {segment.uuid for segment in database.segments()}
    for path in (index / "segments").glob("*.faiss"):
        if path.stem not in named:
            path.unlink(missing_ok=True)


def delete(index: Path) -> None:
    """Delete an index and all its files.

    Raises:
        IndexLockedError: Another process is writing it.
        StorageError: The disk refused.
    """
    try:
        with write_lock(index):
            # Without its manifest it is no index any more, however the rest goes.
            os.unlink(index / DATABASE)
            shutil.rmtree(index)
    except OSError as error:
        raise StorageError.of(f"cannot delete {str(index)!r}", error) from error
