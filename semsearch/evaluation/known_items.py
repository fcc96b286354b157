"""Queries made of an index's own documents: each is to find the document that it was taken from."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from pathlib import Path

from semsearch.errors import InvalidInputError
from semsearch.evaluation.judgments import Judged
from semsearch.store.database import Database
from semsearch.store.shards import folders_of

QUERIES = 300
# Words of a query at least; a heading such as "Introduction" names nothing.
_LEAST_WORDS = 3
_MOST_WORDS = 30
_SENTENCE = re.compile(r"[^\s.!?][^.!?\n]*[.!?]")
_WORD = re.compile(r"\w+")


def known_items(index: Path) -> Judged:
    """Up to 300 headings and first sentences of passages that one document alone has, and the document of each.

    The same for the same index.

    Raises:
        InvalidInputError: It has none.
        StoreError: It cannot be read.
    """
    documents: defaultdict[str, set[str]] = defaultdict(set)
    for folder in folders_of(index):
        with Database.open_for_reading(folder) as database:
            for name, heading, text in database.headings_and_texts():
                for query in (heading.rpartition(" > ")[2], _first_sentence(text)):
                    if _LEAST_WORDS <= len(_WORD.findall(query)) <= _MOST_WORDS:
                        documents[" ".join(query.split())].add(name)
    queries = sorted(query for query, names in documents.items() if len(names) == 1)
    if not queries:
        raise InvalidInputError(f"the index {index.name!r} has no heading or sentence to look for")
    random.Random(0).shuffle(queries)
    chosen = {str(number): query for number, query in enumerate(queries[:QUERIES], 1)}
    return Judged(chosen, {key: dict.fromkeys(documents[query], 1) for key, query in chosen.items()})


def _first_sentence(text: str) -> str:
    found = _SENTENCE.search(text)
    return found[0] if found else ""
