"""Plain text, and what formats have in common that are read as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document, Heading

_LINE_END = re.compile("\n")
# A line that is longer was written by a machine and has no headings; regular expressions are kept off it.
LONG_LINE = 500


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The file's text as it stands."""
    yield Document(file.name, decode(file), PurePosixPath(file.name).stem)


def outlined(
    file: SourceFile, text: str, headings: Sequence[Heading], metadata: Mapping[str, Any], title: str = ""
) -> Document:
    """A document of a text as it stands, called by its file unless it has a title."""
    return Document(file.name, text, title.strip() or PurePosixPath(file.name).stem, metadata, tuple(headings))


class Lines:
    """The lines of a text, without their ends, and where they start; a line that is too long to look at is empty."""

    def __init__(self, text: str) -> None:
        """Find the lines."""
        self.text = text
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text))]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> str:
        """The line of a number from 0."""
        start, end = self._starts[number], self.start(number + 1)
        return self.text[start:end].removesuffix("\n") if end - start <= LONG_LINE else ""

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))

    def start(self, number: int) -> int:
        """The place where a line starts; the end of the text after the last."""
        return self._starts[number] if number < len(self._starts) else len(self.text)

    def from_offset(self, offset: int) -> Iterator[str]:
        """The lines from the first on that does not start before `offset`."""
        return (self[number] for number, start in enumerate(self._starts) if start >= offset)
