"""Presentations (PPTX): a slide's title, its shapes and tables, and the speaker's notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE
from pptx.opc.package import PartFactory
from pptx.package import Package
from pptx.parts.presentation import PresentationPart

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import packages
from semsearch.corpus.readers.builder import Builder
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document

# The library knows presentations; templates and shows are the same inside.
for _type in (CONTENT_TYPE.PML_TEMPLATE_MAIN, CONTENT_TYPE.PML_SLIDESHOW_MAIN):
    PartFactory.part_type_for.setdefault(_type, PresentationPart)

# On every slide the same.
_UNREAD = (PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.HEADER, PP_PLACEHOLDER.SLIDE_NUMBER)
# What a program calls a presentation that has no name.
_NO_TITLE = ("PowerPoint Presentation", "PowerPoint-Präsentation", "Présentation PowerPoint", "Slide 1")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The slides, a part each; their order and numbers are those of the presentation, hidden ones counted."""
    with packages.refusals("PPTX"), packages.opened(file) as stream:
        document = _document(file, Package.open(stream))
    yield document


def _document(file: SourceFile, package: Any) -> Document:
    builder = Builder()
    for number, slide in enumerate(package.main_document_part.presentation.slides, 1):
        builder.part("slide", number)
        title = slide.shapes.title
        if title is not None:
            builder.heading(1, title.text_frame.text)
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                _shape(builder, shape)
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
            builder.block(notes.text)
    metadata = packages.core_metadata(package, RELATIONSHIP_TYPE.CORE_PROPERTIES)
    if metadata.get("title") in _NO_TITLE:
        del metadata["title"]
    return builder.document(file, metadata.get("title", ""), metadata)


def _shape(builder: Builder, shape: Any) -> None:
    """Append what a shape says. Shapes are in the order in which screen readers read them."""
    if shape.is_placeholder and shape.placeholder_format.type in _UNREAD:
        return
    if hasattr(shape, "shapes"):  # a group
        for one in shape.shapes:
            _shape(builder, one)
    elif getattr(shape, "has_table", False):
        builder.table([cell.text_frame.text for cell in row.cells] for row in shape.table.rows)
    elif shape.has_text_frame:
        builder.block(shape.text_frame.text)
