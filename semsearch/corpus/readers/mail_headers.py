"""What a mail's headers say, whatever they hold: decoded words, addresses, dates, names of files."""

from __future__ import annotations

import base64
import binascii
import codecs
import quopri
import re
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime

from semsearch.corpus.readers.records import mended

# RFC 2047: charset, a language that nobody gives, Q or B, and what is encoded.
_ENCODED_WORD = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?\s]*)?\?([QqBb])\?([^?\s]*+)\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)\s+(?==\?)")
# They are codecs of text to Python and take quadratic time.
_NO_CHARSETS = frozenset({"punycode", "idna"})


def header(message: Message, name: str) -> str:
    """The first header of a name as it stands in the message; empty if there is none."""
    return next((str(value) for key, value in message.raw_items() if key.lower() == name), "")


def decoded_words(raw: str) -> str:
    """A header as people read it, on one line."""
    text = characters(raw.encode("utf-8", "surrogateescape"), "utf-8")
    text = _BETWEEN_WORDS.sub(r"\1", text)
    joined: list[str] = []
    at, waiting, charset = 0, b"", ""
    for match in _ENCODED_WORD.finditer(text):
        # A character may be cut in two by the end of a word.
        if waiting and (match.start() != at or match[1].lower() != charset):
            joined.append(characters(waiting, charset))
            waiting = b""
        joined.append(text[at : match.start()])
        waiting, charset, at = waiting + _word(match[2], match[3]), match[1].lower(), match.end()
    joined += [characters(waiting, charset), text[at:]] if waiting else [text[at:]]
    return mended(" ".join("".join(joined).split()))


def _word(encoding: str, content: str) -> bytes:
    data = content.encode("utf-8", "replace")
    if encoding in "qQ":
        return quopri.decodestring(data, header=True)
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4))
    except binascii.Error:
        return data


def characters(data: bytes, charset: str) -> str:
    """The text of bytes in a charset, which may be unknown or wrong; then they are UTF-8, or else Latin-1."""
    for name in (charset, "utf-8"):
        try:
            if codecs.lookup(name).name not in _NO_CHARSETS:
                return data.decode(name)
        except (LookupError, ValueError):
            continue
    return data.decode("latin-1")


def decoded_bytes(part: Message) -> str:
    """The text of a part that has no parts."""
    try:
        data = part.get_payload(decode=True)
        charset = part.get_content_charset() or "utf-8"
    except (ValueError, LookupError, TypeError, AttributeError):
        data, charset = str(part.get_payload()).encode("utf-8", "replace"), "utf-8"
    return characters(data, charset) if isinstance(data, bytes) else ""


def address_parts(raw: str) -> list[str]:
    """The names and the addresses of a list of addresses."""
    try:
        pairs = getaddresses([raw])
    except (ValueError, IndexError, TypeError):
        return [decoded_words(raw)]
    found = (decoded_words(part) for pair in pairs for part in pair)
    return list(dict.fromkeys(part for part in found if part))


def date_of(raw: str) -> str:
    """An ISO date and time; empty if there is none."""
    try:
        return parsedate_to_datetime(raw).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def file_name(part: Message) -> str:
    """The name of an attachment; empty if it has none."""
    try:
        return decoded_words(part.get_filename() or "")
    except (ValueError, LookupError, TypeError, IndexError):
        return ""
