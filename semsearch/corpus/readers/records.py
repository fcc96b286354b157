"""Records: JSON Lines, a document a line; and what makes a record of any format a document."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

# The names that are looked for, in any case, where no option names a field; the first that is there is taken.
TEXT_NAMES = ("text", "contents", "content", "body", "document", "passage", "abstract", "description")
TITLE_NAMES = ("title", "name", "subject", "headline")
ID_NAMES = ("_id", "id")

# Python cannot write every value that it can read, and what is written is written far from here.
_DEEPEST = 100
_SHOWN_FIELDS, _SHOWN_CHARS = 20, 40
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    """One document a line: its text and its title are fields of the object, what else stands there is metadata.

    So the layout of BEIR (Thakur et al. 2021, https://github.com/beir-cellar/beir) works by itself. What a record is
    known by is its metadata's `_id`, and stands under its own name too.
    """
    # All of it is checked before any of it is passed on: half a corpus looks like a whole one.
    empty = True
    for document in _documents(file, options):
        empty = empty and not document.text.strip()
    if empty:
        raise UnreadableFileError("empty")
    yield from _documents(file, options)


def _documents(file: SourceFile, options: ReadOptions) -> Iterator[Document]:
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _document(file.name, _record(line, number), number, options)


def _record(line: bytes, number: int) -> dict[str, Any]:
    try:
        record = load_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except ValueError as error:
        reason = str(error) if isinstance(error, TooDeepError) else "is not JSON in UTF-8"
        raise UnreadableFileError(f"line {number} {reason}") from None
    if not isinstance(record, dict):
        raise UnreadableFileError(f"line {number} is not a JSON object")
    return record


def _document(name: str, record: dict[str, Any], number: int, options: ReadOptions) -> Document:
    where, fields = f"line {number}", tuple(record)
    text_field = find_field(options.text_field, TEXT_NAMES, fields, where)
    if not text_field:
        raise UnreadableFileError(f"{where} has no text among its fields {shown(fields)}: give --text-field")
    others = tuple(field for field in fields if field != text_field)
    title_field = find_field(options.title_field, TITLE_NAMES, others if not options.title_field else fields, where)
    id_field = find_field(options.id_field, ID_NAMES, fields, where)
    text = _string(record[text_field], text_field, number)
    title = _string(record[title_field], title_field, number) if title_field else ""
    metadata = {field: value for field, value in record.items() if field not in (text_field, title_field)}
    if id_field:
        metadata["_id"] = record[id_field]
    # A record without a text of its own is still found by its title.
    text = text if text.strip() else title
    return Document(name, text, title, metadata, line_numbers=(number,) * (text.count("\n") + 1))


def _string(value: object, field: str, number: int) -> str:
    """What a field says: a list of strings is a text in pieces."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, dict | list):
        raise UnreadableFileError(
            f'line {number}: the field "{field:.{_SHOWN_CHARS}}" is no text but a JSON '
            f"{'object' if isinstance(value, dict) else 'array'}: give --text-field or --title-field"
        )
    return value if isinstance(value, str) else json.dumps(value)


def find_field(wanted: str, usual: Sequence[str], fields: Sequence[str], where: str) -> str | None:
    """The field that an option names, or else the first of the usual names that is there, or None.

    Raises:
        UnreadableFileError: The option names a field that is not there; `where` is what has no such field.
    """
    if wanted:
        if wanted not in fields:
            raise UnreadableFileError(f'{where} has no field "{wanted}", only {shown(fields)}')
        return wanted
    return _first(usual, fields)


@lru_cache(maxsize=64)  # records of one file have much the same fields
def _first(usual: Sequence[str], fields: Sequence[str]) -> str | None:
    by_name = {field.lower(): field for field in reversed(fields)}
    return next((by_name[name] for name in usual if name in by_name), None)


def shown(fields: Sequence[str]) -> str:
    """The names of fields for a message, of which there are not too many."""
    names = ", ".join(f'"{field[:_SHOWN_CHARS]}"' for field in fields[:_SHOWN_FIELDS])
    more = len(fields) - _SHOWN_FIELDS
    return (names or "none") + (f" and {more:,} more" if more > 0 else "")


class TooDeepError(ValueError):
    """JSON that is nested too deeply."""


def load_json(text: str) -> Any:
    """The value of a JSON text, which can be written as JSON in UTF-8 again: what is no number of JSON is null.

    Raises:
        ValueError: It is no JSON, or TooDeepError.
    """
    try:
        value = _DECODER.decode(text)
        if text.count("[") + text.count("{") > _DEEPEST and _depth(value) > _DEEPEST:
            raise TooDeepError(f"is nested more than {_DEEPEST} deep")
        if "\\u" in text:  # JSON can spell halves of characters
            return json.loads(mended(json.dumps(value, ensure_ascii=False)))
    except RecursionError:
        raise TooDeepError(f"is nested more than {_DEEPEST} deep") from None
    return value


def mended(text: str) -> str:
    """The text with a replacement character for each lone surrogate, which is no character and cannot be stored."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite)


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level and depth <= _DEEPEST:
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        depth += 1
    return depth
