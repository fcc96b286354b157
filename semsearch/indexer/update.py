"""One update under way: what was read is compared, embedded where it must be, and written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semsearch.corpus.walk import Skipped
from semsearch.encoder.encoder import Encoder
from semsearch.indexer.sources import Embedded, Item, Read
from semsearch.store.manifest import FileRow, Segment
from semsearch.store.parts import Parts, mark_part
from semsearch.store.segments import normalize, write_segment
from semsearch.store.writable import WritableDatabase

# Passages that are read ahead of what is being embedded.
_AHEAD = 2048
# Passages that are embedded between two points that a stopped build can go on from.
PART_ROWS = 4096


class Update:
    """What was read comes in, rows of the manifest and segments come out, within the transaction that commits them."""

    def __init__(
        self,
        index: Path,
        database: WritableDatabase,
        encoder: Encoder,
        known: Mapping[str, FileRow],
        report: Callable[[int, int, int], None],
    ) -> None:
        """Set up.

        Args:
            index: The index folder.
            database: Its manifest, in a transaction from `run` on.
            encoder: What embeds.
            known: The files that the index had before, by their paths.
            report: Called now and then with the files, bytes and passages done so far.
        """
        self.skipped: list[Skipped] = []
        self.segments: list[Segment] = []
        self.added = self.changed = self.unchanged = self.embedded = 0
        self._index = index
        self._database = database
        self._encoder = encoder
        self._made_with = _made_with(encoder)
        self._known = known
        self._report = report
        self._files = self._passages = self._done = 0
        self._file: FileRow | None = None
        self._row = FileRow(0, "", 0, 0, 0, "", given=False)
        # Embedded and not written to a segment yet: their vectors, and the contents of these.
        self._vectors: list[NDArray[np.float32]] = []
        self._contents: list[bytes] = []

    def run(self, items: Iterator[Item]) -> None:
        """Take in all that is read; it is read ahead in a thread of its own, which must not use the database."""
        self._next_file, self._next_document = self._database.next_id("files"), self._database.next_id("documents")
        self._next_passage = self._database.next_id("passages")
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="semsearch-reader") as ahead:
                batch = _batch(items)
                while batch:
                    upcoming = ahead.submit(_batch, items)
                    self._take(batch)
                    batch = upcoming.result()
        finally:
            # After an interruption too: what was embedded is not embedded again.
            self._write_part()

    @cached_property
    def _parts(self) -> Parts:
        return Parts(self._index, self._made_with, self._encoder.dim)

    def count(self, items: Iterable[Item]) -> None:
        """Count what needs no transaction: documents that are as they were, and what was skipped."""
        for item in items:
            if isinstance(item, Skipped):
                self.skipped.append(item)
            else:
                self.unchanged += 1
            self._files += 1

    def _take(self, batch: list[Item]) -> None:
        fresh: list[Embedded] = []
        for item in batch:
            if isinstance(item, Read):
                fresh += self._take_document(item)
            else:
                if isinstance(item, Skipped) and self._file and item.path == self._file.path:
                    # Some of its documents were read before it failed; the next update tries again.
                    self._database.put_file(replace(self._row, seen_ns=0, sha256=""))
                self.count([item])
        self._embed(fresh)

    def _take_document(self, read: Read) -> list[Embedded]:
        """Write a document and its passages; returns those that are not there already, in the order of their ids."""
        if read.file is not self._file:
            self._start_file(read.file)
        document, self._next_document = self._next_document, self._next_document + 1
        fresh, rows = [], []
        for one in read.passages:
            passage = self._database.take_up(one.content)
            if passage is None:
                passage, self._next_passage = self._next_passage, self._next_passage + 1
                fresh.append(one)
            else:
                self._passages += 1
            rows.append((passage, document, one.passage, one.content))
        self._database.put_passages(rows)
        self._database.add_document(document, self._row.id, read.title, read.metadata, (row[0] for row in rows))
        self._done = read.done
        self._report(self._files, self._done, self._passages)
        return fresh

    def _start_file(self, file: FileRow) -> None:
        self._file = file
        known = self._known.get(file.path)
        if known is None:
            self.added += 1
        else:
            self.changed += 1
        if known and file.given:
            self._database.release([known.id], reusable=True)
        self._row = replace(file, id=self._next_file)
        self._next_file += 1
        self._files += 1
        self._database.put_file(self._row)

    def _embed(self, fresh: list[Embedded]) -> None:
        """Get the vectors of new passages, whose ids follow those of the last ones."""
        kept = [self._parts.find(one.content) for one in fresh]
        missing = [number for number, vector in enumerate(kept) if vector is None]
        embedded = self._encoder.encode_document_stream(fresh[number].text for number in missing)
        places = iter(missing)
        for vectors in embedded:
            for vector in normalize(vectors):
                kept[next(places)] = vector
            self._passages += len(vectors)
            self._report(self._files, self._done, self._passages)
        self.embedded += len(missing)
        self._passages += len(fresh) - len(missing)
        if kept:
            self._vectors.append(np.stack([vector for vector in kept if vector is not None]))
            self._contents += [one.content for one in fresh]
        if len(self._contents) >= PART_ROWS:
            self._write_part()

    def _write_part(self) -> None:
        """Write the vectors so far as a segment, from which a build that is stopped later goes on."""
        if self._contents:
            vectors = np.concatenate(self._vectors)  # (n, dim)
            ids = np.arange(self._next_passage - len(vectors), self._next_passage)
            segment = write_segment(self._index, lambda: iter([vectors]), ids, vectors.shape[1])
            mark_part(self._index, segment, self._made_with, self._contents)
            self.segments.append(segment)
            self._vectors, self._contents = [], []


def _made_with(encoder: Encoder) -> str:
    """What decides a passage's vector besides its text; a model's name does not."""
    values = {**asdict(encoder.fingerprint), "model": "", "precision": encoder.asked_precision}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _batch(items: Iterator[Item]) -> list[Item]:
    """The next items, with some thousands of passages."""
    batch: list[Item] = []
    passages = 0
    for item in islice(items, _AHEAD):
        batch.append(item)
        passages += len(item.passages) if isinstance(item, Read) else 0
        if passages >= _AHEAD:
            break
    return batch
