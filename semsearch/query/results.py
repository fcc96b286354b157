"""What was ranked, as hits."""

from __future__ import annotations

from collections.abc import Sequence

from semsearch.query.collection import Collection
from semsearch.query.excerpt import is_stale
from semsearch.query.ranking import Ranked
from semsearch.query.snippet import snippet
from semsearch.types import Hit


def hits_of(collection: Collection, query: str, ranked: Sequence[Ranked]) -> list[Hit]:
    """The hits of a query, in their order.

    Args:
        collection: Where they were found.
        query: What they answer, for their snippets.
        ranked: What was found.
    """
    stored = collection.passages([one.passage for one in ranked])
    hits = []
    for number, one in enumerate(ranked, 1):
        found = stored[one.passage]
        p = found.passage
        text, matches = snippet(p.text, query, collection.language)
        hits.append(
            Hit(
                rank=number,
                score=one.score,
                id=one.passage,
                path=found.file.path,
                title=found.title,
                heading=p.heading,
                line_start=p.line_start,
                line_end=p.line_end,
                char_start=p.char_start,
                char_end=p.char_end,
                page=p.page,
                place=p.place,
                stale=is_stale(collection.root, found.file),
                text=p.text,
                snippet=text,
                matches=matches,
                metadata=found.metadata,
                parts=one.parts,
            )
        )
    return hits
