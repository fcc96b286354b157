"""What of a passage to show for a query."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from semsearch.store.analysis import query_terms, words_with

# Characters of a snippet, about.
_LENGTH = 280
# What a sentence or a line ends with.
_END = re.compile(r"""(?<=[.!?…])["')\]”’]*\s+|[。！？]["')\]”’]*|\s*\n\s*""")
_HEADING = re.compile(r"\s*(?:#{1,6}|=+|\*+)\s")
_WORD_START = re.compile(r"\b\w")

Spans = tuple[tuple[int, int], ...]


def snippet(text: str, query: str, language: str) -> tuple[str, Spans]:
    """The sentences of a passage, one after the other, with the most words of the query; else the first.

    Args:
        text: The passage.
        query: What was looked for.
        language: What its words are stemmed by.

    Returns:
        A piece of the text, and where words of the query stand in it.
    """
    words = list(words_with(text, set(query_terms(query, language)), language))
    start, end = _best(text, words)
    return text[start:end], _merged((a - start, b - start) for a, b in words if start <= a and b <= end)


def _best(text: str, words: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The span with most different words of the query, of equal ones the shortest; without any the first."""
    pieces = list(_sentences(text))
    # A heading says what is shown with the hit anyway.
    spans = [span for span in pieces if not _HEADING.match(text, span[0])] or pieces
    if not spans:
        return 0, len(text)
    marks = [{text[a:b].lower() for a, b in words if start <= a < end} for start, end in spans]
    best, chosen = (-1, 0), spans[0]
    for first, (start, _) in enumerate(spans):
        seen: set[str] = set()
        for last in range(first, len(spans)):
            end = spans[last][1]
            if last > first and end - start > _LENGTH:
                break
            seen |= marks[last]
            rank = len(seen), start - end if seen else 0
            if rank > best:
                best, chosen = rank, (start, end)
    return _filled(text, spans, chosen)


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for end in _END.finditer(text):
        if text[start : end.start()].strip():
            yield start, end.start()
        start = end.end()
    if text[start:].strip():
        yield start, len(text.rstrip())


def _filled(text: str, spans: list[tuple[int, int]], chosen: tuple[int, int]) -> tuple[int, int]:
    """With what follows, then with what stands before, as far as there is room; cut at a word if it is too long."""
    start, end = chosen
    for _, later in spans:
        if end < later <= start + _LENGTH:
            end = later
    for earlier, _ in reversed(spans):
        if end - _LENGTH <= earlier < start:
            start = earlier
    if end - start > _LENGTH:
        words = [word.start() for word in _WORD_START.finditer(text, start, start + _LENGTH + 1)]
        end = words[-1] if len(words) > 1 else start + _LENGTH
    return start, end


def _merged(spans: Iterable[tuple[int, int]]) -> Spans:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return tuple(merged)
