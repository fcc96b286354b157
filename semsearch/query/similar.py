"""More like this: what is near a passage or a document that is there already, without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semsearch.errors import InvalidInputError
from semsearch.query.collection import Collection
from semsearch.query.excerpt import find_passage
from semsearch.query.opening import open_index
from semsearch.query.ranking import Wanted, rank
from semsearch.query.results import hits_of
from semsearch.types import Hit


def similar(index: Path, target: str, k: int = 10, *, filter: str | None = None, effort: float = 1.0) -> list[Hit]:
    """The documents nearest to a document or to one of its passages, each with its nearest passage; the best first.

    Args:
        index: The index folder.
        target: `PATH` for a document as a whole; `PATH:LINE`, or a hit's id, for the passage there.
        k: How many hits at most, at least 1.
        filter: As of `Searcher.search`.
        effort: As of `Searcher.search`.

    Raises:
        NoSuchPassageError: The index has no such passage.
        InvalidInputError: k is below 1, or the filter cannot be understood.
        StoreError: The index cannot be read.
    """
    snapshot = open_index(index)
    try:
        return similar_in(snapshot, index.name, target, k, filter=filter, effort=effort)
    finally:
        snapshot.release()


def similar_in(
    collection: Collection,
    index: str,
    target: str,
    k: int,
    *,
    filter: str | None,
    effort: float,
    from_here: bool = True,
) -> list[Hit]:
    """As `similar`, in an index of this name that is open; `from_here` as of `find_passage`."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InvalidInputError(f"k must be a whole number of at least 1, got {k!r}")
    passage, whole = find_passage(collection, index, target, from_here=from_here)
    known = collection.candidates(np.array([passage]))
    document = int(known.documents[0])
    vector = (collection.document_vectors([document]) if whole else known.vectors)[0]
    # Its own document comes first, and is left out.
    (found,) = rank(collection, [""], [vector], Wanted(k + 1, "dense", 1, filter, effort))
    ranked = [one for one in found if one.document != document]
    text = collection.passages([passage])[passage].passage.text
    return hits_of(collection, text, ranked[:k])
