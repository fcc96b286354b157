"""The data that passes between the parts of semsearch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

# What the paths of documents are relative to: a folder of this machine, or the URL of one of an object store.
Root: TypeAlias = Path | str


def root_of(text: str) -> Root:
    """A root as an index has it written down."""
    return text if "://" in text else Path(text)


@dataclass(frozen=True, slots=True)
class Heading:
    """What a section of a document is called; in source code, a function or a class.

    Attributes:
        char_start: Where the section starts.
        level: How deep it is; 1 is the top.
        text: What the heading says.
        char_end: Where the text that says just that ends, markup and line end included; `char_start` if all of the
            section's text is more than its heading.
    """

    char_start: int
    level: int
    text: str
    char_end: int


@dataclass(frozen=True, slots=True)
class Part:
    """A page, slide, sheet or the like, by which a place in a document is named; it ends where the next one starts.

    Attributes:
        char_start: Where its text starts.
        kind: "page", "slide", "sheet", "cell" of a notebook; what else there is, in one word.
        number: From 1, as the program that shows the document counts.
        name: Of a sheet, its name.
        columns: Of a sheet, the columns that its lines have cells of, such as "A:F".
    """

    char_start: int
    kind: str
    number: int
    name: str = ""
    columns: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    r"""One readable thing.

    Attributes:
        path: Relative to the root of the corpus, `/`-separated.
        text: The extracted text; for text formats the whole file, decoded, its line ends as `\n`.
        title: From the document itself where it has one, else from its file name.
        metadata: What the document says about itself; JSON values only.
        headings: In the order of the text.
        body_start: Where the text proper begins; what stands before it (front matter) makes no passage.
        markup: Spans of the text, in order, that are not read out: where links lead, tags. They count as no
            tokens and are not embedded.
        code: Spans of the text, in order, that are source code or otherwise laid out by lines: no sentences.
        line_numbers: The line of the file, or row of the sheet, from 1, that each line of `text` stands on; None where
            they are the same lines.
        parts: Its pages, slides, sheets or the like, in the order of the text; none in formats without.
    """

    path: str
    text: str
    title: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    headings: tuple[Heading, ...] = ()
    body_start: int = 0
    markup: Sequence[tuple[int, int]] = ()
    code: Sequence[tuple[int, int]] = ()
    line_numbers: Sequence[int] | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that is embedded: `document.text[char_start:char_end] == text`.

    Attributes:
        line_start: The first line, from 1; `line_end` is the last.
        heading: The path of headings over the passage, such as `Install > Linux`, or empty.
        page: The page that it starts on; None in formats without pages.
        place: Where it stands in a document that has parts: "page 3", "slides 4-5", "Sales!A2:F40"; else empty.
    """

    text: str
    char_start: int
    char_end: int
    line_start: int
    line_end: int
    heading: str
    page: int | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a query; a higher score is better. Span, heading and place are those of `Passage`.

    Attributes:
        id: The passage's number in its index; it means this passage for as long as the index has it.
        stale: Whether the file has changed since it was indexed, or is gone.
        snippet: What of `text` answers the query best: some whole sentences or lines.
        matches: Where in the snippet words of the query stand, as pairs of offsets.
        parts: What the score is made of: "cosine" of passage and query; "document_cosine" of the whole document;
            "moved_cosine" of the passage and the query as it is moved towards what came first; "bm25", and
            "lexical", what it adds; "rerank", a reranker's score.
    """

    rank: int
    score: float
    id: int
    path: str
    title: str
    heading: str
    line_start: int
    line_end: int
    char_start: int
    char_end: int
    page: int | None
    place: str
    stale: bool
    text: str
    snippet: str
    matches: tuple[tuple[int, int], ...]
    metadata: Mapping[str, Any]
    parts: Mapping[str, float]
