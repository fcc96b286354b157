"""Patterns of paths as git's ignore files have them.

They are of bytes, as paths are, and mean what they mean to git's own `wildmatch`: a `?` is one byte. No pattern takes
long over any path: what follows a star is taken at the first place that fits and never elsewhere (`?>`), which finds
a match if there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPECIAL = re.compile(rb"[*?\[\\]")
_TOKEN = re.compile(rb"(?P<stars>\*+)|(?P<one>\?)|(?P<set>\[)|\\(?P<escaped>.)|(?P<plain>[^\\])", re.DOTALL)
_SLASH = re.compile(rb"\\?/|\Z")
_CLASS = re.compile(rb"\[:([^\]]*):\]")
# POSIX classes in the C locale.
_CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"!-~",
    b"lower": rb"a-z",
    b"print": rb" -~",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb"\t-\r ",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}
_ANY_FOLDERS = rb"(?:[^/]*/)*"
_UTF8_MARK = b"\xef\xbb\xbf"


class Patterns:
    """The patterns of one ignore file, or of one option; of those that match a path, the last one decides."""

    def __init__(self, lines: Iterable[bytes], *, strict: bool = False) -> None:
        """Take patterns, a line each.

        Args:
            lines: Without their line ends; comments and empty lines among them.
            strict: Whether a pattern that can never match is refused; in ignore files it is passed over, as git does.

        Raises:
            ValueError: One can never match; says why.
        """
        # Plain names and paths are looked up, as long lists of them are made by programs; each value is the pattern's
        # number, whether it ignores, and whether it is for folders alone.
        self._plain: dict[bytes, list[tuple[int, bool, bool]]] = {}
        self._globs: list[tuple[int, bool, bool, bool, re.Pattern[bytes]]] = []
        self.empty = True
        for number, line in enumerate(lines):
            try:
                self._add(number, line)
            except ValueError:
                if strict:
                    raise
        self._globs.reverse()

    def _add(self, number: int, line: bytes) -> None:
        line = _without_trailing_spaces(line)
        if not line or line.startswith(b"#"):
            return
        ignores = not line.startswith(b"!")
        pattern = line if ignores else line[1:]
        only_folders = pattern.endswith(b"/")
        pattern = pattern.removesuffix(b"/")
        anchored = b"/" in pattern
        pattern = pattern.removeprefix(b"/")
        if not pattern:
            raise ValueError("it names nothing")
        self.empty = False
        if _SPECIAL.search(pattern):
            self._globs.append((number, ignores, only_folders, anchored, translate(pattern, anchored=anchored)))
        else:
            # A name never holds a slash, so a key that begins with one is a path.
            key = b"/" + pattern if anchored else pattern
            self._plain.setdefault(key, []).append((number, ignores, only_folders))

    def verdict(self, path: bytes, *, is_folder: bool) -> bool | None:
        """Whether they ignore a path, relative to where they hold; None if they say nothing of it."""
        name = path.rpartition(b"/")[2]
        last, found = -1, None
        for key in (name, b"/" + path):
            for number, ignores, only_folders in self._plain.get(key, ()):
                if number > last and (is_folder or not only_folders):
                    last, found = number, ignores
        for number, ignores, only_folders, anchored, glob in self._globs:
            if number < last:
                break
            if (is_folder or not only_folders) and glob.fullmatch(path if anchored else name):
                return ignores
        return found


def split_lines(content: bytes) -> list[bytes]:
    """The lines of an ignore file, as git reads it."""
    return [line.removesuffix(b"\r").partition(b"\0")[0] for line in content.removeprefix(_UTF8_MARK).split(b"\n")]


def _without_trailing_spaces(line: bytes) -> bytes:
    """The line without the spaces at its end, but for one after a backslash."""
    stripped = line.rstrip(b" ")
    backslashes = len(stripped) - len(stripped.rstrip(b"\\"))
    return line[: len(stripped) + 1] if backslashes % 2 and stripped != line else stripped


def translate(pattern: bytes, *, anchored: bool) -> re.Pattern[bytes]:
    """A pattern, without the slashes at its ends, as a regular expression for whole paths, or for names.

    Raises:
        ValueError: It can never match; says why.
    """
    special = _SPECIAL.search(pattern)
    start = special.start() if special else len(pattern)
    # What stands before the first special character is compared by itself, and `**` may follow it as if a slash did.
    runs: list[list[list[bytes]]] = [[[re.escape(pattern[:start])]]]  # runs of segments of what is between stars
    at, after_slash, deep_end = start, True, False
    while at < len(pattern):
        match = _TOKEN.match(pattern, at)
        if not match:
            raise ValueError("it ends in a backslash")
        at = match.end()
        segments = runs[-1]
        if match["stars"]:
            slash = _SLASH.match(pattern, at)
            if anchored and len(match["stars"]) > 1 and after_slash and slash:
                deep_end, at = not slash[0], slash.end()
                # Before an escaped slash, git's `**` is one folder at least.
                runs.append([[rb"[^/]*/" if slash[0] == rb"\/" else b""]])
            else:
                segments[-1].append(b"")
                after_slash = False
            continue
        literal = match["escaped"] or match["plain"]
        after_slash = literal == b"/"
        if after_slash:
            segments.append([b""])
        elif match["set"]:
            one, at = _set(pattern, at)
            segments[-1][-1] += one
        else:
            segments[-1][-1] += rb"[^/]" if match["one"] else re.escape(literal)
    return re.compile(_joined(runs, deep_end=deep_end), re.DOTALL)


def _joined(runs: list[list[list[bytes]]], *, deep_end: bool) -> bytes:
    written = [b"/".join(_segment(pieces) for pieces in segments) for segments in runs]
    if deep_end:
        return _before_end(written[:-1]) + rb".*"
    return _before_end(written)


def _before_end(runs: list[bytes]) -> bytes:
    middle = b"".join(rb"(?>%s?%s)" % (_ANY_FOLDERS, run) for run in runs[1:-1])
    return runs[0] + middle + (_ANY_FOLDERS + runs[-1] if len(runs) > 1 else b"")


def _segment(pieces: list[bytes]) -> bytes:
    if len(pieces) == 1:
        return pieces[0]
    middle = b"".join(rb"(?>[^/]*?%s)" % piece for piece in pieces[1:-1] if piece)
    return pieces[0] + middle + rb"[^/]*" + pieces[-1]


def _set(pattern: bytes, at: int) -> tuple[bytes, int]:
    """A set as a regular expression, and where it ends; `at` is after its `[`."""
    negated = pattern[at : at + 1] in (b"!", b"^") and len(pattern) > at
    at += negated
    members, low = [], b""
    first = True
    while first or pattern[at : at + 1] != b"]":
        first = False
        if named := _CLASS.match(pattern, at):
            if named[1] not in _CLASSES:
                raise ValueError(f"it has an unknown class {named[0].decode('ascii', 'backslashreplace')}")
            members.append(_CLASSES[named[1]])
            low, at = b"", named.end()
            continue
        if pattern[at : at + 1] == b"-" and low and pattern[at + 1 : at + 2] not in (b"", b"]"):
            high, at = _member(pattern, at + 1)
            if low <= high:
                members.append(_escaped(low) + b"-" + _escaped(high))
            low = b""
            continue
        low, at = _member(pattern, at)
        members.append(_escaped(low))
    listed = b"".join(members)
    # Not even a set that says so has a slash in it.
    return (rb"[^/%s]" if negated else rb"(?!/)[%s]") % listed, at + 1


def _member(pattern: bytes, at: int) -> tuple[bytes, int]:
    at += pattern[at : at + 1] == b"\\"
    if at >= len(pattern):
        raise ValueError("'[' is not closed")
    return pattern[at : at + 1], at + 1


def _escaped(byte: bytes) -> bytes:
    return b"\\x%02x" % byte[0]
