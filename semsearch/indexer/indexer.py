"""The indexer: files and documents to an index, in one commit at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

from semsearch.corpus.walk import Skipped, Walk, walk
from semsearch.encoder.encoder import Encoder
from semsearch.encoder.models import DEFAULT_MODEL, Fingerprint
from semsearch.errors import (
    IndexConflictError,
    IndexNotFoundError,
    InvalidInputError,
    ModelMismatchError,
    NothingToIndexError,
    StoreError,
)
from semsearch.indexer.commit import commit
from semsearch.indexer.plan import Plan, plan_of
from semsearch.indexer.pool import Readers
from semsearch.indexer.report import IndexSummary, Progress
from semsearch.indexer.settings import Settings
from semsearch.indexer.sources import Changes, Item, Read, Reading, compare, read_documents
from semsearch.indexer.update import Update
from semsearch.store.ann import check_factory
from semsearch.store.database import DATABASE, Database
from semsearch.store.manifest import Head, Segment
from semsearch.store.shards import Made, is_in_shards
from semsearch.store.writer import open_writer
from semsearch.types import Document

Source = str | os.PathLike[str] | Document
# From the nearest to float32 to the farthest.
_PRECISIONS = ("float32", "float16", "bfloat16", "int8")


class Indexer:
    """The one writer of an index."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        model: str | Encoder | None = None,
        precision: str | None = None,
        device: str = "auto",
        index_type: str | None = None,
        settings: Settings | None = None,
        readers: Readers | None = None,
    ) -> None:
        """Set up; nothing is read or written yet.

        Args:
            path: The index folder, made if it is not there.
            model: A model's folder or Hugging Face name, or an Encoder; None for the index's own, or the default.
            precision: As of Encoder; None for the index's own, or "auto". An Encoder that is given has its own.
            device: As of Encoder.
            index_type: "auto" for exact search while it is fast, then approximate; "flat" for exact search always;
                "ivf" for approximate search from a thousand passages on; or a FAISS factory string of what is then
                searched first, such as "IVF1024,PQ96x4fs" or "HNSW32". None for the index's own, or "auto".
            settings: How files are chosen, read and cut. Files that are read otherwise than before are read again.
            readers: Keeps the processes that read files for the next index; they end with the update if nothing does.
        """
        self._path = Path(path)
        self._model = model
        self._precision = precision
        self._device = device
        self._index_type = index_type
        self._settings = settings or Settings()
        self._readers = readers

    @property
    def path(self) -> Path:
        """The index folder."""
        return self._path

    def find(self, source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Walk:
        """The files that `update` would have the index hold, and what it would leave out.

        Raises:
            SourceNotFoundError: A source is not there.
        """
        options = self._settings.over(self._remembered()).walk_options
        return walk([Path(one) for one in _paths(_sources(source))], options)

    def update(
        self,
        source: Source | Walk | Iterable[Source],
        *,
        rebuild: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> IndexSummary:
        """Bring an index up to date, in one commit or not at all.

        Of folders and files the index holds afterwards what they hold now: what is new is added, what changed is
        changed, what is gone is removed. Documents that are given are added, or take the place of the one with the
        same path; what else the index holds stays.

        What was embedded once is not embedded again: neither passages that only moved, nor what a stopped update had
        embedded already.

        Args:
            source: A folder or a file, or several, or what a walk found there; or Documents, as many as there are.
            rebuild: Whether all is read and embedded anew, with whatever model, and nothing else is kept; the old index
                answers until it is done.
            progress: Called now and then while it goes on.

        Raises:
            InvalidInputError: A source is neither a path nor a Document, or both are mixed.
            SourceNotFoundError: A source is not there.
            NothingToIndexError: No document could be read.
            ModelError: The model cannot be had or used, or is not the one the index was made with.
            IndexConflictError: The index was made of another source, or is in shards.
            IndexLockedError: Another process is writing it.
            StoreError: It is damaged, of another format, or the disk refused.
        """
        started = time.monotonic()
        self._check_whole()
        sources = _sources(source)
        first = next(sources, None)
        if first is None:
            raise NothingToIndexError("nothing to index: no source was given")
        sources = chain([first], sources)
        settings = self._settings if rebuild else self._settings.over(self._remembered())
        found = None
        if isinstance(first, Walk):
            found = first
        elif not isinstance(first, Document):
            found = walk([Path(one) for one in _paths(sources)], settings.walk_options)
        if found and not found.files:
            raise nothing(found.name, found.skipped)
        with open_writer(self._path, afresh=rebuild) as writer:
            old = writer.head
            root = found.name if found else old.root if old else ""
            if old and old.root not in ("", root) and not rebuild:
                raise IndexConflictError(
                    f"the index {self._path.name!r} was made of {old.root!r}, not of {root!r}; choose another name "
                    "with --name, or put this in its place with --rebuild"
                )
            encoder = self.encoder_for(None if rebuild else old)
            index_type = (old.index_type if old else "auto") if self._index_type is None else self._index_type
            if index_type not in ("auto", "flat", "ivf"):
                check_factory(index_type, encoder.dim)
            reading = Reading(encoder, settings, self._readers)
            known = {row.path: row for row in writer.database.files()} if old else {}
            changes = Changes(gone=[row.id for row in known.values()] if rebuild else [])
            unread = {} if rebuild else known
            alike = old is not None and settings.reads_like(Settings.from_json(old.settings))
            if found:
                compare(found.files, unread, changes, trust=alike)
                items = reading.read(changes.fresh)
            else:
                items = read_documents(_documents(sources), unread if alike else {}, reading)
            with closing(items):
                update = Update(self._path, writer.database, encoder, known, _reporter(progress, changes))
                leading = _through_first_document(items)
                head_differs = old is not None and (index_type, settings.to_json()) != (old.index_type, old.settings)
                if (
                    isinstance(leading[-1] if leading else None, Read)
                    or changes.gone
                    or changes.touched
                    or head_differs
                ):

                    def write() -> tuple[Head, list[Segment]]:
                        writer.database.release(changes.gone, reusable=not rebuild)
                        for row in changes.touched:
                            writer.database.put_file(row)
                        update.run(chain(leading, items))
                        if not writer.database.count("documents"):
                            raise nothing(root, [*(found.skipped if found else []), *update.skipped])
                        head = self._new_head(old, encoder, root, embedded=bool(update.embedded), rebuild=rebuild)
                        return replace(head, index_type=index_type, settings=settings.to_json()), update.segments

                    commit(self._path, writer, write)
                else:
                    update.count(leading)
            if writer.head is None:
                raise nothing(root, [*(found.skipped if found else []), *update.skipped])
            # Nothing is left to be done, so nothing is left to go on from.
            writer.sweep(keep_parts=False)
            removed = (old.files if old else 0) + update.added - writer.head.files
            return self._summary(writer.head, encoder, found, changes, update, removed, started)

    def plan(self, source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, timed: bool = True) -> Plan:
        """What `update` would do with folders and files, without doing it.

        Args:
            source: As of `update`.
            timed: Whether a few files are read and embedded to tell how long it would take.

        Raises:
            SourceNotFoundError: A source is not there.
            ModelError, StoreError: As of `update`.
        """
        settings, known, old = self._settings, {}, None
        if (self._path / DATABASE).exists():
            with Database.open_for_reading(self._path) as database:
                old = database.head()
                known = {row.path: row for row in database.files()}
            settings = settings.over(Settings.from_json(old.settings))
        found = walk([Path(one) for one in _paths(_sources(source))], settings.walk_options)
        changes = Changes()
        compare(
            found.files,
            known,
            changes,
            trust=old is not None and settings.reads_like(Settings.from_json(old.settings)),
        )
        return plan_of(found, changes, self.encoder_for(old) if timed else None, settings)

    def remove(self, paths: str | Iterable[str] = (), *, filter: str | None = None) -> int:
        """Remove files and documents by their paths in the index, or by a filter.

        What a folder still holds comes back with the next update from it.

        Args:
            paths: Of a path that ends in `/`, all below it.
            filter: A condition as of `Searcher.search`; documents for which it holds are removed.

        Returns:
            How many files, or by a filter documents, were removed.

        Raises:
            InvalidInputError: Nothing in the index has such a path, or the filter cannot be understood; nothing is
                removed then.
            StoreError: As of `update`.
        """
        wanted = [paths] if isinstance(paths, str) else list(paths)
        if wanted and filter is not None:
            raise InvalidInputError("remove takes paths or a filter, not both")
        self._check_there()
        if filter is not None:
            return self._remove_matching(filter)
        with open_writer(self._path) as writer:
            files = list(writer.database.files())
            gone: set[int] = set()
            for path in wanted:
                folder = path if path.endswith("/") else None
                matching = {row.id for row in files if row.path == path or (folder and row.path.startswith(folder))}
                if not matching:
                    raise InvalidInputError(
                        f"the index {self._path.name!r} has no document {path!r}; nothing was removed"
                    )
                gone |= matching
            old = writer.head
            if gone and old:

                def write() -> tuple[Head, list[Segment]]:
                    writer.database.release(sorted(gone), reusable=False)
                    return old, []

                commit(self._path, writer, write)
            return len(gone)

    def _remove_matching(self, condition: str) -> int:
        with open_writer(self._path) as writer:
            old, count = writer.head, 0
            if old and writer.database.matching_ids(condition):

                def write() -> tuple[Head, list[Segment]]:
                    nonlocal count
                    count = writer.database.release_documents(condition)
                    return old, []

                commit(self._path, writer, write)
            return count

    def compact(self) -> None:
        """Write the index as small as it goes: as few segments as can be, and nothing of what is gone.

        Raises:
            StoreError: As of `update`.
        """
        self._check_there()
        with open_writer(self._path) as writer:
            if old := writer.head:
                commit(self._path, writer, lambda: (old, []), fully=True)

    def _check_whole(self) -> None:
        if is_in_shards(self._path):
            raise IndexConflictError(
                f"the index {self._path.name!r} is in shards, each of which is an index; use ShardedIndexer for all"
            )

    def _check_there(self) -> None:
        self._check_whole()
        if not (self._path / DATABASE).exists():
            raise IndexNotFoundError(f"no index at {str(self._path)!r}; make one with: semsearch index FOLDER")

    def _remembered(self) -> Settings:
        """The settings of the index that is there, if there is one."""
        try:
            with Database.open_for_reading(self._path) as database:
                return Settings.from_json(database.head().settings)
        except StoreError:  # none yet, or what writing will say
            return Settings()

    def encoder_for(self, head: Head | Made | None) -> Encoder:
        """The encoder that was asked for, which must be the index's own if there is one.

        Raises:
            ModelMismatchError: It is another.
            ModelError: It cannot be had.
        """
        made_with = Fingerprint.from_json(head.fingerprint) if head and head.fingerprint else None
        if isinstance(self._model, Encoder):
            encoder = self._model
        else:
            name = self._model or (made_with.model if made_with else DEFAULT_MODEL)
            precision = self._precision or (head.asked_precision if head else "auto")
            encoder = Encoder(name, precision=precision, device=self._device)
        differences = made_with.differences(encoder.fingerprint) if made_with else []
        if made_with and differences:
            raise ModelMismatchError(
                f"the index {self._path.name!r} was made with {made_with.model!r}, this is "
                f"{encoder.fingerprint.model!r} with another {', '.join(differences)}; leave --model out, or make the "
                "index anew with --rebuild"
            )
        return encoder

    def _new_head(self, old: Head | None, encoder: Encoder, root: str, *, embedded: bool, rebuild: bool) -> Head:
        rows_gone = old.rows_gone if old else 0
        old = None if rebuild else old
        precisions = {old.precision} if old else set()
        if embedded or not precisions:
            precisions.add(encoder.precision)
        return Head(
            generation=0,
            fingerprint=old.fingerprint if old and self._model is None else encoder.fingerprint.to_json(),
            asked_precision=encoder.asked_precision,
            precision=max(precisions, key=_PRECISIONS.index),
            root=root,
            built="",
            files=0,
            documents=0,
            passages=0,
            index_type="auto",
            settings="",
            rows_gone=rows_gone,
            lexical=None,
        )

    def _summary(
        self,
        head: Head,
        encoder: Encoder,
        found: Walk | None,
        changes: Changes,
        update: Update,
        removed: int,
        started: float,
    ) -> IndexSummary:
        skipped = [*(found.skipped if found else []), *update.skipped]
        files_skipped = sum(not one.path.endswith("/") for one in skipped)
        unchanged = changes.unchanged + update.unchanged
        indexed = unchanged + update.added + update.changed
        return IndexSummary(
            index=self._path.name,
            path=str(self._path),
            model=encoder.fingerprint.model,
            precision=head.precision,
            generation=head.generation,
            files_found=indexed + files_skipped,
            files_indexed=indexed,
            files_skipped=files_skipped,
            files_added=update.added,
            files_changed=update.changed,
            files_unchanged=unchanged,
            files_removed=removed,
            documents=head.documents,
            passages=head.passages,
            passages_embedded=update.embedded,
            took_ms=round((time.monotonic() - started) * 1000),
            skipped=tuple(sorted(skipped, key=lambda one: one.path)),
        )


def _sources(source: object) -> Iterator[object]:
    if isinstance(source, str | os.PathLike | Document | Walk):
        return iter([source])
    if isinstance(source, Iterable):
        return iter(source)
    raise InvalidInputError(f"a source must be a path or a Document, got {type(source).__name__}: {source!r:.80}")


def _paths(sources: Iterable[object]) -> Iterator[str | os.PathLike[str]]:
    for one in sources:
        if not isinstance(one, str | os.PathLike):
            raise InvalidInputError(f"after a path a source must be another, got {type(one).__name__}: {one!r:.80}")
        yield one


def _documents(sources: Iterable[object]) -> Iterator[Document]:
    for one in sources:
        if not isinstance(one, Document):
            raise InvalidInputError(f"after a Document a source must be another, got {type(one).__name__}: {one!r:.80}")
        yield one


def _through_first_document(items: Iterator[Item]) -> list[Item]:
    """What comes before the first document that was read, and it: without one there is nothing to write."""
    leading: list[Item] = []
    for item in items:
        leading.append(item)
        if isinstance(item, Read):
            break
    return leading


def _reporter(progress: Callable[[Progress], None] | None, changes: Changes) -> Callable[[int, int, int], None]:
    total = sum(file.size for file in changes.fresh)

    def report(files: int, done: int, passages: int) -> None:
        if progress:
            progress(Progress(files, len(changes.fresh) or files, done, total or done, passages))

    return report


def nothing(root: object, skipped: Sequence[Skipped]) -> NothingToIndexError:
    """What to raise where no document of a source could be read."""
    reasons = [f"{one.path}: {one.reason}" for one in skipped]
    some = f"; skipped {'; '.join(reasons[:3])}{f' and {len(reasons) - 3} more' if len(reasons) > 3 else ''}"
    told = f"nothing to index in {str(root)!r}{some if reasons else ': no file there'}"
    return NothingToIndexError(told, tuple(skipped))
