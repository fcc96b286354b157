"""Find the files of a corpus."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semsearch.errors import SourceNotFoundError, StorageError

# Folders of other people's code and of machines' leavings; nobody searches them for their own documents.
_VENDORED = frozenset({"node_modules", "bower_components", "__pycache__"})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read: `path` opens it, `name` is relative to the root and `/`-separated."""

    path: Path
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a folder (`path` ends in `/`), that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Walk:
    """What stands under `root`: files to read and what was left out, both in the order of their names."""

    root: Path
    files: list[SourceFile]
    skipped: list[Skipped]


def walk(sources: Sequence[Path]) -> Walk:
    """List every file under `sources`, symbolic links and hidden files left out by name.

    The root is the source itself if it is one folder, else the folder common to all of them.

    Raises:
        SourceNotFoundError: A source is not there.
        StorageError: A source may not be listed.
    """
    absolute = []
    for source in sources:
        try:
            # A source that is itself a link was asked for by name, so it is followed.
            absolute.append(source.resolve(strict=True))
        except (FileNotFoundError, NotADirectoryError):
            raise SourceNotFoundError(
                f"no such file or folder: {str(source)!r}; give the path of what to index"
            ) from None
        except OSError as error:
            raise StorageError(f"cannot open {str(source)!r}: {error.strerror}") from None
    folders = [path if path.is_dir() else path.parent for path in absolute]
    root = Path(os.path.commonpath(folders))
    files: dict[str, SourceFile] = {}
    skipped: dict[str, Skipped] = {}
    for path in absolute:
        for entry in _walk_one(path, root):
            if isinstance(entry, SourceFile):
                files[entry.name] = entry
            else:
                skipped[entry.path] = entry
    return Walk(root, sorted(files.values(), key=lambda f: f.name), sorted(skipped.values(), key=lambda s: s.path))


def _walk_one(path: Path, root: Path) -> Iterator[SourceFile | Skipped]:
    if not path.is_dir():
        yield _inspect(path, _name(path, root))
        return
    folders = [path]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            if folder == path:
                raise StorageError(f"cannot list {str(path)!r}: {error.strerror}") from None
            yield Skipped(f"{_name(folder, root)}/", f"cannot be listed: {error.strerror}")
            continue
        names = {entry.name for entry in entries}
        if reason := _reason_to_skip_folder(folder, names, is_source=folder == path):
            yield Skipped(f"{_name(folder, root)}/", reason)
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.name.startswith("."):
                yield Skipped(_name(Path(entry.path), root), "hidden")
            else:
                yield _inspect(Path(entry.path), _name(Path(entry.path), root))


def _reason_to_skip_folder(folder: Path, names: set[str], *, is_source: bool) -> str | None:
    if {"index.db", "segments"} <= names:
        return "an index"
    if is_source:
        return None
    if folder.name.startswith("."):
        return "hidden folder"
    if folder.name in _VENDORED or "pyvenv.cfg" in names:
        return "vendored folder"
    return None


def _inspect(path: Path, name: str) -> SourceFile | Skipped:
    if not _is_utf8(str(path)):
        return Skipped(name, "its name is not UTF-8")
    try:
        status = path.lstat()
    except OSError as error:
        return Skipped(name, f"cannot be read: {error.strerror}")
    if stat.S_ISLNK(status.st_mode):
        return Skipped(name, "symbolic link")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(name, "not a regular file")
    return SourceFile(path, name, status.st_size, status.st_mtime_ns)


def _name(path: Path, root: Path) -> str:
    # An undecodable byte of a name is shown as an escape, so that the name can be printed and stored.
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
