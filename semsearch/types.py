"""The data that passes between the parts of semsearch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a document: where its line starts, how deep it is (1 is the top), what it says."""

    char_start: int
    level: int
    text: str


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
        line_numbers: The line of the file, from 1, that each line of `text` stands on; None where
            they are the same lines.
    """

    path: str
    text: str
    title: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    headings: tuple[Heading, ...] = ()
    body_start: int = 0
    markup: Sequence[tuple[int, int]] = ()
    line_numbers: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that is embedded: `document.text[char_start:char_end] == text`.

    Lines count from 1 and include the last; `page` is None for formats without pages; `heading` is
    the path of headings over the passage, such as `Install > Linux`, or empty.
    """

    text: str
    char_start: int
    char_end: int
    line_start: int
    line_end: int
    heading: str
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a query; a higher score is better. The span is that of `Passage`."""

    rank: int
    score: float
    path: str
    title: str
    heading: str
    line_start: int
    line_end: int
    char_start: int
    char_end: int
    page: int | None
    text: str
    metadata: Mapping[str, Any]
