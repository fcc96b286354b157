"""What an update tells its caller."""

from __future__ import annotations

from dataclasses import dataclass

from semsearch.corpus.walk import Skipped


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an update is with what it has to read; the sizes are in bytes."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int
    passages: int


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What an update did, and what the index holds now.

    Attributes:
        files_found: Of the source, `files_indexed + files_skipped`; a document that was given counts as a file.
        files_added: Of those that are indexed, how many are new; the others were changed or are as they were.
        files_removed: How many the index had and has no more.
        passages: How many the index holds; `passages_embedded` of them were embedded now.
        skipped: What was left out, and why; folders too, whose paths end in `/`.
    """

    index: str
    path: str
    model: str
    precision: str
    generation: int
    files_found: int
    files_indexed: int
    files_skipped: int
    files_added: int
    files_changed: int
    files_unchanged: int
    files_removed: int
    documents: int
    passages: int
    passages_embedded: int
    took_ms: int
    skipped: tuple[Skipped, ...]
