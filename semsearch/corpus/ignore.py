"""Ignore files: `.gitignore`, `.ignore` and `.semsearchignore`, and what they leave out.

The rules are git's, and where git has none, ripgrep's: `.gitignore` counts inside a repository only, from its top down;
the others count everywhere, those of the folders above too. `.semsearchignore` overrules `.ignore`, which overrules
`.gitignore`, which overrules the repository's `info/exclude`. Of one kind, the file deepest down overrules the others.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from semsearch.corpus.patterns import Patterns, split_lines

_LOGGER = logging.getLogger(__name__)
_REPOSITORY = ".git"
_EXCLUDE = ".git/info/exclude"
# The strongest first.
_KINDS = (".semsearchignore", ".ignore", ".gitignore", _EXCLUDE)
_GIT_KINDS = (".gitignore", _EXCLUDE)
# What people write is a thousandth of it.
_MAX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _List:
    """The patterns of one file, and the folder, with a slash at its end, that their paths are relative to."""

    kind: str
    base: bytes
    patterns: Patterns


@dataclass(frozen=True, slots=True)
class Ignores:
    """What the ignore files of a folder and of those above it say; the lists that overrule others come first."""

    lists: tuple[_List, ...] = ()
    in_repository: bool = False

    @classmethod
    def above(cls, folder: Path) -> Ignores:
        """Those of the folders above one that is absolute, but not its own."""
        found = cls()
        for parent in reversed(folder.parents):
            names = {name for name in (_REPOSITORY, *_KINDS[:3]) if os.path.lexists(parent / name)}
            found = found.entering(str(parent), names)
        return found

    def entering(self, folder: str, names: Container[str]) -> Ignores:
        """Those that hold in a folder, which is absolute and in the one of these, and has these names in it."""
        at_top = _REPOSITORY in names
        in_repository = at_top or self.in_repository
        kept = [one for one in self.lists if not (at_top and one.kind in _GIT_KINDS)]
        base = os.fsencode(folder).rstrip(b"/") + b"/"
        fresh = [
            _List(kind, base, patterns)
            for kind in _KINDS
            if (kind in names and (in_repository or kind != ".gitignore")) or (kind == _EXCLUDE and at_top)
            if not (patterns := _patterns(folder, kind)).empty
        ]
        if not fresh and len(kept) == len(self.lists):
            return self if in_repository == self.in_repository else Ignores(self.lists, in_repository)
        # Sorting is stable: of one kind, those of this folder stay before those of the folders above.
        ordered = sorted((*fresh, *kept), key=lambda one: _KINDS.index(one.kind))
        return Ignores(tuple(ordered), in_repository)

    def ignoring(self, path: str, *, is_folder: bool) -> str | None:
        """The name of the kind of file that ignores an absolute path; that of its folder must not be ignored."""
        encoded = os.fsencode(path)
        for one in self.lists:
            verdict = one.patterns.verdict(encoded[len(one.base) :], is_folder=is_folder)
            if verdict is not None:
                return one.kind if verdict else None
        return None


def _patterns(folder: str, kind: str) -> Patterns:
    path = Path(_git_folder(folder), "info", "exclude") if kind == _EXCLUDE else Path(folder, kind)
    return Patterns(split_lines(_content(path)))


def _git_folder(folder: str) -> Path:
    """Where the repository with its top in a folder has what its work trees share."""
    git = Path(folder, _REPOSITORY)
    # Of a submodule or a second work tree, `.git` is a file that says where.
    if git.is_file():
        git = Path(folder, _said(git).removeprefix("gitdir:").strip())
    return git / _said(git / "commondir").strip()


def _said(path: Path) -> str:
    return os.fsdecode(_content(path).split(b"\n")[0])


def _content(path: Path) -> bytes:
    """A file's content; of one that is no plain file, or cannot be read, nothing."""
    try:
        # As git, no links: a strange folder could point at any file. And a pipe must not be waited for.
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(opened, "rb") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise OSError(0, "no plain file")
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise OSError(0, f"over the limit of {_MAX_BYTES / 2**20:g} MiB")
        return content
    except FileNotFoundError:
        return b""
    except (OSError, ValueError) as error:
        _LOGGER.warning("%a is not heeded: %s", str(path), getattr(error, "strerror", None) or error)
        return b""
