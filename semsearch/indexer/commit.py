"""The commit of an index: what was written, what is merged with it, and the database that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from semsearch.encoder.models import Fingerprint
from semsearch.indexer.settings import Settings
from semsearch.store.analysis import DEFAULT_LANGUAGE
from semsearch.store.compaction import compact
from semsearch.store.lexical_writer import write_lexical
from semsearch.store.manifest import Head, Segment
from semsearch.store.segments import without
from semsearch.store.writer import Writer

# The database is written without holes once this share of its passages is gone.
_GONE_SHARE = 0.2


def commit(
    index: Path, writer: Writer, write: Callable[[], tuple[Head, list[Segment]]], *, fully: bool = False
) -> None:
    """Commit a change, or leave the index as it was.

    Args:
        index: The index folder.
        writer: Open on it.
        write: Changes the database, and returns a head to go on from and new segments.
        fully: Whether all is merged and nothing of what is gone kept, or only what is due.

    Raises:
        OSError: The disk refused.
    """
    database = writer.database
    with writer.transaction():
        last = writer.head
        old = database.segments() if last else []
        first_new = database.next_id("passages")
        head, new = write()
        removed = np.array(database.remove_released(), np.int64)
        dim = Fingerprint.from_json(head.fingerprint).dim
        kept = [without(segment, removed) for segment in old]
        segments = compact(index, kept, new, dim, head.index_type, fully=fully)
        lexical = write_lexical(
            index,
            last.lexical if last else None,
            Settings.from_json(head.settings).language or DEFAULT_LANGUAGE,
            removed=removed,
            texts=database.texts,
            first_new=first_new,
            fully=fully,
        )
        passages, rows_gone = database.count("passages"), head.rows_gone + len(removed)
        shrink = rows_gone > (0 if fully else _GONE_SHARE * (passages + rows_gone))
        head = replace(
            head,
            generation=writer.generation + 1,
            built=datetime.now(UTC).isoformat(timespec="seconds"),
            files=database.count("files"),
            documents=database.count("documents"),
            passages=passages,
            rows_gone=0 if shrink else rows_gone,
            lexical=lexical,
        )
        database.set_head(head, segments)
    if shrink:
        writer.shrink()
    writer.sweep(keep_parts=True)
