"""OpenDocument texts and presentations (ODT, ODP), read from their XML."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import packages
from semsearch.corpus.readers.builder import Builder, one_line
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

_NAMESPACE = "{urn:oasis:names:tc:opendocument:xmlns:%s:1.0}"
_OFFICE, _TEXT, _TABLE, _DRAW, _STYLE, _META, _PRESENTATION = (
    _NAMESPACE % name for name in "office text table drawing style meta presentation".split()
)
_DC = "{http://purl.org/dc/elements/1.1/}"
# Not read out: what was deleted, comments, indexes made of the text's own headings, pronunciation, titles of pictures.
_UNREAD = {
    *(f"{_TEXT}{name}" for name in ("tracked-changes", "table-of-content", "alphabetical-index", "ruby-text")),
    *(f"{_OFFICE}{name}" for name in ("annotation", "annotation-end", "forms", "event-listeners")),
    f"{_TABLE}covered-table-cell",
    f"{_PRESENTATION}notes",
}
# They hang on a place in a paragraph, and are read after it.
_ASIDE = {f"{_TEXT}note", f"{_DRAW}frame", f"{_DRAW}custom-shape", f"{_DRAW}g"}
_CHARACTERS = {f"{_TEXT}tab": " ", f"{_TEXT}line-break": "\n"}
# On every slide the same.
_SLIDE_FURNITURE = ("date-time", "footer", "header", "page-number", "page")
_METADATA = {
    "title": f"{_DC}title",
    "author": f"{_META}initial-creator",
    "subject": f"{_DC}subject",
    "description": f"{_DC}description",
    "language": f"{_DC}language",
    "created": f"{_META}creation-date",
    "modified": f"{_DC}date",
}


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The document's text; headers, footers, comments and the table of contents are left out."""
    with (
        packages.refusals("OpenDocument file"),
        packages.opened(file) as stream,
        zipfile.ZipFile(stream) as package,
    ):
        document = _document(file, package)
    yield document


def _document(file: SourceFile, package: zipfile.ZipFile) -> Document:
    content = packages.parse_xml(package.read("content.xml"))
    body = content.find(f"{_OFFICE}body")
    if body is None:
        raise UnreadableFileError("empty")
    reader = _Reader(content)
    for root in body.iterchildren(f"{_OFFICE}text"):
        reader.blocks(root)
    for root in body.iterchildren(f"{_OFFICE}presentation", f"{_OFFICE}drawing"):
        for number, page in enumerate(root.iterchildren(f"{_DRAW}page"), 1):
            reader.slide(number, page)
    metadata = _metadata(_part(package, "meta.xml"))
    return reader.builder.document(file, metadata.get("title") or reader.title, metadata)


def _part(package: zipfile.ZipFile, name: str) -> Any:
    return packages.parse_xml(package.read(name)) if name in package.namelist() else None


def _metadata(root: Any) -> dict[str, Any]:
    if root is None:
        return {}
    metadata: dict[str, Any] = {name: one_line(root.findtext(f".//{tag}") or "") for name, tag in _METADATA.items()}
    keywords = [one_line(keyword.text or "") for keyword in root.iter(f"{_META}keyword")]
    return {**metadata, "keywords": ", ".join(filter(None, keywords))}


class _Reader:
    def __init__(self, content: Any) -> None:
        self.builder = Builder()
        self.title = ""
        self._list_has_begun = False
        # An automatic style, one for each way that a paragraph looks, is based on a style that has a name.
        self._parents = {
            style.get(f"{_STYLE}name"): style.get(f"{_STYLE}parent-style-name")
            for style in content.iterfind(f"{_OFFICE}automatic-styles/{_STYLE}style")
        }

    def blocks(self, container: Any, *, in_list: bool = False) -> None:
        """Append what stands in a text, a section, a list, a text box or a note."""
        for element in container.iterchildren(tag="{*}*"):
            if element.tag in (f"{_TEXT}h", f"{_TEXT}p"):
                self._paragraph(element, apart=not (in_list and self._list_has_begun))
                self._list_has_begun = in_list and bool(_text(element).strip())
            elif element.tag in (f"{_TEXT}list", f"{_TEXT}list-item", f"{_TEXT}list-header"):
                self._list_has_begun = self._list_has_begun and in_list
                self.blocks(element, in_list=True)
            elif element.tag == f"{_TABLE}table":
                self._table(element)
            elif element.tag not in _UNREAD:
                self.blocks(element)

    def slide(self, number: int, page: Any) -> None:
        """Append a slide: its title, what else is on it, and the speaker's notes."""
        self.builder.part("slide", number)
        frames = list(page.iterchildren(tag="{*}*"))
        titles = [frame for frame in frames if frame.get(f"{_PRESENTATION}class") == "title"]
        for frame in titles[:1]:
            self.builder.heading(1, " ".join(_text(p) for p in frame.iter(f"{_TEXT}p")))
        for frame in frames:
            if frame not in titles[:1] and frame.get(f"{_PRESENTATION}class") not in _SLIDE_FURNITURE:
                if frame.tag not in _UNREAD:
                    self.blocks(frame)
                elif frame.tag == f"{_PRESENTATION}notes":
                    for one in frame.iterchildren(tag="{*}*"):
                        if one.get(f"{_PRESENTATION}class") not in _SLIDE_FURNITURE:
                            self.blocks(one)

    def _paragraph(self, paragraph: Any, *, apart: bool) -> None:
        text = _text(paragraph)
        style = paragraph.get(f"{_TEXT}style-name")
        is_title = "Title" in (style, self._parents.get(style))
        if is_title and not self.title:
            self.title = one_line(text)
        if paragraph.tag == f"{_TEXT}h" and not is_title:
            level = paragraph.get(f"{_TEXT}outline-level") or "1"
            self.builder.heading(max(1, int(level)) if level.isdecimal() else 1, text)
        else:
            self.builder.block(text, apart=apart)
        for aside in _asides(paragraph):
            self.blocks(aside)

    def _table(self, table: Any) -> None:
        rows = [
            list(row.iterchildren(f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"))
            for row in table.iter(f"{_TABLE}table-row")
            if next(row.iterancestors(f"{_TABLE}table")) is table
        ]
        if max(map(len, rows), default=0) == 1:  # a frame around some text
            for (cell,) in filter(None, rows):
                self.blocks(cell)
            return
        self.builder.table([" ".join(map(_text, cell.iter(f"{_TEXT}p", f"{_TEXT}h"))) for cell in row] for row in rows)
        for cell in table.iter(f"{_TABLE}table-cell"):
            for aside in _asides(cell):
                self.blocks(aside)


def _asides(element: Any) -> Iterator[Any]:
    """The notes and text boxes in an element, not those that are in one of them."""
    for child in element.iterchildren(tag="{*}*"):
        if child.tag == f"{_TEXT}note":
            yield from child.iterchildren(f"{_TEXT}note-body")
        elif child.tag in _ASIDE:
            yield child
        elif child.tag not in _UNREAD and child.tag not in (f"{_TABLE}table-cell", f"{_TABLE}table"):
            yield from _asides(child)


def _text(element: Any) -> str:
    """The text of a paragraph, in which white space is a space, as in HTML."""
    pieces = [_spaces(element.text)]
    for child in element.iterchildren():
        if child.tag == f"{_TEXT}s":
            count = child.get(f"{_TEXT}c") or "1"
            pieces.append(" " * min(int(count) if count.isdecimal() else 1, 1000))
        elif child.tag in _CHARACTERS:
            pieces.append(_CHARACTERS[child.tag])
        elif isinstance(child.tag, str) and child.tag not in _UNREAD and child.tag not in _ASIDE:
            pieces.append(_text(child))
        pieces.append(_spaces(child.tail))
    return "".join(pieces)


def _spaces(text: str | None) -> str:
    return " ".join(f"|{text}|".split())[1:-1] if text else ""
