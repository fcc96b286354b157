"""Documents to passages that fit the model."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from semsearch.errors import InvalidInputError
from semsearch.types import Document, Heading, Part, Passage

# Of a text: where its tokens start, ascending, int64 (n_tokens,), without special tokens.
TokenStarts = Callable[[str], NDArray[np.int64]]

# Tokens of a passage, title and headings included, and of what it repeats of the one before.
CHUNK_TOKENS = 128
OVERLAP = 16
# A section shorter than this is joined with the next: a line or two by themselves say too little.
_SMALL = 32
# One as short as a heading and a link or two is joined with the one before: alone, "See also" is near to every query.
_TINY = 16
# The title and the headings take at most this share of a passage's tokens.
_PREFIX_SHARE = 4
# Cutting a text at a space can change how the tokens beside the cut fall; so many are kept free for it.
_SLACK = 4
# A passage has at most so many characters a token, so that it stays short where there is hardly any: in base64, say.
# It is more than any real token has, and more than a tokenizer takes for a word, so that a piece of it is one token.
_LONGEST_TOKEN = 512

# How bad it is to cut at a place.
_BLOCK, _INNER_BLOCK, _CODE_LINE, _SENTENCE, _LINE, _WORD, _TOKEN = range(1, 8)

_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)*\n(?=([ \t]?))")
_ITEM = re.compile(r"\n(?=([ \t]*)(?:[-*+\u2022]|\d{1,4}[.)])[ \t])")
_LINE_END = re.compile(r"\n")
_SENTENCE_END = re.compile(r"""[.!?\u2026]["')\]\u201d\u2019]*\s+|[\u3002\uff01\uff1f]["')\]\u201d\u2019]*\s*""")
_SPACE = re.compile(r"\s+")


class Chunker:
    """Cuts documents into passages: between sections, then blocks, items, lines of code, sentences, words."""

    def __init__(
        self, token_starts: TokenStarts, max_tokens: int, chunk_tokens: int = CHUNK_TOKENS, overlap: int = OVERLAP
    ) -> None:
        """Make a chunker.

        Args:
            token_starts: The model's own tokenizer.
            max_tokens: Tokens that the model takes, special tokens not counted.
            chunk_tokens: Tokens of a passage at most, its title and headings included.
            overlap: Tokens at most that a passage repeats of the one before, where the cut falls within prose.

        Raises:
            InvalidInputError: `chunk_tokens` is below 16 or above `max_tokens`, or `overlap` above a quarter of it.
        """
        if not chunk_tokens >= 16 or (chunk_tokens > max_tokens and chunk_tokens != CHUNK_TOKENS):
            raise InvalidInputError(f"chunk tokens must be 16 to {max_tokens} with this model, got {chunk_tokens}")
        if not 0 <= overlap <= chunk_tokens // 4:
            raise InvalidInputError(
                f"overlap must be 0 to {chunk_tokens // 4}, a quarter of the chunk tokens, got {overlap}"
            )
        self._token_starts = token_starts
        self._budget = max(8, min(chunk_tokens, max_tokens) - _SLACK)
        self._overlap = overlap

    def chunk(self, document: Document) -> Iterator[tuple[Passage, str]]:
        """Yield each passage and what is to be embedded for it: its title, its headings, its text."""
        place = _Places(document)
        markup = np.array(document.markup, dtype=np.int64).reshape(-1, 2)
        prefixed = lru_cache(maxsize=8)(self._prefix)
        for start, end in self._spans(document, markup):
            passage, body_start = place.passage(start, end)
            prefix, whole = prefixed(document.title, passage.heading)
            # The heading that the passage opens with is the last of its prefix.
            body = _read_out(passage, body_start if whole and body_start < end else start, markup)
            yield passage, f"{prefix}\n{body}" if prefix else body

    def _prefix(self, title: str, heading: str) -> tuple[str, bool]:
        """What stands in front of a passage's text, and whether that is all of its title and headings."""
        prefix = "\n".join(part for part in (title, heading) if part)
        starts, limit = self._token_starts(prefix), self._budget // _PREFIX_SHARE
        return (prefix[: starts[limit]].rstrip(), False) if len(starts) > limit else (prefix, True)

    def _spans(self, document: Document, markup: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """The spans of the passages, in order, without white space at their ends."""
        share = self._budget // _PREFIX_SHARE
        # The headings' length is known only once the passage is; their whole share is kept for them.
        title = len(self._token_starts(document.title)) if not document.headings else share
        tokens = _filled_up(self._token_starts(_blanked(document.text, markup)), len(document.text))
        tokens = tokens[~_within(tokens, markup)]
        cutter = _Cutter(document, tokens, self._budget - min(share, title), self._overlap)
        return cutter.spans()


class _Cutter:
    """Where a document is cut; passages have at most `limit` tokens."""

    def __init__(self, document: Document, tokens: NDArray[np.int64], limit: int, overlap: int) -> None:
        self._document = document
        self._text = document.text
        self._tokens = tokens
        self._limit = limit
        self._overlap = overlap
        self._code = np.array(document.code, dtype=np.int64).reshape(-1, 2)
        at, level = self._block_cuts()
        self._cuts, self._levels = at.tolist(), level.tolist()
        # By tokens before them: between two cuts with equal many there is markup alone.
        self._cut_tokens = tokens.searchsorted(at).tolist()

    def count(self, start: int, end: int) -> int:
        """Tokens of a span."""
        first, last = self._tokens.searchsorted((start, end)).tolist()
        return int(last - first)

    def spans(self) -> Iterator[tuple[int, int]]:
        """The passages' spans; what is tiny is joined with what stands before it if both fit together."""
        apart = {part.char_start for part in self._document.parts if part.columns}
        held: tuple[int, int] | None = None
        for start, end in self._pieces():
            if held:
                tokens = self.count(start, end)  # none of markup alone
                fits = not tokens or (tokens < _TINY and self.count(held[0], end) <= self._limit)
                if fits and apart.isdisjoint(range(held[1], start + 1)):
                    held = (held[0], end)
                    continue
                yield held
            held = (start, end)
        if held:
            yield held

    def _pieces(self) -> Iterator[tuple[int, int]]:
        document = self._document
        # What is one sheet's is no other's; slides and cells may share a passage if they are small.
        apart = {part.char_start for part in document.parts if part.columns}
        starts = {*apart, *(part.char_start for part in document.parts if part.kind != "page")}
        starts.update(heading.char_start for heading in document.headings)
        bounds = [document.body_start, *sorted(at for at in starts if at > document.body_start), len(self._text)]
        tokens = self._tokens.searchsorted(bounds).tolist()
        first = 0
        for number, (bound, before) in enumerate(zip(bounds, tokens, strict=True)):
            if before - tokens[first] >= _SMALL or bound in apart or number == len(bounds) - 1:
                yield from self._cut(bounds[first], bound, tokens[first], before)
                first = number

    def _cut(self, start: int, end: int, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cut a section, or some small ones, of the tokens `first` to `last`, where it hurts least."""
        while last - first > self._limit:
            cut, level = self._best_cut(first, last)
            if cut <= start:  # a word or a character of more tokens than fit
                following = int(self._tokens.searchsorted(start, "right"))
                if following >= last:
                    break
                cut = int(self._tokens[following])
            yield from _stripped(self._text, start, cut)
            start = self._repeated(start, cut, level) if level >= _SENTENCE else cut
            first = int(self._tokens.searchsorted(start))
        yield from _stripped(self._text, start, end)

    def _best_cut(self, first: int, last: int) -> tuple[int, int]:
        """The least bad cut after half of the limit at least, the last if several are as good; and how bad it is."""
        low = first + self._limit // 2
        # What is left should not be a few words alone.
        high = max(low, min(first + self._limit, last - _SMALL))
        left, right = bisect.bisect_left(self._cut_tokens, low), bisect.bisect_right(self._cut_tokens, high)
        if left < right:
            best = min(range(left, right), key=lambda number: (self._levels[number], -number))
            return self._cuts[best], self._levels[best]
        return self._fine_cut(int(self._tokens[low]), int(self._tokens[high]))

    def _fine_cut(self, low: int, high: int) -> tuple[int, int]:
        """As `_best_cut`, within a block."""
        in_code = bool(_within(np.array([low]), self._code)[0])
        kinds = [(_CODE_LINE, _LINE_END)] if in_code else [(_SENTENCE, _SENTENCE_END), (_LINE, _LINE_END)]
        for level, pattern in (*kinds, (_WORD, _SPACE)):
            if ends := [match.end() for match in pattern.finditer(self._text, low, high)]:
                return ends[-1], level
        return high, _TOKEN

    def _repeated(self, start: int, cut: int, level: int) -> int:
        """Where the passage after a cut within prose starts: at a whole sentence before it, or in one at a word."""
        if not self._overlap:
            return cut
        before = max(0, int(self._tokens.searchsorted(cut)) - self._overlap)
        low = max(int(self._tokens[before]), start + (cut - start) // 2)
        for pattern in (_SENTENCE_END,) if level == _SENTENCE else (_SENTENCE_END, _SPACE):
            for match in pattern.finditer(self._text, low, cut):
                if match.end() < cut:
                    return match.end()
        return cut

    def _block_cuts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where blocks and items start, ascending, and how bad it is to cut there."""
        found = [(m.end(), _INNER_BLOCK if m[1] else _BLOCK) for m in _BLANK_LINES.finditer(self._text)]
        found += [(m.end(), _CODE_LINE if m[1] else _INNER_BLOCK) for m in _ITEM.finditer(self._text)]
        pairs = np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
        at, level = pairs[:, 0], pairs[:, 1]
        in_code = _within(at, self._code)
        level = np.where(in_code, np.minimum(level + 1, _CODE_LINE), level)
        return at, level


class _Places:
    """Names the places of a document: lines, headings, pages."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._lines = [0, *(match.end() for match in _LINE_END.finditer(document.text))]
        self._headings = [heading.char_start for heading in document.headings]
        self._parts = [part.char_start for part in document.parts]
        self._path: list[Heading] = []
        self._over = 0

    def passage(self, start: int, end: int) -> tuple[Passage, int]:
        """The passage of a span, which starts after the one before; and where its text without its heading starts."""
        document = self._document
        first, last = bisect.bisect_right(self._lines, start), bisect.bisect_right(self._lines, end - 1)
        if numbers := document.line_numbers:
            first, last = numbers[first - 1], numbers[last - 1]
        parts = document.parts[
            max(0, bisect.bisect_right(self._parts, start) - 1) : bisect.bisect_left(self._parts, end)
        ]
        over = bisect.bisect_right(self._headings, start)
        for heading in document.headings[self._over : over]:
            while self._path and self._path[-1].level >= heading.level:
                self._path.pop()
            self._path.append(heading)
        self._over = over
        passage = Passage(
            document.text[start:end],
            start,
            end,
            first,
            last,
            " > ".join(heading.text for heading in self._path if heading.text != document.title),
            parts[0].number if parts and parts[0].kind == "page" else None,
            _place(parts, first, last),
        )
        opens = over > 0 and self._headings[over - 1] == start
        return passage, document.headings[over - 1].char_end if opens else start


def _place(parts: Sequence[Part], first_line: int, last_line: int) -> str:
    """What people call the place of these lines in these parts."""
    if not parts:
        return ""
    first, last = parts[0], parts[-1]
    if first.columns:
        left, _, right = first.columns.partition(":")
        return f"{first.name}!{left}{first_line}:{right or left}{last_line}"
    return f"{first.kind} {first.number}" if first is last else f"{first.kind}s {first.number}-{last.number}"


def _filled_up(tokens: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The starts of tokens, with more of them within those that are longer than any real one."""
    bounds = np.append(tokens, length)
    long = np.flatnonzero(np.diff(bounds) >= 2 * _LONGEST_TOKEN)
    # The last piece of each is at least as long as the others.
    inner = [
        np.arange(bounds[number] + _LONGEST_TOKEN, bounds[number + 1] - _LONGEST_TOKEN, _LONGEST_TOKEN)
        for number in long
    ]
    return np.sort(np.concatenate([tokens, *inner]))


def _within(positions: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each position (n,) is in one of the spans (m, 2), which are in order."""
    return np.searchsorted(spans[:, 0], positions, "right") > np.searchsorted(spans[:, 1], positions, "right")


def _blanked(text: str, markup: NDArray[np.int64]) -> str:
    """The text with spaces for its markup, so that the rest stands where it stood."""
    pieces, at = [], 0
    for start, end in markup.tolist():
        pieces += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def _read_out(passage: Passage, start: int, markup: NDArray[np.int64]) -> str:
    """The text of a passage from `start` on, without its markup."""
    end, at = passage.char_end, passage.char_start
    first, last = markup[:, 1].searchsorted(start, "right").item(), markup[:, 0].searchsorted(end).item()
    if first >= last:
        return passage.text[start - at :]
    bounds = [start, *markup[first:last].clip(start, end).ravel().tolist(), end]
    return "".join(passage.text[a - at : b - at] for a, b in zip(bounds[::2], bounds[1::2], strict=True))


def _stripped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A span without the white space at its ends, unless nothing is left."""
    piece = text[start:end]
    if content := piece.lstrip():
        first = end - len(content)
        # Indentation belongs to the first line: code and lists are shown as they stand.
        line = text.rfind("\n", start, first) + 1
        yield line or (first if text[start - 1 : start] not in ("", "\n") else start), start + len(piece.rstrip())
