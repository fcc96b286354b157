"""How an index is opened, and followed as it changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from semsearch.query.collection import Collection
from semsearch.query.sharded import ShardedSnapshot
from semsearch.query.snapshot import Snapshot
from semsearch.store.database import DATABASE, Database
from semsearch.store.seal import SEAL
from semsearch.store.shards import SHARDS, folders_of, is_in_shards, read_shards

# Files of an index whose times tell that something was written.
_SIGNS = (SEAL, DATABASE, f"{DATABASE}-wal")


class Opening(Protocol):
    """An index that can be opened; `name` is its name."""

    @property
    def name(self) -> str:
        """Of the index."""

    def signs(self) -> object:
        """Something that differs from what it was whenever there may be a newer generation; quick to get."""

    def open(self) -> Collection:
        """The last generation that was committed.

        Raises:
            IndexNotFoundError: No index there.
            DamagedIndexError, IndexFormatError: It cannot be read.
        """

    def newer(self, than: Collection) -> Collection | None:
        """As `open`, if there is another generation than this."""


class FolderOpening:
    """An index in a folder of this machine; as of `Opening`."""

    def __init__(self, index: Path) -> None:
        """Take note of the folder."""
        self._index = index
        self._files = _files_of(index)

    @property
    def name(self) -> str:
        """As of `Opening`."""
        return self._index.name

    def signs(self) -> object:
        """As of `Opening`."""
        signs: list[object] = []
        for path in self._files:
            try:
                status = os.stat(path)
                signs.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                signs.append(None)
        return signs

    def open(self) -> Collection:
        """As of `Opening`."""
        return open_index(self._index)

    def newer(self, than: Collection) -> Collection | None:
        """As of `Opening`."""
        self._files = _files_of(self._index)
        return None if _generation_of(self._index) == than.generation else self.open()


def open_index(index: Path) -> Snapshot | ShardedSnapshot:
    """The last generation of an index, in shards or not.

    Raises:
        IndexNotFoundError: No index there.
        DamagedIndexError, IndexFormatError: It cannot be read.
    """
    return ShardedSnapshot.open(index) if is_in_shards(index) else Snapshot(index)


def _generation_of(index: Path) -> int:
    """The generation that `open_index` would open now; else as that."""
    own = read_shards(index).generation if is_in_shards(index) else 0
    for folder in folders_of(index):
        with Database.open_for_reading(folder) as database:
            own += database.head().generation
    return own


def _files_of(index: Path) -> list[Path]:
    """Those whose times tell that something was committed."""
    folders = folders_of(index)
    return [index / SHARDS, *(folder / name for folder in folders for name in _SIGNS)]
