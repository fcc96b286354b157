"""reStructuredText: titles by what underlines them, and the fields on top."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers.text import Lines, outlined
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document, Heading

_FIELD = re.compile(r":([^\s:][^:]{0,100}):(?:[ \t]+(.*))?")
_ROLES = re.compile(r":[\w.:-]+:(?=`)")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The file as it stands; its field list on top, or right after its title, is metadata."""
    text = decode(file)
    lines = Lines(text)
    headings = list(_headings(lines))
    yield outlined(file, text, headings, _fields(lines, headings), title=headings[0].text if headings else "")


def _headings(lines: Lines) -> Iterator[Heading]:
    """Levels are given by the order in which styles of adornment first appear, over and under being a style of its own.

    https://docutils.sourceforge.io/docs/ref/rst/restructuredtext.html#sections
    """
    styles: list[tuple[str, bool]] = []
    at = 0
    while at < len(lines) - 1:
        mark = adornment(lines[at + 1])
        title = lines[at]
        if at + 2 < len(lines) and (over := adornment(title)) and lines[at + 1].strip():
            if over == adornment(lines[at + 2]) and len(title.rstrip()) == len(lines[at + 2].rstrip()):
                yield _heading(lines, at, at + 1, at + 3, styles, (over, True))
                at += 3
                continue
        # Without a blank line before it, it is the end of a paragraph, a table or a block.
        elif (
            mark
            and title.strip()
            and not title[0].isspace()
            and not adornment(title)
            and (at == 0 or not lines[at - 1].strip() or lines[at - 1].startswith(".. "))
            # An underline may be too short by a little, as people edit titles.
            and (len(lines[at + 1].rstrip()) >= len(title.rstrip()) * 2 // 3)
        ):
            yield _heading(lines, at, at, at + 2, styles, (mark, False))
            at += 2
            continue
        at += 1


def _heading(
    lines: Lines, first: int, words: int, end: int, styles: list[tuple[str, bool]], style: tuple[str, bool]
) -> Heading:
    if style not in styles:
        styles.append(style)
    text = _ROLES.sub("", " ".join(lines[words].split())).replace("`", "")
    return Heading(lines.start(first), styles.index(style) + 1, text, lines.start(end))


def adornment(line: str) -> str:
    """The character that a line repeats, three times at least; else nothing."""
    line = line.rstrip()
    same = len(line) >= 3 and line[0] in string.punctuation and line == line[0] * len(line)
    return line[0] if same else ""


def _fields(lines: Lines, headings: Sequence[Heading]) -> dict[str, str]:
    after_title = headings[0].char_end if headings and not lines.text[: headings[0].char_start].strip() else 0
    fields: dict[str, str] = {}
    name = ""
    for line in lines.from_offset(after_title):
        if match := _FIELD.fullmatch(line.rstrip()):
            name = match[1].strip().lower()
            fields[name] = (match[2] or "").strip()
        elif line.strip() and line[0].isspace() and name:
            fields[name] = f"{fields[name]} {line.strip()}".strip()
        elif line.strip() or name:
            break
    return fields
