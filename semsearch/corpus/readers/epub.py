"""Electronic books (EPUB): their chapters, in the order of reading."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import packages
from semsearch.corpus.readers.builder import Builder, clean, one_line
from semsearch.corpus.readers.html import extract
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_ENCRYPTION_METHOD = "{http://www.w3.org/2001/04/xmlenc#}EncryptionMethod"
# These mix up the first bytes of fonts so that nobody takes them out; the text can be read.
_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_XHTML = ("application/xhtml+xml", "text/html", "application/html+xml", "text/x-oeb1-document")
_ENCODING = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.-]{1,40})["']""")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The book, a part for each of its files that has text; the navigation is left out."""
    with (
        packages.refusals("EPUB"),
        packages.opened(file) as stream,
        zipfile.ZipFile(stream) as package,
    ):
        document = _document(file, package)
    yield document


def _document(file: SourceFile, package: zipfile.ZipFile) -> Document:
    names = set(package.namelist())
    if "META-INF/encryption.xml" in names:
        methods = packages.parse_xml(package.read("META-INF/encryption.xml")).iter(_ENCRYPTION_METHOD)
        if any(method.get("Algorithm") not in _OBFUSCATION for method in methods):
            raise UnreadableFileError("encrypted; its publisher lets only certain programs read it")
    container = packages.parse_xml(package.read("META-INF/container.xml"))
    root = next((one.get("full-path") for one in container.iter("{*}rootfile") if one.get("full-path")), None)
    if root is None:
        raise UnreadableFileError("not a readable EPUB: META-INF/container.xml names no package")
    book = packages.parse_xml(package.read(root))
    items = {
        item.get("id"): posixpath.normpath(posixpath.join(posixpath.dirname(root), unquote(item.get("href") or "")))
        for item in book.iter(f"{_OPF}item")
        if item.get("media-type") in _XHTML and "nav" not in (item.get("properties") or "").split()
    }
    builder = Builder()
    chapters = 0
    for reference in book.iter(f"{_OPF}itemref"):
        # A book may name what it does not have, or one file twice.
        name = items.pop(reference.get("idref"), None)
        if name in names:
            page = extract(clean(_decoded(package.read(name))))
            if page.text.strip():
                chapters += 1
                builder.part("chapter", chapters)
                builder.section(page.text, page.headings)
    metadata = _metadata(book)
    return builder.document(file, metadata["title"], metadata)


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    declared = _ENCODING.match(data)
    try:
        return data.decode(declared[1].decode() if declared else "utf-8-sig", "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


def _metadata(book: Any) -> dict[str, Any]:
    def values(name: str) -> list[str]:
        return [text for element in book.iter(f"{_DC}{name}") if (text := one_line(element.text or ""))]

    first = {name: next(iter(values(name)), "") for name in ("title", "language", "publisher", "date", "identifier")}
    return {
        **first,
        "author": ", ".join(values("creator")),
        "subject": ", ".join(values("subject")),
        "description": " ".join(extract(next(iter(values("description")), "")).text.split()),
    }
