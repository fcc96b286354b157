"""Find the files of a corpus."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semsearch.corpus.ignore import Ignores
from semsearch.corpus.selection import Selection, WalkOptions
from semsearch.errors import SourceNotFoundError, StorageError

# Folders of other people's code and of tools' leavings; nobody searches them for their own documents.
_VENDORED = frozenset(
    "node_modules bower_components jspm_packages __pycache__ __pypackages__ site-packages dist-packages "
    ".git .hg .svn .bzr .jj CVS .venv .tox .nox .eggs .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis "
    ".ipynb_checkpoints .gradle .terraform .yarn .pnpm-store .bundle .cargo .rustup .npm".split()
)
# Such a name alone says little, as people call their own folders so too: only with one of these files inside.
_VENDORED_WITH = {"vendor": ("modules.txt", "autoload.php"), "Pods": ("Manifest.lock",)}
_ENVIRONMENT = "pyvenv.cfg"
# What the folder of an index has, or of one in shards, also while it is being built.
_INDEXES = ({"index.db", "segments"}, {"shards.json", "shards"}, {"shards.plan", "shards"})
_KINDS = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read: `path` opens it, `name` is relative to the root and `/`-separated.

    Bytes of a name that are not UTF-8 are lone surrogates, as Python has them, so that `root / name` opens it too.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a folder (`path` ends in `/`), that was left out, and why.

    A walk's reasons are these, and a colon with the system's own words may follow:

    - of files: "hidden", "not included", "named pipe", "socket", "device", "not a regular file", "cannot be read";
    - of links: "symbolic link" to what the root has under its own name, "symbolic link out of the folder", "broken
      symbolic link";
    - of folders: "hidden folder", "vendored folder", "an index", "folder within itself", "cannot be listed";
    - of both: "excluded", "ignored by .gitignore", "ignored by .ignore", "ignored by .semsearchignore", "ignored by
      .git/info/exclude".
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Walk:
    """What stands under `root`: files to read and what was left out, both in the order of their names."""

    root: Path
    files: list[SourceFile]
    skipped: list[Skipped]
    # What an index knows the root by, if it is a copy of something else.
    url: str | None = None

    @property
    def name(self) -> str:
        """What an index knows the root by."""
        return self.url or str(self.root)


def walk(sources: Sequence[Path], options: WalkOptions | None = None) -> Walk:
    """List every file under `sources` that is wanted, and what was left out.

    The root is the source itself if it is one folder, else the folder common to all of them. What is a source itself is
    taken even if it is hidden or ignored; only `exclude` and `include` hold for it too.

    Raises:
        SourceNotFoundError: A source is not there.
        StorageError: A source may not be listed.
        InvalidInputError: A glob can never match.
    """
    # A source that is itself a link was asked for by name, so it is followed.
    resolved = [_resolved(source) for source in sources]
    root = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in resolved]))
    walker = _Walker(root, options or WalkOptions())
    files: dict[str, SourceFile] = {}
    skipped: dict[str, Skipped] = {}
    for path in resolved:
        for entry in walker.walk(path):
            if isinstance(entry, SourceFile):
                files[entry.name] = entry
            else:
                skipped[entry.path] = entry
    # What one source leaves out another may have named.
    named = {f"{path.relative_to(root).as_posix()}/" for path in resolved if path.is_dir() and path != root}
    left_out = [one for one in skipped.values() if one.path not in files and not _holds_any(one, named, files)]
    return Walk(root, sorted(files.values(), key=lambda f: f.name), sorted(left_out, key=lambda s: s.path))


def _holds_any(skipped: Skipped, named: Collection[str], files: Collection[str]) -> bool:
    return skipped.path in named and any(name.startswith(skipped.path) for name in files)


def _resolved(source: Path) -> Path:
    try:
        return Path(os.path.realpath(source, strict=True))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise SourceNotFoundError(f"no such file or folder: {str(source)!r}; give the path of what to index") from None
    except OSError as error:
        raise StorageError(f"cannot open {str(source)!r}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to list: `name` is relative to the root and, unless empty, ends in a slash."""

    path: str
    name: str
    above: _Folder | None
    ignores: Ignores
    included: bool
    identity: tuple[int, int] | None = None

    def is_within_itself(self, identity: tuple[int, int]) -> bool:
        """Whether it is one of those above it once more, as mounts can have it."""
        above = self.above
        while above is not None:
            if above.identity == identity:
                return True
            above = above.above
        return False


class _Walker:
    def __init__(self, root: Path, options: WalkOptions) -> None:
        self._root = root
        self._options = options
        self._selection = Selection(options)

    def walk(self, source: Path) -> Iterator[SourceFile | Skipped]:
        """What stands under a source, which is absolute."""
        name, is_folder = "" if source == self._root else source.relative_to(self._root).as_posix(), source.is_dir()
        parents = [name[:at] for at, character in enumerate(name) if character == "/"]
        if any(self._selection.excludes(one, is_folder=is_folder or one != name) for one in (*parents, name)):
            yield Skipped(f"{name}/" if is_folder else name, "excluded")
            return
        included = any(self._selection.includes(one, is_folder=True) for one in parents)
        if not is_folder:
            yield self._file(str(source), name, included=included)
            return
        included = included or self._selection.includes(name, is_folder=True)
        above = Ignores.above(source) if self._options.ignore_files else Ignores()
        folders = [_Folder(str(source), f"{name}/" if name else "", None, above, included)]
        while folders:
            for found in self._list(folders.pop()):
                if isinstance(found, _Folder):
                    folders.append(found)
                else:
                    yield found

    def _list(self, folder: _Folder) -> Iterator[SourceFile | Skipped | _Folder]:
        """What stands in a folder; folders that are to be listed in their turn."""
        shown = folder.name or "./"
        try:
            with os.scandir(folder.path) as found:
                entries = list(found)
            status = os.stat(folder.path)
        except OSError as error:
            if folder.above is None:
                raise StorageError(f"cannot list {folder.path!r}: {error.strerror}") from None
            yield Skipped(shown, f"cannot be listed: {error.strerror}")
            return
        names = {entry.name for entry in entries}
        identity = (status.st_dev, status.st_ino)
        if reason := _reason_by_content(folder, names, identity):
            yield Skipped(shown, reason)
            return
        ignores = folder.ignores.entering(folder.path, names) if self._options.ignore_files else folder.ignores
        here = _Folder(folder.path, folder.name, folder.above, ignores, folder.included, identity)
        for entry in entries:
            yield self._entry(entry, here)

    def _entry(self, entry: os.DirEntry[str], folder: _Folder) -> SourceFile | Skipped | _Folder:
        name = folder.name + entry.name
        is_folder = _is_folder(entry)
        if reason := self._reason_to_skip(entry, name, folder.ignores, is_folder=is_folder):
            return Skipped(f"{name}/" if is_folder else name, reason)
        if not is_folder:
            return self._file(entry.path, name, included=folder.included)
        included = folder.included or self._selection.includes(name, is_folder=True)
        return _Folder(entry.path, f"{name}/", folder, folder.ignores, included)

    def _reason_to_skip(self, entry: os.DirEntry[str], name: str, ignores: Ignores, *, is_folder: bool) -> str | None:
        if entry.name.startswith(".") and not self._options.hidden:
            return "hidden folder" if is_folder else "hidden"
        if is_folder and entry.name in _VENDORED:
            return "vendored folder"
        if self._selection.excludes(name, is_folder=is_folder):
            return "excluded"
        if kind := ignores.ignoring(entry.path, is_folder=is_folder):
            return f"ignored by {kind}"
        return None

    def _file(self, path: str, name: str, *, included: bool) -> SourceFile | Skipped:
        if not (included or self._selection.includes(name, is_folder=False)):
            return Skipped(name, "not included")
        try:
            status = os.lstat(path)
        except OSError as error:
            return Skipped(name, f"cannot be read: {error.strerror}")
        if stat.S_ISLNK(status.st_mode):
            return Skipped(name, self._reason_of_link(path))
        if not stat.S_ISREG(status.st_mode):
            return Skipped(name, _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file"))
        return SourceFile(Path(path), name, status.st_size, status.st_mtime_ns)

    def _reason_of_link(self, path: str) -> str:
        # Links are never followed: what they lead to inside the root is there under its own name, and what is outside
        # nobody asked for.
        try:
            target = Path(os.path.realpath(path, strict=True))
        except OSError as error:
            broken = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            return "broken symbolic link" if broken else f"cannot be read: {error.strerror}"
        return "symbolic link" if target.is_relative_to(self._root) else "symbolic link out of the folder"


def _reason_by_content(folder: _Folder, names: set[str], identity: tuple[int, int]) -> str | None:
    if any(names >= index for index in _INDEXES):
        return "an index"
    if folder.above is None:
        return None
    if _ENVIRONMENT in names or any(one in names for one in _VENDORED_WITH.get(os.path.basename(folder.path), ())):
        return "vendored folder"
    return "folder within itself" if folder.is_within_itself(identity) else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
