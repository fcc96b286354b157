"""Files to documents: a module for each family of formats, loaded when a file needs it.

Each has `read(file, options)`, which yields the documents of a file, and raises UnreadableFileError before the first of
them, never after one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

from semsearch.corpus.formats import ReadOptions, format_of
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

# As Python has what is no character in a name.
_SURROGATE = re.compile("[\ud800-\udfff]")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """Yield the documents of a file: one in most formats, one a record in others.

    Raises:
        UnreadableFileError: The type is not supported, or the file is too large, empty, broken or not permitted; before
            the first document, never after one.
    """
    found = format_of(file.name)
    limit = found.size_limit(options)
    if file.size > limit:
        raise UnreadableFileError(f"{_size(file.size)} is over the limit of {_size(limit)}")
    try:
        for document in import_module(f"semsearch.corpus.readers.{found.module}").read(file, options):
            # A title that was taken from a name may have bytes in it that are no characters.
            yield replace(document, title=_SURROGATE.sub("\ufffd", document.title))
    except OSError as error:
        raise UnreadableFileError(f"cannot be read: {error.strerror}") from None


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count} bytes"
