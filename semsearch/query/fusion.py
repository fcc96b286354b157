"""How a passage's scores become one.

The score is `cosine + LEXICAL_WEIGHT * rarity * coverage`. Coverage is the passage's BM25 score over the highest that
any passage could have by the query's RAREST words: the share of the query's words that it has, weighed by how rare they
are, where a long query need not be had as a whole. Rarity is the inverse document frequency of the query's rarest word
over that of a word that one passage has: of common words it counts little which passage has more, of a name or a number
much. Neither depends on the other hits.

Where documents are ranked, not passages, the cosine is that of the passage to PASSAGE_SHARE and that of the whole
document, the mean of its passages' vectors, to the rest.

What is found is scored by a query vector that is moved towards the passage that came first, by FEEDBACK of that
passage's vector (pseudo-relevance feedback after Rocchio 1971, by one passage). To search by it once more changes no
nDCG@10.

The constants are chosen by nDCG@10 over scifact, cranfield and cosqa together, and by known items: titles, descriptions
and halves of documents, and words that one document alone has. Near them, it is flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEXICAL_WEIGHT = 0.8
RAREST = 6
PASSAGE_SHARE = 0.6
FEEDBACK = 0.2
# Passages that either search gives to fuse, at least.
CANDIDATES = 100
# Passages whose BM25 score is looked at; beyond them it counts as none.
SCORED = 1000
# Documents that are scored as a whole, at least: those of the best passages.
DOCUMENTS = 50
# Of BM25 as Lucene and tantivy have it, with a factor of k1 + 1.
_K1 = 1.2


def bm25_weight(frequencies: Sequence[int], count: int) -> float:
    """What a point of BM25 adds to a cosine.

    Args:
        frequencies: How many passages have each word of the query.
        count: Passages there are.
    """
    count = max([count, *frequencies])
    idf = sorted((math.log(1 + (count - one + 0.5) / (one + 0.5)) for one in frequencies if one), reverse=True)
    return LEXICAL_WEIGHT * idf[0] / math.log1p(count) / ((_K1 + 1) * sum(idf[:RAREST])) if idf else 0.0


def moved(query: NDArray[np.float32], towards: NDArray[np.float32]) -> NDArray[np.float32]:
    """The normalized query (dim,), moved towards a vector (dim,), and normalized again."""
    result: NDArray[np.float32] = query + np.float32(FEEDBACK) * towards
    return result / np.linalg.norm(result)
