"""AsciiDoc: the title, the attributes under it, and sections."""

from __future__ import annotations

import re
from collections.abc import Iterator

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers.text import Lines, outlined
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document, Heading

# Markdown's marks are allowed too.
_HEADING = re.compile(r"(={1,6}|#{1,6})[ \t]+(\S.*?)(?:[ \t]+\1)?[ \t]*")
_ATTRIBUTE = re.compile(r":([A-Za-z0-9_][\w-]*):(?:[ \t]+(.*))?")
# What stands between two such lines is not looked at: listings, literals, passthroughs, comments.
_DELIMITERS = re.compile(r"(?:-{4,}|\.{4,}|\+{4,}|/{4,}|```.*)")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The file as it stands; the attributes of its header are metadata."""
    text = decode(file)
    lines = Lines(text)
    headings = list(_headings(lines))
    title = headings[0].text if headings and headings[0].level == 1 else ""
    yield outlined(file, text, headings, _attributes(lines), title)


def _headings(lines: Lines) -> Iterator[Heading]:
    closed_by = ""
    for number, line in enumerate(lines):
        line = line.rstrip()
        if closed_by:
            closed_by = "" if line == closed_by else closed_by
        elif _DELIMITERS.fullmatch(line):
            closed_by = "```" if line.startswith("```") else line
        elif match := _HEADING.fullmatch(line):
            yield Heading(lines.start(number), len(match[1]), match[2], lines.start(number + 1))


def _attributes(lines: Lines) -> dict[str, str]:
    """Those of the header, which is the title, lines of authors and revision, and comments; a blank line ends it."""
    found: dict[str, str] = {}
    begun = False
    for line in lines:
        if match := _ATTRIBUTE.fullmatch(line.rstrip()):
            found[match[1].lower()] = (match[2] or "").strip()
        elif begun and not line.strip():
            break
        begun = begun or bool(line.strip())
    return found
