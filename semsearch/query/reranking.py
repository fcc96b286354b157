"""A second opinion on what was ranked, by a cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from semsearch.encoder.reranker import Reranker
from semsearch.query.collection import Collection
from semsearch.query.ranking import Ranked
from semsearch.store.analysis import lexical_text

# So many are read anew at least.
RERANKED = 50


def reranked(
    collection: Collection, query: str, ranked: Sequence[Ranked], reranker: Reranker, weight: float
) -> list[Ranked]:
    """What was ranked in the order of `(1 - weight) * score + weight * the reranker's score`.

    Args:
        collection: Where it was found.
        query: What it answers.
        ranked: What was found.
        reranker: What reads the query with each passage, below its title and heading.
        weight: 1 for the reranker alone.
    """
    stored = collection.passages([one.passage for one in ranked])
    found = [stored[one.passage] for one in ranked]
    scores = reranker.scores(query, [lexical_text(p.title, p.passage.heading, p.passage.text) for p in found])
    again = [
        replace(
            one, score=(1 - weight) * one.score + weight * float(score), parts={**one.parts, "rerank": float(score)}
        )
        for one, score in zip(ranked, scores, strict=True)
    ]
    return sorted(again, key=lambda one: (-one.score, one.passage))
