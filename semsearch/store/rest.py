"""What makes the BM25 scores of a shard those of the index that it is a part of.

BM25 weighs a word by how many passages of all have it, and a passage's length by the mean of all. tantivy takes both
from what it has opened. So a shard is opened together with a segment that stands for the other shards: passages without
a word, and one of many words, as many of both as bring the mean to that of all. How rare a word is then differs by a
factor, which is known when the other shards have been asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from semsearch.store.files import FileRecord

# Queries are in small letters, so that none has this word.
WORD = "X"
# So many numbers of passages are tried for the one that comes nearest to the mean.
_TRIED = 1000
# The folder of what stands for the rest, in that of a shard.
REST = "rest"


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BM25 goes by, of passages that are there and of those that are gone but not yet forgotten.

    Attributes:
        passages: How many.
        words: How many words they have together.
    """

    passages: int
    words: int

    def idf(self, frequency: int) -> float:
        """How much a word counts that so many passages have, as tantivy and Lucene have it."""
        return math.log1p((self.passages - frequency + 0.5) / (frequency + 0.5))


@dataclass(frozen=True, slots=True)
class Rest:
    """A segment that stands for the rest of an index.

    Attributes:
        uuid: The name of its folder.
        files: Its files.
        passages: How many it has.
        all: Of the index as a whole.
    """

    uuid: str
    files: Mapping[str, FileRecord]
    passages: int
    all: Statistics


def filling(own: Statistics, everything: Statistics) -> tuple[int, int]:
    """Passages, at least one, and words that bring a shard's mean to that of all."""
    if not everything.words:
        return 1, 0
    least = max(1, -(-own.words * everything.passages // everything.words) - own.passages)
    found = []
    for passages in range(least, least + _TRIED):
        words, left = divmod((own.passages + passages) * everything.words, everything.passages)
        up = 2 * left > everything.passages
        found.append((everything.passages - left if up else left, passages, words + up - own.words))
    _, passages, words = min(found)
    return passages, words
