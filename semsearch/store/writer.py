"""The write side of an index: its lock, its manifest, its seal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from semsearch.errors import DamagedIndexError, IndexFormatError, StorageError, StoreError
from semsearch.store.catalog import LEXICAL, LOCK, sweep, write_lock
from semsearch.store.database import DATABASE
from semsearch.store.files import REMEDY, check_file, remove, sync_folder
from semsearch.store.manifest import Head
from semsearch.store.seal import SEAL, Seal, read_seal, sealed_files, write_seal
from semsearch.store.writable import WritableDatabase

logger = logging.getLogger(__name__)

_MANIFEST = (f"{DATABASE}-wal", f"{DATABASE}-shm", DATABASE, SEAL)


class Writer:
    """The one writer of an index.

    Attributes:
        database: The manifest.
        generation: What was committed last; 0 if nothing was.
    """

    def __init__(self, index: Path, database: WritableDatabase, generation: int, seal: Seal) -> None:
        """Wrap what `open_writer` opened."""
        self.database = database
        self.generation = generation
        self._index = index
        self._seal = seal

    @property
    def head(self) -> Head | None:
        """What is known of the generation that was committed last; None if none was."""
        return self.database.head() if self.generation else None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written to the manifest within is committed as the next generation, or, after any error, not at all.

        Raises:
            StorageError: The disk refused.
        """
        at_work = Seal(self.generation + 1, None)
        if self._seal != at_work:
            write_seal(self._index, at_work)
            self._seal = at_work
        with self.database.transaction():
            yield
        self.generation += 1
        self.database.checkpoint()

    def sweep(self, *, keep_parts: bool) -> None:
        """Remove the files that do not belong to the generation that was committed last; as of `catalog.sweep`."""
        head = self.head
        segments = self.database.segments() if head else []
        sweep(self._index, segments, head.lexical if head else None, keep_parts=keep_parts)

    def shrink(self) -> None:
        """Give back to the disk what removed rows have left free in the manifest, if there is room to do it."""
        with suppress(StorageError):
            self.database.vacuum()
            self.database.checkpoint()

    def close(self) -> None:
        """Close the manifest, and seal what is there."""
        # As the last one to close it, SQLite may still bring its log into the database: the seal comes after.
        self.database.close()
        if self._seal.files is None and self.generation:
            write_seal(self._index, Seal(self.generation, sealed_files(self._index, DATABASE)))


@contextmanager
def open_writer(index: Path, *, afresh: bool = False) -> Iterator[Writer]:
    """Be the one writer of an index, which is made if it is not there.

    An index to which nothing was ever committed is removed after an error, unless what it has embedded can be used.

    Args:
        index: The index folder.
        afresh: Whether a manifest that cannot be used makes way for a new one.

    Raises:
        IndexLockedError: Another process is writing it.
        IndexFormatError: Written by a newer or an older semsearch.
        DamagedIndexError: The manifest or its seal is not what was written.
        StorageError: The disk refused.
    """
    try:
        with write_lock(index), _leaving_nothing_empty(index):
            (index / "segments").mkdir(exist_ok=True)
            sync_folder(index)
            writer = _open_or_start_over(index, afresh=afresh)
            try:
                writer.sweep(keep_parts=True)
                yield writer
            except BaseException:
                with suppress(OSError, StoreError):  # the first error counts
                    _leave(index, writer)
                raise
            writer.close()
    except OSError as error:
        raise StorageError.of(f"cannot write {str(index)!r}", error) from error


@contextmanager
def _leaving_nothing_empty(index: Path) -> Iterator[None]:
    """Remove the folder of an index that has no manifest and no files at the end; its lock is held until then."""
    try:
        yield
    finally:
        if not (index / DATABASE).exists():
            with suppress(OSError):  # it is not empty, and stays
                for folder in (index / LEXICAL, index / "segments"):
                    if folder.exists():
                        folder.rmdir()
                if [path.name for path in index.iterdir()] == [LOCK]:
                    remove(index / LOCK)
                    index.rmdir()


def _leave(index: Path, writer: Writer) -> None:
    """Leave the index as it was committed last, and what the next writer can use."""
    # An interrupt that came while SQLite was committing is raised when that is done.
    writer.generation = _generation(writer.database)
    writer.sweep(keep_parts=True)
    writer.close()
    if not writer.generation and not any((index / "segments").iterdir()):
        for name in _MANIFEST:
            remove(index / name)


def _open_or_start_over(index: Path, *, afresh: bool) -> Writer:
    try:
        return _open(index)
    except (DamagedIndexError, IndexFormatError) as error:
        if not afresh:
            raise
        logger.info("starting over: %s", error)
        for name in _MANIFEST:
            remove(index / name)
        sync_folder(index)
        return _open(index)


def _open(index: Path) -> Writer:
    path, log = index / DATABASE, index / f"{DATABASE}-wal"
    if (index / SEAL).exists() or path.exists():
        seal = read_seal(index)
    else:
        seal = Seal(1, None)
        write_seal(index, seal)
    for name, record in (seal.files or {}).items():
        # Lest a damaged manifest be built upon and sealed again.
        try:
            check_file(index / name, record)
        except FileNotFoundError:
            raise DamagedIndexError(f"damaged index: {index / name} is missing; {REMEDY}") from None
    if seal.files is not None and log.exists() and log.stat().st_size:
        # Opening the database may bring its log into it.
        seal = Seal(seal.generation + 1, None)
        write_seal(index, seal)
    database = WritableDatabase.open(index)
    try:
        generation = _generation(database)
        if not seal.allows(generation):
            raise DamagedIndexError(
                f"damaged index: {path} is of generation {generation}, its seal of {seal.generation}; {REMEDY}"
            )
    except BaseException:
        database.close()
        raise
    return Writer(index, database, generation, seal)


def _generation(database: WritableDatabase) -> int:
    return 0 if database.is_new else database.head().generation
