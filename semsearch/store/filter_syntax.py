r"""Which documents a search looks at: a small language over paths, times and metadata.

    path:*.md  path:docs/  path:'docs/**/[a-f]*.md'      a glob: without a slash it is of names, else from the root
    type:md,markdown   modified>=2026-01-01   modified:2026-03      a suffix; a time or a whole day, month or year
    author:"Jane Doe"  year>=2020  draft!=true  tags:python  book.isbn:*      metadata; `:*` is: there, and not null
    and, or, not, ( ); terms side by side mean `and`      comparisons: `:` `=` `!=` `<` `<=` `>` `>=`

Of metadata, `:` compares without regard to case and `=` exactly; a list is equal to what it contains. Numbers
compare as numbers with numbers, all else as text. A field that is missing or null makes every comparison false,
`!=` too, which `not` turns around: `not author:Jane` holds where there is no author, `author!=Jane` does not.
A metadata field that is called path, type or modified is reached as `metadata.path`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from semsearch.errors import InvalidInputError
from semsearch.store.filters import (
    ASCII_LOWER,
    PRESENT,
    Filter,
    Joined,
    Metadata,
    Modified,
    Not,
    PathGlob,
    PathIs,
    TypeIs,
)
from semsearch.store.globs import compile_glob

_MAX_CHARACTERS = 10_000
# SQLite's parser has a stack of 100 and takes expressions 1,000 deep, which the statement around a condition shares.
_MAX_DEPTH = 30
_MAX_TERMS = 200

_TERM = "a term such as path:*.md, not type:md, modified>=2026-01-01 or author:Jane"
_KEYWORDS = frozenset({"and", "or", "not"})
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[^\s():=!<>\"'.]+")
_BARE_VALUE = re.compile(r"[^\s():=!<>\"'][^\s()]*")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*+)\"|'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_ESCAPE = re.compile(r"\\([\"'\\])")
# No space after the colon: what follows would else be taken for the value that somebody left out.
_OPERATOR = re.compile(r"(:)|\s*([<>!]=|[=<>])\s*")

_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:[T ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?)?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(1678, 2262)  # what 64 bits of nanoseconds hold
_EARLIEST, _LATEST = -(2**63), 2**63 - 1


def parse_filter(text: str) -> Filter:
    """Parse a filter; the module's docstring is its grammar.

    Times without an offset are local, in the time zone that is set now.

    Raises:
        InvalidInputError: It is no filter; the message says where, and what was expected there.
    """
    if len(text) > _MAX_CHARACTERS:
        raise InvalidInputError(f"the filter has {len(text):,} characters; at most {_MAX_CHARACTERS:,} are read")
    if not text.strip():
        raise InvalidInputError(f"the filter is empty: {text!r}; give {_TERM}")
    return _Parser(text).parse()


class _Parser:
    """Recursive descent, straight over the characters."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._terms = 0

    def parse(self) -> Filter:
        try:
            self._text.encode()
        except UnicodeEncodeError as error:
            raise self._error("valid Unicode", error.start) from None
        found = self._any()
        if self._at < len(self._text):
            raise self._error("another term or the end")
        return found

    def _any(self) -> Filter:
        parts = [self._all()]
        while self._take_keyword("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Joined("OR", tuple(parts))

    def _all(self) -> Filter:
        parts = [self._one()]
        while self._take_keyword("and") or not (self._ends() or self._keyword() == "or"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Joined("AND", tuple(parts))

    def _one(self) -> Filter:
        negated = False
        while self._take_keyword("not"):
            negated = not negated
        found = self._group() if self._peek() == "(" else self._term()
        return Not(found) if negated else found

    def _group(self) -> Filter:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidInputError(
                f"{self._here(self._at)}, which is more than {_MAX_DEPTH} parentheses deep; take some of them away"
            )
        opened, self._at = self._at, self._at + 1
        found = self._any()
        if self._peek() != ")":
            raise self._error(f"a ')' to the '(' at character {opened + 1}")
        self._at += 1
        self._depth -= 1
        return found

    def _term(self) -> Filter:
        keys = self._field()
        match = _OPERATOR.match(self._text, self._at)
        if not match:
            raise self._error(f"one of : = != < <= > >= after the field {keys[-1]!r}")
        self._at = match.end()
        start, sign = self._at, match[1] or match[2]
        value, quoted = self._value()
        self._count(start)
        if keys == ("path",):
            return self._path(sign, value, start)
        if keys == ("type",):
            return self._type(sign, value, start)
        if keys == ("modified",):
            return self._modified(sign, value, start)
        if "*" in value and not quoted:
            if (sign, value) != (":", "*"):
                raise self._error("'field:*' or a value without * (in quotes it is no wildcard)", start)
            sign = PRESENT
        if keys[0] == "metadata" and len(keys) > 1:
            keys = keys[1:]
        return Metadata(keys, sign, value)

    def _field(self) -> tuple[str, ...]:
        if self._keyword() or self._peek() == "-":
            raise self._error(_TERM)
        keys = [self._key()]
        while self._text.startswith(".", self._at):
            self._at += 1
            keys.append(self._key())
        return tuple(keys)

    def _key(self) -> str:
        if (quoted := self._take_quoted()) is not None:
            return quoted
        match = _NAME.match(self._text, self._at)
        if not match:
            raise self._error(_TERM)
        self._at = match.end()
        return match[0]

    def _value(self) -> tuple[str, bool]:
        """The value that stands here, and whether in quotes."""
        value = self._take_quoted()
        quoted = value is not None
        if value is None:
            match = _BARE_VALUE.match(self._text, self._at)
            if not match or match[0].lower() in _KEYWORDS:
                here = self._text[self._at : self._at + 1]
                how = " (in quotes, if it is this)" if here.strip() else " with no space before it" if here else ""
                raise self._error(f"a value{how}")
            self._at, value = match.end(), match[0]
        if self._at < len(self._text) and not re.match(r"[\s)]", self._text[self._at]):
            raise self._error("a space (or quotes around all of the value)")
        return value, quoted

    def _path(self, sign: str, value: str, start: int) -> Filter:
        if sign == ":":
            try:
                compile_glob(value)
            except ValueError as error:
                raise self._error(f"a glob ({error})", start) from None
            return PathGlob(value)
        if sign not in ("=", "!="):
            raise self._error("path:GLOB, path=PATH or path!=PATH", start - len(sign))
        return Not(PathIs(value)) if sign == "!=" else PathIs(value)

    def _type(self, sign: str, value: str, start: int) -> Filter:
        if sign not in (":", "=", "!="):
            raise self._error("type:SUFFIX or type!=SUFFIX", start - len(sign))
        suffixes = [suffix.removeprefix(".").translate(ASCII_LOWER) for suffix in value.split(",")]
        if not all(re.fullmatch(r"[^*?\[/\s]+", suffix) for suffix in suffixes):
            raise self._error("a suffix such as md, or several such as md,txt", start)
        self._count(start, len(suffixes) - 1)
        found = [TypeIs(suffix) for suffix in suffixes]
        wanted = found[0] if len(found) == 1 else Joined("OR", tuple(found))
        return Not(wanted) if sign == "!=" else wanted

    def _modified(self, sign: str, value: str, start: int) -> Filter:
        try:
            first, after = _period(value)
        except (ValueError, OverflowError, OSError):
            raise self._error("a date or time such as 2026, 2026-03, 2026-03-05 or 2026-03-05T12:00", start) from None
        if sign in ("<", "<="):
            return Modified(_EARLIEST, (first if sign == "<" else after) - 1)
        if sign in (">", ">="):
            return Modified(after if sign == ">" else first, _LATEST)
        found = Modified(first, after - 1)
        return Not(found) if sign == "!=" else found

    def _count(self, at: int, terms: int = 1) -> None:
        self._terms += terms
        if self._terms > _MAX_TERMS:
            raise InvalidInputError(f"{self._here(at)}, which is more than {_MAX_TERMS} terms; ask for less at a time")

    def _peek(self) -> str:
        """The next character that is no space; empty at the end."""
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _ends(self) -> bool:
        return self._peek() in ("", ")")

    def _keyword(self) -> str:
        self._peek()
        match = _NAME.match(self._text, self._at)
        return match[0].lower() if match and match[0].lower() in _KEYWORDS else ""

    def _take_keyword(self, word: str) -> bool:
        if self._keyword() != word:
            return False
        self._at += len(word)
        return True

    def _take_quoted(self) -> str | None:
        if self._text[self._at : self._at + 1] not in ('"', "'"):
            return None
        match = _QUOTED.match(self._text, self._at)
        if not match:
            quote = f"{self._text[self._at]} that closes the one at character {self._at + 1}"
            raise self._error(f"the {quote}", len(self._text))
        self._at = match.end()
        return _ESCAPE.sub(r"\1", match[1] if match[2] is None else match[2])

    def _error(self, expected: str, at: int | None = None) -> InvalidInputError:
        return InvalidInputError(f"{self._here(self._at if at is None else at)} where {expected} is expected")

    def _here(self, at: int) -> str:
        text = self._text if len(self._text) <= 200 else f"{self._text[:200]}…"
        if at >= len(self._text):
            return f"the filter {text!r} ends"
        got = self._text[at : at + 40].split()
        shown = got[0] if got and not self._text[at].isspace() else self._text[at]
        return f"the filter {text!r} has {shown!r} at character {at + 1}"


def _period(text: str) -> tuple[int, int]:
    """The first nanosecond of the year, month, day, hour, ... that a text names, and the first one after it."""
    match = _DATE.fullmatch(text)
    if not match:
        raise ValueError(text)
    year, month, day, hour, minute, second, fraction = match.groups()
    start = datetime.fromisoformat(text if day else f"{year}-{month or '01'}-01")
    if start.year not in _YEARS:
        raise ValueError(text)
    first = _nanoseconds(start)
    if hour:
        length = 10 ** (9 - len(fraction)) if fraction else 10**9 * (1 if second else 60 if minute else 3600)
        return first, first + length
    # Days, and what they add up to, end by the calendar: with summer time they are not all of one length.
    if day:
        return first, _nanoseconds(start + timedelta(days=1))
    if month:
        return first, _nanoseconds((start + timedelta(days=31)).replace(day=1))
    return first, _nanoseconds(start.replace(year=start.year + 1))


def _nanoseconds(time: datetime) -> int:
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1000
