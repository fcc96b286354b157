"""What a Markdown text says of itself: front matter, headings, and which characters are markup alone."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document, Heading

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.{0,65536}?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_YAML_ANCHOR = re.compile(r"(?:^|[\s\[{,:-])&\w", re.MULTILINE)
# Blocks alone are parsed; a heading's own words are parsed later, when there is one.
_BLOCKS = MarkdownIt("commonmark").disable("inline")
_INLINE = MarkdownIt("commonmark")
# The parser in C takes a step deeper into the stack with each.
_YAML_DEPTH = 500
_LINE_END = re.compile("\n")
_CODE_BLOCKS = frozenset({"fence", "code_block"})

_DESTINATION = r"\((?:<[^<>\n]*>|[^()\s<]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+(?:\"[^\"\n]*\"|'[^'\n]*'))?\s*\)"
# Only elements of formatting: a `<T>` that somebody forgot to quote is a word of the text.
_TAG = (
    r"</?(?:a|b|br|center|code|details|div|em|font|h[1-6]|hr|i|img|kbd|li|ol|p|picture|pre|source|span|strong|sub"
    r"|summary|sup|table|tbody|td|th|thead|tr|u|ul|video)\b[^<>]*>"
)
# What is matched and kept comes first: escapes and code. No two alternatives within a repetition begin alike and
# repetitions do not give back, so that no text takes more than linear time.
_MARKUP = re.compile(
    r"(?P<kept>\\.|(?<!`)(?P<ticks>`++).{1,1000}?(?<!`)(?P=ticks)(?!`))"
    rf"|!?\[(?P<text>(?:[^\[\]\\]|\\.|\[(?:[^\[\]\\]|\\.)*+\])*+)\]{_DESTINATION}"
    r"|^[ ]{0,3}\[(?!\^)[^\[\]\n]+\]:[ \t]*\S.*$"
    rf"|<!--(?s:.){{0,1000}}?-->|{_TAG}",
    re.MULTILINE,
)


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The file as it stands; its front matter is metadata."""
    text = decode(file)
    parsed = parse(text)
    title = parsed.metadata.get("title")
    if not (isinstance(title, str) and title.strip()):
        first = parsed.headings[0] if parsed.headings else None
        title = first.text if first and first.level == 1 else PurePosixPath(file.name).stem
    yield Document(
        file.name,
        text,
        title.strip(),
        parsed.metadata,
        parsed.headings,
        body_start=parsed.body_start,
        markup=parsed.markup,
        code=parsed.code,
    )


@dataclass(frozen=True, slots=True)
class Markdown:
    """A parsed text: its front matter's mapping and where that ends, headings, and spans of markup and of code."""

    metadata: dict[str, Any]
    body_start: int
    headings: tuple[Heading, ...]
    markup: tuple[tuple[int, int], ...]
    code: tuple[tuple[int, int], ...]


def parse(text: str) -> Markdown:
    """Parse a text by CommonMark's rules; whatever it is, it is Markdown of a kind."""
    metadata, start = _front_matter(text)
    line_starts = [start, *(match.end() for match in _LINE_END.finditer(text, start)), len(text)]
    tokens = _BLOCKS.parse(text[start:])
    code = [(line_starts[t.map[0]], line_starts[t.map[1]]) for t in tokens if t.type in _CODE_BLOCKS and t.map]
    prose = itertools.pairwise([start, *itertools.chain.from_iterable(code), len(text)])
    markup = [span for begin, end in itertools.islice(prose, 0, None, 2) for span in _markup(text, begin, end)]
    return Markdown(metadata, start, tuple(_headings(tokens, line_starts)), tuple(markup), tuple(code))


def _front_matter(text: str) -> tuple[dict[str, Any], int]:
    """The YAML mapping between `---` lines that a text opens with, and where it ends; ({}, 0) without one."""
    match = _FRONT_MATTER.match(text)
    # Anchors and aliases can make a small text a huge value, and nobody writes them in front matter.
    if not match or _YAML_ANCHOR.search(match[1]) or _yaml_depth(match[1]) > _YAML_DEPTH:
        return {}, 0
    try:
        value = yaml.load(match[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not isinstance(value, dict):
            return {}, 0
        # Numbers of thousands of digits are no JSON either.
        metadata = json.loads(json.dumps({str(key): item for key, item in value.items()}, default=str))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return {}, 0
    return metadata, match.end()


def _yaml_depth(text: str) -> int:
    """More than values can be nested in a text: its brackets, and what its lines are indented by."""
    indents = (len(line) - len(line.lstrip(" -?:")) for line in text.split("\n"))
    return text.count("[") + text.count("{") + max(indents)


def _headings(tokens: Sequence[Token], line_starts: Sequence[int]) -> Iterator[Heading]:
    for token, content in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.map and (words := _plain(content.content)):
            start, end = (line_starts[line] for line in token.map)
            yield Heading(start, int(token.tag[1:]), words, end)


def _markup(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans of link targets, tags and comments in a piece of text that is no code."""
    for match in _MARKUP.finditer(text, start, end):
        if match["kept"]:
            continue
        if match["text"]:
            yield match.start(), match.start("text")
            yield from _markup(text, *match.span("text"))
            yield match.end("text"), match.end()
        else:
            yield match.span()


def _plain(markdown: str) -> str:
    """The words of one line of Markdown, without its marks."""
    children: Sequence[Any] = _INLINE.parseInline(markdown)[0].children or []
    return " ".join("".join(c.content for c in children if c.type in ("text", "code_inline")).split())
