"""Conditions on documents, by which a search is filtered; `filter_syntax` is how they are written."""

from __future__ import annotations

import json
import operator
import re
import sqlite3
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from semsearch.store.globs import compile_glob

_CACHED = 1024  # more than one filter's terms, lest each row compile them anew

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ":": operator.eq,
    "=": operator.eq,
    "!=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
PRESENT = ":*"
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,4000}")  # Python converts no more than 4,300 digits
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

# SQLite's lower() knows no other letters.
ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_GLOB_OF_SUFFIX = re.compile(r"\*([^/*?\[\\]+)")
_GLOB_OF_FOLDER = re.compile(r"/?([^*?\[\\]+/)(?:\*\*)?")


@dataclass(frozen=True, slots=True)
class DocumentFields:
    """What a filter looks at: `path` is relative to the root, `mtime_ns` since 1970, `metadata` JSON values.

    A byte of a path that is not UTF-8 is seen as `%E9`, in this case a percent sign as `%25`.
    """

    path: str
    mtime_ns: int
    metadata: Mapping[str, Any]


class Filter(ABC):
    """A condition on documents; `filter_syntax.parse_filter` makes one."""

    __slots__ = ()

    @abstractmethod
    def matches(self, fields: DocumentFields) -> bool:
        """Whether a document is wanted."""

    @abstractmethod
    def where(self) -> tuple[str, list[object]]:
        """The same as an SQL condition, 0 or 1 and never NULL, and the values to bind.

        It is over `f.path` as stored, where a slash in front marks a path with bytes that are not UTF-8,
        `f.mtime_ns` and `d.metadata` (JSON text), on a connection given to `register`.
        """


@dataclass(frozen=True, slots=True)
class Joined(Filter):
    """All, or any, of several filters."""

    word: str
    parts: tuple[Filter, ...]

    def matches(self, fields: DocumentFields) -> bool:
        decide = all if self.word == "AND" else any
        return decide(part.matches(fields) for part in self.parts)

    def where(self) -> tuple[str, list[object]]:
        # The longest first: what stands before a parenthesis waits on the stack of SQLite's parser, which is small.
        parts = sorted((part.where() for part in self.parts), key=lambda part: -len(part[0]))
        condition = f" {self.word} ".join(condition for condition, _ in parts)
        return f"({condition})", [value for _, values in parts for value in values]


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """The opposite of a filter."""

    part: Filter

    def matches(self, fields: DocumentFields) -> bool:
        return not self.part.matches(fields)

    def where(self) -> tuple[str, list[object]]:
        condition, values = self.part.where()
        return f"{condition} = 0", values


@dataclass(frozen=True, slots=True)
class PathGlob(Filter):
    """A path that a glob names."""

    pattern: str

    def matches(self, fields: DocumentFields) -> bool:
        return bool(compile_glob(self.pattern).fullmatch(fields.path))

    def where(self) -> tuple[str, list[object]]:
        if match := _GLOB_OF_SUFFIX.fullmatch(self.pattern):
            return "(substr(ltrim(f.path, '/'), ?) IS ?)", [-len(match[1]), match[1]]
        if match := _GLOB_OF_FOLDER.fullmatch(self.pattern):
            return "(substr(ltrim(f.path, '/'), 1, ?) IS ?)", [len(match[1]), match[1]]
        return "semsearch_glob(ltrim(f.path, '/'), ?)", [self.pattern]


@dataclass(frozen=True, slots=True)
class PathIs(Filter):
    """A path to the letter."""

    path: str

    def matches(self, fields: DocumentFields) -> bool:
        return fields.path == self.path

    def where(self) -> tuple[str, list[object]]:
        return "(ltrim(f.path, '/') IS ?)", [self.path]


@dataclass(frozen=True, slots=True)
class TypeIs(Filter):
    """A name that ends in a dot and `suffix`, which is in small letters, and has something before them."""

    suffix: str

    def matches(self, fields: DocumentFields) -> bool:
        name = fields.path.rpartition("/")[2]
        end = f".{self.suffix}"
        return len(name) > len(end) and name.translate(ASCII_LOWER).endswith(end)

    def where(self) -> tuple[str, list[object]]:
        return "ifnull(lower(substr(ltrim(f.path, '/'), ?)) GLOB ?, 0)", [-len(self.suffix) - 2, f"[^/].{self.suffix}"]


@dataclass(frozen=True, slots=True)
class Modified(Filter):
    """A time of modification from `first` to `last`, in nanoseconds, both of them included."""

    first: int
    last: int

    def matches(self, fields: DocumentFields) -> bool:
        return self.first <= fields.mtime_ns <= self.last

    def where(self) -> tuple[str, list[object]]:
        return "ifnull(f.mtime_ns BETWEEN ? AND ?, 0)", [self.first, self.last]


@dataclass(frozen=True, slots=True)
class Metadata(Filter):
    """A comparison with the metadata that `keys` lead to; `sign` is an operator or `:*`."""

    keys: tuple[str, ...]
    sign: str
    value: str

    def matches(self, fields: DocumentFields) -> bool:
        return _metadata_test(self.keys, self.sign, self.value)(dict(fields.metadata))

    def where(self) -> tuple[str, list[object]]:
        # JSON as Python writes it, with NaN and Infinity, is none to SQLite's own functions.
        return "semsearch_metadata(d.metadata, ?)", [json.dumps([self.keys, self.sign, self.value])]


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that the conditions of `Filter.where` call."""
    connection.create_function("semsearch_glob", 2, _sql_glob, deterministic=True)
    connection.create_function("semsearch_metadata", 2, _sql_metadata, deterministic=True)


@lru_cache(maxsize=_CACHED)
def _metadata_test(keys: Sequence[str], sign: str, value: str) -> Callable[[object], bool]:
    """Whether metadata compare so; `sign` is an operator or `:*`."""
    if sign == PRESENT:
        return lambda metadata: bool(_found(metadata, keys))
    number = _number(value)
    compare = _COMPARISONS[sign]
    fold: Callable[[str], str] = str.casefold if sign == ":" else str

    def holds(item: object) -> bool:
        if isinstance(item, bool):
            return compare(str(item).lower(), value.lower())
        if isinstance(item, int | float):
            return compare(item, number) if number is not None else compare(json.dumps(item), value)
        return isinstance(item, str) and compare(fold(item), fold(value))

    def test(metadata: object) -> bool:
        found = _found(metadata, keys)
        return bool(found) and any(holds(item) for one in found for item in _items(one)) != (sign == "!=")

    return test


def _number(text: str) -> int | float | None:
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None


def _found(metadata: object, keys: Sequence[str]) -> list[object]:
    """What keys lead to, through lists too; null is as good as missing."""
    values = [metadata]
    for key in keys:
        values = [item[key] for value in values for item in _items(value) if isinstance(item, dict) and key in item]
    return [value for value in values if value is not None]


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else (value,)


def _sql_glob(path: str | None, pattern: str) -> bool:
    return path is not None and bool(compile_glob(pattern).fullmatch(path))


def _sql_metadata(metadata: str | None, condition: str) -> bool:
    return metadata is not None and _condition(condition)(_loaded(metadata))


@lru_cache(maxsize=_CACHED)
def _condition(text: str) -> Callable[[object], bool]:
    keys, sign, value = json.loads(text)
    return _metadata_test(tuple(keys), sign, value)


@lru_cache(maxsize=1)
def _loaded(metadata: str) -> object:
    """Of one row, several conditions look at the same text."""
    return json.loads(metadata)
