"""Documents to passages that fit the model."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semsearch.types import Document, Heading, Part, Passage

# Of a text: the character spans of its tokens, int64 (n_tokens, 2), without special tokens.
TokenSpans = Callable[[str], NDArray[np.int64]]

# Tokens of a passage, title and heading included. Short passages are found better than long ones: on long
# articles windows of 60 words score .752 nDCG@10, of 120 words .729, of 180 words .713.
CHUNK_TOKENS = 128
# A section shorter than this is joined with the next: a line or two by themselves say too little.
_SMALL = 32
# The title and the headings take at most this share of a passage's tokens.
_PREFIX_SHARE = 4
# Cutting a text at a space can change how the tokens beside the cut fall; so many are kept free for it.
_SLACK = 4

_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)*\n")
_PIECE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n")


class Chunker:
    """Cuts documents at headings, paragraphs, lines and sentences into passages of `max_tokens` at most."""

    def __init__(self, token_spans: TokenSpans, max_tokens: int) -> None:
        """Make a chunker.

        Args:
            token_spans: The model's own tokenizer.
            max_tokens: Tokens that the model takes, special tokens not counted.
        """
        self._token_spans = token_spans
        self._budget = max(8, min(CHUNK_TOKENS, max_tokens) - _SLACK)

    def chunk(self, document: Document) -> Iterator[tuple[Passage, str]]:
        """Yield each passage and what is to be embedded for it: its title, its headings, its text."""
        text = document.text
        line_starts = np.array([0, *(m.end() for m in re.finditer("\n", text))])
        markup = np.array(document.markup, dtype=np.int64).reshape(-1, 2)
        token_starts = self._token_spans(text)[:, 0]
        token_starts = token_starts[~_within(token_starts, markup)]
        headings = document.headings
        heading_starts = [heading.char_start for heading in headings]
        part_starts = [part.char_start for part in document.parts]
        for start, end in self._spans(document, token_starts, heading_starts):
            first, last = (int(np.searchsorted(line_starts, at, "right")) for at in (start, end - 1))
            numbers = document.line_numbers
            over = headings[: bisect.bisect_right(heading_starts, start)]
            lines = (numbers[first - 1], numbers[last - 1]) if numbers else (first, last)
            first_part = max(0, bisect.bisect_right(part_starts, start) - 1)
            parts = document.parts[first_part : bisect.bisect_left(part_starts, end)]
            passage = Passage(
                text[start:end],
                start,
                end,
                *lines,
                _heading_path(over, document.title),
                parts[0].number if parts and parts[0].kind == "page" else None,
                _place(parts, lines),
            )
            body_start = over[-1].char_end if over and over[-1].char_start == start else start
            yield passage, self._embedded(document.title, passage, body_start, markup)

    def _embedded(self, title: str, passage: Passage, body_start: int, markup: NDArray[np.int64]) -> str:
        prefix = "\n".join(part for part in (title, passage.heading) if part)
        spans = self._token_spans(prefix)
        limit = self._budget // _PREFIX_SHARE
        if len(spans) > limit:
            prefix = prefix[: spans[limit - 1, 1]]
            body_start = passage.char_start
        elif body_start >= passage.char_end:  # a heading alone
            body_start = passage.char_start
        body = _read_out(passage, body_start, markup)
        return f"{prefix}\n{body}" if prefix else body

    def _spans(
        self, document: Document, token_starts: NDArray[np.int64], heading_starts: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """Pack the document's pieces, in order, into spans of at most the budget."""
        title_tokens = len(self._token_spans(document.title))
        # The headings' length is known only once the passage is; half of the prefix's share is kept for them.
        share = self._budget // _PREFIX_SHARE
        limit = self._budget - (share if document.headings else min(share, title_tokens))

        def count(start: int, end: int) -> int:
            return int(np.searchsorted(token_starts, end) - np.searchsorted(token_starts, start))

        sections = set(heading_starts)
        span: tuple[int, int] | None = None
        for start, end in self._pieces(document, heading_starts, limit, count, token_starts):
            if span is not None:
                new_section = start in sections and count(*span) >= _SMALL
                if new_section or count(span[0], end) > limit:
                    yield span
                    span = None
            span = (span[0], end) if span else (start, end)
        if span:
            yield span

    def _pieces(
        self,
        document: Document,
        heading_starts: Sequence[int],
        limit: int,
        count: Callable[[int, int], int],
        token_starts: NDArray[np.int64],
    ) -> Iterator[tuple[int, int]]:
        """Paragraphs; of those over the limit their lines and sentences; of those the tokens that fit."""
        text = document.text
        cuts = [match.end() for match in _BLANK_LINES.finditer(text, document.body_start)]
        bounds = sorted({document.body_start, *cuts, *heading_starts, len(text)})
        for start, end in _stripped(text, bounds):
            if count(start, end) <= limit:
                if count(start, end):
                    yield start, end
                continue
            inner = sorted({start, *(m.end() for m in _PIECE_END.finditer(text, start, end)), end})
            for piece_start, piece_end in _stripped(text, inner):
                yield from _by_tokens(text, piece_start, piece_end, limit, token_starts)


def _by_tokens(
    text: str, start: int, end: int, limit: int, token_starts: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    first, last = (int(np.searchsorted(token_starts, at)) for at in (start, end))
    while last - first > limit:
        cut = first + limit
        # Cut before a word if one starts in the later half of what fits.
        for candidate in range(cut, first + limit // 2, -1):
            if text[token_starts[candidate] - 1].isspace():
                cut = candidate
                break
        stop = int(token_starts[cut])
        if stop <= start:  # one character of more tokens than fit
            break
        yield from _stripped(text, [start, stop])
        start, first = stop, cut
    if last > first:
        yield from _stripped(text, [start, end])


def _within(positions: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each position (n,) is in one of the spans (m, 2), which are in order."""
    return np.searchsorted(spans[:, 0], positions, "right") > np.searchsorted(spans[:, 1], positions, "right")


def _read_out(passage: Passage, start: int, markup: NDArray[np.int64]) -> str:
    """The text of a passage from `start` on, without its markup."""
    end = passage.char_end
    first, last = int(np.searchsorted(markup[:, 1], start, "right")), int(np.searchsorted(markup[:, 0], end))
    bounds = [start, *markup[first:last].clip(start, end).ravel().tolist(), end]
    at = passage.char_start
    return "".join(passage.text[a - at : b - at] for a, b in zip(bounds[::2], bounds[1::2], strict=True))


def _stripped(text: str, bounds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The spans between neighbouring bounds, without the white space at their ends, the empty ones left out."""
    for start, end in itertools.pairwise(bounds):
        piece = text[start:end]
        content = piece.strip()
        if content:
            offset = start + piece.index(content[0])
            # Indentation belongs to the first line: code and lists are shown as they stand.
            indent = len(piece) - len(piece.lstrip(" \t"))
            offset = start if offset == start + indent and text[start - 1 : start] in ("", "\n") else offset
            yield offset, start + len(piece.rstrip())


def _place(parts: Sequence[Part], lines: tuple[int, int]) -> str:
    """What people call the place of these lines in these parts."""
    if not parts:
        return ""
    first, last = parts[0], parts[-1]
    if first.columns:
        left, _, right = first.columns.partition(":")
        return f"{first.name}!{left}{lines[0]}:{right}{lines[1]}"
    return f"{first.kind} {first.number}" if first is last else f"{first.kind}s {first.number}-{last.number}"


def _heading_path(headings: Sequence[Heading], title: str) -> str:
    path: list[Any] = []
    for heading in headings:
        while path and path[-1].level >= heading.level:
            path.pop()
        path.append(heading)
    return " > ".join(heading.text for heading in path if heading.text != title)
