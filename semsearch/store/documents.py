"""Which document each passage is of."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from semsearch.store.database import Database

# Documents whose passages are kept.
_KEPT = 20_000
# There is a table of passages with lower ids, of at most 40 MB; others are looked up each time.
_TABLE = 5_000_000


class Documents:
    """The documents of a generation's passages, kept as they are asked for, as many queries have the same among the
    best. Threads may share it."""

    def __init__(self, database: Database, last_passage_id: int) -> None:
        """Read them of this database, whose passages have ids up to this one."""
        self._database = database
        # Of each passage its document; 0 where that is not known yet.
        self._table = np.zeros(min(last_passage_id + 1, _TABLE), np.int64)
        self._passages: dict[int, list[range]] = {}

    def of(self, passages: NDArray[np.int64]) -> NDArray[np.int64]:
        """The document of each of these passages, (n,).

        Raises:
            DamagedIndexError: One of them is not there or not what was written.
        """
        documents = np.zeros(len(passages), np.int64)
        in_table = passages < len(self._table)
        documents[in_table] = self._table[passages[in_table]]
        unknown = documents == 0
        if unknown.any():
            documents[unknown] = self._read(passages[unknown].tolist())
        return documents

    def passages(self, documents: Iterable[int]) -> dict[int, list[range]]:
        """All passages of each of these documents, ascending.

        Raises:
            DamagedIndexError: One of them is not there or not what was written.
        """
        kept = self._passages
        found = {document: kept[document] for document in documents if document in kept}
        if lacking := [document for document in documents if document not in found]:
            read = self._database.passages_of(lacking)
            for document, runs in read.items():
                for run in runs:
                    self._table[run.start : run.stop] = document
            if len(kept) + len(read) > _KEPT:
                self._passages = {}
            self._passages.update(read)
            found |= read
        return found

    def _read(self, passages: list[int]) -> list[int]:
        document_of = self._database.document_ids(passages)
        runs = self.passages(set(document_of.values()))
        for number in passages:
            # What a document says of its passages is checked, and tells what a passage says of its document.
            if not any(number in run for run in runs.get(document_of.get(number, 0), ())):
                raise self._database.damaged(f"passage {number}")
        return [document_of[number] for number in passages]
