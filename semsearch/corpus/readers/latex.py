r"""LaTeX: the title and the sectioning commands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers.text import LONG_LINE, Lines, outlined
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document, Heading

_LEVELS = ("part", "chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph")
_HEADING = re.compile(rf"[ \t]*\\({'|'.join(_LEVELS)})\*?[ \t]*(?:\[[^\]]*\][ \t]*)?\{{")
_FIELD = re.compile(r"[ \t]*\\(title|author|date)[ \t]*(?:\[[^\]]*\][ \t]*)?\{")
_VERBATIM = re.compile(r"[ \t]*\\(begin|end)\{(verbatim\*?|lstlisting|minted|comment|filecontents\*?)\}")
# What a title has beside words: comments, breaks, commands without their arguments, braces.
_COMMANDS = re.compile(
    r"(?<!\\)%[^\n]*\n?|\\\\(?:\[[^\]]*\])?|\\(?:label|thanks|footnote)\{[^{}]*\}|\\[A-Za-z]+\*?|[{}$]|~"
)
_TITLE_LINES = 5
_ESCAPED = re.compile(r"\\([&%$#_])")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The file as it stands; author and date are metadata."""
    text = decode(file)
    fields: dict[str, str] = {}
    headings = list(_headings(Lines(text), fields))
    title = fields.pop("title", "") or (headings[0].text if headings else "")
    yield outlined(file, text, headings, fields, title)


def _headings(lines: Lines, fields: dict[str, str]) -> Iterator[Heading]:
    verbatim = ""
    for number, line in enumerate(lines):
        if "\\" not in line:
            continue
        if match := _VERBATIM.match(line):
            verbatim = match[2] if match[1] == "begin" and not verbatim else "" if match[2] == verbatim else verbatim
        elif verbatim:
            continue
        elif match := _HEADING.match(line):
            end = _closing(lines.text, lines.start(number) + match.end())
            if end and (words := _plain(lines.text[lines.start(number) + match.end() : end])):
                line_end = lines.text.find("\n", end) + 1 or len(lines.text)
                char_end = end + 1 if lines.text[end + 1 : line_end].strip() else line_end
                yield Heading(lines.start(number), _LEVELS.index(match[1]) + 1, words, char_end)
        elif match := _FIELD.match(line):
            start = lines.start(number) + match.end()
            if (end := _closing(lines.text, start)) and (words := _plain(lines.text[start:end])):
                fields.setdefault(match[1], words)


def _closing(text: str, start: int) -> int:
    """Where the brace closes that opens before `start`; 0 if not within a few lines."""
    depth, lines = 1, 0
    for at in range(start, min(len(text), start + 4 * LONG_LINE)):
        lines += text[at] == "\n"
        if lines > _TITLE_LINES:
            break
        if text[at] in "{}" and text[at - 1] != "\\":
            depth += 1 if text[at] == "{" else -1
            if not depth:
                return at
    return 0


def _plain(latex: str) -> str:
    return _ESCAPED.sub(r"\1", " ".join(_COMMANDS.sub(" ", latex).split()))
