"""The text of a document, put together from the blocks of a file that is no text itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document, Heading, Part

# Between the cells of a row. A tab takes no token of the model's, however many cells are empty.
CELL = "\t"

_LINE_END = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
# Control characters, and halves of characters: neither is text, and the latter cannot be stored.
_NO_TEXT = re.compile("[\0-\x08\x0e-\x1b\x1f\x7f\ufffe\uffff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE_BEFORE_LINE_END = re.compile(r"[^\S\n]+(?=\n|\Z)")


def clean(text: str) -> str:
    r"""The text with `\n` as its line ends, without control characters and lone surrogates."""
    text = _NO_TEXT.sub("", _LINE_END.sub("\n", text))
    return _LONE_SURROGATE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(clean(text).split())


class Builder:
    """A text that grows block by block, and what is known of where they stand.

    Attributes:
        headings: So far.
        parts: So far.
    """

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self.parts: list[Part] = []
        self._pieces: list[str] = []
        self._line_numbers: list[int] = []
        self._length = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no text yet."""
        return not self._length

    def block(self, text: str, *, apart: bool = True, line_number: int = 0) -> int:
        """Append some lines; text of white space alone is left out.

        Args:
            text: What to append.
            apart: Whether a blank line stands before it, or it goes on with the block that is there.
            line_number: The line or row of the file that all of it stands on, in formats that have such.

        Returns:
            Where it starts, or would start.
        """
        text = _SPACE_BEFORE_LINE_END.sub("", clean(text)).strip("\n")
        if not text.strip():
            return self._next()
        gap = ("\n\n" if apart else "\n") if self._length else ""
        # A blank line has the number of the one before it.
        self._line_numbers += self._line_numbers[-1:] * (len(gap) - 1)
        self._line_numbers += [line_number] * (text.count("\n") + 1)
        start = self._length + len(gap)
        self._pieces += (gap, text)
        self._length = start + len(text)
        return start

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Append a table, a line for each row that has something in it."""
        lines = ([one_line(cell) for cell in row] for row in rows)
        self.block("\n".join(CELL.join(cells) for cells in lines if any(cells)))

    def heading(self, level: int, text: str) -> None:
        """Append a heading; it is a line of its own, whatever the file has it broken into."""
        if text := one_line(text):
            start = self.block(text)
            self.headings.append(Heading(start, level, text, self._length))

    def heading_unsaid(self, level: int, text: str) -> None:
        """Begin a section whose heading is no text of the document."""
        if text := one_line(text):
            self.headings.append(Heading(self._next(), level, text, self._next()))

    def section(self, text: str, headings: Iterable[Heading]) -> None:
        """Append text that has been taken apart already, with its headings."""
        start = self.block(text)
        if len(text) != self._length - start:  # something was cleaned away, and nobody knows where
            headings = ()
        self.headings += [
            Heading(start + one.char_start, one.level, one.text, min(start + one.char_end, self._length))
            for one in headings
        ]

    def part(self, kind: str, number: int, *, name: str = "", columns: str = "") -> None:
        """Begin a page, slide, sheet or the like; it takes the place of one that has no text."""
        start = self._next()
        if self.parts and self.parts[-1].char_start == start:
            self.parts.pop()
        self.parts.append(Part(start, kind, number, name, columns))

    def document(self, file: SourceFile, title: str, metadata: Mapping[str, Any], *, lines: bool = False) -> Document:
        """The document.

        Args:
            file: What was read.
            title: What the document says that it is called; empty for its first heading's text, or its file's name.
            metadata: What it says about itself; what is None or empty is left out.
            lines: Whether it is laid out by lines, which have numbers, as a sheet is by rows.

        Raises:
            UnreadableFileError: There is no text.
        """
        text = "".join(self._pieces)
        if not text:
            raise UnreadableFileError("empty")
        first = self.headings[0].text if self.headings else PurePosixPath(file.name).stem
        return Document(
            file.name,
            text,
            one_line(title) or first,
            {key: clean(value) if isinstance(value, str) else value for key, value in metadata.items() if value},
            # Sections at the end may have no text.
            tuple(heading for heading in self.headings if heading.char_start < len(text)),
            code=((0, len(text)),) if lines else (),
            line_numbers=tuple(self._line_numbers) if lines else None,
            parts=tuple(part for part in self.parts if part.char_start < len(text)),
        )

    def _next(self) -> int:
        return self._length + 2 if self._length else 0
