"""Bytes of a text file to characters."""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import TYPE_CHECKING

from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

# The longer marks first: that of UTF-16 is the start of that of UTF-32.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What is asked about where UTF-8 fails: one name for each encoding that people's files are in, as with more of them
# the rare ones are found where they are not. Of equals, the first is taken.
_ONE_BYTE = (
    "cp1252 cp1250 iso8859_2 cp1251 koi8_r koi8_u cp866 iso8859_5 cp1253 iso8859_7 cp1254 cp1255 cp1256 cp1257 tis_620"
).split()
_TWO_BYTES = "cp932 euc_jp gb18030 big5 cp949".split()
_DEFAULT = "cp1252"
# Of Latin letters, which look alike to whoever does not know the language.
_LATIN = ("cp1252", "cp1250", "iso8859_2")
# In Windows-1252: quotes, dashes, signs. A text with no others is in English, most often.
_SIGNS = bytes((0x80, 0x85, *range(0x91, 0x98), 0x99, *range(0xA0, 0xC0), 0xD7, 0xF7))

# Characters of which the nature of a text is told; what comes after tells no more, and takes its time.
_SAMPLE = 2**16
# Before the first byte that is not ASCII: what people write around it.
_BEFORE = 2**10
# Text has none of them but tabs, line and page ends, and what colours a terminal or strikes a letter over.
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\n\v\f\r\b\x1b")
_NO_CONTROLS = bytes(byte for byte in range(256) if byte not in _CONTROLS)
_ASCII = bytes(range(128))
# Of any two bytes, 1 in 100 are such a character.
_LEAST_COMMON = 0.02
_NO_TEXT = frozenset({"Cn", "Co", "Cs"})

_HIGH = re.compile(rb"[\x80-\xff]")
_LONE_LETTER = re.compile(rb"(?<![\x80-\xff])[\xc0-\xff](?![\x80-\xff])")
_THROUGH_ASCII = re.compile(rb".*[\x00-\x7f]", re.DOTALL)


def decode(file: SourceFile) -> str:
    r"""The file's text, its line ends as `\n`, as Python's own text mode reads it.

    What has a byte order mark or is UTF-8 is taken for that; else the encoding is told by the bytes: UTF-16 by its
    NULs, others by which of them makes words, and where none does, it is Windows-1252.

    Raises:
        UnreadableFileError: It is binary or empty, or not in the encoding that its mark names.
    """
    return decode_bytes(file.path.read_bytes())


def decode_bytes(data: bytes) -> str:
    """As `decode`, of bytes that are there already."""
    text = _decoded(data)
    if not text.strip():
        raise UnreadableFileError("empty")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise UnreadableFileError(f"not {encoding.upper()} text: byte {error.start}") from None
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        return _utf16(data)
    # Old texts may end in ^Z.
    controls = len(data[:_SAMPLE].removesuffix(b"\x1a").translate(None, _NO_CONTROLS))
    try:
        text = data.decode()
    except UnicodeDecodeError:
        # A tenth of the bytes of random or packed data are controls.
        if controls * 100 > min(len(data), _SAMPLE):
            raise UnreadableFileError("binary") from None
        return _damaged_utf8(data) or _by_its_words(data)
    if controls * 10 > min(len(data), _SAMPLE):
        raise UnreadableFileError("binary")
    return text


def _utf16(data: bytes) -> str:
    """Text in UTF-16 without a mark, in whose order of bytes it looks more like text.

    Raises:
        UnreadableFileError: It looks like none in either.
    """
    best, most = "", _LEAST_COMMON
    for encoding in ("utf-16-le", "utf-16-be"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if (share := _common_share(text[:_SAMPLE])) > most and "\0" not in text:
            best, most = text, share
    if not best:
        raise UnreadableFileError("binary")
    return best


def _common_share(text: str) -> float:
    """Which part of a text is what all texts have: ASCII, as spaces are, or punctuation and kana of the Far East.

    0 of what has other than characters in it.
    """
    controls = sum(text.count(chr(byte)) for byte in _CONTROLS)
    if (controls + sum(unicodedata.category(c) in _NO_TEXT for c in text)) * 100 > len(text):
        return 0.0
    return sum(c.isascii() or "\u3000" <= c <= "\u30ff" or "\uff00" <= c <= "\uffef" for c in text) / len(text)


def _damaged_utf8(data: bytes) -> str | None:
    """Text in UTF-8 with some bytes that are wrong, which become U+FFFD; None if few are right."""
    text = data.decode(errors="replace")
    broken = text.count("\ufffd")
    whole = len(text) - (len(data) - len(data.translate(None, _ASCII))) - broken
    return text if whole >= 8 * broken else None


def _by_its_words(data: bytes) -> str:
    encoding = _detected(_sample(data)) or _DEFAULT
    text = data.decode(encoding, "replace")
    # A byte or two that are wrong are no reason to lose the rest.
    if text.count("\ufffd") * 100 > len(data.translate(None, _ASCII)) + 100:
        raise UnreadableFileError("binary")
    return text


def _sample(data: bytes) -> bytes:
    """A piece of the data, from before the first byte that is not ASCII on, that ends between characters."""
    first = _HIGH.search(data)
    start = max(0, first.start() - _BEFORE) if first else 0
    sample = data[start : start + _SAMPLE]
    if start + len(sample) == len(data):
        return sample
    # In encodings of two bytes a line end is never the second one, and after any byte of ASCII a character is whole.
    end = sample.rfind(b"\n") + 1
    through = _THROUGH_ASCII.match(sample)
    return sample[:end] if end > _SAMPLE // 2 else through[0] if through else sample


def _detected(sample: bytes) -> str | None:
    """The encoding in which a sample has the most of words; None if that cannot be told."""
    from charset_normalizer import from_bytes  # few files need it

    high = sample.translate(None, _ASCII)
    if not high.translate(None, _SIGNS):
        return None
    matches = list(from_bytes(sample, cp_isolation=_ONE_BYTE + _TWO_BYTES))
    if not matches:
        return None
    best = matches[0]
    # Without words of a known language: letters that stand alone among others are accented ones.
    if not best.coherence and 2 * len(_LONE_LETTER.findall(sample)) > len(high):
        return None
    return _of_latin(matches, high) if best.encoding in _LATIN else best.encoding


def _of_latin(matches: list[CharsetMatch], high: bytes) -> str:
    """Of the encodings of Latin letters that are about as good as the best, that in which more bytes are letters."""
    best = matches[0]
    close = [
        one
        for one in matches
        if one.encoding in _LATIN and one.chaos <= best.chaos and one.coherence >= 0.8 * best.coherence
    ]

    def rank(one: CharsetMatch) -> tuple[float, float, int]:
        letters = sum(c.isalpha() for c in high.decode(one.encoding, "replace")) / max(1, len(high))
        return round(letters, 2), one.coherence, -_LATIN.index(one.encoding)

    return max(close, key=rank).encoding
