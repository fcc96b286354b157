"""Plain text and source code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from semsearch.corpus.decoding import decode
from semsearch.corpus.formats import ReadOptions, format_of
from semsearch.corpus.walk import SourceFile
from semsearch.types import Document


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """The file's text as it stands."""
    name = PurePosixPath(file.name)
    title = name.stem if format_of(file.name).name == "plain text" else name.name
    yield Document(file.name, decode(file), title)
