"""Org: headings by stars, and keywords."""

from __future__ import annotations

import re
from collections.abc import Iterator

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers.text import Lines, outlined
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document, Heading

_HEADING = re.compile(r"(\*+)[ \t]+(?:(?:TODO|DONE|NEXT|WAITING|CANCELLED)[ \t]+)?(?:\[#\w\][ \t]+)?(\S.*)")
_TAGS = re.compile(r"[ \t]+:[\w@#%:]+:$")
_KEYWORD = re.compile(r"#\+(title|author|date|email|language|description|keywords|filetags):[ \t]*(.*)", re.IGNORECASE)
_BLOCK = re.compile(r"[ \t]*#\+(begin|end)_(\w+)", re.IGNORECASE)


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The file as it stands; its keywords (`#+AUTHOR:` and the like) are metadata."""
    text = decode(file)
    lines = Lines(text)
    keywords: dict[str, str] = {}
    headings = list(_headings(lines, keywords))
    first = headings[0].text if headings and headings[0].level == 1 else ""
    yield outlined(file, text, headings, keywords, keywords.get("title") or first)


def _headings(lines: Lines, keywords: dict[str, str]) -> Iterator[Heading]:
    block = ""
    for number, line in enumerate(lines):
        line = line.rstrip()
        if match := _BLOCK.match(line):
            kind = match[2].lower()
            if match[1].lower() == "begin":
                block = block or kind
            elif kind == block:
                block = ""
        elif block:
            continue
        elif match := _HEADING.fullmatch(line):
            words = _TAGS.sub("", match[2]).strip()
            yield Heading(lines.start(number), len(match[1]), words or match[2], lines.start(number + 1))
        elif match := _KEYWORD.fullmatch(line):
            name, value = match[1].lower(), match[2].strip()
            keywords[name] = f"{keywords[name]} {value}" if name in keywords else value
