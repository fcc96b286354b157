"""Where an index is that the nodes of a cluster share: in a folder that all of them see, or in an object store."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from pathlib import Path

from semsearch.cluster.objects import ObjectFolder
from semsearch.errors import DamagedIndexError, IndexNotFoundError
from semsearch.store.files import REMEDY
from semsearch.store.rest import REST
from semsearch.store.shards import FOLDER, PLAN, SHARDS, Shard, Shards, read_shards, shard_path, shards_of


def place_of(index: str) -> FolderPlace | ObjectPlace:
    """The place of an index by its path or URL."""
    return ObjectPlace(ObjectFolder(index)) if "://" in index else FolderPlace(Path(index))


class FolderPlace:
    """A folder that all nodes see."""

    def __init__(self, index: Path) -> None:
        """Take note of it."""
        self._index = index
        self.name = index.name

    def signs(self) -> object:
        """Something that differs from what it was when the manifest does."""
        try:
            status = os.stat(self._index / SHARDS)
            return status.st_ino, status.st_size, status.st_mtime_ns
        except OSError:
            return None

    def read(self) -> Shards:
        """The manifest.

        Raises:
            IndexNotFoundError, IndexFormatError, DamagedIndexError: As of `read_shards`.
        """
        return read_shards(self._index)

    def size(self, shard: Shard) -> int:
        """Bytes of a shard."""
        return sum(path.stat().st_size for path in shard_path(self._index, shard.name).rglob("*") if path.is_file())

    def local(self, shard: Shard) -> Path:
        """A folder of an index of this machine in which the shard is, with what stands in it for the rest."""
        return self._index

    def forget(self, kept: set[str]) -> None:
        """Give up shards that are local, but for those of these names."""


class ObjectPlace:
    """A folder of an object store, whose shards are copied to this machine when they are opened."""

    def __init__(self, index: ObjectFolder) -> None:
        """Take note of it."""
        self._index = index
        self.name = index.url.rpartition("/")[2]
        self._copies: Path | None = None
        self._copying = threading.Lock()

    def signs(self) -> object:
        """As of `FolderPlace`."""
        return self._index.read(SHARDS)

    def read(self) -> Shards:
        """As of `FolderPlace`."""
        data = self._index.read(SHARDS)
        if data is None:
            raise IndexNotFoundError(f"no index at {self._index.url!r}; make one with: semsearch index URL --cluster")
        return shards_of(data, f"{self._index.url}/{SHARDS}")

    def size(self, shard: Shard) -> int:
        """As of `FolderPlace`."""
        return sum(one.size for one in self._index.files(f"{FOLDER}/{shard.name}").values())

    def local(self, shard: Shard) -> Path:
        """As of `FolderPlace`."""
        assert shard.rest
        with self._copying:
            copies = self._copies = self._copies or scratch()
            name, folder = f"{FOLDER}/{shard.name}", shard_path(copies, shard.name)
            try:
                if not folder.exists() and not self._index.fetch_whole(name, folder):
                    raise FileNotFoundError
                rest = folder / REST / shard.rest.uuid
                if not rest.exists():
                    self._index.fetch([f"{name}/{REST}/{rest.name}/{file}" for file in shard.rest.files], copies)
            except FileNotFoundError:
                shutil.rmtree(folder, ignore_errors=True)
                raise DamagedIndexError(f"damaged index: {self._index.url}/{name} is not whole; {REMEDY}") from None
            return copies

    def forget(self, kept: set[str]) -> None:
        """As of `FolderPlace`."""
        with self._copying:
            for folder in (self._copies / FOLDER).iterdir() if self._copies else ():
                if folder.name not in kept:
                    shutil.rmtree(folder)


class ObjectUpdate:
    """An update of an index of an object store, of which a folder of this machine has the manifest meanwhile."""

    def __init__(self, index: ObjectFolder, folder: Path) -> None:
        """Copy the manifest to the folder, or the plan of a build that was stopped."""
        self.index = index
        self._folder = folder
        (folder / FOLDER).mkdir()
        for name in (SHARDS, PLAN):
            if content := index.read(name):
                (folder / name).write_bytes(content)
        for name in {name.partition("/")[0] for name in index.files(FOLDER)}:
            (folder / FOLDER / name).mkdir()

    def begin(self) -> None:
        """Note in the store what is going to be built."""
        if (self._folder / PLAN).exists():
            self.index.write(PLAN, (self._folder / PLAN).read_bytes())

    def commit(self) -> None:
        """Put what is new into the store, the manifest last, and remove what neither it nor the one before has."""
        content = (self._folder / SHARDS).read_bytes()
        before = self.index.read(SHARDS)
        if content != before:
            for rest in (self._folder / FOLDER).glob(f"*/{REST}/*"):
                self.index.put_files(rest, f"{FOLDER}/{rest.relative_to(self._folder / FOLDER).as_posix()}")
            self.index.write(SHARDS, content)
        self.index.remove(PLAN)
        manifests = [shards_of(one, self.index.url) for one in (content, before) if one]
        kept = {(one.name, one.rest.uuid) for shards in manifests for one in shards.shards if one.rest}
        there = [name.split("/") for name in self.index.files(FOLDER)]
        for shard in {parts[0] for parts in there} - {shard for shard, _ in kept}:
            self.index.remove(f"{FOLDER}/{shard}")
        rests = {(parts[0], parts[2]) for parts in there if len(parts) > 3 and parts[1] == REST}
        for shard, rest_of in rests - kept:
            self.index.remove(f"{FOLDER}/{shard}/{REST}/{rest_of}")


def scratch() -> Path:
    """A folder of this process, which is removed when it ends as it should."""
    folder = Path(tempfile.mkdtemp(prefix="semsearch-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
