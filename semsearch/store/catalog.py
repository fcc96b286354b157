"""The indexes of a folder: find, describe, lock, sweep, delete."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semsearch.errors import (
    AmbiguousIndexError,
    IndexLockedError,
    IndexNotFoundError,
    InvalidInputError,
    StorageError,
    StoreError,
)
from semsearch.store.database import DATABASE, Database
from semsearch.store.files import UNFINISHED, remove
from semsearch.store.manifest import Lexical, Segment
from semsearch.store.seal import SEAL
from semsearch.store.shards import SHARDS, Shards, folders_of, is_in_shards, read_shards

LOCK = "write.lock"
# A folder that is to be locked may be removed, as often, by another writer that had nothing to leave in it.
_TRIES = 100
# The folder of lexical indexes, each in one of its own.
LEXICAL = "lexical"
# What stands beside a segment of an unfinished build; see `store.parts`.
PART = ".part"


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What `list` and `info` show; `error` is None, or what is wrong and the rest unknown."""

    name: str
    path: str
    model: str = ""
    dim: int = 0
    precision: str = ""
    generation: int = 0
    files: int = 0
    documents: int = 0
    passages: int = 0
    segments: int = 0
    bytes: int = 0
    source: str = ""
    built: str = ""
    shards: int = 0
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
    return sorted({path.parent.name for manifest in (DATABASE, SHARDS) for path in indexes.glob(f"[!.]*/{manifest}")})


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
    if is_in_shards(index):
        return describe_shards(index, read_shards(index), [describe(folder) for folder in folders_of(index)])
    database = Database.open_for_reading(index)
    try:
        head, segments = database.head(), database.segments()
    finally:
        database.close()
    fingerprint = json.loads(head.fingerprint)
    return IndexInfo(
        index.name,
        str(index),
        fingerprint["model"],
        fingerprint["dim"],
        head.precision,
        head.generation,
        head.files,
        head.documents,
        head.passages,
        len(segments),
        _bytes(index),
        head.root,
        head.built,
    )


def describe_shards(index: Path, shards: Shards, each: Sequence[IndexInfo]) -> IndexInfo:
    """What an index in shards says of itself.

    Args:
        index: Its folder.
        shards: Its manifest.
        each: What its shards that have files, one at least, say of themselves.
    """
    return IndexInfo(
        index.name,
        str(index),
        each[0].model,
        each[0].dim,
        ", ".join(sorted({one.precision for one in each})),
        shards.generation,
        sum(one.files for one in each),
        sum(one.documents for one in each),
        sum(one.passages for one in each),
        sum(one.segments for one in each),
        sum(one.bytes for one in each),
        shards.root,
        max(one.built for one in each),
        len(shards.shards),
    )


def _bytes(index: Path) -> int:
    """What the index takes of the disk, whatever a writer removes meanwhile."""
    total = 0
    for folder, _, names in os.walk(index):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


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
    """Be the one writer of an index, whose folder is made if it is not there.

    Raises:
        IndexLockedError: Another process is.
        OSError: The disk refused.
    """
    path = index / LOCK
    lock = _locked(path)
    try:
        # For whoever comes meanwhile; what a killed writer left here says nothing, as the lock itself went with it.
        with suppress(OSError):
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            os.truncate(path, 0)
        lock.release()


def _locked(path: Path) -> Any:
    from filelock import FileLock, Timeout  # readers do without

    lock = FileLock(path, timeout=0)
    for tries_left in reversed(range(_TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            break
        except (FileNotFoundError, FileExistsError):
            if not tries_left:
                raise
        except Timeout:
            holder = ""
            with suppress(OSError):
                holder = path.read_text(encoding="utf-8", errors="replace").strip()
            raise IndexLockedError(
                f"{holder or 'another process'} is writing the index at {str(path.parent)!r}; wait until it has "
                "finished"
            ) from None
    return lock


def sweep(index: Path, segments: Iterable[Segment], lexical: Lexical | None, *, keep_parts: bool) -> None:
    """Remove the files that a crash or an older generation left.

    Args:
        index: The index folder.
        segments: Those of the generation that is there.
        lexical: That of the generation that is there, if there is one.
        keep_parts: Whether what an unfinished build has embedded stays.
    """
    named = {segment.uuid for segment in segments}
    folder = index / "segments"
    kept = {path.stem for path in folder.glob(f"*{PART}")} if keep_parts else set()
    for path in folder.iterdir():
        sound = path.suffix in (".faiss", PART) and path.stem in kept - named
        if not sound and not (path.suffix == ".faiss" and path.stem in named):
            remove(path)
    for path in (index / LEXICAL).glob("*"):
        if not lexical or path.name != lexical.uuid:
            shutil.rmtree(path)
    remove(index / f"{SEAL}{UNFINISHED}")


def delete(index: Path) -> None:
    """Delete an index and all its files.

    Raises:
        IndexLockedError: Another process is writing it.
        StorageError: The disk refused.
    """
    try:
        with write_lock(index):
            # Without its manifest it is no index any more, however the rest goes.
            os.unlink(index / (SHARDS if is_in_shards(index) else DATABASE))
            shutil.rmtree(index)
    except OSError as error:
        raise StorageError.of(f"cannot delete {str(index)!r}", error) from error
