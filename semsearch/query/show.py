"""A passage in its surroundings, of an index that is not open."""

from __future__ import annotations

from pathlib import Path

from semsearch.query.excerpt import Excerpt, Texts, excerpt_of, find_passage
from semsearch.store.database import Database
from semsearch.store.shards import is_in_shards


def excerpt(index: Path, target: str, *, context: int = 1) -> Excerpt:
    """The passage that a hit's id, or a path and a line of it, names.

    Args:
        index: The index folder.
        target: The id; or `PATH` or `PATH:LINE`, the path as in a hit, or as it opens from the current folder.
        context: Passages of the same document that are shown before and after it.

    Raises:
        NoSuchPassageError: The index has no such passage.
        StoreError: It cannot be read.
    """
    if is_in_shards(index):
        from semsearch.query.sharded import ShardedSnapshot  # which opens vectors, too

        shards = ShardedSnapshot.open(index)
        try:
            return _excerpt(shards, index.name, target, context)
        finally:
            shards.release()
    with Database.open_for_reading(index) as database:
        return _excerpt(database, index.name, target, context)


def _excerpt(texts: Texts, name: str, target: str, context: int) -> Excerpt:
    number, _ = find_passage(texts, name, target)
    return excerpt_of(texts, number, context)
