"""Word documents (DOCX): text, headings, lists, tables, notes and text boxes, in the order of the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.part import PartFactory
from docx.package import Package
from docx.parts.document import DocumentPart

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import packages
from semsearch.corpus.readers.builder import Builder, one_line
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document

# The library knows documents; templates, and those with macros, are the same inside.
for _type in (
    "application/vnd.ms-word.document.macroEnabled.main+xml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
):
    PartFactory.part_type_for.setdefault(_type, DocumentPart)

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_CONTENTS = re.compile(r"toc (\d|heading)", re.IGNORECASE)
# What stands for a character, and what is not read out: properties, deleted text, pronunciation, a drawing's second
# version for old programs.
_CHARACTERS = {f"{_W}tab": " ", f"{_W}ptab": " ", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_UNREAD = {f"{_W}{name}" for name in ("pPr", "rPr", "sdtPr", "del", "moveFrom", "rt", "txbxContent")} | {_FALLBACK}


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The document's text; headers, footers, comments and the table of contents are left out."""
    with packages.refusals("DOCX"), packages.opened(file) as stream:
        document = _Reader(Package.open(stream)).document(file)
    yield document


class _Reader:
    """Walks the XML itself: the library passes over content controls, tracked insertions, notes and text boxes."""

    def __init__(self, package: Any) -> None:
        self._builder = Builder()
        self._package = package
        self._part = package.main_document_part
        self._styles = _styles(self._part.document.styles.element)
        self._notes = {kind: self._notes_of(kind) for kind in ("footnote", "endnote")}
        self._title = ""
        self._in_list = False

    def document(self, file: SourceFile) -> Document:
        self._blocks(self._part.document.element.body)
        metadata = packages.core_metadata(self._package, RELATIONSHIP_TYPE.CORE_PROPERTIES)
        return self._builder.document(file, metadata.get("title") or self._title, metadata)

    def _notes_of(self, kind: str) -> dict[str, Any]:
        try:
            part = self._part.part_related_by(getattr(RELATIONSHIP_TYPE, f"{kind}s".upper()))
        except KeyError:
            return {}
        root = packages.parse_xml(part.blob)
        return {note.get(f"{_W}id"): note for note in root.iterchildren(f"{_W}{kind}")}

    def _blocks(self, container: Any) -> None:
        for element in container.iterchildren(tag="{*}*"):
            if element.tag == f"{_W}p":
                self._paragraph(element)
            elif element.tag == f"{_W}tbl":
                self._table(element)
            elif element.tag not in _UNREAD:
                self._blocks(element)

    def _paragraph(self, paragraph: Any) -> None:
        style = self._styles.get(_value(paragraph, "pPr/pStyle"), _Style())
        text = _text(paragraph)
        level = _level(_value(paragraph, "pPr/outlineLvl")) if style.level is None else style.level
        if style.is_contents:
            return
        in_list = style.in_list or paragraph.find(f"{_W}pPr/{_W}numPr") is not None
        if style.is_title and not self._title:
            self._title = one_line(text)
        if level and not style.is_title:
            self._builder.heading(level, text)
        else:
            self._builder.block(text, apart=not (in_list and self._in_list))
        self._in_list = in_list and not level and bool(text.strip())
        self._aside(paragraph)

    def _table(self, table: Any) -> None:
        rows = [list(_nearest(row, "tc")) for row in _nearest(table, "tr")]
        if max(map(len, rows), default=0) == 1:  # a frame around some text
            for (cell,) in filter(None, rows):
                self._blocks(cell)
            return
        self._builder.table([" ".join(map(_text, cell.iter(f"{_W}p"))) for cell in row] for row in rows)
        self._in_list = False
        self._aside(table)

    def _aside(self, element: Any) -> None:
        """Append the notes and text boxes that hang on a paragraph or a table."""
        for found in element.iter(f"{_W}footnoteReference", f"{_W}endnoteReference", f"{_W}txbxContent"):
            above = [one.tag for one in found.iterancestors()]
            if _FALLBACK in above or f"{_W}del" in above:
                continue
            if found.tag == f"{_W}txbxContent":
                # A box in a box comes up when the outer one is read.
                if f"{_W}txbxContent" not in above[: len(above) - len(list(element.iterancestors()))]:
                    self._blocks(found)
            else:
                kind = found.tag.removeprefix(_W).removesuffix("Reference")
                # A note that refers to itself would have no end.
                if (note := self._notes[kind].pop(found.get(f"{_W}id"), None)) is not None:
                    self._blocks(note)


class _Style:
    """What a paragraph's style means: a heading's level (0 for none of them, None if it does not say), or what else."""

    def __init__(self, level: int | None = None) -> None:
        self.level = level
        self.in_list = self.is_title = self.is_contents = False


def _styles(root: Any) -> dict[str, _Style]:
    """The paragraph styles by their ids; what a style does not say, that which it is based on does."""
    elements = {style.get(f"{_W}styleId"): style for style in root.iterchildren(f"{_W}style")}
    styles = {}
    for key in elements:
        chain: list[str] = []
        while key in elements and key not in chain:
            chain.append(key)
            key = _value(elements[key], "basedOn")
        style = styles[chain[0]] = _Style()
        for one in reversed(chain):
            element, name = elements[one], _value(elements[one], "name")
            level = _level(_value(element, "pPr/outlineLvl"))
            if match := _HEADING.fullmatch(name):
                level = int(match[1])
            style.level = style.level if level is None else level
            style.in_list = style.in_list or element.find(f"{_W}pPr/{_W}numPr") is not None
            style.is_title = style.is_title or name.lower() == "title"
            style.is_contents = style.is_contents or _CONTENTS.fullmatch(name) is not None
    return styles


def _level(outline: str) -> int | None:
    # 0 to 8 are levels, 9 is body text.
    return (int(outline) + 1) % 10 if outline.isdecimal() and len(outline) == 1 else None


def _value(element: Any, path: str) -> str:
    found = element.find("/".join(f"{_W}{name}" for name in path.split("/")))
    return "" if found is None else found.get(f"{_W}val") or ""


def _nearest(element: Any, name: str) -> Iterator[Any]:
    """The descendants of this name that are in no other of them, nor in a cell or paragraph."""
    for child in element.iterchildren(tag="{*}*"):
        if child.tag == f"{_W}{name}":
            yield child
        elif child.tag not in _UNREAD and child.tag not in (f"{_W}tc", f"{_W}p", f"{_W}tbl"):
            yield from _nearest(child, name)


def _text(element: Any) -> str:
    pieces = []
    for child in element.iterchildren(tag="{*}*"):
        if child.tag in (f"{_W}t", _MATH_TEXT):
            pieces.append(child.text or "")
        elif child.tag in _CHARACTERS:
            pieces.append(_CHARACTERS[child.tag])
        elif child.tag not in _UNREAD:
            pieces.append(_text(child))
    return "".join(pieces)
