"""PDF files: the text of their pages, cut into paragraphs where the gaps between lines say so."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pypdfium2
from pypdfium2 import raw

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import packages
from semsearch.corpus.readers.builder import Builder, clean, one_line
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

# A line begins a paragraph if it is so many times as far below the one above as lines usually are.
_PARAGRAPH_GAP = 1.25
# Lines are set with up to so many times their height; pieces of one line are nearer than this.
_MAX_SPACING, _SAME_LINE = 2.2, 0.6
_SENTENCE_END = (".", "!", "?", ":", "。", "！", "？")
# Lines of a heading and of the text below it differ in height by more than this factor.
_OTHER_SIZE = 1.15
_TITLE_LENGTH = 200
# Where pdfium found a hyphen at the end of a line.
_HYPHEN = re.compile("[\x02\ufffe]")
_NO_TITLE = re.compile(r"untitled\b.*|.*\.(docx?|odt|rtf|tex|dvi|indd|qxd|pptx?|xlsx?|ps|pdf)|[\W\d_]*", re.IGNORECASE)
_PROGRAM = re.compile(r"(Microsoft (Word|PowerPoint|Excel)|PowerPoint Presentation) - ")
_DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-]\d\d)'?(\d\d)?)?")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The document, a part each page; its bookmarks, where a line says the same, are its headings."""
    if not file.size:
        raise UnreadableFileError("empty")
    with packages.refusals("PDF"):
        document = _document(file)
    yield document


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, and its bottom and height on the page in points, by its font, not by its letters."""

    text: str
    bottom: float
    height: float


def _document(file: SourceFile) -> Document:
    # Opened first, so that what is no file is told as an OSError.
    with file.path.open("rb") as stream:
        try:
            pdf = pypdfium2.PdfDocument(stream)
        except pypdfium2.PdfiumError as error:
            if error.err_code == raw.FPDF_ERR_PASSWORD:
                raise UnreadableFileError("encrypted; save it without a password") from None
            raise
        with closing(pdf):
            bookmarks = _bookmarks(pdf)
            builder = Builder()
            pages = [_lines(pdf, index) for index in range(len(pdf))]
            usual = _usual_pitch(pages)
            for index, lines in enumerate(pages):
                builder.part("page", index + 1)
                _page(builder, lines, usual, bookmarks.get(index, {}))
            if not builder.parts or builder.is_empty:
                raise UnreadableFileError("no text in it: pages are pictures" if len(pdf) else "empty")
            metadata = _metadata(pdf)
    return builder.document(file, metadata["title"] or _largest(pages[0]) or PurePosixPath(file.name).stem, metadata)


def _largest(lines: Sequence[_Line]) -> str:
    """What stands largest on a first page, if anything does: titles are written so."""
    heights = sorted(line.height for line in lines)
    if not heights or heights[-1] <= _OTHER_SIZE * heights[len(heights) // 2]:
        return ""
    runs = itertools.groupby(lines, key=lambda line: line.height > heights[-1] / _OTHER_SIZE)
    title = next(" ".join(line.text for line in run) for is_large, run in runs if is_large)
    return title if len(title) <= _TITLE_LENGTH and not _NO_TITLE.fullmatch(title) else ""


def _page(builder: Builder, lines: Sequence[_Line], usual: float, bookmarks: dict[str, int]) -> None:
    above: _Line | None = None
    for line in lines:
        level = bookmarks.pop(_key(line.text), None)
        if level is not None:
            builder.heading(level, line.text)
        else:
            builder.block(line.text, apart=above is None or _apart(above, line, usual))
        # What comes after a heading is a block of its own.
        above = line if level is None else None


def _lines(pdf: Any, index: int) -> list[_Line]:
    """The lines of a page that have text, in the order in which the file has them."""
    lines = []
    with closing(pdf[index]) as page, closing(page.get_textpage()) as text_page:
        at = 0  # in units of UTF-16, as pdfium counts
        for line in text_page.get_text_range().split("\n"):
            if text := one_line(_HYPHEN.sub("-", line)):
                bottom = height = 0.0
                char = raw.FPDFText_GetCharIndexFromTextIndex(text_page, at + len(line) - len(line.lstrip()))
                if char >= 0:
                    _, bottom, _, top = text_page.get_charbox(char, loose=True)
                    height = top - bottom
                lines.append(_Line(text, bottom, height))
            at += len(line.encode("utf-16-le", "surrogatepass")) // 2 + 1
    return lines


def _usual_pitch(pages: Sequence[Sequence[_Line]]) -> float:
    """How far a line is from the one above within paragraphs, as a multiple of its height; 1 if that cannot be told."""
    pitches = sorted(
        pitch
        for lines in pages
        for above, line in itertools.pairwise(lines)
        if not _other_size(above, line) and (pitch := _pitch(above, line)) >= _SAME_LINE
    )
    # Where paragraphs are a line each, as on title pages and in lists, most pitches are those between paragraphs.
    return min(max(pitches[len(pitches) // 5], 1.0), _MAX_SPACING) if pitches else 1.0


def _pitch(above: _Line, line: _Line) -> float:
    """How far below the line above it a line is, as a multiple of its height; 0 if nobody knows."""
    return (above.bottom - line.bottom) / line.height if above.height > 0 and line.height > 0 else 0.0


def _apart(above: _Line, line: _Line, usual: float) -> bool:
    pitch = _pitch(above, line)
    if pitch < 0:  # the next column, where a paragraph may go on
        return above.text.endswith(_SENTENCE_END)
    return pitch >= _SAME_LINE and (_other_size(above, line) or pitch > usual * _PARAGRAPH_GAP)


def _other_size(above: _Line, line: _Line) -> bool:
    return max(above.height, line.height) > _OTHER_SIZE * min(above.height, line.height)


def _bookmarks(pdf: Any) -> dict[int, dict[str, int]]:
    """Of each page, by its index, what its bookmarks say, and their levels."""
    found: dict[int, dict[str, int]] = {}
    for bookmark in pdf.get_toc():
        destination = bookmark.get_dest()
        index = destination.get_index() if destination else None
        # A document can be read without one whose title is no text.
        with suppress(UnicodeDecodeError):
            if index is not None:
                found.setdefault(index, {}).setdefault(_key(bookmark.get_title()), bookmark.level + 1)
    return found


def _key(text: str) -> str:
    # A bookmark may be without the number that the heading has, and differ in its spaces.
    return re.sub(r"^[\d.]+(?=\D)|\s", "", clean(text)).casefold()


def _metadata(pdf: Any) -> dict[str, Any]:
    values = {}
    for name in ("Title", "Author", "Subject", "Keywords", "CreationDate", "ModDate"):
        with suppress(UnicodeDecodeError):
            values[name] = one_line(pdf.get_metadata_value(name))
    title = _PROGRAM.sub("", values.get("Title", ""))
    return {
        "title": "" if _NO_TITLE.fullmatch(title) else title,
        "author": values.get("Author"),
        "subject": values.get("Subject"),
        "keywords": values.get("Keywords"),
        "created": _date(values.get("CreationDate", "")),
        "modified": _date(values.get("ModDate", "")),
    }


def _date(text: str) -> str:
    """A date as PDF writes it, `D:20260102030405+01'00'`, in ISO form; empty if it is none."""
    match = _DATE.match(text)
    if not match:
        return ""
    year, month, day, hour, minute, second, utc, offset, offset_minutes = match.groups()
    date = f"{year}-{month or '01'}-{day or '01'}"
    if not hour:
        return date
    zone = "+00:00" if utc else f"{offset}:{offset_minutes or '00'}" if offset else ""
    return f"{date}T{hour}:{minute or '00'}:{second or '00'}{zone}"
