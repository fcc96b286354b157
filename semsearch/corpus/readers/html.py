"""The text of an HTML page, and the line of the file that each line of it stands on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import PurePosixPath

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document, Heading

# Their content is not the page's text; and what stands around it on every page of a site.
_UNSEEN = frozenset({"script", "style", "template", "noscript", "svg", "select", "button", "iframe", "dialog"})
_AROUND = frozenset({"nav", "footer", "aside"})
# A page's <main>, or its only <article>, is its text if that has so many words.
_MAIN_WORDS = 20
# They stand in a line of text; every other element starts a block of its own.
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img input ins kbd label mark meter output q rp rt "
    "ruby s samp small span strike strong sub sup time tt u var wbr".split()
)
_HEADING = re.compile("h[1-6]")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """What the page shows."""
    page = extract_main(decode(file))
    if not page.text.strip():
        raise UnreadableFileError("empty")
    first = page.headings[0].text if page.headings else PurePosixPath(file.name).stem
    yield Document(file.name, page.text, page.title or first, {}, page.headings, line_numbers=page.line_numbers)


@dataclass(frozen=True, slots=True)
class Page:
    """The visible text, its blocks a blank line apart; `line_numbers[i]` is the file's line of its line `i`."""

    title: str
    text: str
    headings: tuple[Heading, ...]
    line_numbers: tuple[int, ...]


def extract(html: str) -> Page:
    """The visible text of a page; broken markup is read as well as can be, never refused."""
    return _extract(html, _UNSEEN)


def extract_main(html: str) -> Page:
    """The visible text of a page of a site, without what stands around it on every page; else as `extract`."""
    lower = html.lower()
    within = "main" if "<main" in lower else "article" if lower.count("<article") == 1 else ""
    if within and len((main := _extract(html, _UNSEEN | _AROUND, within)).text.split()) >= _MAIN_WORDS:
        return main
    page = _extract(html, _UNSEEN | _AROUND)
    # A <nav> that is never closed would be the whole page.
    return page if page.text else extract(html)


def _extract(html: str, unseen: frozenset[str], within: str = "") -> Page:
    parser = _Extractor(unseen, within)
    parser.feed(html)
    parser.close()
    parser.end_line()
    lines = parser.lines
    while lines and not lines[-1][0]:
        lines.pop()
    return Page(
        " ".join("".join(parser.title).split()),
        "\n".join(text for text, _ in lines),
        tuple(parser.headings),
        tuple(number for _, number in lines),
    )


class _Extractor(HTMLParser):
    def __init__(self, unseen: frozenset[str], within: str) -> None:
        super().__init__(convert_charrefs=True)
        self._left_out = unseen
        self._within = within
        self._inside = 0 if within else 1  # how many of the elements that are read are open
        self.title: list[str] = []
        self.lines: list[tuple[str, int]] = []
        self.headings: list[Heading] = []
        self._length = 0  # characters of the lines so far, their line ends included
        self._line: list[str] = []
        self._line_number = 1
        self._blank = True  # whether nothing of the line can be seen so far
        self._unseen = 0
        self._in_title = False
        self._preformatted = 0
        self._heading: tuple[int, int, int] | None = None  # level, first line, char_start

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == self._within:
            self._inside += 1
        if tag in self._left_out:
            self._unseen += 1
        elif tag == "title" and not self._unseen and not self.lines:
            self._in_title = True
        elif tag in ("td", "th"):
            self._line.append(" ")
        elif tag == "br":
            self.end_line()
        elif tag not in _INLINE:
            self._end_block()
            if tag == "pre":
                self._preformatted += 1
            elif _HEADING.fullmatch(tag):
                self._heading = (int(tag[1]), len(self.lines), self._length)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._left_out:
            self._unseen = max(0, self._unseen - 1)
        elif tag == "title":
            self._in_title = False
        elif tag not in _INLINE and tag not in ("td", "th", "br"):
            self.end_line()
            if tag == "pre":
                self._preformatted = max(0, self._preformatted - 1)
            elif self._heading and _HEADING.fullmatch(tag):
                level, first, char_start = self._heading
                text = " ".join(line for line, _ in self.lines[first:])
                if text:
                    self.headings.append(Heading(char_start, level, text, self._length))
                self._heading = None
            self._end_block()
        if tag == self._within:
            self._inside = max(0, self._inside - 1)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._unseen and self._inside:
            number = self.getpos()[0]
            for offset, part in enumerate(data.split("\n")):
                if offset:
                    self.end_line(keep_empty=self._preformatted > 0)
                if self._blank:
                    self._line_number = number + offset
                    self._blank = not part or part.isspace()
                self._line.append(part)

    def end_line(self, *, keep_empty: bool = False) -> None:
        """Close the line under way; an empty one is dropped unless it is to be kept."""
        text = "".join(self._line)
        text = text.rstrip() if self._preformatted else " ".join(text.split())
        self._line.clear()
        self._blank = True
        if text or (keep_empty and self.lines):
            self._append(text, self._line_number)

    def _end_block(self) -> None:
        self.end_line()
        if self.lines and self.lines[-1][0]:
            self._append("", self.lines[-1][1])

    def _append(self, text: str, number: int) -> None:
        self.lines.append((text, number))
        self._length += len(text) + 1
