"""Source code: its functions and classes are headings, so that passages are cut at them and say where they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers.languages import BY_SUFFIX, CONTROL, Language
from semsearch.corpus.readers.text import LONG_LINE, Lines
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document, Heading

_ALL_BUT_LINE_ENDS = re.compile(r"[^\n]+")
_WORD = re.compile(r"\w+")
# Words that are control in one language and part of a definition in another.
_HARMLESS = frozenset({"default", "synchronized", "unchecked", "function", "export", "typedef", "requires", "in", "as"})
_PARENTHESIS = re.compile(r"[()]")
# Parameters and what follows them are looked for so far, in characters.
_FAR = 4 * LONG_LINE
_OPENER_LINES = 200
_REST = r"(?:[^;{}=\[]|\[[^\]]*\])*+"
# From the end of a function's parameters to its body: qualifiers; types, initializers, bounds; or what Go returns.
_BODY_AFTER_PARAMETERS = re.compile(
    r"\s*(?:(?:const|volatile|noexcept|override|final|mutable|async\*?|sync\*)(?!\w)\s*(?:\([^()]*\)\s*)?|&&?\s*)*+"
    rf"(?:(?:->|where\b)(?:[^;{{}}\[]|\[[^\]]*\])*+|(?::|throws?\b|requires\b){_REST})?\{{"
    r"|[^;{}=()\n]*+(?:\([^()\n]*\)[ \t]*)?\{"
)
# A star is a function's that returns a pointer to this type.
_BODY_AFTER_NAME = re.compile(r"[^;{}=()*]*+(?:\([^;{}]*\)[^;{}=()*]*)?\{")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The file's text as it stands."""
    text = decode(file)
    name = PurePosixPath(file.name)
    language = BY_SUFFIX.get(name.suffix.lower())
    found = tuple(headings(text, language)) if language else ()
    yield Document(file.name, text, name.name, {}, found, code=((0, len(text)),))


@dataclass(frozen=True, slots=True)
class _Definition:
    indent: int
    name: str
    is_type: bool


def headings(text: str, language: Language) -> Iterator[Heading]:
    """The definitions of a source, from their comments and decorators on; nested as they are indented."""
    code = Lines(language.blanks.sub(lambda match: _ALL_BUT_LINE_ENDS.sub(_blank, match[0]), text))
    lines = Lines(text)
    over: list[_Definition] = []
    for number, line in enumerate(code):
        line = line.rstrip()
        if not (content := line.lstrip()):
            continue
        indent = len(line.expandtabs(4)) - len(content.expandtabs(4))
        found = _definition(content, code, code.start(number) + len(line) - len(content), indent, language, over)
        # A parenthesis closes parameters.
        is_end = content[0] not in ")]}" if language.by_indentation else content.startswith(language.ends)
        if found or is_end:
            while over and over[-1].indent >= indent:
                over.pop()
        if found:
            over.append(found)
            start = lines.start(_first_line(number, lines, code, language))
            yield Heading(start, len(over), found.name, start)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _definition(
    content: str, code: Lines, start: int, indent: int, language: Language, over: list[_Definition]
) -> _Definition | None:
    """What a line, of which `content` starts at `start`, defines."""
    for pattern in language.definitions:
        if not (match := pattern.match(content)):
            continue
        groups = match.groupdict()
        name = match["name"].strip('"`[]')
        if not name or ("open" in groups and _is_control(name, content[: match.start("name")])):
            continue
        if "margin" in groups and indent:
            continue
        if "method" in groups or "constructor" in groups:
            parent = next((one for one in reversed(over) if one.indent < indent), None)
            if not (parent and parent.is_type and ("method" in groups or name.removeprefix("~") == parent.name)):
                continue
        if "open" in groups:
            end = _closing(code.text, start + match.end("open"))
            if not end or not _BODY_AFTER_PARAMETERS.match(code.text, end, end + LONG_LINE):
                continue
        elif "body" in groups:
            end = start + match.end("name")
            if not _BODY_AFTER_NAME.match(code.text, end, end + LONG_LINE):
                continue
        owner = groups.get("owner")
        return _Definition(indent, f"{owner}.{name}" if owner else name, "type" in groups)
    return None


def _is_control(name: str, before: str) -> bool:
    return not CONTROL.isdisjoint({name, *_WORD.findall(before)} - _HARMLESS)


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens before `start` is closed; 0 if that is far."""
    depth = 1
    for match in _PARENTHESIS.finditer(text, start, start + _FAR):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.end()
    return 0


def _first_line(number: int, lines: Lines, code: Lines, language: Language) -> int:
    """The first of the lines right above that belong to a definition: comments, decorators and the like."""
    first = number
    while first:
        above = lines[first - 1].strip()
        is_comment = above and not code[first - 1].strip() and (above[0] == "#" or not language.by_indentation)
        if not is_comment and not above.startswith(language.above):
            opener = _opener(first - 1, code) if above.startswith(")") else 0
            if not opener or not lines[opener].lstrip().startswith(language.above):
                return first
            first = opener + 1
        first -= 1
    return 0


def _opener(number: int, code: Lines) -> int:
    """The line that is indented like one that closes what it opens, not too far above; 0 if there is none."""
    indent = len(code[number]) - len(code[number].lstrip())
    for above in range(number - 1, max(-1, number - _OPENER_LINES), -1):
        line = code[above]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            return above
    return 0
