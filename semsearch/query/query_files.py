"""Files of queries, and of what they found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from semsearch.errors import InvalidInputError
from semsearch.types import Hit

_SPACE = re.compile(r"\s+")


def read_queries(lines: Iterable[str], name: str) -> dict[str, str]:
    """Queries by their ids.

    Args:
        lines: A query a line, which is known by the number of its line; or JSON Lines with `_id` and `text` each, as
            BEIR's `queries.jsonl`. Empty lines are passed over.
        name: What the lines are of, for messages.

    Raises:
        InvalidInputError: A line is neither, or an id is there twice.
    """
    queries: dict[str, str] = {}
    as_json: bool | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if as_json is None:
            as_json = line.lstrip("\ufeff \t").startswith("{")
        key, text = _record(line, f"{name}, line {number}") if as_json else (str(number), line.strip("\ufeff \t\r\n"))
        if key in queries:
            raise InvalidInputError(f"{name}, line {number}: the query {key!r} is there twice")
        queries[key] = text
    return queries


def _record(line: str, where: str) -> tuple[str, str]:
    try:
        record: Any = json.loads(line.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        raise InvalidInputError(f"{where} is no JSON: {line.strip()!r:.80}") from None
    if isinstance(record, dict):
        key, text = record.get("_id", record.get("id")), record.get("text")
        if isinstance(key, str | int) and isinstance(text, str):
            return str(key), text
    raise InvalidInputError(f'{where} has no "_id" and "text": {line.strip()!r:.80}')


def document_id(hit: Hit) -> str:
    """What a document is known by: the `_id` of its record, or its path."""
    return str(hit.metadata.get("_id", hit.path))


def write_trec_run(file: TextIO, answers: Mapping[str, Sequence[Hit]], tag: str) -> None:
    """Write hits as trec_eval reads them, a line each: query, Q0, document, rank, score, tag.

    White space in ids, which the format has none for, becomes `_`. A document that is there several times counts once.
    """
    for query, hits in answers.items():
        seen: set[str] = set()
        for hit in hits:
            document = document_id(hit)
            if document not in seen:
                seen.add(document)
                names = (_SPACE.sub("_", name) for name in (query, document))
                file.write("{} Q0 {} {} {:.9g} {}\n".format(*names, len(seen), hit.score, tag))
