"""A passage in its surroundings, and whether its file is still what was indexed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from semsearch.errors import NoSuchPassageError
from semsearch.store.manifest import FileRow, StoredPassage
from semsearch.types import Passage, Root

# Of a number that SQLite can hold.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A passage, and the text of its document around it.

    Attributes:
        id: The passage's number in its index.
        path, title, heading, place, line_start, line_end, text, stale: As of Hit.
        before: What stands before it, as far as its end joins the passage; empty at the document's beginning.
        after: What stands after it.
        previous: The id of the passage before what is shown, to read on from; None at the document's beginning.
        next: The id of the passage after it.
    """

    id: int
    path: str
    title: str
    heading: str
    place: str
    line_start: int
    line_end: int
    before: str
    text: str
    after: str
    stale: bool
    previous: int | None
    next: int | None


class Texts(Protocol):
    """What is stored of an index's passages."""

    @property
    def root(self) -> Root:
        """What its paths are relative to."""

    def passages(self, ids: Sequence[int]) -> dict[int, StoredPassage]:
        """All that is stored of these passages.

        Raises:
            DamagedIndexError: One of them is not there or not what was written.
        """

    def neighbours(self, passage_id: int) -> list[int]:
        """The ids of the passages of a passage's document, in the order of its text; none if it is not there."""

    def passage_at(self, path: str, line: int) -> int | None:
        """The id of the passage that a file's line is in, or else of the nearest before it; None if it has none."""


def excerpt_of(texts: Texts, number: int, context: int) -> Excerpt:
    """The passage of this id, which is there, in its surroundings."""
    ids = texts.neighbours(number)
    at = ids.index(number)
    first, end = max(0, at - context), at + context + 1
    stored = texts.passages(ids[first:end])
    found = stored[number]
    passages = [stored[one].passage for one in ids[first:end]]
    return Excerpt(
        id=number,
        path=found.file.path,
        title=found.title,
        heading=found.passage.heading,
        place=found.passage.place,
        line_start=found.passage.line_start,
        line_end=found.passage.line_end,
        before=_joined(passages[: at - first + 1])[0],
        text=found.passage.text,
        after=_joined(passages[at - first :])[1],
        stale=is_stale(texts.root, found.file),
        previous=ids[first - 1] if first else None,
        next=ids[end] if end < len(ids) else None,
    )


def find_passage(texts: Texts, index: str, target: str, *, from_here: bool = True) -> tuple[int, bool]:
    """The id of the passage that a hit's id, or a path and a line of it, names; and whether it is a path alone.

    Args:
        texts: Where it is looked for.
        index: The index's name.
        target: The id; or `PATH` or `PATH:LINE`.
        from_here: Whether the path may be one that opens from the current folder, too, not only one as in a hit.

    Raises:
        NoSuchPassageError: The index has no such passage.
    """
    by_id = target.isdecimal() and len(target) <= _DIGITS
    number, whole = (int(target), False) if by_id else _at_line(texts, target, from_here)
    if number is None or (by_id and number not in texts.neighbours(number)):
        raise NoSuchPassageError(
            f"the index {index!r} has nothing at {target!r}; give a hit's id, or a path in it and a line"
        )
    return number, whole


def is_stale(root: Root, file: FileRow) -> bool:
    """Whether a file is not what was indexed, or gone; its content is looked at only if its time has changed alone.

    Objects of a store are not looked at.
    """
    if file.given or isinstance(root, str):
        return False
    path = root / file.path
    try:
        status = path.stat()
        if status.st_size != file.size or status.st_mtime_ns == file.mtime_ns:
            return status.st_size != file.size
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() != file.sha256
    except OSError:
        return True


def _at_line(texts: Texts, target: str, from_here: bool) -> tuple[int | None, bool]:
    path, colon, line = target.rpartition(":")
    whole = not colon or not line.isdecimal() or len(line) > _DIGITS
    if whole:
        path, line = target, "1"
    for name in _names(texts.root, path) if from_here else (path,):
        if (number := texts.passage_at(name, int(line))) is not None:
            return number, whole
    return None, whole


def _names(root: Root, path: str) -> Sequence[str]:
    """What the index may call a path: as it is, or as it opens from here."""
    if isinstance(root, str):
        return (path,)
    try:
        return path, Path(path).resolve().relative_to(root).as_posix()
    except (ValueError, OSError):
        return (path,)


def _joined(passages: Sequence[Passage]) -> tuple[str, str]:
    """Neighbouring passages as one text, without the last of them, and without the first."""
    pieces = []
    for one, following in pairwise(passages):
        gap = following.char_start - one.char_end
        if gap <= 0:  # the following repeats some of it
            pieces.append((one.text[: len(one.text) + gap], "", following.text[-gap:]))
        else:
            # What is not in a passage is white space.
            lines = min(gap, max(following.line_start - one.line_end, 2 if gap > 1 else 0))
            pieces.append((one.text, "\n" * lines or " ", following.text))
    before = "".join(text + space for text, space, _ in pieces)
    after = "".join(space + text for _, space, text in pieces)
    return before, after
