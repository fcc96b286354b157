"""Which files of a corpus are wanted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from semsearch.corpus.patterns import Patterns
from semsearch.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """Which files are wanted.

    Globs are relative to the root and mean what they mean in a `.gitignore`: one without a slash is of names, one that
    ends in a slash of folders, and one that names a folder is of all in it.

    Attributes:
        include: Only files that one of these globs names; none for all files.
        exclude: No file that one of these globs names, whatever `include` says.
        ignore_files: Whether what `.gitignore`, `.ignore` and `.semsearchignore` name is left out.
        hidden: Whether files and folders whose names begin with a dot are taken.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    ignore_files: bool = True
    hidden: bool = False


class Selection:
    """The globs of options; names are relative to the root, and the root itself has none."""

    def __init__(self, options: WalkOptions) -> None:
        """Read the globs.

        Raises:
            InvalidInputError: One is no glob, or none that can match.
        """
        self._include = _patterns("include", options.include)
        self._exclude = _patterns("exclude", options.exclude)

    def includes(self, name: str, *, is_folder: bool) -> bool:
        """Whether all of a folder, or a file, is wanted; what a folder's files are is looked at by themselves."""
        return self._include.empty or _names(self._include, name, is_folder=is_folder)

    def excludes(self, name: str, *, is_folder: bool) -> bool:
        """Whether a folder with all that is in it, or a file, is not wanted."""
        return not self._exclude.empty and _names(self._exclude, name, is_folder=is_folder)


def _names(patterns: Patterns, name: str, *, is_folder: bool) -> bool:
    return bool(name) and bool(patterns.verdict(os.fsencode(name), is_folder=is_folder))


def _patterns(option: str, globs: Sequence[str]) -> Patterns:
    if isinstance(globs, str):
        raise InvalidInputError(f"{option} takes several globs, got one string {globs!r}; put it into a tuple")
    return Patterns([_pattern(option, glob) for glob in globs])


def _pattern(option: str, glob: str) -> bytes:
    try:
        if glob.startswith("!"):
            raise ValueError(f"it begins with !, which {option} does not turn around; a name that does is \\!")
        line = os.fsencode(f"\\{glob}" if glob.startswith("#") else glob)
        if b"\0" in line or Patterns([line], strict=True).empty:
            raise ValueError("it names nothing")
    except UnicodeEncodeError:
        raise InvalidInputError(f"the {option} glob {glob!r} has a lone surrogate, no character") from None
    except (ValueError, AttributeError) as error:
        raise InvalidInputError(f"the {option} glob {glob!r} can match nothing: {error}") from None
    return line
