"""Keep an index as its folders and files are, as long as it is wanted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import watchfiles

from semsearch.corpus.walk import SourceFile, Walk
from semsearch.errors import IndexLockedError, NothingToIndexError, SemsearchError, SourceNotFoundError, StorageError
from semsearch.indexer.indexer import Indexer
from semsearch.indexer.report import IndexSummary, Progress
from semsearch.indexer.sharded import ShardedIndexer

# Changes are waited for until there were none for so long, but not longer than that.
_QUIET_SECONDS, _PATIENCE_SECONDS = 0.5, 3.0
# How often what was there when watching began, or another writer, is looked for.
_LOOK_SECONDS = 1.0
# After a look that found nothing so many times its time is none taken: changes of what is left out cost little.
_REST = 9


def watch(
    indexer: Indexer | ShardedIndexer,
    sources: Sequence[str | os.PathLike[str]],
    stop: threading.Event,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[IndexSummary | SemsearchError]:
    """Update an index, and update it again whenever its sources have changed.

    Changes are taken together until half a second passes without any, three seconds at most. What changes while an
    update goes on is taken up by another one. Another writer is waited for, and so is a source that is gone.

    Args:
        indexer: That of the index.
        sources: Folders and files, as of `Indexer.update`.
        stop: Ends it. An update under way is broken off; the next one goes on where it was.
        progress: As of `Indexer.update`.

    Yields:
        What the first update did, and each further one that changed something; or the error of one that failed, once
        for as long as it stays the same, and then the first that went well. The index is then as it was before.

    Raises:
        SemsearchError: The first update failed, not because there is nothing to index yet, or somebody else is writing;
            or the system cannot watch the sources.
    """
    yield from _Watch(indexer, sources, stop, progress).run()


class _StoppedError(Exception):
    """An update is to be broken off."""


class _Watch:
    def __init__(
        self,
        indexer: Indexer | ShardedIndexer,
        sources: Sequence[str | os.PathLike[str]],
        stop: threading.Event,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._indexer = indexer
        # As links lead now, which is how `walk` names what it finds.
        self._sources = [os.path.realpath(source) for source in sources]
        self._stop = stop
        self._report = progress
        self._left_out: tuple[str, ...] = ()
        self._seen: list[SourceFile] | None = None
        self._failed = ""
        self._begun = False

    def run(self) -> Iterator[IndexSummary | SemsearchError]:
        while not self._stop.is_set():
            there = self._there()
            yield from self._follow()
            if None in there:
                while not self._stop.wait(_LOOK_SECONDS) and self._there() == there:
                    pass
            else:
                yield from self._watch(there)

    def _watch(self, there: list[tuple[int, int] | None]) -> Iterator[IndexSummary | SemsearchError]:
        """Follow what happens, until a source is no longer what it was when watching began."""
        watching = False
        for paths in self._changes():
            # At first for what happened before it was watched, too.
            if paths or not watching:
                yield from self._follow(paths)
            watching = True
            # Of one that was put in another's place nothing would be heard, nor of one that went and came again.
            if not paths.isdisjoint(self._sources) or self._there() != there:
                return

    def _changes(self) -> Iterator[set[str]]:
        """The paths of what changed, time after time; none when nothing has for a while."""
        try:
            for changes in watchfiles.watch(
                *self._sources,
                watch_filter=self._matters,
                debounce=round(1000 * _PATIENCE_SECONDS),
                step=round(1000 * _QUIET_SECONDS),
                stop_event=self._stop,
                rust_timeout=round(1000 * _LOOK_SECONDS),
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                yield {path for _, path in changes}
        except FileNotFoundError:  # it has just gone
            return
        except (OSError, RuntimeError) as error:
            raise StorageError(
                f"cannot watch {', '.join(map(repr, self._sources))}: {error}; let the system watch more files "
                "(fs.inotify.max_user_watches), or set WATCHFILES_FORCE_POLLING=1"
            ) from None

    def _there(self) -> list[tuple[int, int] | None]:
        """What the sources are now; None for one that is not there."""
        found: list[tuple[int, int] | None] = []
        for source in self._sources:
            try:
                status = os.stat(source)
                found.append((status.st_dev, status.st_ino))
            except OSError:
                found.append(None)
        return found

    def _matters(self, _: watchfiles.Change, path: str) -> bool:
        return not path.startswith(self._left_out)

    def _follow(self, paths: Collection[str] = ()) -> Iterator[IndexSummary | SemsearchError]:
        """Update the index if its files are others than they were, or one of these paths is among them."""
        started = time.monotonic()
        try:
            found = self._indexer.find(self._sources)
            self._left_out = _left_out(found)
            if found.files == self._seen and not any(str(file.path) in paths for file in found.files):
                self._stop.wait(_REST * (time.monotonic() - started))
                return
            yield from self._update()
            self._seen = found.files
        except _StoppedError:
            return
        except SemsearchError as error:
            if not self._begun and not isinstance(error, NothingToIndexError):
                raise
            self._seen = None
            if isinstance(error, SourceNotFoundError):
                gone = [source for source in self._sources if not os.path.exists(source)] or self._sources
                error = SourceNotFoundError(f"{gone[0]!r} is gone; the index stays as it is until it is back")
            yield from self._tell(error)
        self._begun = True

    def _update(self) -> Iterator[IndexSummary | SemsearchError]:
        while True:
            try:
                summary = self._indexer.update(self._sources, progress=self._progress)
                break
            except IndexLockedError as error:
                yield from self._tell(error)
                if self._stop.wait(_LOOK_SECONDS):
                    raise _StoppedError from None
        changed = summary.files_added or summary.files_changed or summary.files_removed
        if changed or self._failed or not self._begun:
            yield summary
        self._failed = ""

    def _tell(self, error: SemsearchError) -> Iterator[SemsearchError]:
        if str(error) != self._failed:
            self._failed = str(error)
            yield error

    def _progress(self, progress: Progress) -> None:
        if self._stop.is_set():
            raise _StoppedError
        if self._report:
            self._report(progress)


def _left_out(found: Walk) -> tuple[str, ...]:
    """The folders in which nothing is looked at, as that of an index is."""
    names = (one.path for one in found.skipped if one.path.endswith("/") and one.path != "./")
    return tuple(f"{found.root / name}{os.sep}" for name in names)
