"""Folders of object stores, through fsspec: what is indexed, and indexes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from semsearch.corpus.selection import WalkOptions
from semsearch.corpus.walk import Skipped, Walk, walk
from semsearch.errors import InvalidInputError, SemsearchError, SourceNotFoundError, StorageError

# The file that is put last into a folder, and says that the others are there.
_WHOLE = "whole"
# Files whose content says what else is left out.
_IGNORE_FILES = frozenset({".gitignore", ".ignore", ".semsearchignore"})
# Times that object stores give of an object's last change.
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store says of an object: its size in bytes, and when it was written, in ns since 1970."""

    size: int
    mtime_ns: int


class ObjectFolder:
    """A folder of an object store. It can be sent to other processes."""

    def __init__(self, url: str) -> None:
        """Take note of it.

        Args:
            url: As fsspec has it, `s3://bucket/folder`. Keys and the like come from the environment.
        """
        self.url = url.rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectFolder, (self.url,)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        try:
            return fsspec.core.url_to_fs(self.url)  # type: ignore[no-any-return]
        except (ImportError, ValueError) as error:
            raise InvalidInputError(f"{self.url!r} cannot be used: {error}") from None

    def _path(self, name: str) -> str:
        return f"{self._opened[1].rstrip('/')}/{name}" if name else self._opened[1]

    def files(self, name: str = "") -> dict[str, Stored]:
        """All objects below one of its folders, by their names there, ascending.

        Raises:
            StorageError: The store refused.
        """
        start = f"{self._path(name)}/"
        with self._told("list", name):
            self._opened[0].invalidate_cache()
            found = self._opened[0].find(self._path(name), detail=True)
        return {
            path[len(start) :]: Stored(int(info["size"]), _mtime_ns(info))
            for path, info in sorted(found.items())
            if path.startswith(start) and info["type"] == "file"
        }

    def read(self, name: str) -> bytes | None:
        """An object; None if it is not there.

        Raises:
            StorageError: The store refused.
        """
        try:
            with self._told("read", name):
                return self._opened[0].cat_file(self._path(name))  # type: ignore[no-any-return]
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Put an object, at once and in the place of what is there.

        Raises:
            StorageError: The store refused.
        """
        with self._told("write", name):
            self._opened[0].pipe_file(self._path(name), content)

    def fetch(self, names: Iterable[str], into: Path) -> None:
        """Copy objects into a folder of this machine.

        Raises:
            FileNotFoundError: One is not there any more.
            StorageError: The store refused.
        """
        wanted = list(names)
        targets = [into / name for name in wanted]
        for folder in {target.parent for target in targets}:
            folder.mkdir(parents=True, exist_ok=True)
        if wanted:
            with self._told("read", wanted[0]):
                self._opened[0].get([self._path(name) for name in wanted], list(map(str, targets)))

    def fetch_whole(self, name: str, into: Path) -> bool:
        """Copy a folder that `put_whole` put; whether it is there."""
        there = self.files(name)
        if _WHOLE not in there:
            return False
        ObjectFolder(f"{self.url}/{name}").fetch((one for one in there if one != _WHOLE), into)
        return True

    def put_files(self, folder: Path, name: str) -> None:
        """Copy a folder of this machine.

        Raises:
            StorageError: The store refused.
        """
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        with self._told("write", name):
            names = [self._path(f"{name}/{path.relative_to(folder).as_posix()}") for path in files]
            self._opened[0].put(list(map(str, files)), names)

    def put_whole(self, folder: Path, name: str) -> None:
        """As `put_files`, but it counts as there when all of it is."""
        self.put_files(folder, name)
        self.write(f"{name}/{_WHOLE}", b"")

    def remove(self, name: str) -> None:
        """Remove an object, or a folder with all that is in it, if it is there.

        Raises:
            StorageError: The store refused.
        """
        try:
            with self._told("remove", name):
                self._opened[0].rm(self._path(name), recursive=True)
        except FileNotFoundError:
            pass

    @contextmanager
    def _told(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, SemsearchError):
            raise
        except Exception as error:  # of whatever library the store has
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StorageError(f"cannot {what} {f'{self.url}/{name}'.rstrip('/')!r}: {reason}") from error


def _mtime_ns(info: dict[str, Any]) -> int:
    time = next((info[name] for name in _TIMES if info.get(name) is not None), None)
    if isinstance(time, datetime):
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return int(float(time) * 1e9) if isinstance(time, int | float) else 0


def walk_objects(folder: ObjectFolder, options: WalkOptions) -> Walk:
    """As `walk`, of a folder of an object store; its files cannot be opened by their paths before they are fetched.

    Raises:
        SourceNotFoundError: Nothing is there.
        StorageError: The store refused.
    """
    there = folder.files()
    if not there:
        raise SourceNotFoundError(f"no object in {folder.url!r}; give the URL of the folder to index")
    # The rules are those of files: so they are followed on empty ones of the same names.
    with tempfile.TemporaryDirectory(prefix="semsearch-") as name:
        root = Path(os.path.realpath(name))
        unusable = [Skipped(one, "not the name of a file") for one in there if not _touch(root, one)]
        folder.fetch((one for one in there if one.rpartition("/")[2] in _IGNORE_FILES), root)
        found = walk([root], options)
    files = [replace(file, size=there[file.name].size, mtime_ns=there[file.name].mtime_ns) for file in found.files]
    skipped = sorted((*found.skipped, *unusable), key=lambda one: one.path)
    return Walk(root, files, skipped, folder.url)


def _touch(root: Path, name: str) -> bool:
    path = root / name
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:  # it is a folder as well, or too long
        return False
    return True
