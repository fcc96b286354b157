"""The one way that files of an index come to disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from semsearch.errors import DamagedIndexError


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file must be: its size in bytes and its SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's row in the manifest. Its vector i is passage `first_passage_id + i`."""

    uuid: str
    kind: str
    count: int
    first_passage_id: int
    file: FileRecord


class _HashingFile:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._size += len(data)
        return self._file.write(data)

    def record(self) -> FileRecord:
        return FileRecord(self._size, self._hash.hexdigest())


def write_durably(path: Path, write: Callable[[_HashingFile], None]) -> FileRecord:
    """Create a file, fill it by `write`, and return once it and its name are on disk.

    Raises:
        OSError: The disk refused; nothing is left of the file.
    """
    try:
        with path.open("xb") as file:
            hashing = _HashingFile(file)
            write(hashing)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return hashing.record()


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_file(path: Path, expected: FileRecord) -> None:
    """Compare a file with what was written.

    Raises:
        DamagedIndexError: Its size or its SHA-256 is another.
        FileNotFoundError: It is not there.
    """
    size = path.stat().st_size
    if size != expected.size:
        raise DamagedIndexError(
            f"damaged index: {path} has {size} bytes, {expected.size} were written; delete the index and make it anew"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected.sha256:
        raise DamagedIndexError(
            f"damaged index: {path} has SHA-256 {digest[:16]}..., {expected.sha256[:16]}... was written; "
            "delete the index and make it anew"
        )
