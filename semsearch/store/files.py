"""The one way that files of an index come to disk, and leave it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from semsearch.errors import DamagedIndexError

# What a file is called until it is whole.
UNFINISHED = ".new"
REMEDY = "make the index anew with: semsearch index --rebuild FOLDER"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file must be: its size in bytes and its SHA-256."""

    size: int
    sha256: str


class HashingFile:
    """A file that is being written, and its record."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file` from now on."""
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        """Write all of the data; returns its length."""
        self._hash.update(data)
        self._size += len(data)
        return self._file.write(data)

    def record(self) -> FileRecord:
        """What was written so far."""
        return FileRecord(self._size, self._hash.hexdigest())


def write_durably(path: Path, write: Callable[[HashingFile], object]) -> FileRecord:
    """Create a file, fill it by `write`, and return once it and its name are on disk.

    Raises:
        OSError: The disk refused; nothing is left of the file.
    """
    try:
        with path.open("xb") as file:
            hashing = HashingFile(file)
            write(hashing)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return hashing.record()


def replace_durably(path: Path, content: bytes) -> None:
    """Make a file hold `content`: whoever opens it finds the old or the new, whole, whatever happens meanwhile.

    Raises:
        OSError: The disk refused; the file is as it was.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    remove(unfinished)
    write_durably(unfinished, lambda file: file.write(content))
    os.replace(unfinished, path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def record_of(path: Path) -> FileRecord:
    """What a file is now.

    Raises:
        FileNotFoundError: It is not there.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(os.fstat(file.fileno()).st_size, digest)


def check_size(path: Path, expected: FileRecord) -> None:
    """Compare a file's size with what was written.

    Raises:
        DamagedIndexError: It is another.
        FileNotFoundError: The file is not there.
    """
    size = path.stat().st_size
    if size != expected.size:
        raise DamagedIndexError(f"damaged index: {path} has {size} bytes, {expected.size} were written; {REMEDY}")


def check_front(path: Path, expected: FileRecord) -> None:
    """Compare the beginning of a file, of so many bytes, with what was written; else as `check_file`."""
    with path.open("rb") as file:
        found = hashlib.sha256(file.read(expected.size)).hexdigest()
    if found != expected.sha256:
        raise DamagedIndexError(f"damaged index: {path} does not begin with what was written; {REMEDY}")


def check_file(path: Path, expected: FileRecord) -> None:
    """Compare a file with what was written.

    Raises:
        DamagedIndexError: Its size or its SHA-256 is another.
        FileNotFoundError: It is not there.
    """
    check_size(path, expected)
    found = record_of(path)
    if found != expected:
        raise DamagedIndexError(
            f"damaged index: {path} has SHA-256 {found.sha256[:16]}..., {expected.sha256[:16]}... was written; {REMEDY}"
        )
