"""Mail: a message a file, or a mailbox of them; a document a message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import Compat32
from pathlib import PurePosixPath
from typing import Any

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import html
from semsearch.corpus.readers.mail_headers import (
    address_parts,
    date_of,
    decoded_bytes,
    decoded_words,
    file_name,
    header,
)
from semsearch.corpus.readers.records import mended
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document, Heading, Part

# Of a message; text comes first, and what follows so much of it is attachments.
_MESSAGE_BYTES = 64 * 2**20
_LINE_BYTES = 2**20
_PARTS = 10_000
# What separates messages has a sender and a date: a line of text can begin with the word too.
_FROM = re.compile(rb"From (?:\S* +)?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? .{0,20}\d\d?:\d\d")
_QUOTED_FROM = re.compile(rb">+From ")


class _Policy(Compat32):
    """Python's older rules, which do not interpret; a header is cut, as time can be quadratic in its length."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:_HEADER_CHARS]


_HEADER_CHARS = 10_000
_POLICY = _Policy()


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """One document a message; the lines are the file's, those of the body where they can be told."""
    if PurePosixPath(file.name).suffix.lower() == ".eml":
        data = file.path.read_bytes()
        if b"\0" in data:
            raise UnreadableFileError("binary")
        document = _document(file.name, data, 1, PurePosixPath(file.name).stem, ())
        if not document.text.strip():
            raise UnreadableFileError("empty")
        yield document
        return
    with file.path.open("rb") as lines:
        if not lines.readline(_LINE_BYTES).startswith(b"From "):
            raise UnreadableFileError("not a mailbox: its first line does not begin with `From `")
    for number, (first, data) in enumerate(_messages(file), 1):
        yield _document(file.name, data, first, "", (Part(0, "message", number),))


def _messages(file: SourceFile) -> Iterator[tuple[int, bytes]]:
    """Each message of a mailbox without its `From ` line, and the line that it starts on."""
    kept: list[bytes] = []
    first = size = 0
    number, at_start = 0, True
    with file.path.open("rb") as lines:
        while line := lines.readline(_LINE_BYTES):
            number += at_start
            if at_start and line.startswith(b"From ") and (number == 1 or _FROM.match(line)):
                if first:
                    yield first, b"".join(kept)
                kept, first, size = [], number + 1, 0
            elif size < _MESSAGE_BYTES:
                kept.append(line[1:] if at_start and _QUOTED_FROM.match(line) else line)
                size += len(line)
            at_start = line.endswith(b"\n")
    if first:
        yield first, b"".join(kept)


def _document(path: str, data: bytes, first: int, stem: str, parts: tuple[Part, ...]) -> Document:
    message = _parsed(data)
    built = _Builder(data, first)
    built.add(message)
    title = decoded_words(header(message, "subject"))
    text, numbers = "\n".join(line for line, _ in built.lines), tuple(number for _, number in built.lines)
    if not text.strip():
        text, numbers = title, (first,)
    return Document(
        path,
        text,
        title or stem,
        _metadata(message, built.attachments),
        tuple(built.headings),
        line_numbers=numbers,
        parts=parts,
    )


def _parsed(data: bytes) -> Message:
    try:
        return message_from_bytes(data, policy=_POLICY)
    except RecursionError:  # nested by hundreds: somebody means harm, and the headers are read all the same
        message = BytesHeaderParser(policy=_POLICY).parsebytes(data[:_LINE_BYTES])
        message.set_payload("")
        return message


def _metadata(message: Message, attachments: Sequence[str]) -> dict[str, Any]:
    """Names and addresses each by themselves, so that a filter finds a message by either."""
    found: dict[str, Any] = {name: address_parts(header(message, name)) for name in ("from", "to", "cc")}
    found["date"] = date_of(header(message, "date"))
    found["message_id"] = decoded_words(header(message, "message-id")).strip("<>")
    found["attachments"] = list(attachments)
    return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class _Body:
    """A text of a message; `lines[i]` is the file's line of its line `i`."""

    text: str
    lines: Sequence[int]


class _Builder:
    """The text of a message so far: lines and the file's lines of them."""

    def __init__(self, data: bytes, first: int) -> None:
        self.lines: list[tuple[str, int]] = []
        self.headings: list[Heading] = []
        self.attachments: list[str] = []
        self._data, self._first = data, first
        self._length = 0
        self._searched = self._searched_lines = 0

    def add(self, message: Message) -> None:
        """Add what a message says, in the order of its parts, not by recursion: they can be nested deeply."""
        waiting, seen = [message], 0
        while waiting and seen < _PARTS:
            part, seen = waiting.pop(), seen + 1
            kind = part.get_content_type()
            payload = part.get_payload()
            name = file_name(part)
            inner = [one for one in payload if isinstance(one, Message)] if isinstance(payload, list) else []
            if kind == "multipart/alternative" and inner:
                waiting.append(_best(inner))
            elif kind == "message/rfc822" and inner:
                self._open(decoded_words(header(inner[0], "subject")))
                waiting.append(inner[0])
            elif inner:
                waiting += reversed(inner)
            elif name or part.get_content_disposition() == "attachment" or not kind.startswith("text/"):
                self.attachments += [name] if name else []
            elif isinstance(payload, str):
                self._say(self._body(part, payload, kind == "text/html"))
        if self.attachments and self.lines:
            self._say(_Body(f"Attachments: {', '.join(self.attachments)}", (self._first,)))

    def _open(self, subject: str) -> None:
        """Begin a message that is within this one."""
        if subject:
            self._say(_Body(subject, (self._first,)))
            self.headings.append(Heading(self._length - len(subject) - 1, 1, subject, self._length))

    def _say(self, body: _Body) -> None:
        if not body.text.strip():
            return
        if self.lines:
            self._append("", self.lines[-1][1])
        for line, number in zip(body.text.split("\n"), body.lines, strict=True):
            self._append(line, number)

    def _append(self, line: str, number: int) -> None:
        self.lines.append((line, number))
        self._length += len(line) + 1

    def _body(self, part: Message, payload: str, is_html: bool) -> _Body:
        text = mended(decoded_bytes(part)).replace("\r\n", "\n").replace("\r", "\n").strip("\n")
        if is_html:
            page = html.extract(text)
            lines = self._lines_of(part, payload, text)
            return _Body(page.text, [lines[min(number, len(lines)) - 1] for number in page.line_numbers])
        return _Body(text, self._lines_of(part, payload, text))

    def _lines_of(self, part: Message, payload: str, text: str) -> Sequence[int]:
        """The file's lines of a text that stands there line by line; else the first of the message for all."""
        count = text.count("\n") + 1
        unknown = (self._first,) * count
        try:
            raw = payload.encode(part.get_content_charset() or "ascii", "surrogateescape")
        except (LookupError, ValueError):
            return unknown
        at = self._found(raw) if raw else -1
        encoding = header(part, "content-transfer-encoding").strip().lower()
        if at < 0 or encoding not in ("", "7bit", "8bit", "binary", "quoted-printable"):
            return unknown
        self._searched_lines += self._data.count(b"\n", self._searched, at)
        self._searched = at
        lines = raw.replace(b"\r\n", b"\n").split(b"\n")
        # A line that ends in "=" goes on in the next.
        soft = encoding == "quoted-printable"
        starts = [n for n in range(len(lines)) if not (soft and n and lines[n - 1].rstrip().endswith(b"="))]
        while starts and not lines[starts[0]].strip(b"\r"):
            starts.pop(0)
        numbers = [self._first + self._searched_lines + n for n in starts[:count]]
        return numbers if len(numbers) == count else unknown

    def _found(self, raw: bytes) -> int:
        """Where a body stands: after an empty line, or first if there are no headers."""
        if not self._searched and self._data.startswith(raw):
            return 0
        for gap in (b"\n\n", b"\r\n\r\n"):
            if (at := self._data.find(gap + raw, self._searched)) >= 0:
                return at + len(gap)
        return -1


def _best(parts: Sequence[Message]) -> Message:
    """Of a text in several forms, the plain one, else one with parts, such as a page with its pictures, or a page."""
    kinds = [part.get_content_type() for part in parts]
    for wanted in ("text/plain", "multipart/", "text/html"):
        for part, kind in zip(parts, kinds, strict=True):
            if kind.startswith(wanted):
                return part
    return parts[-1]
