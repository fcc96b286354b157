"""Bytes of a text file to characters."""

from __future__ import annotations

import codecs

from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError

# The longer marks first: that of UTF-16 is the start of that of UTF-32.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(file: SourceFile) -> str:
    r"""The file's text, its line ends as `\n`, as Python's own text mode reads it.

    Raises:
        UnreadableFileError: It is binary, empty, or in no encoding that can be told.
    """
    data = file.path.read_bytes()
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data:
        raise UnreadableFileError("binary")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"not {encoding.upper()} text: byte {error.start}") from None
    if not text.strip():
        raise UnreadableFileError("empty")
    return text.replace("\r\n", "\n").replace("\r", "\n")
